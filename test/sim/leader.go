package sim

import (
	"time"

	"holdfast/coordinator/lease"
	"holdfast/coordinator/ledger"
	"holdfast/coordinator/schedule"
	"holdfast/fsm"
)

const (
	ms = int64(time.Millisecond)

	askLimit    = 300 * ms
	askPatience = 20 * ms
	retryEnding = 20 * time.Millisecond
	minEnding   = 2 * time.Millisecond
	// underWay is the notBefore of sessions that are being asked about.
	underWay = lease.Time(1<<63 - 1)
)

func durationOf(t lease.Time) time.Duration { return time.Duration(t) }

// beginTerm starts the leader's work: all entries of earlier terms are applied.
func (n *node) beginTerm() {
	n.duty = leading{began: true, seen: schedule.NewTracker(), notBefore: make(map[uint64]lease.Time)}
	n.wake(0)
}

// wake makes the leader look again, after d at the latest.
func (n *node) wake(d time.Duration) {
	if n.leads == 0 || !n.duty.began {
		return
	}
	if d == 0 {
		n.duty.lookAt = 0
	}
	life, term := n.life, n.leads
	n.w.set(&n.timers.duties, n.w.now+int64(d)+1, func() {
		n.alive(life, func() {
			if n.leads == term {
				n.work()
			}
		})
	})
}

// work starts what is due.
func (n *node) work() {
	now := n.now()
	silent, wait := n.ledger.Silent(now, n.state, time.Second)
	for _, id := range silent {
		switch before := n.duty.notBefore[id]; {
		case before <= now:
			n.duty.notBefore[id] = underWay
			n.end(id)
		case before != underWay:
			wait = min(wait, before.Sub(now))
		}
	}
	if !n.duty.scheduling {
		if now >= n.duty.lookAt {
			n.schedule(now)
		}
		if !n.duty.scheduling {
			wait = min(wait, n.duty.lookAt.Sub(now))
		}
	}
	n.wake(max(wait, time.Millisecond))
}

// schedule proposes what the scheduler wants.
func (n *node) schedule(now lease.Time) {
	n.w.totals.Cluster.Decided++
	d := schedule.Decide(n.input(n.state, n.duty.seen))
	again := d.Again
	if again <= 0 {
		again = 2 * time.Second
	}
	n.duty.lookAt = now.Add(again)
	ops := d.Ops()
	if len(ops) == 0 {
		return
	}
	n.duty.scheduling = true
	n.propose(fsm.Entry{Ops: ops}, func(_ fsm.Result, ok bool) {
		n.duty.scheduling = false
		if ok {
			n.wake(0)
		}
	})
}

// ending is one attempt to end one session: probe, fence, expire.
type ending struct {
	n       *node
	term    uint64
	session uint64
	config  *config
	survey  lease.Survey
	tally   *lease.Tally
	answers int
}

// end asks all voters about a session.
func (n *node) end(session uint64) {
	x := &ending{n: n, term: n.leads, session: session, config: n.disk.latest(), tally: lease.NewTally(session)}
	n.w.totals.Cluster.Probes++
	x.ask(func(y *node, answer func(func())) {
		s, open := ledger.Open(y.state, session)
		if !open {
			answer(func() {}) // an answer without a word about it
			return
		}
		p := y.ledger.Probe(y.now(), s)
		answer(func() { x.survey.Add(p) })
	}, func() bool { return x.survey.Decided(len(x.config.Voters)) }, x.probed)
}

// ask puts a question to each voter; enough is asked after each answer, and then is
// called once: when enough says so, when all have answered, or when it takes too long.
func (x *ending) ask(question func(y *node, answer func(func())), enough func() bool, then func()) {
	n, finished := x.n, false
	voters := x.config.Voters
	finish := func() {
		if !finished {
			finished = true
			then()
		}
	}
	x.answers = 0
	for _, y := range n.w.nodes {
		if !x.config.votes(y.name) {
			continue
		}
		n.w.carry(n.id, y.id, y, func() {
			question(y, func(take func()) {
				n.w.carry(y.id, n.id, n, func() {
					if finished {
						return
					}
					take()
					if x.answers++; enough() || x.answers == len(voters) {
						finish()
					} else if x.answers == len(voters)/2+1 {
						n.later(askPatience, finish)
					}
				})
			})
		})
	}
	n.later(askLimit, finish)
}

// again lets the session be asked about after a while.
func (x *ending) again(d time.Duration) {
	if x.n.leads == x.term && x.n.duty.notBefore != nil {
		x.n.duty.notBefore[x.session] = x.n.now().Add(d)
		x.n.wake(d)
	}
}

// probed decides after the probes.
func (x *ending) probed() {
	voters := len(x.config.Voters)
	if !x.survey.Fence(voters) {
		again := retryEnding
		if left, known := x.survey.Again(voters); known {
			again = max(left, minEnding)
		}
		x.again(again)
		return
	}
	x.ask(x.fence, func() bool { return x.tally.Proven(x.config.Configuration) }, x.fenced)
}

// fence is the question to one voter; its mark is on disk before it answers.
func (x *ending) fence(y *node, answer func(func())) {
	s, open := ledger.Open(y.state, x.session)
	if !open {
		return
	}
	out := y.ledger.Fence(y.now(), s)
	if out.Verdict == lease.FencePending {
		if x.n.w.traced {
			x.n.w.tracef("%s marks session %d", y.name, s.ID)
		}
		y.later(x.n.w.diskDelay(), func() {
			if !x.n.w.calm && x.n.w.chance(2) {
				y.crash() // the write failed: what is on disk is told by a restart
				if x.n.w.chance(50) {
					y.disk.marks = append(y.disk.marks, s.ID)
				}
				return
			}
			y.disk.marks = append(y.disk.marks, s.ID)
			y.keepHouse()
			if out := y.ledger.MarkDurable(y.now(), s); out.Verdict == lease.FenceAgreed {
				answer(func() { x.tally.Add(out.Agreement) })
			}
		})
		return
	}
	if out.Verdict == lease.FenceAgreed {
		answer(func() { x.tally.Add(out.Agreement) })
	}
}

// fenced expires the session if a majority has agreed. The configuration is the one
// that was asked; the state refuses another.
func (x *ending) fenced() {
	if !x.tally.Proven(x.config.Configuration) || x.n.leads != x.term {
		x.again(retryEnding)
		return
	}
	x.n.proposeFollowed([]fsm.Op{fsm.Expire{Session: fsm.SessionID(x.session), Configuration: x.config.Index}},
		func(fsm.Result, bool) { x.again(retryEnding) })
}
