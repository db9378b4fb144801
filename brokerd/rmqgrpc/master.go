package rmqgrpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"

	"holdfast/brokerd/service"
)

const (
	// replyMargin is what is left of a caller's deadline for the answer.
	replyMargin = 100 * time.Millisecond
	// retryEvery is how soon a group is tried again whose view has not changed.
	retryEvery = 50 * time.Millisecond
	// defaultTimeout is for callers without a deadline.
	defaultTimeout = 3 * time.Second
)

// call is something to be done by a group's master: here, or by the same call there.
type call struct {
	reads bool // another replica may do it while there is no master
	here  func(ctx context.Context) error
	there func(ctx context.Context, master v2.MessagingServiceClient) error // a *remote if it answered
}

// budget returns a context that ends early enough for an answer within the caller's
// deadline.
func budget(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithTimeout(ctx, defaultTimeout)
	}
	return context.WithDeadline(ctx, deadline.Add(-replyMargin))
}

// once lets the group's master do it, as the view has it.
func (s *Server) once(ctx context.Context, g service.Group, c call) error {
	from := forwarded(ctx)
	to := g.Grant.Master
	if to == "" && c.reads {
		to = s.reader(g)
	}
	switch {
	case from != "" && (from != s.cfg.Group || g.Name != from):
		return fmt.Errorf("broker %s is not in group %s: %w", s.cfg.Broker, from, service.ErrNotMaster)
	case to == s.cfg.Broker, from != "":
		return c.here(ctx)
	case to == "":
		return fmt.Errorf("group %s has no master: %w", g.Name, service.ErrNotMaster)
	}
	b, ok := s.cluster.View().Broker(to)
	if !ok {
		return fmt.Errorf("master %s of group %s has no address: %w", to, g.Name, service.ErrNotMaster)
	}
	inner, cancel, err := s.peers.during(ctx, g)
	if err != nil {
		return err
	}
	defer cancel()
	// A grant that ended before this call was known to last as long as it would not end it.
	if now, _ := s.cluster.View().Group(g.Name); now.Grant != g.Grant {
		return fmt.Errorf("grant of group %s in epoch %d has ended: %w", g.Name, g.Grant.Epoch, service.ErrNotMaster)
	}
	master, err := s.peers.dial(inner, b.Address)
	if err != nil {
		return err
	}
	err = c.there(forward(inner, g.Name), master)
	if err != nil && !errors.As(err, new(*remote)) {
		return fmt.Errorf("call %s of group %s: %w: %w", to, g.Name, err, service.ErrUnanswered)
	}
	return err
}

// reader returns a live member of a group; "" if there is none.
// All brokers choose alike, so that consumers share what one replica gives out.
func (s *Server) reader(g service.Group) string {
	v := s.cluster.View()
	for _, name := range g.Members {
		if _, alive := v.Broker(name); alive {
			return name
		}
	}
	return ""
}

// until tries until a master of the group has taken it, as long as ctx lasts: what a consumer
// asks for may be asked for again. What one has refused for another reason than that it
// is none, is refused.
func (s *Server) until(ctx context.Context, group string, c call) error {
	for {
		v := s.cluster.View()
		g, ok := v.Group(group)
		if !ok {
			return refuse(v2.Code_NOT_FOUND, "no broker group %.100q", group)
		}
		err := s.once(ctx, g, c)
		again := code(err) == v2.Code_HA_NOT_AVAILABLE || errors.Is(err, service.ErrUnanswered)
		if err == nil || !again || forwarded(ctx) != "" || !s.pause(ctx, v.Index) {
			return err
		}
	}
}

// pause waits a little, less if the view changes; false if ctx is done.
func (s *Server) pause(ctx context.Context, index uint64) bool {
	short, cancel := context.WithTimeout(ctx, retryEvery)
	defer cancel()
	if s.cluster.Wait(short, index) != nil {
		<-short.Done() // whatever else Wait may have met, this does not spin
	}
	return ctx.Err() == nil
}

// answered turns another broker's status into an error, as it is.
func answered(st *v2.Status) error {
	if st.GetCode() == v2.Code_OK {
		return nil
	}
	return &remote{st}
}
