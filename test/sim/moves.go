package sim

import (
	"fmt"
	"slices"

	"holdfast/coordinator/lease"
	"holdfast/fsm"
)

// moveKind says what happens.
type moveKind uint8

const (
	moveTick moveKind = iota
	moveRound
	moveLetter
	moveView
	moveStep
	moveAct
	moveStore
	moveKill
	moveStart
	moveReboot
	moveStop
	moveApply
	moveLearn
	moveFence
	moveWrite
	moveRestart
	moveSnapshot
	moveExpire
	moveGrant
	moveRecall
	moveEdit
	moveChange
	moveCommitConfig
	moveCommit
	moveJam
	moveVeto
	moveWild
)

// move is one thing that happens, with whom and how.
type move struct {
	kind    moveKind
	a, b, c int
}

func (v move) String() string {
	names := [...]string{"time passes", "h%d renews session no. %d, outcome %s", "a letter comes: no. %d, answer lost %d", "h%d gets the view of c%d",
		"h%d goes on to the end of its step", "h%d does one act", "h%d stores the deadline", "h%d: the agent is killed", "h%d: the agent starts",
		"h%d reboots", "h%d: the agent is told to stop", "c%d applies", "c%d gets the next configuration into its log", "c%d fences session %d",
		"c%d writes its mark", "c%d restarts, from the older snapshot %d", "c%d saves a snapshot", "session %d expires", "set s%d is granted to session %d",
		"set s%d is recalled", "edit no. %d", "change no. %d", "the configuration is committed", "proposal no. %d is committed, answer lost %d, stays %d", "h%d: the next removal will not work", "h%d: another verdict of the health checks",
		"a command comes that must be refused: no. %d"}
	args := []any{v.a, v.b, v.c}
	if v.kind == moveRound {
		outcome := ""
		for i := range modelNodes {
			outcome += [...]string{"lost ", "answered ", "", "late "}[v.c>>(2*i)&3]
		}
		args[2] = outcome
	}
	text := names[v.kind]
	n := 0
	for i := range len(text) {
		if text[i] == '%' {
			n++
		}
	}
	return fmt.Sprintf(text, args[:n]...)
}

// try makes a move on a copy and hands it on if it was one.
func (m *model) try(v move, out func(move, *model), do func(n *model) bool) {
	n := m.fork()
	if do(n) {
		if !n.b.lag && n.known > m.known {
			n.applyAll()
		}
		n.judge()
		out(v, n)
	}
}

// applyAll lets all apply what is committed, where it is of no interest that some are
// late; but those that have restarted are.
func (m *model) applyAll() {
	for i, n := range m.nodes {
		if n.member && !n.behind && n.applied < m.known {
			m.node(i)
			m.applyNode(i, m.known)
		}
	}
}

// moves hands on all that can happen next.
func (m *model) moves(out func(move, *model)) {
	if m.now < m.b.ticks {
		m.try(move{kind: moveTick}, out, (*model).tick)
	}
	for i := range m.b.active {
		m.hostMoves(i, out)
	}
	for i, n := range m.nodes {
		if n.member {
			m.nodeMoves(i, out)
		}
	}
	m.letters(out)
	m.quorumMoves(out)
}

// tick lets time pass. An agent on a host without a fence is in time with what it does.
func (m *model) tick() bool {
	m.now++
	for i := range m.b.active {
		if m.b.bare && m.hosts[i].agent != nil {
			m.host(i).agent.wake = true
			m.finishStep(i)
		}
	}
	return true
}

func (m *model) hostMoves(i int, out func(move, *model)) {
	h := m.hosts[i]
	if m.b.silent {
		return
	}
	if h.agent == nil {
		if m.left.starts > 0 {
			m.try(move{kind: moveStart, a: i}, out, func(n *model) bool {
				n.left.starts--
				n.starts(i)
				return n.settle(i)
			})
		}
	} else {
		m.agentMoves(i, out)
	}
	if m.left.jams > 0 && h.jam == 0 {
		m.try(move{kind: moveJam, a: i}, out, func(n *model) bool { n.left.jams--; n.host(i).jam = 1; return true })
	}
	if m.left.reboots > 0 {
		m.try(move{kind: moveReboot, a: i}, out, func(n *model) bool {
			n.left.reboots--
			x := n.host(i)
			x.agent, x.kernel = nil, n.b.kernel()
			x.boot++
			x.since = n.now // its clock begins anew
			if !n.b.disk {
				x.file = nil
			}
			return true
		})
	}
}

func (m *model) agentMoves(i int, out func(move, *model)) {
	a := m.hosts[i].agent
	for j := range a.leases {
		m.rounds(i, j, out)
	}
	if a.at == idle {
		for k, n := range m.nodes {
			if n.member && n.applied > 0 && m.tells(i, k) {
				m.try(move{kind: moveView, a: i, b: k}, out, func(n *model) bool { return n.view(i, k) })
			}
		}
	}
	m.try(move{kind: moveStep, a: i}, out, func(n *model) bool {
		n.host(i).agent.wake = true
		return n.finishStep(i)
	})
	if a.at != idle || m.left.pauses > 0 && a.busy() {
		m.try(move{kind: moveAct, a: i}, out, func(n *model) bool {
			x := n.host(i)
			if x.agent.at == idle {
				n.left.pauses--
			}
			for x.act(n.hostNow(i)) && x.agent.at.dull() {
			}
			n.drained(i)
			return true
		})
	}
	if a.unstored() {
		m.try(move{kind: moveStore, a: i}, out, func(n *model) bool { n.host(i).store(n.hostNow(i)); return true })
	}
	if m.left.vetoes > 0 && a.at == idle {
		m.try(move{kind: moveVeto, a: i}, out, func(n *model) bool {
			n.left.vetoes--
			x := n.host(i)
			x.vetoes[0] = !x.vetoes[0]
			x.agent.look, x.agent.wake = true, true
			return n.settle(i)
		})
	}
	if m.left.kills > 0 {
		m.try(move{kind: moveKill, a: i}, out, func(n *model) bool { n.left.kills--; n.host(i).agent = nil; return true })
	}
	if m.left.stops > 0 && !a.duty.stopping && a.at == idle {
		m.try(move{kind: moveStop, a: i}, out, func(n *model) bool {
			n.left.stops--
			n.host(i).agent.stop()
			return n.settle(i)
		})
	}
}

// starts starts an agent, which knows nothing of configurations yet.
func (m *model) starts(i int) {
	m.host(i).start(m.hostNow(i), m.b.guard())
	m.told[i] = [modelNodes]uint64{}
}

// tells says whether a node's view could be news that no node before it has.
func (m *model) tells(i, k int) bool {
	n := m.nodes[k]
	if c := m.lastConfig(n.stored); c.Index != m.told[i][k] {
		return true
	}
	for _, o := range m.nodes[:k] {
		if o.member && o.applied == n.applied {
			return false
		}
	}
	return m.hosts[i].agent.book.Newer(n.applied)
}

// dull says that what comes next is no place where a pause could matter: nothing of
// the world is looked at or touched.
func (p spot) dull() bool {
	switch p {
	case decide, readKernel, letGo, expect, account, settle, closeDown, readBack, guardUp, keepSlots:
		return true
	}
	return false
}

// settle lets the owner do what it has to, at once if no pause is in play.
func (m *model) settle(i int) bool {
	if m.left.pauses == 0 && m.hosts[i].agent.at == idle {
		return m.finishStep(i)
	}
	return true
}

// finishStep runs the owner until it has nothing to do.
func (m *model) finishStep(i int) bool {
	h := m.hosts[i]
	for n := 0; h.agent != nil && h.agent.busy() && n < 200; n++ {
		if h.act(m.hostNow(i)); h.agent.at == idle && h.agent.undone {
			break // it is tried again a moment later
		}
	}
	m.drained(i)
	return true
}

// drained takes what the agent asks of the quorum.
func (m *model) drained(i int) {
	h := m.hosts[i]
	a := h.agent
	out := a.out
	a.out = nil
	for _, c := range out {
		if len(m.proposals) >= 3 || c.kind == callOpen && m.left.sessions == 0 {
			h.answered(&c, false, false, 0, m.hostNow(i))
			continue
		}
		if c.kind == callOpen {
			m.left.sessions--
		}
		m.proposals = append(slices.Clip(m.proposals), proposal{c.ops(h), c, i, h.process})
	}
	a.relax()
	if a.duty.gone && a.at == idle {
		h.agent = nil
	}
}

// relax forgets when things are to be tried again: here they may be at any time.
func (a *agent) relax() {
	a.duty.openAt, a.duty.rebindAt = 0, 0
	for i := range a.tasks {
		a.tasks[i].at = 0
	}
}

func (m *model) nodeMoves(i int, out func(move, *model)) {
	n := m.nodes[i]
	if n.applied < m.known {
		m.try(move{kind: moveApply, a: i}, out, func(x *model) bool { x.node(i); x.applyNode(i, x.known); return true })
	}
	if n.stored < uint64(len(m.log)) && m.known < uint64(len(m.log)) {
		m.try(move{kind: moveLearn, a: i}, out, func(x *model) bool {
			x.node(i).stored = uint64(len(x.log))
			x.configured(i)
			return true
		})
	}
	if m.left.fences > 0 {
		for _, s := range m.state(n).Sessions() {
			if hostPlace(s.Host) >= m.b.active {
				continue // nothing is acted under it
			}
			m.try(move{kind: moveFence, a: i, b: int(s.ID)}, out, func(x *model) bool {
				x.left.fences--
				x.node(i)
				return x.fenceNode(i, uint64(s.ID))
			})
		}
	}
	if len(n.writing) > 0 {
		m.try(move{kind: moveWrite, a: i}, out, func(x *model) bool { x.node(i); x.written(i); return true })
	}
	if m.left.crashes > 0 {
		for older := range 2 {
			if older == 1 && n.snaps[0] == n.snaps[1] {
				continue
			}
			m.try(move{kind: moveRestart, a: i, b: older}, out, func(x *model) bool {
				x.left.crashes--
				x.node(i)
				x.startNode(i, older == 1)
				return true
			})
		}
	}
	if m.left.snapshots > 0 && n.applied > n.snaps[1] {
		m.try(move{kind: moveSnapshot, a: i}, out, func(x *model) bool {
			x.left.snapshots--
			x.node(i)
			x.snapshotNode(i)
			return true
		})
	}
}

func (m *model) quorumMoves(out func(move, *model)) {
	st := m.head()
	if m.known < uint64(len(m.log)) {
		m.try(move{kind: moveCommitConfig}, out, (*model).commitConfig)
		return // the log goes on behind it only
	}
	for _, s := range st.Sessions() {
		id := uint64(s.ID)
		for c := m.lastConfig(m.known); c != nil; c = m.lastConfig(c.Index - 1) { // also one that is not in force
			if m.proven(id, *c) {
				m.try(move{kind: moveExpire, a: int(id)}, out, func(n *model) bool { n.expire(id, c.Index); return true })
			}
		}
	}
	for _, set := range st.Sets() {
		k := setPlace(set.Name)
		g, held := st.Grant(set.Name)
		for _, s := range st.Sessions() {
			if m.left.grants > 0 {
				m.try(move{kind: moveGrant, a: k, b: int(s.ID)}, out, func(n *model) bool {
					n.left.grants--
					e := n.commitOps([]fsm.Op{fsm.GrantSet{Set: set.Name, Session: s.ID}})
					return e.result.Ops[0].Refusal == nil
				})
			}
		}
		if held && g.Recall == nil && m.b.recalls {
			m.try(move{kind: moveRecall, a: k}, out, func(n *model) bool {
				n.commitOps([]fsm.Op{fsm.RecallSet{Set: set.Name, Epoch: g.Epoch}})
				return true
			})
		}
	}
	if m.left.edits > 0 {
		for k, ops := range m.b.edits {
			m.try(move{kind: moveEdit, a: k}, out, func(n *model) bool {
				n.left.edits--
				return n.commitOps(ops(n)).result.Err() == nil
			})
		}
	}
	if m.left.changes > 0 {
		m.try(move{kind: moveChange, a: len(m.b.changes) - int(m.left.changes)}, out, (*model).change)
	}
	if m.b.wild {
		m.wild(out)
	}
	m.commits(out)
}

// commits are the proposals under way.
func (m *model) commits(out func(move, *model)) {
	for k, p := range m.proposals {
		for lost := range 2 {
			for stays := range 2 {
				if lost+stays > 0 && m.left.losses == 0 || lost == 1 && p.host < 0 {
					continue
				}
				m.try(move{moveCommit, k, lost, stays}, out, func(n *model) bool {
					if lost+stays > 0 {
						n.left.losses--
					}
					if stays == 0 {
						n.proposals = slices.Delete(slices.Clone(n.proposals), k, k+1)
					} else {
						n.proposals = slices.Clone(n.proposals)
						n.proposals[k].host = -1
					}
					e := n.commitOps(p.ops)
					n.committedFor(p, e, lost == 1)
					return true
				})
			}
		}
	}
}

// change appends the next configuration of the bounds.
func (m *model) change() bool {
	c := m.b.changes[len(m.b.changes)-int(m.left.changes)]
	m.left.changes--
	var voters []string
	for _, k := range c {
		voters = append(voters, nodeName(k))
		if !m.nodes[k].member { // it was let in as a nonvoter and has caught up
			m.node(k).member = true
			m.applyNode(k, m.known)
		}
	}
	m.append(&logged{config: &lease.Configuration{Voters: voters}})
	return true
}

// commitConfig commits the configuration at the end of the log once a majority of its
// voters has it.
func (m *model) commitConfig() bool {
	e := m.log[len(m.log)-1]
	have := 0
	for i, n := range m.nodes {
		if n.member && n.stored >= e.index && slices.Contains(e.config.Voters, nodeName(i)) {
			have++
		}
	}
	if have < e.config.Majority() {
		return false
	}
	own := *e
	m.log = slices.Clone(m.log)
	m.log[len(m.log)-1] = &own
	m.commit(&own)
	return true
}
