package group

import (
	"cmp"
	"slices"
)

// Candidate is what a leader knows of a member. Epoch and End are as last reported: they
// order candidates and prove nothing.
type Candidate struct {
	ID    string
	Live  bool   // its session is open and it is not silent
	Epoch uint64 // of its last record
	End   uint64 // of its log, in bytes
}

// Choose returns the grant that a leader should propose, or false if nobody can be
// master now. A member of the in-sync set has every acknowledged sync write, so no
// candidate is asked anything first.
func Choose(g Group, candidates []Candidate) (Grant, bool) {
	if g.Epoch != 0 {
		return Grant{}, false
	}
	if best, ok := choose(g, candidates, false); ok {
		return Grant{Member: best, Absent: absent(g, candidates)}, true
	}
	if best, ok := choose(g, candidates, true); ok {
		return Grant{Member: best, Unclean: true}, true
	}
	return Grant{}, false
}

// absent returns the members of the set that are not live.
func absent(g Group, candidates []Candidate) []string {
	var out []string
	for _, id := range g.InSync {
		if !slices.ContainsFunc(candidates, func(c Candidate) bool { return c.ID == id && c.Live }) {
			out = append(out, id)
		}
	}
	return out
}

// choose returns the best candidate that a grant would be applied for.
func choose(g Group, candidates []Candidate, unclean bool) (string, bool) {
	found := -1
	for i, c := range candidates {
		_, member := g.Member(c.ID)
		if !member || !c.Live || !g.policyAllows(c.ID, unclean) || !unclean && !g.Holds(c.ID) {
			continue
		}
		if found < 0 || order(g, unclean, c, candidates[found]) > 0 {
			found = i
		}
	}
	if found < 0 {
		return "", false
	}
	return candidates[found].ID, true
}

// order is positive if a is better than b: the one that is wanted, then by priority, then
// by the log. An unclean grant loses what the chosen one lacks, so there the log is first.
func order(g Group, unclean bool, a, b Candidate) int {
	log := cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.End, b.End))
	if unclean && log != 0 {
		return log
	}
	ma, _ := g.Member(a.ID)
	mb, _ := g.Member(b.ID)
	return cmp.Or(wanted(g, a)-wanted(g, b), cmp.Compare(ma.Priority, mb.Priority), log, cmp.Compare(b.ID, a.ID))
}

func wanted(g Group, c Candidate) int {
	if c.ID == g.Wanted {
		return 1
	}
	return 0
}
