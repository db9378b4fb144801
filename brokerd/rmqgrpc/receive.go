package rmqgrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"holdfast/brokerd/pop"
	"holdfast/brokerd/service"
)

const (
	renewFor  = time.Minute     // the invisible time of consumers that name none, and of each renewal
	errorHold = 2 * time.Second // before a wrong request of a simple consumer is answered
	minPoll   = 200 * time.Millisecond
)

type receiveStream = grpc.ServerStreamingServer[v2.ReceiveMessageResponse]

// ReceiveMessage delivers messages of one broker group as soon as there are some.
func (s *Server) ReceiveMessage(r *v2.ReceiveMessageRequest, stream receiveStream) error {
	poll := receiving{s: s, r: r, stream: stream, start: time.Now()}
	err := poll.run()
	if err != nil {
		// A client that asks again at once must not be answered at once.
		poll.hold()
		return stream.Send(&v2.ReceiveMessageResponse{Content: &v2.ReceiveMessageResponse_Status{Status: status(err)}})
	}
	return nil
}

// receiving is one call of ReceiveMessage.
type receiving struct {
	s      *Server
	r      *v2.ReceiveMessageRequest
	stream receiveStream
	start  time.Time
	id     string        // of the client
	length time.Duration // of the poll
	sent   int           // messages
}

func (p *receiving) run() (err error) {
	ctx := p.stream.Context()
	if p.id, err = client(ctx); err != nil {
		return err
	}
	now := time.Now()
	if forwarded(ctx) == "" {
		p.s.clients.seen(p.id, now)
	}
	if p.length, err = polling(ctx, p.r, p.s.clients.requestTimeout(p.id), now); err != nil {
		return err
	}
	ask, err := checkReceive(p.r)
	if err != nil {
		return err
	}
	free, err := take(p.s.polls, "polls")
	if err != nil {
		return err
	}
	defer free()
	ctx, stop := p.s.unlessStopping(ctx)
	defer stop()
	ctx, cancel := context.WithDeadline(ctx, p.start.Add(p.length))
	defer cancel()
	err = p.s.until(ctx, p.r.GetMessageQueue().GetBroker().GetName(), call{
		reads: true,
		here:  func(ctx context.Context) error { return p.here(ctx, ask) },
		there: p.there,
	})
	if p.sent > 0 {
		return nil // the rest is delivered again
	}
	if ctx.Err() != nil && forwarded(p.stream.Context()) == "" && code(err) != v2.Code_MESSAGE_NOT_FOUND && err != nil {
		return refuse(v2.Code_MESSAGE_NOT_FOUND, "nothing to deliver: %v", err)
	}
	return err
}

// polling returns how long a call waits for messages.
func polling(ctx context.Context, r *v2.ReceiveMessageRequest, timeout time.Duration, now time.Time) (time.Duration, error) {
	left := longPolling + timeout
	if deadline, ok := ctx.Deadline(); ok {
		left = deadline.Sub(now)
	}
	wish := left - timeout/2
	if r.GetLongPollingTimeout() != nil {
		wish = r.GetLongPollingTimeout().AsDuration()
	}
	length := min(max(wish, shortPolling), longPolling, left-2*replyMargin)
	if length < minPoll {
		return 0, refuse(v2.Code_ILLEGAL_POLLING_TIME, "the call's deadline leaves %v to wait for messages", length)
	}
	return length, nil
}

// hold waits until a refusal may be answered. One that another broker waits for is
// answered at once: that broker holds the client's call.
func (p *receiving) hold() {
	ctx := p.stream.Context()
	if forwarded(ctx) != "" {
		return
	}
	until := p.start.Add(max(p.length, minPoll))
	if !p.r.GetAutoRenew() && p.length > errorHold {
		if early := p.start.Add(errorHold); time.Now().Before(early) {
			until = early
		} else {
			return
		}
	}
	ctx, stop := p.s.unlessStopping(ctx)
	defer stop()
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	<-ctx.Done()
}

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
func (p *receiving) here(ctx context.Context, ask service.Receive) error {
	found, err := p.s.local.Receive(ctx, ask)
	if err != nil {
		return fmt.Errorf("receive from topic %s in group %s: %w", ask.Topic, p.s.cfg.Group, err)
	}
	if len(found) == 0 && p.s.stopping.Err() != nil {
		return fmt.Errorf("broker %s stops: %w", p.s.cfg.Broker, service.ErrNotMaster)
	}
	if len(found) == 0 {
		return refuse(v2.Code_MESSAGE_NOT_FOUND, "nothing to deliver")
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
func (p *receiving) there(ctx context.Context, master v2.MessagingServiceClient) error {
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
func (p *receiving) send(m *v2.ReceiveMessageResponse) error {
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
func (p *receiving) giveBack(h pop.Handle) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.stream.Context()), defaultTimeout)
	defer cancel()
	if _, err := p.s.delay(ctx, h, 0, ""); err != nil {
		p.s.cfg.Log.Info("a message that its consumer did not take waits for its invisible time", "topic", h.Topic, "offset", h.Offset, "error", err)
	}
}
