package coordinator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	term := &leadership{} // of nobody: its channels are nil and never ready
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			c.leading.Store(false)
			return nil
		case leads := <-c.Log.Leading():
			term.finish()
			c.leading.Store(false)
			term = &leadership{}
			if leads {
				term = c.beginTerm(ctx)
			}
			c.broadcast()
		case <-term.began:
			term.began = nil
			c.leading.Store(true)
			c.Logger.Info("leading", "term", c.Log.Info().Term)
			c.broadcast()
		case <-c.nudge:
			term.look = true
		case o := <-term.outcomes:
			term.asked(o, c.Boottime())
		case again := <-term.scheduled:
			term.scheduling, term.lookAt = false, c.Boottime().Add(again)
		case <-timer.C:
		}
		next := time.Hour
		if c.leading.Load() {
			next = c.duties(term)
		}
		timer.Reset(next)
	}
}

// leadership is one term of this coordinator as leader. It belongs to the
// loop of lead; what takes long runs beside the loop and reports through the
// term's own channels, so that nothing of an earlier term is taken for this one's.
type leadership struct {
	ctx   context.Context
	end   context.CancelFunc
	began chan struct{} // closed when all of earlier terms is applied

	// Silent sessions: those that are being asked about, or not to be asked
	// about before a time.
	notBefore map[uint64]lease.Time
	outcomes  chan map[uint64]time.Duration

	scheduling bool       // a look of the scheduler is under way
	look       bool       // something has changed since the last one began
	lookAt     lease.Time // when the next one is due by itself
	scheduled  chan time.Duration
}

// underWay is the notBefore of sessions that are being asked about.
const underWay = lease.Time(1<<63 - 1)

func (t *leadership) finish() {
	if t.end != nil {
		t.end()
	}
}

// asked takes in when the sessions of one round may be asked about again.
func (t *leadership) asked(outcome map[uint64]time.Duration, now lease.Time) {
	for id, again := range outcome {
		t.notBefore[id] = now.Add(again)
	}
}

// beginTerm waits, outside of the loop, until all entries of earlier terms are
// applied here; only then does the state say who holds what. What was seen of
// hosts in an earlier term, as a leader or not, is forgotten: preempt delays
// begin again.
func (c *Coordinator) beginTerm(ctx context.Context) *leadership {
	ctx, cancel := context.WithCancel(ctx)
	t := &leadership{
		ctx: ctx, end: cancel, began: make(chan struct{}), look: true,
		notBefore: make(map[uint64]lease.Time),
		outcomes:  make(chan map[uint64]time.Duration, 16), scheduled: make(chan time.Duration, 1),
	}
	c.schedMu.Lock()
	c.seen = schedule.NewTracker()
	c.schedMu.Unlock()
	go func() {
		for ctx.Err() == nil {
			err := c.Log.Barrier(ctx)
			if err == nil {
				close(t.began)
				return
			}
			c.Logger.Warn("leader cannot commit yet", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return t
}

// duties starts what is due, and says after how long to look again.
func (c *Coordinator) duties(t *leadership) time.Duration {
	now := c.Boottime()
	next := time.Second
	silent, wait := c.silent(now)
	var due []uint64
	for _, id := range silent {
		if left := t.notBefore[id].Sub(now); left <= 0 {
			due = append(due, id)
			t.notBefore[id] = underWay
		} else if t.notBefore[id] != underWay {
			wait = min(wait, left)
		}
	}
	maps.DeleteFunc(t.notBefore, func(id uint64, at lease.Time) bool { return at < now && !slices.Contains(silent, id) })
	if len(due) > 0 {
		go func() { t.report(c.endSessions(t.ctx, due)) }()
	}
	if !t.scheduling && (t.look || now >= t.lookAt) {
		t.scheduling, t.look = true, false
		go func() { t.scheduled <- c.scheduleOnce(t.ctx) }()
	} else if !t.scheduling {
		wait = min(wait, t.lookAt.Sub(now))
	}
	return max(min(next, wait), time.Millisecond)
}

// report hands an outcome to the loop, if the term is still on.
func (t *leadership) report(outcome map[uint64]time.Duration) {
	select {
	case t.outcomes <- outcome:
	case <-t.ctx.Done():
	}
}

// silent returns the sessions that have been silent for longer than their
// promise, and after how long the next one could be.
func (c *Coordinator) silent(now lease.Time) (ids []uint64, wait time.Duration) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	c.voterMu.Lock()
	defer c.voterMu.Unlock()
	return c.ledger.Silent(now, c.state, time.Second)
}

// scheduleOnce proposes what the scheduler wants now, and says after how long
// a delay ends.
func (c *Coordinator) scheduleOnce(ctx context.Context) time.Duration {
	c.mu.RLock()
	c.schedMu.Lock()
	ops, again := c.wanted(c.state, c.seen)
	c.schedMu.Unlock()
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

// wanted asks the scheduler what to do in the given state. seen is told of it.
func (c *Coordinator) wanted(st *fsm.State, seen *schedule.Tracker) (ops []fsm.Op, again time.Duration) {
	d := schedule.Decide(c.scheduleInput(st, seen))
	return d.Ops(), d.Again
}

func (c *Coordinator) scheduleInput(st *fsm.State, seen *schedule.Tracker) schedule.Input {
	now := c.Boottime()
	return schedule.Input{
		State: st,
		Live:  func(id fsm.SessionID) bool { return c.live(now, id) },
		Now:   time.Duration(now),
		Seen:  seen,

		Replica: c.replica(st),
	}
}

// explain asks the scheduler about one set. Called with the state locked.
func (c *Coordinator) explain(set string) (schedule.Explanation, error) {
	c.schedMu.Lock()
	defer c.schedMu.Unlock()
	return schedule.Explain(c.scheduleInput(c.state, c.seen), set)
}

// propose commits ops and, in the same entry, the grants and recalls that
// follow from them: a release or an expiry costs one commit, not two.
func (c *Coordinator) propose(ctx context.Context, actor string, ops ...fsm.Op) (fsm.Result, error) {
	if !c.leading.Load() {
		return fsm.Result{}, c.notLeader()
	}
	c.mu.RLock()
	next := c.state.Clone()
	c.mu.RUnlock()
	c.schedMu.Lock()
	seen := c.seen.Clone()
	c.schedMu.Unlock()
	e, err := schedule.Follow(c.scheduleInput(next, seen), stamp(fsm.Entry{Actor: actor, Ops: ops}))
	if err != nil {
		return fsm.Result{}, fmt.Errorf("check entry: %w", err)
	}
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

// maxEntry bounds one entry, in bytes: a follower must be able to take it within
// the time limit of one call on a slow network, or nothing commits any more.
const maxEntry = 4 << 20

// proposeEntry stamps and commits one entry and returns what came of it.
func (c *Coordinator) proposeEntry(ctx context.Context, e fsm.Entry) (fsm.Result, error) {
	if !c.leading.Load() {
		return fsm.Result{}, c.notLeader()
	}
	data, err := stamp(e).Encode()
	if err != nil {
		return fsm.Result{}, fmt.Errorf("encode entry: %w", err)
	}
	if len(data) > maxEntry {
		return fsm.Result{}, &fsm.Refusal{Code: fsm.CodeInvalid, Message: fmt.Sprintf("the change is too large: %d bytes, at most %d; split it", len(data), maxEntry)}
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
