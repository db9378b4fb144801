package rmqgrpc

import (
	"context"
	"slices"
	"time"

	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"holdfast/brokerd/pop"
	"holdfast/brokerd/service"
)

// handleOf reads a receipt handle, which must be of that group and topic.
func handleOf(text string, group, topic *v2.Resource) (pop.Handle, error) {
	h, err := pop.ParseHandle(text)
	if err != nil {
		return h, refuse(v2.Code_INVALID_RECEIPT_HANDLE, "%v", err)
	}
	if h.Group != resource(group) || h.Topic != resource(topic) {
		return h, refuse(v2.Code_INVALID_RECEIPT_HANDLE, "receipt handle of group %q and topic %q", h.Group, h.Topic)
	}
	return h, nil
}

// checkConsumer refuses a call that names no proper client, group or topic.
func checkConsumer(ctx context.Context, group, topic *v2.Resource) error {
	if _, err := client(ctx); err != nil {
		return err
	}
	if _, err := groupName(group); err != nil {
		return err
	}
	_, err := topicName(topic)
	return err
}

// AckMessage settles messages, each by itself.
func (s *Server) AckMessage(ctx context.Context, r *v2.AckMessageRequest) (*v2.AckMessageResponse, error) {
	err := checkConsumer(ctx, r.GetGroup(), r.GetTopic())
	if n := len(r.GetEntries()); err == nil && (n == 0 || n > maxBatch) {
		err = refuse(v2.Code_BAD_REQUEST, "%d receipt handles: must be 1 to %d", n, maxBatch)
	}
	if err != nil {
		return &v2.AckMessageResponse{Status: status(err)}, nil
	}
	ctx, cancel := budget(ctx)
	defer cancel()
	reply := &v2.AckMessageResponse{Entries: make([]*v2.AckMessageResultEntry, len(r.GetEntries()))}
	for _, part := range s.parts(r, reply) {
		s.ack(ctx, r, part, reply)
	}
	reply.Status = common(reply.Entries)
	return reply, nil
}

// part is the entries of a call that are one broker group's.
type part struct {
	group   string
	at      []int // in the call
	handles []pop.Handle
}

// parts takes a call apart, and answers for the handles that are none.
func (s *Server) parts(r *v2.AckMessageRequest, reply *v2.AckMessageResponse) []*part {
	var all []*part
	for i, e := range r.GetEntries() {
		reply.Entries[i] = &v2.AckMessageResultEntry{MessageId: e.GetMessageId(), ReceiptHandle: e.GetReceiptHandle()}
		h, err := handleOf(e.GetReceiptHandle(), r.GetGroup(), r.GetTopic())
		if err != nil {
			reply.Entries[i].Status = status(err)
			continue
		}
		at := slices.IndexFunc(all, func(p *part) bool { return p.group == h.BrokerGroup })
		if at < 0 {
			at = len(all)
			all = append(all, &part{group: h.BrokerGroup})
		}
		all[at].at = append(all[at].at, i)
		all[at].handles = append(all[at].handles, h)
	}
	return all
}

// ack lets a part be settled, and writes what came of it into the reply.
func (s *Server) ack(ctx context.Context, r *v2.AckMessageRequest, p *part, reply *v2.AckMessageResponse) {
	err := s.until(ctx, p.group, call{
		here: func(ctx context.Context) error {
			verdicts, err := s.local.Ack(ctx, p.handles)
			for i, v := range verdicts {
				reply.Entries[p.at[i]].Status = status(verdict(v))
			}
			return err
		},
		there: func(ctx context.Context, master v2.MessagingServiceClient) error {
			own := &v2.AckMessageRequest{Group: r.GetGroup(), Topic: r.GetTopic()}
			for _, i := range p.at {
				own.Entries = append(own.Entries, r.GetEntries()[i])
			}
			answer, err := master.AckMessage(ctx, own)
			if err != nil {
				return err
			}
			if len(answer.GetEntries()) != len(p.at) {
				return answered(answer.GetStatus())
			}
			for i, e := range answer.GetEntries() {
				reply.Entries[p.at[i]].Status = e.GetStatus()
			}
			// All of them were refused alike if the master is none.
			if c := answer.GetStatus().GetCode(); c == v2.Code_HA_NOT_AVAILABLE {
				return answered(answer.GetStatus())
			}
			return nil
		},
	})
	for i, at := range p.at {
		e := reply.Entries[at]
		if err != nil {
			e.Status = status(err)
		}
		if c := e.GetStatus().GetCode(); c == v2.Code_OK || c == v2.Code_INVALID_RECEIPT_HANDLE {
			s.renewals.remove(p.handles[i])
		}
	}
}

// common is the status of a call of several entries.
func common(entries []*v2.AckMessageResultEntry) *v2.Status {
	first := entries[0].GetStatus()
	for _, e := range entries[1:] {
		if e.GetStatus().GetCode() != first.GetCode() {
			return &v2.Status{Code: v2.Code_MULTIPLE_RESULTS, Message: "the entries differ"}
		}
	}
	return proto.CloneOf(first)
}

// ChangeInvisibleDuration gives a message another invisible time, and the consumer
// another receipt handle.
func (s *Server) ChangeInvisibleDuration(ctx context.Context, r *v2.ChangeInvisibleDurationRequest) (*v2.ChangeInvisibleDurationResponse, error) {
	// Some clients take the handle of an error, too.
	reply := &v2.ChangeInvisibleDurationResponse{ReceiptHandle: r.GetReceiptHandle()}
	h, err := s.change(ctx, r)
	if reply.Status = status(err); err == nil {
		reply.ReceiptHandle = h.String()
	}
	return reply, nil
}

func (s *Server) change(ctx context.Context, r *v2.ChangeInvisibleDurationRequest) (pop.Handle, error) {
	if err := checkConsumer(ctx, r.GetGroup(), r.GetTopic()); err != nil {
		return pop.Handle{}, err
	}
	d := r.GetInvisibleDuration().AsDuration()
	if r.GetInvisibleDuration() == nil || d < 0 || d > maxInvisible {
		return pop.Handle{}, refuse(v2.Code_ILLEGAL_INVISIBLE_TIME, "invisible duration of %v: must be 0 to %v", d, maxInvisible)
	}
	h, err := handleOf(r.GetReceiptHandle(), r.GetGroup(), r.GetTopic())
	if err != nil {
		return h, err
	}
	ctx, cancel := budget(ctx)
	defer cancel()
	return s.delay(ctx, h, d, r.GetMessageId())
}

// delay lets the message's master change its invisible time. The handle stays good if the
// call says so; only a broker does.
func (s *Server) delay(ctx context.Context, h pop.Handle, d time.Duration, messageID string) (changed pop.Handle, err error) {
	err = s.until(ctx, h.BrokerGroup, call{
		here: func(ctx context.Context) error {
			done, err := s.local.Delay(ctx, service.Delay{Handles: []pop.Handle{h}, For: d, Keep: keeps(ctx)})
			if err != nil {
				return err
			}
			if done[0].Verdict == pop.Already {
				return verdict(pop.Stale)
			}
			changed = done[0].Handle
			return verdict(done[0].Verdict)
		},
		there: func(ctx context.Context, master v2.MessagingServiceClient) error {
			answer, err := master.ChangeInvisibleDuration(ctx, &v2.ChangeInvisibleDurationRequest{
				Group: &v2.Resource{Name: h.Group}, Topic: &v2.Resource{Name: h.Topic},
				ReceiptHandle: h.String(), InvisibleDuration: durationpb.New(d), MessageId: messageID,
			})
			if err != nil {
				return err
			}
			if err := answered(answer.GetStatus()); err != nil {
				return err
			}
			changed, err = pop.ParseHandle(answer.GetReceiptHandle())
			return err
		},
	})
	if c := code(err); !keeps(ctx) && (c == v2.Code_OK || c == v2.Code_INVALID_RECEIPT_HANDLE) {
		s.renewals.remove(h)
	}
	return changed, err
}

// ForwardMessageToDeadLetterQueue moves a message that its consumer gives up. Asked for
// again it is as good as done.
func (s *Server) ForwardMessageToDeadLetterQueue(ctx context.Context, r *v2.ForwardMessageToDeadLetterQueueRequest) (*v2.ForwardMessageToDeadLetterQueueResponse, error) {
	err := checkConsumer(ctx, r.GetGroup(), r.GetTopic())
	if err == nil {
		err = s.bury(ctx, r)
	}
	return &v2.ForwardMessageToDeadLetterQueueResponse{Status: status(err)}, nil
}

func (s *Server) bury(ctx context.Context, r *v2.ForwardMessageToDeadLetterQueueRequest) error {
	h, err := handleOf(r.GetReceiptHandle(), r.GetGroup(), r.GetTopic())
	if err != nil {
		return err
	}
	ctx, cancel := budget(ctx)
	defer cancel()
	err = s.until(ctx, h.BrokerGroup, call{
		here: func(ctx context.Context) error {
			v, err := s.local.Bury(ctx, h)
			if err != nil {
				return err
			}
			return verdict(v)
		},
		there: func(ctx context.Context, master v2.MessagingServiceClient) error {
			answer, err := master.ForwardMessageToDeadLetterQueue(ctx, r)
			if err != nil {
				return err
			}
			return answered(answer.GetStatus())
		},
	})
	if c := code(err); c == v2.Code_OK || c == v2.Code_INVALID_RECEIPT_HANDLE {
		s.renewals.remove(h)
	}
	return err
}
