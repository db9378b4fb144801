package client

import (
	"context"
	"sync"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/fsm/group"
)

// Group is a broker group as a view shows it.
type Group struct {
	Name    string
	Created uint64 // Raft index of its first entry: another group of the same name has another
	Record  group.Group
	Session uint64 // of the master's grant; 0 = there is no master
	// Recalled: the master is to stop and to release, in favour of Record.Wanted or
	// because the group is deleted.
	Recalled bool
}

// Groups returns the broker groups of a broker's view by name, as they are at the view's
// Index.
func Groups(v *pb.View) []Group {
	groups := v.GetBrokers().GetGroups()
	out := make([]Group, len(groups))
	for i, g := range groups {
		out[i] = Group{
			Name: g.GetName(), Created: g.GetCreated(), Session: g.GetSession(), Record: record(g),
			Recalled: g.GetSession() != 0 && (g.GetWanted() != "" || g.GetDeleting()),
		}
	}
	return out
}

// record is the wire's form of a group's record translated back.
func record(g *pb.Group) group.Group {
	r := group.Group{
		Settings: settings(g.GetSettings()), Next: settings(g.GetNext()), InSync: g.GetInSync(), Version: g.GetVersion(),
		Master: g.GetMaster(), Epoch: g.GetEpoch(), Last: g.GetLast(), Wanted: g.GetWanted(),
	}
	for _, m := range g.GetMembers() {
		r.Members = append(r.Members, group.Member{
			ID: m.GetId(), Priority: int(m.GetPriority()), Incarnation: m.GetIncarnation(), Boot: m.GetBoot(),
		})
	}
	return r
}

func settings(s *pb.GroupSettings) group.Settings {
	return group.Settings{
		Mode: group.Mode(s.GetMode()), MinInSync: int(s.GetMinInSync()), Policy: group.Policy(s.GetPolicy()), ReadLocal: s.GetReadLocal(),
	}
}

// ReleaseGroup ends a grant of this broker, which must have stopped acting under it. The
// errors are those of Release.
//
// It, GrowInSync, ShrinkInSync and ReturnReplica may be sent more than once, so a
// [*RefusedError] does not say that nothing was applied: the second one of a pair is
// refused. What became of it is seen in the views.
func (s *Sessions) ReleaseGroup(ctx context.Context, r *pb.ReleaseGroupRequest) (*pb.ReleaseGroupReply, error) {
	return call(ctx, s, "release group", hedgeAfter, r, pb.NewBrokersClient, pb.BrokersClient.ReleaseGroup)
}

// GrowInSync adds a member to the in-sync set of a group that this broker is master of.
func (s *Sessions) GrowInSync(ctx context.Context, r *pb.GrowInSyncRequest) (*pb.GrowInSyncReply, error) {
	return call(ctx, s, "grow in-sync set", hedgeAfter, r, pb.NewBrokersClient, pb.BrokersClient.GrowInSync)
}

// ShrinkInSync removes a member from the in-sync set of a group that this broker is
// master of.
func (s *Sessions) ShrinkInSync(ctx context.Context, r *pb.ShrinkInSyncRequest) (*pb.ShrinkInSyncReply, error) {
	return call(ctx, s, "shrink in-sync set", hedgeAfter, r, pb.NewBrokersClient, pb.BrokersClient.ShrinkInSync)
}

// ReturnReplica says that this broker has less of a group's log than it had acknowledged.
func (s *Sessions) ReturnReplica(ctx context.Context, r *pb.ReturnReplicaRequest) (*pb.ReturnReplicaReply, error) {
	return call(ctx, s, "return replica", hedgeAfter, r, pb.NewBrokersClient, pb.BrokersClient.ReturnReplica)
}

// EnsureTopic creates a topic; one that exists stays as it is.
func (s *Sessions) EnsureTopic(ctx context.Context, r *pb.EnsureTopicRequest) (*pb.EnsureTopicReply, error) {
	return call(ctx, s, "ensure topic", hedgeAfter, r, pb.NewBrokersClient, pb.BrokersClient.EnsureTopic)
}

// Report tells every known coordinator how this broker's replicas stand, once, and says
// how many took it. It is to be repeated: each keeps the newest in memory alone.
func (s *Sessions) Report(ctx context.Context, r *pb.ReportRequest) (took int) {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	var wg sync.WaitGroup
	peers := s.order()
	results := make(chan error, len(peers))
	for _, p := range peers {
		conn := p.connection()
		wg.Go(func() {
			_, err := pb.NewBrokersClient(conn).Report(ctx, r)
			results <- err
		})
	}
	wg.Wait()
	close(results)
	for err := range results {
		if err == nil {
			took++
		}
	}
	return took
}
