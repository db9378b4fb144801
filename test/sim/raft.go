package sim

import (
	"slices"

	"holdfast/coordinator/lease"
	"holdfast/coordinator/schedule"
	"holdfast/fsm"
)

// arm plans the next look at who leads.
func (n *node) arm() {
	life := n.life
	wait := int64(300 * ms)
	if n.w.calm {
		wait = 900 * ms
	}
	n.w.set(&n.timers.election, n.w.now+wait+n.w.rng.Int64N(wait), func() {
		n.alive(life, func() {
			n.look()
			n.arm()
		})
	})
}

// look elects this node if it hears no leader, and deposes it if it hears no majority.
func (n *node) look() {
	c := n.disk.latest()
	if n.leads != 0 {
		if n.reachable(c) < c.Majority() {
			n.depose("hears no majority")
		}
		return
	}
	if !c.votes(n.name) {
		return
	}
	for _, x := range n.w.nodes {
		if x.leads != 0 && x.leads >= n.disk.term && x.awake() && !n.w.net.cut[x.id][n.id] && x.disk.latest().has(n.name) {
			return
		}
	}
	n.elect(c)
}

func (n *node) awake() bool { return n.up && n.asleep <= n.w.now }

// reaches says whether a question and its answer get through.
func (n *node) reaches(y *node) bool {
	return y == n || y.awake() && !n.w.net.cut[n.id][y.id] && !n.w.net.cut[y.id][n.id]
}

func (n *node) reachable(c *config) int {
	count := 0
	for _, y := range n.w.nodes {
		if c.votes(y.name) && n.reaches(y) {
			count++
		}
	}
	return count
}

// elect makes the node the leader of a new term if a majority votes for it.
func (n *node) elect(c *config) {
	term := n.disk.term + 1
	votes := 0
	for _, y := range n.w.nodes {
		if !c.votes(y.name) || !n.reaches(y) {
			continue
		}
		if y != n && y.disk.term >= term {
			term = y.disk.term + 1 // it tries again at once
		}
	}
	for _, y := range n.w.nodes {
		if c.votes(y.name) && n.reaches(y) && upToDate(&n.disk, &y.disk) && (y == n || !n.w.chance(10)) {
			votes++
			y.see(term)
		}
	}
	if votes < c.Majority() {
		n.disk.term = max(n.disk.term, term)
		return
	}
	n.disk.term = term
	n.leads, n.match, n.syncing = term, [maxNodes]uint64{}, [maxNodes]bool{}
	n.duty = leading{}
	n.w.totals.Cluster.Elections++
	if n.w.traced {
		n.w.tracef("%s leads term %d", n.name, term)
	}
	n.append(&entry{})
}

// see takes in a newer term.
func (n *node) see(term uint64) {
	if term > n.disk.term {
		n.disk.term = term
		n.depose("a newer term")
	}
}

func (n *node) depose(why string) {
	if n.leads == 0 {
		return
	}
	if n.w.traced {
		n.w.tracef("%s leads no more: %s", n.name, why)
	}
	n.leads = 0
	n.timers.duties.stop()
	n.duty.began = false
	waiting := n.waiting
	n.waiting = nil
	for _, x := range waiting {
		x.done(fsm.Result{}, false)
	}
}

// append puts an entry at the end of a leader's log.
func (n *node) append(e *entry) {
	e.index, e.term = n.disk.last()+1, n.leads
	if e.config != nil {
		e.config.Index, e.config.Previous = e.index, n.disk.latest().Index
	}
	n.disk.append(e)
	if e.config != nil {
		n.configured()
	}
	n.advance()
	n.syncAll()
}

// propose commits a command, if the node leads and goes on leading.
func (n *node) propose(e fsm.Entry, done func(res fsm.Result, ok bool)) {
	if n.leads == 0 || !n.duty.began {
		done(fsm.Result{}, false)
		return
	}
	e.Version = fsm.EntryVersion
	x := &entry{command: e}
	if n.w.wire {
		b, err := e.Encode()
		if err != nil {
			n.w.fail("encode %v: %v", e, err)
			return
		}
		x.bytes = b
	}
	n.waiting = append(n.waiting, waiter{x, done})
	n.append(x)
}

// proposeFollowed commits ops and, in the same entry, what the scheduler makes of
// them.
func (n *node) proposeFollowed(ops []fsm.Op, done func(res fsm.Result, ok bool)) {
	if n.leads == 0 || !n.duty.began {
		done(fsm.Result{}, false)
		return
	}
	e, err := schedule.Follow(n.input(n.state.Clone(), n.duty.seen.Clone()), fsm.Entry{Version: fsm.EntryVersion, Ops: ops})
	if err != nil {
		n.w.fail("try an entry: %v", err)
		return
	}
	n.propose(e, done)
}

// syncAll brings all others up to date, each as soon as it can be.
func (n *node) syncAll() {
	c := n.disk.latest()
	for _, y := range n.w.nodes {
		if y != n && c.has(y.name) {
			n.sync(y, n.w.delay())
		}
	}
}

func (n *node) sync(y *node, after int64) {
	if n.syncing[y.id] || n.leads == 0 {
		return
	}
	n.syncing[y.id] = true
	term := n.leads
	n.later(after, func() {
		n.syncing[y.id] = false
		if n.leads != term || !n.disk.latest().has(y.name) {
			return
		}
		if n.w.net.cut[n.id][y.id] || !y.awake() {
			n.sync(y, 100*ms+n.w.rng.Int64N(100*ms))
			return
		}
		n.replicate(y)
		if n.leads == term && (n.match[y.id] < n.disk.last() || y.commit < n.commit) {
			n.sync(y, n.w.delay()+ms)
		}
	})
}

// replicate is one exchange with a follower.
func (n *node) replicate(y *node) {
	if y.disk.term > n.leads {
		if !n.w.net.cut[y.id][n.id] {
			n.see(y.disk.term)
		}
		return
	}
	y.see(n.leads)
	if y.leads != 0 {
		n.w.fail("%s and %s lead term %d: the simulation's log is wrong", n.name, y.name, n.leads)
		return
	}
	at, ok := common(&n.disk, &y.disk)
	if !ok {
		n.install(y)
		return
	}
	if at < y.disk.last() && at < n.disk.last() {
		if at < y.commit {
			n.w.fail("%s cuts a committed entry of %s off: the simulation's log is wrong", n.name, y.name)
			return
		}
		y.disk.cut(at)
		n.w.totals.Cluster.Cuts++
		y.configured()
	}
	to := n.disk.last()
	if !n.w.calm && to > at && n.w.chance(10) {
		to = at + 1 + uint64(n.w.rng.Int64N(int64(to-at)))
	}
	known := len(y.disk.configs)
	for i := at + 1; i <= to; i++ {
		y.disk.append(n.disk.at(i))
	}
	if len(y.disk.configs) != known {
		y.configured()
	}
	n.acknowledged(y, max(at, to))
}

// acknowledged ends an exchange: the follower learns what is committed, and, if its
// answer arrives, the leader what it has.
func (n *node) acknowledged(y *node, to uint64) {
	if commit := min(n.commit, to); commit > y.commit {
		y.commit = commit
		y.later(n.w.applyDelay(), y.apply)
	}
	if n.w.net.cut[y.id][n.id] || n.w.lost() {
		return
	}
	n.match[y.id] = max(n.match[y.id], to)
	n.advance()
}

// install sends the newest snapshot.
func (n *node) install(y *node) {
	s := n.disk.snapshots[1]
	if s == nil || s.index <= y.applied {
		return
	}
	n.w.totals.Cluster.Installed++
	y.disk.log, y.disk.base, y.disk.baseTerm = nil, s.index, s.term
	y.disk.configs = slices.Clone(s.configs)
	y.disk.snapshots[0], y.disk.snapshots[1] = y.disk.snapshots[1], s
	y.configured()
	y.restore(s)
	y.watchAll()
	n.acknowledged(y, s.index)
}

// advance commits what a majority has.
func (n *node) advance() {
	c := n.disk.latest()
	for i := n.disk.last(); i > n.commit; i-- {
		if e := n.disk.at(i); e == nil || e.term != n.leads {
			return
		}
		have := 0
		for _, y := range n.w.nodes {
			if c.votes(y.name) && (y == n || n.match[y.id] >= i) {
				have++
			}
		}
		if have < c.Majority() {
			continue
		}
		n.commit = i
		for j := len(n.w.history) + 1; uint64(j) <= i; j++ {
			n.w.commit(n.disk.at(uint64(j)))
		}
		n.syncAll()
		n.later(0, n.apply)
		if !c.votes(n.name) {
			n.depose("is no member any more")
		}
		return
	}
}

// input is what the scheduler goes by.
func (n *node) input(st *fsm.State, seen *schedule.Tracker) schedule.Input {
	now := n.now()
	return schedule.Input{
		State: st, Seen: seen, Now: durationOf(now),
		Live: func(id fsm.SessionID) bool { return n.ledger.Live(now, id) },
	}
}

// change makes a leader append a configuration, if the entry before it is committed:
// the log waits for proposals under way.
func (n *node) change(voters, learners []string) bool {
	if n.leads == 0 || !n.duty.began || n.commit != n.disk.last() {
		return false
	}
	slices.Sort(voters)
	n.w.totals.Cluster.Changes++
	n.append(&entry{config: &config{Configuration: lease.Configuration{Voters: voters}, learners: learners}})
	if n.w.traced {
		n.w.tracef("%s appends configuration %d: %v and %v", n.name, n.disk.latest().Index, voters, learners)
	}
	return true
}
