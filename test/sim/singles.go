package sim

// ofSingleRules are small, each for one rule that the others cannot tell from its
// neighbours: there something else would cover for it.
func ofSingleRules(more uint8) []*bounds {
	out := []*bounds{
		{
			name: "two changes in a row", must: "configuration expire",
			about: "those who agree have never answered: a newcomer, and one that was cut off",
			hosts: 1, active: 1, voters: 3, sets: one, ticks: 4, hostRate: slowHosts, nodeRate: fastNodes, setup: cutOff, slowTTL: true, silent: true,
			budget:  budget{fences: 2 + more, changes: 2},
			changes: [][]int{{0, 1}, {0, 1, 3}},
		},
		{
			name: "two newcomers", must: "configuration expire",
			about: "a majority that has joined since, and has never promised anything",
			hosts: 1, active: 1, voters: 1, sets: one, ticks: 2 + int8(more), hostRate: slowHosts, nodeRate: fastNodes, setup: held, slowTTL: true, silent: true,
			budget:  budget{fences: 2, changes: 2},
			changes: [][]int{{0, 1}, {0, 1, 2}},
		},
		{
			name: "no lease and no fence", must: "grant expire",
			about: "grants come before any answer, and nothing but the agent takes addresses down",
			hosts: 1, active: 1, voters: 1, sets: one, ticks: 4, hostRate: slowHosts, nodeRate: fastNodes, bare: true,
			budget: budget{fences: 1, rounds: 1 + more, grants: 1},
		},
		{
			name: "two sessions adopted", must: "rebind expire",
			about: "an agent that dies between two sessions, on a host without a fence",
			hosts: 1, active: 1, voters: 3, sets: one, ticks: 5, hostRate: slowHosts, nodeRate: fastNodes, setup: inherited, bare: true,
			budget: budget{fences: 2, rounds: 1 + more},
		},
		{
			name: "a former process", must: "expire",
			about: "a late answer to a round of the agent before",
			hosts: 1, active: 1, voters: 3, sets: one, ticks: 3, hostRate: slowHosts, nodeRate: fastNodes, setup: succeeded,
			budget: budget{fences: 2, rounds: 1 + more},
		},
		{
			name: "lapsed and not removed", must: "close",
			about: "a session that was fenced by one has lapsed, and what is up does not go",
			hosts: 1, active: 1, voters: 3, sets: one, ticks: 5, hostRate: slowHosts, nodeRate: fastNodes, setup: marked,
			budget: budget{jams: 1 + more, rounds: 1},
		},
		{
			name: "a file from before the reboot", must: "expire",
			about: "its deadlines are of a clock that has begun anew",
			hosts: 1, active: 1, voters: 1, sets: one, ticks: 4, hostRate: slowHosts, nodeRate: fastNodes, setup: held, disk: true,
			budget: budget{fences: 1, reboots: 1, starts: 1 + more},
		},
		{
			name: "what must be refused", must: "put delete confirm",
			about: "commands of others, of former claims, and twice in one entry",
			hosts: 2, active: 1, voters: 1, sets: [][]int{{0}, {1}}, hostRate: evenHosts, nodeRate: evenNodes, setup: held, wild: true,
			budget: budget{grants: 1, edits: 2 + more},
			edits:  edits,
		},
	}
	if more == 0 {
		return out
	}
	return append(out, &bounds{
		name: "answers under two configurations", must: "expire",
		about: "one coordinator has been left behind, and the agent hears of both",
		hosts: 1, active: 1, voters: 3, sets: one, ticks: 3, hostRate: slowHosts, nodeRate: fastNodes, setup: lagged, once: true,
		budget:  budget{fences: 2, rounds: 1, changes: 2},
		changes: [][]int{{0, 1}, {0, 1, 3}},
	})
}

// cutOff is held; then the first coordinator hears no more of the agent, and its
// promise ends.
func cutOff(m *model) {
	held(m)
	m.now += 2
	m.left.rounds++
	m.round(0, 0, 1<<2|1<<4, false)
}

// inherited is marked; a new session is open and has been renewed, and the agent has
// died and come back before Rebind was sent.
func inherited(m *model) {
	marked(m)
	for range 4 {
		m.left.sessions, m.left.rounds = 1, 2
		m.finishStep(0)
		for j := range m.hosts[0].agent.leases {
			m.round(0, j, 1|1<<2|1<<4, false)
		}
		m.host(0).agent.wake = true
		if len(m.proposals) == 0 || m.proposals[0].call.kind != callOpen {
			continue
		}
		p := m.proposals[0]
		m.proposals = nil
		m.committedFor(p, m.commitOps(p.ops), false)
		m.applyAll()
	}
	m.left, m.proposals = m.b.budget, nil
	m.hosts[0].freshen()
	m.restarted(0)
}

// succeeded is held, but the first coordinator's answer is late, and the agent has died
// and come back since.
func succeeded(m *model) {
	m.left.late++
	heldBy(m, 3|1<<2|1<<4)
	l := &m.mail[0]
	l.answer, l.isAnswer = m.renew(l.node, l.renewal)
	m.restarted(0)
	m.hosts[0].agent.leases[0].holder.SetConfiguration(*m.log[0].config)
	m.told[0] = [modelNodes]uint64{1, 1, 1}
}

// lagged is held; then there are two changes that one coordinator knows nothing of, and
// the agent dies and comes back.
func lagged(m *model) {
	held(m)
	for m.left.changes > 0 {
		m.change()
		for _, i := range []int{0, 1, 3} {
			if n := m.nodes[i]; n.member {
				m.node(i).stored = uint64(len(m.log))
				m.configured(i)
			}
		}
		m.commitConfig()
		for _, i := range []int{0, 1, 3} {
			if m.nodes[i].member {
				m.node(i)
				m.applyNode(i, m.known)
			}
		}
	}
	m.nodes[2].behind = true
	m.restarted(0)
	h := m.hosts[0].agent.leases[0].holder
	h.SetConfiguration(*m.lastConfig(m.known))
	h.SetConfiguration(*m.log[0].config) // which the one that was left behind told it last
	m.told[0] = [modelNodes]uint64{m.state(m.nodes[0]).Configuration(), m.state(m.nodes[1]).Configuration(), 1, m.state(m.nodes[3]).Configuration()}
}

// restarted is an agent that has died and come back at once.
func (m *model) restarted(i int) {
	m.starts(i)
	m.finishStep(i)
}
