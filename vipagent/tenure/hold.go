package tenure

import (
	"net/netip"
	"slices"

	"holdfast/vipagent/vip"
)

type addressFloors = Floors[netip.Addr]

// Present says whether the last reading of the kernel has an address of ours.
type Present func(netip.Addr) bool

// Veto says whether something on this host speaks against holding a set, and what.
type Veto func(set string) (cause string, vetoed bool)

// Up is an address that was raised and not yet seen down. Its Session is the one
// whose deadline counts for it (agent rule 4).
type Up struct {
	vip.Address
	Set            string
	Session, Epoch uint64
	Confirmed      bool // seen up, or added without an error
}

// Decision is what is to be brought about.
type Decision struct {
	Hold    []Grant // may be up now, as far as [Book.Raisable] lets their addresses
	Lapsed  []Grant // must be down and stay ours: their session has no lease now
	GiveUp  []GiveUp
	Retired []Retired // addresses that must be down, and their removal confirmed
}

// GiveUp is a grant to be released once its addresses are confirmed down.
type GiveUp struct {
	Grant
	Cause string
}

// Decide compares what the quorum says with what may be. What it does not name in
// Hold must be down.
func (b *Book) Decide(m Moment, veto Veto) Decision {
	var d Decision
	if b.stopping {
		return d
	}
	for i := range b.view.Grants {
		g := &b.view.Grants[i]
		if !b.Ours(g.Session) {
			continue // of a session that was replaced or has ended: none of ours
		}
		if cause, ok := b.mustGo(g, veto); ok {
			d.GiveUp = append(d.GiveUp, GiveUp{*g, cause})
		} else if b.MayAct(g.Session, m) {
			d.Hold = append(d.Hold, *g)
		} else {
			d.Lapsed = append(d.Lapsed, *g)
		}
	}
	for _, r := range b.view.Retiring {
		if b.Ours(r.Session) {
			d.Retired = append(d.Retired, r)
		}
	}
	return d
}

// mustGo says whether a grant of ours has to be released, and why.
func (b *Book) mustGo(g *Grant, veto Veto) (cause string, ok bool) {
	if veto != nil {
		if cause, ok = veto(g.Set); ok {
			return cause, true
		}
	}
	if g.Recalled {
		return g.Cause, true
	}
	// Agent rule 3. At or below the floor its addresses were taken down in order to
	// be released, so it is never raised again; whoever did that may have died
	// before the release was sent, and a repeated one does no harm.
	if g.Epoch <= b.setFloors.Of(Set(g.Set)) {
		return "released before", true
	}
	return "", false
}

// Raisable says whether an address of a grant that may be held may be up. One that
// left the set and came back has a newer claim; in a late view it has the one that
// was given up (agent rule 8).
func (b *Book) Raisable(g *Grant, c Claimed) bool {
	return c.Epoch(g) > b.addressFloors.Of(c.Prefix.Addr())
}

// Parting is what is confirmed down and may be told to the quorum.
type Parting struct {
	Releases []GiveUp
	Removals []Retired
}

// Empty says whether there is nothing to tell.
func (p Parting) Empty() bool { return len(p.Releases)+len(p.Removals) == 0 }

// LetGo raises the floors of those of the given grants and addresses of which
// nothing is up, by a reading of the kernel after the last change of it. It says
// whether there were any: then the file has to be written, and [Book.Stored] returns
// them. What was let go before and is not stored yet has to be given again.
func (b *Book) LetGo(giveUp []GiveUp, retired []Retired, present Present) bool {
	b.parting = Parting{}
	var sets []floor[Set]
	var addresses []floor[netip.Addr]
	for _, g := range giveUp {
		if b.anyUp(&g.Grant, present) {
			continue
		}
		b.parting.Releases = append(b.parting.Releases, g)
		sets = append(sets, floor[Set]{Set(g.Set), g.Epoch})
		for _, c := range g.Addresses {
			addresses = append(addresses, floor[netip.Addr]{c.Prefix.Addr(), c.Epoch(&g.Grant)})
		}
	}
	for _, r := range retired {
		if present(r.Address) {
			continue
		}
		b.parting.Removals = append(b.parting.Removals, r)
		// Whoever gets it next gets it in an entry after this view, so the view's
		// index shuts out every older one, also a grant never seen here.
		addresses = append(addresses, floor[netip.Addr]{r.Address, b.view.Index})
	}
	if b.parting.Empty() {
		return false
	}
	b.setFloors, b.addressFloors = b.setFloors.raised(sets), b.addressFloors.raised(addresses)
	b.dirty = true
	return true
}

// anyUp says whether an address of the grant is up, or one that was raised for its
// set.
func (b *Book) anyUp(g *Grant, present Present) bool {
	for _, c := range g.Addresses {
		if present(c.Prefix.Addr()) {
			return true
		}
	}
	for i := range b.up {
		if b.up[i].Set == g.Set && present(b.up[i].IP()) {
			return true
		}
	}
	return false
}

func (b *Book) upUnder(session uint64, present Present) bool {
	return slices.ContainsFunc(b.up, func(u Up) bool { return u.Session == session && present(u.IP()) })
}

// Up returns what was raised and not yet seen down, by address; it must not be
// changed.
func (b *Book) Up() []Up { return b.up }

// UpAt returns what was raised at an address.
func (b *Book) UpAt(ip netip.Addr) (Up, bool) {
	if i, ok := b.find(ip); ok {
		return b.up[i], true
	}
	return Up{}, false
}

func (b *Book) find(ip netip.Addr) (int, bool) {
	return slices.BinarySearchFunc(b.up, ip, func(u Up, ip netip.Addr) int { return u.IP().Compare(ip) })
}

func (b *Book) put(u Up) {
	if i, ok := b.find(u.IP()); ok {
		b.up[i] = u
	} else {
		b.up = slices.Insert(b.up, i, u)
	}
}

// Expect notes that an address is about to be raised. The file must be written
// before it is: else a successor would take it down.
func (b *Book) Expect(u Up) {
	b.put(u)
	b.dirty = true
}

// Confirm notes whether an address that was expected is up, as far as is known.
func (b *Book) Confirm(ip netip.Addr, up bool) {
	if i, ok := b.find(ip); ok {
		b.up[i].Confirmed = up
	}
}

// Keep notes that an address is wanted and, unless it is only expected, up, under
// this grant and this session, which from now on is the one whose deadline counts
// for it. ok is false if it is neither.
func (b *Book) Keep(w vip.Wanted, session uint64, present bool) (u Up, ok bool) {
	i, known := b.find(w.IP())
	switch {
	case known:
		u = b.up[i]
	case present: // up as wanted, but not by us: adopted
		u = Up{Address: w.Address, Set: w.Set}
	default:
		return Up{}, false
	}
	if u.Epoch != w.Epoch || u.Session != session || u.Set != w.Set || present && !u.Confirmed {
		u.Set, u.Epoch, u.Session = w.Set, w.Epoch, session
		u.Confirmed = u.Confirmed || present
		b.dirty = true
	}
	b.put(u)
	return u, true
}

// Forget drops the addresses that are neither there nor wanted.
func (b *Book) Forget(present, wanted Present) {
	before := len(b.up)
	b.up = slices.DeleteFunc(b.up, func(u Up) bool { return !present(u.IP()) && !wanted(u.IP()) })
	b.dirty = b.dirty || len(b.up) != before
}
