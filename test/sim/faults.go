package sim

import (
	"time"

	"holdfast/fsm"
)

// phase is a stretch of time in which the world is bad in one way or another.
type phase struct {
	name  string
	delay int64 // longest usual delay of a message
	loss  int   // percent
	late  int   // percent of messages that take up to a TTL longer
	twice int   // percent of datagrams that come twice
	slow  int   // percent of acts after which time passes
	stop  int   // percent of those after which the process stands still
	every int64 // mean time between two faults

	// What may go wrong, by weight.
	cuts, agents, nodes, edits, leaders, changes int
	harmless                                     bool // leaders and edits alone: no healthy holder may suffer
}

// kinds are the phases that a run draws from.
var kinds = []phase{
	{name: "all", delay: 8 * ms, loss: 10, late: 5, twice: 10, slow: 20, stop: 15, every: 700 * ms, cuts: 4, agents: 3, nodes: 3, edits: 2, leaders: 2, changes: 2},
	{name: "network", delay: 50 * ms, loss: 20, late: 10, twice: 20, slow: 5, stop: 5, every: 500 * ms, cuts: 6, agents: 1, nodes: 1, edits: 1, leaders: 1, changes: 1},
	{name: "agents", delay: 3 * ms, loss: 2, late: 1, twice: 5, slow: 40, stop: 30, every: 600 * ms, cuts: 1, agents: 8, nodes: 1, edits: 2},
	{name: "coordinators", delay: 3 * ms, loss: 2, late: 3, twice: 5, slow: 10, stop: 10, every: 500 * ms, cuts: 2, agents: 2, nodes: 8, edits: 1, leaders: 2, changes: 3},
	{name: "edits", delay: 5 * ms, loss: 3, late: 5, twice: 5, slow: 30, stop: 10, every: 250 * ms, cuts: 1, agents: 2, nodes: 1, edits: 10, leaders: 1},
	{name: "leaders", delay: 3 * ms, slow: 10, every: 700 * ms, edits: 1, leaders: 6, harmless: true},
}

// phases runs bad and calm stretches in turn.
func (w *world) phases(until int64) {
	second := int64(time.Second)
	w.begin()
	// How long after the last fault all is to be well: a coordinator's quiet time, a
	// session's end and another one's, elections, and calls that are tried again.
	bound := 3*int64(w.params.Promise(w.longest)) + 7*second
	for w.now < until && w.failure == "" {
		w.phase = kinds[w.rng.IntN(len(kinds))]
		w.calm = false
		end := min(w.now+20*second+w.rng.Int64N(30*second), until)
		if w.traced {
			w.tracef("---- %s until %v", w.phase.name, time.Duration(end))
		}
		w.totals.Faulty += time.Duration(end - w.now)
		w.plague(end)
		w.run(end)
		if w.failure != "" {
			return
		}
		if w.traced {
			w.tracef("---- calm")
		}
		w.heal()
		w.run(min(w.now+bound, until))
		if w.now < until && w.failure == "" {
			w.everybodyServes()
		}
		w.run(min(w.now+w.rng.Int64N(5*second), until))
	}
}

// begin notes that all hosts are well.
func (w *world) begin() {
	for _, r := range w.riders {
		r.sane = w.now
	}
}

// heal ends all faults. Whoever is down comes back.
func (w *world) heal() {
	w.calm = true
	w.net = network{}
	for _, n := range w.nodes {
		n.asleep = min(n.asleep, w.now)
		if !n.up {
			w.restart(n)
		}
	}
	w.tidy(w.now + int64(w.longest) + 10*int64(time.Second))
	for _, r := range w.riders {
		r.sleep = min(r.sleep, w.now)
		r.vetoes, r.jam = [maxSets]bool{}, 0
		r.revive.stop()
		if r.agent == nil {
			r.boots()
		} else {
			r.agent.wake = true
			r.report()
			r.plan()
		}
		r.sane = w.now + int64(w.longest)
	}
}

// tidy takes back what an operator did that keeps sets from being held, again and
// again until a time: an edit of before may be committed late.
func (w *world) tidy(until int64) {
	if !w.calm || w.now > until {
		return
	}
	var ops []fsm.Op
	if w.head.Settings().Paused {
		ops = append(ops, fsm.PauseSet{})
	}
	for _, host := range w.head.DrainedHosts() {
		ops = append(ops, fsm.DrainHost{Host: host})
	}
	for _, set := range w.head.Sets() {
		if set.Paused {
			ops = append(ops, fsm.PauseSet{Set: set.Name})
		}
	}
	if len(w.head.Sets()) == 0 {
		ops = append(ops, w.putSet(0))
	}
	for _, op := range ops {
		w.operate(op)
	}
	w.queue.push(w.now+int64(time.Second), func() { w.tidy(until) })
}

// leader returns a coordinator that leads and can work.
func (w *world) leader() *node {
	for _, n := range w.nodes {
		if n.leads != 0 && n.duty.began && n.awake() {
			return n
		}
	}
	return nil
}

// plague plans faults until the end of a bad stretch.
func (w *world) plague(end int64) {
	at := w.now + w.rng.Int64N(2*w.phase.every) + 1
	if at >= end {
		return
	}
	p := w.phase.name
	w.queue.push(at, func() {
		if !w.calm && w.phase.name == p {
			w.fault()
			w.plague(end)
		}
	})
}

// fault makes one thing go wrong.
func (w *world) fault() {
	p := &w.phase
	n := w.rng.IntN(p.cuts + p.agents + p.nodes + p.edits + p.leaders + p.changes)
	for i, weight := range [...]int{p.cuts, p.agents, p.nodes, p.edits, p.leaders, p.changes} {
		if n -= weight; n < 0 {
			[...]func(){w.faultLink, w.faultAgent, w.faultNode, w.edit, w.faultLeader, w.changeMembers}[i]()
			return
		}
	}
}

// faultLink cuts or mends links: one way, both ways, a part of the world from the rest,
// or at random, which is seldom transitive.
func (w *world) faultLink() {
	all := maxNodes + len(w.riders)
	if w.chance(35) {
		w.net = network{}
		return
	}
	if x := w.nodes[w.rng.IntN(len(w.nodes))]; w.chance(30) && x.up {
		w.strayFences(x)
	}
	a, b := w.rng.IntN(all), w.rng.IntN(all)
	if w.chance(25) {
		w.lonely(w.nodes[w.rng.IntN(len(w.nodes))], w.riders[w.rng.IntN(len(w.riders))])
		return
	}
	switch w.rng.IntN(4) {
	case 0:
		w.net.cut[a][b] = a != b
	case 1:
		w.net.cut[a][b], w.net.cut[b][a] = a != b, a != b
	case 2:
		side := w.rng.Uint32()
		for x := range all {
			for y := range all {
				w.net.cut[x][y] = w.net.cut[x][y] || side>>x&1 != side>>y&1
			}
		}
	case 3:
		for x := range all {
			w.net.cut[a][x] = a != x && w.chance(70)
		}
	}
	for _, r := range w.riders {
		r.harmed()
	}
}

// lonely cuts one coordinator off from a host for long enough that it would agree to
// end the session, and has it asked to; the others go on answering.
func (w *world) lonely(n *node, r *rider) {
	r.harmed()
	cut := func(cut bool) { w.net.cut[n.id][r.link], w.net.cut[r.link][n.id] = cut, cut }
	cut(true)
	p := w.phase.name
	w.queue.push(w.now+int64(w.params.Promise(r.ttl))*11/10+w.rng.Int64N(500*ms), func() {
		if !w.calm && w.phase.name == p && n.up {
			w.strayFences(n)
			w.queue.push(w.now+w.rng.Int64N(300*ms), func() { cut(false) })
		}
	})
}

// harmed notes that something keeps the host from renewing, or may do so.
func (r *rider) harmed() { r.sane = 0 }

// faultAgent kills, stops or ends an agent, or reboots its host; it comes back soon.
func (w *world) faultAgent() {
	r := w.riders[w.rng.IntN(len(w.riders))]
	r.harmed()
	if r.agent == nil {
		r.boots()
		return
	}
	back := w.rng.Int64N(int64(r.ttl)) / 4
	switch k := w.rng.IntN(13); {
	case k == 12:
		r.jam = uint8(1 + w.rng.IntN(3))
		return
	case k < 4:
		w.totals.Hosts.Kills++
		w.note("%s: the agent is killed", r.name)
		r.dies()
	case k < 5:
		w.totals.Hosts.Reboots++
		w.note("%s reboots", r.name)
		r.reboots()
		back += int64(r.ttl)
	case k < 8:
		r.stops(w.rng.Int64N(3 * int64(r.ttl)))
		return
	case k < 10:
		w.note("%s: the agent is told to stop", r.name)
		r.agent.stop()
		r.plan()
	default:
		s := w.rng.IntN(maxSets)
		r.vetoes[s] = !r.vetoes[s]
		w.note("%s: veto of %s is %v", r.name, sets[s], r.vetoes[s])
		r.agent.look, r.agent.wake = true, true
		r.report()
		r.plan()
		return
	}
	r.comesBack(back)
	r.clock = r.clock.steered(w.now, w.newClock().ppm)
}

// comesBack starts the agent after a while.
func (r *rider) comesBack(after int64) {
	r.w.set(&r.revive, r.w.now+after+1, func() {
		if r.agent == nil {
			r.boots()
		}
	})
}

func (w *world) note(format string, args ...any) {
	if w.traced {
		w.tracef(format, args...)
	}
}

// faultNode kills, stops or starts coordinators, one or, seldom, all of them.
func (w *world) faultNode() {
	for _, r := range w.riders {
		r.harmed()
	}
	x := w.nodes[w.rng.IntN(len(w.nodes))]
	switch k := w.rng.IntN(10); {
	case !x.up:
		w.restart(x)
	case k < 4:
		w.note("%s crashes", x.name)
		x.crash()
	case k < 5:
		w.note("all coordinators restart")
		for _, n := range w.nodes {
			n.crash()
			w.restart(n)
		}
	case k < 6:
		for _, n := range w.nodes {
			if w.chance(50) {
				w.note("%s restarts", n.name)
				n.crash()
				w.restart(n)
			}
		}
	case k < 8:
		d := w.rng.Int64N(2 * int64(w.longest))
		w.note("%s stands still for %v", x.name, time.Duration(d))
		x.asleep = w.now + d
	case k < 9:
		w.strayFences(x)
	default:
		x.snapshot()
	}
	x.clock = x.clock.steered(w.now, w.newClock().ppm)
}

// strayFences asks one coordinator to fence whatever it would: a leader may have died
// before it asked the others. Whether to ask is a matter of evidence and not of safety.
func (w *world) strayFences(x *node) {
	if x.asleep > w.now || x.disk.latest().Index == 0 {
		return
	}
	for _, s := range x.state.Sessions() {
		stray := &ending{n: x, session: uint64(s.ID), config: x.disk.latest()}
		stray.fence(x, func(func()) {})
	}
}

// restart starts a coordinator, sometimes from the older of its snapshots.
func (w *world) restart(n *node) {
	w.totals.Cluster.Restarts++
	n.start(w.chance(30))
}

// faultLeader makes another coordinator lead.
func (w *world) faultLeader() {
	x := w.nodes[w.rng.IntN(len(w.nodes))]
	if c := x.disk.latest(); x.up && c.votes(x.name) && x.leads == 0 {
		x.elect(c)
	}
	if w.chance(30) {
		x.snapshot()
	}
}
