package coordinator

import (
	"context"
	"fmt"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/schedule"
	"holdfast/fsm"
	"holdfast/fsm/group"
)

// PutGroup creates a broker group, or changes its members and the settings of its next
// grant.
func (c *Coordinator) PutGroup(ctx context.Context, actor string, r *pb.PutGroupRequest) (*pb.PutGroupReply, error) {
	op := fsm.PutGroup{Group: r.Group, Settings: groupSettingsFromPB(r.Settings), Cause: r.Cause}
	for _, m := range r.Members {
		op.Members = append(op.Members, fsm.GroupMember{ID: m.GetId(), Priority: int(m.GetPriority())})
	}
	if !c.leading.Load() {
		return nil, c.notLeader()
	}
	c.mu.RLock()
	_, existed := c.state.Group(r.Group)
	c.mu.RUnlock()
	res, err := c.propose(ctx, actor, op)
	if err != nil {
		return nil, err
	}
	return &pb.PutGroupReply{Index: res.Index, Change: changeWord(existed, res)}, nil
}

// changeWord says what a put has done.
func changeWord(existed bool, res fsm.Result) string {
	switch {
	case !existed:
		return "created"
	case len(res.Changes) == 0:
		return "unchanged"
	}
	return "changed"
}

// DeleteGroup removes a broker group, if it has a master as soon as that has released it.
func (c *Coordinator) DeleteGroup(ctx context.Context, actor string, r *pb.DeleteGroupRequest) (*pb.DeleteGroupReply, error) {
	index, err := c.commit(ctx, actor, fsm.DeleteGroup{Group: r.Group, Cause: r.Cause})
	if err != nil {
		return nil, err
	}
	reply := &pb.DeleteGroupReply{Index: index}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if g, ok := c.state.Group(r.Group); ok {
		reply.Master = g.Record.Master
	}
	return reply, nil
}

// ConfigureGroup changes single settings. They hold from the next grant on, for which a
// master is asked to release.
func (c *Coordinator) ConfigureGroup(ctx context.Context, actor string, r *pb.ConfigureGroupRequest) (*pb.ConfigureGroupReply, error) {
	if !c.leading.Load() {
		return nil, c.notLeader()
	}
	g, err := c.groupRecord(r.Group)
	if err != nil {
		return nil, err
	}
	next := g.Record.Next
	if r.Mode != nil {
		next.Mode = group.Mode(r.GetMode())
	}
	if r.MinInSync != nil {
		next.MinInSync = int(r.GetMinInSync())
	}
	if r.Policy != nil {
		next.Policy = group.Policy(r.GetPolicy())
	}
	if r.ReadLocal != nil {
		next.ReadLocal = r.GetReadLocal()
	}
	index, err := c.commit(ctx, actor, fsm.ConfigureGroup{Group: r.Group, Settings: next, Cause: r.Cause})
	if err != nil {
		return nil, err
	}
	return &pb.ConfigureGroupReply{Index: index, Next: groupSettingsToPB(next)}, nil
}

func (c *Coordinator) groupRecord(name string) (*fsm.Group, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	g, ok := c.state.Group(name)
	if !ok {
		return nil, noGroup(name)
	}
	return g, nil
}

func noGroup(name string) error {
	return &fsm.Refusal{Code: fsm.CodeNotFound, Message: fmt.Sprintf("no group %q; `coordctl broker status` shows what there is", name)}
}

// Switchover makes another member master: it asks the present one to release in its
// favour; a group without a master it gives away at once, against its policy if need be,
// and to a member outside of the in-sync set only if that is said.
func (c *Coordinator) Switchover(ctx context.Context, actor string, r *pb.SwitchoverRequest) (*pb.SwitchoverReply, error) {
	if !c.leading.Load() {
		return nil, c.notLeader()
	}
	op, reply, err := c.planSwitchover(actor, r)
	if err != nil || op == nil {
		return reply, err
	}
	reply.Index, err = c.commit(ctx, actor, op)
	return reply, err
}

// planSwitchover checks a switchover, and returns the op that begins it; nil if there is
// nothing to do.
func (c *Coordinator) planSwitchover(actor string, r *pb.SwitchoverRequest) (fsm.Op, *pb.SwitchoverReply, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	g, ok := c.state.Group(r.Group)
	if !ok {
		return nil, nil, noGroup(r.Group)
	}
	conflict := func(format string, args ...any) (fsm.Op, *pb.SwitchoverReply, error) {
		return nil, nil, &fsm.Refusal{Code: fsm.CodeConflict, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case g.Deleting:
		return conflict("%s is being deleted", g.Name)
	case c.state.Settings().Paused && g.Session != 0:
		return conflict("the scheduler is paused, so nobody would be made master; `coordctl resume` first")
	}
	to, why := c.heir(g, r)
	if to == nil {
		return conflict("%s", why)
	}
	cause := r.Cause
	if cause == "" {
		cause = "switchover by " + actor
	}
	reply := &pb.SwitchoverReply{From: g.Record.Master, To: to.Broker.Name}
	switch {
	case g.Session == 0:
		return fsm.GrantGroup{Group: g.Name, Session: to.ID, Unclean: !g.Record.Holds(to.Broker.Name), Operator: true, Cause: cause}, reply, nil
	case to.Broker.Name == g.Record.Master && g.Record.Wanted == "":
		return nil, reply, nil // it stays, and nobody had asked for another
	}
	return fsm.RecallGroup{Group: g.Name, Epoch: fsm.Epoch(g.Record.Epoch), To: to.Broker.Name, Cause: cause}, reply, nil
}

// heir returns the live session of the member that a switchover would make master, or why
// there is none. Called with the state locked.
func (c *Coordinator) heir(g *fsm.Group, r *pb.SwitchoverRequest) (*fsm.Session, string) {
	to := r.To
	if to == "" {
		// Whom the scheduler would take if the master were not there.
		st := c.state.Clone()
		if g.Session != 0 {
			_, _ = st.ApplyEntry(st.Applied()+1, stamp(fsm.Entry{Ops: []fsm.Op{fsm.CloseSession{Session: g.Session}}}))
			for _, s := range c.sessionsOf(st, g.Record.Master) {
				_, _ = st.ApplyEntry(st.Applied()+1, stamp(fsm.Entry{Ops: []fsm.Op{fsm.CloseSession{Session: s.ID}}}))
			}
		}
		ex, err := schedule.ExplainMaster(c.scheduleInput(st, nil), g.Name)
		if err != nil || ex.Next == "" {
			return nil, fmt.Sprintf("no other member of %s can be master now: %s", g.Name, ex.Decision)
		}
		to = ex.Next
	}
	if _, ok := g.Record.Member(to); !ok {
		return nil, fmt.Sprintf("%s is no member of %s", to, g.Name)
	}
	if !g.Record.Holds(to) && (g.Session != 0 || !r.Unclean) {
		what := "only a group without a master can be given to it, with --unclean"
		if g.Session == 0 {
			what = "--unclean makes it master all the same, and what it lacks is lost"
		}
		return nil, fmt.Sprintf("%s is not in the in-sync set of %s; %s", to, g.Name, what)
	}
	now := c.Boottime()
	var live *fsm.Session
	for _, s := range c.sessionsOf(c.state, to) { // the newest last
		if c.live(now, s.ID) {
			live = s
		}
	}
	if live == nil {
		return nil, fmt.Sprintf("%s cannot be master of %s now: it does not renew a lease", to, g.Name)
	}
	if said, _ := c.reported(now, live.ID, g.Name); said.GetUnfit() != "" && g.Session != 0 {
		return nil, fmt.Sprintf("%s cannot be master of %s now: %s", to, g.Name, said.GetUnfit())
	}
	return live, ""
}

// sessionsOf returns the open sessions of a broker by id.
func (c *Coordinator) sessionsOf(st *fsm.State, broker string) (out []*fsm.Session) {
	for _, s := range st.Brokers() {
		if s.Broker.Name == broker {
			out = append(out, s)
		}
	}
	return out
}

// PutTopic creates a topic, or gives it more queues.
func (c *Coordinator) PutTopic(ctx context.Context, actor string, r *pb.PutTopicRequest) (*pb.PutTopicReply, error) {
	if !c.leading.Load() {
		return nil, c.notLeader()
	}
	c.mu.RLock()
	_, existed := c.state.Topic(r.Topic)
	c.mu.RUnlock()
	res, err := c.propose(ctx, actor, fsm.PutTopic{Topic: r.Topic, Queues: int(r.Queues), Cause: r.Cause})
	if err != nil {
		return nil, err
	}
	return &pb.PutTopicReply{Index: res.Index, Change: changeWord(existed, res)}, nil
}

// DeleteTopic removes a topic.
func (c *Coordinator) DeleteTopic(ctx context.Context, actor string, r *pb.DeleteTopicRequest) (*pb.DeleteTopicReply, error) {
	index, err := c.commit(ctx, actor, fsm.DeleteTopic{Topic: r.Topic, Cause: r.Cause})
	if err != nil {
		return nil, err
	}
	return &pb.DeleteTopicReply{Index: index}, nil
}

// ListTopics returns all topics.
func (c *Coordinator) ListTopics() *pb.ListTopicsReply {
	c.mu.RLock()
	defer c.mu.RUnlock()
	reply := &pb.ListTopicsReply{}
	for _, t := range c.state.Topics() {
		reply.Topics = append(reply.Topics, topicToPB(t))
	}
	return reply
}
