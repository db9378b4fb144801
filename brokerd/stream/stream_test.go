package stream

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "holdfast/brokerd/stream/streampb"
	"holdfast/coordinator/api/dial"
)

type got struct {
	from             string
	message, records string
}

// end is one broker's end of the streams.
type end struct {
	*Streams
	address string
	got     chan got
	broken  chan string
	server  *grpc.Server
}

func newEnd(t *testing.T, name, address string) *end {
	t.Helper()
	e := &end{got: make(chan got, 10000), broken: make(chan string, 1)}
	e.Streams = New(Config{Group: "g", Self: name, Boot: 7, Deliver: func(from string, message, records []byte) {
		e.got <- got{from, string(message), string(records)}
	}, Broken: func(to string) {
		select {
		case e.broken <- to:
		default:
		}
	}})
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	e.address = l.Addr().String()
	e.server = grpc.NewServer(grpc.MaxRecvMsgSize(MaxParcel))
	e.Register(e.server)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = e.server.Serve(l) })
	wg.Go(func() { _ = e.Run(ctx) })
	t.Cleanup(func() { cancel(); e.server.Stop(); wg.Wait() })
	return e
}

func (e *end) next(t *testing.T) got {
	t.Helper()
	select {
	case g := <-e.got:
		return g
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came")
		return got{}
	}
}

// sendUntil repeats a message until it has arrived: what is sent before there is a
// connection may be lost.
func sendUntil(t *testing.T, from, to *end, name string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		from.Send(name, []byte("hello"), nil)
		select {
		case <-to.got:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatal("nothing came")
}

func TestOrderAndBothWays(t *testing.T) {
	a, b := newEnd(t, "a", "127.0.0.1:0"), newEnd(t, "b", "127.0.0.1:0")
	peers := map[string]string{"a": a.address, "b": b.address}
	a.SetPeers(peers)
	b.SetPeers(peers)
	sendUntil(t, a, b, "b")
	sendUntil(t, b, a, "a")
	for i := range 500 {
		if !a.Send("b", []byte(fmt.Sprint(i)), []byte{byte(i)}) {
			t.Fatalf("message %d is lost", i)
		}
	}
	for i := 0; i < 500; {
		g := b.next(t)
		if g.message == "hello" {
			continue
		}
		if g != (got{"a", fmt.Sprint(i), string([]byte{byte(i)})}) {
			t.Fatalf("message %d is %+v", i, g)
		}
		i++
	}
	large := bytes.Repeat([]byte("x"), 16<<20+100)
	if !b.Send("a", []byte("large"), large) {
		t.Fatal("a large one is lost")
	}
	for g := a.next(t); ; g = a.next(t) {
		if g.message == "large" {
			if len(g.records) != len(large) {
				t.Errorf("%d bytes", len(g.records))
			}
			break
		}
	}
	if a.Send("c", []byte("x"), nil) || a.Send("a", []byte("x"), nil) {
		t.Error("a message to nobody counts as sent")
	}
}

// TestReturn: a broker that was away is found again, also at another address.
func TestReturn(t *testing.T) {
	a, b := newEnd(t, "a", "127.0.0.1:0"), newEnd(t, "b", "127.0.0.1:0")
	a.SetPeers(map[string]string{"b": b.address})
	sendUntil(t, a, b, "b")
	b.server.Stop()
	select {
	case to := <-a.broken:
		if to != "b" {
			t.Errorf("the stream to %q is broken", to)
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody is told that the stream is broken")
	}
	again := newEnd(t, "b", b.address)
	sendUntil(t, a, again, "b")
	moved := newEnd(t, "b", "127.0.0.1:0")
	a.SetPeers(map[string]string{"b": moved.address})
	sendUntil(t, a, moved, "b")
	a.SetPeers(nil)
	for deadline := time.Now().Add(10 * time.Second); a.Send("b", []byte("x"), nil); {
		if time.Now().After(deadline) {
			t.Fatal("a way that is not wanted stays")
		}
	}
}

// TestTooMuchIsLost: a broker that takes nothing does not fill the memory, nor hold up
// the sender.
func TestTooMuchIsLost(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // accepts nothing
	a := newEnd(t, "a", "127.0.0.1:0")
	a.SetPeers(map[string]string{"b": l.Addr().String()})
	kept, piece := 0, make([]byte, 1<<20)
	for deadline := time.Now().Add(10 * time.Second); ; {
		if a.Send("b", nil, piece) {
			kept++
		} else if kept > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it takes everything")
		}
	}
	if kept != waitingBytes/len(piece) {
		t.Errorf("%d MiB are kept", kept)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	b := newEnd(t, "b", "127.0.0.1:0")
	conn, err := dial.New(b.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for what, tt := range map[string]struct {
		parcels []*pb.Parcel
		want    codes.Code
	}{
		"no greeting":       {[]*pb.Parcel{{Message: []byte("x")}}, codes.InvalidArgument},
		"nobody":            {[]*pb.Parcel{{Greeting: &pb.Greeting{Group: "g", To: "b"}}}, codes.InvalidArgument},
		"itself":            {[]*pb.Parcel{{Greeting: &pb.Greeting{Group: "g", From: "b", To: "b"}}}, codes.InvalidArgument},
		"another group":     {[]*pb.Parcel{{Greeting: &pb.Greeting{Group: "h", From: "a", To: "b"}}}, codes.FailedPrecondition},
		"to another broker": {[]*pb.Parcel{{Greeting: &pb.Greeting{Group: "g", From: "a", To: "c"}}}, codes.FailedPrecondition},
		"greeted twice": {[]*pb.Parcel{{Greeting: &pb.Greeting{Group: "g", From: "a", To: "b"}},
			{Greeting: &pb.Greeting{Group: "g", From: "a", To: "b"}}}, codes.InvalidArgument},
	} {
		stream, err := pb.NewReplicationClient(conn).Deliver(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range tt.parcels {
			_ = stream.Send(p)
		}
		if _, err := stream.CloseAndRecv(); status.Code(err) != tt.want {
			t.Errorf("%s: %v", what, err)
		}
	}
	select {
	case g := <-b.got:
		t.Errorf("delivered: %+v", g)
	default:
	}
}
