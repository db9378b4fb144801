// Package coordinator is one member of the quorum. It owns the replicated
// state (who may act, package fsm), this coordinator's promises (until when,
// package lease) and, while it leads, the scheduler (who should, package
// schedule). Adapters bring it a log, a datagram service and its peers.
//
// Lock order: state before voter. A renewal is answered while the state is
// read-locked, so no promise can be made for a session whose end has been
// applied.
package coordinator

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
	"holdfast/coordinator/ledger"
	"holdfast/coordinator/schedule"
	"holdfast/fsm"
)

// Log is the replicated log. Propose returns what Machine.Apply returned.
type Log interface {
	Propose(ctx context.Context, data []byte) (any, error)
	Barrier(ctx context.Context) error
	Info() LogInfo
	Leading() <-chan bool
	Configuration() Configuration
}

// Members changes who takes part in the log.
type Members interface {
	AddNonvoter(ctx context.Context, name, raftAddress string) error
	Promote(ctx context.Context, name string) error
	Remove(ctx context.Context, name string) error
	TransferLeadership(ctx context.Context, to string) error
}

// LogInfo is one look at the log.
type LogInfo struct {
	Role        string // leader, follower, candidate, stalled, stopped
	Leader      string // name, "" if unknown
	Term        uint64
	Applied     uint64
	Last        uint64
	LastContact time.Duration // since the leader was heard, -1 = never
	HasState    bool          // there is a term, a log or a snapshot
}

// Server is one member of a Raft configuration.
type Server struct {
	Name, RaftAddress string
	Voter             bool
}

// Configuration is the latest Raft configuration in this coordinator's log,
// committed or not; Previous is the index of the one before it.
type Configuration struct {
	Index, Previous uint64
	Servers         []Server
}

// Voters returns the names of the voting members, in configuration order.
func (c Configuration) Voters() []string {
	var names []string
	for _, s := range c.Servers {
		if s.Voter {
			names = append(names, s.Name)
		}
	}
	return names
}

func (c Configuration) server(name string) (Server, bool) {
	for _, s := range c.Servers {
		if s.Name == name {
			return s, true
		}
	}
	return Server{}, false
}

// Datagrams sends renewal answers, best effort, and knows where the other
// coordinators can be called.
type Datagrams interface {
	Send(name string, datagram []byte) error
	Coordinators() []Endpoint
}

// Endpoint is where one coordinator was last known to be.
type Endpoint struct {
	Name, API, Gossip, Raft, Version string
	Alive                            bool // in the gossip's view: a hint, never a proof
}

// Peers calls the other coordinators. Calls end with ctx.
type Peers interface {
	Probe(ctx context.Context, name string, r *pb.ProbeRequest) (*pb.ProbeReply, error)
	Fence(ctx context.Context, name string, r *pb.FenceRequest) (*pb.FenceReply, error)
	Identity(ctx context.Context, name string, r *pb.IdentityRequest) (*pb.IdentityReply, error)
	Join(ctx context.Context, name string, r *pb.JoinRequest) (*pb.JoinReply, error)
}

// LeaseStore keeps on disk what a coordinator must not forget of its promises.
// Each change is on disk when the call returns.
type LeaseStore interface {
	Mark(sessions ...uint64) error
	Unmark(sessions ...uint64) error
	Marks() []uint64
	SetLongestTTL(ttl time.Duration) error
	LongestTTL() time.Duration
}

// Config is what a Coordinator needs from outside. All fields are required
// unless they say otherwise.
type Config struct {
	Name      string
	StoreID   string // identity of the data directory
	Version   string
	Params    lease.Params
	Boottime  func() lease.Time
	Log       Log
	Members   Members
	Datagrams Datagrams
	Peers     Peers
	Store     LeaseStore
	Logger    *slog.Logger
}

// Coordinator is one member of the quorum. Use New, then Run; its methods are
// safe for concurrent use.
type Coordinator struct {
	Config

	mu    sync.RWMutex // guards state
	state *fsm.State

	voterMu sync.Mutex // guards ledger, told and reports
	ledger  *ledger.Ledger
	told    map[fsm.SessionID]told // what agents say, for people
	reports reports                // what brokers say of their replicas

	changed atomic.Pointer[chan struct{}] // closed and replaced at each change: broadcast
	nudge   chan struct{}                 // wakes the leader's loop

	schedMu sync.Mutex // guards seen
	seen    *schedule.Tracker

	leading atomic.Bool // leads and has applied all of earlier terms
	founder atomic.Pointer[string]
	member  sync.Mutex // one membership change at a time
}

// New builds a coordinator; it starts nothing. Its quiet time begins now, so
// the data directory's lock must be held already.
func New(cfg Config) *Coordinator {
	now := cfg.Boottime()
	c := &Coordinator{
		Config: cfg,
		state:  fsm.New(),
		ledger: ledger.New(lease.VoterConfig{
			Name: cfg.Name, Params: cfg.Params, Start: now,
			LongestTTL: cfg.Store.LongestTTL(), Marks: cfg.Store.Marks(),
		}),
		told:    make(map[fsm.SessionID]told),
		reports: make(reports),
		nudge:   make(chan struct{}, 1),
		seen:    schedule.NewTracker(),
	}
	ch := make(chan struct{})
	c.changed.Store(&ch)
	return c
}

// Run does the coordinator's work until ctx ends.
func (c *Coordinator) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.keepHouse(ctx) })
	g.Go(func() error { return c.lead(ctx) })
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// broadcast tells all watchers and the leader's loop that something changed.
func (c *Coordinator) broadcast() {
	ch := make(chan struct{})
	close(*c.changed.Swap(&ch))
	c.wake()
}

// wake makes the leader's loop look again.
func (c *Coordinator) wake() {
	select {
	case c.nudge <- struct{}{}:
	default:
	}
}

// change returns a channel that is closed at the next change. Take it before
// looking at what may change.
func (c *Coordinator) change() <-chan struct{} { return *c.changed.Load() }
