package tenure

import (
	"slices"
	"time"

	"holdfast/coordinator/lease"
)

// Kind says what a [Change] was.
type Kind uint8

// What can happen to a session. None of them acts any more afterwards.
const (
	NextEnded   Kind = iota + 1 // the new session ended before it was used
	NextDropped                 // the new session was given up before it was used
	Ended                       // the quorum has ended it, and there was no new one
	Replaced                    // the quorum has moved its grants to New, and ended it
	Dropped                     // it has lapsed and was given up
)

// Change is what [Book.Advance] did to a session.
type Change struct {
	Kind    Kind
	Session lease.Session
	New     uint64 // the session in use from now on, 0 = none
	Cause   string // of what was dropped
}

// InUse says whether it was the session in use, so that another one is now, or
// none.
func (c Change) InUse() bool { return c.Kind >= Ended }

// Closing is a session that was given up and has to be closed.
type Closing struct {
	Session uint64
	Cause   string
}

// Advance follows what views and answers say of the sessions. It changes no
// address.
func (b *Book) Advance(m Moment) []Change {
	out := b.advanceNext(m)
	s := b.cur
	switch {
	case s.ID == 0:
	case b.ended(s.ID):
		b.succeed(m.Now)
		c := Change{Kind: Replaced, Session: s, New: b.cur.ID}
		if c.New == 0 {
			c.Kind = Ended
		}
		out = append(out, c)
	case b.Alive(s.ID, m):
	case b.fenced(s.ID, m):
		// Agent rule 7: it has lapsed, so it may be dropped.
		out = append(out, b.drop(s, "fenced and lapsed", m.Now))
	case b.viewAt > b.lapsedAt && !b.view.Open(s.ID) && m.Now.Sub(b.lapsedAt) > long(s.TTL):
		// Open nowhere and long lapsed: the cluster was rebuilt without it.
		out = append(out, b.drop(s, "unknown to the coordinators", m.Now))
	}
	if b.cur.ID == 0 {
		b.alive = false
	}
	return out
}

// long is how long a session must have lapsed before it is given up because no
// view has it.
func long(ttl time.Duration) time.Duration { return 3 * ttl }

func (b *Book) advanceNext(m Moment) []Change {
	switch s := b.next; {
	case s.ID == 0:
	case b.ended(s.ID):
		// It ended while the old one is open, so no Rebind to it was or will be
		// committed: the old one counts alone again.
		b.next, b.rebinding, b.dirty = lease.Session{}, false, true
		return []Change{{Kind: NextEnded, Session: s, New: b.cur.ID}}
	case !b.rebinding && b.fenced(s.ID, m) && !b.Alive(s.ID, m):
		c := Change{Kind: NextDropped, Session: s, New: b.cur.ID, Cause: "fenced before it was used"}
		b.next, b.dirty = lease.Session{}, true
		b.closing = append(b.closing, Closing{s.ID, c.Cause})
		return []Change{c}
	}
	return nil
}

func (b *Book) fenced(session uint64, m Moment) bool {
	_, fenced := m.Leases.Lease(session)
	return fenced
}

// ended says whether the newest view proves that a session was closed or expired. A
// view from before it was opened proves nothing.
func (b *Book) ended(session uint64) bool {
	return b.view.Index >= session && !b.view.Open(session)
}

// succeed puts the new session, if there is one, in the place of the old.
func (b *Book) succeed(now lease.Time) {
	b.cur, b.next, b.rebinding = b.next, lease.Session{}, false
	b.lapsedAt, b.dirty = now, true
}

// drop gives up the session in use, which has lapsed. It is closed as soon as all
// that was up under it is confirmed down and the session file has forgotten it.
func (b *Book) drop(s lease.Session, cause string, now lease.Time) Change {
	b.closing = append(b.closing, Closing{s.ID, cause})
	b.succeed(now)
	return Change{Kind: Dropped, Session: s, New: b.cur.ID, Cause: cause}
}

// Note notes whether the session in use has a lease, once the addresses are as
// they should be. down says that the host was seen to hold nothing of ours.
func (b *Book) Note(m Moment, down bool) (lapsed, proven bool) {
	alive := b.Alive(b.cur.ID, m)
	lapsed, proven = b.alive && !alive && b.cur.ID != 0, !b.alive && alive
	if lapsed {
		b.lapsedAt = m.Now
	}
	b.alive = alive
	switch {
	case alive:
		b.newest = max(b.newest, b.view.Index) // an older one would lower what is up from here on
	case b.cur.ID != 0 && down:
		// Nothing is up, so an older view can lower nothing; and if the cluster was
		// rebuilt from a copy its indexes may be lower than before.
		b.newest = 0
	}
	return lapsed, proven
}

// Swept says that the kernel was compared as a whole with what may be held, and
// what was left by a predecessor is gone.
func (b *Book) Swept() { b.swept = true }

// WantsSession says whether a session has to be opened: the first, or one that is
// to replace a session that was fenced or has another TTL than is wanted.
func (b *Book) WantsSession(ttl time.Duration, m Moment) bool {
	if !b.swept || b.next.ID != 0 || b.stopping {
		return false
	}
	return b.cur.ID == 0 || b.Alive(b.cur.ID, m) && (b.fenced(b.cur.ID, m) || b.cur.TTL != ttl)
}

// Use is what a new session is for.
type Use uint8

// The uses of a session that was opened.
const (
	NotNeeded   Use = iota // it is to be closed again
	First                  // it is the session in use
	Replacement            // it is to replace the one in use
)

// Opened takes a new session into use. It has no lease yet (agent rule 1).
func (b *Book) Opened(s lease.Session, now lease.Time) Use {
	use := Replacement
	switch {
	case b.cur.ID == 0:
		use = First
		b.cur, b.lapsedAt = s, now
		// A new lineage: every epoch that it will be granted is above its own id,
		// and that is above all that was ever released here.
		b.setFloors, b.addressFloors = Floors[Set]{}, addressFloors{}
	case b.next.ID == 0 && !b.stopping:
		b.next = s
	default:
		b.closing = append(b.closing, Closing{s.ID, "not needed"})
		return NotNeeded
	}
	b.dirty = true
	return use
}

// RebindReady says whether the grants can be moved to the new session: both must
// have a deadline ahead (agent rule 7).
func (b *Book) RebindReady(m Moment) bool {
	return b.cur.ID != 0 && b.next.ID != 0 && b.Alive(b.cur.ID, m) && b.Alive(b.next.ID, m)
}

// BeginRebind makes both deadlines count, from before Rebind is sent until a view
// shows what came of it.
func (b *Book) BeginRebind() { b.rebinding, b.dirty = true, true }

// CancelRebind takes BeginRebind back, if the file could not be written and so
// nothing was sent.
func (b *Book) CancelRebind() {
	if !b.stored.rebinding {
		b.rebinding = false
	}
}

// MayRebind says whether Rebind may be sent: a successor of this process would go
// by both deadlines too.
func (b *Book) MayRebind() bool { return b.rebinding && b.stored.rebinding }

// Closable returns the sessions that may be closed now: everything of theirs is
// down, and the session file no longer has them (agent rule 5).
func (b *Book) Closable(present Present) []Closing {
	var out []Closing
	for _, c := range b.closing {
		if b.swept && !slices.Contains(b.stored.sessions, c.Session) && !b.upUnder(c.Session, present) {
			out = append(out, c)
		}
	}
	return out
}

// Closed forgets a session whose closing was answered.
func (b *Book) Closed(session uint64) {
	b.closing = slices.DeleteFunc(b.closing, func(c Closing) bool { return c.Session == session })
}

// Closings returns how many sessions are still to be closed.
func (b *Book) Closings() int { return len(b.closing) }

// Stop says that nothing may be held any more.
func (b *Book) Stop() { b.stopping = true }

// End gives up all sessions, once everything is seen down, and returns them. Their
// deadlines must be zeroed and the session file deleted before one is closed.
func (b *Book) End(cause string) []lease.Session {
	var out []lease.Session
	for _, s := range []lease.Session{b.cur, b.next} {
		if s.ID != 0 {
			out = append(out, s)
			b.closing = append(b.closing, Closing{s.ID, cause})
		}
	}
	b.cur, b.next, b.rebinding, b.alive = lease.Session{}, lease.Session{}, false, false
	return out
}
