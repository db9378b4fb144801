package router

// promotion is an interface whose secondary addresses the kernel promotes because an
// instance asks for it (promote_secondaries).
type promotion struct {
	index int  // of the interface
	was   bool // before
}

// promote sets promote_secondaries on the interfaces of the instances that ask for it,
// and sets it back on those where none does any more.
func (r *Router) promote() {
	wanted := make(map[string]bool)
	for _, in := range r.current.instances {
		name := in.device()
		l, there := r.links[name]
		if !in.conf.PromoteSecondary || in.conf.IPv6 || !there {
			continue
		}
		wanted[name] = true
		if p, done := r.promoted[name]; done && p.index == l.Index {
			continue
		}
		was, err := r.host.Addresses.Promote(name, true)
		if err != nil {
			r.log.Error("promote_secondaries is not set", "instance", in.conf.Name, "interface", name, "error", err)
		}
		r.promoted[name] = promotion{l.Index, was || err != nil} // not again for each event
	}
	r.demote(wanted)
}

// demote sets promote_secondaries back on all interfaces but those.
func (r *Router) demote(but map[string]bool) {
	for name, p := range r.promoted {
		if but[name] {
			continue
		}
		delete(r.promoted, name)
		if l, there := r.links[name]; p.was || !there || l.Index != p.index {
			continue
		}
		if _, err := r.host.Addresses.Promote(name, false); err != nil {
			r.log.Error("promote_secondaries is not set back", "interface", name, "error", err)
		}
	}
}
