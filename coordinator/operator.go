package coordinator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/fsm"
)

// Apply creates or changes sets, all or none. With DryRun it only says what
// would happen.
func (c *Coordinator) Apply(ctx context.Context, actor string, r *pb.ApplyRequest) (*pb.ApplyReply, error) {
	if !c.leading.Load() {
		return nil, c.notLeader() // a follower's state may be behind: its refusal would be no answer
	}
	e := fsm.Entry{Actor: actor, Atomic: true}
	for _, s := range r.Sets {
		set, err := setFromPB(s)
		if err != nil {
			return nil, err
		}
		e.Ops = append(e.Ops, fsm.PutSet{Set: set, Cause: r.Cause})
	}
	if len(e.Ops) == 0 {
		return nil, &fsm.Refusal{Code: fsm.CodeInvalid, Message: "nothing to apply: the file names no set"}
	}
	c.mu.RLock()
	before := c.state.Clone()
	c.mu.RUnlock()
	after := before.Clone()
	trial, err := after.ApplyEntry(after.Applied()+1, stamp(e))
	if err != nil {
		return nil, fmt.Errorf("check entry: %w", err)
	}
	if err := trial.Err(); err != nil {
		return nil, err
	}
	reply := &pb.ApplyReply{Changes: describeChanges(before, after, r.Sets)}
	if r.DryRun {
		return reply, nil
	}
	res, err := c.proposeEntry(ctx, e)
	if err == nil {
		err = res.Err()
	}
	reply.Index = res.Index
	return reply, err
}

func describeChanges(before, after *fsm.State, sets []*pb.VIPSet) (lines []string) {
	for _, s := range sets {
		old, existed := before.Set(s.Name)
		changed, _ := after.Set(s.Name)
		switch {
		case !existed:
			lines = append(lines, s.Name+": created")
		case changed != nil && changed.Revision == old.Revision:
			lines = append(lines, s.Name+": unchanged")
		default:
			lines = append(lines, s.Name+": changed")
		}
	}
	return lines
}

// Delete removes a set. Addresses that are held then stay reserved until their
// holder has confirmed that they are down.
func (c *Coordinator) Delete(ctx context.Context, actor string, r *pb.DeleteRequest) (*pb.DeleteReply, error) {
	index, err := c.commit(ctx, actor, fsm.DeleteSet{Set: r.Set, Cause: r.Cause})
	return &pb.DeleteReply{Index: index}, err
}

// Pause keeps the scheduler from changing one set, or all of them.
func (c *Coordinator) Pause(ctx context.Context, actor string, r *pb.PauseRequest) (*pb.PauseReply, error) {
	index, err := c.commit(ctx, actor, fsm.PauseSet{Set: r.Set, Paused: r.Paused, Cause: r.Cause})
	return &pb.PauseReply{Index: index}, err
}

// Move asks the holder to release a set in favour of another host. It is
// checked first that the host could take it.
func (c *Coordinator) Move(ctx context.Context, actor string, r *pb.MoveRequest) (*pb.MoveReply, error) {
	if !c.leading.Load() {
		return nil, c.notLeader()
	}
	from, err := c.checkMove(r)
	if err != nil {
		return nil, err
	}
	cause := r.Cause
	if cause == "" {
		cause = "moved by " + actor
	}
	// The preference is enough: the scheduler's next look recalls the grant.
	index, err := c.commit(ctx, actor, fsm.PreferHost{Set: r.Set, Host: r.To, Cause: cause})
	return &pb.MoveReply{Index: index, From: from}, err
}

func (c *Coordinator) checkMove(r *pb.MoveRequest) (from string, err error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	set, ok := c.state.Set(r.Set)
	if !ok {
		return "", &fsm.Refusal{Code: fsm.CodeNotFound, Message: fmt.Sprintf("no set %q; `coordctl vip list` shows what there is", r.Set)}
	}
	if g, held := c.state.Grant(r.Set); held {
		from = g.Host
	}
	if set.Paused || c.state.Settings().Paused {
		return from, &fsm.Refusal{Code: fsm.CodeConflict, Message: fmt.Sprintf("%s is paused; `coordctl resume` it first", r.Set)}
	}
	if r.To == "" {
		return from, nil
	}
	ex, err := c.explain(r.Set)
	if err != nil {
		return from, err
	}
	for _, cand := range ex.Candidates {
		if cand.Host != r.To {
			continue
		}
		if !cand.Eligible {
			return from, &fsm.Refusal{Code: fsm.CodeConflict, Message: fmt.Sprintf("%s cannot hold %s now: %s", r.To, r.Set, strings.Join(cand.Reasons, "; "))}
		}
		return from, nil
	}
	return from, &fsm.Refusal{Code: fsm.CodeInvalid, Message: fmt.Sprintf("%s is no candidate of %s", r.To, r.Set)}
}

// Drain keeps a host from holding anything, or lets it hold again.
func (c *Coordinator) Drain(ctx context.Context, actor string, r *pb.DrainRequest) (*pb.DrainReply, error) {
	index, err := c.commit(ctx, actor, fsm.DrainHost{Host: r.Host, Drained: r.Drained, Cause: r.Cause})
	reply := &pb.DrainReply{Index: index}
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, g := range c.state.Grants() {
		if g.Host == r.Host {
			reply.Holding = append(reply.Holding, g.Set)
		}
	}
	return reply, err
}

// commit proposes one operator's op, with the grants that it makes possible.
func (c *Coordinator) commit(ctx context.Context, actor string, op fsm.Op) (uint64, error) {
	res, err := c.propose(ctx, actor, op)
	return res.Index, err
}

// Events sends the audit ring from an index on, and with Follow each new row.
func (c *Coordinator) Events(ctx context.Context, r *pb.EventsRequest, send func(*pb.Event) error) error {
	from, first := r.FromIndex, true
	for {
		change := c.change()
		c.mu.RLock()
		rows := c.state.Changes(from)
		c.mu.RUnlock()
		if n := int(r.Limit); first && n > 0 && len(rows) > n {
			rows = rows[len(rows)-n:]
		}
		first = false
		for _, row := range rows {
			if err := send(eventToPB(row)); err != nil {
				return err
			}
			from = row.Index + 1 // all rows of one entry come in one go
		}
		if !r.Follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-change:
		}
	}
}

// Explain tells why a set is where it is, why not elsewhere, and who would be
// next.
func (c *Coordinator) Explain(set string) (*pb.ExplainReply, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	st, ok := c.state.Set(set)
	if !ok {
		return nil, &fsm.Refusal{Code: fsm.CodeNotFound, Message: fmt.Sprintf("no set %q; `coordctl vip list` shows what there is", set)}
	}
	ex, err := c.explain(set)
	if err != nil {
		return nil, err
	}
	reply := &pb.ExplainReply{Set: set, Status: c.vipStatus(st), Decision: ex.Decision}
	for _, cand := range ex.Candidates {
		reply.Candidates = append(reply.Candidates, &pb.CandidateExplanation{
			Host: cand.Host, Priority: int32(cand.Priority), Effective: int32(cand.Effective),
			Eligible: cand.Eligible, Holder: cand.Holder, Reasons: cand.Reasons,
		})
	}
	for _, loss := range ex.IfHostDies {
		reply.IfHostDies = append(reply.IfHostDies, &pb.HostLoss{Host: loss.Host, Next: loss.Next, Reason: loss.Reason})
	}
	for _, ch := range c.state.Changes(0) {
		if ch.Set == set {
			reply.History = append(reply.History, eventToPB(ch))
		}
	}
	if n := len(reply.History); n > 10 {
		reply.History = reply.History[n-10:]
	}
	return reply, nil
}

// SaveSnapshot returns a checksummed copy of what RestoreSnapshot puts back:
// sets, drained hosts and the pause switch, without sessions, their secrets and
// grants.
func (c *Coordinator) SaveSnapshot() ([]byte, error) {
	c.mu.RLock()
	index := c.state.Applied()
	op := c.state.Saved(fmt.Sprintf("saved at index %d", index))
	c.mu.RUnlock()
	saved := fsm.New()
	res, err := saved.ApplyEntry(index, stamp(fsm.Entry{Actor: "coordinator/" + c.Name, Ops: []fsm.Op{op}}))
	if err == nil {
		err = res.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("save snapshot: %w", err)
	}
	return saved.Snapshot(), nil
}

// RestoreSnapshot puts sets, drains and the pause switch back from a copy. It
// never restores sessions or grants: a copy cannot know who holds now.
func (c *Coordinator) RestoreSnapshot(ctx context.Context, actor string, data []byte) (*pb.RestoreSnapshotReply, error) {
	from, err := fsm.Restore(data)
	if err != nil {
		return nil, &fsm.Refusal{Code: fsm.CodeInvalid, Message: err.Error()}
	}
	op := from.Saved(fmt.Sprintf("restored from a snapshot of index %d", from.Applied()))
	reply := &pb.RestoreSnapshotReply{}
	for _, s := range op.Sets {
		reply.Changes = append(reply.Changes, s.Name+": restored")
	}
	for _, host := range sortedKeys(op.Drained) {
		reply.Changes = append(reply.Changes, host+": drained")
	}
	reply.Index, err = c.commit(ctx, actor, op)
	return reply, err
}

// TransferLeadership hands the lead to another coordinator and waits until
// somebody leads again.
func (c *Coordinator) TransferLeadership(ctx context.Context, r *pb.TransferLeadershipRequest) (*pb.TransferLeadershipReply, error) {
	if !c.leading.Load() {
		return nil, c.notLeader()
	}
	if r.To == c.Name {
		return &pb.TransferLeadershipReply{Leader: c.Name}, nil
	}
	if s, ok := c.Log.Configuration().server(r.To); r.To != "" && (!ok || !s.Voter) {
		return nil, &fsm.Refusal{Code: fsm.CodeNotFound, Message: fmt.Sprintf("%s is no voting coordinator", r.To)}
	}
	if err := c.Members.TransferLeadership(ctx, r.To); err != nil {
		return nil, fmt.Errorf("transfer leadership: %w", err)
	}
	for {
		if info := c.Log.Info(); info.Leader != "" && info.Leader != c.Name {
			return &pb.TransferLeadershipReply{Leader: info.Leader}, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ErrNoLeader, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// ListSets describes the named sets, or all.
func (c *Coordinator) ListSets(r *pb.ListSetsRequest) (*pb.ListSetsReply, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	reply := &pb.ListSetsReply{}
	if len(r.Names) == 0 {
		for _, set := range c.state.Sets() {
			reply.Sets = append(reply.Sets, c.vipStatus(set))
		}
		return reply, nil
	}
	for _, name := range r.Names {
		set, ok := c.state.Set(name)
		if !ok {
			return nil, &fsm.Refusal{Code: fsm.CodeNotFound, Message: fmt.Sprintf("no set %q; `coordctl vip list` shows what there is", name)}
		}
		reply.Sets = append(reply.Sets, c.vipStatus(set))
	}
	return reply, nil
}
