// Package schedule decides which host should hold which set and which broker should be
// master of which group (masters.go), and says why. It is a pure function of the replicated state, of which sessions are live, and
// of time as an argument; it has no clock, no I/O and no dependence on the
// order of maps.
//
// The rules of sets, in the order in which they are asked:
//
//   - Units. The sets of one sync group are one unit: placed on one host by
//     one decision, on the sum of their effective priorities. Any other set is
//     a unit by itself. If one set of a group is paused, so is the unit.
//   - Eligible is a host that is a candidate of every set of the unit, has a
//     live session (the newest live one counts), is not drained, whose health
//     checks veto none of the sets, and that holds no other set of the same
//     anti-affinity label.
//   - Effective priority is priority plus the condition's weight, kept within
//     1 to 254 as in VRRP.
//   - Order. A host that an operator moved the unit to goes before all others.
//     Then the host with fewer other sets of the same spread label, then the
//     higher effective priority, then the name.
//   - A free unit goes to the best eligible host. Units with the fewest
//     eligible hosts choose first. No set is taken from its holder to make
//     room for another one.
//   - A held unit stays where it is while its holder is eligible. It is
//     recalled if an operator moved it to another eligible host; or if it
//     preempts (a group: if every set of it does) and a host that has been
//     eligible for the preempt delay (a group: the longest) is strictly better,
//     where equal is not better.
//   - If the holder is not eligible, the unit is recalled for the best
//     eligible host. If there is none: a vetoed holder gives it up all the
//     same, as it is broken and must not answer for the address; any other
//     holder (drained, no candidate any more, against an anti-affinity label
//     that was added later) serves on until another host can take over.
//   - A holder without a live session is left alone: only its own release or
//     its fencing frees what it holds, so a recall would do nothing but move
//     the unit if it comes back a moment later. The rest of its unit waits.
//   - A recalled set is left alone until it is free.
//
// Applying the decisions over and over comes to rest: each voluntary move
// brings a unit to the operator's choice, or lowers the number of pairs of
// sets that share a host and a spread label, or leaves that number and raises
// the effective priority.
package schedule

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast/fsm"
)

// ErrUnknownSet says that there is no set of that name.
var ErrUnknownSet = errors.New("unknown set")

// Input is all that a decision depends on.
type Input struct {
	State *fsm.State // read, never changed
	// Live says whether a session is renewing. nil means that all are.
	Live func(fsm.SessionID) bool
	// Now is any monotonic time; it is only compared with earlier Nows of the
	// same Tracker.
	Now time.Duration
	// Seen remembers since when hosts have been eligible, and groups without a member of
	// their in-sync set. nil means that every delay has passed.
	Seen *Tracker
	// Replica is what a broker last said of its replica of a group, the zero value if
	// nothing. nil means that nobody has said anything.
	Replica func(group, broker string) Replica
}

// Placement gives a free set to a session.
type Placement struct {
	Set     string
	Session fsm.SessionID
	Host    string // of the session
	Reason  string
}

// Recall asks the holder of a set to release it.
type Recall struct {
	Set    string
	Epoch  fsm.Epoch // of the grant that is meant
	From   string    // the holder's host
	To     string    // who is meant to be next, "" = nobody can take it
	Reason string
}

// Decision is what should be committed now. The rows are ordered by set.
type Decision struct {
	Grants  []Placement
	Recalls []Recall
	Masters []Mastership // of free broker groups, by group
	// Again is after how long a delay ends that would change the
	// decision. 0 = nothing waits.
	Again time.Duration
}

// Ops are the commands that carry the decision out.
func (d Decision) Ops() []fsm.Op {
	var ops []fsm.Op
	for _, g := range d.Grants {
		ops = append(ops, fsm.GrantSet{Set: g.Set, Session: g.Session, Cause: g.Reason})
	}
	for _, r := range d.Recalls {
		ops = append(ops, fsm.RecallSet{Set: r.Set, Epoch: r.Epoch, To: r.To, Cause: r.Reason})
	}
	for _, m := range d.Masters {
		ops = append(ops, fsm.GrantGroup{Group: m.Group, Session: m.Session, Unclean: m.Unclean, Cause: m.Reason})
	}
	return ops
}

// Follow adds to an entry what is to be granted and recalled once it is applied: a
// release or an expiry then costs one commit, not two. The entry is tried out on
// in.State, which must be a copy, and in.Seen is told. The error is that of
// [fsm.State.ApplyEntry].
func Follow(in Input, e fsm.Entry) (fsm.Entry, error) {
	// The trial uses an index that the entry will not have; only the shape of the
	// state after it matters here.
	if _, err := in.State.ApplyEntry(in.State.Applied()+1, e); err != nil {
		return e, err
	}
	e.Ops = append(slices.Clip(e.Ops), Decide(in).Ops()...)
	return e, nil
}

// Decide says what to grant and what to recall in this state. It notes who is
// eligible in in.Seen.
func Decide(in Input) Decision {
	if in.Seen != nil {
		in.Seen.Observe(in)
	}
	p := newPlan(in)
	p.run()
	d := p.result()
	masters, again := newMasters(in).run()
	d.Masters = masters
	if again > 0 && (d.Again == 0 || again < d.Again) {
		d.Again = again
	}
	return d
}

// Tracker remembers since when each host has been eligible for each set
// without a break, as far as one process has seen it: a new leader starts
// anew, so preempt delays begin again. It is not safe for concurrent use.
type Tracker struct {
	since map[pair]sighting
	bare  map[string]time.Duration // since when a group has been seen with no open session of its in-sync set
	round uint64
}

type pair struct{ set, host string }

type sighting struct {
	since time.Duration
	round uint64 // of the last Observe that saw it
}

// NewTracker returns a Tracker that has seen nothing.
func NewTracker() *Tracker {
	return &Tracker{since: make(map[pair]sighting), bare: make(map[string]time.Duration)}
}

// Clone returns an independent copy, for a decision on a state that has not
// come about yet.
func (t *Tracker) Clone() *Tracker {
	return &Tracker{since: maps.Clone(t.since), bare: maps.Clone(t.bare), round: t.round}
}

// Observe notes who is eligible in this state, not counting anti-affinity,
// which is a matter of the others' places and not of the host. [Decide] calls
// it by itself. Now must not go back.
func (t *Tracker) Observe(in Input) {
	t.round++
	p := newPlan(in)
	for _, set := range in.State.Sets() {
		for _, c := range set.Candidates {
			h := p.host(c.Host)
			if !h.usable() || h.live.Conditions[set.Name].Veto {
				continue
			}
			key := pair{set.Name, c.Host}
			seen, known := t.since[key]
			if !known {
				seen.since = in.Now
			}
			seen.round = t.round
			t.since[key] = seen
		}
	}
	for key, seen := range t.since {
		if seen.round != t.round {
			delete(t.since, key)
		}
	}
	t.observeGroups(in)
}

// observeGroups notes which groups have no open session of their in-sync set.
func (t *Tracker) observeGroups(in Input) {
	bare := make(map[string]bool)
	open := newMasters(in).open
	for _, g := range in.State.Groups() {
		bare[g.Name] = !slices.ContainsFunc(g.Record.InSync, func(id string) bool { return open[id] })
		if _, known := t.bare[g.Name]; bare[g.Name] && !known {
			t.bare[g.Name] = in.Now
		}
	}
	maps.DeleteFunc(t.bare, func(name string, _ time.Duration) bool { return !bare[name] })
}

// bareFor says for how long a group has been seen so.
func (t *Tracker) bareFor(name string, now time.Duration) time.Duration {
	since, known := t.bare[name]
	if !known {
		return 0
	}
	return now - since
}

// eligibleFor says how long a host has been eligible for a set. One that was
// never seen has just become so.
func (t *Tracker) eligibleFor(set, host string, now time.Duration) time.Duration {
	seen, known := t.since[pair{set, host}]
	if !known {
		return 0
	}
	return now - seen.since
}

// Explanation tells why a set is where it is.
type Explanation struct {
	Set      string
	Holder   string // "" = free
	Decision string // what would be done now, and why
	// Candidates are in the order of the set's own list; a holder that is no
	// candidate any more comes last.
	Candidates []Candidate
	// IfHostDies has the holder first, then every eligible host by rank.
	IfHostDies []Loss
}

// Candidate tells of one host why it could hold the set, or why not.
type Candidate struct {
	Host      string
	Priority  int // as configured, 0 = no candidate
	Effective int // with the weight of its health checks, 1 to 254
	Eligible  bool
	Holder    bool
	Reasons   []string // why not; or, if eligible, where it stands
}

// Loss tells what would become of the set if a host died now.
type Loss struct {
	Host   string
	Next   string // who would hold the set, "" = nobody
	Reason string
}

// Explain tells what [Decide] would do about one set and why. It changes
// nothing, in.Seen included. The error is [ErrUnknownSet].
func Explain(in Input, set string) (Explanation, error) {
	if _, ok := in.State.Set(set); !ok {
		return Explanation{}, fmt.Errorf("explain %q: %w", set, ErrUnknownSet)
	}
	p := newPlan(in)
	p.run()
	return p.explain(set), nil
}
