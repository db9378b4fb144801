// Package api is the coordinator's gRPC service. Every coordinator serves every
// call: one that must change the replicated state is passed on to the leader.
package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"holdfast/coordinator"
	"holdfast/coordinator/api/dial"
	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/fsm"
)

// forwardedKey is the metadata key that names who passed a call on; such a call
// is not passed on again.
const forwardedKey = "holdfast-forwarded"

// maxSnapshot bounds an uploaded snapshot.
const maxSnapshot = 64 << 20

// Register adds the four services of coordinator c to a gRPC server. peers
// are used to pass calls on to the leader.
func Register(s *grpc.Server, c *coordinator.Coordinator, peers *Peers) {
	srv := &server{c: c, peers: peers}
	pb.RegisterSessionsServer(s, &sessions{server: srv})
	pb.RegisterBrokersServer(s, &brokers{server: srv})
	pb.RegisterPeersServer(s, &peerService{server: srv})
	pb.RegisterOperatorServer(s, &operator{server: srv})
}

type server struct {
	c     *coordinator.Coordinator
	peers *Peers
}

// remote makes a call on another coordinator.
type remote[Req, Reply any] func(context.Context, grpc.ClientConnInterface, Req) (Reply, error)

// bySessions, byBrokers and byOperator make a remote of a client's method.
func bySessions[Req, Reply any](call func(pb.SessionsClient, context.Context, Req, ...grpc.CallOption) (Reply, error)) remote[Req, Reply] {
	return func(ctx context.Context, cc grpc.ClientConnInterface, r Req) (Reply, error) {
		return call(pb.NewSessionsClient(cc), ctx, r)
	}
}

func byOperator[Req, Reply any](call func(pb.OperatorClient, context.Context, Req, ...grpc.CallOption) (Reply, error)) remote[Req, Reply] {
	return func(ctx context.Context, cc grpc.ClientConnInterface, r Req) (Reply, error) {
		return call(pb.NewOperatorClient(cc), ctx, r)
	}
}

// asActor hands the author of a call to a method that notes it.
func asActor[Req, Reply any](call func(context.Context, string, Req) (Reply, error)) func(context.Context, Req) (Reply, error) {
	return func(ctx context.Context, r Req) (Reply, error) { return call(ctx, actor(ctx), r) }
}

// onLeader runs a call here, and if somebody else leads, there. While nobody
// leads, or a connection that a healed partition broke is noticed, it tries
// again for a while: every command is conditional, so asking twice does no harm.
func onLeader[Req, Reply any](ctx context.Context, s *server, r Req,
	here func(context.Context, Req) (Reply, error), there remote[Req, Reply],
) (Reply, error) {
	forwarded := len(metadata.ValueFromIncomingContext(ctx, forwardedKey)) > 0
	for begun := time.Now(); ; {
		reply, err := here(ctx, r)
		var notLeader *coordinator.NotLeaderError
		if errors.As(err, &notLeader) && !forwarded {
			reply, err = forward(ctx, s, notLeader.Leader, r, there)
		}
		if forwarded || !mayPass(err) || time.Since(begun) > patience {
			return reply, toStatus(err)
		}
		select {
		case <-ctx.Done():
			return reply, toStatus(err)
		case <-time.After(pause):
		}
	}
}

// forward passes a call on to the leader.
func forward[Req, Reply any](ctx context.Context, s *server, leader string, r Req, there remote[Req, Reply]) (Reply, error) {
	conn, err := s.peers.conn(leader)
	if err != nil {
		var none Reply
		return none, errors.Join(coordinator.ErrNoLeader, err)
	}
	return there(metadata.AppendToOutgoingContext(ctx, forwardedKey, s.c.Name, dial.ActorKey, actor(ctx)), conn, r)
}

// How long, and at which interval, a call waits for a leader.
const (
	patience = 1500 * time.Millisecond
	pause    = 50 * time.Millisecond
)

// mayPass says whether an error may be gone when there is a leader again.
func mayPass(err error) bool {
	return errors.Is(err, coordinator.ErrNoLeader) || errors.Is(err, coordinator.ErrUncertain) || status.Code(err) == codes.Unavailable
}

// actor names who asks: as the caller says, else by address.
func actor(ctx context.Context) string {
	if v := metadata.ValueFromIncomingContext(ctx, dial.ActorKey); len(v) > 0 && v[0] != "" {
		return strings.ToValidUTF8(v[0][:min(len(v[0]), 128)], "?")
	}
	if p, ok := peer.FromContext(ctx); ok {
		return "operator@" + p.Addr.String()
	}
	return "operator"
}

type sessions struct {
	pb.UnimplementedSessionsServer
	*server
}

func (s *sessions) Open(ctx context.Context, r *pb.OpenRequest) (*pb.OpenReply, error) {
	return onLeader(ctx, s.server, r, s.c.Open, bySessions(pb.SessionsClient.Open))
}

func (s *sessions) Watch(r *pb.WatchRequest, stream grpc.ServerStreamingServer[pb.View]) error {
	return toStatus(s.c.Watch(stream.Context(), r, stream.Send))
}

func (s *sessions) Release(ctx context.Context, r *pb.ReleaseRequest) (*pb.ReleaseReply, error) {
	return onLeader(ctx, s.server, r, s.c.Release, bySessions(pb.SessionsClient.Release))
}

func (s *sessions) ConfirmRemoval(ctx context.Context, r *pb.ConfirmRemovalRequest) (*pb.ConfirmRemovalReply, error) {
	return onLeader(ctx, s.server, r, s.c.ConfirmRemoval, bySessions(pb.SessionsClient.ConfirmRemoval))
}

func (s *sessions) ReportCondition(ctx context.Context, r *pb.ReportConditionRequest) (*pb.ReportConditionReply, error) {
	return onLeader(ctx, s.server, r, s.c.ReportCondition, bySessions(pb.SessionsClient.ReportCondition))
}

func (s *sessions) ReportRouter(ctx context.Context, r *pb.ReportRouterRequest) (*pb.ReportRouterReply, error) {
	return onLeader(ctx, s.server, r, s.c.ReportRouter, bySessions(pb.SessionsClient.ReportRouter))
}

func (s *sessions) ReportStall(ctx context.Context, r *pb.ReportStallRequest) (*pb.ReportStallReply, error) {
	return onLeader(ctx, s.server, r, s.c.ReportStall, bySessions(pb.SessionsClient.ReportStall))
}

func (s *sessions) Rebind(ctx context.Context, r *pb.RebindRequest) (*pb.RebindReply, error) {
	return onLeader(ctx, s.server, r, s.c.Rebind, bySessions(pb.SessionsClient.Rebind))
}

func (s *sessions) Close(ctx context.Context, r *pb.CloseRequest) (*pb.CloseReply, error) {
	return onLeader(ctx, s.server, r, s.c.Close, bySessions(pb.SessionsClient.Close))
}

type peerService struct {
	pb.UnimplementedPeersServer
	*server
}

func (s *peerService) Probe(ctx context.Context, r *pb.ProbeRequest) (*pb.ProbeReply, error) {
	reply, err := s.c.Probe(ctx, r)
	return reply, toStatus(err)
}

func (s *peerService) Fence(ctx context.Context, r *pb.FenceRequest) (*pb.FenceReply, error) {
	reply, err := s.c.Fence(ctx, r)
	return reply, toStatus(err)
}

func (s *peerService) Identity(ctx context.Context, r *pb.IdentityRequest) (*pb.IdentityReply, error) {
	reply, err := s.c.Identity(ctx, r)
	return reply, toStatus(err)
}

func (s *peerService) Join(ctx context.Context, r *pb.JoinRequest) (*pb.JoinReply, error) {
	return onLeader(ctx, s.server, r, s.c.Join, func(ctx context.Context, cc grpc.ClientConnInterface, r *pb.JoinRequest) (*pb.JoinReply, error) {
		return pb.NewPeersClient(cc).Join(ctx, r)
	})
}

type operator struct {
	pb.UnimplementedOperatorServer
	*server
}

func (s *operator) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusReply, error) {
	return s.c.Status(ctx), nil
}

func (s *operator) Explain(_ context.Context, r *pb.ExplainRequest) (*pb.ExplainReply, error) {
	reply, err := s.c.Explain(r.Set)
	return reply, toStatus(err)
}

func (s *operator) ListSets(_ context.Context, r *pb.ListSetsRequest) (*pb.ListSetsReply, error) {
	reply, err := s.c.ListSets(r)
	return reply, toStatus(err)
}

func (s *operator) Apply(ctx context.Context, r *pb.ApplyRequest) (*pb.ApplyReply, error) {
	return onLeader(ctx, s.server, r, asActor(s.c.Apply), byOperator(pb.OperatorClient.Apply))
}

func (s *operator) Delete(ctx context.Context, r *pb.DeleteRequest) (*pb.DeleteReply, error) {
	return onLeader(ctx, s.server, r, asActor(s.c.Delete), byOperator(pb.OperatorClient.Delete))
}

func (s *operator) Move(ctx context.Context, r *pb.MoveRequest) (*pb.MoveReply, error) {
	return onLeader(ctx, s.server, r, asActor(s.c.Move), byOperator(pb.OperatorClient.Move))
}

func (s *operator) Drain(ctx context.Context, r *pb.DrainRequest) (*pb.DrainReply, error) {
	return onLeader(ctx, s.server, r, asActor(s.c.Drain), byOperator(pb.OperatorClient.Drain))
}

func (s *operator) Pause(ctx context.Context, r *pb.PauseRequest) (*pb.PauseReply, error) {
	return onLeader(ctx, s.server, r, asActor(s.c.Pause), byOperator(pb.OperatorClient.Pause))
}

func (s *operator) Events(r *pb.EventsRequest, stream grpc.ServerStreamingServer[pb.Event]) error {
	return toStatus(s.c.Events(stream.Context(), r, stream.Send))
}

func (s *operator) TransferLeadership(ctx context.Context, r *pb.TransferLeadershipRequest) (*pb.TransferLeadershipReply, error) {
	return onLeader(ctx, s.server, r, s.c.TransferLeadership, byOperator(pb.OperatorClient.TransferLeadership))
}

func (s *operator) RemoveMember(ctx context.Context, r *pb.RemoveMemberRequest) (*pb.RemoveMemberReply, error) {
	return onLeader(ctx, s.server, r, s.c.RemoveMember, byOperator(pb.OperatorClient.RemoveMember))
}

// chunk is how much of a snapshot one message carries.
const chunk = 256 << 10

func (s *operator) SaveSnapshot(_ *pb.SaveSnapshotRequest, stream grpc.ServerStreamingServer[pb.SnapshotChunk]) error {
	data, err := s.c.SaveSnapshot()
	if err != nil {
		return toStatus(err)
	}
	for len(data) > 0 {
		n := min(chunk, len(data))
		if err := stream.Send(&pb.SnapshotChunk{Data: data[:n]}); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

func (s *operator) RestoreSnapshot(stream grpc.ClientStreamingServer[pb.SnapshotChunk, pb.RestoreSnapshotReply]) error {
	var data bytes.Buffer
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if data.Len()+len(part.Data) > maxSnapshot {
			return toStatus(&fsm.Refusal{Code: fsm.CodeInvalid, Message: "snapshot is larger than 64 MiB"})
		}
		data.Write(part.Data)
	}
	reply, err := onLeader(stream.Context(), s.server, data.Bytes(), asActor(s.c.RestoreSnapshot), uploadSnapshot)
	if err != nil {
		return err
	}
	return stream.SendAndClose(reply)
}

func uploadSnapshot(ctx context.Context, cc grpc.ClientConnInterface, data []byte) (*pb.RestoreSnapshotReply, error) {
	up, err := pb.NewOperatorClient(cc).RestoreSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	for len(data) > 0 {
		n := min(chunk, len(data))
		if err := up.Send(&pb.SnapshotChunk{Data: data[:n]}); err != nil {
			break // CloseAndRecv tells why
		}
		data = data[n:]
	}
	return up.CloseAndRecv()
}
