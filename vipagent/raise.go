package vipagent

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/tenure"
	"holdfast/vipagent/vip"
)

// raise adds what is missing, and looks at the clock before and after each
// piece: a pause in between must not leave an address up.
func (o *owner) raise(d decision, ops []vip.Op) {
	var adds []vip.Op
	for _, op := range ops {
		switch op.Kind {
		case vip.Add:
			if !o.present[op.Address.IP()] { // else its removal did not work
				adds = append(adds, op)
			}
		case vip.Refresh: // has no lifetime
			o.refresher = vip.Refresher{}
		}
	}
	o.noteBlocked(ops)
	if len(adds) == 0 {
		return
	}
	for _, op := range adds {
		o.expect(op, d.session[op.Set])
	}
	if err := o.shield.check(); err != nil {
		o.addFailed(adds, err)
		return
	}
	o.save() // so that a successor knows them; else it would take them down
	for piece := range slices.Chunk(adds, chunk) {
		if !o.raisePiece(piece) {
			o.look = true
			o.wakeBy(o.now())
			return
		}
	}
}

// expect notes that an address is about to be up.
func (o *owner) expect(op vip.Op, session uint64) {
	if u := o.upAt(op.Address.IP()); u.Confirmed && u.Epoch == op.Epoch && u.Address == op.Address {
		o.restored++
		o.journal.warn("address was removed by somebody else: restored", "address", op.Address, "set", op.Set)
	}
	o.book.Expect(tenure.Up{Address: op.Address, Set: op.Set, Session: session, Epoch: op.Epoch})
}

// raisePiece adds some addresses; false means that the time for it is over.
func (o *owner) raisePiece(ops []vip.Op) bool {
	now := o.now()
	addresses := make([]vip.Address, len(ops))
	until := never
	for i, op := range ops {
		addresses[i] = op.Address
		session := o.upAt(op.Address.IP()).Session
		if !o.mayAct(session, now) {
			return false
		}
		until = min(until, o.book.ActUntil(session, o.slots))
	}
	if err := o.shield.guard(addresses); err != nil {
		o.addFailed(ops, err)
		return true
	}
	valid, _ := vip.Lifetime(until.Sub(now), len(o.wanted), 0)
	err := o.edges.Kernel.Add(addresses, valid)
	for _, op := range ops {
		o.book.Confirm(op.Address.IP(), err == nil)
	}
	if !o.allMayAct(addresses) {
		o.takeBack(addresses)
		return false
	}
	if err != nil {
		o.addFailed(ops, err)
		addresses = o.thoseUp(addresses) // some may have worked
	}
	if len(addresses) == 0 {
		return true
	}
	if err := o.shield.pass(o.passes(addresses)); err != nil {
		o.takeBack(addresses)
		o.addFailed(ops, err)
		return true
	}
	if !o.allMayAct(addresses) {
		o.takeBack(addresses)
		return false
	}
	o.refresher.Refreshed(time.Duration(now), valid, addresses)
	o.announcer.raised(now, addresses)
	o.announce(now, addresses)
	return true
}

// takeBack takes down what should not have been raised.
func (o *owner) takeBack(addresses []vip.Address) {
	if err := errors.Join(o.shield.shut(addresses), o.edges.Kernel.Remove(addresses)); err != nil {
		o.again("addresses are not down", err)
	}
}

// passes says under which leases each of the addresses may pass.
func (o *owner) passes(addresses []vip.Address) []vip.Pass {
	out := make([]vip.Pass, len(addresses))
	for i, a := range addresses {
		out[i] = o.passFor(a.IP())
	}
	return out
}

// thoseUp reads back which of the addresses are up.
func (o *owner) thoseUp(addresses []vip.Address) []vip.Address {
	o.readKernel()
	if !o.read {
		return nil
	}
	var out []vip.Address
	for _, a := range addresses {
		if _, ok := o.book.UpAt(a.IP()); ok && o.present[a.IP()] {
			o.book.Confirm(a.IP(), true)
			out = append(out, a)
		}
	}
	return out
}

// addFailed makes the owner try again; a set that cannot be raised for a second
// is better off elsewhere.
func (o *owner) addFailed(ops []vip.Op, err error) {
	now := o.now()
	o.again("addresses not added", err)
	for _, op := range ops {
		if o.fitness.failing(now, op.Set) {
			for _, g := range o.book.View().Grants {
				if g.Set == op.Set {
					o.fitness.impede(now, obstacle{grant: g, reason: fmt.Sprintf("%s cannot be added: %v", op.Address, err)})
				}
			}
		}
	}
}

// noteBlocked logs, once, addresses that another program has on this host.
func (o *owner) noteBlocked(ops []vip.Op) {
	blocked := make(map[string]bool)
	for _, op := range ops {
		if op.Kind != vip.Blocked {
			continue
		}
		blocked[op.String()] = true
		if !o.blocked[op.String()] {
			o.journal.error("this host answers for an address without a lease", "set", op.Set, "address", op.Address, "reason", op.Reason)
		}
	}
	o.blocked = blocked
}

// setGuard follows the number of addresses that would have to be taken down. It
// counts all that are granted, so that it does not shrink when they are.
func (o *owner) setGuard() {
	cur := o.current()
	if cur == nil {
		return
	}
	granted := 0
	for _, g := range o.book.View().Grants {
		if o.book.Ours(g.Session) {
			granted += len(g.Addresses)
		}
	}
	o.guard.Store(int64(guardFor(cur.TTL, max(granted, len(o.book.Up())))))
}

// maintain refreshes the kernel's lifetimes and announces what is due.
func (o *owner) maintain(now lease.Time) {
	o.setGuard()
	var up []vip.Address
	until := never
	for _, u := range o.book.Up() {
		if u.Confirmed && o.mayAct(u.Session, now) {
			up = append(up, u.Address)
			until = min(until, o.book.ActUntil(u.Session, o.slots))
		}
	}
	if len(up) > 0 {
		// The watchers sleep with the guard of before; it may have grown.
		o.wakeBy(until - lease.Time(o.guard.Load()))
	}
	slices.SortFunc(up, vip.Address.Compare)
	o.refresh(now, until, up)
	due, next := o.announcer.due(now, up)
	for piece := range slices.Chunk(due, chunk) {
		if !o.allMayAct(piece) {
			o.wakeBy(o.now())
			return
		}
		o.announce(now, piece)
	}
	if next != 0 {
		o.wakeBy(next)
	}
}

// announce tells the neighbours where addresses are. A host whose packets do not get
// out is of no use as a holder: it gives up what it cannot announce for two seconds.
func (o *owner) announce(now lease.Time, addresses []vip.Address) {
	err := o.edges.Kernel.Announce(addresses)
	var dropped interface{ Swallowed() bool }
	if !errors.As(err, &dropped) {
		o.announcer.left(addresses)
		if err != nil {
			o.journal.warn("not announced", "err", err)
		}
		return
	}
	o.wakeBy(now.Add(swallowedRetry))
	dumb := o.announcer.failed(now, addresses)
	if len(dumb) == 0 {
		o.journal.warn("not announced", "err", err)
		return
	}
	o.journal.error("the packets of addresses do not leave this host", "addresses", len(dumb), "err", err)
	given := make(map[string]bool)
	for _, a := range dumb {
		given[o.upAt(a.IP()).Set] = true
	}
	for _, g := range o.book.View().Grants {
		if given[g.Set] {
			o.fitness.impede(now, obstacle{grant: g, reason: fmt.Sprintf("packets do not leave this host: %v", err)})
		}
	}
	o.look = true
}

// refresh gives the kernel's janitor new lifetimes, only while the deadline is
// ahead, after each renewal.
func (o *owner) refresh(now, until lease.Time, up []vip.Address) {
	if len(up) == 0 || until == o.refreshedFor && now < o.refreshAt {
		if len(up) > 0 {
			o.wakeBy(o.refreshAt)
		}
		return
	}
	piece, valid, again := o.refresher.Next(time.Duration(now), until.Sub(now), up)
	o.refreshedFor, o.refreshAt = until, never
	switch {
	case len(piece) > 0:
		if err := o.edges.Kernel.Refresh(piece, valid); err != nil {
			o.again("lifetimes not refreshed", err)
		}
		o.refresher.Refreshed(time.Duration(now), valid, piece)
		if !o.allMayAct(piece) { // paused in between: it may be up again
			o.look = true
		}
		o.refreshAt = now // the next slice, after other work has had its turn
	case again > 0:
		o.refreshAt = now.Add(again)
	}
	o.wakeBy(o.refreshAt)
}

func (o *owner) allMayAct(addresses []vip.Address) bool {
	now := o.now()
	return !slices.ContainsFunc(addresses, func(a vip.Address) bool {
		return !o.mayAct(o.upAt(a.IP()).Session, now)
	})
}
