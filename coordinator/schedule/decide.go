package schedule

import (
	"time"

	"holdfast/fsm"
)

// decideFree places a unit of which nothing is held.
func (p *plan) decideFree(u *unit) {
	fits := p.eligible(u)
	if len(fits) == 0 {
		u.note = "nobody can hold " + u.it()
		return
	}
	to, reason := fits[0], whyBest(u, fits)
	if f := u.preferred(fits); f != nil {
		to, reason = f, "an operator moved "+u.it()+" to "+f.host.name
	}
	p.grant(u, to, reason)
}

// decideHeld looks at a unit of which at least one set is held.
func (p *plan) decideHeld(u *unit) {
	var sitting []*fsm.Grant // held and not recalled
	var recalled *fsm.Grant
	for _, g := range u.grants {
		switch {
		case g == nil:
		case g.Recall == nil:
			sitting = append(sitting, g)
		case recalled == nil || recalled.Recall.To == "":
			recalled = g
		}
	}
	for _, g := range sitting {
		if h := p.host(g.Host); h.live == nil {
			u.note = silentNote(h, g.Set)
			return
		}
	}
	fits := p.eligible(u)
	if recalled != nil && p.follow(u, recalled, sitting, fits) {
		return
	}
	seat := p.seat(u, sitting)
	if f := u.preferred(fits); f != nil && f.host != seat.host {
		p.recall(u, f, "an operator moved "+u.it()+" to "+f.host.name)
		return
	}
	if seat.eligible() {
		if f := p.preempting(u, seat, fits); f != nil {
			p.recall(u, f, whyPreempt(u, f, seat))
			return
		}
		p.stay(u, seat, fits)
		return
	}
	switch {
	case len(fits) > 0:
		p.recall(u, fits[0], whyNot(u, seat)[0])
	case seat.veto != nil:
		p.recall(u, nil, whyNot(u, seat)[0]+", and nobody else can hold "+u.it()+
			": a broken holder is worse than none")
	default:
		u.note = seat.host.name + " keeps " + u.it() + " although " + whyNot(u, seat)[0] + ": nobody else can hold " + u.it()
	}
}

// follow brings the rest of a unit to where its recalled sets are going. It
// reports false if that place is not to be had (any more) and others sit: then
// the unit is decided anew.
func (p *plan) follow(u *unit, recalled *fsm.Grant, sitting []*fsm.Grant, fits []*fit) bool {
	var to *fit
	for _, f := range fits {
		if f.host.name == recalled.Recall.To {
			to = f
		}
	}
	if to == nil && len(sitting) > 0 {
		return false
	}
	u.note = recallNote(recalled)
	if to == nil && len(fits) > 0 {
		if to = u.preferred(fits); to == nil {
			to = fits[0]
		}
	}
	if to == nil {
		return true
	}
	note := u.note
	p.recall(u, to, "it follows "+recalled.Set+", with which it stays together")
	p.grantRest(u, to, "it goes where "+recalled.Set+" is going, with which it stays together")
	u.note = note
	return true
}

// seat is the holder of a unit: the host with most of its sets, if an edit has
// put sets of several hosts into one group; of equal ones the better host.
func (p *plan) seat(u *unit, sitting []*fsm.Grant) *fit {
	count := make(map[string]int)
	for _, g := range sitting {
		count[g.Host]++
	}
	var best *fit
	for _, g := range sitting {
		f := p.fit(u, g.Host)
		switch {
		case best == nil:
		case f.eligible() != best.eligible():
			if best.eligible() {
				continue
			}
		case count[g.Host] != count[best.host.name]:
			if count[g.Host] < count[best.host.name] {
				continue
			}
		case compare(f, best) >= 0:
			continue
		}
		best = f
	}
	return best
}

// preempting gives the host that takes a unit from an eligible holder, nil if
// there is none yet.
func (p *plan) preempting(u *unit, seat *fit, fits []*fit) *fit {
	delay, ok := u.preempts()
	if f := u.preferred(fits); !ok || f != nil && f.host == seat.host {
		return nil
	}
	var wait time.Duration
	for _, f := range fits { // the best first
		if !f.better(seat) {
			break
		}
		if f.since >= delay {
			return f
		}
		if left := delay - f.since; wait == 0 || left < wait {
			wait = left
		}
	}
	if wait > 0 && (p.decision.Again == 0 || wait < p.decision.Again) {
		p.decision.Again = wait
	}
	return nil
}

// stay keeps a unit at its holder and brings its other sets there.
func (p *plan) stay(u *unit, seat *fit, fits []*fit) {
	p.recall(u, seat, u.it()+" stays together on "+seat.host.name)
	p.grantRest(u, seat, "the rest of "+u.it()+" is there")
	u.note = whyStay(u, seat, fits)
}

// recall asks for all sets of a unit that are held elsewhere than at to, and
// not asked for yet; to nil asks for all.
func (p *plan) recall(u *unit, to *fit, reason string) {
	next := ""
	if to != nil {
		next = to.host.name
	}
	u.note = recalling(u, next, reason)
	for i, g := range u.grants {
		switch {
		case g == nil:
		case g.Recall != nil:
			// Once released it will be placed there, whatever it was recalled
			// for. That keeps others out, but is too far off to count for
			// spread.
			if to != nil && g.Recall.To != next {
				p.settle(u.sets[i], next, tenant{unit: u, set: g.Set, leaving: true})
			}
		case g.Host != next:
			p.decision.Recalls = append(p.decision.Recalls, Recall{
				Set: g.Set, Epoch: g.Epoch, From: g.Host, To: next, Reason: reason,
			})
			p.leave(u.sets[i], g.Host)
			if to != nil {
				p.settle(u.sets[i], next, tenant{unit: u, set: g.Set})
			}
		}
	}
}

// grant gives all sets of a free unit to a host.
func (p *plan) grant(u *unit, to *fit, reason string) {
	p.grantRest(u, to, reason)
	u.note = "grant " + u.it() + " to " + to.host.name + ": " + reason
}

// grantRest gives the free sets of a unit to a host.
func (p *plan) grantRest(u *unit, to *fit, reason string) {
	for i, g := range u.grants {
		if g != nil {
			continue
		}
		name := u.sets[i].Name
		p.decision.Grants = append(p.decision.Grants, Placement{
			Set: name, Session: to.host.live.ID, Host: to.host.name, Reason: reason,
		})
		p.settle(u.sets[i], to.host.name, tenant{unit: u, set: name})
	}
}
