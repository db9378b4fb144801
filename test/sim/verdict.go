package sim

import (
	"fmt"
	"strings"
	"time"

	"holdfast/fsm"
)

// truth is what the committed state says of each address, and what was seen acting.
type truth struct {
	owner  [maxAddresses]int // host for which it is kept, -1 = none
	set    [maxAddresses]int // set that has it, -1 = none
	last   [maxAddresses]int // set that had it last, +1
	epochs [maxSets]fsm.Epoch
	born   [maxSets]uint64 // entry that created the set, 0 = there is none
}

// reading returns the truth of a state; epochs and births go on from before.
func reading(st *fsm.State, before *truth, index uint64) truth {
	t := *before
	for a := range t.owner {
		t.owner[a], t.set[a] = -1, -1
	}
	var there [maxSets]bool
	for _, set := range st.Sets() {
		s := setPlace(set.Name)
		there[s] = true
		if t.born[s] == 0 {
			t.born[s] = index
		}
		g, held := st.Grant(set.Name)
		for _, a := range set.Addresses {
			p := place(a.Addr())
			t.set[p], t.last[p] = s, s+1
			if held {
				t.owner[p] = hostPlace(g.Host)
			}
		}
		if held {
			t.epochs[s] = g.Epoch
		}
	}
	for _, r := range st.Retiring() {
		t.owner[place(r.Address)] = hostPlace(r.Host)
	}
	for s := range there {
		if !there[s] {
			t.born[s] = 0
		}
	}
	return t
}

func hostPlace(name string) int { return int(name[1] - '0') }

// judge checks what a newly committed entry says against what the hosts do.
func (w *world) judge(e *entry, before *truth) {
	w.truth = reading(e.after, before, e.index)
	for s, epoch := range w.truth.epochs {
		if epoch < before.epochs[s] {
			w.fail("set %s got epoch %d after epoch %d", sets[s], epoch, before.epochs[s])
		}
	}
	for _, r := range w.riders {
		r.answering(openFence)
	}
	if len(e.command.Ops) == 0 {
		return
	}
	if what := unsound(e.after, e.command.Ops, e.result); what != "" {
		w.fail("entry %d: %s", e.index, what)
	}
	last := w.committed(e.index - 1).after
	if what := givenBack(last, e.command.Ops, e.result, func(h, a int) bool { return w.riders[h].kernel.present[a] }); what != "" {
		w.fail("entry %d: %s", e.index, what)
	}
	for a := range before.owner {
		if from, to := before.owner[a], w.truth.owner[a]; from >= 0 && to >= 0 && from != to {
			w.totals.Cluster.Takeovers++
		}
		if before.last[a] > 0 && before.last[a] != w.truth.last[a] {
			w.totals.Cluster.Moved++
		}
	}
	for i, op := range e.result.Ops {
		if op.Refusal != nil {
			continue
		}
		switch op := e.command.Ops[i].(type) {
		case fsm.Expire:
			w.totals.Cluster.Fenced++
			w.expired(e, op)
		case fsm.Rebind:
			w.totals.Hosts.Rebinds++
		}
	}
}

// givenBack checks that what an entry gives back is down: what its holder has released
// or confirmed, and all that a session had that its agent has closed (invariant 4). has
// says what a host has in its kernel, whether or not the fence lets packets pass.
func givenBack(before *fsm.State, ops []fsm.Op, res fsm.Result, has func(host, address int) bool) string {
	for i, op := range ops {
		if i >= len(res.Ops) || res.Ops[i].Refusal != nil {
			continue
		}
		switch op := op.(type) {
		case fsm.Release:
			if a := setUp(before, op.Set, op.Session, has); a != "" {
				return fmt.Sprintf("set %s was released while %s is up", op.Set, a)
			}
		case fsm.ConfirmRemoval:
			if s, ok := before.Session(op.Session); ok && has(hostPlace(s.Host), place(op.Address)) {
				return fmt.Sprintf("the removal of %s was confirmed while it is up", op.Address)
			}
		case fsm.CloseSession:
			for _, g := range before.GrantsOf(op.Session) {
				if a := setUp(before, g.Set, op.Session, has); a != "" {
					return fmt.Sprintf("session %d was closed while %s is up", op.Session, a)
				}
			}
		}
	}
	return ""
}

// setUp names an address of a set that is up on the session's host.
func setUp(st *fsm.State, name string, session fsm.SessionID, has func(host, address int) bool) string {
	set, known := st.Set(name)
	s, open := st.Session(session)
	if !known || !open {
		return ""
	}
	for _, a := range set.Addresses {
		if has(hostPlace(s.Host), place(a.Addr())) {
			return a.Addr().String()
		}
	}
	return ""
}

// expired checks that no host goes by the session any more, and that none that was
// well has lost it.
func (w *world) expired(e *entry, op fsm.Expire) {
	last := w.committed(e.index - 1)
	s, _ := last.after.Session(op.Session)
	r := w.riders[hostPlace(s.Host)]
	now := r.now()
	if d := r.kernel.deadline(uint64(op.Session)); d > now {
		w.fail("session %d of %s has ended while its deadline lies %v ahead", op.Session, s.Host, d.Sub(now))
	}
	if r.agent == nil {
		return
	}
	if l := r.agent.holding(uint64(op.Session)); l != nil {
		if d := max(l.deadline, l.computed); d > now {
			w.fail("session %d of %s has ended while its holder may act for another %v", op.Session, s.Host, d.Sub(now))
		}
		// Invariant 5: nothing but leaders has changed for long enough, and the
		// holder has had its lease since. One that lost it before may not win it
		// again: a coordinator whose disk refused a mark is silent about that
		// session until it restarts.
		grace := w.now - 4*int64(s.TTL) - int64(time.Second)
		if r.sane > 0 && r.sane < grace && l.rounds > 30 && !l.fenced && l.deadline > r.clock.at(r.sane) {
			w.fail("healthy session %d of %s has ended", op.Session, s.Host)
		}
	}
}

// answering checks that what the host answers for is kept for it, by the state that is
// committed, and that no other host answers for it. It is called after each act that
// could make it answer: it is time alone that ends it.
func (r *rider) answering(after spot) {
	switch after {
	case addUp, openFence, account, passRebind, idle:
	default:
		return
	}
	now := r.now()
	for a := range maxAddresses {
		if !r.kernel.present[a] || !r.kernel.acts(a, now) {
			continue
		}
		if r.w.truth.owner[a] != r.id {
			r.w.fail("%s answers for %s, which is not kept for it (but for host %d)", r.name, prefixes[a].Addr(), r.w.truth.owner[a])
		}
		for _, o := range r.w.riders {
			if o != r && o.kernel.acts(a, o.now()) {
				r.w.fail("%s and %s answer for %s", r.name, o.name, prefixes[a].Addr())
			}
		}
	}
}

// everybodyServes checks that each set is held, and its addresses answered for, now that
// nothing has gone wrong for long enough.
func (w *world) everybodyServes() {
	w.totals.Checks++
	for _, set := range w.head.Sets() {
		g, held := w.head.Grant(set.Name)
		if !held {
			w.fail("nobody holds set %s although all is well: %s", set.Name, w.state())
			return
		}
		r := w.riders[hostPlace(g.Host)]
		for _, a := range set.Addresses {
			if !r.kernel.acts(place(a.Addr()), r.now()) {
				w.fail("%s holds set %s and does not answer for %s although all is well: %s", g.Host, set.Name, a.Addr(), w.state())
				return
			}
		}
	}
}

// state tells how things stand.
func (w *world) state() string {
	var b strings.Builder
	for _, n := range w.nodes {
		fmt.Fprintf(&b, "\n\t%s up=%v leads=%d term=%d last=%d commit=%d applied=%d config=%d%v marks=%v quiet=%v",
			n.name, n.up, n.leads, n.disk.term, n.disk.last(), n.commit, n.applied, n.disk.latest().Index, n.disk.latest().Voters,
			n.disk.marks, n.ledger.QuietUntil().Sub(n.now()))
	}
	for _, r := range w.riders {
		fmt.Fprintf(&b, "\n\t%s agent=%v", r.name, r.agent != nil)
		if a := r.agent; a != nil {
			fmt.Fprintf(&b, " cur=%d next=%d at=%v busy=%v view=%d", a.book.Current().ID, a.book.Next().ID, a.at, a.busy(), a.book.View().Index)
			for _, l := range a.leases {
				fmt.Fprintf(&b, " [%d left %v fenced %v]", l.holder.Session().ID, l.deadline.Sub(r.now()), l.fenced)
			}
			fmt.Fprintf(&b, " duty=%+v tasks=%d", a.duty, len(a.tasks))
		}
		fmt.Fprintf(&b, " kernel=%v", r.kernel.present)
	}
	for _, s := range w.head.Sessions() {
		fmt.Fprintf(&b, "\n\tsession %d of %s %v", s.ID, s.Host, s.TTL)
	}
	for _, set := range w.head.Sets() {
		g, _ := w.head.Grant(set.Name)
		fmt.Fprintf(&b, "\n\t%s %+v grant %+v", set.Name, set, g)
	}
	return b.String()
}

// tell writes one act of a host to the trace.
func (r *rider) tell(from spot) {
	switch from {
	case idle, decide, settle, closeDown, keepSlots, letGo, expect, account, mayRaise, readBack:
		return
	}
	a := r.agent
	r.w.tracef("%s %v (session %d, %v left)", r.name, from, a.book.Current().ID, a.book.ActUntil(a.book.Current().ID, a).Sub(r.now()))
}
