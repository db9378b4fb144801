package sim

import (
	"slices"

	"holdfast/fsm"
)

// slowHosts and fastNodes are the rates at which a deadline is worth least.
var (
	slowHosts = [modelHosts]int64{1, 1}
	fastNodes = [modelNodes]int64{3, 3, 3, 3}
	evenHosts = [modelHosts]int64{1, 1}
	evenNodes = [modelNodes]int64{1, 1, 1, 1}
)

// configurations are what TestCheck visits. more is for a longer campaign.
func configurations(more uint8) []*bounds {
	return slices.Concat(ofQuorum(more), ofAgents(more), ofSessions(more), ofSingleRules(more))
}

// one is a single set with a single address.
var one = [][]int{{0}}

// ofQuorum are those in which coordinators are what goes wrong.
func ofQuorum(more uint8) []*bounds {
	return []*bounds{
		{
			name: "renew, fence, expire", must: "expire",
			about: "late datagrams against fences; clocks at their bounds",
			hosts: 2, active: 1, voters: 3, sets: one, ticks: 4, hostRate: slowHosts, nodeRate: fastNodes, setup: held,
			budget: budget{fences: 2, rounds: 2 + more, late: 1},
		},
		{
			name: "restart and quiet time", must: "expire",
			about: "coordinators forget their promises, and marks that were not written",
			hosts: 2, active: 1, voters: 3, sets: one, ticks: 3, hostRate: slowHosts, nodeRate: fastNodes, setup: held, slowDisk: true,
			budget: budget{fences: 2, rounds: 1 + more, crashes: 2},
		},
		{
			name: "snapshot and restore", must: "expire",
			about: "coordinators go back to old states in which the session is open",
			hosts: 2, active: 1, voters: 3, sets: one, ticks: 2, hostRate: slowHosts, nodeRate: fastNodes, setup: saved,
			budget: budget{fences: 2, rounds: 2 + more, crashes: 2, snapshots: 2},
		},
		{
			name: "configuration 3-2-3", must: "configuration expire",
			about: "a coordinator leaves, and in a campaign another joins then",
			hosts: 1, active: 1, voters: 3, sets: one, ticks: 2, hostRate: slowHosts, nodeRate: fastNodes, setup: held,
			budget:  budget{fences: 2, rounds: 1, changes: 1 + min(more, 1)},
			changes: [][]int{{0, 1}, {0, 1, 3}}[:1+min(more, 1)],
		},
	}
}

// ofAgents are those in which agents and operators are.
func ofAgents(more uint8) []*bounds {
	return []*bounds{
		{
			name: "address edits", must: "put delete confirm grant",
			about: "addresses change sets, sets go and come",
			hosts: 2, active: 2, voters: 1, sets: [][]int{{0}, {1}}, hostRate: evenHosts, nodeRate: evenNodes, setup: held, lag: true,
			budget: budget{grants: 1, edits: 3 + more, jams: 1},
			edits:  edits,
		},
		{
			name: "edits and adoption", must: "put delete confirm",
			about: "an address leaves its set and returns while agents die",
			hosts: 1, active: 1, voters: 1, sets: one, hostRate: evenHosts, nodeRate: evenNodes, setup: held, lag: true,
			budget: budget{grants: 1 + more, edits: 3, kills: 1, starts: 1},
			edits:  edits,
		},
		{
			name: "closing", must: "close grant",
			about: "SIGTERM, SIGKILL on the way, a successor",
			hosts: 2, active: 1, voters: 1, sets: one, ticks: 2, hostRate: slowHosts, nodeRate: fastNodes, setup: held, lag: true,
			budget: budget{grants: 1, rounds: 1 + more, stops: 1, kills: 1, starts: 1, pauses: 1 + more, losses: 1, jams: 1},
		},
		{
			name: "adoption and reboot", must: "release recall expire grant close",
			about: "agents die and come back, with their own release half-way",
			hosts: 2, active: 1, voters: 1, sets: one, ticks: 2, hostRate: slowHosts, nodeRate: fastNodes, setup: held, recalls: true,
			budget: budget{grants: 1, rounds: more, kills: 1, starts: 2, reboots: 1, fences: 1, jams: 1, vetoes: 2},
		},
		{
			name: "pauses and the fence", must: "expire grant",
			about: "the agent stands still between any two acts",
			hosts: 2, active: 1, voters: 1, sets: one, ticks: 3, hostRate: slowHosts, nodeRate: fastNodes, setup: held,
			budget: budget{grants: 1, fences: 1, rounds: 2, pauses: 3 + more, kills: 1, starts: 1},
		},
	}
}

// ofSessions are those in which a session takes the place of another.
func ofSessions(more uint8) []*bounds {
	return []*bounds{
		{
			name: "rebind", must: "open rebind expire",
			about: "one coordinator has marked the session; its grants move to a new one",
			hosts: 1, active: 1, voters: 3, sets: one, ticks: 4, hostRate: slowHosts, nodeRate: fastNodes, setup: marked,
			budget: budget{fences: 1 + more, rounds: 2, sessions: 1},
		},
		{
			name: "rebind without a fence", must: "open rebind expire",
			about: "the same on a host whose kernel helps nothing",
			hosts: 1, active: 1, voters: 3, sets: one, ticks: 5, hostRate: slowHosts, nodeRate: fastNodes, setup: marked, bare: true,
			budget: budget{fences: 1 + more, rounds: 2, sessions: 1},
		},
	}
}

// saved is held, and all coordinators have two snapshots of that.
func saved(m *model) {
	held(m)
	for i := range m.b.voters {
		m.snapshotNode(i)
		m.snapshotNode(i)
	}
}

// marked is held, and at the last moment of its promise one coordinator has marked the
// session, because the renewals did not reach it. The agent has renewed with the others.
func marked(m *model) {
	held(m)
	m.now++
	m.left.rounds++
	m.round(0, 0, 1|1<<2, false)
	m.now++
	m.left.rounds++
	m.round(0, 0, 1|1<<2, false)
	m.fenceNode(2, m.hosts[0].agentSession())
}

// held is where most checks begin: the first host holds the first set.
func held(m *model) {
	all := 0
	for k := range m.b.voters {
		all |= 1 << (2 * k)
	}
	heldBy(m, all)
}

// heldBy is held with that outcome of the first renewals.
func heldBy(m *model, outcome int) {
	for i := range m.b.hosts {
		if i >= m.b.active {
			m.hosts[i].agent = nil
			continue
		}
		m.left.rounds++
		m.round(i, 0, outcome, outcome&2 != 0)
	}
	for s := range m.b.sets {
		if s < m.b.active {
			id := m.hosts[s].agentSession()
			m.commitOps([]fsm.Op{fsm.GrantSet{Set: sets[s], Session: fsm.SessionID(id)}})
		}
	}
	for i := range m.b.voters {
		m.applyNode(i, m.known)
	}
	pauses := m.left.pauses
	m.left.pauses = 0
	for i := range m.b.active {
		m.view(i, 0)
	}
	m.left.pauses = pauses
}

func (h *host) agentSession() uint64 {
	if h.agent == nil {
		return 0
	}
	return h.agent.book.Current().ID
}

// edits are what an operator may do: an address leaves, comes, changes its set; a set
// goes.
var edits = []func(m *model) []fsm.Op{
	func(m *model) []fsm.Op { return m.put(0, []int{2}) },
	func(m *model) []fsm.Op { return m.put(0, []int{0, 2}) },
	func(m *model) []fsm.Op { return m.put(1, []int{0, 1}) },
	func(m *model) []fsm.Op { return m.put(1, []int{1}) },
	func(m *model) []fsm.Op { return []fsm.Op{fsm.DeleteSet{Set: sets[0]}} },
	func(m *model) []fsm.Op { return m.put(0, []int{0}) },
}
