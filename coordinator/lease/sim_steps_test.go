package lease_test

import (
	"slices"

	"holdfast/coordinator/lease"
)

// The steps of agents and coordinators in the simulation. Each is one act; anything
// may happen between two of them.

// openOne has a leader propose a session for an agent that needs one.
func (s *sim) openOne(x *node) {
	live := 0
	for _, h := range s.order {
		if h.ended == 0 {
			live++
		}
	}
	if x.leads == 0 || live >= 3 {
		return
	}
	s.propose(x, entry{kind: open, agent: s.rng.IntN(len(s.agents)), ttl: ttl >> s.rng.IntN(2)})
}

// onWire is the round whose number a faulty holder has sent for r.
func (h *session) onWire(r lease.Round) lease.Round {
	for wire, counted := range h.counted {
		if counted == r {
			return wire
		}
	}
	return r
}

// opened creates the session when its entry has committed.
func (s *sim) opened(id uint64, e entry) {
	a := s.agents[e.agent]
	h := &session{Session: lease.Session{ID: id, TTL: e.ttl, Secret: [32]byte{byte(id)}}, agent: a, process: 1,
		counted: make(map[lease.Round]lease.Round)}
	h.holder = lease.NewHolder(h.Session, h.process)
	for _, y := range s.nodes {
		if c, ok := a.told[y.name]; ok {
			h.holder.SetConfiguration(c)
		}
	}
	if s.fault.openLeases {
		h.holder.Adopt(a.clock.at(s.now).Add(h.TTL))
	}
	a.sessions = append(a.sessions, h)
	s.sessions[id] = h
	s.order = append(s.order, h)
	s.note(h)
}

// tell lets an agent see the configuration that a coordinator has.
func (s *sim) tell(a *agent, y *node) {
	c := y.voter.Configuration()
	if c.Index == 0 {
		return
	}
	a.told[y.name] = c
	for _, h := range a.sessions {
		h.holder.SetConfiguration(c)
	}
}

// begin starts a round: the datagrams leave later, in any order, or never.
func (s *sim) begin(h *session) {
	if h == nil {
		return
	}
	now := h.agent.clock.at(s.now)
	r, again := h.holder.Repeat()
	switch {
	case !again || s.chance(50):
		r = h.holder.Begin(now)
	case s.fault.repeatCounts:
		wire := h.onWire(r)
		h.counted[wire] = h.holder.Begin(now)
		r = wire
	}
	for i, y := range s.nodes {
		if c, ok := h.agent.told[y.name]; ok && !h.agent.cut[i] {
			// Whatever it says: what it says is evidence, and no proof rests on it.
			proven := s.chance(50)
			data := lease.Renewal{Session: h.ID, Round: r, Configuration: c.Index, Proven: proven}.Marshal(&h.Secret)
			s.renewals = append(s.renewals, datagram{h, y, data})
		}
	}
}

// exchange is a round that mostly works, within one instant. The agent has often just
// been told what the coordinators think.
func (s *sim) exchange(h *session) {
	if h == nil {
		return
	}
	told, lost := s.chance(50) && !s.deaf, 10+s.rng.IntN(50)
	for _, y := range s.nodes {
		if told && s.chance(80) {
			s.tell(h.agent, y)
		}
	}
	from := len(s.renewals)
	s.begin(h)
	for _, d := range slices.Clone(s.renewals[from:]) {
		n := len(s.answers)
		if s.chance(lost) {
			continue
		}
		s.handleRenewal(d)
		if len(s.answers) > n && !s.chance(lost/2) {
			s.handleAnswer(s.answers[n])
		}
	}
}

// take picks a datagram, the newest ones more often, and sometimes leaves it in for
// another time or drops others.
func (s *sim) take(from *[]datagram) (datagram, bool) {
	n := len(*from)
	if n == 0 {
		return datagram{}, false
	}
	i := s.rng.IntN(n)
	if s.chance(60) {
		i = n - 1 - s.rng.IntN(min(n, 4))
	}
	d := (*from)[i]
	if !s.chance(15) {
		*from = slices.Delete(*from, i, i+1)
	}
	if n > 40 {
		*from = slices.Delete(*from, 0, s.rng.IntN(20))
	}
	return d, true
}

func (s *sim) deliverRenewal() {
	if d, ok := s.take(&s.renewals); ok {
		s.handleRenewal(d)
	}
}

func (s *sim) handleRenewal(d datagram) {
	y := d.node
	u, err := lease.ParseRenewal(d.data)
	if err != nil {
		panic(err)
	}
	h := s.sessions[u.Session]
	// Coordinator rule 3, on its own applied state.
	if h.ID > y.applied || h.endedBy(y.applied) && !s.fault.closedAnswered {
		return
	}
	r, err := u.Verify(&h.Secret)
	if err != nil {
		panic(err)
	}
	asked := r.Configuration
	if s.fault.anyConfiguration {
		r.Configuration = y.voter.Configuration().Index
	}
	now := y.clock.at(s.now)
	if s.fault.clockBeforeReceipt { // read for something else, a while ago
		now = y.clock.at(s.now - int64(ttl/4))
	}
	a, verdict := y.voter.Renew(now, h.Session, r)
	s.stats.verdicts[verdict]++
	if verdict == lease.DropTTL {
		y.longest = max(y.longest, h.TTL) // the disk first
		y.voter.RaiseLongestTTL(h.TTL)
	}
	if !verdict.Send() || h.agent.cut[y.id] {
		return
	}
	a.Configuration = asked
	data, err := a.Marshal(&h.Secret)
	if err != nil {
		panic(err)
	}
	s.answers = append(s.answers, datagram{h, y, data})
}

func (s *sim) deliverAnswer() {
	if d, ok := s.take(&s.answers); ok {
		s.handleAnswer(d)
	}
}

func (s *sim) handleAnswer(d datagram) {
	h := d.h
	u, err := lease.ParseAnswer(d.data)
	if err != nil {
		panic(err)
	}
	a, err := u.Verify(&h.Secret)
	if err != nil {
		panic(err)
	}
	before := h.holder.Deadline()
	for _, a := range s.distort(h, a) {
		h.holder.Answer(a)
	}
	if h.holder.Deadline() != before {
		s.stats.proven++
		s.tracef("session %d: answer of %s to round %v under %d: deadline in %v", h.ID, a.Coordinator, a.Round,
			a.Configuration, h.holder.Deadline().Sub(h.agent.clock.at(s.now)))
	}
	s.note(h)
	s.check(h, "which has ended got an answer")
}

// distort is what a faulty holder would take an answer for.
func (s *sim) distort(h *session, a lease.Answer) []lease.Answer {
	all := []lease.Answer{a}
	switch {
	case s.fault.fromReceipt:
		all[0].Round = h.holder.Begin(h.agent.clock.at(s.now))
	case s.fault.repeatCounts:
		if r, ok := h.counted[a.Round]; ok {
			all[0].Round = r
		}
	case s.fault.largest:
		for _, y := range s.nodes {
			a.Coordinator = y.name
			all = append(all, a)
		}
	case s.fault.answersTogether:
		for _, c := range h.agent.told {
			a.Configuration = c.Index
			all = append(all, a)
		}
	}
	return all
}

// note remembers the latest deadline, and sometimes writes the session file.
func (s *sim) note(h *session) {
	if d := h.holder.Deadline(); d != 0 && (!h.held || d > h.max) {
		h.max, h.held = d, true
	}
	if s.chance(50) {
		h.file = h.holder.Deadline()
	}
}

// restartAgent has a new process adopt the session, if its file says it may.
func (s *sim) restartAgent(h *session) {
	if h == nil {
		return
	}
	now := h.agent.clock.at(s.now)
	if h.file <= now {
		return
	}
	if !s.fault.roundsAgain {
		h.process++
	}
	h.holder = lease.NewHolder(h.Session, h.process)
	for _, y := range s.nodes {
		if c, ok := h.agent.told[y.name]; ok {
			h.holder.SetConfiguration(c)
		}
	}
	h.holder.Adopt(h.file)
	if s.fault.adoptedValid {
		h.holder.Adopt(now.Add(h.TTL))
	}
	s.stats.adopted++
	s.note(h)
	s.check(h, "which has ended was adopted")
}

// fenceOne asks one coordinator to fence a session that its applied state has open.
func (s *sim) fenceOne(y *node, h *session) {
	if h == nil || h.ID > y.applied || h.endedBy(y.applied) {
		return
	}
	now, of := y.clock.at(s.now), s.asked(h)
	if s.fault.promiseIgnored {
		y.voter.Forget(h.ID)
	}
	if proven, _ := y.voter.Proven(now, h.ID); s.fault.unprovenIsLapsed && !proven && !y.marks[h.ID] {
		y.voter.Forget(h.ID)
	}
	probe := y.voter.Probe(now, of)
	out := y.voter.Fence(now, of)
	s.stats.fences[out.Verdict]++
	if probe.Lapsed != (out.Verdict == lease.FenceAgreed || out.Verdict == lease.FencePending) {
		s.failure = "a probe and the fence after it differ"
	}
	switch out.Verdict {
	case lease.FencePending:
		y.writing = append(y.writing, h.ID)
	case lease.FenceAgreed:
		s.agree(out.Agreement)
	}
}

// fenceAll asks them all once a majority of probes has lapsed (leader rule 1), and the
// disks are quick.
func (s *sim) fenceAll(x *node, h *session) {
	if h == nil {
		return
	}
	c, lapsed := latest(x.log), 0
	for _, y := range s.nodes {
		if slices.Contains(c.Voters, y.name) && y.voter.Probe(y.clock.at(s.now), s.asked(h)).Lapsed {
			lapsed++
		}
	}
	if lapsed < c.Majority() {
		return
	}
	for _, y := range s.nodes {
		if s.chance(80) {
			s.fenceOne(y, h)
			s.write(y)
		}
	}
}

// asked is the session as a request to fence it names it.
func (s *sim) asked(h *session) lease.Session {
	of := h.Session
	if s.fault.ownLongestOnly {
		of.TTL = 0
	}
	return of
}

// write ends the write of a mark: it succeeds and is reported, or fails, or the
// process dies before it can be reported.
func (s *sim) write(y *node) {
	if len(y.writing) == 0 {
		return
	}
	id := y.writing[0]
	y.writing = y.writing[1:]
	h := s.sessions[id]
	if s.chance(5) || h.endedBy(y.applied) {
		return
	}
	y.marks[id] = true
	if s.chance(5) {
		s.start(y)
		return
	}
	out := y.voter.MarkDurable(y.clock.at(s.now), s.asked(h))
	s.stats.fences[out.Verdict]++
	switch {
	case out.Verdict == lease.FenceAgreed:
		s.agree(out.Agreement)
	default:
		s.stats.late++
	}
	if s.fault.markNotSticky {
		y.voter.Forget(id)
	}
}

func (s *sim) agree(a lease.Agreement) {
	s.tracef("%s agrees to end session %d within %d", a.Coordinator, a.Session, a.Configuration)
	s.agreements = append(s.agreements, a)
}

// expireOne has a leader, any leader, use whatever agreements were ever given.
func (s *sim) expireOne(x *node, h *session) {
	if x.leads == 0 || h == nil || h.ID > uint64(len(x.log)) || h.ended != 0 {
		return
	}
	c := latest(x.log)
	t := lease.NewTally(h.ID)
	proven := s.fault.noFence
	for _, a := range s.agreements {
		if s.fault.agreementsTogether {
			a.Configuration = c.Index
		}
		t.Add(a)
		if s.fault.oneOfThree && a.Session == h.ID && a.Configuration == c.Index {
			proven = true
		}
	}
	if !proven && !t.Proven(c) {
		return
	}
	s.propose(x, entry{kind: expire, session: h.ID, configuration: lease.Configuration{Index: c.Index}})
	s.tracef("%s proposes to end session %d within %d %v", x.name, h.ID, c.Index, c.Voters)
}
