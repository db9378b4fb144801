// Package gossip finds the nodes of a cluster and carries their small
// datagrams, on top of hashicorp/memberlist.
//
// What it gives: one reachable seed is enough to learn of every node; a node
// that was known once keeps its last addresses for the life of the process;
// [Gossip.Send] hands a datagram to a node by name without waiting for
// anything. Everything on the wire is encrypted with AES-GCM under a shared
// keyring.
//
// What it does not give: any right. Every member holds the same key, so each
// can speak for each other; datagrams get lost, repeated and reordered; a node
// that is said to be dead may be well. So membership never decides who holds
// anything: it finds addresses and tells an operator who sees whom. Renewals
// and their answers bear a MAC of their own (package lease).
package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

// Roles of nodes. A node's name is its role, a slash and its host.
const (
	RoleCoordinator = "coordinator"
	RoleAgent       = "agent"
	RoleBroker      = "broker"
)

// Errors of this package. A bad [Config] gives a [*ConfigError] around one of
// them or around its own text.
var (
	// ErrNoKey: the keyring is empty. There is no unencrypted mode.
	ErrNoKey = errors.New("no gossip key")
	// ErrUnknownNode: no address of that name has ever been heard.
	ErrUnknownNode = errors.New("unknown node")
	// ErrTooLarge: the datagram is longer than [MaxDatagram].
	ErrTooLarge = errors.New("datagram too large")
	// ErrNotRunning: [Gossip.Run] has not started yet, or has returned.
	ErrNotRunning = errors.New("gossip is not running")
)

// ConfigError names the field of a [Config] that New refused.
type ConfigError struct {
	Field string
	Err   error
}

// Error implements error.
func (e *ConfigError) Error() string { return "gossip " + e.Field + ": " + e.Err.Error() }

// Unwrap gives the reason, for errors.Is.
func (e *ConfigError) Unwrap() error { return e.Err }

// Node is one row of the members view.
type Node struct {
	Name    string // role "/" host
	Role    string // RoleCoordinator, RoleAgent or RoleBroker
	Host    string
	Gossip  string // ip:port that datagrams to it go to
	API     string // host:port, "" for none or not known
	Raft    string // host:port, coordinators only
	Store   string // id of its data directory, coordinators only
	Version string // of its program
	// Alive says that gossip believes so. A hint: it ends nothing.
	Alive bool
	// Since is when this process saw Alive change last.
	Since time.Time
}

// Config describes this node. Role, Host, Bind and Keys are required.
type Config struct {
	Role string // RoleCoordinator, RoleAgent or RoleBroker
	Host string // [A-Za-z0-9][A-Za-z0-9._-]{0,62}, unique within the role
	// Bind is the ip:port to listen on, UDP and TCP. Port 0 takes a free one.
	Bind string
	// Advertise is the ip:port that others are told to use. Empty means Bind,
	// which then must not be a wildcard; port 0 means the bound port.
	Advertise string
	// Seeds are host:port of nodes to join, own address allowed. Each is tried
	// by itself: one that does not answer delays no other.
	Seeds []string
	// Keys are AES keys of 16, 24 or 32 bytes. The first encrypts, all
	// decrypt: that is how a key is rotated.
	Keys [][]byte
	Meta Meta
	// Logger gets memberlist's messages too. Nil discards.
	Logger *slog.Logger
	// OnDatagram gets every datagram that a node has sent with [Gossip.Send].
	// from is the name that the sender gave itself: good for answering, proof
	// of nothing. It is never called twice at once. It runs on the goroutine
	// that also reads gossip: it must not block, and b is the callee's only
	// until it returns, so it copies what it keeps. Under load the newest
	// datagrams come first. It may call Send.
	OnDatagram func(from string, b []byte)
	// OnChange is called after nodes came, went or changed; several changes
	// may come as one call. It runs on a goroutine of its own.
	OnChange func()
}

// Gossip is one node's part in the gossip. New binds its sockets, Run works.
type Gossip struct {
	config    Config
	name      string
	advertise netip.AddrPort
	keyring   *memberlist.Keyring
	meta      []byte
	frame     []byte // what every datagram of this node starts with
	log       *slog.Logger
	transport *transport
	table     *table
	seeds     []string

	list     atomic.Pointer[memberlist.Memberlist] // nil while not running
	ready    chan struct{}
	changed  chan struct{} // one slot: the table has changed
	deliver  sync.Mutex    // makes OnDatagram calls one at a time; closing waits on it
	closed   bool          // under deliver: no more OnDatagram
	refused  atomic.Uint64 // datagrams that did not decode
	now      func() time.Time
	tune     func(*memberlist.Config) // tests shorten memberlist's timers
	interval time.Duration            // between looks for missing nodes
}

// New checks the configuration and binds the sockets. The returned Gossip
// holds them until Run returns or Close is called.
func New(c Config) (*Gossip, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	checked, err := check(c)
	if err != nil {
		return nil, err
	}
	t, err := listen(checked.bind)
	if err != nil {
		return nil, fmt.Errorf("bind gossip to %s: %w", c.Bind, err)
	}
	advertise := checked.advertise
	if advertise.Port() == 0 {
		advertise = netip.AddrPortFrom(advertise.Addr(), t.port())
	}
	t.advertise = advertise
	g := &Gossip{
		config:    c,
		name:      c.Role + "/" + c.Host,
		advertise: advertise,
		keyring:   checked.keyring,
		meta:      checked.meta,
		log:       c.Logger,
		transport: t,
		seeds:     c.Seeds,
		ready:     make(chan struct{}),
		changed:   make(chan struct{}, 1),
		now:       time.Now,
		tune:      func(*memberlist.Config) {},
		interval:  time.Second,
	}
	g.frame = appendHeader(nil, g.name, advertise)
	g.table = newTable(g.name)
	return g, nil
}

// Name is this node's name: role "/" host.
func (g *Gossip) Name() string { return g.name }

// Advertised is the address that others are told, with its real port.
func (g *Gossip) Advertised() netip.AddrPort { return g.advertise }

// Ready is closed when datagrams can be sent and either a seed has answered
// or each has been tried once (a first coordinator has nobody to join).
func (g *Gossip) Ready() <-chan struct{} { return g.ready }

// Nodes gives every node ever heard of, this one included, sorted by name.
// A node that is gone stays, with Alive false and its last addresses.
func (g *Gossip) Nodes() []Node { return g.table.nodes() }

// Forget drops a node that is not alive, so that it is no longer looked for:
// for a coordinator that was removed for good.
func (g *Gossip) Forget(name string) { g.table.forget(name) }

// Refused counts the datagrams that decrypted but did not decode.
func (g *Gossip) Refused() uint64 { return g.refused.Load() }

// Send hands one datagram to the last known address of a node, also when it
// is thought dead. It takes no lock that gossip holds while it works, and
// waits for nobody. nil means that the kernel took it, no more. Errors:
// ErrUnknownNode, ErrTooLarge, ErrNotRunning, or what the socket said.
func (g *Gossip) Send(name string, b []byte) error {
	if len(b) > MaxDatagram {
		return fmt.Errorf("send to %s: %w: %d bytes, at most %d", name, ErrTooLarge, len(b), MaxDatagram)
	}
	list := g.list.Load()
	if list == nil {
		return fmt.Errorf("send to %s: %w", name, ErrNotRunning)
	}
	p, ok := g.table.find(name)
	if !ok {
		return fmt.Errorf("send to %q: %w", name, ErrUnknownNode)
	}
	message := make([]byte, 0, len(g.frame)+len(b))
	message = append(append(message, g.frame...), b...)
	// With a node of our own making memberlist looks nothing up, so its node
	// lock, which it holds while it merges states, is not on this path.
	if err := list.SendBestEffort(p.target, message); err != nil {
		return fmt.Errorf("send to %s: %w", name, err)
	}
	return nil
}

// leaveWithin bounds how long a departing node waits for its farewell to be
// passed on. Others find out by themselves a little later if it is not.
const leaveWithin = 400 * time.Millisecond

// Run takes part until ctx ends; then it says farewell within a bound, closes
// the sockets and returns nil. It can be run once.
func (g *Gossip) Run(ctx context.Context) error {
	defer func() { _ = g.Close() }()
	g.transport.start()
	list, err := memberlist.Create(g.memberlistConfig())
	if err != nil {
		return fmt.Errorf("start gossip: %w", err)
	}
	g.list.Store(list)

	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error { return g.tellChanges(gctx) })
	group.Go(func() error { return newSeeker(g, list).run(gctx) })
	group.Go(func() error {
		<-gctx.Done()
		if err := list.Leave(leaveWithin); err != nil {
			g.log.Debug("leaving gossip was not passed on", "error", err)
		}
		g.list.Store(nil)
		// Closing the transport cuts joins that are under way.
		_ = g.transport.Shutdown()
		_ = list.Shutdown()
		g.stopDelivery()
		return nil
	})
	return group.Wait()
}

// Close frees the sockets of a Gossip that is not going to be run.
func (g *Gossip) Close() error { return g.transport.Shutdown() }

// tellChanges turns changes of the table into calls of OnChange.
func (g *Gossip) tellChanges(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.changed:
			if g.config.OnChange != nil {
				g.config.OnChange()
			}
		}
	}
}

// signal notes that the table has changed; it never blocks, for its callers
// hold memberlist's node lock.
func (g *Gossip) signal() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// stopDelivery returns when no OnDatagram call runs and none will follow.
func (g *Gossip) stopDelivery() {
	g.deliver.Lock()
	defer g.deliver.Unlock()
	g.closed = true
}

// memberlistConfig is memberlist's LAN profile with the timers and queues of
// this use: few nodes, one network, a burst of renewals every round.
func (g *Gossip) memberlistConfig() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = g.name
	c.Transport = g.transport
	c.BindAddr, c.BindPort = g.advertise.Addr().String(), int(g.advertise.Port())
	c.AdvertiseAddr, c.AdvertisePort = c.BindAddr, c.BindPort
	c.Keyring = g.keyring
	c.GossipVerifyIncoming, c.GossipVerifyOutgoing = true, true
	// Renewals are small and random-looking: nothing to gain.
	c.EnableCompression = false
	// Covers a state exchange on a LAN, not a wait for somebody dead.
	c.TCPTimeout = 2 * time.Second
	c.ProbeInterval, c.ProbeTimeout = time.Second, 300*time.Millisecond
	c.GossipInterval = 100 * time.Millisecond
	c.PushPullInterval = 15 * time.Second
	// A node that comes back with another address replaces its dead self.
	c.DeadNodeReclaimTime = time.Second
	// 500 agents that renew with three coordinators six times a second put
	// some thousand messages per second through this queue; it must not drop
	// them when one merge of states takes a while.
	c.HandoffQueueDepth = 8192
	c.Logger = newMemberlistLogger(g.log, g.now)
	d := (*delegate)(g)
	c.Delegate, c.Events, c.Alive = d, d, d
	g.tune(c)
	return c
}
