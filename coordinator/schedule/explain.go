package schedule

import (
	"fmt"
	"slices"

	"holdfast/fsm"
)

// explain puts the outcome of a run into words for one set.
func (p *plan) explain(name string) Explanation {
	u := p.unitOf[name]
	set := u.sets[slices.IndexFunc(u.sets, func(s *fsm.Set) bool { return s.Name == name })]
	out := Explanation{Set: name, Decision: u.note}
	if g, held := p.in.State.Grant(name); held {
		out.Holder = g.Host
	}
	fits := p.eligible(u)
	hosts := make([]string, 0, len(set.Candidates)+1)
	for _, c := range set.Candidates {
		hosts = append(hosts, c.Host)
	}
	if out.Holder != "" && !slices.Contains(hosts, out.Holder) {
		hosts = append(hosts, out.Holder)
	}
	for _, h := range hosts {
		out.Candidates = append(out.Candidates, p.candidate(u, set, h, fits, out.Holder))
	}

	// Who holds it, and who could.
	at := make([]string, 0, len(fits)+1)
	if out.Holder != "" {
		at = append(at, out.Holder)
	}
	for _, f := range fits {
		if f.host.name != out.Holder {
			at = append(at, f.host.name)
		}
	}
	for _, h := range at {
		out.IfHostDies = append(out.IfHostDies, p.loss(name, h))
	}
	return out
}

func (p *plan) candidate(u *unit, set *fsm.Set, name string, fits []*fit, holder string) Candidate {
	f := p.fit(u, name)
	c := Candidate{Host: name, Eligible: f.eligible(), Holder: name == holder}
	weight, cause := 0, ""
	if s := f.host.live; s != nil {
		weight, cause = s.Conditions[set.Name].Weight, s.Conditions[set.Name].Reason
	}
	if own, ok := set.Candidate(name); ok {
		c.Priority, c.Effective = own.Priority, effective(own.Priority, weight)
	}
	if !c.Eligible {
		c.Reasons = whyNot(u, f)
		return c
	}
	if weight != 0 {
		text := fmt.Sprintf("health checks change its priority by %+d, to %d", weight, c.Effective)
		if cause != "" {
			text += ": " + cause
		}
		c.Reasons = append(c.Reasons, text)
	}
	chosen := u.preferred(fits)
	switch i := slices.IndexFunc(fits, func(g *fit) bool { return g.host == f.host }); {
	case chosen != nil && chosen.host == f.host:
		c.Reasons = append(c.Reasons, "an operator moved "+u.it()+" here, which goes before priority")
	case chosen != nil:
		c.Reasons = append(c.Reasons, "an operator moved "+u.it()+" to "+chosen.host.name+", which goes before priority")
	case len(fits) == 1:
		c.Reasons = append(c.Reasons, "the only host that can hold "+u.it()+" now")
	case i == 0:
		c.Reasons = append(c.Reasons, "goes before "+fits[1].host.name+": "+whyBetter(u, f, fits[1]))
	default:
		c.Reasons = append(c.Reasons, "goes behind "+fits[0].host.name+": "+whyBetter(u, fits[0], f))
	}
	return c
}

// loss tries out what would be decided if a host died now and its sessions
// were ended.
func (p *plan) loss(set, host string) Loss {
	out := Loss{Host: host}
	state := p.in.State.Clone()
	for _, s := range state.SessionsOf(host) {
		// Closing a session that is open is never refused.
		_, _ = state.ApplyEntry(state.Applied()+1, fsm.Entry{
			Version: fsm.EntryVersion, Ops: []fsm.Op{fsm.CloseSession{Session: s.ID}},
		})
	}
	// What has been recalled from others is released, whoever was meant to
	// have it.
	for _, g := range state.Grants() {
		if g.Recall != nil && p.host(g.Host).live != nil {
			_, _ = state.ApplyEntry(state.Applied()+1, fsm.Entry{
				Version: fsm.EntryVersion, Ops: []fsm.Op{fsm.Release{Set: g.Set, Session: g.Session, Epoch: g.Epoch}},
			})
		}
	}
	next := newPlan(Input{State: state, Live: p.in.Live, Now: p.in.Now, Seen: p.in.Seen})
	next.run()
	grant, held := state.Grant(set)
	for _, g := range next.decision.Grants {
		if g.Set == set {
			out.Next, out.Reason = g.Host, g.Reason
			return out
		}
	}
	switch {
	case !held:
		out.Reason = next.unitOf[set].note
	case grant.Recall != nil: // and its holder is silent, so nobody can tell yet
		out.Reason = next.unitOf[set].note
	default:
		out.Next, out.Reason = grant.Host, grant.Host+" holds it and goes on"
		for _, r := range next.decision.Recalls {
			if r.Set == set {
				out.Next, out.Reason = r.To, r.Reason
			}
		}
	}
	return out
}
