package replica

import "cmp"

// Candidate is what a leader knows of a member. Epoch and End are as last reported: they
// order candidates and prove nothing.
type Candidate struct {
	ID    string
	Live  bool   // its session is open and it is not silent
	Epoch uint64 // of its last record
	End   uint64
}

// Choose returns the grant that a leader should propose, or false if nobody can be
// master now. A member of the in-sync set has every acknowledged sync write, so no
// candidate is asked anything first.
func Choose(g Group, candidates []Candidate) (Grant, bool) {
	if g.Epoch != 0 {
		return Grant{}, false
	}
	if best, ok := best(g, candidates, true); ok {
		return Grant{Member: best}, true
	}
	if g.Policy == PolicyUnclean {
		if best, ok := best(g, candidates, false); ok {
			return Grant{Member: best, Unclean: true}, true
		}
	}
	return Grant{}, false
}

// best returns the candidate with the highest priority, then with the log that ends last.
func best(g Group, candidates []Candidate, clean bool) (string, bool) {
	var found *Candidate
	order := func(a, b *Candidate) int {
		ma, _ := g.Member(a.ID)
		mb, _ := g.Member(b.ID)
		return cmp.Or(cmp.Compare(ma.Priority, mb.Priority), cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.End, b.End), cmp.Compare(b.ID, a.ID))
	}
	for i := range candidates {
		c := &candidates[i]
		if _, ok := g.Member(c.ID); !ok || !c.Live || clean && !g.Holds(c.ID) {
			continue
		}
		if g.Policy == PolicyNever && g.Last != "" && c.ID != g.Last {
			continue
		}
		if found == nil || order(c, found) > 0 {
			found = c
		}
	}
	if found == nil {
		return "", false
	}
	return found.ID, true
}
