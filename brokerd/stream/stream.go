package stream

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "holdfast/brokerd/stream/streampb"
	"holdfast/coordinator/api/dial"
)

const (
	// MaxParcel is the size in bytes of the largest message with its records. Servers
	// that [Streams.Register] is called on must take as much.
	MaxParcel = 24 << 20
	// waiting bounds what waits for one broker: parcels, and bytes of them. More is
	// lost. It is some milliseconds of a fast network.
	waitingParcels = 1024
	waitingBytes   = 32 << 20
	// Between two attempts to open a stream.
	firstPause = 20 * time.Millisecond
	lastPause  = 300 * time.Millisecond
)

// Config configures [Streams]. All but Logger are required.
type Config struct {
	Group string // of the brokers that speak with each other
	Self  string // this broker's name
	Boot  uint64 // of this process
	// Deliver takes in a message of another broker and the records that it brings. It is
	// called in the order in which they were sent, for several brokers at once; while it
	// does not return, nothing more of that broker is taken from the network. The slices
	// are the callee's.
	Deliver func(from string, message, records []byte)
	// Broken says that a stream to another broker has ended: what was on its way may be
	// lost.
	Broken func(to string)
	Logger *slog.Logger // nil discards
}

// Streams are the ways from this broker to the others of its group, and back. It is
// safe for concurrent use.
type Streams struct {
	pb.UnimplementedReplicationServer
	config Config

	changed chan struct{} // one slot: wanted is new

	mu     sync.Mutex
	wanted map[string]string // addresses by name
	ways   map[string]*way
}

// way is the way to one broker.
type way struct {
	address string
	stop    context.CancelFunc

	mu      sync.Mutex
	queue   []*pb.Parcel
	bytes   int
	arrived chan struct{} // one slot: the queue is not empty
}

// New returns Streams that do nothing before Run.
func New(c Config) *Streams {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Streams{config: c, changed: make(chan struct{}, 1), ways: make(map[string]*way)}
}

// Register makes a server take in what other brokers send.
func (s *Streams) Register(server grpc.ServiceRegistrar) { pb.RegisterReplicationServer(server, s) }

// SetPeers says which other brokers there are, and where (host:port).
func (s *Streams) SetPeers(addresses map[string]string) {
	s.mu.Lock()
	s.wanted = maps.Clone(addresses)
	delete(s.wanted, s.config.Self)
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Send hands a message for another broker over and waits for nothing. It returns false
// if it is lost already: the broker is not known, or too much waits for it. The slices
// must not be changed afterwards.
func (s *Streams) Send(to string, message, records []byte) bool {
	s.mu.Lock()
	w := s.ways[to]
	s.mu.Unlock()
	return w != nil && w.put(&pb.Parcel{Message: message, Records: records})
}

func (w *way) put(p *pb.Parcel) bool {
	size := len(p.Message) + len(p.Records)
	w.mu.Lock()
	full := len(w.queue) >= waitingParcels || w.bytes+size > waitingBytes
	if !full {
		w.queue = append(w.queue, p)
		w.bytes += size
	}
	w.mu.Unlock()
	select {
	case w.arrived <- struct{}{}:
	default:
	}
	return !full
}

// take empties the queue.
func (w *way) take() []*pb.Parcel {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.queue
	w.queue, w.bytes = nil, 0
	return list
}

// Run keeps the ways open until ctx ends, and returns nil.
func (s *Streams) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		s.follow(ctx, &wg)
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
		}
	}
}

// follow opens the ways that are wanted and closes the others.
func (s *Streams) follow(ctx context.Context, wg *sync.WaitGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, w := range s.ways {
		if s.wanted[name] != w.address {
			w.stop()
			delete(s.ways, name)
		}
	}
	for name, address := range s.wanted {
		if s.ways[name] != nil || address == "" {
			continue
		}
		own, stop := context.WithCancel(ctx)
		w := &way{address: address, stop: stop, arrived: make(chan struct{}, 1)}
		s.ways[name] = w
		wg.Go(func() { s.keep(own, name, w) })
	}
}

// keep opens streams to one broker, one after the other, until ctx ends.
func (s *Streams) keep(ctx context.Context, name string, w *way) {
	pause := firstPause
	for {
		began := time.Now()
		err := s.send(ctx, name, w)
		if ctx.Err() != nil {
			return
		}
		s.config.Broken(name)
		s.config.Logger.Debug("stream ended", "to", name, "address", w.address, "err", err)
		if time.Since(began) > time.Second {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// send sends what is put until the stream breaks.
func (s *Streams) send(ctx context.Context, name string, w *way) error {
	conn, err := dial.New(w.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pb.NewReplicationClient(conn).Deliver(ctx, grpc.WaitForReady(true), grpc.MaxCallSendMsgSize(MaxParcel))
	if err != nil {
		return err
	}
	// Nothing is ever received; but the end of the stream is, also while nothing is sent.
	ended := make(chan error, 1)
	go func() { ended <- stream.RecvMsg(&pb.Receipt{}) }()
	greeting := &pb.Greeting{Group: s.config.Group, From: s.config.Self, To: name, Boot: s.config.Boot}
	if stream.Send(&pb.Parcel{Greeting: greeting}) != nil {
		return <-ended // Send itself does not say why
	}
	for {
		for _, p := range w.take() {
			if stream.Send(p) != nil {
				return <-ended
			}
		}
		select {
		case <-w.arrived:
		case err := <-ended:
			return err
		}
	}
}

// Deliver takes in the stream of another broker; gRPC calls it.
func (s *Streams) Deliver(stream grpc.ClientStreamingServer[pb.Parcel, pb.Receipt]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	g := first.GetGreeting()
	switch {
	case g == nil || g.GetFrom() == "" || g.GetFrom() == s.config.Self:
		return status.Error(codes.InvalidArgument, "the stream does not begin with a greeting")
	case g.GetGroup() != s.config.Group || g.GetTo() != s.config.Self:
		return status.Errorf(codes.FailedPrecondition, "this is broker %s of group %s, not broker %s of group %s", s.config.Self, s.config.Group, g.GetTo(), g.GetGroup())
	}
	for {
		p, err := stream.Recv()
		switch {
		case err != nil:
			return endOf(err)
		case p.GetGreeting() != nil:
			return status.Error(codes.InvalidArgument, "a second greeting")
		}
		s.config.Deliver(g.GetFrom(), p.GetMessage(), p.GetRecords())
	}
}

func endOf(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
