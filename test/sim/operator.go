package sim

import (
	"slices"

	"holdfast/fsm"
)

// operate brings an operator's command to a leader, if there is one.
func (w *world) operate(op fsm.Op) {
	n := w.leader()
	if n == nil {
		return
	}
	w.totals.Cluster.Edits++
	n.later(w.delay(), func() { n.propose(fsm.Entry{Actor: "operator", Ops: []fsm.Op{op}}, func(fsm.Result, bool) {}) })
}

// edit is something that an operator does.
func (w *world) edit() {
	set := sets[w.rng.IntN(3)]
	host := hostName(w.rng.IntN(len(w.riders)))
	switch w.rng.IntN(12) {
	case 0:
		w.operate(fsm.DeleteSet{Set: set})
	case 1, 2:
		w.operate(fsm.PreferHost{Set: set, Host: host})
	case 3:
		w.operate(fsm.PauseSet{Set: set, Paused: w.chance(50)})
	case 4:
		w.operate(fsm.PauseSet{Paused: w.chance(50)})
	case 5, 6:
		w.operate(fsm.DrainHost{Host: host, Drained: w.chance(50)})
	case 7:
		if w.chance(50) {
			w.saved = w.head.Saved("saved")
		} else if len(w.saved.Sets) > 0 {
			w.operate(w.saved)
		}
	case 8:
		for _, n := range w.nodes {
			if w.chance(50) && n.up {
				n.snapshot()
			}
		}
	case 9, 10:
		w.moveAddress()
	default:
		w.operate(w.putSet(w.rng.IntN(3)))
	}
}

// moveAddress takes an address from its set and, as soon as that works, gives it to
// another.
func (w *world) moveAddress() {
	var from, to *fsm.Set
	for _, i := range w.rng.Perm(3) {
		if set, ok := w.head.Set(sets[i]); ok && from == nil && len(set.Addresses) > 1 {
			from = set
		} else if ok {
			to = set
		}
	}
	if from == nil || to == nil {
		return
	}
	less, a := *from, from.Addresses[w.rng.IntN(len(from.Addresses))]
	less.Addresses = slices.DeleteFunc(slices.Clone(from.Addresses), func(x fsm.Address) bool { return x == a })
	w.operate(fsm.PutSet{Set: less})
	for i := range int64(6) {
		w.queue.push(w.now+(i+1)*(20+w.rng.Int64N(200))*ms, func() {
			if set, ok := w.head.Set(to.Name); ok && w.truth.set[place(a.Addr())] < 0 {
				more := *set
				more.Addresses = append(slices.Clip(set.Addresses), a)
				w.operate(fsm.PutSet{Set: more})
			}
		})
	}
}

// putSet is an edit of a set: some of its addresses stay, others leave, others come,
// perhaps from another set.
func (w *world) putSet(i int) fsm.PutSet {
	next := fsm.Set{Name: sets[i], Candidates: w.candidates(), Preempt: w.chance(50)}
	if old, ok := w.head.Set(sets[i]); ok {
		next.Candidates, next.Preempt = old.Candidates, old.Preempt
		for _, a := range old.Addresses {
			if w.chance(60) {
				next.Addresses = append(next.Addresses, a)
			}
		}
	}
	for range 3 {
		a := fsm.Address{Prefix: prefixes[w.rng.IntN(maxAddresses)]}
		taken := w.truth.set[place(a.Addr())] >= 0
		if !slices.ContainsFunc(next.Addresses, func(x fsm.Address) bool { return x.Addr() == a.Addr() }) &&
			(len(next.Addresses) == 0 || w.chance(40)) && (!taken || w.chance(20)) {
			next.Addresses = append(next.Addresses, a)
		}
	}
	return fsm.PutSet{Set: next}
}

// changeMembers adds, promotes or removes a coordinator.
func (w *world) changeMembers() {
	for _, n := range w.nodes {
		if n.leads == 0 || !n.duty.began || !n.awake() {
			continue
		}
		for _, r := range w.riders {
			r.harmed()
		}
		c := n.disk.latest()
		voters, learners := slices.Clone(c.Voters), slices.Clone(c.learners)
		x := w.nodes[w.rng.IntN(maxNodes)].name
		switch {
		case len(learners) > 0:
			y := w.nodes[nodePlace(learners[0])]
			if y.up && y.disk.last() == n.disk.last() && w.chance(80) {
				n.change(append(voters, learners[0]), learners[1:])
			} else if w.chance(20) {
				n.change(voters, learners[1:])
			}
		case !c.votes(x):
			n.change(voters, append(learners, x))
		case len(voters) > 3 || len(voters) > 2 && w.chance(20):
			n.change(slices.DeleteFunc(voters, func(v string) bool { return v == x }), learners)
		}
		return
	}
}
