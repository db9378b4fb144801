package sim

import (
	"crypto/sha256"
	"slices"
	"strings"

	"holdfast/coordinator/lease"
	"holdfast/coordinator/ledger"
	"holdfast/fsm"
)

// The checker's quorum. There is no single leader: whatever could be proposed may be
// committed at any time, once or again, in any order, and whatever a coordinator has
// agreed to may be used at any later time.

// append puts an entry at the end of the log. A command is committed at once; a
// configuration when a majority of its voters has it.
func (m *model) append(e *logged) *logged {
	e.index = uint64(len(m.log)) + 1
	if e.config != nil {
		e.config.Index = e.index
		if last := m.lastConfig(e.index - 1); last != nil {
			e.config.Previous = last.Index
		}
	}
	m.log = append(slices.Clip(m.log), e)
	if e.config == nil || e.index == 1 {
		m.commit(e)
	}
	return e
}

// commitOps commits commands; nil if a configuration that is not committed yet is in
// the way.
func (m *model) commitOps(ops []fsm.Op) *logged {
	if m.known < uint64(len(m.log)) {
		return nil
	}
	log, known := m.log, m.known
	e := m.append(&logged{ops: ops})
	for _, op := range e.result.Ops {
		if op.Refusal == nil {
			return e
		}
	}
	// It changed nothing, and might come again for ever: as if it had not been.
	m.log, m.known = log, known
	return e
}

func (m *model) commit(e *logged) {
	st := m.head().Clone()
	if e.config != nil {
		st.SetConfiguration(e.index)
	} else {
		res, err := st.ApplyEntry(e.index, fsm.Entry{Version: fsm.EntryVersion, Ops: e.ops})
		if err != nil {
			m.fail("apply entry %d: %v", e.index, err)
			return
		}
		e.result = res
		if _, err := st.ApplyEntry(e.index, fsm.Entry{Version: fsm.EntryVersion, Ops: e.ops}); err == nil {
			m.fail("entry %d was applied twice", e.index)
		}
		if what := unsound(st, e.ops, res); what != "" {
			m.fail("entry %d: %s", e.index, what)
		}
		if what := givenBack(m.head(), e.ops, res, func(h, a int) bool { return m.hosts[h].kernel.present[a] }); what != "" {
			m.fail("entry %d: %s", e.index, what)
		}
	}
	e.after = st
	m.known = e.index
	for i := range m.b.hosts {
		e.views[i] = viewOf(st, hostName(i))
		e.views[i].Index = e.index
	}
	e.key = keyOf(st)
	before := m.truth
	m.truth = reading(st, &before, e.index)
	for s, epoch := range m.truth.epochs {
		if epoch < before.epochs[s] {
			m.fail("set %s got epoch %d after epoch %d", sets[s], epoch, before.epochs[s])
		}
	}
}

// keyOf names what a state says. The audit ring decides nothing.
func keyOf(st *fsm.State) [16]byte {
	b := appendIDs(nil, []uint64{st.Applied(), st.Configuration()})
	for _, s := range st.Sessions() {
		b = append(appendIDs(b, []uint64{uint64(s.ID)}), s.Host...)
	}
	for _, s := range st.Sets() {
		b = append(b, s.Name...)
		for _, a := range s.Addresses {
			b = append(appendIDs(b, []uint64{a.Claim}), byte(place(a.Addr())))
		}
	}
	for _, g := range st.Grants() {
		b = append(appendIDs(b, []uint64{uint64(g.Session), uint64(g.Epoch)}), g.Set...)
		b = append(b, flags(g.Recall != nil))
	}
	for _, r := range st.Retiring() {
		b = append(appendIDs(b, []uint64{uint64(r.Session), r.Claim}), byte(place(r.Address)))
	}
	sum := sha256.Sum256(b)
	return [16]byte(sum[:16])
}

// lastConfig is the latest configuration up to an index.
func (m *model) lastConfig(index uint64) *lease.Configuration {
	for i := min(index, uint64(len(m.log))); i > 0; i-- {
		if c := m.log[i-1].config; c != nil {
			return c
		}
	}
	return nil
}

// configured tells a node the latest configuration in its log.
func (m *model) configured(i int) {
	if c := m.lastConfig(m.nodes[i].stored); c != nil {
		m.nodes[i].ledger.SetConfiguration(m.nodeNow(i), *c)
	}
}

// startNode starts a coordinator's process.
func (m *model) startNode(i int, older bool) {
	n := m.nodes[i]
	n.ledger = ledger.New(lease.VoterConfig{
		Name: nodeName(i), Params: modelParams, Start: m.nodeNow(i), LongestTTL: n.longest, Marks: n.marks,
	})
	n.writing = nil
	n.applied = n.snaps[1]
	if older {
		n.applied = n.snaps[0]
	}
	n.behind = n.applied < m.known
	if n.applied > 0 {
		n.ledger.Met(m.nodeNow(i), m.state(n))
		n.ledger.SetApplied(n.applied)
		n.ledger.Persisted(n.applied)
	}
	m.configured(i)
}

// applyNode applies up to an index, and does what follows from it at once.
func (m *model) applyNode(i int, to uint64) {
	n := m.nodes[i]
	for n.applied < to {
		n.applied++
		if n.stored < n.applied {
			n.stored = n.applied
			m.configured(i)
		}
		if m.log[n.applied-1].config == nil {
			n.ledger.Met(m.nodeNow(i), m.state(n))
		}
		n.ledger.SetApplied(n.applied)
	}
	n.behind = false
	if want := ledger.WantedTTL(m.state(n), n.longest); want > n.longest && !(m.b.slowTTL && i >= m.b.voters) {
		n.longest = want
		n.ledger.RaiseLongestTTL(want)
	}
	m.unmark(n)
}

func (m *model) unmark(n *coord) {
	if done := n.ledger.Unneeded(m.state(n), n.marks); len(done) > 0 {
		n.marks = slices.DeleteFunc(slices.Clone(n.marks), func(id uint64) bool { return slices.Contains(done, id) })
	}
}

// snapshotNode saves a node's state.
func (m *model) snapshotNode(i int) {
	n := m.nodes[i]
	n.snaps = [2]uint64{n.snaps[1], n.applied}
	n.ledger.Persisted(n.applied)
	m.unmark(n)
}

// fenceNode asks a node to fence a session; the mark is on its way to the disk then.
func (m *model) fenceNode(i int, session uint64) bool {
	n := m.nodes[i]
	s, open := ledger.Open(m.state(n), session)
	if !open {
		return false
	}
	out := n.ledger.Fence(m.nodeNow(i), s)
	switch out.Verdict {
	case lease.FencePending:
		n.writing = append(slices.Clip(n.writing), session)
		if !m.b.slowDisk {
			m.written(i)
		}
		return true
	case lease.FenceAgreed:
		return m.agree(out.Agreement)
	}
	return false
}

// written brings a mark to the disk.
func (m *model) written(i int) {
	n := m.nodes[i]
	id := n.writing[0]
	n.writing = n.writing[1:]
	n.marks = append(slices.Clip(n.marks), id)
	s, open := ledger.Open(m.state(n), id)
	if !open {
		m.unmark(n)
		return
	}
	if out := n.ledger.MarkDurable(m.nodeNow(i), s); out.Verdict == lease.FenceAgreed {
		m.agree(out.Agreement)
	}
}

func (m *model) agree(a lease.Agreement) bool {
	if slices.Contains(m.agreements, a) {
		return false
	}
	m.agreements = append(slices.Clip(m.agreements), a)
	slices.SortFunc(m.agreements, func(a, b lease.Agreement) int {
		if a.Session != b.Session {
			return int(a.Session) - int(b.Session)
		}
		if a.Configuration != b.Configuration {
			return int(a.Configuration) - int(b.Configuration)
		}
		return strings.Compare(a.Coordinator, b.Coordinator)
	})
	return true
}

// proven says whether a majority of a configuration has agreed to end a session.
func (m *model) proven(session uint64, c lease.Configuration) bool {
	t := lease.NewTally(session)
	for _, a := range m.agreements {
		t.Add(a)
	}
	return t.Proven(c)
}

// expire ends a session that was fenced. Nobody may go by it then, nor later.
func (m *model) expire(session, configuration uint64) {
	e := m.commitOps([]fsm.Op{fsm.Expire{Session: fsm.SessionID(session), Configuration: configuration}})
	if e == nil || e.result.Ops[0].Refusal != nil {
		return
	}
	m.gone = append(slices.Clip(m.gone), session)
}

// judge checks a state.
func (m *model) judge() {
	for i := range m.b.hosts {
		h, now := m.hosts[i], m.hostNow(i)
		for a := range maxAddresses {
			if h.kernel.acts(a, now) && m.truth.owner[a] != i {
				m.fail("%s answers for %s, which is kept for host %d", h.name, prefixes[a].Addr(), m.truth.owner[a])
			}
		}
		if h.agent == nil {
			continue
		}
		for j := range h.agent.leases {
			l := &h.agent.leases[j]
			if slices.Contains(m.gone, l.holder.Session().ID) && max(l.deadline, l.computed, l.holder.Deadline()) > now {
				m.fail("session %d has ended and %s may act under it", l.holder.Session().ID, h.name)
			}
		}
	}
}
