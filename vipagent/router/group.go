package router

import (
	"time"

	"holdfast/vipagent/keepalived"
	"holdfast/vipagent/vrrp"
)

// group is instances that change their state together.
//
// A fault of one is a fault of all (see [Router.review]). A member whose timer has run
// out waits until the timers of all have: as long as one of them hears an Active
// router, the others leave the field to that router's host. And who yields takes the
// others along.
type group struct {
	conf    keepalived.SyncGroup
	router  *Router
	members []*instance
	state   vrrp.State
	lead    vrrp.State // where a member has just gone; Initialize = nowhere
}

// ready tells whether all members may be Active now.
func (g *group) ready(now time.Duration) bool {
	for _, m := range g.members {
		due, set := m.machine.Due()
		if m.machine.State() != vrrp.Active && (m.machine.State() != vrrp.Backup || !set || due > now) {
			return false
		}
	}
	return true
}

// moved: a member has changed its state.
func (g *group) moved(to vrrp.State) {
	if to == vrrp.Active || to == vrrp.Backup && g.state == vrrp.Active {
		g.lead = to
	}
}

// settleGroups takes the other members along.
func (r *Router) settleGroups() {
	for _, g := range r.current.groups {
		for range len(g.members) {
			lead := g.lead
			if g.lead = vrrp.Initialize; lead == vrrp.Initialize {
				break
			}
			for _, m := range g.members {
				s := m.machine.State()
				if s != lead && (s == vrrp.Active || s == vrrp.Backup) {
					m.step(vrrp.Follow{State: lead})
				}
			}
		}
		g.settle()
	}
}

// settle tells a change of the group's state.
func (g *group) settle() {
	state := g.common()
	if state == g.state || state == vrrp.Initialize {
		return
	}
	g.state = state
	g.router.log.Info("state changed", "group", g.conf.Name, "to", stateName(state))
	g.router.notifier.group(g, stateName(state))
}

// common is the state of all members: Active if all are, Fault if one is.
func (g *group) common() vrrp.State {
	active := 0
	state := vrrp.Backup
	for _, m := range g.members {
		switch m.machine.State() {
		case vrrp.Initialize:
			return vrrp.Initialize
		case vrrp.Fault:
			state = vrrp.Fault
		case vrrp.Active:
			active++
		}
	}
	if active == len(g.members) {
		return vrrp.Active
	}
	return state
}
