package router

import (
	"slices"

	"holdfast/vipagent/keepalived"
	"holdfast/vipagent/vrrp"
)

// group is instances that change their state together.
type group struct {
	conf    keepalived.SyncGroup
	router  *Router
	members []*instance
	sync    *vrrp.SyncGroup
	state   vrrp.State // as told to others
}

// step gives one member an event; others may follow.
func (g *group) step(in *instance, e vrrp.Event) {
	at := slices.Index(g.members, in)
	before := in.machine.State()
	byMember := make([][]vrrp.Action, len(g.members))
	todo := g.sync.Step(at, e, g.router.host.Clock.Now())
	for _, a := range todo {
		byMember[a.Member] = append(byMember[a.Member], a.Action)
	}
	in.stats.Step(before, e, byMember[at])
	for i, actions := range byMember {
		if i != at && len(actions) > 0 {
			g.members[i].stats.Step(vrrp.Initialize, nil, actions)
		}
	}
	for _, a := range todo {
		g.members[a.Member].do(a.Action)
	}
	for i, m := range g.members {
		if i == at || len(byMember[i]) > 0 {
			m.schedule()
		}
	}
	g.settle()
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

// common is the state of all members: Active if all are, Fault if one is, Initialize
// until all have begun.
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
		case vrrp.Backup:
		}
	}
	if active == len(g.members) {
		return vrrp.Active
	}
	return state
}
