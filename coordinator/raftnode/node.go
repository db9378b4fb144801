// Package raftnode is one Raft replica: hashicorp/raft over its log, its
// snapshots and its network, with guards against that library's known faults.
// It knows nothing of what the entries mean.
package raftnode

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Machine is the replicated state. Its methods are called one at a time, in
// log order; Configured is called in that same order for each committed
// configuration entry. An error of Apply stops the replica: Run returns it and
// nothing is applied afterwards. After a restart of the process the entries
// behind the last snapshot are applied again, to a fresh Machine.
type Machine interface {
	Apply(index uint64, data []byte) (any, error)
	Configured(index uint64)
	Snapshot() ([]byte, error)
	Restore(data []byte) error
	// Persisted tells that a snapshot of the state at that index is on disk:
	// a restart goes back to it or to a later one, or, if it cannot be read,
	// to the one before. Unlike the others it may come at any time.
	Persisted(index uint64)
}

// Server is one member of a configuration. Address is its Raft address, host:port.
type Server struct {
	Name, Address string
	Voter         bool
}

// Configuration is a Raft configuration entry in this node's log, committed or
// not. Previous is the index of the entry before it: exact, or, if that is not
// known any more, the highest index that it can have had.
type Configuration struct {
	Index, Previous uint64
	Servers         []Server
}

// Config is what a Node needs. Name, Dir, Listener and Machine are required.
type Config struct {
	Name      string
	Dir       string       // data directory, made with mode 0700
	Listener  net.Listener // bound; the node closes it when Run ends
	Advertise string       // host:port that others dial; default: the listener's address

	Heartbeat   time.Duration // default 250 ms
	Election    time.Duration // default: Heartbeat
	LeaderLease time.Duration // default: half of Heartbeat
	// StoreTimeout bounds one write to a leader's log; default 1 s. A leader whose disk
	// takes longer gives up leading. With the election it must stay well below the time
	// in which an operator expects another leader.
	StoreTimeout      time.Duration
	SnapshotThreshold uint64 // entries between snapshots; default 8192

	Logger *slog.Logger
	// OnConfiguration is called with the latest configuration in the log each
	// time it changes, also when it rolls back, and once by Open if there is
	// one. It runs before Raft acts on the change and must not block.
	OnConfiguration func(Configuration)
	Machine         Machine

	// Faults for tests.
	wrapStore  func(raft.LogStore) raft.LogStore
	dial       func(address string, timeout time.Duration) (net.Conn, error)
	timeoutNow func()
}

// commitTimeout is how soon followers learn what has committed when nothing
// follows. It costs a small message per follower and interval.
const commitTimeout = 10 * time.Millisecond

func (c Config) withDefaults() (Config, error) {
	if c.Name == "" || c.Dir == "" || c.Machine == nil {
		return c, errors.New("configure node: Name, Dir and Machine are required")
	}
	if c.Advertise == "" && c.Listener != nil {
		c.Advertise = c.Listener.Addr().String()
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 250 * time.Millisecond
	}
	if c.Election == 0 {
		c.Election = c.Heartbeat
	}
	if c.LeaderLease == 0 {
		c.LeaderLease = c.Heartbeat / 2
	}
	if c.StoreTimeout == 0 {
		c.StoreTimeout = time.Second
	}
	if c.SnapshotThreshold == 0 {
		c.SnapshotThreshold = 8192
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Election < c.Heartbeat || c.Heartbeat < c.LeaderLease {
		return c, fmt.Errorf("configure node: want leader lease (%v) <= heartbeat (%v) <= election (%v)", c.LeaderLease, c.Heartbeat, c.Election)
	}
	return c, nil
}

// rpcTimeout bounds one call to a peer. It is also how long a connection that
// a healed partition has broken can go on being waited for.
func (c Config) rpcTimeout() time.Duration { return max(time.Second, 4*c.Heartbeat) }

func (c Config) raft() *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(c.Name)
	rc.HeartbeatTimeout = c.Heartbeat
	rc.ElectionTimeout = c.Election
	rc.LeaderLeaseTimeout = c.LeaderLease
	rc.CommitTimeout = commitTimeout
	rc.SnapshotThreshold = c.SnapshotThreshold
	rc.SnapshotInterval = 30 * time.Second
	rc.TrailingLogs = c.SnapshotThreshold
	// The node stops itself: Raft would stop only a leader, and half of it.
	rc.ShutdownOnRemove = false
	rc.NoLegacyTelemetry = true
	rc.Logger = newHCLogger(c.Logger, "raft")
	return rc
}

// Info is one look at a node.
type Info struct {
	Role          string // leader, follower, candidate, stalled (its disk hangs), stopped
	Leader        string // name, "" if unknown
	LeaderAddress string
	Term          uint64
	Applied       uint64        // last entry that the Machine has taken in
	Commit        uint64        // highest index known to be committed
	Last          uint64        // last index in the log
	LastContact   time.Duration // since the leader was heard; 0 on the leader, -1 = never
}

// Follower is what a leader knows of another server.
type Follower struct {
	Match       uint64        // highest index known to be in its log, 0 = unknown
	LastContact time.Duration // since its last reply, -1 = never in this term of office
}

// Node is one replica: Open, perhaps Bootstrap, then Run. Its methods are safe
// for concurrent use.
type Node struct {
	cfg            Config
	stores         *stores
	machine        *machine
	configurations *configurations

	started   atomic.Bool
	closeOnce sync.Once
	current   atomic.Pointer[instance] // nil while none runs
	stalled   atomic.Bool
	gate      gate
	leading   latest
	stuck     stuckTransfer

	failOnce sync.Once
	failure  error // set before failed is closed
	failed   chan struct{}
}

// Open locks the data directory and opens the stores in it; nothing runs yet.
// Errors: ErrLocked, *DamagedError, or what the file system said.
func Open(cfg Config) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg.Listener == nil {
		return nil, errors.New("configure node: Listener is required")
	}
	return open(cfg)
}

func open(cfg Config) (*Node, error) {
	st, err := openStores(cfg)
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg:            cfg,
		stores:         st,
		configurations: newConfigurations(cfg.OnConfiguration),
		leading:        latest{ch: make(chan bool, 1)},
		failed:         make(chan struct{}),
	}
	n.machine = &machine{inner: cfg.Machine, fail: n.fail,
		removed: func(index uint64) bool { return n.configurations.removed(index, cfg.Name) }}
	if err := st.scan(n.configurations); err != nil {
		st.close()
		return nil, err
	}
	return n, nil
}

// Close frees the data directory of a node that was opened and not run. After
// Run it does nothing.
func (n *Node) Close() error {
	n.closeOnce.Do(n.stores.close)
	return nil
}

// StoreID is a random name, 32 hex digits, that the data directory got when it was made.
func (n *Node) StoreID() string { return n.stores.dir.id }

// HasState tells whether there is Raft state: a term, a log or a snapshot.
func (n *Node) HasState() bool {
	has, err := raft.HasExistingState(n.stores.log, n.stores.bolt, n.stores.snapshots)
	return has || err != nil
}

// Bootstrap writes the first configuration, before Run. It must be called with
// equal servers on each node that it is called on. ErrHasState if there is a
// state already.
func (n *Node) Bootstrap(servers []Server) error {
	err := raft.BootstrapCluster(n.cfg.raft(), n.stores.log, n.stores.bolt, n.stores.snapshots, nil, raftConfiguration(servers))
	if errors.Is(err, raft.ErrCantBootstrap) {
		return ErrHasState
	}
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	return n.stores.scan(n.configurations)
}

// State looks at the node.
func (n *Node) State() Info {
	info := Info{Role: "stopped", Applied: n.machine.applied.Load(), LastContact: -1}
	if n.stalled.Load() {
		info.Role = "stalled"
	}
	in := n.current.Load()
	if in == nil {
		return info
	}
	r := in.raft
	info.Role = roleName(r.State())
	addr, id := r.LeaderWithID()
	info.Leader, info.LeaderAddress = string(id), string(addr)
	info.Term, info.Commit, info.Last = r.CurrentTerm(), r.CommitIndex(), r.LastIndex()
	if info.Role == "leader" {
		info.LastContact = 0
	} else if t := r.LastContact(); !t.IsZero() {
		info.LastContact = time.Since(t)
	}
	return info
}

func roleName(s raft.RaftState) string {
	switch s {
	case raft.Leader:
		return "leader"
	case raft.Candidate:
		return "candidate"
	case raft.Follower:
		return "follower"
	default:
		return "stopped"
	}
}

// Leading tells of changes of leadership; it holds only the latest value. True
// comes before the entries of earlier terms are applied: see Barrier.
func (n *Node) Leading() <-chan bool { return n.leading.ch }

// Configuration is the latest configuration in the log, committed or not.
func (n *Node) Configuration() Configuration { return *n.configurations.latest.Load() }

// Followers tells what this leader knows of the other servers, by name. Empty on others.
func (n *Node) Followers() map[string]Follower {
	out := make(map[string]Follower)
	in := n.current.Load()
	if in == nil || !in.leads() {
		return out
	}
	notes := in.transport.notes(in.raft.CurrentTerm())
	for _, s := range n.Configuration().Servers {
		if s.Name == n.cfg.Name {
			continue
		}
		f := Follower{LastContact: -1}
		if note, ok := notes[raft.ServerID(s.Name)]; ok {
			f = Follower{Match: note.match, LastContact: time.Since(note.heard)}
		}
		out[s.Name] = f
	}
	return out
}

// fail records the first fault that the node cannot live with; Run returns it.
func (n *Node) fail(err error) {
	n.failOnce.Do(func() {
		n.failure = err
		close(n.failed)
	})
}

// latest is a channel that holds only the newest value.
type latest struct {
	mu   sync.Mutex
	last bool
	ch   chan bool
}

func (l *latest) set(v bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v == l.last {
		return
	}
	l.last = v
	select {
	case <-l.ch:
	default:
	}
	l.ch <- v
}
