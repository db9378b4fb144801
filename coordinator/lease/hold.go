package lease

import (
	"slices"
	"time"
)

const (
	// maxConfigurations is how many configurations a holder counts answers
	// for at once: coordinators that lag name older ones.
	maxConfigurations = 4
	// maxRounds is how many rounds a holder remembers: ten times as many as a
	// TTL has at the default rate. Only rounds younger than the TTL are of use.
	maxRounds = 64
)

// Holder is an agent's half of the lease of one session: it turns answers into a
// deadline. It is not safe for concurrent use.
type Holder struct {
	session  Session
	process  uint64
	sequence uint64 // of the newest round
	newest   Time   // its send time
	rounds   [maxRounds]round

	counts   []*count // by when they were last told, oldest first
	heard    map[string]Time
	deadline Time
	proven   bool // deadline is set
	fenced   bool
	scratch  []Time
}

type round struct {
	sequence uint64 // 0 = none
	t0       Time
}

// count holds the answers within one configuration.
type count struct {
	configuration Configuration
	sent          []Time // newest answered send time, by position in Voters
	answered      []bool
}

// NewHolder returns the holder of a session that has no deadline: that a session
// was opened gives no lease (agent rule 1). process is the Process of its rounds.
func NewHolder(s Session, process uint64) *Holder {
	return &Holder{session: s, process: process, heard: make(map[string]Time)}
}

// Session returns the session held.
func (h *Holder) Session() Session { return h.session }

// SetConfiguration tells a configuration that some coordinator has told the agent.
// Several count at once, the last four that were told. A deadline that was proven
// under one stands when it is dropped: the promises behind it were made.
func (h *Holder) SetConfiguration(c Configuration) {
	i := slices.IndexFunc(h.counts, func(n *count) bool { return n.configuration.Index == c.Index })
	var n *count
	switch {
	case i >= 0:
		n = h.counts[i]
		h.counts = slices.Delete(h.counts, i, i+1)
	case len(h.counts) == maxConfigurations:
		h.counts = slices.Delete(h.counts, 0, 1)
	}
	// Different voters at a known index: one of the two was never committed.
	// Which one the answers so far were for is not known, so they are dropped.
	if n == nil || !n.configuration.equal(c) {
		c.Voters = slices.Clone(c.Voters)
		n = &count{c, make([]Time, len(c.Voters)), make([]bool, len(c.Voters))}
	}
	h.counts = append(h.counts, n)
}

// Begin starts a round. t0 must be read before the first datagram of the round
// leaves, and it is all that counts (agent rule 1): a pause anywhere after it only
// shortens the lease.
func (h *Holder) Begin(t0 Time) Round {
	h.sequence++
	h.newest = t0
	h.rounds[h.sequence%maxRounds] = round{h.sequence, t0}
	return Round{Process: h.process, Sequence: h.sequence}
}

// Repeat returns the newest round, to be sent once more, as long as it has not proven a
// deadline; then, and before the first round, it is time to Begin one.
//
// A holder that is heard and hears nobody, or that too few hear, would keep promises
// alive with new rounds though its own deadline has passed, and nobody could take
// over. A round that is repeated is answered again and extends no promise
// (coordinator rule 1).
func (h *Holder) Repeat() (Round, bool) {
	if h.sequence == 0 || h.proven && h.deadline >= h.newest.Add(h.session.TTL) {
		return Round{}, false
	}
	return Round{Process: h.process, Sequence: h.sequence}, true
}

// Answer takes a verified answer and returns the deadline, and whether the answer
// has moved it. It ignores answers to rounds that it does not know (agent rule 2),
// that are older than the TTL, of another session, and from coordinators that are
// no voters of the configuration named. The deadline never moves backwards.
func (h *Holder) Answer(a Answer) (deadline Time, moved bool) {
	if a.Session != h.session.ID {
		return h.deadline, false
	}
	t0, ok := h.sent(a.Round)
	if !ok {
		return h.deadline, false
	}
	if a.Fenced { // no promise: it counts for nothing but itself
		h.fenced = true
		return h.deadline, false
	}
	i := slices.IndexFunc(h.counts, func(n *count) bool { return n.configuration.Index == a.Configuration })
	if i < 0 {
		return h.deadline, false
	}
	n := h.counts[i]
	j := slices.Index(n.configuration.Voters, a.Coordinator)
	if j < 0 {
		return h.deadline, false
	}
	if last, ok := h.heard[a.Coordinator]; !ok || t0 > last {
		h.heard[a.Coordinator] = t0
	}
	if n.answered[j] && t0 <= n.sent[j] { // late or repeated
		return h.deadline, false
	}
	n.sent[j], n.answered[j] = t0, true
	return h.raise(n)
}

// raise computes the deadline within one configuration (leader rule 2: per
// configuration, with its members, and the largest of them).
func (h *Holder) raise(n *count) (deadline Time, moved bool) {
	h.scratch = h.scratch[:0]
	for j, ok := range n.answered {
		if ok {
			h.scratch = append(h.scratch, n.sent[j])
		}
	}
	majority := n.configuration.Majority()
	if len(h.scratch) < majority {
		return h.deadline, false
	}
	slices.Sort(h.scratch)
	// Agent rule 1: the majority-th largest, so that a majority has promised
	// for a send time at least as late.
	return h.prove(h.scratch[len(h.scratch)-majority].Add(h.session.TTL))
}

func (h *Holder) prove(d Time) (deadline Time, moved bool) {
	if h.proven && d <= h.deadline {
		return h.deadline, false
	}
	h.deadline, h.proven = d, true
	return d, true
}

// sent returns the send time of a round, if it is known and of any use.
func (h *Holder) sent(r Round) (t0 Time, ok bool) {
	known := h.rounds[r.Sequence%maxRounds]
	if r.Process != h.process || r.Sequence == 0 || known.sequence != r.Sequence {
		return 0, false
	}
	return known.t0, h.newest.Sub(known.t0) < h.session.TTL
}

// Adopt takes over the deadline that a predecessor of this process wrote to the
// session file on this boot. It must be one that answers had proven (agent rule 6).
func (h *Holder) Adopt(deadline Time) { h.prove(deadline) }

// Deadline is until when the holder may act; zero if nothing was proven yet. It is
// not lowered when a coordinator answers Fenced: a single mark ends nothing.
func (h *Holder) Deadline() Time { return h.deadline }

// Lapsed says whether the holder may no longer, or not yet, act at now.
func (h *Holder) Lapsed(now Time) bool { return !h.proven || now >= h.deadline }

// Remaining is how long the holder may act from now, 0 if it has lapsed.
func (h *Holder) Remaining(now Time) time.Duration {
	if h.Lapsed(now) {
		return 0
	}
	return h.deadline.Sub(now)
}

// Fenced says whether some coordinator has answered that the session is marked:
// time to open a new one (agent rule 7).
func (h *Holder) Fenced() bool { return h.fenced }

// Heard returns the newest send time that the coordinator has answered with a
// promise, for status.
func (h *Holder) Heard(coordinator string) (t0 Time, ok bool) {
	t0, ok = h.heard[coordinator]
	return t0, ok
}
