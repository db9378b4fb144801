package sim

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/tenure"
	"holdfast/vipagent/vip"
)

// host is one machine that may hold VIPs: what outlives the agent's process, and the
// process. Everything that the agent does is cut into acts, each of which touches
// the world once; whatever may happen, may happen between two of them.
type host struct {
	name  string
	boot  int
	since int8          // real time at which its clock began, in the checker
	ttl   time.Duration // of new sessions

	kernel  kernel
	file    *tenure.File  // on the tmpfs, nil = none; never changed once written
	until   [2]lease.Time // the deadlines in it, which change more often than the rest
	process uint64        // of the newest agent
	vetoes  [maxSets]bool // by the health checks
	jam     uint8         // so many removals will not work
	agent   *agent        // nil = dead
}

// agent is one process of the agent: the shipped book and holders, and what the owner
// goroutine has in hand between two acts.
type agent struct {
	book   *tenure.Book
	leases []holding
	guard  time.Duration // how long before a deadline addresses are taken down

	// What has come and was not looked at.
	view *tenure.View
	wake bool // something else has happened

	// The step under way.
	at       spot
	look     bool // the kernel must be read
	undone   bool // something is up that was to be removed
	wanted   []vip.Wanted
	decision tenure.Decision
	adds     []vip.Op
	removals []vip.Address
	read     [maxAddresses]bool

	// What is asked of the quorum.
	tasks []task
	out   []call // to be sent by whoever runs the host
	duty  duty
}

// duty is what the agent does about its sessions.
type duty struct {
	opening, rebind  bool
	openAt, rebindAt lease.Time
	stopping, gone   bool // told to stop; everything is down and closed
	adopted          bool
	redial           bool // all coordinators are to send their views again
}

// holding is one session that is renewed.
type holding struct {
	holder   *lease.Holder
	deadline lease.Time // published: stored in the kernel and known to the owner
	computed lease.Time // by an answer; it is stored by an act of its own
	fenced   bool
	round    lease.Round
	begun    lease.Time
	sent     lease.Time
	rounds   int
}

// Lease implements [tenure.Leases].
func (a *agent) Lease(session uint64) (lease.Time, bool) {
	if h := a.holding(session); h != nil {
		return h.deadline, h.fenced
	}
	return 0, false
}

func (a *agent) holding(session uint64) *holding {
	for i := range a.leases {
		if a.leases[i].holder.Session().ID == session {
			return &a.leases[i]
		}
	}
	return nil
}

func (a *agent) moment(now lease.Time) tenure.Moment {
	return tenure.Moment{Now: now, Guard: a.guard, Leases: a}
}

// clone copies a host for a state of the checker.
func (h *host) clone() *host {
	c := *h
	if h.agent != nil {
		a := *h.agent
		a.book = a.book.Clone()
		a.leases = slices.Clone(a.leases)
		for i := range a.leases {
			a.leases[i].holder = a.leases[i].holder.Clone()
		}
		a.tasks, a.out = slices.Clone(a.tasks), slices.Clone(a.out)
		c.agent = &a
	}
	return &c
}

// start starts the agent's process, which reads the session file under its lock
// (agent rule 6).
func (h *host) start(now lease.Time, guard time.Duration) {
	h.process++
	a := &agent{
		book:  tenure.New(tenure.Identity{Host: h.name, BootID: fmt.Sprint(h.boot)}),
		guard: guard, look: true, wake: true,
	}
	h.agent = a
	if h.file == nil {
		return
	}
	f := *h.file
	f.Sessions = slices.Clone(f.Sessions)
	for i := range f.Sessions {
		f.Sessions[i].Deadline = h.until[i]
	}
	sessions, why := a.book.Adopt(&f, now)
	if why != "" {
		return
	}
	a.duty.adopted = true
	for _, s := range sessions {
		a.renew(h, s.Session)
		l := a.holding(s.Session.ID)
		if s.Deadline != 0 {
			l.holder.Adopt(s.Deadline)
		}
		l.deadline, l.computed = s.Deadline, s.Deadline
		h.kernel.store(s.Session.ID, s.Deadline)
	}
}

// renew begins to renew a session, which has no lease yet.
func (a *agent) renew(h *host, s lease.Session) {
	h.kernel.slot(s.ID)
	a.leases = append(a.leases, holding{holder: lease.NewHolder(s, h.process)})
}

// retire makes sure that a session never acts again.
func (a *agent) retire(session uint64) {
	a.leases = slices.DeleteFunc(a.leases, func(l holding) bool { return l.holder.Session().ID == session })
	a.look = true
}

// answer takes in an answer and computes the deadline. That it is stored is another
// act: see store.
func (a *agent) answer(x lease.Answer) (moved bool) {
	l := a.holding(x.Session)
	if l == nil {
		return false
	}
	deadline, moved := l.holder.Answer(x)
	if moved {
		l.computed = deadline
	}
	if l.holder.Fenced() && !l.fenced {
		l.fenced, a.wake = true, true
	}
	return moved
}

// store publishes what answers have proven: the kernel first.
func (h *host) store(now lease.Time) {
	a := h.agent
	for i := range a.leases {
		l := &a.leases[i]
		if l.computed > l.deadline {
			if l.deadline <= now.Add(a.guard) {
				a.wake = true // it was not alive
			}
			l.deadline = l.computed
			h.kernel.store(l.holder.Session().ID, l.deadline)
		}
	}
}

// unstored says whether there is something to store.
func (a *agent) unstored() bool {
	for i := range a.leases {
		if a.leases[i].computed > a.leases[i].deadline {
			return true
		}
	}
	return false
}

// write writes the session file and returns what may be told because of that.
func (h *host) write() tenure.Parting {
	h.file = h.agent.book.File(h.agent)
	for i, s := range h.file.Sessions {
		h.until[i] = s.Deadline
	}
	return h.agent.book.Stored()
}

// behind says whether the session file has older deadlines.
func (h *host) behind() bool {
	if h.file == nil {
		return false
	}
	for i := range h.file.Sessions {
		if d, _ := h.agent.Lease(h.file.Sessions[i].ID); d != h.until[i] {
			return true
		}
	}
	return false
}

// freshen writes the deadlines alone.
func (h *host) freshen() {
	for i := range h.file.Sessions {
		h.until[i], _ = h.agent.Lease(h.file.Sessions[i].ID)
	}
}

// next is when the agent has something to do by itself: a deadline is near.
func (a *agent) next(now lease.Time) lease.Time {
	at := lease.Time(1 << 62)
	for i := range a.leases {
		if d := a.leases[i].deadline.Add(-a.guard); d > now {
			at = min(at, d)
		}
	}
	return at
}

// lapsedSince says whether a deadline was reached since then.
func (a *agent) lapsedSince(since, now lease.Time) bool {
	for i := range a.leases {
		if d := a.leases[i].deadline.Add(-a.guard); d > since && d <= now {
			return true
		}
	}
	return false
}

func (a *agent) veto(h *host) tenure.Veto {
	return func(set string) (string, bool) { return "vetoed", h.vetoes[setPlace(set)] }
}

func (a *agent) present(ip netip.Addr) bool { return a.read[place(ip)] }
