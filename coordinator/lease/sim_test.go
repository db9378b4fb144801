package lease_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"holdfast/coordinator/lease"
)

// The simulation runs the real Voter, Tally and Holder against each other: clocks
// that drift up to their bound, datagrams that are lost, doubled, reordered and late
// without bound, processes that pause between any two steps (each step below is one
// act) and restart, configurations that change, are cut back and grow again, and no
// single leader: any leader may use any agreement that was ever given.
//
// The check: when an Expire commits, and at every later time, the deadline that the
// session's holder has ever computed has passed on the holder's own clock. The next
// session may be granted and may act in that very moment, so anything later is two
// holders at one real time.

const (
	ttl   = time.Second
	rho   = 0.1 // large, so that rate faults show in short runs
	ppm   = rho * 1_000_000
	round = 10 * time.Nanosecond // margin: what the clocks below round off
)

// clock is a host's CLOCK_BOOTTIME: an offset and a rate.
type clock struct {
	offset int64
	ppm    int64
}

func (c clock) at(real int64) lease.Time {
	return lease.Time(c.offset + real + real*c.ppm/1_000_000)
}

// session is the simulation's view of one session and of the agent that holds it.
type session struct {
	lease.Session
	agent   *agent
	holder  *lease.Holder
	process uint64
	file    lease.Time                  // deadline in the session file
	max     lease.Time                  // latest deadline ever computed, by any process
	held    bool                        // max is set
	counted map[lease.Round]lease.Round // by a faulty holder: number on the wire -> what its answers count for
	ended   uint64                      // index of the entry that ended it, 0 = open
}

func (h *session) endedBy(index uint64) bool { return h.ended != 0 && h.ended <= index }

type agent struct {
	clock    clock
	sessions []*session
	told     map[string]lease.Configuration // by coordinator
	cut      []bool                         // by coordinator: no datagram passes
}

type datagram struct {
	h    *session
	node *node
	data []byte
}

type sim struct {
	rng     *rand.Rand
	fault   fault
	steps   int
	churn   bool // configurations change
	short   bool // a few steps and a story
	shrink  bool
	deaf    bool  // agents are not told of configurations
	now     int64 // real time in ns
	trace   func(string)
	stats   stats
	failure string

	nodes      []*node
	agents     []*agent
	committed  []entry
	sessions   map[uint64]*session
	order      []*session
	renewals   []datagram
	answers    []datagram
	agreements []lease.Agreement
}

type stats struct {
	proven, expired, reconfigured, cuts, adopted, late int
	verdicts                                           [lease.DropSession + 1]int
	fences                                             [lease.RefusedUnknown + 1]int
}

func (s *sim) chance(percent int) bool { return s.rng.IntN(100) < percent }

func (s *sim) tracef(format string, args ...any) {
	if s.trace != nil {
		s.trace(fmt.Sprintf("%8.4f  ", float64(s.now)/1e9) + fmt.Sprintf(format, args...))
	}
}

func (s *sim) params() lease.Params {
	switch {
	case s.fault.noRate:
		return lease.Params{Margin: round}
	case s.fault.halfRate: // (1+r)/(1−r) = 1+ρ
		return lease.Params{Rho: rho / (2 + rho), Margin: round}
	}
	return lease.Params{Rho: rho, Margin: round}
}

func newSim(seed uint64, f fault) *sim {
	s := &sim{
		rng:      rand.New(rand.NewPCG(seed, 0x486f6c6466617374)),
		fault:    f,
		sessions: make(map[uint64]*session),
	}
	// Three runs in five change configurations, 3→4→5→4→3 again and again or,
	// short and with a story at the end, mostly 3→4→5. The rest have three
	// or five coordinators throughout.
	nodes, first := 5, 3
	switch profile := seed % 5; profile {
	case 0:
		nodes = 3
	case 1:
		first = 5
	default:
		s.churn, s.short = true, profile > 2
	}
	s.steps = 400 + s.rng.IntN(1200)
	if s.short {
		s.steps = max(0, s.rng.IntN(120)-60)
	}
	for i := range nodes {
		s.nodes = append(s.nodes, &node{
			id: i, name: nodeName(i), clock: s.newClock(),
			marks: map[uint64]bool{}, match: make([]uint64, nodes),
		})
	}
	var voters []string
	for i := range first {
		voters = append(voters, nodeName(i))
	}
	s.committed = []entry{{term: 1, kind: configure, configuration: lease.Configuration{Index: 1, Voters: voters}}}
	for i, y := range s.nodes {
		if i < first {
			y.log, y.term, y.snapshot = s.committed[:1:1], 1, 1
		}
		s.start(y)
	}
	cut := s.rng.IntN(4) * 15
	for range 2 {
		a := &agent{clock: s.newClock(), told: make(map[string]lease.Configuration)}
		for range s.nodes {
			a.cut = append(a.cut, s.chance(cut))
		}
		s.agents = append(s.agents, a)
	}
	s.settle(first)
	return s
}

// settle elects a first leader and opens two sessions that everybody knows of.
func (s *sim) settle(members int) {
	x := s.nodes[s.rng.IntN(members)]
	s.elect(x)
	s.openOne(x)
	s.openOne(x)
	for range 2 {
		for _, y := range s.nodes[:members] {
			if y != x {
				s.replicate(x, y)
			}
		}
	}
	for _, y := range s.nodes[:members] {
		for y.applied < y.commit {
			s.apply(y)
		}
		for _, a := range s.agents {
			s.tell(a, y)
		}
	}
}

func (s *sim) newClock() clock {
	rates := []int64{-ppm, ppm, 0, s.rng.Int64N(2*ppm+1) - ppm}
	return clock{offset: s.rng.Int64N(int64(1000 * ttl)), ppm: rates[s.rng.IntN(len(rates))]}
}

// step is one kind of act; the weights make calm runs productive.
type step struct {
	weight int
	do     func()
}

func (s *sim) kinds() []step {
	kinds := []step{
		{6, s.pass},
		{20, func() { s.exchange(s.anyOpen()) }},
		{3, func() { s.begin(s.anySession()) }},
		{6, s.deliverRenewal},
		{8, s.deliverAnswer},
		{1, func() { s.fenceOne(s.anyNode(), s.anyOpen()) }},
		{6, func() { s.fenceAll(s.anyLeader(), s.anyOpen()) }},
		{4, func() { s.write(s.anyNode()) }},
		{8, func() { s.expireOne(s.anyLeader(), s.anyOpen()) }},
		{1, func() { s.elect(s.anyNode()) }},
		{8, func() { s.spread(s.anyLeader()) }},
		{6, func() { s.apply(s.anyNode()) }},
		{6, func() { s.tell(s.anyAgent(), s.anyNode()) }},
		{3, func() { s.openOne(s.anyLeader()) }},
		{2, func() { s.restartAgent(s.anyOpen()) }},
		{1, s.restartNodes},
		{1, s.flipLink},
		{1, s.part},
	}
	if s.churn && !s.short {
		kinds = append(kinds, step{4, func() { s.change(s.anyLeader(), 1+s.rng.IntN(2)) }})
	}
	return kinds
}

// run runs to the end or to the first violation and returns it, "" = none. A run is
// a row of phases, each of which favours some kinds of steps and starves others: what
// goes wrong needs, say, a busy log while no time passes, and then silence.
func (s *sim) run() string {
	kinds := s.kinds()
	weights := make([]int, len(kinds))
	total := 0
	for left := 0; s.steps > 0 && s.failure == ""; s.steps-- {
		if left--; left < 0 {
			left, total = 10+s.rng.IntN(60), 0
			for i, k := range kinds {
				weights[i] = k.weight * []int{0, 1, 2, 6}[s.rng.IntN(4)]
				total += weights[i]
			}
			if total == 0 {
				continue
			}
		}
		if s.chance(10) && !slices.ContainsFunc(s.nodes, func(y *node) bool { return y.leads != 0 }) {
			s.elect(s.anyNode())
		}
		n := s.rng.IntN(total)
		for i, k := range kinds {
			if n -= weights[i]; n < 0 {
				k.do()
				break
			}
		}
	}
	if s.short {
		s.story()
	}
	return s.failure
}

func (s *sim) anyNode() *node   { return s.nodes[s.rng.IntN(len(s.nodes))] }
func (s *sim) anyAgent() *agent { return s.agents[s.rng.IntN(len(s.agents))] }

// anyLeader returns a leader, of any term, or if it finds none another coordinator.
func (s *sim) anyLeader() *node {
	for range len(s.nodes) {
		if x := s.anyNode(); x.leads != 0 {
			return x
		}
	}
	return s.anyNode()
}

// anySession prefers the newest, returns nil if there is none.
func (s *sim) anySession() *session {
	if len(s.order) == 0 {
		return nil
	}
	if s.chance(70) {
		return s.order[max(0, len(s.order)-2+s.rng.IntN(2))]
	}
	return s.order[s.rng.IntN(len(s.order))]
}

// anyOpen returns a session that has most likely not ended, or nil.
func (s *sim) anyOpen() *session {
	for range 6 {
		if h := s.anySession(); h != nil && (h.ended == 0 || s.chance(5)) {
			return h
		}
	}
	return nil
}

// check is the invariant; see the top of the file.
func (s *sim) check(h *session, when string) {
	if h.ended == 0 || !h.held || s.failure != "" {
		return
	}
	if left := h.max.Sub(h.agent.clock.at(s.now)); left > 0 {
		s.failure = fmt.Sprintf("real time %v: session %d %s while its holder may act for another %v",
			time.Duration(s.now), h.ID, when, left)
		s.tracef("VIOLATION: %s", s.failure)
	}
}

// pass lets time pass, often to the very moment at which a refusal ends.
func (s *sim) pass() {
	if h := s.anySession(); h != nil && s.chance(50) {
		y := s.anyNode()
		if left := y.voter.Probe(y.clock.at(s.now), s.asked(h)).Remaining; left > 0 {
			s.now += int64(left)*1_000_000/(1_000_000+y.clock.ppm) + 1
			return
		}
	}
	s.now += s.rng.Int64N(int64(ttl) >> s.rng.IntN(6))
}

// change changes configurations, some in a row, each just about committed: the
// coordinators that were not needed for that learn of it later.
func (s *sim) change(x *node, times int) {
	if x.leads == 0 {
		if s.chance(5) {
			s.wipe(x)
		}
		return
	}
	for range times {
		if x.leads != 0 {
			s.reconfigure(x)
		}
		for _, i := range s.rng.Perm(len(s.nodes)) {
			if y := s.nodes[i]; y != x && x.leads != 0 && x.commit < uint64(len(x.log)) && y.side == x.side {
				s.replicate(x, y)
			}
		}
	}
}

// spread replicates from a leader to some or all.
func (s *sim) spread(x *node) {
	for _, y := range s.nodes {
		if y != x && x.leads != 0 && y.side == x.side && s.chance(50) {
			s.replicate(x, y)
		}
	}
}

// part divides the coordinators, or reunites them.
func (s *sim) part() {
	whole := s.chance(40)
	for _, y := range s.nodes {
		y.side = !whole && s.chance(50)
	}
}

func (s *sim) flipLink() {
	i, a := s.rng.IntN(len(s.nodes)), s.anyAgent()
	a.cut[i] = !a.cut[i]
}

func (s *sim) restartNodes() {
	for _, y := range s.nodes {
		if s.chance(25) {
			s.tracef("%s restarts, applied %d -> %d", y.name, y.applied, y.snapshot)
			s.start(y)
		}
	}
}
