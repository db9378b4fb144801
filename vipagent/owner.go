package vipagent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"holdfast/coordinator/lease"
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

	// What the quorum says.
	view      view
	viewAt    lease.Time // when it came
	viewed    bool       // some view has come since the start
	newest    uint64     // views up to this index are not taken
	since     lease.Time // when that came which this step answers to, for the log
	cur, next *slot      // next is to replace cur
	rebinding bool       // Rebind(cur, next) may have been sent (agent rule 7)
	stops     map[uint64]context.CancelFunc
	wasAlive  bool // cur was, at the last step
	lapsedAt  lease.Time

	// What is kept for a successor.
	setFloors     map[string]uint64
	addressFloors map[netip.Addr]uint64
	dirty         bool // the session file is behind
	saved         map[uint64]lease.Time

	// What the host has.
	up                      map[netip.Addr]upAddress // raised and not yet seen gone
	present                 map[netip.Addr]bool      // ours, by the last reading
	read                    bool                     // the last reading worked, after all changes
	look                    bool                     // the kernel must be read
	swept                   bool                     // it was once compared as a whole
	wanted                  []vip.Wanted             // as of the last comparison
	held                    map[string]Holding       // by set, for the log and status
	links                   map[string]bool          // interfaces that exist
	linksRead               bool
	found                   map[netip.Prefix]string // interfaces of addresses that name none, as of this step
	foundErr                error
	blocked                 map[string]bool // logged
	refresher               vip.Refresher
	refreshedFor, refreshAt lease.Time // the deadline that lifetimes follow; when the next is due
	announcer               announcer

	// What is under way.
	tasks   tasks
	fitness fitness
	stalls  stalls
	restored,
	lapses uint64
	stopping bool
	wakeAt   lease.Time // next time something is due
}

// upAddress is an address that was raised.
type upAddress struct {
	vip.Address
	set            string
	session, epoch uint64
	confirmed      bool // seen up, or added without an error
}

func newOwner(a *Agent, work context.Context, wg *sync.WaitGroup) *owner {
	return &owner{
		Agent: a, began: a.edges.Clock.Now(), work: work, wg: wg,
		stops:     make(map[uint64]context.CancelFunc),
		setFloors: make(map[string]uint64), addressFloors: make(map[netip.Addr]uint64),
		saved: make(map[uint64]lease.Time),
		up:    make(map[netip.Addr]upAddress), present: make(map[netip.Addr]bool),
		held: make(map[string]Holding), links: make(map[string]bool),
		announcer: newAnnouncer(a.config.RepeatAfter, a.config.Refresh),
		tasks:     newTasks(), fitness: newFitness(),
		look: true,
	}
}

// run is the owner's loop.
func (o *owner) run(ctx context.Context) error {
	if !o.state.tmpfs {
		o.journal.warn("the state directory is not on a tmpfs: a disk that hangs would hang the agent", "dir", o.config.StateDir)
	}
	o.adopt()
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
	o.reconcile()
	now = o.now()
	o.note(now)
	o.maintain(now)
	o.settle(now)
	if o.dirty || o.deadlineMoved() {
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
		o.takeView(in.views[name])
	}
	if in.conditions != nil {
		o.fitness.health = in.conditions
	}
	if in.look {
		o.look, o.linksRead = true, false
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
		case name := <-o.renewer.back:
			o.edges.Views.Redial(name)
			o.announcer.all(now)
			o.journal.info("coordinator answers again", "coordinator", name)
			continue
		default:
		}
		break
	}
}

// takeView takes the view if it is newer than what is known. Older ones would
// do no harm (agent rule 3), but they would lower what newer ones raised.
func (o *owner) takeView(r received) {
	if index := r.view.GetIndex(); index < o.newest || index == o.newest && o.viewed {
		return
	}
	v, err := parseView(r.view)
	if err != nil {
		o.journal.error("view ignored", "err", err)
		return
	}
	o.view, o.viewAt, o.newest, o.viewed = v, r.at, v.index, true
	o.since = min(o.since, r.at)
}

// slotOf returns the session if it is one of ours and in use.
func (o *owner) slotOf(session uint64) *slot {
	for _, s := range []*slot{o.cur, o.next} {
		if s != nil && s.ID == session {
			return s
		}
	}
	return nil
}

// alive says whether a session may act at now: not past its own deadline, less
// the time that it takes to be down at that deadline.
func (o *owner) alive(s *slot, now lease.Time) bool {
	return s != nil && now < s.until()-lease.Time(o.guard.Load())
}

// mayAct says whether addresses may be up under a grant that names the session.
func (o *owner) mayAct(session uint64, now lease.Time) bool {
	s := o.slotOf(session)
	if s == nil || o.stopping {
		return false // agent rule 3: a grant must name our own session
	}
	// Agent rule 7: as long as a view names the old session while a Rebind may
	// have been committed, nobody knows which of the two holds the grant. A
	// view that names the new one has seen it committed.
	if o.rebinding && s == o.cur {
		return o.alive(o.cur, now) && o.alive(o.next, now)
	}
	return o.alive(s, now)
}

// actUntil is until when it may act, before the guard.
func (o *owner) actUntil(session uint64) lease.Time {
	s := o.slotOf(session)
	if s == nil {
		return 0
	}
	if o.rebinding && s == o.cur {
		return min(o.cur.until(), o.next.until())
	}
	return s.until()
}

// note logs what happened to the sessions. It runs after the addresses are
// as they should be.
func (o *owner) note(now lease.Time) {
	if late := o.renewer.paused.Swap(0); late > 0 {
		o.journal.warn("this process stood still", "for", time.Duration(late).Round(time.Millisecond))
		o.stalls.add(stall{lasted: time.Duration(late), ended: now}, o.config.TTL)
	}
	alive := o.alive(o.cur, now)
	if o.wasAlive && !alive && o.cur != nil {
		o.lapses++
		o.lapsedAt = now
		o.journal.warn("session lapsed: no majority of coordinators answers", "session", o.cur.ID)
	} else if !o.wasAlive && alive {
		o.journal.info("lease proven", "session", o.cur.ID, "left", o.cur.until().Sub(now).Round(time.Millisecond))
	}
	o.wasAlive = alive
	if o.cur != nil && !alive && len(o.present) == 0 && o.read {
		// Nothing is up, so an older view can lower nothing; and if the
		// cluster was rebuilt from a copy its indexes may be lower than before.
		o.newest = 0
	}
}

// publishStatus makes the status known.
func (o *owner) publishStatus() {
	s := &Status{Host: o.config.Host, At: o.now(), Index: o.view.index, Restored: o.restored, Lapses: o.lapses, Dropped: o.journal.dropped.Load()}
	if o.cur != nil {
		s.Session, s.Deadline, s.Fenced = o.cur.ID, o.cur.until(), o.cur.fenced.Load()
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
	why, old := o.adoptable(f)
	if why != "" {
		o.journal.info("session not adopted", "reason", why)
		if f.BootID == o.config.BootID && f.Host == o.config.Host {
			// We have the lock and will sweep: these sessions never act again,
			// and closing them frees what they held at once.
			for _, s := range f.Sessions {
				o.tasks.closing[s.ID] = "its agent was restarted too late to go on"
			}
		}
		o.dirty = true
		return
	}
	now := o.now()
	o.cur, o.rebinding = old[0], f.Rebinding && len(old) > 1
	if len(old) > 1 {
		o.next = old[1]
	}
	for k, v := range f.SetFloors {
		o.setFloors[k] = v
	}
	for k, v := range f.AddressFloors {
		o.addressFloors[k] = v
	}
	for _, g := range f.Grants {
		for _, c := range g.Addresses {
			o.up[c.Prefix.Addr()] = upAddress{vip.Address{Prefix: c.Prefix, Interface: c.Interface}, g.Set, g.Session, g.Epoch, true}
		}
	}
	o.view = view{index: f.Index, sessions: make(map[uint64]bool), grants: f.Grants}
	o.setGuard() // before the deadlines are watched
	for i, s := range old {
		o.view.sessions[s.ID] = true
		deadline := f.Sessions[i].Deadline
		if now >= deadline {
			deadline = 0
		}
		s.deadline.Store(int64(deadline))
		o.start(s, deadline)
	}
	o.viewAt, o.newest = now, f.Index
	o.wasAlive = true
	o.fitness.unsure = true
	o.journal.info("session adopted", "session", o.cur.ID, "left", o.cur.until().Sub(now).Round(time.Millisecond))
}

// adoptable returns the sessions of the file, or why they are not adopted.
func (o *owner) adoptable(f *stateFile) (why string, sessions []*slot) {
	switch {
	case f.BootID != o.config.BootID:
		return "the host was rebooted", nil
	case f.Host != o.config.Host:
		return fmt.Sprintf("it is of host %s", f.Host), nil
	case len(f.Sessions) == 0:
		return "there was none", nil
	case len(f.Sessions) > 2:
		return "the file has more than two", nil
	}
	now := o.now()
	for _, stored := range f.Sessions {
		s, err := stored.session()
		if err != nil {
			return err.Error(), nil
		}
		if now >= stored.Deadline && !(len(sessions) == 1 && !f.Rebinding) {
			return fmt.Sprintf("session %d has lapsed", s.ID), nil
		}
		if stored.Deadline.Sub(now) > s.TTL {
			return fmt.Sprintf("deadline of session %d is farther away than its ttl", s.ID), nil
		}
		sessions = append(sessions, newSlot(s))
	}
	return "", sessions
}

// start begins to renew a session and to watch its deadline.
func (o *owner) start(s *slot, adopted lease.Time) {
	ctx, stop := context.WithCancel(o.work)
	o.stops[s.ID] = stop
	o.wg.Go(func() { s.watch(ctx, o.edges.Clock, &o.guard, o.inbox.signal) })
	o.renewer.add(s, adopted)
}

// retire makes sure that a session never acts again.
func (o *owner) retire(s *slot) {
	s.retired.Store(true)
	o.renewer.drop(s.ID)
	if stop, ok := o.stops[s.ID]; ok {
		stop()
		delete(o.stops, s.ID)
	}
	o.look, o.dirty = true, true
}

// deadlineMoved says whether the session file has an older deadline. A file
// that is behind is safe: it only ends an adoption earlier.
func (o *owner) deadlineMoved() bool {
	return slices.ContainsFunc([]*slot{o.cur, o.next}, func(s *slot) bool {
		return s != nil && s.until() != o.saved[s.ID]
	})
}

// save writes the session file. It returns false if that did not work.
func (o *owner) save() bool {
	f := &stateFile{
		Host: o.config.Host, BootID: o.config.BootID, Index: o.view.index,
		Sessions: []storedSession{}, Grants: o.storedGrants(),
		SetFloors: o.setFloors, AddressFloors: o.addressFloors,
	}
	saved := make(map[uint64]lease.Time)
	for _, s := range []*slot{o.cur, o.next} {
		if s == nil {
			continue
		}
		until := s.until()
		saved[s.ID] = until
		f.Sessions = append(f.Sessions, storedSession{s.ID, s.Secret[:], s.TTL.Milliseconds(), until})
	}
	f.Rebinding = o.rebinding
	if err := o.state.save(f); err != nil {
		o.dirty = true
		o.journal.error("session file not written: nothing can be released", "err", err)
		o.wakeBy(o.now().Add(retryKernel))
		return false
	}
	o.saved, o.dirty = saved, false
	return true
}

// storedGrants is what is up, in the form of grants with resolved interfaces.
func (o *owner) storedGrants() []grant {
	out := []grant{}
	for _, g := range o.view.grants {
		kept := grant{Set: g.Set, Session: g.Session, Epoch: g.Epoch}
		for _, c := range g.Addresses {
			if u, ok := o.up[c.Prefix.Addr()]; ok && u.epoch == g.Epoch {
				kept.Addresses = append(kept.Addresses, claimed{c.Prefix, u.Interface, c.Claim})
			}
		}
		if len(kept.Addresses) > 0 {
			out = append(out, kept)
		}
	}
	return out
}
