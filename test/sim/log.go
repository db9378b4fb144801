package sim

import (
	"slices"

	"holdfast/coordinator/lease"
	"holdfast/fsm"
)

// The replicated log. Its steps are atomic exchanges between two coordinators, which
// happen late, in any order or never; so there may be several leaders of different
// terms, uncommitted entries that are cut off or committed by a later leader, and
// followers that are brought up by a snapshot.

// entry is one entry of the log. Logs share entries; what an entry did is computed
// once, when it is first committed, as every replica comes to the same state.
type entry struct {
	index, term uint64
	config      *config   // of a configuration entry
	command     fsm.Entry // no ops = a leader's first, empty entry
	bytes       []byte    // the command as it stands in a real log, in runs that use the wire

	after  *fsm.State // after it; set once it is committed, never changed
	result fsm.Result
	views  [maxHosts]*view
}

// config is one configuration entry's content.
type config struct {
	lease.Configuration          // the voters
	learners            []string // the nonvoters
}

func (c *config) votes(name string) bool { return slices.Contains(c.Voters, name) }
func (c *config) has(name string) bool   { return c.votes(name) || slices.Contains(c.learners, name) }

// snapshot is a saved state with the last entry that it covers.
type snapshot struct {
	index, term uint64
	state       *fsm.State
	bytes       []byte // in runs that use the wire
	configs     []*config
}

// disk is what a coordinator does not forget.
type disk struct {
	term      uint64
	log       []*entry
	base      uint64 // index of the entry before the first of log
	baseTerm  uint64
	snapshots [2]*snapshot // older, newest
	configs   []*config    // in snapshot and log, rising
	marks     []uint64
	longest   int64
}

func (d *disk) last() uint64 { return d.base + uint64(len(d.log)) }

func (d *disk) lastTerm() uint64 {
	if len(d.log) == 0 {
		return d.baseTerm
	}
	return d.log[len(d.log)-1].term
}

// at returns an entry, nil if it is not in the log.
func (d *disk) at(index uint64) *entry {
	if index <= d.base || index > d.last() {
		return nil
	}
	return d.log[index-d.base-1]
}

func (d *disk) termAt(index uint64) (uint64, bool) {
	if index == d.base {
		return d.baseTerm, true
	}
	if e := d.at(index); e != nil {
		return e.term, true
	}
	return 0, false
}

// latest is the latest configuration in the log, committed or not.
func (d *disk) latest() *config {
	if n := len(d.configs); n > 0 {
		return d.configs[n-1]
	}
	return &config{}
}

func (d *disk) append(e *entry) {
	d.log = append(d.log, e)
	if e.config != nil {
		d.configs = append(slices.Clip(d.configs), e.config)
	}
}

// cut removes all behind index.
func (d *disk) cut(index uint64) {
	d.log = d.log[: index-d.base : index-d.base]
	for len(d.configs) > 0 && d.configs[len(d.configs)-1].Index > index {
		d.configs = d.configs[:len(d.configs)-1]
	}
}

// compact removes all up to index.
func (d *disk) compact(index uint64) {
	if index <= d.base {
		return
	}
	d.baseTerm, _ = d.termAt(index)
	d.log = slices.Clone(d.log[index-d.base:])
	d.base = index
}

// common is the last index at which two logs agree; false if it lies in front of
// what x still has.
func common(x, y *disk) (uint64, bool) {
	for i := min(x.last(), y.last()); ; i-- {
		a, inX := x.termAt(i)
		b, inY := y.termAt(i)
		switch {
		case !inX:
			return 0, false
		case !inY:
			// y's snapshot covers it, so it is committed, and x has it as it is.
			return y.base, y.base >= x.base && y.base <= x.last()
		case a == b:
			return i, true
		case i == 0:
			return 0, x.base == 0
		}
	}
}

func upToDate(x, y *disk) bool {
	return x.lastTerm() > y.lastTerm() || x.lastTerm() == y.lastTerm() && x.last() >= y.last()
}
