package raftnode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }

// Propose appends data and returns what Machine.Apply returned for it.
// Errors: ErrNotLeader (*NotLeaderError), ErrStopped, ErrUncertain, or those of
// Apply. When ctx ends after the entry has been handed in, the outcome is
// uncertain and both errors match.
func (n *Node) Propose(ctx context.Context, data []byte) (any, error) {
	data = append([]byte(nil), data...) // Raft keeps it
	return n.submit(ctx, "propose", func(r *raft.Raft) raft.Future { return r.Apply(data, enqueueTime(ctx)) })
}

// Barrier returns when everything that was committed before it, in earlier
// terms too, has been applied here. Leader only; errors as for Propose.
func (n *Node) Barrier(ctx context.Context) error {
	_, err := n.submit(ctx, "barrier", func(r *raft.Raft) raft.Future { return r.Barrier(enqueueTime(ctx)) })
	return err
}

// enqueueTime is how long Raft may take to accept an entry; 0 = any time.
func enqueueTime(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return max(time.Until(deadline), time.Nanosecond)
}

func (n *Node) submit(ctx context.Context, verb string, begin func(*raft.Raft) raft.Future) (any, error) {
	if err := n.gate.enter(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	in, err := n.leader()
	if err != nil {
		n.gate.leave()
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	return n.await(ctx, in, verb, begin, n.gate.leave)
}

// leader is the running instance, if it leads.
func (n *Node) leader() (*instance, error) {
	in := n.current.Load()
	if in == nil {
		return nil, ErrStopped
	}
	if !in.leads() {
		n.stuck.clear()
		return nil, in.notLeader()
	}
	return in, nil
}

// await hands an entry to Raft and waits for its result, or until ctx ends. It
// calls release when the entry can no longer be under way, which may be later.
func (n *Node) await(ctx context.Context, in *instance, verb string, begin func(*raft.Raft) raft.Future, release func()) (any, error) {
	type outcome struct {
		result any
		err    error
	}
	// Raft's futures cannot be cancelled, and one that commits during a
	// shutdown may never be answered: its goroutine is then left behind.
	answered := make(chan outcome, 1)
	go func() {
		f := begin(in.raft)
		o := outcome{err: f.Error()}
		if a, ok := f.(raft.ApplyFuture); ok && o.err == nil {
			o.result = a.Response()
		}
		answered <- o
	}()
	done := make(chan outcome, 1)
	go func() {
		defer release()
		select {
		case o := <-answered:
			done <- o
		case <-in.down:
			select { // an answer may have come in the same moment
			case o := <-answered:
				done <- o
			default:
				done <- outcome{err: raft.ErrRaftShutdown}
			}
		}
	}()
	select {
	case o := <-done:
		if failure, ok := o.result.(applyFailure); ok {
			return nil, fmt.Errorf("%s: %w", verb, failure.err)
		}
		return o.result, n.explain(in, verb, o.err)
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w: %w", verb, ErrUncertain, ctx.Err())
	}
}

// explain turns Raft's errors into those of this package. Only what Raft
// refused before it appended anything is certain.
func (n *Node) explain(in *instance, verb string, err error) error {
	if !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
		n.stuck.clear()
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("%s: %w", verb, context.DeadlineExceeded)
	case errors.Is(err, raft.ErrNotLeader):
		return fmt.Errorf("%s: %w", verb, in.notLeader())
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		// Transfers of ours hold the gate, so this one is over and its flag
		// remains: a fault of hashicorp/raft that would refuse writes for ever.
		if n.stuck.seen(time.Now(), n.transferBound()) {
			in.breakDown(errors.New("a leadership transfer never ended"), nil)
		}
		return fmt.Errorf("%s: %w", verb, in.notLeader())
	default:
		return fmt.Errorf("%s: %w: %w", verb, ErrUncertain, err)
	}
}

func (in *instance) notLeader() error {
	addr, id := in.raft.LeaderWithID()
	return &NotLeaderError{Leader: string(id), Address: string(addr)}
}

// transferBound is longer than any leadership transfer that ends by itself.
func (n *Node) transferBound() time.Duration { return 2*n.cfg.Election + n.cfg.rpcTimeout() }

// stuckTransfer notes since when Raft has claimed a transfer without a break.
type stuckTransfer struct {
	mu    sync.Mutex
	since time.Time
}

func (s *stuckTransfer) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since = time.Time{}
}

// seen tells whether the claim has outlived the bound.
func (s *stuckTransfer) seen(now time.Time, bound time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() {
		s.since = now
	}
	if now.Sub(s.since) < bound {
		return false
	}
	s.since = time.Time{}
	return true
}

// gate lets proposals through, and keeps them back while leadership or the
// configuration changes.
type gate struct {
	mu     sync.Mutex
	inside int
	shut   chan struct{} // not nil: closed to newcomers until this is closed
	empty  chan struct{} // not nil: someone waits for inside to become 0
}

func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		if g.shut == nil {
			g.inside++
			g.mu.Unlock()
			return nil
		}
		shut := g.shut
		g.mu.Unlock()
		select {
		case <-shut:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// close keeps newcomers out and waits for those inside; open undoes it. After
// an error the gate is open.
func (g *gate) close(ctx context.Context) error {
	g.mu.Lock()
	if g.shut != nil {
		g.mu.Unlock()
		return ErrChanging
	}
	g.shut = make(chan struct{})
	var empty chan struct{}
	if g.inside > 0 {
		empty = make(chan struct{})
		g.empty = empty
	}
	g.mu.Unlock()
	if empty == nil {
		return nil
	}
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		g.open()
		return ctx.Err()
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.shut)
	g.shut, g.empty = nil, nil
}
