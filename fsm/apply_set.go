package fsm

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

func (op PutSet) apply(t *transition) (OpResult, *Refusal) {
	set := op.Set
	if old, ok := t.state.sets[set.Name]; ok {
		set.Paused, set.Prefer = old.Paused, old.Prefer
	} else {
		set.Prefer = ""
	}
	return OpResult{}, t.put(set, op.Cause)
}

// put creates or replaces a set, with the Paused and Prefer that it bears.
func (t *transition) put(set Set, cause string) *Refusal {
	if err := ValidateSet(set); err != nil {
		return refuse(CodeInvalid, "put set %q: %v", set.Name, err)
	}
	s := t.state
	old := s.sets[set.Name]
	next := arranged(set)
	if refusal := t.claim(&next, old); refusal != nil {
		return refusal
	}
	if _, ok := next.Candidate(next.Prefer); !ok {
		next.Prefer = ""
	}
	detail := "created, " + count(len(next.Addresses), "address", "addresses")
	if old != nil {
		if detail = differences(old, &next); detail == "" {
			return nil
		}
	}
	next.Revision = t.index
	// Every refusal is behind us; from here on the state changes.
	if old != nil {
		t.depart(old, &next)
	}
	for _, a := range next.Addresses {
		t.claims[a.Addr()] = next.Name
	}
	s.sets[next.Name] = &next
	t.record(Change{Set: next.Name, Cause: because(cause, detail)})
	return nil
}

// claim gives next its claims: those of old for addresses that stay, the
// entry's index for new ones. It refuses addresses that are not to be had.
func (t *transition) claim(next, old *Set) *Refusal {
	kept := make(map[netip.Addr]uint64)
	if old != nil {
		for _, a := range old.Addresses {
			kept[a.Addr()] = a.Claim
		}
	}
	for i := range next.Addresses {
		a := &next.Addresses[i]
		owner, owned := t.owner(a.Addr())
		if claim, ok := kept[a.Addr()]; ok {
			a.Claim = claim
			continue
		}
		if owned {
			return refuse(CodeConflict, "address %s belongs to set %s", a.Addr(), owner)
		}
		// This holds for the set that it left as well: its holder may have
		// begun to lower the address under the old claim.
		if row, ok := t.state.retiring[a.Addr()]; ok {
			return refuse(CodeHeld, "address %s left set %s, and session %d on %s has not confirmed its removal",
				a.Addr(), row.Set, row.Session, row.Host)
		}
		a.Claim = t.index
	}
	return nil
}

// depart takes from a set the addresses that next (nil: none) does not have.
// Those of a held set become retiring. It changes no set, and doing it twice
// is as good as once.
func (t *transition) depart(set, next *Set) int {
	stays := make(map[netip.Addr]bool)
	if next != nil {
		for _, a := range next.Addresses {
			stays[a.Addr()] = true
		}
	}
	grant, held := t.state.grants[set.Name]
	left := 0
	for _, a := range set.Addresses {
		if stays[a.Addr()] {
			continue
		}
		left++
		if owner, ok := t.owner(a.Addr()); ok && owner == set.Name {
			delete(t.claims, a.Addr())
		}
		if held {
			t.state.retiring[a.Addr()] = &Retiring{Address: a.Addr(), Claim: a.Claim,
				Session: grant.Session, Host: grant.Host, Set: set.Name}
		}
	}
	return left
}

func (op DeleteSet) apply(t *transition) (OpResult, *Refusal) {
	set, ok := t.state.sets[op.Set]
	if !ok {
		return OpResult{}, refuse(CodeNotFound, "no set %q", op.Set)
	}
	t.remove(set, op.Cause)
	return OpResult{}, nil
}

// remove deletes a set and its grant.
func (t *transition) remove(set *Set, cause string) {
	s := t.state
	left := t.depart(set, nil)
	row := Change{Set: set.Name, Cause: because(cause, "deleted")}
	if grant, held := s.grants[set.Name]; held {
		row.Host, row.Session, row.Epoch = grant.Host, grant.Session, grant.Epoch
		row.Cause = because(cause, "deleted, "+count(left, "address retires", "addresses retire"))
		delete(s.grants, set.Name)
	}
	delete(s.sets, set.Name)
	t.record(row)
}

// arranged returns a copy of a set in the order that the state keeps, without
// claims.
func arranged(set Set) Set {
	set.Addresses = slices.Clone(set.Addresses)
	for i := range set.Addresses {
		set.Addresses[i].Claim = 0
	}
	slices.SortFunc(set.Addresses, func(a, b Address) int { return a.Addr().Compare(b.Addr()) })
	set.Candidates = slices.Clone(set.Candidates)
	if set.VRRP != nil {
		vrrp := *set.VRRP
		vrrp.Peers = slices.Clone(vrrp.Peers)
		set.VRRP = &vrrp
	}
	slices.SortFunc(set.Candidates, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), strings.Compare(a.Host, b.Host))
	})
	return set
}

// differences tells in words what a replacement changes of a set; "" = nothing.
// The revisions do not count.
func differences(old, next *Set) string {
	var words []string
	add := func(changed bool, word string) {
		if changed {
			words = append(words, word)
		}
	}
	before := make(map[netip.Addr]Address)
	for _, a := range old.Addresses {
		before[a.Addr()] = a
	}
	added, altered := 0, 0
	for _, a := range next.Addresses {
		was, ok := before[a.Addr()]
		switch {
		case !ok:
			added++
		case was != a:
			altered++
		}
	}
	left := added + len(old.Addresses) - len(next.Addresses)
	add(added > 0, fmt.Sprintf("+%d", added))
	add(left > 0, fmt.Sprintf("-%d", left))
	add(altered > 0, fmt.Sprintf("~%d", altered))
	if len(words) > 0 {
		words = []string{"addresses " + strings.Join(words, " ")}
	}
	add(!slices.Equal(old.Candidates, next.Candidates), "candidates")
	add(old.Preempt != next.Preempt, "preempt")
	add(old.PreemptDelay != next.PreemptDelay, "preempt delay")
	add(old.SyncGroup != next.SyncGroup, "sync group")
	add(old.Spread != next.Spread, "spread")
	add(old.AntiAffinity != next.AntiAffinity, "anti-affinity")
	add(old.Paused != next.Paused, "paused")
	add(old.Prefer != next.Prefer, "prefer")
	add(!old.VRRP.Equal(next.VRRP), "vrrp")
	return strings.Join(words, ", ")
}
