package main

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/fsm"
)

// quorumOf is a quorum with one shared set, behind whose holder a router stays Active.
type quorumOf struct {
	pb.UnimplementedOperatorServer
	applied func(*pb.VRRP) // with the lock

	mu  sync.Mutex
	set *pb.VIPSet
}

func (q *quorumOf) Status(context.Context, *pb.StatusRequest) (*pb.StatusReply, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return &pb.StatusReply{Vips: []*pb.VIPStatus{{Set: proto.CloneOf(q.set), Holder: "lb1",
		Router: &pb.Router{State: "backup", Active: "192.0.2.9", Priority: 150}}}}, nil
}

func (q *quorumOf) Apply(_ context.Context, r *pb.ApplyRequest) (*pb.ApplyReply, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	revision := q.set.GetRevision()
	q.set = proto.CloneOf(r.GetSets()[0])
	q.set.Revision = revision + 1
	q.applied(q.set.GetVrrp())
	return &pb.ApplyReply{Changes: []string{"web: changed"}}, nil
}

// toolFor returns a tool that talks to a quorum.
func toolFor(t *testing.T, q *quorumOf) *tool {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	pb.RegisterOperatorServer(s, q)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	out := newTool(io.Discard, io.Discard)
	out.timeout = 5 * time.Second
	if out.conn, err = grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.conn.Close() })
	return out
}

// sharedSet is what the quorum has before a step. It has no address, so that nothing
// is asked for on this host's wires.
func sharedSet() *pb.VIPSet {
	return &pb.VIPSet{Name: "web", Revision: 1, Vrrp: &pb.VRRP{Vrid: 51, Version: 2, Priority: 100, IntervalMs: 1000}}
}

// Nobody has stopped Keepalived: the holder must not take over from it after all.
func TestMigrateTakeoverStopInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	q := &quorumOf{set: sharedSet(), applied: func(v *pb.VRRP) {
		if v.GetPriority() == fsm.MaxPriority {
			interrupt()
		}
	}}
	if err := toolFor(t, q).takeover(ctx, "web", true); err == nil {
		t.Error("no error")
	}
	if v := q.set.GetVrrp(); v.GetPriority() != 100 || v.GetNoPreempt() {
		t.Errorf("left behind: %v", v)
	}
}

// Whoever is interrupted while the holder gives way has given it to nobody.
func TestMigrateBackInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	q := &quorumOf{set: sharedSet(), applied: func(v *pb.VRRP) {
		if v.GetMode() == fsm.VRRPObserve {
			interrupt()
		}
	}}
	if err := toolFor(t, q).giveWay(ctx, "web", time.Second); err == nil {
		t.Error("no error")
	}
	if v := q.set.GetVrrp(); v.GetMode() != fsm.VRRPJoin {
		t.Errorf("left behind: %v", v)
	}
}
