// Package raftnode is one Raft replica: hashicorp/raft over its log, its
// snapshots and its network, with guards against that library's known faults.
// It knows nothing of what the entries mean.
package raftnode

import (
	"context"
	"log/slog"
	"net"
	"time"
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
type Node struct{}

// Open locks the data directory and opens the stores in it; nothing runs yet.
// Errors: ErrLocked, *DamagedError, or what the file system said.
func Open(cfg Config) (*Node, error) { return nil, ErrStopped }

// Close frees the data directory of a node that was opened and not run.
func (n *Node) Close() error { return nil }

// StoreID is a random name, 32 hex digits, that the data directory got when it was made.
func (n *Node) StoreID() string { return "" }

// HasState tells whether there is Raft state: a term, a log or a snapshot.
func (n *Node) HasState() bool { return false }

// Bootstrap writes the first configuration, before Run. It must be called with
// equal servers on each node that it is called on. ErrHasState if too late.
func (n *Node) Bootstrap(servers []Server) error { return ErrStopped }

// Run takes part in the cluster until ctx ends (nil), the node is removed
// (ErrRemoved) or a fault stops it. Then it closes the stores.
func (n *Node) Run(ctx context.Context) error { return ErrStopped }

// Propose appends data and returns what Machine.Apply returned for it.
// Errors: ErrNotLeader (*NotLeaderError), ErrUncertain, or those of Apply.
// When ctx ends first the outcome is uncertain and both errors match.
func (n *Node) Propose(ctx context.Context, data []byte) (any, error) { return nil, ErrStopped }

// Barrier returns when everything that was committed before it, in earlier
// terms too, has been applied here. Leader only; errors as for Propose.
func (n *Node) Barrier(ctx context.Context) error { return ErrStopped }

// State looks at the node.
func (n *Node) State() Info { return Info{} }

// Leading tells of changes of leadership; it holds only the latest value. True
// comes before the entries of earlier terms are applied: see Barrier.
func (n *Node) Leading() <-chan bool { return nil }

// Configuration is the latest configuration in the log, committed or not.
func (n *Node) Configuration() Configuration { return Configuration{} }

// AddNonvoter adds a server that gets the log and has no vote, or corrects its
// address. Leader only.
func (n *Node) AddNonvoter(ctx context.Context, s Server) error { return ErrStopped }

// Promote gives a server of the configuration its vote. Leader only.
func (n *Node) Promote(ctx context.Context, name string) error { return ErrStopped }

// Remove takes a server out of the configuration and tells it so. Leader only;
// a leader that removes itself stops once that has committed.
func (n *Node) Remove(ctx context.Context, name string) error { return ErrStopped }

// TransferLeadership hands leadership to the named server, or to the one that
// is furthest if to is "". It waits for proposals under way and is bounded to a few election
// timeouts. Leader only.
func (n *Node) TransferLeadership(ctx context.Context, to string) error { return ErrStopped }

// Followers tells what this leader knows of the other servers, by name. Empty on others.
func (n *Node) Followers() map[string]Follower { return nil }

// Recover makes peersFile (a JSON array of {"id","address","non_voter"}) the
// configuration of the data directory at cfg.Dir, for a cluster that has lost
// its majority for good. It commits all that the log holds. The old members
// that are not recovered with the same file must never run again.
// cfg.Listener is not needed. cfg.Machine must be fresh and is used up.
func Recover(cfg Config, peersFile string) error { return ErrStopped }
