package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"holdfast/coordinator/lease"
	"holdfast/coordinator/ledger"
	"holdfast/fsm"
	"holdfast/vipagent/tenure"
)

// The checker's clocks: they are wrong by as much as they may be, so that what rests on
// a margin holds exactly or not at all. In one tick of real time a slow clock goes one
// unit and a fast one three.
const (
	unit     = 100 * time.Millisecond
	modelTTL = 2 * unit // two ticks of a slow clock
	modelRho = 0.5      // so a promise is two ticks of a fast clock
	horizon  = 3 * modelTTL
)

var modelParams = lease.Params{Rho: modelRho}

const (
	modelNodes = 4
	modelHosts = 2
)

// model is one state of the checker. It is never changed once it is reached: a move
// works on a copy that shares what it does not touch.
type model struct {
	b    *bounds
	now  int8 // real time, ticks
	left budget

	nodes [modelNodes]*coord
	hosts [modelHosts]*host
	log   []*logged // all that is appended; the first known are committed
	known uint64

	proposals  []proposal
	mail       []letter
	agreements []lease.Agreement
	gone       []uint64                       // sessions that were expired
	told       [modelHosts][modelNodes]uint64 // configuration that each node last told each host
	truth      truth
	failure    string
}

// budget is how often each thing may still happen.
type budget struct {
	fences, grants, crashes, starts, kills, reboots, stops uint8
	snapshots, edits, changes, late, pauses, losses        uint8
	sessions, rounds, jams, vetoes                         uint8
}

// coord is one coordinator.
type coord struct {
	ledger  *ledger.Ledger
	stored  uint64 // entries in its log
	applied uint64
	snaps   [2]uint64 // older, newest
	marks   []uint64
	writing []uint64 // marks on their way to the disk
	longest time.Duration
	member  bool // it has a log
	behind  bool // it has restarted and has not applied all since
}

// logged is one entry.
type logged struct {
	index  uint64
	ops    []fsm.Op
	config *lease.Configuration
	after  *fsm.State // once it is committed
	result fsm.Result
	views  [modelHosts]*tenure.View
	key    [16]byte // of what it made of the state
}

// proposal is a command that may be committed at any time from now on.
type proposal struct {
	ops     []fsm.Op
	call    call
	host    int // whose call it is, -1 = nobody waits
	process uint64
}

// letter is a datagram that comes late: a renewal, or an answer.
type letter struct {
	host, node int
	process    uint64
	renewal    lease.Renewal
	answer     lease.Answer
	isAnswer   bool
}

func nodeClock(b *bounds, i int) int64 { return b.nodeRate[i] * int64(unit) }

func (m *model) nodeNow(i int) lease.Time {
	return lease.Time(int64(m.now)*nodeClock(m.b, i) + int64(time.Hour))
}

func (m *model) hostNow(i int) lease.Time {
	return lease.Time(int64(m.now-m.hosts[i].since)*m.b.hostRate[i]*int64(unit) + int64(time.Hour))
}

// fork copies the state; node and host copy what is to be changed.
func (m *model) fork() *model {
	c := *m
	return &c
}

func (m *model) node(i int) *coord {
	c := *m.nodes[i]
	c.ledger = c.ledger.Clone()
	m.nodes[i] = &c
	return &c
}

func (m *model) host(i int) *host {
	m.hosts[i] = m.hosts[i].clone()
	return m.hosts[i]
}

func (m *model) fail(format string, args ...any) {
	if m.failure == "" {
		m.failure = fmt.Sprintf(format, args...)
	}
}

func (m *model) state(n *coord) *fsm.State {
	if n.applied == 0 {
		return emptyState
	}
	return m.log[n.applied-1].after
}

func (m *model) head() *fsm.State {
	if m.known == 0 {
		return emptyState
	}
	return m.log[m.known-1].after
}

var emptyState = fsm.New()

// newModel is the first state: the configuration, the sets and a session of each host
// are committed and known everywhere.
func newModel(b *bounds) *model {
	m := &model{b: b, now: -4}
	m.left.sessions = uint8(b.hosts)
	for i := range m.hosts {
		m.hosts[i] = &host{name: hostName(i), ttl: modelTTL, kernel: b.kernel()}
	}
	var voters []string
	for i := range b.voters {
		voters = append(voters, nodeName(i))
	}
	for i := range m.nodes {
		m.nodes[i] = &coord{}
		m.startNode(i, false)
	}
	m.append(&logged{config: &lease.Configuration{Index: 1, Voters: voters}})
	for i := range b.voters {
		m.nodes[i].member = true
	}
	m.settleLog()
	m.now = 0
	for s, addresses := range b.sets {
		m.commitOps(m.put(s, addresses))
	}
	m.settleLog()
	for i := range b.hosts {
		h := m.hosts[i]
		h.start(m.hostNow(i), b.guard())
		for h.agent.busy() {
			h.act(m.hostNow(i))
		}
		h.agent.out = nil
		e := m.commitOps([]fsm.Op{fsm.OpenSession{Host: h.name, TTL: modelTTL, Secret: [32]byte{1}}})
		m.settleLog()
		h.answered(&call{kind: callOpen, secret: 1}, true, false, uint64(e.result.Ops[0].Session), m.hostNow(i))
		for range 2 {
			for h.agent.busy() {
				h.act(m.hostNow(i))
			}
		}
		h.agent.out = nil
		h.agent.relax()
		h.agent.leases[0].holder.SetConfiguration(*m.log[0].config)
		for k := range b.voters {
			m.told[i][k] = 1
		}
	}
	return m
}

func (m *model) put(set int, addresses []int) []fsm.Op {
	s := fsm.Set{Name: sets[set]}
	for i := range m.b.hosts {
		s.Candidates = append(s.Candidates, fsm.Candidate{Host: hostName(i), Priority: 10 + i})
	}
	for _, a := range addresses {
		s.Addresses = append(s.Addresses, fsm.Address{Prefix: prefixes[a]})
	}
	return []fsm.Op{fsm.PutSet{Set: s}}
}

// settleLog brings everybody up to date and gives the coordinators that start time to
// be quiet no more.
func (m *model) settleLog() {
	for i, n := range m.nodes {
		if n.member {
			n.stored = uint64(len(m.log))
			m.configured(i)
			m.applyNode(i, m.known)
		}
	}
}

// key is the state's identity: equal states have equal bytes.
func (m *model) key(b []byte) []byte {
	b = append(b, byte(m.now))
	b = append(b, m.left.bytes()...)
	b = binary.AppendUvarint(b, m.known)
	for i, e := range m.log {
		if uint64(i) < m.known {
			b = append(b, e.key[:]...)
		} else {
			b = append(b, 1)
			b = appendConfig(b, e)
		}
	}
	b = m.nodesKey(b)
	for i := range m.b.active {
		b = m.hosts[i].key(b, m.hostNow(i))
	}
	for _, p := range m.proposals {
		b = fmt.Appendf(b, "%d%d%d%v|", p.host, p.call.kind, p.process, p.ops)
	}
	return b
}

// nodesKey appends all that concerns one coordinator together, one after the other.
// Those that are in the same configurations are all alike, so that it does not matter
// which of them is which: states that differ in that alone count as one.
func (m *model) nodesKey(b []byte) []byte {
	var keys [modelNodes][]byte
	n := 0
	for i, x := range m.nodes {
		if !x.member {
			continue
		}
		var k []byte
		if len(m.b.changes) > 0 {
			k = append(k, m.b.role(i))
		}
		k = m.nodeKey(k, i)
		keys[n] = k
		n++
	}
	slices.SortFunc(keys[:n], bytes.Compare)
	for _, k := range keys[:n] {
		b = append(binary.AppendUvarint(b, uint64(len(k))), k...)
	}
	return b
}

func (m *model) nodeKey(b []byte, i int) []byte {
	n := m.nodes[i]
	b = n.ledger.Append(b, m.nodeNow(i), horizon)
	b = binary.AppendUvarint(binary.AppendUvarint(b, n.stored), n.applied)
	b = binary.AppendUvarint(binary.AppendUvarint(b, n.snaps[0]), n.snaps[1])
	b = appendIDs(appendIDs(b, n.marks), n.writing)
	b = binary.AppendVarint(b, int64(n.longest))
	for h := range m.b.hosts {
		b = binary.AppendUvarint(b, m.told[h][i])
		if a := m.hosts[h].agent; a != nil {
			for j := range a.leases {
				b = a.leases[j].holder.AppendVoter(b, m.hostNow(h), nodeName(i))
			}
		}
	}
	for _, a := range m.agreements {
		if a.Coordinator == nodeName(i) {
			b = binary.AppendUvarint(binary.AppendUvarint(b, a.Session), a.Configuration)
		}
	}
	b = append(b, 0xfd)
	for _, l := range m.mail {
		if l.node == i {
			r, y := &l.renewal, &l.answer
			b = append(b, byte(l.host), byte(l.process), flags(l.isAnswer, r.Proven, y.Fenced))
			for _, v := range [...]uint64{r.Session, r.Round.Process, r.Round.Sequence, r.Configuration,
				y.Session, y.Round.Process, y.Round.Sequence, y.Configuration} {
				b = binary.AppendUvarint(b, v)
			}
		}
	}
	return b
}

func (l budget) bytes() []byte {
	return []byte{l.fences, l.grants, l.crashes, l.starts, l.kills, l.reboots, l.stops, l.snapshots, l.edits, l.changes,
		l.late, l.pauses, l.losses, l.sessions, l.rounds, l.jams, l.vetoes}
}

func appendConfig(b []byte, e *logged) []byte {
	if e.config == nil {
		return fmt.Appendf(b, "%v", e.ops)
	}
	return fmt.Appendf(b, "%v", *e.config)
}

func appendIDs(b []byte, ids []uint64) []byte {
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for _, id := range slices.Sorted(slices.Values(ids)) {
		b = binary.AppendUvarint(b, id)
	}
	return b
}
