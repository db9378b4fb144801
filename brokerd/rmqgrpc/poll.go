package rmqgrpc

import (
	"context"
	"errors"
	"strconv"
	"time"

	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"holdfast/brokerd/service"
)

const (
	errorHold = 2 * time.Second // before a wrong request of a simple consumer is answered
	minPoll   = 200 * time.Millisecond
	// claimGrace is how much longer than the poll a call may last in which something was
	// claimed that is to be confirmed.
	claimGrace = time.Second
	// slice is how long one group of several is waited for before the others are asked again.
	slice = 250 * time.Millisecond
)

type receiveStream = grpc.ServerStreamingServer[v2.ReceiveMessageResponse]

// ReceiveMessage delivers messages as soon as there are some.
func (s *Server) ReceiveMessage(r *v2.ReceiveMessageRequest, stream receiveStream) error {
	p := poll{s: s, r: r, stream: stream, start: time.Now()}
	if err := p.run(); err != nil {
		// A client that asks again at once must not be answered at once.
		p.hold()
		return stream.Send(&v2.ReceiveMessageResponse{Content: &v2.ReceiveMessageResponse_Status{Status: status(err)}})
	}
	return nil
}

// poll is one call of ReceiveMessage.
type poll struct {
	s      *Server
	r      *v2.ReceiveMessageRequest
	stream receiveStream
	start  time.Time
	id     string        // of the client
	length time.Duration // for which it waits for messages
	sent   int           // messages
}

func (p *poll) run() (err error) {
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
	end := p.start.Add(p.length + claimGrace)
	if deadline, ok := ctx.Deadline(); ok && deadline.Add(-replyMargin).Before(end) {
		end = deadline.Add(-replyMargin)
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	waiting, stop := p.s.unlessStopping(ctx)
	defer stop()
	waiting, cancel = context.WithDeadline(waiting, p.start.Add(p.length))
	defer cancel()
	err = p.deliver(ctx, waiting, ask)
	if p.sent > 0 {
		return nil // the rest is delivered again
	}
	return err
}

// groups are those that may answer, the one that the consumer names first. A push consumer
// polls each by itself. Another one polls one after the other, and would wait in front of an
// empty group while another is full.
func (p *poll) groups(topic string) []string {
	if from := forwarded(p.stream.Context()); from != "" {
		return []string{from}
	}
	named := p.r.GetMessageQueue().GetBroker().GetName()
	groups := []string{named}
	t, _ := p.s.cluster.View().Topic(topic)
	if p.r.GetAutoRenew() || t.In(named) == 0 {
		return groups
	}
	for _, q := range t.Queues {
		if q.Group != named {
			groups = append(groups, q.Group)
		}
	}
	return groups
}

// nothing is the answer of a poll that was in vain.
func nothing() error { return refuse(v2.Code_MESSAGE_NOT_FOUND, "nothing to deliver") }

// deliver delivers from the first group that has something, until waiting is done. ctx
// bounds the calls themselves.
func (p *poll) deliver(ctx, waiting context.Context, ask service.Receive) error {
	groups := p.groups(ask.Topic)
	for first := true; ; first = false {
		v := p.s.cluster.View()
		waited := false
		for i, name := range groups {
			g, ok := v.Group(name)
			switch {
			case !ok && i == 0:
				return refuse(v2.Code_NOT_FOUND, "no broker group %.100q", name)
			case !ok, i > 0 && p.s.peers.shuns(g, time.Now()):
				continue
			}
			var wait time.Duration
			switch {
			case len(groups) == 1:
				wait = time.Until(p.start.Add(p.length))
			case i == 0 && !first:
				wait = slice
			}
			err := p.s.once(ctx, g, p.call(waiting, ask, wait))
			waited = waited || wait > 0 && code(err) == v2.Code_MESSAGE_NOT_FOUND
			if !p.inVain(g, err) {
				return err
			}
			if waiting.Err() != nil {
				return nothing()
			}
		}
		if !waited && !first && !p.s.pause(waiting, v.Index) {
			return nothing()
		}
	}
}

// inVain tells whether a poll that ended so may be tried again: the group has nothing, or
// no master.
func (p *poll) inVain(g service.Group, err error) bool {
	switch c := code(err); {
	case err == nil || p.sent > 0:
		return false
	case c == v2.Code_MESSAGE_NOT_FOUND:
		return true
	case errors.Is(err, service.ErrUnanswered) && p.stream.Context().Err() == nil:
		p.s.peers.shun(g, time.Now())
		return true
	default:
		return c == v2.Code_HA_NOT_AVAILABLE && forwarded(p.stream.Context()) == ""
	}
}

// call is the poll at one group, which waits at most that long.
func (p *poll) call(waiting context.Context, ask service.Receive, wait time.Duration) call {
	wait = max(wait, 0)
	return call{
		reads: true,
		here: func(ctx context.Context) error {
			waiting, cancel := context.WithTimeout(waiting, wait)
			defer cancel()
			return p.here(ctx, waiting, ask)
		},
		there: func(ctx context.Context, master v2.MessagingServiceClient) error {
			ctx, stop := p.s.unlessStopping(metadata.AppendToOutgoingContext(ctx, waitKey, strconv.FormatInt(wait.Milliseconds(), 10)))
			defer stop()
			return p.there(ctx, master)
		},
	}
}

// polling returns how long a call waits for messages. What is claimed at the very end must
// still reach the client before its deadline.
func polling(ctx context.Context, r *v2.ReceiveMessageRequest, timeout time.Duration, now time.Time) (time.Duration, error) {
	if ms, err := strconv.ParseUint(value(ctx, waitKey), 10, 31); err == nil && forwarded(ctx) != "" {
		return time.Duration(ms) * time.Millisecond, nil
	}
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
func (p *poll) hold() {
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
