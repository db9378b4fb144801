package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "holdfast/coordinator/api/holdfastpb"
)

// fakeCoordinator serves the API on a real port.
type fakeCoordinator struct {
	pb.UnimplementedSessionsServer
	name, api string
	server    *grpc.Server
	views     chan *pb.View // sent to whoever watches
	watches   atomic.Int32
	calls     atomic.Int32
	watched   atomic.Pointer[pb.WatchRequest] // the last request

	mu      sync.Mutex
	release func(ctx context.Context) error
}

func startCoordinator(t *testing.T, name, address string) *fakeCoordinator {
	t.Helper()
	return startCoordinatorWith(t, name, address, pb.UnimplementedBrokersServer{})
}

func startCoordinatorWith(t *testing.T, name, address string, brokers pb.BrokersServer) *fakeCoordinator {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := &fakeCoordinator{name: name, api: l.Addr().String(), server: grpc.NewServer(), views: make(chan *pb.View, 16)}
	pb.RegisterSessionsServer(c.server, c)
	pb.RegisterBrokersServer(c.server, brokers)
	done := make(chan struct{})
	go func() { defer close(done); _ = c.server.Serve(l) }()
	t.Cleanup(func() { c.server.Stop(); <-done })
	return c
}

func (c *fakeCoordinator) Watch(r *pb.WatchRequest, s grpc.ServerStreamingServer[pb.View]) error {
	c.watches.Add(1)
	c.watched.Store(r)
	if err := s.Send(&pb.View{Coordinator: c.name, Index: 1}); err != nil {
		return err
	}
	for {
		select {
		case <-s.Context().Done():
			return nil
		case v := <-c.views:
			if err := s.Send(v); err != nil {
				return err
			}
		}
	}
}

func (c *fakeCoordinator) onRelease(f func(ctx context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.release = f
}

func (c *fakeCoordinator) Release(ctx context.Context, r *pb.ReleaseRequest) (*pb.ReleaseReply, error) {
	c.calls.Add(1)
	c.mu.Lock()
	f := c.release
	c.mu.Unlock()
	if f != nil {
		if err := f(ctx); err != nil {
			return nil, err
		}
	}
	return &pb.ReleaseReply{Index: 7}, nil
}

func (c *fakeCoordinator) Open(ctx context.Context, r *pb.OpenRequest) (*pb.OpenReply, error) {
	c.calls.Add(1)
	c.mu.Lock()
	f := c.release
	c.mu.Unlock()
	if f != nil {
		if err := f(ctx); err != nil {
			return nil, err
		}
	}
	return &pb.OpenReply{Session: 5}, nil
}

// startSessions runs a client for those coordinators.
func startSessions(t *testing.T, cs ...*fakeCoordinator) *Sessions {
	t.Helper()
	return startSessionsAs(t, SessionsConfig{Host: "h"}, cs...)
}

func startSessionsAs(t *testing.T, config SessionsConfig, cs ...*fakeCoordinator) *Sessions {
	t.Helper()
	config.Coordinators = func() []Coordinator {
		var out []Coordinator
		for _, c := range cs {
			out = append(out, Coordinator{c.name, c.api})
		}
		return out
	}
	s := NewSessions(config)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("Run does not return")
		}
	})
	return s
}

func takeView(t *testing.T, s *Sessions) *pb.View {
	t.Helper()
	select {
	case v := <-s.Views():
		return v
	case <-time.After(5 * time.Second):
		t.Fatal("no view")
		return nil
	}
}

// untilView takes views until one with that index has come.
func untilView(t *testing.T, s *Sessions, name string, index uint64) *pb.View {
	t.Helper()
	for {
		if v := takeView(t, s); v.Coordinator == name && v.Index == index {
			return v
		}
	}
}

// connected waits until each coordinator has shown its first view.
func connected(t *testing.T, s *Sessions, cs ...*fakeCoordinator) {
	t.Helper()
	missing := make(map[string]bool)
	for _, c := range cs {
		missing[c.name] = true
	}
	for len(missing) > 0 {
		delete(missing, takeView(t, s).Coordinator)
	}
}

func TestViewsOfEveryCoordinator(t *testing.T) {
	a, b := startCoordinator(t, "a", "127.0.0.1:0"), startCoordinator(t, "b", "127.0.0.1:0")
	s := startSessions(t, a, b)
	connected(t, s, a, b)
	b.views <- &pb.View{Coordinator: "b", Index: 9}
	untilView(t, s, "b", 9)
	a.views <- &pb.View{Coordinator: "a", Index: 8} // older, delivered all the same
	untilView(t, s, "a", 8)
}

func TestSlowReaderGetsNewestView(t *testing.T) {
	a := startCoordinator(t, "a", "127.0.0.1:0")
	s := startSessions(t, a)
	connected(t, s, a)
	for i := range 200 { // more than any buffer, while nobody reads
		a.views <- &pb.View{Coordinator: "a", Index: uint64(i + 2)}
	}
	seen := 0
	for {
		v := takeView(t, s)
		seen++
		if v.Index == 201 {
			break
		}
	}
	if seen > 150 {
		t.Errorf("took %d views of 200, so views wait for their reader", seen)
	}
}

func TestWatchComesBack(t *testing.T) {
	a := startCoordinator(t, "a", "127.0.0.1:0")
	s := startSessions(t, a)
	connected(t, s, a)
	a.server.Stop()
	again := startCoordinator(t, "a", a.api)
	connected(t, s, again)
}

func TestRedialReplacesConnection(t *testing.T) {
	a := startCoordinator(t, "a", "127.0.0.1:0")
	s := startSessions(t, a)
	connected(t, s, a)
	s.Redial("a")
	connected(t, s, a)
	if n := a.watches.Load(); n != 2 {
		t.Errorf("%d watches, want 2", n)
	}
	before := s.order()[0].connection()
	s.Redial("a") // too soon
	s.Redial("nobody")
	if s.order()[0].connection() != before {
		t.Error("redialed twice at once")
	}
	if _, err := s.Release(t.Context(), &pb.ReleaseRequest{}); err != nil {
		t.Errorf("call after redial: %v", err)
	}
}

func TestLeaderIsAskedFirst(t *testing.T) {
	a, b := startCoordinator(t, "a", "127.0.0.1:0"), startCoordinator(t, "b", "127.0.0.1:0")
	s := startSessions(t, a, b)
	connected(t, s, a, b)
	a.views <- &pb.View{Coordinator: "a", Index: 2, Term: 3, Leader: "b"}
	untilView(t, s, "a", 2)
	if _, err := s.Release(t.Context(), &pb.ReleaseRequest{}); err != nil {
		t.Fatal(err)
	}
	if a.calls.Load() != 0 || b.calls.Load() != 1 {
		t.Errorf("calls: a %d, b %d; want b alone", a.calls.Load(), b.calls.Load())
	}
}

func TestReleaseIsHedged(t *testing.T) {
	a, b := startCoordinator(t, "a", "127.0.0.1:0"), startCoordinator(t, "b", "127.0.0.1:0")
	s := startSessions(t, a, b)
	connected(t, s, a, b)
	hang := make(chan struct{})
	defer close(hang)
	a.onRelease(func(ctx context.Context) error {
		select {
		case <-ctx.Done():
		case <-hang:
		}
		return ctx.Err()
	})
	began := time.Now()
	if _, err := s.Release(t.Context(), &pb.ReleaseRequest{}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took >= tryLimit {
		t.Errorf("took %v: waited for the hanging coordinator", took)
	}
	// Open is never sent to two at a time, but still comes through.
	began = time.Now()
	if r, err := s.Open(t.Context(), &pb.OpenRequest{}); err != nil || r.Session != 5 {
		t.Fatalf("open: %v, %v", r, err)
	}
	if took := time.Since(began); took < tryLimit-50*time.Millisecond {
		t.Errorf("open took %v: hedged", took)
	}
}

func TestErrorTriesNext(t *testing.T) {
	a, b := startCoordinator(t, "a", "127.0.0.1:0"), startCoordinator(t, "b", "127.0.0.1:0")
	s := startSessions(t, a, b)
	connected(t, s, a, b)
	a.onRelease(func(context.Context) error { return status.Error(codes.Unavailable, "no leader") })
	began := time.Now()
	if _, err := s.Release(t.Context(), &pb.ReleaseRequest{}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took >= hedgeAfter {
		t.Errorf("took %v: waited for the hedge after a failure", took)
	}
}

func TestRefusalIsFinal(t *testing.T) {
	a, b := startCoordinator(t, "a", "127.0.0.1:0"), startCoordinator(t, "b", "127.0.0.1:0")
	s := startSessions(t, a, b)
	connected(t, s, a, b)
	a.onRelease(func(context.Context) error { return status.Error(codes.FailedPrecondition, "not yours") })
	_, err := s.Release(t.Context(), &pb.ReleaseRequest{})
	var r *RefusedError
	if !errors.As(err, &r) || !r.Refused() || r.Message != "not yours" {
		t.Errorf("error %v, want a refusal", err)
	}
	if b.calls.Load() != 0 {
		t.Error("another coordinator was asked after a refusal")
	}
}

func TestCallGoesOnUntilContextEnds(t *testing.T) {
	a := startCoordinator(t, "a", "127.0.0.1:0")
	s := startSessions(t, a)
	connected(t, s, a)
	var fails atomic.Int32
	fails.Store(3)
	a.onRelease(func(context.Context) error {
		if fails.Add(-1) >= 0 {
			return status.Error(codes.Unavailable, "no leader")
		}
		return nil
	})
	if _, err := s.Release(t.Context(), &pb.ReleaseRequest{}); err != nil {
		t.Fatalf("after three failures: %v", err)
	}
	a.onRelease(func(context.Context) error { return status.Error(codes.Unavailable, "no leader") })
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	_, err := s.Release(ctx, &pb.ReleaseRequest{})
	if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*RefusedError)) {
		t.Errorf("error %v, want the context's", err)
	}
}

func TestNoCoordinatorKnown(t *testing.T) {
	s := startSessions(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Close(ctx, &pb.CloseRequest{}); !errors.Is(err, ErrNoCoordinator) {
		t.Errorf("error %v, want ErrNoCoordinator", err)
	}
}

func TestCoordinatorsAreLearnedFromViews(t *testing.T) {
	a, b := startCoordinator(t, "a", "127.0.0.1:0"), startCoordinator(t, "b", "127.0.0.1:0")
	s := startSessions(t, a) // b is named by nobody but a's view
	connected(t, s, a)
	a.views <- &pb.View{Coordinator: "a", Index: 2, Configuration: &pb.Configuration{Index: 2, Members: []*pb.Coordinator{
		{Name: "a", ApiAddress: a.api}, {Name: "b", ApiAddress: b.api},
	}}}
	untilView(t, s, "b", 1)
}
