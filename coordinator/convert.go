package coordinator

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/fsm"
)

// setToPB and setFromPB are the only translation between the replicated form
// of a set and the wire's.
func setToPB(s *fsm.Set) *pb.VIPSet {
	out := &pb.VIPSet{
		Name: s.Name, Preempt: s.Preempt, PreemptDelayMs: s.PreemptDelay.Milliseconds(),
		SyncGroup: s.SyncGroup, Spread: s.Spread, AntiAffinity: s.AntiAffinity,
		Paused: s.Paused, Prefer: s.Prefer, Revision: s.Revision,
	}
	for _, a := range s.Addresses {
		out.Addresses = append(out.Addresses, &pb.Address{Prefix: a.Prefix.String(), Interface: a.Interface, Claim: a.Claim})
	}
	for _, cand := range s.Candidates {
		out.Candidates = append(out.Candidates, &pb.Candidate{Host: cand.Host, Priority: int32(cand.Priority)})
	}
	out.Vrrp = vrrpToPB(s.VRRP)
	return out
}

func vrrpToPB(v *fsm.VRRP) *pb.VRRP {
	if v == nil {
		return nil
	}
	out := &pb.VRRP{
		Vrid: uint32(v.ID), Version: uint32(v.Version), Priority: uint32(v.Priority), IntervalMs: v.Interval.Milliseconds(),
		Interface: v.Interface, Ipv6: v.IPv6, NoPreempt: v.NoPreempt, Password: v.Password,
		PlainChecksum: v.PlainChecksum, Mode: v.Mode,
	}
	for _, p := range v.Peers {
		out.Peers = append(out.Peers, p.String())
	}
	return out
}

// vrrpFromPB refuses numbers that would come out as others.
func vrrpFromPB(set string, v *pb.VRRP) (*fsm.VRRP, error) {
	if v == nil {
		return nil, nil
	}
	for _, n := range []struct {
		field string
		value uint32
	}{{"vrid", v.GetVrid()}, {"version", v.GetVersion()}, {"priority", v.GetPriority()}} {
		if n.value > math.MaxUint8 {
			return nil, &fsm.Refusal{Code: fsm.CodeInvalid, Message: fmt.Sprintf("set %q: vrrp.%s: %d is above 255", set, n.field, n.value)}
		}
	}
	if ms := v.GetIntervalMs(); ms < 0 || ms > time.Hour.Milliseconds() {
		return nil, &fsm.Refusal{Code: fsm.CodeInvalid, Message: fmt.Sprintf("set %q: vrrp.interval: %d ms", set, ms)}
	}
	out := &fsm.VRRP{
		ID: uint8(v.GetVrid()), Version: uint8(v.GetVersion()), Priority: uint8(v.GetPriority()),
		Interval:  time.Duration(v.GetIntervalMs()) * time.Millisecond,
		Interface: v.GetInterface(), IPv6: v.GetIpv6(), NoPreempt: v.GetNoPreempt(), Password: v.GetPassword(),
		PlainChecksum: v.GetPlainChecksum(), Mode: v.GetMode(),
	}
	for _, text := range v.GetPeers() {
		p, err := netip.ParseAddr(text)
		if err != nil {
			return nil, &fsm.Refusal{Code: fsm.CodeInvalid, Message: fmt.Sprintf("set %q: vrrp.peers: %q is no address", set, text)}
		}
		out.Peers = append(out.Peers, p)
	}
	return out, nil
}

func setFromPB(s *pb.VIPSet) (fsm.Set, error) {
	// A number that is too large must not come out small.
	if ms := s.GetPreemptDelayMs(); ms < 0 || ms > time.Hour.Milliseconds() {
		return fsm.Set{}, &fsm.Refusal{Code: fsm.CodeInvalid, Message: fmt.Sprintf("set %q: preempt delay of %d ms: want 0 to 1 h", s.GetName(), ms)}
	}
	out := fsm.Set{
		Name: s.GetName(), Preempt: s.GetPreempt(), PreemptDelay: time.Duration(s.GetPreemptDelayMs()) * time.Millisecond,
		SyncGroup: s.GetSyncGroup(), Spread: s.GetSpread(), AntiAffinity: s.GetAntiAffinity(), Paused: s.GetPaused(),
	}
	for _, a := range s.GetAddresses() {
		p, err := netip.ParsePrefix(a.GetPrefix())
		if err != nil {
			return out, &fsm.Refusal{Code: fsm.CodeInvalid, Message: fmt.Sprintf("set %q: address %q: want an address with its prefix length, such as 10.0.0.50/24", s.GetName(), a.GetPrefix())}
		}
		out.Addresses = append(out.Addresses, fsm.Address{Prefix: p, Interface: a.GetInterface()})
	}
	for _, cand := range s.GetCandidates() {
		out.Candidates = append(out.Candidates, fsm.Candidate{Host: cand.GetHost(), Priority: int(cand.GetPriority())})
	}
	var err error
	if out.VRRP, err = vrrpFromPB(s.GetName(), s.GetVrrp()); err != nil {
		return out, err
	}
	if err := fsm.ValidateSet(out); err != nil {
		return out, &fsm.Refusal{Code: fsm.CodeInvalid, Message: err.Error()}
	}
	return out, nil
}

func routerToPB(set string, r fsm.Router) *pb.Router {
	out := &pb.Router{Set: set, State: r.State, Priority: uint32(r.Priority)}
	if r.Active.IsValid() {
		out.Active = r.Active.String()
	}
	if r.Source.IsValid() {
		out.Source = r.Source.String()
	}
	return out
}

func recallToPB(r *fsm.Recall) *pb.Recall {
	if r == nil {
		return nil
	}
	return &pb.Recall{To: r.To, Cause: r.Cause}
}

func retiringToPB(r *fsm.Retiring) *pb.Retiring {
	return &pb.Retiring{Address: r.Address.String(), Claim: r.Claim, Session: uint64(r.Session), Set: r.Set}
}

func eventToPB(ch fsm.Change) *pb.Event {
	return &pb.Event{
		Index: ch.Index, AtUnixNs: ch.At, Actor: ch.Actor, Kind: ch.Kind, Set: ch.Set, Host: ch.Host,
		Session: uint64(ch.Session), Epoch: uint64(ch.Epoch), Cause: ch.Cause,
		Group: ch.Group, Topic: ch.Topic, Broker: ch.Broker,
	}
}

// isStale reports whether err says that a command came too late: what it asked
// for has happened already or can no longer happen.
func isStale(err error) bool {
	var r *fsm.Refusal
	return errors.As(err, &r) && (r.Code == fsm.CodeStale || r.Code == fsm.CodeNotFound)
}
