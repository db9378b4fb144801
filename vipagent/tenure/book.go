package tenure

import (
	"slices"
	"time"

	"holdfast/coordinator/lease"
)

// Leases knows what answers have proven. It is asked at each question, because
// others renew meanwhile.
type Leases interface {
	// Lease returns the session's deadline, 0 if it never had one or must not act
	// any more, and whether some coordinator has marked it.
	Lease(session uint64) (deadline lease.Time, fenced bool)
}

// Moment is when a question is asked.
type Moment struct {
	Now lease.Time // CLOCK_BOOTTIME, read for this question
	// Guard is how long before a deadline addresses must begin to be taken down, in
	// order to be gone at the deadline.
	Guard  time.Duration
	Leases Leases
}

// Identity is whose book it is. A session file of another host or another boot is
// not adopted (agent rule 6).
type Identity struct{ Host, BootID string }

// Book is what one agent knows, see the package's comment. It is not safe for
// concurrent use.
type Book struct {
	me Identity

	// What the quorum says.
	view   View
	viewAt lease.Time // when it came
	viewed bool       // some view has come since the start
	newest uint64     // views up to this index are not taken
	best   uint64     // the highest index of any view

	cur, next lease.Session // ID 0 = none; next is to replace cur
	rebinding bool          // Rebind(cur, next) may have been sent (agent rule 7)
	alive     bool          // cur was, when that was last noted
	lapsedAt  lease.Time
	closing   []Closing // sessions that were given up

	// The highest epochs released (agent rules 3 and 8).
	setFloors     Floors[Set]
	addressFloors addressFloors

	up       []Up // raised and not yet seen down, by address
	swept    bool // the kernel was once compared as a whole
	stopping bool

	// What is kept for a successor.
	dirty   bool    // the session file is behind
	parting Parting // let go, and the file does not say so yet
	stored  stored  // what the file says
}

// stored is what of the session file matters to the orders.
type stored struct {
	sessions  []uint64 // never changed in place
	rebinding bool
}

// New returns the book of an agent that knows nothing yet.
func New(me Identity) *Book { return &Book{me: me} }

// Clone returns a copy that shares nothing that is ever changed.
func (b *Book) Clone() *Book {
	c := *b
	c.up = slices.Clone(b.up)
	c.closing = slices.Clone(b.closing)
	return &c
}

// View returns the view that counts; it must not be changed.
func (b *Book) View() *View { return &b.view }

// Viewed says whether some view has been taken since the start.
func (b *Book) Viewed() bool { return b.viewed }

// Current returns the session in use, Next the one that is to replace it; ID 0 is
// none.
func (b *Book) Current() lease.Session { return b.cur }

// Next is described at [Book.Current].
func (b *Book) Next() lease.Session { return b.next }

// Rebinding says whether both deadlines count (agent rule 7).
func (b *Book) Rebinding() bool { return b.rebinding }

// Stopping says whether nothing may be held any more.
func (b *Book) Stopping() bool { return b.stopping }

// Dirty says whether the session file has to be written anew.
func (b *Book) Dirty() bool { return b.dirty }

// Newer says whether a view of that index would be taken.
func (b *Book) Newer(index uint64) bool {
	return index > b.newest || index == b.newest && !b.viewed
}

// TakeView takes a view, with when it came, if it is newer than what is known.
// Older ones would do no harm (agent rule 3), but they would lower what newer ones
// raised.
func (b *Book) TakeView(v View, at lease.Time) bool {
	if !b.Newer(v.Index) {
		return false
	}
	b.view, b.viewAt, b.newest, b.viewed = v, at, v.Index, true
	b.best = max(b.best, v.Index)
	return true
}

// Behind says whether a newer view than the present one was known before. While there
// is no lease an older one is taken, and it may be the last to come, of a coordinator
// that the others have left behind: whoever has sent the newer one sends it no more,
// as nothing has changed. So once there is a lease all are to be asked again.
func (b *Book) Behind() bool { return b.view.Index < b.best }

// Ours says whether a session is one of ours and in use.
func (b *Book) Ours(session uint64) bool {
	return session != 0 && (session == b.cur.ID || session == b.next.ID)
}

// Alive says whether a session may act: not past its own deadline, less the time
// that it takes to be down at that deadline.
func (b *Book) Alive(session uint64, m Moment) bool {
	if session == 0 {
		return false
	}
	deadline, _ := m.Leases.Lease(session)
	return m.Now < deadline.Add(-m.Guard)
}

// Also returns the session whose deadline must hold beside the given one, 0 if
// none. As long as a view names the old session while a Rebind may have been
// committed, nobody knows which of the two holds the grant. A view that names the
// new one has seen it committed (agent rule 7).
func (b *Book) Also(session uint64) uint64 {
	if b.rebinding && session == b.cur.ID {
		return b.next.ID
	}
	return 0
}

// MayAct says whether addresses may be up under a grant that names the session.
func (b *Book) MayAct(session uint64, m Moment) bool {
	if b.stopping || !b.Ours(session) {
		return false // agent rule 3: a grant must name our own session
	}
	also := b.Also(session)
	return b.Alive(session, m) && (also == 0 || b.Alive(also, m))
}

// ActUntil is until when it may act, before the guard; 0 if not at all.
func (b *Book) ActUntil(session uint64, l Leases) lease.Time {
	if !b.Ours(session) {
		return 0
	}
	until, _ := l.Lease(session)
	if also := b.Also(session); also != 0 {
		other, _ := l.Lease(also)
		until = min(until, other)
	}
	return until
}
