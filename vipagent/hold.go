package vipagent

import (
	"errors"
	"fmt"
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

// obstacleError says why this host cannot hold a set.
type obstacleError struct{ reason string }

func (e *obstacleError) Error() string { return e.reason }

// resolve returns what is wanted of a grant that may be acted upon.
func (o *owner) resolve(g grant) ([]vip.Wanted, error) {
	if err := o.readLinks(); err != nil {
		return nil, err
	}
	var out []vip.Wanted
	for _, c := range g.Addresses {
		// Agent rule 8: an address that left the set and came back has a newer
		// claim; in a late view it has the one that was given up.
		if c.epoch(g) <= o.addressFloors[c.Prefix.Addr()] {
			continue
		}
		iface, err := o.interfaceOf(c)
		if err != nil {
			return nil, err
		}
		out = append(out, vip.Wanted{Address: vip.Address{Prefix: c.Prefix, Interface: iface}, Set: g.Set, Epoch: g.Epoch})
	}
	return out, nil
}

// interfaceOf returns where an address belongs. One that is up stays where it
// is as long as the interface is there.
func (o *owner) interfaceOf(c claimed) (string, error) {
	if name, ok := o.staysOn(c); ok {
		return name, nil
	}
	name := c.Interface
	if name == "" {
		if o.foundErr != nil {
			return "", o.foundErr
		}
		if name = o.found[c.Prefix]; name == "" {
			return "", &obstacleError{fmt.Sprintf(
				"no interface has an address in a subnet that holds %s: give this host one in %s, or name the interface in the VIP set",
				c.Prefix.Addr(), c.Prefix.Masked())}
		}
	}
	switch {
	case !o.links[name]:
		return "", &obstacleError{fmt.Sprintf("interface %s is missing", name)}
	case len(o.config.Interfaces) > 0 && !slices.Contains(o.config.Interfaces, name):
		return "", &obstacleError{fmt.Sprintf("interface %s must not carry VIPs on this host", name)}
	}
	return name, nil
}

// staysOn returns the interface on which an address is up.
func (o *owner) staysOn(c claimed) (string, bool) {
	u, ok := o.up[c.Prefix.Addr()]
	return u.Interface, ok && o.links[u.Interface] && (c.Interface == "" || c.Interface == u.Interface)
}

// findInterfaces looks up, in one go, the interfaces of all addresses that name
// none: for a thousand of them one by one would take seconds.
func (o *owner) findInterfaces(grants []grant) {
	var prefixes []netip.Prefix
	for _, g := range grants {
		for _, c := range g.Addresses {
			if _, ok := o.staysOn(c); !ok && c.Interface == "" {
				prefixes = append(prefixes, c.Prefix)
			}
		}
	}
	o.found, o.foundErr = make(map[netip.Prefix]string, len(prefixes)), nil
	if len(prefixes) == 0 {
		return
	}
	names, err := o.edges.Links.InterfacesFor(prefixes)
	if err == nil && len(names) != len(prefixes) {
		err = fmt.Errorf("%d answers to %d questions", len(names), len(prefixes))
	}
	if err != nil {
		o.foundErr = fmt.Errorf("find interfaces: %w", err)
		return
	}
	for i, p := range prefixes {
		o.found[p] = names[i]
	}
}

func (o *owner) readLinks() error {
	if o.linksRead {
		return nil
	}
	names, err := o.edges.Links.Interfaces()
	if err != nil {
		return fmt.Errorf("read interfaces: %w", err)
	}
	clear(o.links)
	for _, name := range names {
		o.links[name] = true
	}
	o.linksRead = true
	return nil
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
	ip := op.Address.IP()
	if u, ok := o.up[ip]; ok && u.confirmed && u.epoch == op.Epoch && u.Address == op.Address {
		o.restored++
		o.journal.warn("address was removed by somebody else: restored", "address", op.Address, "set", op.Set)
	}
	o.up[ip] = upAddress{Address: op.Address, set: op.Set, session: session, epoch: op.Epoch}
}

// raisePiece adds some addresses; false means that the time for it is over.
func (o *owner) raisePiece(ops []vip.Op) bool {
	now := o.now()
	addresses := make([]vip.Address, len(ops))
	until := never
	for i, op := range ops {
		addresses[i] = op.Address
		session := o.up[op.Address.IP()].session
		if !o.mayAct(session, now) {
			return false
		}
		until = min(until, o.actUntil(session))
	}
	valid, _ := vip.Lifetime(until.Sub(now), len(o.wanted), 0)
	err := o.edges.Kernel.Add(addresses, valid)
	for _, op := range ops {
		u := o.up[op.Address.IP()]
		u.confirmed = err == nil
		o.up[op.Address.IP()] = u
		if after := o.now(); !o.mayAct(u.session, after) {
			if err := o.edges.Kernel.Remove(addresses); err != nil {
				o.again("addresses are not down", err)
			}
			return false
		}
	}
	if err != nil {
		o.addFailed(ops, err)
		addresses = o.thoseUp(addresses) // some may have worked
	}
	if len(addresses) == 0 {
		return true
	}
	if err := o.edges.Kernel.Announce(addresses); err != nil {
		o.journal.warn("not announced", "err", err)
	}
	o.refresher.Refreshed(time.Duration(now), valid, addresses)
	o.announcer.raised(now, addresses)
	return true
}

// thoseUp reads back which of the addresses are up.
func (o *owner) thoseUp(addresses []vip.Address) []vip.Address {
	o.readKernel()
	if !o.read {
		return nil
	}
	var out []vip.Address
	for _, a := range addresses {
		if u, ok := o.up[a.IP()]; ok && o.present[a.IP()] {
			u.confirmed = true
			o.up[a.IP()] = u
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
			for _, g := range o.view.grants {
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

// setGuard follows the number of addresses that would have to be taken down. It
// counts all that are granted, so that it does not shrink when they are.
func (o *owner) setGuard() {
	if o.cur == nil {
		return
	}
	granted := 0
	for _, g := range o.view.grants {
		if o.slotOf(g.Session) != nil {
			granted += len(g.Addresses)
		}
	}
	o.guard.Store(int64(guardFor(o.cur.TTL, max(granted, len(o.up)))))
}

// maintain refreshes the kernel's lifetimes and announces what is due.
func (o *owner) maintain(now lease.Time) {
	o.setGuard()
	var up []vip.Address
	until := never
	for _, u := range o.up {
		if u.confirmed && o.mayAct(u.session, now) {
			up = append(up, u.Address)
			until = min(until, o.actUntil(u.session))
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
		if err := o.edges.Kernel.Announce(piece); err != nil {
			o.journal.warn("not announced", "err", err)
		}
	}
	if next != 0 {
		o.wakeBy(next)
	}
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
		return !o.mayAct(o.up[a.IP()].session, now)
	})
}
