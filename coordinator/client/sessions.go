package client

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"holdfast/coordinator/api/dial"
	pb "holdfast/coordinator/api/holdfastpb"
)

const (
	// seekEvery is how often the list of coordinators is looked at.
	seekEvery = 100 * time.Millisecond
	// redialGap is the shortest time between two new connections that
	// [Sessions.Redial] makes to one coordinator.
	redialGap = time.Second
	// firstPause and lastPause bound the wait before a watch is asked for
	// again; it doubles as long as none brings a view.
	firstPause = 20 * time.Millisecond
	lastPause  = 500 * time.Millisecond
)

// Coordinator is where a coordinator serves its API.
type Coordinator struct {
	Name string
	API  string // host:port
}

// SessionsConfig configures [Sessions]. Host or Broker, and Coordinators, are required.
type SessionsConfig struct {
	Host   string // whose views to watch
	Broker string // set: the views are those of this broker, with the groups in them
	// Coordinators returns all that are known now; it is asked again and
	// again. Those that views name are used as well, until they are removed.
	Coordinators func() []Coordinator
	Logger       *slog.Logger // nil discards
	// Dial makes a connection that re-dials by itself; nil = [dial.New].
	Dial func(address string) (*grpc.ClientConn, error)
}

// Sessions is an agent's or a broker's way to the coordinators. It is safe for concurrent use.
type Sessions struct {
	config SessionsConfig
	views  chan *pb.View
	fresh  chan struct{} // one slot: the mailbox is not empty
	ready  chan struct{} // closed when the first coordinator is known

	mu      sync.Mutex
	peers   map[string]*peer
	mailbox map[string]*pb.View // newest view of each coordinator, not delivered yet
	learned *learned            // API addresses from views
	leader  string
	term    uint64
	anybody bool
}

// peer is one coordinator and its connection.
type peer struct {
	Coordinator
	stop context.CancelFunc

	mu       sync.Mutex
	conn     *grpc.ClientConn
	cut      context.CancelFunc // ends the watch on conn
	redialed time.Time
}

// NewSessions returns a client that does nothing before Run.
func NewSessions(c SessionsConfig) *Sessions {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Dial == nil {
		c.Dial = func(address string) (*grpc.ClientConn, error) { return dial.New(address) }
	}
	return &Sessions{
		config: c, views: make(chan *pb.View), fresh: make(chan struct{}, 1), ready: make(chan struct{}),
		peers: make(map[string]*peer), mailbox: make(map[string]*pb.View), learned: newLearned(),
	}
}

// Views gives the views of all coordinators, each coordinator's in order. A
// view that a newer one of the same coordinator overtakes before it is taken is
// left out. The channel is never closed.
func (s *Sessions) Views() <-chan *pb.View { return s.views }

// Run watches every coordinator until ctx ends, then closes the connections and
// returns nil. Calls work only while it runs.
func (s *Sessions) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.deliver(ctx) })
	tick := time.NewTicker(seekEvery)
	defer tick.Stop()
	for {
		s.seek(ctx, &wg)
		select {
		case <-ctx.Done():
			s.stopAll()
			return nil
		case <-tick.C:
		}
	}
}

// deliver hands views over without ever making a watch wait.
func (s *Sessions) deliver(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.fresh:
		}
		for {
			v := s.takeView()
			if v == nil {
				break
			}
			select {
			case s.views <- v:
			case <-ctx.Done():
				return
			}
		}
	}
}

// takeView takes the view with the highest index from the mailbox.
func (s *Sessions) takeView() *pb.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first string
	for name, v := range s.mailbox {
		if first == "" || v.Index > s.mailbox[first].Index || v.Index == s.mailbox[first].Index && name < first {
			first = name
		}
	}
	v := s.mailbox[first]
	delete(s.mailbox, first)
	return v
}

// watchEnded notes that a coordinator says no more what it knows.
func (s *Sessions) watchEnded(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.learned.gone(name)
}

// putView takes in a view.
func (s *Sessions) putView(name string, v *pb.View) {
	s.mu.Lock()
	s.mailbox[name] = v
	if v.Term >= s.term && v.Leader != "" {
		s.term, s.leader = v.Term, v.Leader
	}
	s.learned.see(name, v.GetConfiguration())
	s.mu.Unlock()
	select {
	case s.fresh <- struct{}{}:
	default:
	}
}

// seek follows the list of coordinators.
func (s *Sessions) seek(ctx context.Context, wg *sync.WaitGroup) {
	known := s.config.Coordinators()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := maps.Clone(s.learned.addresses())
	for _, c := range known {
		if c.Name != "" && c.API != "" {
			now[c.Name] = c.API
		}
	}
	for name, p := range s.peers {
		if now[name] != p.API { // gone or moved
			p.close()
			delete(s.peers, name)
		}
	}
	for name, api := range now {
		if s.peers[name] != nil {
			continue
		}
		conn, err := s.config.Dial(api)
		if err != nil {
			s.config.Logger.Warn("coordinator not dialed", "coordinator", name, "api", api, "err", err)
			continue
		}
		own, stop := context.WithCancel(ctx)
		p := &peer{Coordinator: Coordinator{name, api}, stop: stop, conn: conn, cut: func() {}}
		s.peers[name] = p
		wg.Go(func() { s.watch(own, p) })
	}
	if len(s.peers) > 0 && !s.anybody {
		s.anybody = true
		close(s.ready)
	}
}

func (s *Sessions) stopAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, p := range s.peers {
		p.close()
		delete(s.peers, name)
	}
}

// watch keeps a watch on one coordinator until ctx ends.
func (s *Sessions) watch(ctx context.Context, p *peer) {
	pause := firstPause
	for {
		got := s.watchOnce(ctx, p)
		if got {
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

// watchOnce takes views from one stream until it breaks, and says whether
// there was one.
func (s *Sessions) watchOnce(ctx context.Context, p *peer) (got bool) {
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	p.mu.Lock()
	conn := p.conn
	p.cut = cut
	p.mu.Unlock()
	// From the beginning each time: the first view also tells the coordinator's
	// configuration, without which it cannot be asked for a promise.
	stream, err := pb.NewSessionsClient(conn).Watch(ctx, &pb.WatchRequest{Host: s.config.Host, Broker: s.config.Broker}, grpc.WaitForReady(true))
	if err != nil {
		return false
	}
	defer s.watchEnded(p.Name)
	for {
		v, err := stream.Recv()
		if err != nil {
			if ctx.Err() == nil {
				s.config.Logger.Debug("watch ended", "coordinator", p.Name, "err", err)
			}
			return got
		}
		if v.Coordinator == "" {
			v.Coordinator = p.Name
		}
		got = true
		s.putView(p.Name, v)
	}
}

// Redial makes a new connection to a coordinator, because the old one may wait
// for seconds for a retransmission after the network between them was cut. Soon
// after the last time it does nothing.
func (s *Sessions) Redial(name string) {
	s.mu.Lock()
	p := s.peers[name]
	s.mu.Unlock()
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.redialed) < redialGap {
		return
	}
	conn, err := s.config.Dial(p.API)
	if err != nil {
		return
	}
	p.redialed = time.Now()
	_ = p.conn.Close()
	p.conn = conn
	p.cut()
}

func (p *peer) close() {
	p.stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.conn.Close()
}

func (p *peer) connection() *grpc.ClientConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn
}

// order returns all coordinators, the leader first if it is known.
func (s *Sessions) order() []*peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*peer, 0, len(s.peers))
	for _, p := range s.peers {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *peer) int {
		if (a.Name == s.leader) != (b.Name == s.leader) {
			if a.Name == s.leader {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out
}
