package vipagent

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/vipagent/tenure"
)

// parseView checks a view as it comes from the wire.
func parseView(v *pb.View) (tenure.View, error) {
	out := tenure.View{Index: v.GetIndex(), Sessions: slices.Clone(v.GetSessions())}
	for _, h := range v.GetHeld() {
		g := tenure.Grant{Set: h.GetSet().GetName(), Session: h.GetSession(), Epoch: h.GetEpoch()}
		if h.GetRecall() != nil {
			g.Recalled, g.Cause = true, h.GetRecall().GetCause()
		}
		for _, a := range h.GetSet().GetAddresses() {
			p, err := netip.ParsePrefix(a.GetPrefix())
			if err != nil {
				return tenure.View{}, fmt.Errorf("read view %d of %s: set %s: %w", out.Index, v.GetCoordinator(), g.Set, err)
			}
			g.Addresses = append(g.Addresses, tenure.Claimed{Prefix: p, Interface: a.GetInterface(), Claim: a.GetClaim()})
		}
		out.Grants = append(out.Grants, g)
	}
	for _, r := range v.GetRetiring() {
		a, err := netip.ParseAddr(r.GetAddress())
		if err != nil {
			return tenure.View{}, fmt.Errorf("read view %d of %s: retiring: %w", out.Index, v.GetCoordinator(), err)
		}
		out.Retiring = append(out.Retiring, tenure.Retired{Address: a, Claim: r.GetClaim(), Session: r.GetSession(), Set: r.GetSet()})
	}
	slices.Sort(out.Sessions)
	slices.SortFunc(out.Grants, func(a, b tenure.Grant) int { return cmp.Compare(a.Set, b.Set) })
	slices.SortFunc(out.Retiring, func(a, b tenure.Retired) int { return a.Address.Compare(b.Address) })
	return out, nil
}
