package replica_test

import (
	"fmt"
	"slices"

	"holdfast/brokerd/replica"
	"holdfast/fsm/group"
)

// kind is a kind of move.
type kind uint8

const (
	deliver kind = iota
	lose
	double
	commit
	fence
	lapse
	reopen
	configure
	recall
	join
	leave
	start
	view
	again
	lateView
	syncLog
	crash
	power
	wipe
	stumble
	grant
	unclean
	lead
	write
	send
	life
	rewind
	grow
	shrink
	tick
	drain
	release
	trim
	kinds
)

var names = [kinds]string{
	"deliver", "lose", "double", "commit", "fence", "lapse", "reopen", "configure", "recall", "join", "leave", "start", "view", "again", "late view", "sync",
	"crash", "power", "wipe", "stumble", "grant", "unclean", "lead", "write", "send", "life", "rewind", "grow", "shrink", "tick", "drain", "release", "trim",
}

func (k kind) String() string { return names[k] }

// move is one thing that can happen.
type move struct {
	kind kind
	i, j int
}

func (m move) String() string { return fmt.Sprintf("%s %d %d", m.kind, m.i, m.j) }

func (w *world) may(k kind) bool {
	most, bounded := w.limit[k]
	return !bounded || int(w.used[k]) < most
}

// moves returns what can happen now.
func (w *world) moves(out []move) []move {
	add := func(k kind, i, j int) {
		if w.may(k) {
			out = append(out, move{k, i, j})
		}
	}
	for i, l := range w.mail {
		if !w.letters && slices.ContainsFunc(w.mail[:i], func(o letter) bool { return o.from == l.from && o.to == l.to }) {
			continue
		}
		add(deliver, i, 0)
		add(lose, i, 0)
		add(double, i, 0)
	}
	for i, p := range w.proposals {
		if _, err := w.group.Apply(w.index+1, p.command); err == nil {
			add(commit, i, 0)
		}
	}
	if w.group.Epoch != 0 && w.passed[w.session] {
		add(fence, 0, 0)
	}
	add(configure, 0, 0)
	for i, n := range w.nodes {
		if w.group.Epoch != 0 && w.group.Holds(n.id) {
			add(recall, i, 0)
		}
		if _, member := w.group.Member(n.id); member {
			add(leave, i, 0)
		} else {
			add(join, i, 0)
		}
		if n.r == nil {
			add(start, i, 0)
			continue
		}
		w.processMoves(n, i, add)
	}
	return out
}

func (w *world) processMoves(n *node, i int, add func(k kind, i, j int)) {
	if n.view.Index < w.index {
		add(view, i, 0)
	}
	if n.view.Index == w.index {
		add(again, i, 0)
	}
	if len(n.queue) > 0 {
		add(lateView, i, 0)
	}
	if n.durable < len(n.log) {
		add(syncLog, i, 0)
		add(power, i, 0)
	}
	add(crash, i, 0)
	add(wipe, i, 0)
	for k := 1; k <= 3; k++ {
		add(stumble, i, k)
	}
	if !w.passed[n.session] {
		add(lapse, i, 0)
	} else if w.group.Epoch == 0 || w.session != n.session {
		add(reopen, i, 0)
	}
	add(tick, i, 0)
	if w.group.Epoch == 0 && !w.passed[n.session] {
		add(grant, i, 0)
		if len(w.absent()) > 0 {
			add(grant, i, 1)
		}
		add(unclean, i, 0)
	}
	if int(n.r.Keep()) > n.base+1 {
		add(trim, i, 0)
	}
	e := n.r.Leads()
	if e == 0 {
		if n.view.Group.Master == n.id && n.view.Mine && n.view.Group.Epoch > n.saved.Epoch && !w.passed[n.session] {
			add(lead, i, 0)
		}
		return
	}
	w.masterMoves(n, i, add)
}

// absent are the hosts without a process.
func (w *world) absent() []string {
	var out []string
	for _, n := range w.nodes {
		if n.r == nil && w.group.Holds(n.id) {
			out = append(out, n.id)
		}
	}
	return out
}

func (w *world) masterMoves(n *node, i int, add func(k kind, i, j int)) {
	add(release, i, 0)
	if n.view.Group.Recalled() {
		add(drain, i, 0)
	}
	if n.r.Admit(now, w.until(n)) == nil && len(w.written) < maxValues-8 {
		add(write, i, 0)
	}
	for j, o := range w.nodes {
		if j == i {
			continue
		}
		if len(w.mail) < w.settings.mail {
			if _, ok := n.r.Next(o.id, w.batch); ok {
				add(send, i, j)
			}
			if w.letters || o.r != nil && o.r.Follows() != n.r.Leads() && !o.saved.Owes && !slices.ContainsFunc(w.mail, func(l letter) bool { return l.from == i && l.to == j || l.from == j && l.to == i }) {
				add(life, i, j)
			}
		}
		add(rewind, i, j)
		if n.view.Group.Holds(o.id) {
			add(shrink, i, j)
		} else if len(n.r.Clone().Add(o.id)) > 0 {
			add(grow, i, j)
		}
	}
}

// do makes a move.
func (w *world) do(m move) {
	if _, bounded := w.limit[m.kind]; bounded {
		w.used[m.kind]++
	}
	switch m.kind {
	case deliver, double, lose:
		l := w.mail[m.i]
		if m.kind != double {
			w.mail = slices.Delete(slices.Clone(w.mail), m.i, m.i+1)
		}
		if n := w.nodes[l.to]; m.kind != lose && n.r != nil {
			w.perform(l.to, n.r.Receive(w.nodes[l.from].id, l.message, now), &l)
		}
	case commit:
		w.apply(w.proposals[m.i].command)
	case fence:
		w.apply(group.End{Epoch: w.group.Epoch})
	case configure:
		to := w.other
		if w.group.Next == to {
			to = w.settings.group
		}
		w.apply(group.Configure{Settings: to})
	case recall:
		w.apply(group.Recall{Epoch: w.group.Epoch, To: w.nodes[m.i].id})
	case join:
		w.apply(group.Join{Member: w.nodes[m.i].id})
	case leave:
		w.apply(group.Leave{Member: w.nodes[m.i].id})
	default:
		w.doNode(m, w.nodes[m.i])
	}
	if w.trouble == "" {
		w.judge()
	}
}

func (w *world) doNode(m move, n *node) {
	switch m.kind {
	case start:
		w.start(m.i)
	case view:
		w.show(n, w.now())
	case again:
		w.show(n, w.now())
	case lateView:
		v := n.queue[0]
		n.queue = n.queue[1:]
		w.show(n, v.view)
	case syncLog:
		n.durable, n.tail = len(n.log), nil
		w.perform(m.i, n.r.Synced(uint64(n.durable)), nil)
	case crash, power:
		w.crash(n, m.kind == crash)
	case wipe:
		w.crash(n, true)
		n.log, n.base, n.durable, n.saved, n.cuts, n.lost, w.gone = nil, 0, 0, replica.Saved{}, nil, true, true
	case stumble:
		n.stumble = m.j
	case lapse:
		w.passed[n.session] = true
	case reopen:
		w.sessions++
		n.session = w.sessions
		w.show(n, n.view)
	case tick:
		w.perform(m.i, n.r.Tick(now), nil)
	case grant, unclean:
		// What a leader would not choose, an operator does.
		c := group.Grant{Member: n.id, Unclean: m.kind == unclean, Operator: m.kind == unclean && w.settings.group.Policy == group.PolicyNever}
		if m.j == 1 {
			c.Absent = w.absent()
		}
		w.give(n, c)
	case trim:
		w.expired.add(n.log[n.base].value)
		n.base++
		n.r.Trimmed(uint64(n.base))
	case lead:
		if acts, err := n.r.Lead(1, now, w.until(n)); err == nil {
			w.perform(m.i, acts, nil)
		}
	default:
		w.doMaster(m, n, w.nodes[m.j])
	}
}

func (w *world) doMaster(m move, n, to *node) {
	switch m.kind {
	case write:
		v := w.write(m.i, n.r.Leads())
		n.r.Appended(1)
		n.waiting.add(v)
		w.perform(m.i, nil, nil)
	case send, life:
		b, ok := n.r.Next(to.id, w.batch)
		if m.kind == life {
			b, ok = n.r.Life(to.id)
		}
		if ok {
			n.r.Sent(to.id, b)
			w.mail = append(w.mail, newLetter(m.i, m.j, b, slices.Clone(n.log[min(b.From, b.To):b.To])))
		}
	case rewind:
		n.r.Rewind(to.id)
	case grow:
		w.perform(m.i, n.r.Add(to.id), nil)
	case shrink:
		w.perform(m.i, n.r.Remove(to.id), nil)
	case drain:
		w.perform(m.i, n.r.Drain(), nil)
	case release:
		w.perform(m.i, n.r.Release(), nil)
	}
}
