package replica_test

import (
	"holdfast/brokerd/replica"
	"holdfast/fsm/group"
)

// heal lets all faults end, and an operator help where the rules ask for one. Within some
// rounds each member must follow one master, be in the set, and a write be acknowledged:
// no replica may wait for what cannot come.
func (w *world) heal() {
	s := *w.settings
	s.mail, s.letters, s.lateViews, s.limit = 1000, false, false, nil
	w.settings = &s
	wrote := -1
	for range 40 {
		w.repair()
		for i, n := range w.nodes {
			w.turn(i, n)
		}
		for range 20 {
			if w.exchange(); len(w.mail) == 0 {
				break
			}
		}
		for len(w.proposals) > 0 {
			w.apply(w.proposals[0].command)
			w.proposals = w.proposals[1:]
		}
		w.judge()
		if w.trouble != "" {
			return
		}
		i := w.node(w.group.Master)
		if i < 0 || len(w.group.InSync) < len(w.group.Members) {
			continue
		}
		n := w.nodes[i]
		if wrote < 0 && n.r.Admit(now, w.until(n)) == nil {
			wrote = len(w.written)
			w.do(move{write, i, 0})
		}
		if wrote >= 0 && w.acked.has(wrote) {
			return
		}
	}
	w.fail("after all faults there is no peace: %+v", w.group)
}

// repair starts what is down, and grants what is free.
func (w *world) repair() {
	if w.group.Epoch != 0 && w.passed[w.session] {
		w.apply(group.End{Epoch: w.group.Epoch})
	}
	var candidates []group.Candidate
	for i, n := range w.nodes {
		n.stumble = 0
		if n.r == nil {
			w.start(i)
		}
		if w.passed[n.session] {
			w.sessions++
			n.session = w.sessions
			w.show(n, n.view)
		}
		l := n.r.Log()
		candidates = append(candidates, group.Candidate{ID: n.id, Live: !n.saved.Owes, Epoch: l.Last(), End: l.End})
	}
	if w.group.Epoch != 0 {
		return
	}
	c, ok := group.Choose(w.group, candidates)
	if !ok {
		// An operator's word: whoever has the most.
		g := w.group
		g.Settings.Policy = group.PolicyUnclean
		if c, ok = group.Choose(g, candidates); !ok {
			return
		}
		c.Operator = true
		if c.Unclean {
			s := *w.settings
			s.limit = map[kind]int{unclean: 1}
			w.settings = &s
		}
	}
	for _, n := range w.nodes {
		if n.id == c.Member {
			w.give(n, c)
		}
	}
}

// turn is what an owner does by itself.
func (w *world) turn(i int, n *node) {
	w.show(n, w.now())
	w.perform(i, n.r.Tick(now), nil)
	if acts, err := n.r.Lead(1, now, w.until(n)); err == nil {
		w.perform(i, acts, nil)
	}
	n.durable, n.tail = len(n.log), nil
	w.perform(i, n.r.Synced(uint64(n.durable)), nil)
	w.judge()
	w.perform(i, n.r.Drain(), nil)
	if n.r.Leads() == 0 {
		return
	}
	for j, o := range w.nodes {
		if j == i {
			continue
		}
		if b, ok := n.r.Life(o.id); ok {
			w.mail = append(w.mail, newLetter(i, j, b, nil))
		}
		n.r.Rewind(o.id)
		for {
			b, ok := n.r.Next(o.id, w.batch)
			if !ok {
				break
			}
			n.r.Sent(o.id, b)
			w.mail = append(w.mail, newLetter(i, j, b, n.log[b.From:b.To:b.To]))
		}
	}
}

// exchange delivers what is under way now.
func (w *world) exchange() {
	mail := w.mail
	w.mail = nil
	for _, l := range mail {
		n := w.nodes[l.to]
		w.perform(l.to, n.r.Receive(w.nodes[l.from].id, l.message, now), &l)
		w.judge()
		if _, ok := l.message.(replica.Append); ok {
			n.durable, n.tail = len(n.log), nil
			w.perform(l.to, n.r.Synced(uint64(n.durable)), nil)
		}
	}
}
