package lease_test

import "slices"

// A story favours what the rules on configurations are for, and what random steps
// rarely come to: three coordinators become five; those that answer an agent (near),
// of which the growing configuration leaves some behind, and those that fence (far and
// the new ones) are different ones, for one session, over a time of about its TTL.
// Every part may be left out or turn out otherwise, and the end is random again.
func (s *sim) story() {
	c := latest(s.committed)
	members := s.rng.Perm(len(c.Voters))
	byName := func(i int) *node {
		return s.nodes[slices.IndexFunc(s.nodes, func(y *node) bool { return y.name == c.Voters[members[i]] })]
	}
	near, behind, far := byName(0), byName(1), byName(2)
	for _, y := range s.nodes {
		y.side = false
	}
	for range 5 {
		if far.leads == 0 {
			s.elect(far)
		}
	}
	s.tracef("story: near %s and %s, far %s", near.name, behind.name, far.name)
	s.settleLog(far)
	for _, a := range s.agents {
		for i, y := range s.nodes {
			a.cut[i] = y != near && y != behind && s.chance(85)
			s.tell(a, y)
		}
	}
	if s.chance(60) {
		s.openOne(far)
		s.settleLog(far)
	}
	h := s.order[len(s.order)-1]
	again := s.chance(30) // the session is ended and its agent comes back
	if again {
		behind.side = true
		s.end(far, h)
		h.agent.cut = make([]bool, len(s.nodes))
	}
	for range 3 {
		s.exchange(h)
	}
	behind.side = s.chance(80)
	s.change(far, 1)
	near.side = s.chance(80)
	s.change(far, 1)
	if again {
		behind.side, near.side = s.chance(20), s.chance(50)
	}
	s.storyTail(far, h)
}

func (s *sim) storyTail(far *node, h *session) {
	s.deaf = s.chance(50)
	for range 10 + s.rng.IntN(60) {
		switch s.rng.IntN(12) {
		case 0:
			s.pass()
		case 1, 2, 3:
			s.exchange(h)
		case 4, 5, 6:
			s.fenceAll(far, h)
		case 7, 8:
			s.expireOne(far, h)
			s.spread(far)
		case 9:
			s.spread(far)
		case 10:
			s.apply(s.anyNode())
		case 11:
			s.deliverAnswer()
		}
	}
	s.deaf = false
}

// settleLog brings the log to all and has most apply it.
func (s *sim) settleLog(x *node) {
	for range 2 {
		for _, y := range s.nodes {
			if y != x && x.leads != 0 {
				s.replicate(x, y)
			}
		}
	}
	for _, y := range s.nodes {
		if s.chance(80) {
			s.apply(y)
			s.apply(y)
		}
	}
}

// end ends a session as it should be, with no more coordinators than that takes.
func (s *sim) end(x *node, h *session) {
	s.now += 3 * int64(ttl)
	c, agreed := latest(x.log), 0
	for _, i := range s.rng.Perm(len(s.nodes)) {
		if y := s.nodes[i]; agreed < c.Majority() {
			before := len(s.agreements)
			s.fenceOne(y, h)
			s.write(y)
			agreed += len(s.agreements) - before
		}
	}
	s.expireOne(x, h)
	s.spread(x)
}
