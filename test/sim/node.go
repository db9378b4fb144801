package sim

import (
	"fmt"
	"slices"
	"time"

	"holdfast/coordinator/lease"
	"holdfast/coordinator/ledger"
	"holdfast/coordinator/schedule"
	"holdfast/fsm"
)

const (
	maxNodes = 5
	maxHosts = 3
)

// node is one coordinator: the shipped ledger, state and scheduler, and around them a
// disk, a log and a process that can stop at any time.
type node struct {
	w     *world
	id    int
	name  string
	clock clock
	disk  disk

	up     bool
	life   int   // counts processes: what an older one has under way is void
	asleep int64 // real time until which the process stands still

	// Memory.
	leads           uint64 // term that it leads, 0 = none
	commit, applied uint64
	match           [maxNodes]uint64
	syncing         [maxNodes]bool
	waiting         []waiter
	state           *fsm.State
	ledger          *ledger.Ledger
	duty            leading
	views           [maxHosts]watch
	timers          timers
}

// timers are what a coordinator wants to be woken for.
type timers struct {
	election timer
	duties   timer // of the leader's work
	house    timer
}

// waiter is a proposal under way.
type waiter struct {
	e    *entry
	done func(res fsm.Result, ok bool)
}

// leading is what a leader has under way.
type leading struct {
	began      bool // all of earlier terms is applied
	seen       *schedule.Tracker
	notBefore  map[uint64]lease.Time
	scheduling bool
	lookAt     lease.Time
}

func (n *node) now() lease.Time { return n.clock.at(n.w.now) }

// alive runs f unless the process that planned it is gone; if it stands still, when it
// goes on.
func (n *node) alive(life int, f func()) {
	switch {
	case !n.up || n.life != life:
	case n.asleep > n.w.now:
		n.w.queue.push(n.asleep, func() { n.alive(life, f) })
	default:
		f()
	}
}

// later runs f on the node after a while.
func (n *node) later(d int64, f func()) {
	life := n.life
	n.w.queue.push(n.w.now+d, func() { n.alive(life, f) })
}

// start starts the process: it goes back to the newest snapshot or, if that cannot be
// read, to the older one, and knows of nothing committed behind it.
func (n *node) start(older bool) {
	n.up, n.asleep = true, 0
	n.life++
	n.leads, n.match, n.syncing, n.waiting = 0, [maxNodes]uint64{}, [maxNodes]bool{}, nil
	n.duty = leading{}
	n.timers.election.stop()
	n.timers.duties.stop()
	n.timers.house.stop()
	n.ledger = ledger.New(lease.VoterConfig{
		Name: n.name, Params: n.w.params, Start: n.now(), LongestTTL: time.Duration(n.disk.longest), Marks: n.disk.marks,
	})
	snap := n.disk.snapshots[1]
	if o := n.disk.snapshots[0]; older && o != nil && o.index >= n.disk.base {
		snap = o
	}
	n.commit, n.applied, n.state = 0, 0, fsm.New()
	if snap != nil {
		n.restore(snap)
		n.w.totals.Cluster.Restored++
	}
	n.configured()
	n.views = [maxHosts]watch{}
	n.arm()
}

// restore takes over a snapshot's state, which is on disk.
func (n *node) restore(s *snapshot) {
	n.commit, n.applied, n.state = max(n.commit, s.index), s.index, s.state
	if s.bytes != nil {
		st, err := fsm.Restore(s.bytes)
		if err != nil {
			n.w.fail("snapshot %d cannot be read: %v", s.index, err)
			return
		}
		n.state = st
	}
	n.ledger.Met(n.now(), n.state)
	n.ledger.SetApplied(n.state.Applied())
	n.ledger.Persisted(n.state.Applied())
}

// configured tells the voter the latest configuration in the log.
func (n *node) configured() {
	if c := n.disk.latest(); c.Index != 0 {
		n.ledger.SetConfiguration(n.now(), c.Configuration)
		n.watchAll()
	}
}

// crash ends the process. What was written is there, what was not is not.
func (n *node) crash() {
	n.up = false
	n.life++
	n.leads, n.waiting = 0, nil
}

// apply applies what is committed.
func (n *node) apply() {
	for n.applied < n.commit {
		e := n.disk.at(n.applied + 1)
		if e == nil || e.after == nil || n.w.committed(e.index) != e {
			n.w.fail("%s applies entry %d, which is not committed: the simulation's log is wrong", n.name, n.applied+1)
			return
		}
		n.applied, n.state = e.index, e.after
		if len(e.command.Ops) > 0 {
			n.ledger.Met(n.now(), n.state)
		}
		n.ledger.SetApplied(e.index)
		n.finish(e)
	}
	n.watchAll()
	n.keepHouse()
	n.wake(0)
}

// finish answers whoever proposed the entry.
func (n *node) finish(e *entry) {
	if e.config == nil && len(e.command.Ops) == 0 && e.term == n.leads {
		n.beginTerm()
	}
	for i, x := range n.waiting {
		if x.e == e {
			n.waiting = slices.Delete(n.waiting, i, i+1)
			x.done(e.result, true)
			return
		}
	}
}

// keepHouse makes durable what follows from applied entries: see the coordinator's
// housekeeping.
func (n *node) keepHouse() {
	want := ledger.WantedTTL(n.state, time.Duration(n.disk.longest))
	if int64(want) == n.disk.longest && len(n.disk.marks) == 0 {
		return
	}
	life := n.life
	n.w.set(&n.timers.house, n.w.now+n.w.diskDelay(), func() {
		n.alive(life, func() {
			if want := ledger.WantedTTL(n.state, time.Duration(n.disk.longest)); int64(want) > n.disk.longest {
				n.disk.longest = int64(want)
				n.ledger.RaiseLongestTTL(want)
			}
			if done := n.ledger.Unneeded(n.state, n.disk.marks); len(done) > 0 {
				n.w.totals.Cluster.Unmarked += len(done)
				n.disk.marks = slices.DeleteFunc(slices.Clone(n.disk.marks), func(id uint64) bool { return slices.Contains(done, id) })
			}
		})
	})
}

// snapshot begins to save the state; it is on disk a moment later.
func (n *node) snapshot() {
	if n.applied == 0 || n.disk.snapshots[1] != nil && n.disk.snapshots[1].index >= n.applied {
		return
	}
	term, ok := n.disk.termAt(n.applied)
	if !ok {
		return
	}
	s := &snapshot{index: n.applied, term: term, state: n.state, configs: n.configsUpTo(n.applied)}
	if n.w.wire {
		s.bytes = n.state.Snapshot()
	}
	n.later(n.w.diskDelay(), func() {
		if n.disk.snapshots[1] != nil && n.disk.snapshots[1].index >= s.index {
			return
		}
		n.save(s)
		n.ledger.Persisted(s.state.Applied())
		n.keepHouse()
	})
}

// save puts a snapshot in its place; the log keeps what the older one needs.
func (n *node) save(s *snapshot) {
	n.disk.snapshots[0], n.disk.snapshots[1] = n.disk.snapshots[1], s
	n.w.totals.Cluster.Snapshots++
	if older := n.disk.snapshots[0]; older != nil && n.w.chance(50) {
		n.disk.compact(older.index)
	}
}

func (n *node) configsUpTo(index uint64) []*config {
	var out []*config
	for _, c := range n.disk.configs {
		if c.Index <= index {
			out = append(out, c)
		}
	}
	return out
}

// String names the node for the trace.
func (n *node) String() string {
	role := ""
	if n.leads != 0 {
		role = fmt.Sprintf("(leads %d)", n.leads)
	}
	return n.name + role
}
