package sim

import (
	"slices"
	"time"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/tenure"
)

// rider is a host in the simulation: its clock, its links and what is under way.
type rider struct {
	*host
	w     *world
	id    int
	link  int // its place in the network
	clock clock
	life  int   // counts processes of the agent
	sleep int64 // real time until which the process stands still

	told      [maxNodes]lease.Configuration
	steps     bool // the owner's next act is planned
	rounds    timer
	wakes     timer
	heard     [maxNodes]lease.Time
	retry     lease.Time // when the owner wants to try something again
	looked    lease.Time // when it last looked at the deadlines
	reporting *call
	reported  uint64 // session for which the conditions were told
	sane      int64  // real time since when nothing keeps it from renewing
	revive    timer
}

func (r *rider) now() lease.Time { return r.clock.at(r.w.now) }

// alive runs f unless the process is gone; if it stands still, when it goes on.
func (r *rider) alive(life int, f func()) {
	switch {
	case r.agent == nil || r.life != life:
	case r.sleep > r.w.now:
		r.w.queue.push(r.sleep, func() { r.alive(life, f) })
	default:
		f()
	}
}

func (r *rider) later(d int64, f func()) {
	life := r.life
	r.w.queue.push(r.w.now+d, func() { r.alive(life, f) })
}

// boots starts the agent.
func (r *rider) boots() {
	r.life++
	r.sleep, r.steps, r.reported, r.reporting = 0, false, 0, nil
	r.rounds.stop()
	r.wakes.stop()
	r.start(r.now(), r.ttl/50)
	if r.agent.duty.adopted {
		r.w.totals.Hosts.Adopted++
	}
	r.told, r.heard = [maxNodes]lease.Configuration{}, [maxNodes]lease.Time{}
	for _, n := range r.w.nodes {
		n.views[r.id] = watch{}
		if n.up {
			n.watch(r.id)
		}
	}
	r.plan()
	r.round()
}

// dies ends the process. The kernel and the session file stay.
func (r *rider) dies() {
	r.agent = nil
	r.life++
	r.rounds.stop()
	r.wakes.stop()
}

// reboots ends the process and all that the host had in memory.
func (r *rider) reboots() {
	r.dies()
	r.boot++
	r.kernel, r.file = kernel{}, nil
	r.clock = clock{real: r.w.now, ppm: r.clock.ppm}
}

// plan makes the owner do what it has to.
func (r *rider) plan() {
	if !r.steps && r.agent.busy() {
		r.steps = true
		r.later(0, r.step)
	}
}

// step does the owner's next acts. Time may pass, and the process may stop, between any
// two of them.
func (r *rider) step() {
	r.steps = false
	for a := r.agent; a.busy(); {
		from := a.at
		if r.w.traced && from == idle && a.view != nil && a.book.Newer(a.view.Index) {
			r.w.tracef("%s takes view %d", r.name, a.view.Index)
		}
		r.act(r.now())
		r.w.totals.Hosts.Acts++
		if r.w.traced {
			r.tell(from)
		}
		r.answering(from)
		r.drain()
		if r.agent == nil {
			return
		}
		d := r.pause()
		if a.at == idle && a.undone {
			d = max(d, 20*ms) // what did not go is tried again a moment later
		}
		if d > 0 {
			r.steps = true
			r.later(d, r.step)
			return
		}
	}
	r.arm()
}

// pause is how long the owner takes until its next act. Sometimes the whole process
// stands still.
func (r *rider) pause() int64 {
	if r.w.calm || !r.w.chance(r.w.phase.slow) {
		return 0
	}
	if r.w.chance(r.w.phase.stop) {
		r.stops(r.w.rng.Int64N(2*int64(r.ttl)) + 1)
		return 1
	}
	return r.w.rng.Int64N(5*ms) + 1
}

// stops makes the process stand still (SIGSTOP).
func (r *rider) stops(d int64) {
	r.sleep = max(r.sleep, r.w.now+d)
	r.harmed()
	r.w.totals.Hosts.Stops++
	if r.w.traced {
		r.w.tracef("%s stands still for %v", r.name, time.Duration(d))
	}
}

// arm plans the next time at which something is due by itself.
func (r *rider) arm() {
	if r.behind() && !r.agent.duty.gone {
		r.freshen()
	}
	now := r.now()
	r.retry = r.agent.wakeAt(now)
	at := min(r.retry, r.agent.next(now))
	if at >= 1<<61 {
		return
	}
	life := r.life
	r.w.set(&r.wakes, r.clock.when(at), func() { r.alive(life, r.due) })
}

// due is called when a time has come that something was planned for.
func (r *rider) due() {
	now := r.now()
	if r.retry <= now || r.agent.lapsedSince(r.looked, now) {
		r.agent.wake = true
	}
	r.looked = now
	r.plan()
	if !r.steps {
		r.arm()
	}
}

// views takes in a view of one coordinator.
func (r *rider) viewed(n *node, v *tenure.View, c lease.Configuration) {
	a := r.agent
	if r.w.traced {
		r.w.tracef("%s gets view %d of %s, configuration %d", r.name, v.Index, n.name, c.Index)
	}
	if r.told[n.id].Index != c.Index || len(r.told[n.id].Voters) == 0 {
		r.told[n.id] = c
		for i := range a.leases {
			a.leases[i].holder.SetConfiguration(c)
		}
		r.w.set(&r.rounds, r.w.now+10*ms, r.roundOf())
	}
	if a.view == nil || v.Index >= a.view.Index {
		a.view = v
		r.plan()
	}
}

func (r *rider) roundOf() func() {
	life := r.life
	return func() { r.alive(life, r.round) }
}

// round sends one round of renewals for each session that is due.
func (r *rider) round() {
	a, now := r.agent, r.now()
	next := now.Add(time.Second)
	moved := false
	for i := range a.leases {
		l := &a.leases[i]
		if len(l.holderConfigured(r)) == 0 {
			continue
		}
		if at := l.due(now); at > now {
			next = min(next, at)
			continue
		}
		l.rounds++
		l.sent = now
		if _, again := l.holder.Repeat(); !again {
			l.round, l.begun = l.holder.Begin(now), now
		}
		r.w.totals.Hosts.Rounds++
		moved = r.send(l, now) || moved
		next = min(next, l.due(now))
	}
	if moved {
		r.stored()
	}
	if at := next; at < 1<<61 && len(a.leases) > 0 {
		r.w.set(&r.rounds, r.clock.when(at), r.roundOf())
	}
}

// holderConfigured tells a new session what is known of configurations.
func (l *holding) holderConfigured(r *rider) []lease.Configuration {
	var none []lease.Configuration
	known := false
	for _, c := range r.told {
		known = known || c.Index != 0
	}
	if !known {
		return none
	}
	if l.rounds == 0 {
		for _, c := range r.told {
			if c.Index != 0 {
				l.holder.SetConfiguration(c)
			}
		}
	}
	return r.told[:]
}

// due is when the next round, or the repetition of the last one, is to be sent.
func (l *holding) due(now lease.Time) lease.Time {
	every := l.holder.Session().TTL / 6
	_, again := l.holder.Repeat()
	switch {
	case l.rounds == 0:
		return now
	case l.rounds < 10 && l.holder.Lapsed(now):
		return l.sent.Add(min(every, 20*time.Millisecond))
	case again && now.Sub(l.begun) < l.holder.Session().TTL:
		return l.sent.Add(every / 3)
	case again:
		return l.sent.Add(every)
	}
	return l.begun.Add(every)
}

// send sends a round to every coordinator that is known. In a calm network it is
// answered within the same moment.
func (r *rider) send(l *holding, now lease.Time) (moved bool) {
	s := l.holder.Session()
	proven := !l.holder.Lapsed(now)
	for i, n := range r.w.nodes {
		c := r.told[i]
		if c.Index == 0 {
			if c = r.newest(); !slices.Contains(c.Voters, n.name) {
				continue
			}
		}
		x := lease.Renewal{Session: s.ID, Round: l.round, Configuration: c.Index, Proven: proven}
		if r.w.calm && n.awake() {
			if a, ok := n.renew(x); ok {
				r.redial(n, now)
				moved = r.agent.answer(a) || moved
			}
			continue
		}
		r.post(n, x, s)
	}
	return moved
}

func (r *rider) newest() lease.Configuration {
	var out lease.Configuration
	for _, c := range r.told {
		if c.Index > out.Index {
			out = c
		}
	}
	return out
}

// post sends one datagram and, later, its answer.
func (r *rider) post(n *node, x lease.Renewal, s lease.Session) {
	life := r.life
	r.w.datagram(r.link, n.id, func() {
		n.alive(n.life, func() {
			a, ok := n.renewWire(x, s)
			if !ok {
				return
			}
			r.w.datagram(n.id, r.link, func() {
				r.alive(life, func() {
					r.redial(n, r.now())
					r.answers(a, s)
				})
			})
		})
	})
}

// redial asks a coordinator that was silent and is back for its view.
func (r *rider) redial(n *node, now lease.Time) {
	if now.Sub(r.heard[n.id]) >= r.ttl && n.up {
		n.views[r.id].sent = nil
		n.watch(r.id)
	}
	r.heard[n.id] = now
}

// answers takes in one answer. That the deadline is stored is another act, before
// which the process may stop.
func (r *rider) answers(x lease.Answer, s lease.Session) {
	x, ok := r.w.throughWire(x, s)
	if !ok {
		return
	}
	lapsed := false
	if l := r.agent.holding(x.Session); l != nil {
		lapsed = l.holder.Lapsed(r.now())
	}
	if !r.agent.answer(x) {
		r.plan()
		return
	}
	if lapsed {
		r.w.set(&r.rounds, r.w.now+10*ms, r.roundOf())
	}
	if r.w.chance(r.w.phase.slow) {
		d := r.w.rng.Int64N(5*ms) + 1
		if r.w.chance(r.w.phase.stop) {
			d = r.w.rng.Int64N(2 * int64(r.ttl))
		}
		r.later(d, r.stored)
		return
	}
	r.stored()
}

// stored stores the deadlines that are proven.
func (r *rider) stored() {
	r.store(r.now())
	r.answering(openFence)
	r.plan()
	if !r.steps && r.agent.at == idle {
		if r.behind() && (r.w.calm || !r.w.chance(20)) {
			r.freshen()
		}
		if r.wakes.at == 0 {
			r.arm()
		}
	}
}
