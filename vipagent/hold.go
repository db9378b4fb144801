package vipagent

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/vip"
)

// chunk is the largest number of addresses in one kernel call that adds or
// announces, so that a deadline or a recall never waits long behind one.
const chunk = 64

// never is later than all other times.
const never = lease.Time(1<<63 - 1)

// decision is what the owner should bring about.
type decision struct {
	wanted  []vip.Wanted
	session map[string]uint64 // by set
	giveUp  []giveUp
	retired []retired
	causes  map[string]string // why a set is not wanted, for the log
}

// giveUp is a grant to be released once its addresses are confirmed down.
type giveUp struct {
	grant
	cause string
}

// decide compares what the quorum says with what may be. It changes no address.
func (o *owner) decide(now lease.Time) decision {
	d := decision{session: make(map[string]uint64), causes: make(map[string]string)}
	if o.stopping {
		for set := range o.held {
			d.causes[set] = "the agent stops"
		}
		return d
	}
	// A grant of a session that was replaced or has ended is none of ours.
	ours := slices.DeleteFunc(slices.Clone(o.view.grants), func(g grant) bool { return o.slotOf(g.Session) == nil })
	o.findInterfaces(ours)
	for _, g := range ours {
		if cause, ok := o.mustGo(g); ok {
			d.dismiss(o, g, cause)
			continue
		}
		if !o.mayAct(g.Session, now) {
			d.causes[g.Set] = "the session lapsed"
			continue
		}
		wanted, err := o.resolve(g)
		var none *obstacleError
		switch {
		case errors.As(err, &none):
			o.fitness.impede(now, obstacle{grant: g, reason: none.Error(), where: true})
			d.dismiss(o, g, none.Error())
		case err != nil: // not known now: ask again
			o.look = true
			o.wakeBy(now.Add(retryKernel))
			o.journal.warn("interface not found out", "set", g.Set, "err", err)
		default:
			d.wanted = append(d.wanted, wanted...)
			d.session[g.Set] = g.Session
		}
	}
	for _, r := range o.view.retiring {
		if o.slotOf(r.session) != nil && !o.tasks.confirming(r) {
			d.retired = append(d.retired, r)
		}
	}
	return d
}

// dismiss takes a grant onto the list of those to be released, unless that is
// under way.
func (d *decision) dismiss(o *owner, g grant, cause string) {
	d.causes[g.Set] = cause
	if !o.tasks.releasing(g) {
		d.giveUp = append(d.giveUp, giveUp{g, cause})
	}
}

// mustGo says whether a grant of ours has to be released, and why.
func (o *owner) mustGo(g grant) (cause string, ok bool) {
	if condition := o.fitness.of(g.Set); condition.Veto && !o.undecided(condition) {
		return condition.Reason, true
	}
	if g.recalled {
		return g.cause, true
	}
	// Agent rule 3. At or below the floor its addresses were taken down in
	// order to be released, so it is never raised again; whoever did that may
	// have died before the release was sent, and a repeated one does no harm.
	if g.Epoch <= o.setFloors[g.Set] {
		return "released before", true
	}
	return "", false
}

// undecided says whether a veto is only that of checks without a result, right
// after the start. It does not count yet: an agent that adopts its session
// would give up what it holds a moment before its first checks find all well.
func (o *owner) undecided(c Condition) bool {
	patience := o.began.Add(pendingPatience)
	if !c.Pending || o.now() >= patience {
		return false
	}
	o.wakeBy(patience)
	return true
}

// reconcile makes the host hold what it should: removal first, confirmed by
// reading back; then floors and releases; then what is to be raised.
func (o *owner) reconcile() {
	began := o.now()
	if o.look {
		o.clearObstacles(began)
	}
	d := o.decide(began)
	if !o.look && slices.Equal(d.wanted, o.wanted) && len(d.giveUp) == 0 && len(d.retired) == 0 {
		return
	}
	o.look = false
	actual := o.readKernel()
	ops := vip.Plan(d.wanted, actual, vip.Options{})
	var failed error
	if gone := vip.Of(ops, vip.Remove); len(gone) > 0 {
		failed = o.edges.Kernel.Remove(gone)
		// Agent rule 5: confirmed by reading back, and only by that.
		actual = o.readKernel()
		ops = vip.Plan(d.wanted, actual, vip.Options{})
	}
	o.wanted = d.wanted
	o.forget(actual)
	if !o.read || len(vip.Of(ops, vip.Remove)) > 0 {
		o.again("addresses are not down", failed)
	}
	o.letGo(d)
	if o.read {
		o.swept = true
		o.raise(d, ops)
	}
	o.account(d, began)
}

// readKernel returns the addresses of the host. If they cannot be read it
// returns what is believed to be up, good enough to take it down.
func (o *owner) readKernel() []vip.Actual {
	actual, err := o.edges.Kernel.Addresses()
	o.read = err == nil
	if err != nil {
		o.again("addresses cannot be read", err)
		actual = nil
		for _, u := range o.up {
			actual = append(actual, vip.Actual{Address: u.Host(), Ours: true, ValidLeft: time.Hour})
		}
	}
	clear(o.present)
	for _, a := range actual {
		if a.Ours {
			o.present[a.IP()] = true
		}
	}
	return actual
}

// again makes the owner try the kernel again soon.
func (o *owner) again(what string, err error) {
	o.look = true
	o.wakeBy(o.now().Add(retryKernel))
	if err != nil {
		o.journal.error(what, "err", err)
	}
}

// forget drops addresses that are neither there nor wanted.
func (o *owner) forget(actual []vip.Actual) {
	if !o.read {
		return
	}
	wanted := make(map[string]bool, len(o.wanted))
	for _, w := range o.wanted {
		wanted[w.IP().String()] = true
	}
	for ip := range o.up {
		if !o.present[ip] && !wanted[ip.String()] {
			delete(o.up, ip)
			o.dirty = true
		}
	}
}

// letGo sends a release for each grant that has to go, and a confirmation for
// each address that left its set, once nothing of it is up (agent rule 5).
func (o *owner) letGo(d decision) {
	if !o.read {
		return // not confirmed
	}
	var releases []giveUp
	for _, g := range d.giveUp {
		if o.anyUp(g.grant) {
			continue
		}
		releases = append(releases, g)
		o.setFloors[g.Set] = max(o.setFloors[g.Set], g.Epoch)
		for _, c := range g.Addresses {
			o.floor(c, c.epoch(g.grant))
		}
	}
	var removals []retired
	for _, r := range d.retired {
		if o.present[r.address] {
			continue
		}
		removals = append(removals, r)
		// Whoever gets it next gets it in an entry after this view, so the
		// view's index shuts out every older one, also a grant never seen here.
		o.addressFloors[r.address] = max(o.addressFloors[r.address], o.view.index)
	}
	if len(releases)+len(removals) == 0 || !o.save() {
		return // agent rule 5: the floor is written before anything is sent
	}
	now := o.now()
	for _, g := range releases {
		o.tasks.release(g, now)
	}
	for _, r := range removals {
		o.tasks.confirm(r, now)
	}
}

func (o *owner) floor(c claimed, epoch uint64) {
	ip := c.Prefix.Addr()
	o.addressFloors[ip] = max(o.addressFloors[ip], epoch)
}

// anyUp says whether an address of the grant is up, or one that was raised
// for its set.
func (o *owner) anyUp(g grant) bool {
	for _, c := range g.Addresses {
		if o.present[c.Prefix.Addr()] {
			return true
		}
	}
	for ip, u := range o.up {
		if u.set == g.Set && o.present[ip] {
			return true
		}
	}
	return false
}

// account brings what is held up to date and logs the differences.
func (o *owner) account(d decision, began lease.Time) {
	now := o.now()
	counts := make(map[string]Holding)
	want := make(map[string]int)
	for _, w := range d.wanted {
		want[w.Set]++
		ip := w.IP()
		u, ok := o.up[ip]
		if !ok && o.present[ip] { // up as wanted, but not by us: adopted
			u = upAddress{Address: w.Address, set: w.Set}
		} else if !ok {
			continue
		}
		if u.epoch != w.Epoch || u.session != d.session[w.Set] || u.set != w.Set || o.present[ip] && !u.confirmed {
			u.set, u.epoch, u.session = w.Set, w.Epoch, d.session[w.Set]
			u.confirmed = u.confirmed || o.present[ip]
			o.dirty = true
		}
		o.up[ip] = u
		if u.confirmed {
			h := counts[w.Set]
			counts[w.Set] = Holding{w.Set, u.session, u.epoch, h.Addresses + 1}
		}
	}
	for _, set := range sortedKeys(o.held) {
		h, was := counts[set], o.held[set]
		if h.Epoch == was.Epoch || was.Addresses == 0 {
			continue
		}
		cause := d.causes[set]
		if cause == "" {
			cause = "the grant is gone"
		}
		o.journal.info("lowered", "set", set, "epoch", was.Epoch, "cause", cause, "took", now.Sub(began))
	}
	for _, set := range sortedKeys(counts) {
		h, was := counts[set], o.held[set]
		if h.Addresses == want[set] && (h.Epoch != was.Epoch || h.Addresses != was.Addresses) {
			o.fitness.raised(set)
			o.journal.info("raised", "set", set, "epoch", h.Epoch, "addresses", h.Addresses, "took", now.Sub(o.since))
		}
	}
	o.held = counts
	up := make(map[netip.Addr]bool, len(o.up))
	for ip, u := range o.up {
		if u.confirmed {
			up[ip] = true
		}
	}
	o.holds.Store(&up)
}
