package lease_test

import (
	"fmt"
	"slices"
	"time"

	"holdfast/coordinator/lease"
)

// The simulation's Raft: its steps are atomic and happen in any order, so that logs,
// terms and applied indexes may differ as they can in the real one: several leaders
// of different terms, uncommitted entries that are cut off again or committed by a
// later leader, configurations in force from the moment they are in the log.

type entryKind uint8

const (
	noop entryKind = iota
	configure
	open
	expire
)

type entry struct {
	term          int
	kind          entryKind
	configuration lease.Configuration // configure; of an expire only Index is set: under which it was proven
	session       uint64              // expire
	agent         int                 // open
	ttl           time.Duration       // open
}

// same compares what Raft compares: term, at equal index.
func same(a, b []entry, i int) bool { return a[i].term == b[i].term }

type node struct {
	id    int
	name  string
	clock clock
	side  bool // of a partition

	// On disk.
	term     int
	log      []entry // index i+1 is at i
	marks    map[uint64]bool
	longest  time.Duration
	snapshot uint64 // a restart goes back to this applied index

	// Memory.
	leads           int // term that it leads, 0 = none
	match           []uint64
	commit, applied uint64
	voter           *lease.Voter
	writing         []uint64 // pending marks whose write may still succeed
}

// latest returns the latest configuration in a log; Index 0 if there is none.
func latest(log []entry) lease.Configuration {
	for i := len(log) - 1; i >= 0; i-- {
		if log[i].kind == configure {
			return log[i].configuration
		}
	}
	return lease.Configuration{}
}

// elect makes x the leader of a new term if a random majority of its configuration
// votes for it.
func (s *sim) elect(x *node) {
	c := latest(x.log)
	if !slices.Contains(c.Voters, x.name) {
		return
	}
	voters, term := []*node{x}, x.term
	for _, i := range s.rng.Perm(len(s.nodes)) {
		y := s.nodes[i]
		if y == x || !slices.Contains(c.Voters, y.name) || len(voters) == c.Majority() {
			continue
		}
		if y.side == x.side && upToDate(x.log, y.log) {
			voters, term = append(voters, y), max(term, y.term)
		}
	}
	if len(voters) < c.Majority() {
		return
	}
	for _, y := range voters {
		y.term, y.leads = term+1, 0
	}
	x.leads = x.term
	clear(x.match)
	s.tracef("%s leads term %d", x.name, x.leads)
	s.propose(x, entry{kind: noop})
}

func upToDate(x, y []entry) bool {
	tx, ty := 0, 0
	if len(x) > 0 {
		tx = x[len(x)-1].term
	}
	if len(y) > 0 {
		ty = y[len(y)-1].term
	}
	return tx > ty || tx == ty && len(x) >= len(y)
}

// propose appends to a leader's log and returns the index.
func (s *sim) propose(x *node, e entry) uint64 {
	e.term = x.leads
	index := uint64(len(x.log) + 1)
	if e.kind == configure {
		e.configuration.Index, e.configuration.Previous = index, latest(x.log).Index
	}
	x.log = append(slices.Clip(x.log), e)
	s.learn(x)
	s.advance(x)
	return index
}

// replicate sends x's log, or a part of it, to y.
func (s *sim) replicate(x, y *node) {
	if y.term > x.leads {
		x.term, x.leads = y.term, 0
		s.tracef("%s is deposed by term %d of %s", x.name, x.term, y.name)
		return
	}
	y.term = x.leads
	y.leads = 0
	p := 0
	for p < len(x.log) && p < len(y.log) && same(x.log, y.log, p) {
		p++
	}
	if p < len(y.log) && p < len(x.log) {
		if uint64(p) < y.applied {
			panic("the simulation's Raft cut off an applied entry")
		}
		y.log = y.log[:p:p]
		s.stats.cuts++
		s.learn(y)
	}
	n := len(x.log)
	if s.chance(5) {
		n = p + s.rng.IntN(len(x.log)-p+1)
	}
	for _, e := range x.log[p:max(p, n)] {
		y.log = append(slices.Clip(y.log), e)
		s.learn(y)
	}
	x.match[y.id] = max(x.match[y.id], uint64(n))
	s.advance(x)
	y.commit = max(y.commit, min(x.commit, uint64(n)))
	if s.chance(40) {
		s.apply(y)
	}
}

// advance moves a leader's commit index.
func (s *sim) advance(x *node) {
	c := latest(x.log)
	x.match[x.id] = uint64(len(x.log))
	for n := uint64(len(x.log)); n > x.commit && x.log[n-1].term == x.leads; n-- {
		have := 0
		for _, y := range s.nodes {
			if x.match[y.id] >= n && slices.Contains(c.Voters, y.name) {
				have++
			}
		}
		if have >= c.Majority() {
			x.commit = n
			s.committedTo(x.log[:n])
			return
		}
	}
}

// committedTo extends the one committed log and does what the replicated state
// would: this is the moment from which somebody may act on an entry.
func (s *sim) committedTo(log []entry) {
	for i, e := range log {
		if i < len(s.committed) {
			if !same(log, s.committed, i) {
				panic("the simulation's Raft committed two entries at one index")
			}
			continue
		}
		index := uint64(i + 1)
		switch e.kind {
		case open:
			s.opened(index, e)
		case expire:
			h := s.sessions[e.session]
			if h.ended == 0 && latest(s.committed).Index == e.configuration.Index {
				h.ended = index
				s.stats.expired++
				s.tracef("session %d is ended by entry %d", h.ID, index)
				s.check(h, "was ended")
			}
		}
		s.committed = append(s.committed, e)
	}
}

// apply applies some committed entries at y.
func (s *sim) apply(y *node) {
	if y.applied == y.commit {
		return
	}
	from := y.applied
	y.applied += 1 + s.rng.Uint64N(y.commit-y.applied)
	s.tellApplied(y)
	for _, e := range y.log[from:y.applied] {
		if e.kind != expire || !s.sessions[e.session].endedBy(y.applied) {
			continue
		}
		y.voter.Forget(e.session)
		if s.fault.markDeletedEarly {
			delete(y.marks, e.session)
		}
	}
	if s.chance(20) {
		s.snapshot(y)
	}
}

// snapshot makes y's applied state durable; only now marks may leave the disk.
func (s *sim) snapshot(y *node) {
	y.snapshot = y.applied
	for id := range y.marks {
		if s.sessions[id].endedBy(y.snapshot) {
			delete(y.marks, id)
		}
	}
}

func (s *sim) tellApplied(y *node) {
	index := y.applied
	if s.fault.behind {
		index = 1 << 60
	}
	y.voter.SetApplied(index)
}

// learn tells the voter the latest configuration in its log.
func (s *sim) learn(y *node) {
	c := latest(y.log)
	if c.Index == 0 {
		return
	}
	now := y.clock.at(s.now)
	if s.fault.noWait {
		now = now.Add(-100 * ttl)
	}
	y.voter.SetConfiguration(now, c)
}

// start starts a coordinator process from what is on disk.
func (s *sim) start(y *node) {
	y.leads, y.writing = 0, nil
	y.commit, y.applied = y.snapshot, y.snapshot
	now := y.clock.at(s.now)
	switch {
	case s.fault.noQuiet:
		now = now.Add(-100 * ttl)
	case s.fault.shortQuiet:
		now = now.Add(-s.params().Promise(y.longest) / 2)
	}
	c := lease.VoterConfig{Name: y.name, Params: s.params(), Start: now, LongestTTL: y.longest}
	if !s.fault.markInMemory {
		for id := range y.marks {
			c.Marks = append(c.Marks, id)
		}
	}
	y.voter = lease.NewVoter(c)
	if c := latest(y.log); c.Index != 0 {
		if s.fault.noWait {
			now = now.Add(-100 * ttl)
		}
		y.voter.SetConfiguration(now, c)
	}
	s.tellApplied(y)
}

// wipe replaces a coordinator by a new machine of the same name, once it is a voter in
// nobody's log (before, its empty log could help an old leader to a majority: that is
// a fault of Raft's users and not what is looked for here).
func (s *sim) wipe(y *node) {
	for _, x := range s.nodes {
		if x != y && slices.Contains(latest(x.log).Voters, y.name) {
			return
		}
	}
	y.term, y.log, y.marks, y.longest, y.snapshot = 0, nil, map[uint64]bool{}, 0, 0
	for _, x := range s.nodes {
		x.match[y.id] = 0
	}
	s.tracef("%s is replaced", y.name)
	s.start(y)
}

// reconfigure adds or removes one voter, as a leader may when its latest
// configuration and an entry of its own term are committed.
func (s *sim) reconfigure(x *node) {
	c := latest(x.log)
	if c.Index > x.commit || x.commit == 0 || x.log[x.commit-1].term != x.leads {
		return
	}
	if len(c.Voters) == len(s.nodes) {
		s.shrink = true
	} else if len(c.Voters) <= 3 {
		s.shrink = false
	}
	var voters []string
	if s.shrink {
		voters = slices.Delete(slices.Clone(c.Voters), 0, 1)
		if i := s.rng.IntN(len(c.Voters)); i > 0 {
			voters[i-1] = c.Voters[0]
		}
	} else {
		for _, i := range s.rng.Perm(len(s.nodes)) {
			if name := s.nodes[i].name; !slices.Contains(c.Voters, name) {
				voters = append(slices.Clone(c.Voters), name)
				break
			}
		}
	}
	index := s.propose(x, entry{kind: configure, configuration: lease.Configuration{Voters: voters}})
	s.stats.reconfigured++
	s.tracef("%s proposes configuration %d %v", x.name, index, voters)
}

func nodeName(i int) string { return fmt.Sprintf("%c", 'a'+i) }
