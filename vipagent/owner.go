package vipagent

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"holdfast/coordinator/lease"
	"holdfast/coordinator/renew"
	"holdfast/vipagent/fault"
	"holdfast/vipagent/tenure"
	"holdfast/vipagent/vip"
)

const (
	// look is how often the kernel is read when nothing seems to happen.
	lookEvery = time.Second
	// retryKernel is the pause after a kernel call that did not work.
	retryKernel = 20 * time.Millisecond
)

// guardMax bounds how long before a deadline addresses are taken down.
func guardMax(ttl time.Duration) time.Duration { return ttl / 4 }

// guardFor is how long before a deadline so many addresses must be started to
// be taken down in order to be gone at the deadline: scheduling, and the slowest
// removal measured (150 us for an IPv6 address).
func guardFor(ttl time.Duration, addresses int) time.Duration {
	return min(guardMax(ttl), ttl/50+time.Duration(addresses)*150*time.Microsecond)
}

// owner is the state of the goroutine that owns raise, lower and release (agent
// rule 3). Nothing of it is shared.
type owner struct {
	*Agent
	began lease.Time
	work  context.Context // of calls and helpers; outlives Run's
	wg    *sync.WaitGroup

	// What may be held and what must be given up: all rules are in there.
	book        *tenure.Book
	slots       slots // of the book's sessions
	stops       map[uint64]context.CancelFunc
	watched     map[string]bool       // coordinators that have sent a view
	candidateOf []string              // sets that name this host, by the newest view
	since       lease.Time            // when that came which this step answers to, for the log
	saved       map[uint64]lease.Time // deadlines in the session file

	// What the host has.
	present                 map[netip.Addr]bool // ours, by the last reading
	others                  map[netip.Addr]bool // of other programs, by the last reading
	read                    bool                // the last reading worked, after all changes
	look                    bool                // the kernel must be read
	wanted                  []vip.Wanted        // as of the last comparison
	wantedAt                map[netip.Addr]bool // the same, by address
	held                    map[string]Holding  // by set, for the log and status
	links                   map[string]bool     // interfaces that exist
	linksRead               bool
	found                   map[netip.Prefix]string // interfaces of addresses that name none, as of this step
	foundErr                error
	blocked                 map[string]bool // logged
	refresher               vip.Refresher
	refreshedFor, refreshAt lease.Time // the deadline that lifetimes follow; when the next is due
	announcer               announcer
	sharing                 sharing

	// What is under way.
	tasks   tasks
	fitness fitness
	stalls  stalls
	restored,
	lapses uint64
	wakeAt lease.Time // next time something is due
}

func newOwner(a *Agent, work context.Context, wg *sync.WaitGroup) *owner {
	return &owner{
		Agent: a, began: a.edges.Clock.Now(), work: work, wg: wg,
		book:  tenure.New(tenure.Identity{Host: a.config.Host, BootID: a.config.BootID}),
		slots: make(slots), watched: make(map[string]bool), stops: make(map[uint64]context.CancelFunc),
		saved: make(map[uint64]lease.Time), present: make(map[netip.Addr]bool), others: make(map[netip.Addr]bool), wantedAt: make(map[netip.Addr]bool),
		held: make(map[string]Holding), links: make(map[string]bool),
		announcer: newAnnouncer(a.config.RepeatAfter, a.config.Refresh),
		tasks:     newTasks(), fitness: newFitness(), sharing: newSharing(),
		look: true,
	}
}

// run is the owner's loop.
func (o *owner) run(ctx context.Context) error {
	if !o.state.tmpfs {
		o.journal.warn("the state directory is not on a tmpfs: a disk that hangs would hang the agent", "dir", o.config.StateDir)
	}
	o.fitness.unfit = o.shield.unfit
	if err := o.shield.meet(); err != nil {
		o.journal.error("what is guarded cannot be read", "err", err)
	}
	o.adopt()
	o.keepDeadlines()
	timer := time.NewTimer(0)
	defer timer.Stop()
	nextLook := o.now()
	for {
		select {
		case <-ctx.Done():
			return o.shutDown()
		case <-o.inbox.wake:
		case <-timer.C:
		}
		now := o.now()
		if now >= nextLook {
			o.look, o.linksRead = true, false
			nextLook = now.Add(lookEvery)
			o.checkFence()
		}
		o.wakeAt = nextLook
		o.step(now)
		timer.Reset(max(o.wakeAt.Sub(o.now()), 0))
	}
}

func (o *owner) now() lease.Time { return o.edges.Clock.Now() }

// wakeBy makes the owner look again at t at the latest.
func (o *owner) wakeBy(t lease.Time) { o.wakeAt = min(o.wakeAt, t) }

// step brings everything up to date once. Addresses come first: whatever the
// events say, what must be down is down before anything is logged, reported or
// released.
func (o *owner) step(now lease.Time) {
	in := o.inbox.take()
	o.since = now
	o.absorb(now, in)
	o.advance(now)
	o.hear(now, in.adverts)
	o.speak(now)
	o.reconcile()
	o.align()
	o.advertise(o.now())
	o.keepDeadlines()
	now = o.now()
	o.note(now)
	o.maintain(now)
	o.settle(now)
	if o.book.Dirty() || o.deadlineMoved() {
		o.save()
	}
	o.publishStatus()
}

// absorb takes in what has come. It changes no address.
func (o *owner) absorb(now lease.Time, in events) {
	for _, f := range in.results {
		f()
	}
	for _, name := range sortedKeys(in.views) {
		o.watched[name] = true
		o.takeView(in.views[name])
	}
	if in.conditions != nil {
		o.fitness.health = in.conditions
	}
	if in.look {
		o.look, o.linksRead = true, false
	}
	if len(in.links) > 0 {
		o.checkFence() // it may be a new interface
	}
	for _, name := range sortedKeys(in.links) {
		o.announcer.link(now, name)
	}
	for address, by := range in.claims {
		if o.announcer.claimed(now, address) {
			o.journal.warn("another host claims our address", "address", address, "by", by)
		}
	}
	if in.healed {
		o.announcer.all(now)
	}
	for {
		select {
		case name := <-o.renewer.Back():
			o.edges.Views.Redial(name)
			o.announcer.all(now)
			o.journal.info("coordinator answers again", "coordinator", name)
			continue
		default:
		}
		break
	}
}

// takeView takes the view if it is newer than what is known.
func (o *owner) takeView(r received) {
	if !o.book.Newer(r.view.GetIndex()) {
		return
	}
	v, err := parseView(r.view)
	if err != nil {
		o.journal.error("view ignored", "err", err)
		return
	}
	o.book.TakeView(v, r.at)
	o.candidateOf = slices.Clone(r.view.GetCandidateOf())
	o.takeShared(r.view)
	o.since = min(o.since, r.at)
}

// moment is now, for a question to the book.
func (o *owner) moment(now lease.Time) tenure.Moment {
	return tenure.Moment{Now: now, Guard: time.Duration(o.guard.Load()), Leases: o.slots}
}

// mayAct says whether addresses may be up under a grant that names the session.
func (o *owner) mayAct(session uint64, now lease.Time) bool {
	return o.book.MayAct(session, o.moment(now))
}

// current is the slot of the session in use, nil if there is none.
func (o *owner) current() *slot { return o.slots[o.book.Current().ID] }

// upAt is what was raised at an address, nothing if nothing was.
func (o *owner) upAt(ip netip.Addr) tenure.Up {
	u, _ := o.book.UpAt(ip)
	return u
}

// isPresent says whether an address of ours was there at the last reading.
func (o *owner) isPresent(ip netip.Addr) bool { return o.present[ip] }

// keepDeadlines closes the kernel's deadlines of sessions that are not in use.
func (o *owner) keepDeadlines() {
	if err := o.shield.keep(o.slots); err != nil {
		o.again("deadlines of former sessions are not closed", err)
	}
}

// note logs what happened to the sessions. It runs after the addresses are
// as they should be.
func (o *owner) note(now lease.Time) {
	if late := o.renewer.Paused(); late > 0 {
		o.journal.warn("this process stood still", "for", late.Round(time.Millisecond))
		o.stalls.add(stall{lasted: late, ended: now}, o.config.TTL)
	}
	lapsed, proven := o.book.Note(o.moment(now), o.read && len(o.present) == 0)
	if lapsed {
		o.lapses++
		o.journal.warn("session lapsed: no majority of coordinators answers", "session", o.book.Current().ID)
	} else if proven {
		o.journal.info("lease proven", "session", o.book.Current().ID, "left", o.current().until().Sub(now).Round(time.Millisecond))
		if o.book.Behind() {
			for _, name := range sortedKeys(o.watched) {
				o.edges.Views.Redial(name)
			}
		}
	}
}

// publishStatus makes the status known.
func (o *owner) publishStatus() {
	s := &Status{Host: o.config.Host, At: o.now(), Index: o.book.View().Index, Restored: o.restored, Lapses: o.lapses, Dropped: o.journal.dropped.Load()}
	if cur := o.current(); cur != nil {
		s.Session, s.Deadline, s.Fenced = cur.ID, cur.until(), cur.fenced.Load()
	}
	for _, set := range sortedKeys(o.held) {
		s.Holds = append(s.Holds, o.held[set])
	}
	o.status.Store(s)
}

// adopt takes over from a former process, if its session file allows it (agent
// rule 6). What is up under an adopted session stays untouched.
func (o *owner) adopt() {
	f, err := o.state.load()
	if err != nil {
		o.journal.warn("session file not usable: starting afresh", "err", err)
		return
	}
	if f == nil {
		return
	}
	now := o.now()
	adopted, why := o.book.Adopt(f, now)
	if why != "" {
		o.journal.info("session not adopted", "reason", why)
		return
	}
	for _, a := range adopted {
		o.slots[a.Session.ID] = o.slotFor(a.Session)
	}
	o.setGuard() // before the deadlines are watched
	for _, a := range adopted {
		s := o.slots[a.Session.ID]
		s.deadline.Store(int64(a.Deadline))
		if o.shield.deadlines != nil && o.shield.deadlines.Deadline(s.ID) < a.Deadline {
			s.store(a.Deadline) // proven, and what was pinned is gone
		}
		o.start(s, a.Deadline)
	}
	o.fitness.unsure = true
	cur := o.current()
	o.journal.info("session adopted", "session", cur.ID, "left", cur.until().Sub(now).Round(time.Millisecond))
}

// start begins to renew a session and to watch its deadline.
func (o *owner) start(s *slot, adopted lease.Time) {
	ctx, stop := context.WithCancel(o.work)
	o.stops[s.ID] = stop
	o.wg.Go(func() { s.watch(ctx, o.edges.Clock, &o.guard, o.inbox.signal) })
	o.renewer.Add(renew.Kept{Session: s.Session, Proven: s.publish, Fenced: func() { s.fenced.Store(true) }}, adopted)
}

// retire makes sure that a session never acts again.
func (o *owner) retire(id uint64) {
	s, ok := o.slots[id]
	if !ok {
		return
	}
	s.retired.Store(true)
	delete(o.slots, id)
	o.renewer.Drop(id)
	if stop, ok := o.stops[id]; ok {
		stop()
		delete(o.stops, id)
	}
	o.look = true
}

// deadlineMoved says whether the session file has an older deadline. A file
// that is behind is safe: it only ends an adoption earlier.
func (o *owner) deadlineMoved() bool {
	for id, s := range o.slots {
		if s.until() != o.saved[id] {
			return true
		}
	}
	return false
}

// save writes the session file, and makes ready to be sent what waits for that. It
// returns false if that did not work.
func (o *owner) save() bool {
	fault.Point(fault.Save)
	f := o.book.File(o.slots)
	if err := o.state.save(f); err != nil {
		o.book.NotStored()
		o.journal.error("session file not written: nothing can be released", "err", err)
		o.wakeBy(o.now().Add(retryKernel))
		return false
	}
	clear(o.saved)
	for _, s := range f.Sessions {
		o.saved[s.ID] = s.Deadline
	}
	now := o.now()
	told := o.book.Stored()
	for _, g := range told.Releases {
		o.tasks.release(g, now)
	}
	for _, r := range told.Removals {
		o.tasks.confirm(r, now)
	}
	return true
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
