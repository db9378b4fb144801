package vipagent

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/fault"
	"holdfast/vipagent/tenure"
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
	giveUp  []tenure.GiveUp
	retired []tenure.Retired
	causes  map[string]string // why a set is not wanted, for the log
}

// decide compares what the quorum says with what may be. It changes no address.
func (o *owner) decide(now lease.Time) decision {
	d := decision{session: make(map[string]uint64), causes: make(map[string]string)}
	if o.book.Stopping() {
		for set := range o.held {
			d.causes[set] = "the agent stops"
		}
		return d
	}
	may := o.book.Decide(o.moment(now), o.veto)
	for _, g := range may.GiveUp {
		d.dismiss(o, g)
	}
	for _, g := range may.Lapsed {
		d.causes[g.Set] = "the session lapsed"
	}
	o.findInterfaces(may.Hold)
	for _, g := range may.Hold {
		if cause, yes := o.outranked(g); yes {
			d.causes[g.Set] = cause
			continue
		}
		wanted, err := o.resolve(g)
		var none *obstacleError
		switch {
		case errors.As(err, &none):
			o.fitness.impede(now, obstacle{grant: g, reason: none.Error(), where: true})
			d.dismiss(o, tenure.GiveUp{Grant: g, Cause: none.Error()})
		case err != nil: // not known now: ask again
			o.look = true
			o.wakeBy(now.Add(retryKernel))
			o.journal.warn("interface not found out", "set", g.Set, "err", err)
		default:
			d.wanted = append(d.wanted, wanted...)
			d.session[g.Set] = g.Session
		}
	}
	for _, r := range may.Retired {
		if !o.tasks.confirming(r) {
			d.retired = append(d.retired, r)
		}
	}
	return d
}

// dismiss takes a grant onto the list of those to be released, unless that is
// under way.
func (d *decision) dismiss(o *owner, g tenure.GiveUp) {
	d.causes[g.Set] = g.Cause
	if !o.tasks.releasing(g.Grant) {
		d.giveUp = append(d.giveUp, g)
	}
}

// veto says whether the checks or an obstacle speak against holding a set.
func (o *owner) veto(set string) (cause string, vetoed bool) {
	c := o.fitness.of(set)
	return c.Reason, c.Veto && !o.undecided(c)
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
		fault.Point(fault.Close)
		if err := o.shield.shut(gone); err != nil {
			o.journal.error("fence not shut", "err", err)
		}
		failed = o.edges.Kernel.Remove(gone)
		// Agent rule 5: confirmed by reading back, and only by that.
		actual = o.readKernel()
		ops = vip.Plan(d.wanted, actual, vip.Options{})
	}
	o.wanted = d.wanted
	o.forget()
	down := o.read && len(vip.Of(ops, vip.Remove)) == 0
	if down {
		o.book.Swept()
	} else {
		o.again("addresses are not down", failed)
	}
	o.letGo(d)
	if o.read {
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
		for _, u := range o.book.Up() {
			actual = append(actual, vip.Actual{Address: u.Host(), Ours: true, ValidLeft: time.Hour})
		}
	}
	clear(o.present)
	clear(o.others)
	for _, a := range actual {
		if a.Ours {
			o.present[a.IP()] = true
		} else {
			o.others[a.IP()] = true
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
func (o *owner) forget() {
	clear(o.wantedAt)
	for _, w := range o.wanted {
		o.wantedAt[w.IP()] = true
	}
	if !o.read {
		return
	}
	o.book.Forget(o.isPresent, func(ip netip.Addr) bool { return o.wantedAt[ip] })
	if err := o.shield.forget(func(ip netip.Addr) bool { return o.present[ip] || o.wantedAt[ip] }); err != nil {
		o.again("addresses that are down are still guarded", err)
	}
}

// letGo raises the floors of each grant that has to go, and of each address that
// left its set, once nothing of it is up, and writes them down; then they can be
// sent (agent rule 5).
func (o *owner) letGo(d decision) {
	if !o.read {
		return // not confirmed
	}
	if o.book.LetGo(d.giveUp, d.retired, o.isPresent) {
		o.save()
	}
}

// account brings what is held up to date and logs the differences.
func (o *owner) account(d decision, began lease.Time) {
	now := o.now()
	counts := make(map[string]Holding)
	want := make(map[string]int)
	for _, w := range d.wanted {
		want[w.Set]++
		if u, ok := o.book.Keep(w, d.session[w.Set], o.present[w.IP()]); ok && u.Confirmed {
			h := counts[w.Set]
			counts[w.Set] = Holding{w.Set, u.Session, u.Epoch, h.Addresses + 1}
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
	up := make(map[netip.Addr]bool, len(o.book.Up()))
	for _, u := range o.book.Up() {
		if u.Confirmed {
			up[u.IP()] = true
		}
	}
	o.holds.Store(&up)
}
