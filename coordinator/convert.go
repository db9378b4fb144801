package coordinator

import (
	"errors"
	"fmt"
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
	return out
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
	if err := fsm.ValidateSet(out); err != nil {
		return out, &fsm.Refusal{Code: fsm.CodeInvalid, Message: err.Error()}
	}
	return out, nil
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
	}
}

// isStale reports whether err says that a command came too late: what it asked
// for has happened already or can no longer happen.
func isStale(err error) bool {
	var r *fsm.Refusal
	return errors.As(err, &r) && (r.Code == fsm.CodeStale || r.Code == fsm.CodeNotFound)
}
