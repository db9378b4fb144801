package rmqgrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"holdfast/brokerd/pop"
	"holdfast/brokerd/service"
)

// renewFor is the invisible time for consumers that name none, and of each renewal.
const renewFor = time.Minute

// checkReceive refuses what is wrong by itself. A consumer is given messages of any queue of
// the broker group, whichever it names.
func checkReceive(r *v2.ReceiveMessageRequest) (ask service.Receive, err error) {
	ask.Queue = service.AnyQueue
	if ask.Topic, err = topicName(r.GetMessageQueue().GetTopic()); err != nil {
		return ask, err
	}
	if ask.Group, err = groupName(r.GetGroup()); err != nil {
		return ask, err
	}
	if f := r.GetFilterExpression(); f.GetType() == v2.FilterType_SQL {
		return ask, refuse(v2.Code_ILLEGAL_FILTER_EXPRESSION, "filters in SQL are not supported")
	} else if ask.Filter, err = pop.ParseTags(f.GetExpression()); err != nil {
		return ask, err
	}
	if r.GetBatchSize() < 1 {
		return ask, refuse(v2.Code_BAD_REQUEST, "batch of %d messages", r.GetBatchSize())
	}
	ask.Max = min(int(r.GetBatchSize()), maxBatch)
	ask.Invisible = r.GetInvisibleDuration().AsDuration()
	if r.GetAutoRenew() {
		ask.Invisible = renewFor
	}
	if ask.Invisible < minInvisible || ask.Invisible > maxInvisible {
		return ask, refuse(v2.Code_ILLEGAL_INVISIBLE_TIME, "invisible duration of %v: must be %v to %v", ask.Invisible, minInvisible, maxInvisible)
	}
	return ask, nil
}

// here delivers what this broker has.
func (p *poll) here(ctx, waiting context.Context, ask service.Receive) error {
	found, err := p.s.local.Receive(ctx, waiting, ask)
	if err != nil {
		return fmt.Errorf("receive from topic %s in group %s: %w", ask.Topic, p.s.cfg.Group, err)
	}
	if len(found) == 0 && p.s.stopping.Err() != nil {
		return fmt.Errorf("broker %s stops: %w", p.s.cfg.Broker, service.ErrNotMaster)
	}
	if len(found) == 0 {
		return nothing()
	}
	host := p.s.cfg.Listener.Addr().String()
	namespace := p.r.GetMessageQueue().GetTopic().GetResourceNamespace()
	// A stream takes what it will never send for a while after the client has gone.
	if err = p.stream.Context().Err(); err == nil {
		err = p.send(&v2.ReceiveMessageResponse{Content: &v2.ReceiveMessageResponse_Status{Status: status(nil)}})
	}
	for i := range found {
		d := &found[i]
		if err == nil {
			err = p.send(&v2.ReceiveMessageResponse{Content: &v2.ReceiveMessageResponse_Message{
				Message: fromDelivery(d, namespace, host, ask.Invisible)}})
		}
		if err != nil {
			p.giveBack(d.Handle)
		}
	}
	if err != nil {
		p.sent = len(found) // there is nobody to be told of an error
		return nil
	}
	return p.send(&v2.ReceiveMessageResponse{Content: &v2.ReceiveMessageResponse_DeliveryTimestamp{DeliveryTimestamp: timestamppb.Now()}})
}

// there passes on what the master delivers.
func (p *poll) there(ctx context.Context, master v2.MessagingServiceClient) error {
	from, err := master.ReceiveMessage(ctx, p.r)
	if err != nil {
		return err
	}
	for {
		m, err := from.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && p.sent > 0 {
			return nil // what is missing is delivered again
		}
		if err != nil {
			return err
		}
		if st := m.GetStatus(); st != nil && st.GetCode() != v2.Code_OK {
			return answered(st)
		}
		if err := p.send(m); err != nil {
			if h, perr := pop.ParseHandle(m.GetMessage().GetSystemProperties().GetReceiptHandle()); perr == nil {
				p.giveBack(h)
			}
		}
	}
}

// send sends to the client, and notes what is to be renewed for it.
func (p *poll) send(m *v2.ReceiveMessageResponse) error {
	if err := p.stream.Send(m); err != nil {
		return err
	}
	if m.GetMessage() == nil {
		return nil
	}
	p.sent++
	text := m.GetMessage().GetSystemProperties().GetReceiptHandle()
	if p.r.GetAutoRenew() && forwarded(p.stream.Context()) == "" {
		if h, err := pop.ParseHandle(text); err == nil {
			p.s.renewals.add(h, p.id, time.Now())
		}
	}
	return nil
}

// giveBack makes a message visible at once that could not be sent to the client.
func (p *poll) giveBack(h pop.Handle) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.stream.Context()), defaultTimeout)
	defer cancel()
	if _, err := p.s.delay(ctx, h, 0, ""); err != nil {
		p.s.cfg.Log.Info("a message that its consumer did not take waits for its invisible time", "topic", h.Topic, "offset", h.Offset, "error", err)
	}
}
