package router

import (
	"reflect"

	"holdfast/vipagent/keepalived"
	"holdfast/vipagent/vrrp"
)

// Reload makes another configuration the current one. Instances are the same if
// interface, family and VRID are: they keep their state and the addresses that are in
// both, without a packet lost. It may be called while Run runs, from any goroutine.
func (r *Router) Reload(c *keepalived.Config) {
	r.post(func() { r.reload(c) })
}

func (r *Router) reload(c *keepalived.Config) {
	if r.stopping {
		return
	}
	before := r.current.states()
	r.install(c)
	r.readLinks()
	r.statics.change(r, c)
	if c.Global.FIFOStatesOnReload {
		r.notifier.same(before)
	}
	r.log.Info("configuration reloaded", "instances", len(c.Instances))
}

// change brings the instances that were there before in line with their new
// configuration: first everything down that is not wanted any more, so that an address
// may move from one to another, then up what is new.
func (s *setup) change() {
	for _, in := range s.instances {
		in.lower()
	}
	for _, in := range s.instances {
		if m := in.machineConfig(); !reflect.DeepEqual(m, in.machine.Config()) {
			in.step(vrrp.Reconfigure{Config: m})
		}
		if in.begun && in.group == nil {
			in.step(vrrp.Follow{State: in.alone()})
		} else if in.begun {
			in.step(vrrp.Startup{}) // it has begun: this only brings the members together
		}
		if !in.begun {
			in.priority = in.conf.Priority
			if in.router.started {
				in.clear()
			}
			continue
		}
		in.priority = in.machine.Status().Priority
		if added := in.raise(); len(added) > 0 {
			in.bursts.start(in.conf.GARP.Delay, in.conf.GARP.Repeat)
		}
	}
}

// alone is where an instance goes that has left a group which kept it in Fault; for
// all others it is where they are.
func (in *instance) alone() vrrp.State {
	if s := in.machine.State(); s != vrrp.Fault {
		return s
	}
	return vrrp.Backup
}

// retire ends an instance that the new configuration does not have.
func (in *instance) retire() {
	in.group = nil
	in.step(vrrp.Shutdown{})
	in.lower()
	in.bursts.stop()
	in.disconnect()
	in.router.agenda.cancel(&in.timer)
	word := "FAULT" // what Keepalived says unless told otherwise
	if in.conf.Notify.Deleted != nil {
		word = wordDeleted
	}
	in.router.notifier.instance(in, word)
	in.router.log.Info("instance removed", "instance", in.conf.Name)
}

// statics are the addresses, routes and rules that do not depend on a state.
type statics struct{ has holdings }

// change makes those of a configuration the current ones.
func (s *statics) change(r *Router, c *keepalived.Config) {
	want := holdings{c.StaticAddresses, c.StaticRoutes, c.StaticRules}
	if err := r.remove(s.has.minus(want)); err != nil {
		r.log.Error("cannot take down static addresses, routes or rules", "error", err)
	}
	s.has = s.has.minus(s.has.minus(want))
	s.add(r, want.minus(s.has))
}

func (s *statics) add(r *Router, missing holdings) {
	got, err := r.add(missing)
	if err != nil {
		r.log.Error("cannot bring up static addresses, routes or rules", "error", err)
		r.repairSoon()
	}
	s.has.addresses = append(s.has.addresses, got.addresses...)
	s.has.routes = append(s.has.routes, got.routes...)
	s.has.rules = append(s.has.rules, got.rules...)
}

// putBack brings back what somebody has deleted, and what could not be added before.
func (s *statics) putBack(r *Router) {
	if r.current.config == nil || r.stopping {
		return
	}
	for _, a := range s.has.addresses {
		if !a.NoTrack && !r.links[a.Interface].has(a.Prefix.Addr()) {
			s.has.addresses = minus(s.has.addresses, []keepalived.Address{a}, addressKey)
		}
	}
	c := r.current.config
	if missing := (holdings{c.StaticAddresses, c.StaticRoutes, c.StaticRules}).minus(s.has); r.started || len(s.has.addresses) > 0 {
		s.add(r, missing)
	}
}
