package sim

import (
	"slices"
	"time"

	"holdfast/coordinator/lease"
	"holdfast/fsm"
	"holdfast/vipagent/tenure"
)

const (
	maxSets   = 4
	retryOpen = 100 * time.Millisecond
	retryCall = 50 * time.Millisecond
	lookEvery = time.Second
	doneFor   = 3 * time.Second
)

// sets are the names of the VIP sets; one is known by its place here.
var sets = [maxSets]string{"s0", "s1", "s2", "s3"}

func setPlace(name string) int { return int(name[1] - '0') }

// task is something that the quorum has to be told: a release or a confirmation.
type task struct {
	key     tenure.Key     // of a release, else zero
	retired tenure.Retired // of a confirmation, else zero
	giveUp  tenure.GiveUp
	busy    bool
	done    lease.Time // answered, 0 = not
	at      lease.Time // next try, not before
}

func (t task) same(o task) bool { return t.key == o.key && t.retired == o.retired }

func (a *agent) asked(t task) bool { return slices.ContainsFunc(a.tasks, t.same) }

// prune forgets what the view no longer shows.
func (a *agent) prune() {
	v := a.book.View()
	a.tasks = slices.DeleteFunc(a.tasks, func(t task) bool {
		shown := slices.ContainsFunc(v.Grants, func(g tenure.Grant) bool { return g.Key() == t.key }) ||
			slices.Contains(v.Retiring, t.retired)
		return !t.busy && !shown
	})
}

// callKind says what an agent asks of the quorum.
type callKind uint8

const (
	callOpen callKind = iota
	callTell          // a release or a confirmation
	callRebind
	callClose
	callReport // of what the health checks say
)

// call is one thing that an agent asks of the quorum. It may be tried many times, and
// each try may be committed.
type call struct {
	kind     callKind
	task     task   // of callTell
	session  uint64 // of callRebind the old one
	next     uint64
	secret   byte
	vetoes   [maxSets]bool // of callReport
	limit    int64         // real time at which the agent stops waiting
	finished bool
}

// ops are the call's conditional commands, as the coordinator's API makes them.
func (c *call) ops(h *host) []fsm.Op {
	id := fsm.SessionID(c.session)
	switch c.kind {
	case callOpen:
		return []fsm.Op{fsm.OpenSession{Host: h.name, TTL: h.ttl, Secret: [32]byte{c.secret}}}
	case callRebind:
		return []fsm.Op{fsm.Rebind{Old: id, New: fsm.SessionID(c.next)}}
	case callClose:
		return []fsm.Op{fsm.CloseSession{Session: id}}
	case callReport:
		var ops []fsm.Op
		for i, veto := range c.vetoes {
			ops = append(ops, fsm.SetCondition{Session: id, Set: sets[i], Condition: fsm.Condition{Veto: veto}})
		}
		return ops
	}
	if r := c.task.retired; r.Address.IsValid() {
		return []fsm.Op{fsm.ConfirmRemoval{Session: fsm.SessionID(r.Session), Address: r.Address, Claim: r.Claim}}
	}
	g := c.task.giveUp
	var ops []fsm.Op
	if h.vetoes[setPlace(g.Set)] {
		ops = append(ops, fsm.SetCondition{Session: fsm.SessionID(g.Session), Set: g.Set, Condition: fsm.Condition{Veto: true}})
	}
	return append(ops, fsm.Release{Set: g.Set, Session: fsm.SessionID(g.Session), Epoch: fsm.Epoch(g.Epoch)})
}

// actSettle starts the calls that are needed.
func (h *host) actSettle(a *agent, now lease.Time) spot {
	if _, proven := a.book.Note(a.moment(now), a.read == [maxAddresses]bool{}); proven && a.book.Behind() {
		a.duty.redial = true
	}
	for i := range a.tasks {
		t := &a.tasks[i]
		if t.done != 0 && now.Sub(t.done) >= doneFor {
			t.done, t.at = 0, now // the views still show it: once more
		}
		if !t.busy && t.done == 0 && now >= t.at {
			t.busy = true
			session := t.giveUp.Session
			a.out = append(a.out, call{kind: callTell, task: *t, session: session})
		}
	}
	if d := &a.duty; !d.opening && now >= d.openAt && a.book.WantsSession(h.ttl, a.moment(now)) {
		d.opening = true
		a.out = append(a.out, call{kind: callOpen, secret: byte(h.process)})
	}
	if d := &a.duty; !d.rebind && now >= d.rebindAt && a.book.RebindReady(a.moment(now)) {
		return stepRebind
	}
	return closeDown
}

// actRebind writes, before Rebind is sent, that both deadlines count (agent rule 7).
func (h *host) actRebind(a *agent, _ lease.Time) spot {
	if !a.book.Rebinding() {
		a.book.BeginRebind()
		h.write()
	}
	return passRebind
}

// actPassRebind makes the kernel go by both deadlines too.
func (h *host) actPassRebind(a *agent, _ lease.Time) spot {
	for _, u := range a.book.Up() {
		if p := place(u.IP()); h.kernel.fence[p].open {
			h.open(p, u.Epoch, u.Session)
		}
	}
	return sendRebind
}

func (h *host) actSendRebind(a *agent, now lease.Time) spot {
	if a.book.MayRebind() && a.book.Next().ID != 0 && a.book.Current().ID != 0 {
		a.duty.rebind = true
		a.duty.rebindAt = now.Add(lookEvery)
		a.out = append(a.out, call{kind: callRebind, session: a.book.Current().ID, next: a.book.Next().ID})
	}
	return closeDown
}

// actClose ends sessions that were given up, or, when the agent stops, all of them once
// everything is down.
func (h *host) actClose(a *agent, _ lease.Time) spot {
	if a.duty.stopping && !a.duty.gone && a.read == [maxAddresses]bool{} {
		for _, s := range a.book.End("the agent was stopped") {
			a.retire(s.ID)
		}
		h.kernel.keep()
		h.file = nil
		a.book.Deleted()
		a.duty.gone = true
	} else if a.book.Dirty() && !a.duty.gone {
		return writeLast
	}
	h.sendCloses()
	return idle
}

func (h *host) sendCloses() {
	a := h.agent
	for _, c := range a.book.Closable(a.present) {
		if !slices.ContainsFunc(a.out, func(o call) bool { return o.kind == callClose && o.session == c.Session }) {
			a.out = append(a.out, call{kind: callClose, session: c.Session})
			a.book.Closed(c.Session) // sent once; if it is lost the session lapses
		}
	}
}

func (h *host) actWriteLast(a *agent, _ lease.Time) spot {
	h.write()
	h.sendCloses()
	return idle
}

// stop tells the agent to give everything up (SIGTERM).
func (a *agent) stop() {
	a.book.Stop()
	a.duty.stopping, a.look, a.wake = true, true, true
}

// answered takes in what became of a call; session is that of callOpen.
func (h *host) answered(c *call, ok, refused bool, session uint64, now lease.Time) {
	a := h.agent
	a.wake = true
	switch c.kind {
	case callOpen:
		a.duty.opening, a.duty.openAt = false, now.Add(retryOpen)
		if !ok {
			return
		}
		s := lease.Session{ID: session, TTL: h.ttl, Secret: [32]byte{c.secret}}
		if a.duty.gone {
			return
		}
		if a.book.Opened(s, now) != tenure.NotNeeded {
			a.renew(h, s)
		}
	case callRebind:
		// Whatever the answer, only a view tells that it is committed.
		a.duty.rebind = false
		if !ok {
			a.duty.rebindAt = now.Add(retryCall)
		}
	case callTell:
		for i := range a.tasks {
			if t := &a.tasks[i]; t.same(c.task) {
				t.busy = false
				if ok || refused {
					t.done = now
				} else {
					t.at = now.Add(retryCall)
				}
			}
		}
	}
}

// wakeAt is when a call is to be tried again.
func (a *agent) wakeAt(now lease.Time) lease.Time {
	at := lease.Time(1 << 62)
	for i := range a.tasks {
		switch t := &a.tasks[i]; {
		case t.busy:
		case t.done == 0:
			at = min(at, max(t.at, now+1))
		default:
			at = min(at, max(t.done.Add(doneFor), now+1))
		}
	}
	if d := &a.duty; !d.opening && d.openAt > now {
		at = min(at, d.openAt)
	}
	if d := &a.duty; !d.rebind && d.rebindAt > now {
		at = min(at, d.rebindAt)
	}
	return at
}
