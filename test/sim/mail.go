package sim

import (
	"slices"

	"holdfast/coordinator/lease"
)

// rounds are a session's next round, with all that can become of it at once.
func (m *model) rounds(i, j int, out func(move, *model)) {
	h := m.hosts[i]
	_, again := h.agent.leases[j].holder.Repeat()
	if !again && m.left.rounds == 0 || again && m.b.once {
		return
	}
	members := 0
	for _, n := range m.nodes {
		if n.member {
			members++
		}
	}
	for answered := range 1 << members {
		for late := range members + 1 { // one of them gets it later, or none
			outcome := 0
			for x := range members {
				outcome |= answered >> x & 1 << (2 * x)
			}
			switch {
			case late == 0 && answered == 0:
				continue
			case late > 0 && (answered>>(late-1)&1 != 0 || m.left.late == 0):
				continue
			case late > 0:
				outcome |= 3 << (2 * (late - 1))
			}
			m.try(move{moveRound, i, j, outcome}, out, func(n *model) bool { return n.round(i, j, outcome, late > 0) })
		}
	}
}

func (m *model) round(i, j, outcome int, special bool) bool {
	h := m.host(i)
	l := &h.agent.leases[j]
	now := m.hostNow(i)
	if special {
		m.left.late--
	}
	r, again := l.holder.Repeat()
	if !again {
		m.left.rounds--
		r = l.holder.Begin(now)
	}
	useful := false
	for k := range m.nodes {
		kind := outcome >> (2 * k) & 3
		if kind == 0 || m.told[i][k] == 0 {
			continue
		}
		x := lease.Renewal{Session: l.holder.Session().ID, Round: r, Configuration: m.told[i][k], Proven: !l.holder.Lapsed(now)}
		if kind == 3 {
			m.mail = append(slices.Clip(m.mail), letter{host: i, node: k, process: h.process, renewal: x})
			useful = true
			continue
		}
		a, ok := m.renew(k, x)
		useful = useful || ok
		if ok && kind == 1 {
			h.agent.answer(a)
		}
	}
	m.stored(i)
	return useful
}

func (m *model) renew(k int, x lease.Renewal) (lease.Answer, bool) {
	n := m.node(k)
	out := n.ledger.RenewVerified(m.nodeNow(k), m.state(n), x)
	return out.Answer, out.Send
}

// stored stores a deadline at once if no pause is in play.
func (m *model) stored(i int) {
	h := m.hosts[i]
	if m.left.pauses == 0 {
		h.store(m.hostNow(i))
	}
}

// letters come late: a renewal, whose answer may come at once or later still, or an
// answer.
func (m *model) letters(out func(move, *model)) {
	for k := range m.mail {
		for lost := range 3 {
			l := m.mail[k]
			if l.isAnswer && lost > 0 || lost == 2 && m.left.late == 0 {
				continue
			}
			m.try(move{moveLetter, k, lost, 0}, out, func(n *model) bool {
				n.mail = slices.Delete(slices.Clone(n.mail), k, k+1)
				a, ok := l.answer, l.isAnswer
				if !ok {
					if a, ok = n.renew(l.node, l.renewal); !ok || lost == 1 {
						return true
					}
					if lost == 2 {
						n.left.late--
						n.mail = append(n.mail, letter{host: l.host, node: l.node, process: l.process, answer: a, isAnswer: true})
						return true
					}
				}
				if h := n.hosts[l.host]; h.agent != nil { // a successor may get what was meant for the process before
					n.host(l.host).agent.answer(a)
					n.stored(l.host)
				}
				return true
			})
		}
	}
}

// view shows a host what a coordinator has applied, and its configuration.
func (m *model) view(i, k int) bool {
	n := m.nodes[k]
	c := m.lastConfig(n.stored)
	news := c.Index != m.told[i][k]
	v := m.log[n.applied-1].views[i]
	a := m.hosts[i].agent
	fresh := a.book.Newer(v.Index) && !(a.book.Viewed() && v.Index == a.book.View().Index)
	if !news && !fresh {
		return false
	}
	h := m.host(i)
	if news {
		m.told[i][k] = c.Index
		for j := range h.agent.leases {
			h.agent.leases[j].holder.SetConfiguration(*c)
		}
	}
	if fresh {
		h.agent.view = v
		return m.settle(i)
	}
	return true
}

// committedFor answers a call, or lets it fail.
func (m *model) committedFor(p proposal, e *logged, lost bool) {
	if p.host < 0 {
		return
	}
	if h := m.hosts[p.host]; h.agent == nil || h.process != p.process {
		return
	}
	h := m.host(p.host)
	if lost {
		h.answered(&p.call, false, false, 0, m.hostNow(p.host))
	} else {
		good, refused := outcome(e.result, len(p.ops))
		session := uint64(0)
		if p.call.kind == callOpen && good {
			session = uint64(e.result.Ops[0].Session)
		}
		h.answered(&p.call, good, refused, session, m.hostNow(p.host))
		if n := len(h.agent.leases); p.call.kind == callOpen && n > 0 {
			for _, t := range m.told[p.host] {
				if t > 0 {
					h.agent.leases[n-1].holder.SetConfiguration(*m.log[t-1].config)
				}
			}
		}
	}
	h.agent.relax()
	m.settle(p.host)
}
