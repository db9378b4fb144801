package vipagent

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	pb "holdfast/coordinator/api/holdfastpb"
)

// view is what the quorum says of this host, at one index of the log.
type view struct {
	index       uint64
	sessions    map[uint64]bool // open ones of this host
	grants      []grant         // by set
	retiring    []retired       // by address
	candidateOf []string        // sets that name this host
}

// grant says that a session may hold a set.
type grant struct {
	Set       string    `json:"set"`
	Session   uint64    `json:"session"`
	Epoch     uint64    `json:"epoch"`
	Addresses []claimed `json:"addresses"`
	recalled  bool
	cause     string // of the recall
}

// claimed is an address of a set, with the index of the entry that gave it to
// the set (agent rule 8).
type claimed struct {
	Prefix    netip.Prefix `json:"prefix"`
	Interface string       `json:"interface,omitempty"`
	Claim     uint64       `json:"claim"`
}

// epoch is the one that the address's floor is compared with.
func (c claimed) epoch(g grant) uint64 { return max(g.Epoch, c.Claim) }

// retired is an address that left its set while it was held.
type retired struct {
	address netip.Addr
	claim   uint64
	session uint64
	set     string
}

// parseView checks a view as it comes from the wire.
func parseView(v *pb.View) (view, error) {
	out := view{index: v.GetIndex(), sessions: make(map[uint64]bool), candidateOf: slices.Clone(v.GetCandidateOf())}
	for _, id := range v.GetSessions() {
		out.sessions[id] = true
	}
	for _, h := range v.GetHeld() {
		g := grant{Set: h.GetSet().GetName(), Session: h.GetSession(), Epoch: h.GetEpoch()}
		if h.GetRecall() != nil {
			g.recalled, g.cause = true, h.GetRecall().GetCause()
		}
		for _, a := range h.GetSet().GetAddresses() {
			p, err := netip.ParsePrefix(a.GetPrefix())
			if err != nil {
				return view{}, fmt.Errorf("read view %d of %s: set %s: %w", out.index, v.GetCoordinator(), g.Set, err)
			}
			g.Addresses = append(g.Addresses, claimed{p, a.GetInterface(), a.GetClaim()})
		}
		out.grants = append(out.grants, g)
	}
	for _, r := range v.GetRetiring() {
		a, err := netip.ParseAddr(r.GetAddress())
		if err != nil {
			return view{}, fmt.Errorf("read view %d of %s: retiring: %w", out.index, v.GetCoordinator(), err)
		}
		out.retiring = append(out.retiring, retired{a, r.GetClaim(), r.GetSession(), r.GetSet()})
	}
	slices.SortFunc(out.grants, func(a, b grant) int { return cmp.Compare(a.Set, b.Set) })
	slices.SortFunc(out.retiring, func(a, b retired) int { return a.address.Compare(b.address) })
	slices.Sort(out.candidateOf)
	return out, nil
}
