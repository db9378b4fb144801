package coordinator

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/fsm"
)

// Open opens a session. It gives no lease: only answered renewals do.
func (c *Coordinator) Open(ctx context.Context, r *pb.OpenRequest) (*pb.OpenReply, error) {
	if r.TtlMs < 0 || r.TtlMs > fsm.MaxTTL.Milliseconds() {
		return nil, &fsm.Refusal{Code: fsm.CodeInvalid, Message: fmt.Sprintf("ttl of %d ms: want %s to %s", r.TtlMs, fsm.MinTTL, fsm.MaxTTL)}
	}
	op := fsm.OpenSession{Host: r.Host, TTL: time.Duration(r.TtlMs) * time.Millisecond}
	if n := copy(op.Secret[:], r.Secret); n != len(op.Secret) || n != len(r.Secret) {
		return nil, &fsm.Refusal{Code: fsm.CodeInvalid, Message: fmt.Sprintf("secret must be %d bytes, got %d", len(op.Secret), len(r.Secret))}
	}
	actor := "agent/" + r.Host
	if b := r.GetBroker(); b != nil {
		op.Broker = &fsm.Broker{Name: b.GetName(), Client: b.GetClient(), Replication: b.GetReplication()}
		actor = "broker/" + b.GetName()
	}
	res, err := c.proposeEntry(ctx, fsm.Entry{Actor: actor, Ops: []fsm.Op{op}})
	if err == nil {
		err = res.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("open session for %s: %w", r.Host, err)
	}
	return &pb.OpenReply{Session: uint64(res.Ops[0].Session)}, nil
}

// Release frees grants whose addresses are down, and commits the next grants
// in the same entry. Conditions that are the cause go first, so that the
// scheduler does not choose the same host again.
func (c *Coordinator) Release(ctx context.Context, r *pb.ReleaseRequest) (*pb.ReleaseReply, error) {
	id := fsm.SessionID(r.Session)
	ops := conditionOps(id, r.Conditions)
	for _, rel := range r.Releases {
		ops = append(ops, fsm.Release{Set: rel.Set, Session: id, Epoch: fsm.Epoch(rel.Epoch), Cause: r.Cause})
	}
	res, err := c.propose(ctx, c.actor(id), ops...)
	if err != nil && !isStale(err) {
		return nil, fmt.Errorf("release: %w", err)
	}
	// A stale release was committed before: the answer to it was lost.
	return &pb.ReleaseReply{Index: res.Index}, nil
}

// ConfirmRemoval frees addresses that left a set while it was held.
func (c *Coordinator) ConfirmRemoval(ctx context.Context, r *pb.ConfirmRemovalRequest) (*pb.ConfirmRemovalReply, error) {
	id := fsm.SessionID(r.Session)
	var ops []fsm.Op
	for _, ret := range r.Removed {
		addr, err := netip.ParseAddr(ret.Address)
		if err != nil {
			return nil, &fsm.Refusal{Code: fsm.CodeInvalid, Message: fmt.Sprintf("address %q: %v", ret.Address, err)}
		}
		ops = append(ops, fsm.ConfirmRemoval{Session: id, Address: addr, Claim: ret.Claim})
	}
	res, err := c.propose(ctx, c.actor(id), ops...)
	if err != nil && !isStale(err) {
		return nil, fmt.Errorf("confirm removal: %w", err)
	}
	return &pb.ConfirmRemovalReply{Index: res.Index}, nil
}

// ReportCondition takes in what a host's health checks say.
func (c *Coordinator) ReportCondition(ctx context.Context, r *pb.ReportConditionRequest) (*pb.ReportConditionReply, error) {
	id := fsm.SessionID(r.Session)
	res, err := c.propose(ctx, c.actor(id), conditionOps(id, r.Conditions)...)
	if err != nil {
		return nil, fmt.Errorf("report condition: %w", err)
	}
	return &pb.ReportConditionReply{Index: res.Index}, nil
}

// ReportStall notes that an agent did not run for a time.
func (c *Coordinator) ReportStall(ctx context.Context, r *pb.ReportStallRequest) (*pb.ReportStallReply, error) {
	id := fsm.SessionID(r.Session)
	const most = math.MaxInt64 / int64(time.Millisecond)
	if r.LastedMs > most || r.EndedMsAgo > most {
		return nil, &fsm.Refusal{Code: fsm.CodeInvalid, Message: "nobody has waited for so long"}
	}
	if err := c.mayReportStall(id); err != nil {
		return nil, err
	}
	res, err := c.propose(ctx, c.actor(id), fsm.NoteStall{
		Session: id, Lasted: time.Duration(r.LastedMs) * time.Millisecond, Ago: time.Duration(r.EndedMsAgo) * time.Millisecond, More: int(r.More),
	})
	if err != nil {
		return nil, fmt.Errorf("report stall: %w", err)
	}
	c.stallReported(id)
	return &pb.ReportStallReply{Index: res.Index}, nil
}

// ReportRouter notes how a host stands in the VRRP of shared sets.
func (c *Coordinator) ReportRouter(ctx context.Context, r *pb.ReportRouterRequest) (*pb.ReportRouterReply, error) {
	id := fsm.SessionID(r.Session)
	var ops []fsm.Op
	for _, said := range r.Routers {
		router := fsm.Router{State: said.GetState()}
		if said.GetPriority() > math.MaxUint8 {
			return nil, &fsm.Refusal{Code: fsm.CodeInvalid, Message: fmt.Sprintf("router of %q: priority %d", said.GetSet(), said.GetPriority())}
		}
		router.Priority = uint8(said.GetPriority())
		for _, a := range []struct {
			text string
			into *netip.Addr
		}{{said.GetActive(), &router.Active}, {said.GetSource(), &router.Source}} {
			if a.text == "" {
				continue
			}
			var err error
			if *a.into, err = netip.ParseAddr(a.text); err != nil {
				return nil, &fsm.Refusal{Code: fsm.CodeInvalid, Message: fmt.Sprintf("router of %q: %q is no address", said.GetSet(), a.text)}
			}
		}
		ops = append(ops, fsm.NoteRouter{Session: id, Set: said.GetSet(), Router: router})
	}
	res, err := c.propose(ctx, c.actor(id), ops...)
	if err != nil {
		return nil, fmt.Errorf("report router: %w", err)
	}
	return &pb.ReportRouterReply{Index: res.Index}, nil
}

// Rebind moves a fenced session's grants to a new session of the same host.
func (c *Coordinator) Rebind(ctx context.Context, r *pb.RebindRequest) (*pb.RebindReply, error) {
	res, err := c.propose(ctx, c.actor(fsm.SessionID(r.Old)), fsm.Rebind{Old: fsm.SessionID(r.Old), New: fsm.SessionID(r.New)})
	if err != nil {
		return nil, fmt.Errorf("rebind session %d to %d: %w", r.Old, r.New, err)
	}
	return &pb.RebindReply{Index: res.Index}, nil
}

// Close ends a session whose addresses are all down.
func (c *Coordinator) Close(ctx context.Context, r *pb.CloseRequest) (*pb.CloseReply, error) {
	id := fsm.SessionID(r.Session)
	res, err := c.propose(ctx, c.actor(id), fsm.CloseSession{Session: id, Cause: r.Cause})
	if err != nil && !isStale(err) {
		return nil, fmt.Errorf("close session %d: %w", r.Session, err)
	}
	return &pb.CloseReply{Index: res.Index}, nil
}

func conditionOps(id fsm.SessionID, conditions []*pb.Condition) []fsm.Op {
	var ops []fsm.Op
	for _, cond := range conditions {
		ops = append(ops, fsm.SetCondition{Session: id, Set: cond.Set, Condition: fsm.Condition{
			Weight: int(cond.Weight), Veto: cond.Veto, Reason: cond.Reason,
		}})
	}
	return ops
}

// actor names the author of an agent's or a broker's command in the audit ring.
func (c *Coordinator) actor(id fsm.SessionID) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if s, ok := c.state.Session(id); ok {
		if s.Broker != nil {
			return "broker/" + s.Broker.Name
		}
		return "agent/" + s.Host
	}
	return fmt.Sprintf("session %d", id)
}
