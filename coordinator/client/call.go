package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	pb "holdfast/coordinator/api/holdfastpb"
)

const (
	// tryLimit bounds one try with one coordinator: a peer behind a cut cable
	// does not answer at all.
	tryLimit = 400 * time.Millisecond
	// hedgeAfter is when the next coordinator is asked as well, although the
	// one before has not failed. A release that waits for a dead leader keeps an
	// address from everybody.
	hedgeAfter = 100 * time.Millisecond
	// Between two rounds over all coordinators.
	firstRoundPause = 20 * time.Millisecond
	lastRoundPause  = 200 * time.Millisecond
)

// Open opens a session. It is the one call that is not idempotent: it is sent
// to one coordinator at a time, and one whose answer is lost leaves a session
// behind that nobody renews and that the quorum ends.
func (s *Sessions) Open(ctx context.Context, r *pb.OpenRequest) (*pb.OpenReply, error) {
	return call(ctx, s, "open session", tryLimit, r, pb.NewSessionsClient, pb.SessionsClient.Open)
}

// Release gives grants back. Errors of all calls: a [*RefusedError] is final;
// else ctx has ended, and the outcome is unknown.
func (s *Sessions) Release(ctx context.Context, r *pb.ReleaseRequest) (*pb.ReleaseReply, error) {
	return call(ctx, s, "release", hedgeAfter, r, pb.NewSessionsClient, pb.SessionsClient.Release)
}

// ConfirmRemoval reports addresses that left a set and are down.
func (s *Sessions) ConfirmRemoval(ctx context.Context, r *pb.ConfirmRemovalRequest) (*pb.ConfirmRemovalReply, error) {
	return call(ctx, s, "confirm removal", hedgeAfter, r, pb.NewSessionsClient, pb.SessionsClient.ConfirmRemoval)
}

// ReportCondition reports what health checks say.
func (s *Sessions) ReportCondition(ctx context.Context, r *pb.ReportConditionRequest) (*pb.ReportConditionReply, error) {
	return call(ctx, s, "report condition", hedgeAfter, r, pb.NewSessionsClient, pb.SessionsClient.ReportCondition)
}

// ReportRouter reports how this host stands in the VRRP of shared sets.
func (s *Sessions) ReportRouter(ctx context.Context, r *pb.ReportRouterRequest) (*pb.ReportRouterReply, error) {
	return call(ctx, s, "report router", hedgeAfter, r, pb.NewSessionsClient, pb.SessionsClient.ReportRouter)
}

// ReportStall reports that this agent did not run for a time.
func (s *Sessions) ReportStall(ctx context.Context, r *pb.ReportStallRequest) (*pb.ReportStallReply, error) {
	return call(ctx, s, "report stall", hedgeAfter, r, pb.NewSessionsClient, pb.SessionsClient.ReportStall)
}

// Rebind moves the grants of one session to another.
func (s *Sessions) Rebind(ctx context.Context, r *pb.RebindRequest) (*pb.RebindReply, error) {
	return call(ctx, s, "rebind", hedgeAfter, r, pb.NewSessionsClient, pb.SessionsClient.Rebind)
}

// Close ends a session whose addresses are all down.
func (s *Sessions) Close(ctx context.Context, r *pb.CloseRequest) (*pb.CloseReply, error) {
	return call(ctx, s, "close session", hedgeAfter, r, pb.NewSessionsClient, pb.SessionsClient.Close)
}

type outcome[Reply any] struct {
	reply Reply
	err   error
}

// call makes a call through whoever answers first, round after round until ctx
// ends. Within a round the leader is asked first, and the next one when the one
// before has failed or hedge has passed.
func call[Client, Request, Reply any](ctx context.Context, s *Sessions, what string, hedge time.Duration, r Request,
	service func(grpc.ClientConnInterface) Client, method func(Client, context.Context, Request, ...grpc.CallOption) (Reply, error),
) (Reply, error) {
	f := func(ctx context.Context, conn *grpc.ClientConn) (Reply, error) { return method(service(conn), ctx, r) }
	var none Reply
	select {
	case <-s.ready:
	case <-ctx.Done():
		return none, fmt.Errorf("%s: %w: %w", what, ErrNoCoordinator, ctx.Err())
	}
	var last error
	pause := firstRoundPause
	for {
		reply, err := round(ctx, s.order(), hedge, f)
		if err == nil {
			return reply, nil
		}
		if errors.As(err, new(*RefusedError)) {
			return none, fmt.Errorf("%s: %w", what, err)
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return none, fmt.Errorf("%s: %w (last: %w)", what, ctx.Err(), last)
		case <-time.After(pause):
		}
		pause = min(2*pause, lastRoundPause)
	}
}

// round asks each peer at most once.
func round[Reply any](ctx context.Context, peers []*peer, hedge time.Duration, f func(context.Context, *grpc.ClientConn) (Reply, error)) (Reply, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan outcome[Reply], len(peers))
	try := func(conn *grpc.ClientConn) {
		own, cancel := context.WithTimeout(ctx, tryLimit)
		defer cancel()
		reply, err := f(own, conn)
		results <- outcome[Reply]{reply, err}
	}
	var none Reply
	last := ErrNoCoordinator
	timer := time.NewTimer(0)
	defer timer.Stop()
	for open := 0; open > 0 || len(peers) > 0; {
		var next <-chan time.Time
		if len(peers) > 0 {
			next = timer.C
		}
		select {
		case <-next:
			go try(peers[0].connection())
			peers, open = peers[1:], open+1
			timer.Reset(hedge)
		case r := <-results:
			open--
			if r.err == nil {
				return r.reply, nil
			}
			last = r.err
			if refusal, ok := asRefused(r.err); ok {
				return none, refusal
			}
			timer.Reset(0) // do not wait for the hedge
		case <-ctx.Done():
			return none, errors.Join(last, ctx.Err())
		}
	}
	return none, last
}
