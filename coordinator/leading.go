package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/coordinator/lease"
	"holdfast/coordinator/schedule"
	"holdfast/fsm"
)

// lead does what only the Raft leader does: it ends sessions that have fallen
// silent and proposes what the scheduler wants. It owns no lock while it
// waits; each proposal is a conditional command, so one that comes late or
// twice is refused when it is applied (leader rule 3 of lease/DESIGN.md).
func (c *Coordinator) lead(ctx context.Context) error {
	var (
		term   *leadership
		timer  = time.NewTimer(time.Hour)
		ending = make(chan time.Duration, 1)
	)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			c.leading.Store(false)
			return nil
		case leads := <-c.Log.Leading():
			if term != nil {
				term.end()
				term = nil
			}
			c.leading.Store(false)
			if leads {
				term = c.beginTerm(ctx)
			}
			c.broadcast()
		case <-c.nudge:
		case again := <-ending:
			if term != nil {
				term.ending, term.notBefore = false, c.Boottime().Add(again)
			}
		case <-timer.C:
		}
		next := time.Hour
		if term != nil && c.leading.Load() {
			next = c.duties(term, ending)
		}
		timer.Reset(next)
	}
}

// leadership is one term of this coordinator as leader.
type leadership struct {
	ctx       context.Context
	end       context.CancelFunc
	ending    bool       // an endSessions is under way
	notBefore lease.Time // when silent sessions may be asked for again
}

// beginTerm waits, outside of the loop, until all entries of earlier terms are
// applied here; only then does the state say who holds what.
func (c *Coordinator) beginTerm(ctx context.Context) *leadership {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for ctx.Err() == nil {
			err := c.Log.Barrier(ctx)
			if err == nil {
				c.leading.Store(ctx.Err() == nil)
				c.Logger.Info("leading", "term", c.Log.Info().Term)
				c.wake()
				return
			}
			c.Logger.Warn("leader cannot commit yet", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return &leadership{ctx: ctx, end: cancel}
}

// duties looks once at everything, starts what is due, and says after how long
// to look again.
func (c *Coordinator) duties(term *leadership, ending chan<- time.Duration) time.Duration {
	next := time.Second
	silent, wait := c.silent()
	next = min(next, wait)
	if len(silent) > 0 && !term.ending {
		if left := term.notBefore.Sub(c.Boottime()); left > 0 {
			next = min(next, left)
		} else {
			term.ending = true
			go func() { ending <- c.endSessions(term.ctx, silent) }()
		}
	}
	next = min(next, c.scheduleOnce(term.ctx))
	return max(next, time.Millisecond)
}

// silent returns the sessions that have been silent for longer than their
// promise, and after how long the next one could be.
func (c *Coordinator) silent() (ids []uint64, wait time.Duration) {
	c.mu.RLock()
	sessions := c.state.Sessions()
	c.mu.RUnlock()
	now := c.Boottime()
	wait = time.Second
	for _, s := range sessions {
		left := c.silence(now, s)
		if left == 0 {
			ids = append(ids, uint64(s.ID))
			continue
		}
		wait = min(wait, left)
	}
	return ids, wait
}

// scheduleOnce proposes what the scheduler wants now, and says after how long
// a preempt delay ends.
func (c *Coordinator) scheduleOnce(ctx context.Context) time.Duration {
	c.mu.RLock()
	ops, again := c.wanted(c.state)
	c.mu.RUnlock()
	if len(ops) > 0 {
		if _, err := c.proposeEntry(ctx, fsm.Entry{Actor: "scheduler", Ops: ops}); err != nil && !errors.Is(err, context.Canceled) {
			c.Logger.Warn("decision not committed", "ops", len(ops), "err", err)
			return 50 * time.Millisecond
		}
	}
	if again <= 0 {
		return time.Second
	}
	return again
}

// wanted asks the scheduler what to do in the given state.
func (c *Coordinator) wanted(st *fsm.State) (ops []fsm.Op, again time.Duration) {
	in := c.scheduleInput(st)
	c.schedMu.Lock()
	d := schedule.Decide(in)
	c.schedMu.Unlock()
	for _, p := range d.Grants {
		ops = append(ops, fsm.GrantSet{Set: p.Set, Session: p.Session, Cause: p.Reason})
	}
	for _, r := range d.Recalls {
		ops = append(ops, fsm.RecallSet{Set: r.Set, Epoch: r.Epoch, To: r.To, Cause: r.Reason})
	}
	return ops, d.Again
}

func (c *Coordinator) scheduleInput(st *fsm.State) schedule.Input {
	now := c.Boottime()
	return schedule.Input{
		State: st,
		Live:  func(id fsm.SessionID) bool { return c.live(now, id) },
		Now:   time.Duration(now),
		Seen:  c.seen,
	}
}

// propose commits ops and, in the same entry, the grants and recalls that
// follow from them: a release or an expiry costs one commit, not two.
func (c *Coordinator) propose(ctx context.Context, actor string, ops ...fsm.Op) (fsm.Result, error) {
	c.mu.RLock()
	next := c.state.Clone()
	c.mu.RUnlock()
	e := fsm.Entry{Actor: actor, Ops: ops}
	// The trial run uses an index that the entry will not have; only the shape
	// of the state after it matters here.
	if _, err := next.ApplyEntry(next.Applied()+1, stamp(e)); err != nil {
		return fsm.Result{}, fmt.Errorf("check entry: %w", err)
	}
	follow, _ := c.wanted(next)
	e.Ops = append(e.Ops, follow...)
	res, err := c.proposeEntry(ctx, e)
	if err != nil {
		return res, err
	}
	return res, refusalOf(res, len(ops))
}

// refusalOf returns the first refusal among the first n ops: those that were
// asked for, not what was added to them.
func refusalOf(res fsm.Result, n int) error {
	for i := range min(n, len(res.Ops)) {
		if r := res.Ops[i].Refusal; r != nil {
			return r
		}
	}
	return nil
}

// proposeEntry stamps and commits one entry and returns what came of it.
func (c *Coordinator) proposeEntry(ctx context.Context, e fsm.Entry) (fsm.Result, error) {
	if !c.leading.Load() {
		return fsm.Result{}, c.notLeader()
	}
	data, err := stamp(e).Encode()
	if err != nil {
		return fsm.Result{}, fmt.Errorf("encode entry: %w", err)
	}
	out, err := c.Log.Propose(ctx, data)
	if err != nil {
		return fsm.Result{}, fmt.Errorf("commit entry: %w", err)
	}
	res, ok := out.(fsm.Result)
	if !ok {
		return fsm.Result{}, fmt.Errorf("commit entry: log returned %T", out)
	}
	return res, nil
}

// stamp adds what every entry carries: the format's version and the proposer's
// wall clock, which is shown in the audit ring and decides nothing.
func stamp(e fsm.Entry) fsm.Entry {
	e.Version, e.At = fsm.EntryVersion, time.Now().UnixNano()
	return e
}
