package api

import (
	"context"

	"google.golang.org/grpc"

	pb "holdfast/coordinator/api/holdfastpb"
)

func byBrokers[Req, Reply any](call func(pb.BrokersClient, context.Context, Req, ...grpc.CallOption) (Reply, error)) remote[Req, Reply] {
	return func(ctx context.Context, cc grpc.ClientConnInterface, r Req) (Reply, error) {
		return call(pb.NewBrokersClient(cc), ctx, r)
	}
}

type brokers struct {
	pb.UnimplementedBrokersServer
	*server
}

func (s *brokers) ReleaseGroup(ctx context.Context, r *pb.ReleaseGroupRequest) (*pb.ReleaseGroupReply, error) {
	return onLeader(ctx, s.server, r, s.c.ReleaseGroup, byBrokers(pb.BrokersClient.ReleaseGroup))
}

func (s *brokers) GrowInSync(ctx context.Context, r *pb.GrowInSyncRequest) (*pb.GrowInSyncReply, error) {
	return onLeader(ctx, s.server, r, s.c.GrowInSync, byBrokers(pb.BrokersClient.GrowInSync))
}

func (s *brokers) ShrinkInSync(ctx context.Context, r *pb.ShrinkInSyncRequest) (*pb.ShrinkInSyncReply, error) {
	return onLeader(ctx, s.server, r, s.c.ShrinkInSync, byBrokers(pb.BrokersClient.ShrinkInSync))
}

func (s *brokers) ReturnReplica(ctx context.Context, r *pb.ReturnReplicaRequest) (*pb.ReturnReplicaReply, error) {
	return onLeader(ctx, s.server, r, s.c.ReturnReplica, byBrokers(pb.BrokersClient.ReturnReplica))
}

// Report stays here: each coordinator is told by the broker itself.
func (s *brokers) Report(ctx context.Context, r *pb.ReportRequest) (*pb.ReportReply, error) {
	reply, err := s.c.Report(ctx, r)
	return reply, toStatus(err)
}

func (s *brokers) EnsureTopic(ctx context.Context, r *pb.EnsureTopicRequest) (*pb.EnsureTopicReply, error) {
	return onLeader(ctx, s.server, r, s.c.EnsureTopic, byBrokers(pb.BrokersClient.EnsureTopic))
}

func (s *operator) ListGroups(_ context.Context, r *pb.ListGroupsRequest) (*pb.ListGroupsReply, error) {
	reply, err := s.c.ListGroups(r)
	return reply, toStatus(err)
}

func (s *operator) PutGroup(ctx context.Context, r *pb.PutGroupRequest) (*pb.PutGroupReply, error) {
	return onLeader(ctx, s.server, r, asActor(s.c.PutGroup), byOperator(pb.OperatorClient.PutGroup))
}

func (s *operator) DeleteGroup(ctx context.Context, r *pb.DeleteGroupRequest) (*pb.DeleteGroupReply, error) {
	return onLeader(ctx, s.server, r, asActor(s.c.DeleteGroup), byOperator(pb.OperatorClient.DeleteGroup))
}

func (s *operator) ConfigureGroup(ctx context.Context, r *pb.ConfigureGroupRequest) (*pb.ConfigureGroupReply, error) {
	return onLeader(ctx, s.server, r, asActor(s.c.ConfigureGroup), byOperator(pb.OperatorClient.ConfigureGroup))
}

func (s *operator) Switchover(ctx context.Context, r *pb.SwitchoverRequest) (*pb.SwitchoverReply, error) {
	return onLeader(ctx, s.server, r, asActor(s.c.Switchover), byOperator(pb.OperatorClient.Switchover))
}

func (s *operator) ListTopics(context.Context, *pb.ListTopicsRequest) (*pb.ListTopicsReply, error) {
	return s.c.ListTopics(), nil
}

func (s *operator) PutTopic(ctx context.Context, r *pb.PutTopicRequest) (*pb.PutTopicReply, error) {
	return onLeader(ctx, s.server, r, asActor(s.c.PutTopic), byOperator(pb.OperatorClient.PutTopic))
}

func (s *operator) DeleteTopic(ctx context.Context, r *pb.DeleteTopicRequest) (*pb.DeleteTopicReply, error) {
	return onLeader(ctx, s.server, r, asActor(s.c.DeleteTopic), byOperator(pb.OperatorClient.DeleteTopic))
}
