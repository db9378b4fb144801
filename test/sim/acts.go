package sim

import (
	"net/netip"
	"slices"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/tenure"
	"holdfast/vipagent/vip"
)

// spot is where in a step the owner stands: which act comes next.
type spot uint8

// The acts of one step, in their order. The order of those that touch the host is the
// agent's; what each decides is the shipped code's.
const (
	idle spot = iota
	keepSlots
	decide
	readKernel
	shutFence
	removeDown
	readBack
	letGo
	writeFloors
	expect
	writeUp
	guardUp
	mayRaise
	addUp
	recheck
	undoUp
	openFence
	account
	settle
	stepRebind
	passRebind
	sendRebind
	closeDown
	writeLast
	places
)

func (p spot) String() string {
	return [places]string{"idle", "free slots", "decide", "read the kernel", "shut the fence", "remove", "read back", "raise floors",
		"write floors", "expect", "write what is to be up", "guard", "may it be raised", "add", "look at the clock again", "take back",
		"open the fence", "account", "settle", "begin rebind", "pass both", "send rebind", "close", "write the file"}[p]
}

// acts has the act of each place; it returns the next place.
var acts = [places]func(h *host, a *agent, now lease.Time) spot{
	idle: (*host).actAdvance, keepSlots: (*host).actKeep, decide: (*host).actDecide, readKernel: (*host).actRead,
	shutFence: (*host).actShut, removeDown: (*host).actRemove, readBack: (*host).actReadBack,
	letGo: (*host).actLetGo, writeFloors: (*host).actWriteFloors, expect: (*host).actExpect, writeUp: (*host).actWriteUp,
	guardUp: (*host).actGuard, mayRaise: (*host).actMayRaise, addUp: (*host).actAdd, recheck: (*host).actRecheck,
	undoUp: (*host).actUndo, openFence: (*host).actOpen, account: (*host).actAccount, settle: (*host).actSettle,
	stepRebind: (*host).actRebind, passRebind: (*host).actPassRebind, sendRebind: (*host).actSendRebind,
	closeDown: (*host).actClose, writeLast: (*host).actWriteLast,
}

// act does the next act and says whether the step goes on.
func (h *host) act(now lease.Time) bool {
	h.agent.at = acts[h.agent.at](h, h.agent, now)
	return h.agent.at != idle
}

// busy says whether the owner has something to do.
func (a *agent) busy() bool { return a.at != idle || a.wake || a.view != nil }

// actAdvance takes in what has come.
func (h *host) actAdvance(a *agent, now lease.Time) spot {
	a.wake = false
	if v := a.view; v != nil {
		a.view = nil
		a.book.TakeView(*v, now)
		a.prune()
	}
	for _, c := range a.book.Advance(a.moment(now)) {
		a.retire(c.Session.ID)
	}
	return keepSlots
}

// actKeep zeroes the deadlines of sessions that must not act any more.
func (h *host) actKeep(a *agent, _ lease.Time) spot {
	h.kernel.keep(a.book.Current().ID, a.book.Next().ID)
	return decide
}

func (h *host) actDecide(a *agent, now lease.Time) spot {
	d := a.book.Decide(a.moment(now), a.veto(h))
	d.GiveUp = slices.DeleteFunc(d.GiveUp, func(g tenure.GiveUp) bool { return a.asked(task{key: g.Key()}) })
	d.Retired = slices.DeleteFunc(d.Retired, func(r tenure.Retired) bool { return a.asked(task{retired: r}) })
	var wanted []vip.Wanted
	for i := range d.Hold {
		g := &d.Hold[i]
		for _, c := range g.Addresses {
			if a.book.Raisable(g, c) {
				at := vip.Address{Prefix: c.Prefix, Interface: "eth0"}
				wanted = append(wanted, vip.Wanted{Address: at, Set: g.Set, Epoch: g.Epoch})
			}
		}
	}
	same := slices.Equal(wanted, a.wanted)
	a.wanted, a.decision = wanted, d
	if same && !a.look && len(d.GiveUp)+len(d.Retired) == 0 {
		return settle
	}
	a.look = false
	return readKernel
}

// actRead compares the kernel with what is wanted.
func (h *host) actRead(a *agent, _ lease.Time) spot {
	a.read, a.undone = h.kernel.present, false
	ops := vip.Plan(a.wanted, h.kernel.addresses(), vip.Options{})
	a.removals = vip.Of(ops, vip.Remove)
	a.adds = a.adds[:0:0]
	for _, op := range ops {
		if op.Kind == vip.Add {
			a.adds = append(a.adds, op)
		}
	}
	if len(a.removals) > 0 {
		return shutFence
	}
	return letGo
}

// actShut closes the fence before an address goes.
func (h *host) actShut(a *agent, _ lease.Time) spot {
	for _, r := range a.removals {
		h.kernel.guard(place(r.IP()))
	}
	return removeDown
}

func (h *host) actRemove(a *agent, _ lease.Time) spot {
	if h.jam > 0 { // the kernel does not do it
		h.jam--
		return readBack
	}
	for _, r := range a.removals {
		h.kernel.present[place(r.IP())] = false
	}
	return readBack
}

// actReadBack is the confirmation: only what is read back is down (agent rule 5).
func (h *host) actReadBack(a *agent, now lease.Time) spot {
	if a.undone = h.actRead(a, now) == shutFence; a.undone {
		a.look, a.wake = true, true // it is tried again after this step
	}
	return letGo
}

func (h *host) actLetGo(a *agent, _ lease.Time) spot {
	wanted := func(ip netip.Addr) bool {
		return slices.ContainsFunc(a.wanted, func(w vip.Wanted) bool { return w.IP() == ip })
	}
	a.book.Forget(a.present, wanted)
	if !a.undone {
		a.book.Swept()
	}
	for p := range prefixes { // what is confirmed down is guarded no more
		if _, up := a.book.UpAt(prefixes[p].Addr()); !up && !a.read[p] && h.kernel.fence[p].guarded {
			h.kernel.forget(p)
		}
	}
	if a.book.LetGo(a.decision.GiveUp, a.decision.Retired, a.present) {
		return writeFloors
	}
	return expect
}

// actWriteFloors writes the floors; only then is anything told.
func (h *host) actWriteFloors(a *agent, _ lease.Time) spot {
	p := h.write()
	for _, g := range p.Releases {
		a.tasks = append(a.tasks, task{key: g.Key(), giveUp: g})
	}
	for _, r := range p.Removals {
		a.tasks = append(a.tasks, task{retired: r})
	}
	return expect
}

func (h *host) actExpect(a *agent, _ lease.Time) spot {
	a.adds = slices.DeleteFunc(a.adds, func(op vip.Op) bool { return a.present(op.Address.IP()) })
	if len(a.adds) == 0 {
		return account
	}
	for _, op := range a.adds {
		a.book.Expect(tenure.Up{Address: op.Address, Set: op.Set, Session: a.sessionOf(op.Set), Epoch: op.Epoch})
	}
	return writeUp
}

func (a *agent) sessionOf(set string) uint64 {
	for i := range a.decision.Hold {
		if a.decision.Hold[i].Set == set {
			return a.decision.Hold[i].Session
		}
	}
	return 0
}

func (h *host) actWriteUp(*agent, lease.Time) spot {
	h.write()
	return guardUp
}

// actGuard attaches the fence, closed, before the address is there.
func (h *host) actGuard(a *agent, _ lease.Time) spot {
	for _, op := range a.adds {
		h.kernel.guard(place(op.Address.IP()))
	}
	return mayRaise
}

// actMayRaise looks at the clock right before the addresses are added.
func (h *host) actMayRaise(a *agent, now lease.Time) spot {
	if !a.mayAct(now) {
		a.look, a.wake = true, true
		return account
	}
	return addUp
}

func (a *agent) mayAct(now lease.Time) bool {
	for _, op := range a.adds {
		if !a.book.MayAct(a.sessionOf(op.Set), a.moment(now)) {
			return false
		}
	}
	return true
}

func (h *host) actAdd(a *agent, _ lease.Time) spot {
	for _, op := range a.adds {
		h.kernel.present[place(op.Address.IP())] = true
		a.book.Confirm(op.Address.IP(), true)
		a.read[place(op.Address.IP())] = true
	}
	return recheck
}

// actRecheck looks at the clock right after: a pause in between must not leave an
// address up.
func (h *host) actRecheck(a *agent, now lease.Time) spot {
	if !a.mayAct(now) {
		return undoUp
	}
	return openFence
}

func (h *host) actUndo(a *agent, _ lease.Time) spot {
	for _, op := range a.adds {
		h.kernel.present[place(op.Address.IP())] = false
	}
	a.look, a.wake = true, true
	return settle
}

func (h *host) actOpen(a *agent, _ lease.Time) spot {
	for _, op := range a.adds {
		h.open(place(op.Address.IP()), op.Epoch, a.sessionOf(op.Set))
	}
	return account
}

// open lets packets of an address pass while the session's deadline lies ahead.
func (h *host) open(p int, epoch, session uint64) {
	h.kernel.let(p, pass{epoch: epoch, session: session, also: h.agent.book.Also(session)})
}

// actAccount notes under which grant each address is up from now on.
func (h *host) actAccount(a *agent, _ lease.Time) spot {
	for _, w := range a.wanted {
		session := a.sessionOf(w.Set)
		p := place(w.IP())
		if u, ok := a.book.Keep(w, session, a.read[p]); ok && u.Confirmed && a.read[p] {
			h.open(p, u.Epoch, u.Session)
		}
	}
	return settle
}
