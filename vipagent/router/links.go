package router

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"holdfast/vipagent/keepalived"
	"holdfast/vipagent/vrrp"
)

var errNoSocket = errors.New("the interface or its address is missing")

// readLinks reads the interfaces and draws the conclusions.
func (r *Router) readLinks() {
	list, err := r.host.Links.Links()
	if err != nil {
		r.log.Error("cannot read interfaces", "error", err)
		r.repairSoon()
		return
	}
	links := make(map[string]Link, len(list))
	for _, l := range list {
		links[l.Name] = l
	}
	back := cameBack(r.links, links)
	r.links = links
	r.makeMACs()
	r.promote()
	r.review()
	for _, in := range r.current.instances {
		in.putBack()
		if back {
			in.has.routes = nil
			in.announce(in.raise())
		}
	}
	if back {
		r.statics.has.routes = nil
	}
	r.statics.putBack(r)
}

// cameBack says whether an interface works again or was made anew. The kernel drops the
// routes of one that goes, and does not say which they were; to add one that is still
// there does nothing.
func cameBack(before, now map[string]Link) bool {
	for name, l := range now {
		if was, known := before[name]; l.Up && (!known || !was.Up || was.Index != l.Index) {
			return len(before) > 0 // else it is the first look
		}
	}
	return false
}

// makeMACs makes the interfaces with virtual MAC addresses that are missing.
func (r *Router) makeMACs() {
	var made []*instance
	for _, in := range r.current.instances {
		v := in.conf.VMAC
		if v == nil || r.host.MACs == nil {
			continue
		}
		_, parent := r.links[in.conf.Interface]
		if l, there := r.links[in.vmacName()]; !parent || there && l.Up && in.made == l.Index {
			continue
		}
		m := in.mac()
		if err := r.host.MACs.Add(m); err != nil {
			if in.why == "" {
				r.log.Error("cannot make interface", "instance", in.conf.Name, "interface", m.Name, "error", err)
			}
			continue
		}
		made = append(made, in)
	}
	if len(made) == 0 {
		return
	}
	if list, err := r.host.Links.Links(); err == nil {
		for _, l := range list {
			r.links[l.Name] = l
		}
	}
	for _, in := range made {
		in.made = r.links[in.vmacName()].Index
	}
}

// mac is the interface with the virtual MAC address as it should be. Advertisements
// over IPv6 leave on it from a link-local address, which its parent lends: one that is
// made from the virtual MAC would be the same on all routers.
func (in *instance) mac() MAC {
	m := MAC{Name: in.vmacName(), Parent: in.conf.Interface, VRID: in.conf.VRID, IPv6: in.conf.IPv6, VMAC: *in.conf.VMAC, Source: in.conf.VMAC.Address}
	for _, a := range slices.Concat(in.conf.Addresses, in.conf.Excluded) {
		m.BothFamilies = m.BothFamilies || a.Prefix.Addr().Is6() != in.conf.IPv6
	}
	if !m.IPv6 || m.Source.IsValid() {
		return m
	}
	virtual := in.router.current.virtual()
	for _, p := range in.router.links[in.conf.Interface].Addresses {
		if a := p.Addr(); a.Is6() && a.IsLinkLocalUnicast() && !virtual[a] {
			m.Source = p
			break
		}
	}
	return m
}

// sweepMACs deletes the interfaces that a former process has made, also those with a
// name that is wanted: it may have been another instance's, and its MAC address be needed
// under another name. No address is on them any more.
func (r *Router) sweepMACs() {
	if r.host.MACs == nil {
		return
	}
	left, err := r.host.MACs.Left()
	if err != nil {
		r.log.Error("cannot look for interfaces of a former process", "error", err)
	}
	for _, name := range left {
		if err := r.host.MACs.Remove(name); err != nil {
			r.log.Error("cannot delete interface", "interface", name, "error", err)
		}
	}
}

// putBack brings back addresses that somebody has deleted. Keepalived becomes Backup
// then and takes over again after its skew time; to put them back at once is shorter
// for the clients, and no peer can slip in.
func (in *instance) putBack() {
	gone := in.missing(in.has.addresses)
	if len(gone) == 0 {
		return
	}
	now := in.router.host.Clock.Now()
	if in.restored != 0 && now-in.restored < repairEvery { // not in a race with who deletes them
		in.router.repairSoon()
		return
	}
	in.restored = now
	in.has.addresses = minus(in.has.addresses, gone, addressKey)
	for _, a := range gone {
		in.router.log.Warn("somebody has deleted an address: putting it back", "instance", in.conf.Name, "address", a.Prefix, "interface", a.Interface)
	}
	in.announce(in.raise())
}

// missing returns the tracked ones of a list that are not in the kernel.
func (in *instance) missing(list []keepalived.Address) []keepalived.Address {
	var gone []keepalived.Address
	for _, a := range list {
		if !a.NoTrack && !in.router.links[a.Interface].has(a.Prefix.Addr()) {
			gone = append(gone, a)
		}
	}
	return gone
}

func (l Link) has(a netip.Addr) bool {
	return slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Addr() == a.WithZone("") })
}

// virtual are all addresses that instances may have up: none is a host's own.
func (s *setup) virtual() map[netip.Addr]bool {
	all := make(map[netip.Addr]bool)
	for _, in := range s.instances {
		for _, a := range slices.Concat(in.conf.Addresses, in.conf.Excluded) {
			all[a.Prefix.Addr()] = true
		}
	}
	return all
}

// ownAddress returns the source of the instance's advertisements, zero if it has none
// now.
func (in *instance) ownAddress(virtual map[netip.Addr]bool) netip.Addr {
	name := in.conf.Interface
	if in.conf.IPv6 && !in.unicast() {
		name = in.sender()
	}
	l := in.router.links[name]
	if s := in.conf.Source; s.IsValid() {
		if in.conf.TrackSource && !l.has(s) {
			return netip.Addr{}
		}
		return s
	}
	wide := in.unicast() && in.conf.IPv6 && !in.conf.Peers[0].Address.IsLinkLocalUnicast()
	var spare netip.Addr
	for _, p := range l.Addresses {
		a := p.Addr()
		if a.Is6() != in.conf.IPv6 || a.Is6() && a.IsLinkLocalUnicast() == wide {
			continue
		}
		if !virtual[a] {
			return a
		}
		if in.conf.Priority == vrrp.PriorityOwner && !spare.IsValid() {
			spare = a // the owner's address is the virtual one
		}
	}
	return spare
}

// ownFault says what of the instance itself is broken, "" = nothing.
func (in *instance) ownFault() string {
	if !in.conf.DontTrackPrimary {
		for _, name := range []string{in.conf.Interface, in.device()} {
			if why := in.router.linkFault(name); why != "" {
				return why
			}
		}
	}
	if in.conf.VMAC != nil && in.router.host.MACs == nil {
		return "use_vmac is not possible here"
	}
	if in.conf.UnicastFault && !in.unicast() {
		return "no unicast peer"
	}
	if !in.source.IsValid() {
		return "no source address on " + in.conf.Interface
	}
	for _, a := range slices.Concat(in.conf.Addresses, in.conf.Excluded, in.router.current.staticsOf(in.conf.Name)) {
		if a.Interface != "" && a.Interface != in.conf.Interface && !a.NoTrack {
			if why := in.router.linkFault(a.Interface); why != "" {
				return why
			}
		}
	}
	return ""
}

// staticsOf returns the static addresses that an instance depends on, by a
// track_group.
func (s *setup) staticsOf(name string) []keepalived.Address {
	var out []keepalived.Address
	for _, a := range s.config.StaticAddresses {
		for _, g := range s.config.TrackGroups {
			if a.TrackGroup != "" && g.Name == a.TrackGroup && slices.Contains(g.Members, name) {
				out = append(out, a)
			}
		}
	}
	return out
}

func (r *Router) linkFault(name string) string {
	l, there := r.links[name]
	switch {
	case !there:
		return "interface " + name + " is missing"
	case !l.Up:
		return "interface " + name + " is down"
	}
	return ""
}

// repairEvery is how often what failed is tried again.
const repairEvery = time.Second

func (r *Router) repairSoon() {
	if r.repair.index == 0 && !r.stopping {
		r.agenda.set(&r.repair, r.host.Clock.Now()+repairEvery)
	}
}

// repairAll tries again what failed.
func (r *Router) repairAll() {
	r.readLinks()
	for _, in := range r.current.instances {
		in.lower()
		in.announce(in.raise())
	}
}

// ofInterfaces makes what depends on interfaces hear of them.
func (r *Router) ofInterfaces() {
	for _, key := range slices.SortedFunc(maps.Keys(r.current.factors), factorKey.compare) {
		if key.kind == kindInterface {
			f := r.current.factors[key]
			f.state = down
			if r.links[key.name].Up {
				f.state = up
			}
		}
	}
}
