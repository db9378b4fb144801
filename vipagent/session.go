package vipagent

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
	"holdfast/vipagent/tenure"
)

const (
	// retryOpen is the least time between two sessions, and the pause after an
	// Open that did not work.
	retryOpen = 100 * time.Millisecond
	// maxUseless bounds the pause after sessions that never had a lease, in half
	// TTLs.
	maxUseless = 4
	// reportFirst bounds how long a new session waits with its first renewal
	// for its conditions to be known.
	reportFirst = time.Second
	// closeWithin bounds the last call of an agent that stops.
	closeWithin = time.Second
	// lowerWithin bounds how long it tries to take its addresses down.
	lowerWithin = 2 * time.Second
)

// advance follows what views and answers say of the sessions. It changes no
// address.
func (o *owner) advance(now lease.Time) {
	for _, c := range o.book.Advance(o.moment(now)) {
		if c.Kind == tenure.Ended || c.Kind == tenure.Replaced {
			o.countUseless(now, o.slots[c.Session.ID])
		}
		o.retire(c.Session.ID)
		if c.InUse() {
			// What was reported for either may have been merged: say all of it again.
			o.fitness.reported = make(map[string]Condition)
			o.fitness.unsure = c.New != 0
		}
		switch c.Kind {
		case tenure.NextEnded:
			o.journal.warn("new session ended before it was used", "session", c.Session.ID)
		case tenure.Ended:
			o.journal.warn("session ended by the quorum", "session", c.Session.ID)
		case tenure.Replaced:
			o.journal.info("session replaced", "old", c.Session.ID, "new", c.New)
		case tenure.NextDropped, tenure.Dropped:
			o.journal.warn("session dropped", "session", c.Session.ID, "cause", c.Cause)
		}
	}
}

// countUseless notes that a session ended without ever having had a lease: too few
// coordinators hear this host. Each further one costs the quorum two entries in
// its log, so the next one waits longer.
func (o *owner) countUseless(now lease.Time, s *slot) {
	if s.until() != 0 {
		o.tasks.useless = 0
		return
	}
	o.tasks.useless = min(o.tasks.useless+1, maxUseless)
	o.tasks.openAt = max(o.tasks.openAt, now.Add(time.Duration(o.tasks.useless)*s.TTL/2))
}

// openSession opens the first session, or one that is to replace a session that
// was fenced or has another TTL than is configured.
func (o *owner) openSession(now lease.Time) {
	if o.tasks.opening || !o.book.WantsSession(o.config.TTL, o.moment(now)) {
		return
	}
	at := o.tasks.openAt
	if o.current() == nil && o.fitness.pending() {
		at = max(at, o.began.Add(pendingPatience))
	}
	if now < at {
		o.wakeBy(at)
		return
	}
	o.tasks.opening = true
	s := lease.Session{TTL: o.config.TTL}
	_, _ = rand.Read(s.Secret[:]) // never fails
	host := o.config.Host
	// Conditions first, then the first renewal: a host becomes eligible by
	// renewing, and should not be chosen for what it cannot hold.
	f := newFitness()
	f.health, f.obstacles, f.unfit = o.fitness.health, o.fitness.obstacles, o.fitness.unfit
	conditions := f.unreported(now, o.concerned())
	o.call(callLimit+reportFirst, func(ctx context.Context) func() {
		opening, cancel := context.WithTimeout(ctx, callLimit)
		defer cancel()
		reply, err := o.edges.Sessions.Open(opening, &pb.OpenRequest{Host: host, TtlMs: s.TTL.Milliseconds(), Secret: s.Secret[:]})
		if err != nil || reply.GetSession() == 0 {
			return func() { o.openFailed(err) }
		}
		s.ID = reply.GetSession()
		var told []*pb.Condition
		if len(conditions) > 0 {
			first, cancel := context.WithTimeout(ctx, reportFirst)
			defer cancel()
			if _, err := o.edges.Grants.ReportCondition(first, &pb.ReportConditionRequest{Session: s.ID, Conditions: conditions}); err == nil {
				told = conditions
			}
		}
		return func() { o.opened(s, told) }
	})
}

func (o *owner) openFailed(err error) {
	o.tasks.opening = false
	o.tasks.openAt = o.now().Add(retryOpen)
	o.journal.warn("no session opened", "err", err)
}

// opened takes a new session into use. It has no lease yet (agent rule 1).
func (o *owner) opened(s lease.Session, told []*pb.Condition) {
	now := o.now()
	o.tasks.opening, o.tasks.openAt = false, now.Add(retryOpen)
	switch o.book.Opened(s, now) {
	case tenure.NotNeeded:
		return
	case tenure.First:
		o.fitness.reported = make(map[string]Condition)
		o.fitness.unsure = false
		o.fitness.told(now, told)
	case tenure.Replacement:
	}
	o.slots[s.ID] = o.slotFor(s)
	o.start(o.slots[s.ID], 0)
	o.journal.info("session opened", "session", s.ID, "ttl", s.TTL)
}

// sendRebind moves the grants to the new session once both have a deadline
// ahead (agent rule 7). From before it is sent both must hold, also for a
// successor of this process, so it is in the session file first.
func (o *owner) sendRebind(now lease.Time) {
	if o.tasks.rebind || !o.book.RebindReady(o.moment(now)) {
		return
	}
	if now < o.tasks.rebindAt {
		o.wakeBy(o.tasks.rebindAt)
		return
	}
	if !o.book.MayRebind() {
		o.book.BeginRebind()
		if !o.save() {
			o.book.CancelRebind()
			return
		}
	}
	if !o.align() {
		return // the kernel must ask for both deadlines before it is sent
	}
	o.tasks.rebind = true
	old, replacement := o.book.Current().ID, o.book.Next().ID
	o.call(callLimit, func(ctx context.Context) func() {
		_, err := o.edges.Sessions.Rebind(ctx, &pb.RebindRequest{Old: old, New: replacement})
		return func() {
			// Whatever the answer, only a view tells that it is committed.
			o.tasks.rebind = false
			o.tasks.rebindAt = o.now().Add(lookEvery)
			if err != nil {
				o.tasks.rebindAt = o.now().Add(retryCall)
				o.journal.warn("grants not moved to the new session", "old", old, "new", replacement, "err", err)
			}
		}
	})
}

// sendCloses ends sessions that were dropped: everything of theirs is down, and
// the session file no longer has them (agent rule 5).
func (o *owner) sendCloses(now lease.Time) {
	if o.book.Closings() == 0 || !o.read {
		return
	}
	if o.book.Dirty() && !o.save() {
		return
	}
	if now < o.tasks.closeAt {
		o.wakeBy(o.tasks.closeAt)
		return
	}
	for _, c := range o.book.Closable(o.isPresent) {
		id, cause := c.Session, c.Cause
		if o.tasks.closeBusy[id] {
			continue
		}
		o.tasks.closeBusy[id] = true
		o.call(callLimit, func(ctx context.Context) func() {
			_, err := o.edges.Sessions.Close(ctx, &pb.CloseRequest{Session: id, Cause: cause})
			return func() {
				delete(o.tasks.closeBusy, id)
				if err == nil || refused(err) {
					o.book.Closed(id)
					return
				}
				o.tasks.closeAt = o.now().Add(lookEvery)
			}
		})
	}
}

// shutDown takes everything down, confirms it, and then closes the sessions:
// lower, zero the deadline, delete the file, send (agent rule 5).
func (o *owner) shutDown() error {
	o.book.Stop()
	began := o.now()
	o.speak(began)
	for {
		o.look = true
		o.reconcile()
		if o.read && len(o.present) == 0 {
			break
		}
		if o.now().Sub(began) > lowerWithin {
			// Not closed: the kernel's janitor and the quorum's fence end it.
			o.publishStatus()
			return fmt.Errorf("stop: %w: %d, or they cannot be read", ErrStillUp, len(o.present))
		}
		time.Sleep(retryKernel)
	}
	lowered := o.now().Sub(began)
	const cause = "the agent was stopped"
	ended := o.book.End(cause)
	for _, s := range ended {
		o.retire(s.ID)
	}
	o.keepDeadlines() // zero
	if err := o.state.remove(); err != nil {
		return fmt.Errorf("stop: %w", err) // not closed: a successor could adopt it
	}
	o.book.Deleted()
	ctx, cancel := context.WithTimeout(o.work, closeWithin)
	defer cancel()
	for _, s := range ended {
		if _, err := o.edges.Sessions.Close(ctx, &pb.CloseRequest{Session: s.ID, Cause: cause}); err != nil {
			o.journal.warn("session not closed: it ends by itself after its ttl", "session", s.ID, "err", err)
		}
	}
	o.publishStatus()
	o.journal.info("stopped", "lowered in", lowered, "took", o.now().Sub(began))
	return nil
}
