package vipagent

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
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
	if s := o.next; s != nil && o.ended(s) {
		// It ended while the old one is open, so no Rebind to it was or will
		// be committed: the old one counts alone again.
		o.retire(s)
		o.next, o.rebinding = nil, false
		o.journal.warn("new session ended before it was used", "session", s.ID)
	}
	if s := o.next; s != nil && !o.rebinding && s.fenced.Load() && !o.alive(s, now) {
		o.drop(s, "fenced before it was used")
		o.next = nil
	}
	switch s := o.cur; {
	case s == nil:
	case o.ended(s):
		o.countUseless(now, s)
		o.retire(s)
		o.succeed()
		if o.cur == nil {
			o.journal.warn("session ended by the quorum", "session", s.ID)
		} else {
			o.journal.info("session replaced", "old", s.ID, "new", o.cur.ID)
		}
	case s.fenced.Load() && !o.alive(s, now):
		// Agent rule 7: it has lapsed, so it may be dropped.
		o.drop(s, "fenced and lapsed")
		o.succeed()
	case !o.alive(s, now) && o.viewAt > o.lapsedAt && !o.view.sessions[s.ID] && now.Sub(o.lapsedAt) > 3*s.TTL:
		// Open nowhere and long lapsed: the cluster was rebuilt without it.
		o.drop(s, "unknown to the coordinators")
		o.succeed()
	}
	if o.cur == nil {
		o.wasAlive = false
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

// ended says whether the newest view proves that a session was closed or
// expired. A view from before it was opened proves nothing.
func (o *owner) ended(s *slot) bool {
	return o.view.index >= s.ID && !o.view.sessions[s.ID]
}

// succeed puts the new session, if there is one, in the place of the old.
func (o *owner) succeed() {
	o.cur, o.next, o.rebinding = o.next, nil, false
	// What was reported for either may have been merged: say all of it again.
	o.fitness.reported = make(map[string]Condition)
	o.fitness.unsure = o.cur != nil
	o.lapsedAt = o.now()
	o.look, o.dirty = true, true
}

// drop gives up a session that has lapsed. It is closed as soon as all that was
// up under it is confirmed down and the session file has forgotten it.
func (o *owner) drop(s *slot, cause string) {
	o.retire(s)
	o.tasks.closing[s.ID] = cause
	o.journal.warn("session dropped", "session", s.ID, "cause", cause)
}

// openSession opens the first session, or one that is to replace a session that
// was fenced or has another TTL than is configured.
func (o *owner) openSession(now lease.Time) {
	replace := o.cur != nil && o.next == nil && o.alive(o.cur, now) &&
		(o.cur.fenced.Load() || o.cur.TTL != o.config.TTL)
	if o.tasks.opening || !o.swept || o.cur != nil && !replace {
		return
	}
	at := o.tasks.openAt
	if o.cur == nil && o.fitness.pending() {
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
	f.health, f.obstacles = o.fitness.health, o.fitness.obstacles
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
	slot := newSlot(s)
	switch {
	case o.cur == nil:
		o.cur = slot
		// A new lineage: every epoch that it will be granted is above its own
		// id, and that is above all that was ever released here.
		o.setFloors, o.addressFloors = make(map[string]uint64), make(map[netip.Addr]uint64)
		o.fitness.reported = make(map[string]Condition)
		o.fitness.unsure = false
		o.fitness.told(now, told)
		o.lapsedAt = now
	case o.next == nil && !o.stopping:
		o.next = slot
	default:
		o.tasks.closing[s.ID] = "not needed"
		return
	}
	o.dirty = true
	o.start(slot, 0)
	o.journal.info("session opened", "session", s.ID, "ttl", s.TTL)
}

// sendRebind moves the grants to the new session once both have a deadline
// ahead (agent rule 7). From before it is sent both must hold, also for a
// successor of this process, so it is in the session file first.
func (o *owner) sendRebind(now lease.Time) {
	if o.cur == nil || o.next == nil || o.tasks.rebind || !o.alive(o.cur, now) || !o.alive(o.next, now) {
		return
	}
	if now < o.tasks.rebindAt {
		o.wakeBy(o.tasks.rebindAt)
		return
	}
	if !o.rebinding {
		o.rebinding = true
		if !o.save() {
			o.rebinding = false
			return
		}
	}
	o.tasks.rebind = true
	old, replacement := o.cur.ID, o.next.ID
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
	if len(o.tasks.closing) == 0 || !o.swept || !o.read {
		return
	}
	if o.dirty && !o.save() {
		return
	}
	if now < o.tasks.closeAt {
		o.wakeBy(o.tasks.closeAt)
		return
	}
	for id, cause := range o.tasks.closing {
		if o.tasks.closeBusy[id] || o.anyUpUnder(id) {
			continue
		}
		o.tasks.closeBusy[id] = true
		o.call(callLimit, func(ctx context.Context) func() {
			_, err := o.edges.Sessions.Close(ctx, &pb.CloseRequest{Session: id, Cause: cause})
			return func() {
				delete(o.tasks.closeBusy, id)
				if err == nil || refused(err) {
					delete(o.tasks.closing, id)
					return
				}
				o.tasks.closeAt = o.now().Add(lookEvery)
			}
		})
	}
}

func (o *owner) anyUpUnder(session uint64) bool {
	for ip, u := range o.up {
		if u.session == session && o.present[ip] {
			return true
		}
	}
	return false
}

// shutDown takes everything down, confirms it, and then closes the sessions:
// lower, zero the deadline, delete the file, send (agent rule 5).
func (o *owner) shutDown() error {
	o.stopping = true
	began := o.now()
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
	slots := []*slot{o.cur, o.next}
	o.cur, o.next = nil, nil
	for _, s := range slots {
		if s != nil {
			o.retire(s)
		}
	}
	if err := o.state.remove(); err != nil {
		return fmt.Errorf("stop: %w", err) // not closed: a successor could adopt it
	}
	ctx, cancel := context.WithTimeout(o.work, closeWithin)
	defer cancel()
	for _, s := range slots {
		if s == nil {
			continue
		}
		if _, err := o.edges.Sessions.Close(ctx, &pb.CloseRequest{Session: s.ID, Cause: "the agent was stopped"}); err != nil {
			o.journal.warn("session not closed: it ends by itself after its ttl", "session", s.ID, "err", err)
		}
	}
	o.publishStatus()
	o.journal.info("stopped", "lowered in", lowered, "took", o.now().Sub(began))
	return nil
}
