package vipagent

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/fault"
	"holdfast/vipagent/vip"
)

// Fence makes the kernel refuse packets that claim an address, or are sent to
// it, whatever this process does. Its calls are short.
type Fence interface {
	// Guard: nothing passes for these addresses from now on. An error means
	// that something may.
	Guard(addresses []netip.Addr) error
	// Open: guarded addresses pass while the kernel's deadlines of their
	// sessions lie ahead. After an error some may be as before.
	Open(passes []vip.Pass) error
	// Forget: these are confirmed down and need not be guarded any more, once
	// nothing that was sent before can be on its way.
	Forget(addresses []netip.Addr) error
	// Guarded returns what is guarded, open or not.
	Guarded() ([]netip.Addr, error)
	// Check puts right what others have done to the fence, and takes in what is
	// new on this host. It comes before addresses are added.
	Check() error
}

// Deadlines are those that the kernel holds for sessions (agent rule 4).
type Deadlines interface {
	// Slot gives a session a deadline of its own, closed, or finds the one that
	// it has. store sets it; it waits for nothing.
	Slot(session uint64) (store func(deadline lease.Time), err error)
	// Keep closes the deadlines of all other sessions, for good.
	Keep(sessions []uint64) error
	// Deadline reads back, 0 if the session has none.
	Deadline(session uint64) lease.Time
}

// Shield is a fence with its deadlines; both nil: this host has none.
type Shield struct {
	Fence     Fence
	Deadlines Deadlines
	// Close lets go of the fence, under the same lock; nil: nothing to do.
	Close func()
	// Report tells what the kernel holds for a session, each time that a renewal is
	// sent, also when the fence could not be opened. It waits for nothing. nil:
	// renewals say nothing of it.
	Report func(session uint64) lease.FenceReport
}

// checksFailing is how many checks of the fence in a row must fail until this
// host gives up what it holds: others may be rebuilding an interface.
const checksFailing = 3

// shield is the owner's view of the fence. Raising goes: guard, add, open,
// announce; lowering: shut, remove, read back, forget.
type shield struct {
	fence     Fence // nil: none
	deadlines Deadlines
	end       func()
	report    func(session uint64) lease.FenceReport
	unfit     string                  // why there is none although there should be
	guarded   map[netip.Addr]bool     // by this process or a former one; false: perhaps not
	open      map[netip.Addr]vip.Pass // by this process
	kept      []uint64                // sessions with a deadline, sorted
	failing   int                     // checks in a row
}

func newShield() shield {
	return shield{guarded: make(map[netip.Addr]bool), open: make(map[netip.Addr]vip.Pass)}
}

// with takes the fence, or notes why there is none.
func (s shield) with(f Shield, err error) shield {
	s.report = f.Report
	if err != nil {
		s.unfit = err.Error()
		return s
	}
	s.fence, s.deadlines, s.end = f.Fence, f.Deadlines, f.Close
	return s
}

// close lets go of the fence.
func (s *shield) close() {
	if s.end != nil {
		s.end()
	}
}

// meet finds out what a former process has left guarded.
func (s *shield) meet() error {
	if s.fence == nil {
		return nil
	}
	list, err := s.fence.Guarded()
	for _, a := range list {
		s.guarded[a] = true
	}
	return err
}

// check looks after the fence itself.
func (s *shield) check() error {
	if s.fence == nil {
		return nil
	}
	return s.fence.Check()
}

// guard shuts the fence for addresses that are about to be added.
func (s *shield) guard(addresses []vip.Address) error {
	if s.fence == nil {
		return nil
	}
	fault.Point(fault.Guard)
	return s.shut(addresses)
}

// shut makes the kernel refuse what is sent to the addresses, or claims them.
func (s *shield) shut(addresses []vip.Address) error {
	if s.fence == nil || len(addresses) == 0 {
		return nil
	}
	list := make([]netip.Addr, len(addresses))
	for i, a := range addresses {
		list[i] = a.IP()
		s.guarded[a.IP()] = false
		delete(s.open, a.IP())
	}
	if err := s.fence.Guard(list); err != nil {
		return err
	}
	for _, ip := range list {
		s.guarded[ip] = true
	}
	return nil
}

// pass opens the fence for addresses that are guarded and up.
func (s *shield) pass(passes []vip.Pass) error {
	if s.fence == nil || len(passes) == 0 {
		return nil
	}
	fault.Point(fault.Open)
	if err := s.fence.Open(passes); err != nil {
		return err
	}
	for _, p := range passes {
		s.open[p.Address] = p
	}
	return nil
}

// forget ends the guard of what is neither there nor about to be.
func (s *shield) forget(needed func(netip.Addr) bool) error {
	var gone []netip.Addr
	for a := range s.guarded {
		if !needed(a) {
			gone = append(gone, a)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	slices.SortFunc(gone, netip.Addr.Compare)
	if err := s.fence.Forget(gone); err != nil {
		return err
	}
	for _, a := range gone {
		delete(s.guarded, a)
		delete(s.open, a)
	}
	return nil
}

// keep closes the deadlines of all sessions but those in use.
func (s *shield) keep(inUse slots) error {
	ids := slices.Sorted(maps.Keys(inUse))
	if s.deadlines == nil || slices.Equal(ids, s.kept) && s.kept != nil {
		return nil
	}
	if err := s.deadlines.Keep(ids); err != nil {
		return err
	}
	s.kept = ids
	return nil
}

// slotFor makes the slot of a session, with its deadline in the kernel. Without
// one the session is of no use: this host then holds nothing.
func (o *owner) slotFor(session lease.Session) *slot {
	s := newSlot(session)
	if o.shield.deadlines == nil {
		return s
	}
	o.shield.kept = nil
	store, err := o.shield.deadlines.Slot(session.ID)
	if err != nil {
		o.fitness.unfit = fmt.Sprintf("the fence has no place for its deadline: %v", err)
		o.journal.error("no deadline in the kernel", "session", session.ID, "err", err)
		return s
	}
	s.store = store
	return s
}

// passFor is under which leases an address that is up may pass.
func (o *owner) passFor(ip netip.Addr) vip.Pass {
	u := o.upAt(ip)
	return vip.Pass{Address: ip, Epoch: u.Epoch, Session: u.Session, Also: o.book.Also(u.Session)}
}

// align makes the fence follow what the book says of addresses that are up: after
// a start, when nothing is known of it, and when grants move to another session
// (agent rule 7). It says whether all is as it should be.
func (o *owner) align() bool {
	if o.shield.fence == nil {
		return true
	}
	var passes []vip.Pass
	var unguarded []vip.Address
	for _, u := range o.book.Up() {
		ip := u.IP()
		if !u.Confirmed || !o.wantedAt[ip] || !o.mayAct(u.Session, o.now()) {
			continue // one that has to go and cannot be removed stays shut
		}
		if p := o.passFor(ip); o.shield.open[ip] != p {
			passes = append(passes, p)
			if !o.shield.guarded[ip] {
				unguarded = append(unguarded, u.Address)
			}
		}
	}
	err := o.shield.shut(unguarded)
	if err == nil {
		err = o.shield.pass(passes)
	}
	if err != nil {
		o.again("fence does not follow", err)
		return false
	}
	return true
}

// checkFence looks after the fence, once in a while. One that cannot be put
// right makes this host give up what it holds.
func (o *owner) checkFence() {
	err := o.shield.check()
	if err == nil {
		if o.shield.failing >= checksFailing {
			o.fitness.unfit = ""
		}
		o.shield.failing = 0
		return
	}
	o.shield.failing++
	o.journal.error("fence is not in order", "err", err)
	if o.shield.failing >= checksFailing {
		o.fitness.unfit = fmt.Sprintf("the fence is not in order: %v", err)
	}
}
