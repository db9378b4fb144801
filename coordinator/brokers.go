package coordinator

import (
	"context"
	"fmt"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/fsm"
	"holdfast/fsm/group"
)

// ReleaseGroup ends a broker's grant, and commits the next one in the same entry.
func (c *Coordinator) ReleaseGroup(ctx context.Context, r *pb.ReleaseGroupRequest) (*pb.ReleaseGroupReply, error) {
	id := fsm.SessionID(r.Session)
	if r.Unfit != "" && c.leading.Load() {
		// Or the scheduler would choose it again.
		if err := c.mayBeUnfit(id, r.Group); err != nil {
			return nil, err
		}
		c.noteUnfit(id, r.Group, r.Unfit)
	}
	res, err := c.propose(ctx, c.actor(id), fsm.ReleaseGroup{Group: r.Group, Session: id, Epoch: fsm.Epoch(r.Epoch), Cause: r.Cause})
	if err != nil && !isStale(err) {
		return nil, fmt.Errorf("release group: %w", err)
	}
	// A stale release was committed before: the answer to it was lost.
	return &pb.ReleaseGroupReply{Index: res.Index}, nil
}

// mayBeUnfit refuses to note what no open session of a broker can have said.
func (c *Coordinator) mayBeUnfit(id fsm.SessionID, name string) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s, open := c.state.Session(id)
	_, exists := c.state.Group(name)
	if !open || s.Broker == nil || !exists {
		return &fsm.Refusal{Code: fsm.CodeNotFound, Message: fmt.Sprintf("session %d is not open of a broker, or there is no group %q", id, name)}
	}
	return nil
}

// GrowInSync adds a member to the in-sync set.
func (c *Coordinator) GrowInSync(ctx context.Context, r *pb.GrowInSyncRequest) (*pb.GrowInSyncReply, error) {
	id := fsm.SessionID(r.Session)
	res, err := c.propose(ctx, c.actor(id), fsm.GrowInSync{Group: r.Group, Session: id,
		Grow: group.Grow{Epoch: r.Epoch, Version: r.Version, Member: r.Member, Incarnation: r.Incarnation}})
	if err != nil {
		return nil, fmt.Errorf("grow in-sync set: %w", err)
	}
	return &pb.GrowInSyncReply{Index: res.Index}, nil
}

// ShrinkInSync removes a member from the in-sync set.
func (c *Coordinator) ShrinkInSync(ctx context.Context, r *pb.ShrinkInSyncRequest) (*pb.ShrinkInSyncReply, error) {
	id := fsm.SessionID(r.Session)
	res, err := c.propose(ctx, c.actor(id), fsm.ShrinkInSync{Group: r.Group, Session: id,
		Shrink: group.Shrink{Epoch: r.Epoch, Version: r.Version, Member: r.Member}})
	if err != nil {
		return nil, fmt.Errorf("shrink in-sync set: %w", err)
	}
	return &pb.ShrinkInSyncReply{Index: res.Index}, nil
}

// ReturnReplica notes that a broker has less than it had acknowledged; the grant that
// follows is in the same entry.
func (c *Coordinator) ReturnReplica(ctx context.Context, r *pb.ReturnReplicaRequest) (*pb.ReturnReplicaReply, error) {
	id := fsm.SessionID(r.Session)
	res, err := c.propose(ctx, c.actor(id), fsm.ReturnReplica{Group: r.Group, Session: id,
		Incarnation: r.Incarnation, Boot: r.Boot, Cause: r.Cause})
	if err != nil {
		return nil, fmt.Errorf("return replica: %w", err)
	}
	return &pb.ReturnReplicaReply{Index: res.Index}, nil
}

// EnsureTopic creates a topic; one that exists stays as it is.
func (c *Coordinator) EnsureTopic(ctx context.Context, r *pb.EnsureTopicRequest) (*pb.EnsureTopicReply, error) {
	if !c.leading.Load() {
		return nil, c.notLeader()
	}
	c.mu.RLock()
	s, open := c.state.Session(fsm.SessionID(r.Session))
	topic, exists := c.state.Topic(r.Topic)
	index := c.state.Applied()
	c.mu.RUnlock()
	switch {
	case !open || s.Broker == nil:
		return nil, &fsm.Refusal{Code: fsm.CodeNotFound, Message: fmt.Sprintf("session %d is not open of a broker", r.Session)}
	case exists:
		return &pb.EnsureTopicReply{Index: index, Queues: int32(topic.Queues)}, nil
	}
	res, err := c.propose(ctx, "broker/"+s.Broker.Name, fsm.PutTopic{Topic: r.Topic, Queues: int(r.Queues), Ensure: true, Cause: "used for the first time"})
	if err != nil {
		return nil, fmt.Errorf("ensure topic: %w", err)
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	reply := &pb.EnsureTopicReply{Index: res.Index, Queues: r.Queues}
	if topic, ok := c.state.Topic(r.Topic); ok { // somebody may have been first
		reply.Queues = int32(topic.Queues)
	}
	return reply, nil
}
