package sim

import (
	"slices"
	"strings"

	"holdfast/coordinator/lease"
	"holdfast/fsm"
	"holdfast/vipagent/tenure"
)

// watch is what a host was told by one coordinator.
type watch struct {
	sent   *tenure.View // nil = nothing
	config uint64
	busy   bool
}

// viewOf is what one host has to know, from an applied state.
func viewOf(st *fsm.State, host string) *tenure.View {
	v := &tenure.View{Index: st.Applied()}
	own := func(id fsm.SessionID) bool { return slices.Contains(v.Sessions, uint64(id)) }
	for _, s := range st.SessionsOf(host) {
		v.Sessions = append(v.Sessions, uint64(s.ID))
	}
	for _, g := range st.Grants() {
		if !own(g.Session) {
			continue
		}
		set, _ := st.Set(g.Set)
		out := tenure.Grant{Set: g.Set, Session: uint64(g.Session), Epoch: uint64(g.Epoch)}
		if g.Recall != nil {
			out.Recalled, out.Cause = true, "recalled"
		}
		for _, a := range set.Addresses {
			out.Addresses = append(out.Addresses, tenure.Claimed{Prefix: a.Prefix, Claim: a.Claim})
		}
		v.Grants = append(v.Grants, out)
	}
	for _, r := range st.Retiring() {
		if own(r.Session) {
			v.Retiring = append(v.Retiring, tenure.Retired{Address: r.Address, Claim: r.Claim, Session: uint64(r.Session), Set: r.Set})
		}
	}
	return v
}

// sameView compares what a host has to know; the index alone is no news.
func sameView(a, b *tenure.View) bool {
	return slices.Equal(a.Sessions, b.Sessions) && slices.Equal(a.Retiring, b.Retiring) &&
		slices.EqualFunc(a.Grants, b.Grants, func(x, y tenure.Grant) bool {
			return x.Key() == y.Key() && x.Recalled == y.Recalled && slices.Equal(x.Addresses, y.Addresses)
		})
}

func (n *node) watchAll() {
	for h := range n.w.riders {
		n.watch(h)
	}
}

// watch tells a host what is new.
func (n *node) watch(h int) {
	x := &n.views[h]
	if x.busy || n.applied == 0 || !n.news(h) {
		return
	}
	x.busy = true
	r, life := n.w.riders[h], n.life
	n.later(n.w.delay(), func() {
		x.busy = false
		if n.life != life || !n.news(h) {
			return
		}
		if n.w.net.cut[n.id][r.link] || r.agent == nil {
			if r.agent != nil {
				x.busy = true
				n.later(200*ms, func() { x.busy = false; n.watch(h) })
			}
			return
		}
		v := *n.w.history[n.applied-1].views[h]
		v.Index = n.applied
		c := n.disk.latest()
		x.sent, x.config = n.w.history[n.applied-1].views[h], c.Index
		n.w.totals.Hosts.Views++
		alive, told := r.life, c.Configuration
		r.alive(alive, func() { r.viewed(n, &v, told) })
		if !n.w.calm && n.w.chance(5) { // late, and once more
			n.w.queue.push(n.w.now+n.w.rng.Int64N(2*int64(n.w.longest)), func() {
				r.alive(alive, func() { r.viewed(n, &v, r.told[n.id]) })
			})
		}
	})
}

func (n *node) news(h int) bool {
	x := &n.views[h]
	return x.sent != n.w.history[n.applied-1].views[h] || x.config != n.disk.latest().Index
}

// renew answers a renewal at once.
func (n *node) renew(x lease.Renewal) (lease.Answer, bool) {
	out := n.ledger.RenewVerified(n.now(), n.state, x)
	if out.Revived {
		n.wake(0)
	}
	return out.Answer, out.Send
}

// renewWire is renew of a datagram as it comes.
func (n *node) renewWire(x lease.Renewal, s lease.Session) (lease.Answer, bool) {
	if !n.w.wire {
		return n.renew(x)
	}
	u, err := lease.ParseRenewal(x.Marshal(&s.Secret))
	if err != nil {
		n.w.fail("read a renewal: %v", err)
		return lease.Answer{}, false
	}
	out, err := n.ledger.Renew(n.now(), n.state, u)
	if err != nil {
		n.w.fail("verify a renewal: %v", err)
	}
	if out.Revived {
		n.wake(0)
	}
	return out.Answer, out.Send
}

// throughWire writes and reads an answer, in runs that use the wire.
func (w *world) throughWire(x lease.Answer, s lease.Session) (lease.Answer, bool) {
	if !w.wire {
		return x, true
	}
	b, err := x.Marshal(&s.Secret)
	if err != nil {
		w.fail("write an answer: %v", err)
		return x, false
	}
	u, err := lease.ParseAnswer(b)
	if err != nil {
		w.fail("read an answer: %v", err)
		return x, false
	}
	x, err = u.Verify(&s.Secret)
	return x, err == nil
}

// drain sends what the agent asks of the quorum, and ends the process when all is done.
func (r *rider) drain() {
	a := r.agent
	if a.duty.redial {
		a.duty.redial = false
		for _, n := range r.w.nodes {
			n.views[r.id].sent = nil
			if n.up {
				n.watch(r.id)
			}
		}
	}
	if id := a.book.Current().ID; id != r.reported && id != 0 {
		r.reported = id
		if r.vetoes != [maxSets]bool{} || a.duty.adopted {
			r.report()
		}
	}
	for i := range a.out {
		c := a.out[i]
		c.limit = r.w.now + 2*int64(lookEvery)
		r.try(&c)
	}
	if len(a.out) > 0 {
		a.out = a.out[:0]
	}
	if a.duty.gone && a.at == idle {
		r.w.totals.Hosts.Closed++
		r.dies()
		r.comesBack(int64(lookEvery))
	}
}

// report tells the quorum what the health checks say, one report at a time.
func (r *rider) report() {
	if id := r.agent.book.Current().ID; id != 0 && (r.reporting == nil || r.reporting.finished) {
		r.reporting = &call{kind: callReport, session: id, vetoes: r.vetoes, limit: r.w.now + 2*int64(lookEvery)}
		r.try(r.reporting)
	}
}

// retell goes on reporting until the quorum knows what the checks say now.
func (r *rider) retell(c *call, good bool) {
	if c.kind == callReport && (!good || c.vetoes != r.vetoes) {
		r.later(50*ms, r.report)
	}
}

// try makes one try of a call; others follow until it is answered or over. A call
// whose answer is lost is made twice.
func (r *rider) try(c *call) {
	if c.finished {
		return
	}
	w, life := r.w, r.life
	if w.now >= c.limit {
		c.finished = true
		r.alive(life, func() {
			r.answered(c, false, false, 0, r.now())
			r.retell(c, false)
			r.plan()
		})
		return
	}
	r.later(400*ms, func() { r.try(c) })
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	for i := 0; i < maxNodes && !(n.up && !w.net.cut[r.link][n.id] && n.disk.latest().has(n.name)); i++ {
		n = w.nodes[(n.id+1)%len(w.nodes)]
	}
	ops := c.ops(r.host)
	w.carry(r.link, n.id, n, func() { w.forward(n, func(l *node) { r.ask(l, c, ops, life) }) })
}

// forward passes a call on to the leader.
func (w *world) forward(n *node, do func(leader *node)) {
	var leader *node
	for _, x := range w.nodes {
		if x.leads != 0 && n.reaches(x) && (leader == nil || x.leads > leader.leads) {
			leader = x
		}
	}
	if leader != nil {
		w.carry(n.id, leader.id, leader, func() { do(leader) })
	}
}

// ask makes the leader commit the call and answer.
func (r *rider) ask(l *node, c *call, ops []fsm.Op, life int) {
	if c.kind == callReport && c.finished || r.w.now >= c.limit {
		return // the call's context is over
	}
	done := func(res fsm.Result, ok bool) {
		if !ok || r.w.net.cut[l.id][r.link] || r.w.lost() {
			return
		}
		r.w.queue.push(r.w.now+r.w.delay(), func() {
			r.alive(life, func() {
				if c.finished {
					return
				}
				c.finished = true
				good, refused := outcome(res, len(ops))
				session := uint64(0)
				if c.kind == callOpen && good {
					session = uint64(res.Ops[0].Session)
				}
				r.answered(c, good, refused, session, r.now())
				r.retell(c, good)
				if c.kind == callOpen && good {
					r.round()
				}
				r.plan()
			})
		})
	}
	if c.kind == callOpen {
		l.propose(fsm.Entry{Ops: ops}, done)
		return
	}
	l.proposeFollowed(ops, done)
}

// outcome says whether the first ops of an entry were taken. One that is stale was
// committed before.
func outcome(res fsm.Result, n int) (good, refused bool) {
	for _, op := range res.Ops[:min(n, len(res.Ops))] {
		if op.Refusal != nil && op.Refusal.Code != fsm.CodeStale && op.Refusal.Code != fsm.CodeNotFound {
			return false, true
		}
	}
	return true, false
}

func hostName(i int) string { return "h" + string(rune('0'+i)) }
func nodeName(i int) string { return "c" + string(rune('0'+i)) }
func nodePlace(name string) int {
	return strings.IndexByte("01234", name[1])
}
