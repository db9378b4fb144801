package rmqgrpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"

	"holdfast/brokerd/record"
	"holdfast/brokerd/service"
)

// SendMessage stores messages in a queue of any group that has a master.
func (s *Server) SendMessage(ctx context.Context, r *v2.SendMessageRequest) (*v2.SendMessageResponse, error) {
	first, err := s.send(ctx, r)
	if err != nil {
		return &v2.SendMessageResponse{Status: status(err)}, nil
	}
	return first, nil
}

func (s *Server) send(ctx context.Context, r *v2.SendMessageRequest) (*v2.SendMessageResponse, error) {
	if _, err := client(ctx); err != nil {
		return nil, err
	}
	topic, err := checkSend(r)
	if err != nil {
		return nil, err
	}
	free, err := take(s.sends, "sends")
	if err != nil {
		return nil, err
	}
	defer free()
	ctx, cancel := budget(ctx)
	defer cancel()
	for {
		v := s.cluster.View()
		reply, err := s.sendAnywhere(ctx, v, topic, r)
		switch {
		case err == nil:
			return reply, nil
		case code(err) == v2.Code_TOPIC_NOT_FOUND && forwarded(ctx) == "":
			if err := s.cluster.Ensure(ctx, topic); err != nil {
				return nil, fmt.Errorf("send to topic %s: %w", topic, err)
			}
		case code(err) != v2.Code_HA_NOT_AVAILABLE || forwarded(ctx) != "":
			return nil, err
		}
		if !s.pause(ctx, v.Index) {
			return nil, err
		}
	}
}

// checkSend refuses what is wrong by itself, and returns the topic.
func checkSend(r *v2.SendMessageRequest) (topic string, err error) {
	if n := len(r.GetMessages()); n == 0 || n > maxBatch {
		return "", refuse(v2.Code_BAD_REQUEST, "%d messages: must be 1 to %d", n, maxBatch)
	}
	for i, m := range r.GetMessages() {
		name, err := writable(m.GetTopic())
		if err != nil {
			return "", err
		}
		if i > 0 && name != topic {
			return "", refuse(v2.Code_ILLEGAL_TOPIC, "messages of topics %q and %q in one call", topic, name)
		}
		topic = name
		if m.GetSystemProperties() == nil {
			return "", refuse(v2.Code_BAD_REQUEST, "message %d has no system properties", i)
		}
		if err := checkMessage(m); err != nil {
			return "", err
		}
	}
	return topic, nil
}

// sendAnywhere tries one group after the other, as long as they refuse without having
// stored anything. An indefinite error ends it: to store the messages in another group too
// could deliver them twice, and whether that matters is the client's to say.
func (s *Server) sendAnywhere(ctx context.Context, v *service.View, topic string, r *v2.SendMessageRequest) (reply *v2.SendMessageResponse, err error) {
	t, ok := v.Topic(topic)
	if !ok {
		return nil, fmt.Errorf("send to topic %s: %w", topic, service.ErrNoTopic)
	}
	turn := s.turn.Add(1)
	groups := v.Order(t, turn, func(g service.Group) bool { return s.peers.shuns(g, time.Now()) })
	if from := forwarded(ctx); from != "" {
		groups = []service.Group{{Name: from}}
	}
	err = fmt.Errorf("send to topic %s: no broker group has a master: %w", topic, service.ErrNotMaster)
	for _, g := range groups {
		err = s.once(ctx, g, call{
			here: func(ctx context.Context) (err error) {
				reply, err = s.sendHere(ctx, t, turn, r)
				return err
			},
			there: func(ctx context.Context, master v2.MessagingServiceClient) (err error) {
				if reply, err = master.SendMessage(ctx, r); err != nil {
					return err
				}
				return answered(reply.GetStatus())
			},
		})
		if err == nil {
			return reply, nil
		}
		if !errors.Is(context.Cause(ctx), context.Canceled) && (code(err) == v2.Code_HA_NOT_AVAILABLE || errors.Is(err, service.ErrUnanswered)) {
			s.peers.shun(g, time.Now())
		}
		if !elsewhere(err) {
			break
		}
	}
	return nil, err
}

// sendHere stores the messages in a queue of this broker's group.
func (s *Server) sendHere(ctx context.Context, t service.Topic, turn uint64, r *v2.SendMessageRequest) (*v2.SendMessageResponse, error) {
	queues := t.In(s.cfg.Group)
	if queues == 0 {
		return nil, fmt.Errorf("send to topic %s in group %s: %w", t.Name, s.cfg.Group, service.ErrNoTopic)
	}
	// The turn is of the groups too: each group's queues must come in turn.
	out := service.Send{Topic: t.Name, Queue: uint32(turn / uint64(max(len(t.Queues), 1)) % uint64(queues))}
	out.Messages = make([]record.Message, 0, len(r.GetMessages()))
	host := callersHost(ctx)
	for _, m := range r.GetMessages() {
		out.Messages = append(out.Messages, toRecord(m, host))
	}
	offset, err := s.local.Send(ctx, out)
	if err != nil {
		return nil, fmt.Errorf("send to topic %s in group %s: %w", t.Name, s.cfg.Group, err)
	}
	reply := &v2.SendMessageResponse{Status: status(nil)}
	for i, m := range r.GetMessages() {
		reply.Entries = append(reply.Entries, &v2.SendResultEntry{
			Status: status(nil), MessageId: m.GetSystemProperties().GetMessageId(), Offset: int64(offset) + int64(i),
		})
	}
	return reply, nil
}
