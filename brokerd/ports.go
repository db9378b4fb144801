package brokerd

import (
	"context"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
)

// Sessions opens and closes this broker's session, through any coordinator.
type Sessions interface {
	Open(ctx context.Context, r *pb.OpenRequest) (*pb.OpenReply, error)
	Close(ctx context.Context, r *pb.CloseRequest) (*pb.CloseReply, error)
	// Views gives the views of all coordinators.
	Views() <-chan *pb.View
	// Redial makes a new connection to a coordinator that was silent and answers again.
	Redial(coordinator string)
}

// Groups is what a broker says to the quorum. What becomes of it, views show.
type Groups interface {
	ReleaseGroup(ctx context.Context, r *pb.ReleaseGroupRequest) (*pb.ReleaseGroupReply, error)
	GrowInSync(ctx context.Context, r *pb.GrowInSyncRequest) (*pb.GrowInSyncReply, error)
	ShrinkInSync(ctx context.Context, r *pb.ShrinkInSyncRequest) (*pb.ShrinkInSyncReply, error)
	ReturnReplica(ctx context.Context, r *pb.ReturnReplicaRequest) (*pb.ReturnReplicaReply, error)
	EnsureTopic(ctx context.Context, r *pb.EnsureTopicRequest) (*pb.EnsureTopicReply, error)
}

// Reports tells coordinators how this replica stands, and returns how many were told.
type Reports interface {
	Report(ctx context.Context, r *pb.ReportRequest) int
}

// Peers are the ways to the other brokers of the group (brokerd/stream).
type Peers interface {
	// Send waits for nothing; false says that the message is lost.
	Send(to string, message, records []byte) bool
	// SetPeers says where each is, host:port.
	SetPeers(addresses map[string]string)
}

// Clock is CLOCK_BOOTTIME, and the wall clock for what is shown and stored.
type Clock interface {
	Now() lease.Time
	Wall() int64 // ms since 1970 (UTC)
}
