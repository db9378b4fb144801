package vipagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
	"holdfast/coordinator/renew"
	"holdfast/vipagent/vip"
)

// Kernel changes and reads the addresses of this host. The calls are short;
// none waits for another machine.
type Kernel interface {
	// Addresses returns all addresses of the host, ours or not.
	Addresses() ([]vip.Actual, error)
	// Remove returns nil only if the host no longer holds any of them.
	Remove(addresses []vip.Address) error
	// Add and Refresh give the addresses that lifetime. The error may be for
	// some of them only.
	Add(addresses []vip.Address, lifetime time.Duration) error
	Refresh(addresses []vip.Address, lifetime time.Duration) error
	// Announce tells the neighbours that the addresses are here.
	Announce(addresses []vip.Address) error
}

// Links knows the interfaces of this host.
type Links interface {
	// Interfaces returns the names of all interfaces.
	Interfaces() ([]string, error)
	// InterfacesFor returns, for each address, the interface whose subnet
	// holds it, "" if there is none.
	InterfacesFor(prefixes []netip.Prefix) ([]string, error)
}

// Sessions opens, replaces and ends sessions, through any coordinator. A call
// is tried until it is answered or ctx ends. An error whose chain has a method
// Refused() bool that returns true is the quorum's answer and final.
type Sessions interface {
	Open(ctx context.Context, r *pb.OpenRequest) (*pb.OpenReply, error)
	Rebind(ctx context.Context, r *pb.RebindRequest) (*pb.RebindReply, error)
	Close(ctx context.Context, r *pb.CloseRequest) (*pb.CloseReply, error)
}

// Grants is what a holder says about what it holds; errors as in [Sessions].
type Grants interface {
	Release(ctx context.Context, r *pb.ReleaseRequest) (*pb.ReleaseReply, error)
	ConfirmRemoval(ctx context.Context, r *pb.ConfirmRemovalRequest) (*pb.ConfirmRemovalReply, error)
	ReportCondition(ctx context.Context, r *pb.ReportConditionRequest) (*pb.ReportConditionReply, error)
	ReportStall(ctx context.Context, r *pb.ReportStallRequest) (*pb.ReportStallReply, error)
	ReportRouter(ctx context.Context, r *pb.ReportRouterRequest) (*pb.ReportRouterReply, error)
}

// Views delivers what coordinators know of this host.
type Views interface {
	// Views gives the views of all coordinators as they come.
	Views() <-chan *pb.View
	// Redial makes a new connection to a coordinator that was silent and is
	// back: the old one may wait for seconds for a retransmission.
	Redial(coordinator string)
}

// Datagrams sends renewals.
type Datagrams interface {
	// Send hands a datagram for the coordinator of that name to the kernel and
	// waits for nothing. An error is as good as a lost datagram.
	Send(coordinator string, b []byte) error
}

// Clock is CLOCK_BOOTTIME.
type Clock interface {
	Now() lease.Time
	// SleepUntil returns nil when the clock has reached t, else ctx's error.
	SleepUntil(ctx context.Context, t lease.Time) error
}

// Edges is all that an agent touches outside of itself. All are required but
// Shield and Adverts.
type Edges struct {
	Kernel Kernel
	// Shield opens the fence. It is called once, under the lock of the state
	// directory: two processes must never have one fence. After an error the
	// host holds nothing, and reports it. nil: there is no fence, and nothing is
	// told of it.
	Shield    func() (Shield, error)
	Links     Links
	Sessions  Sessions
	Grants    Grants
	Views     Views
	Datagrams Datagrams
	Clock     Clock
	// Adverts carries VRRP. nil: the addresses of sets that are shared with routers
	// outside of the quorum are never up.
	Adverts Adverts
}

// Errors that callers distinguish.
var (
	// ErrLocked: another agent runs on this host with this state directory.
	ErrLocked = errors.New("another agent is running")
	// ErrStillUp: addresses could not be taken down at the end.
	ErrStillUp = errors.New("addresses are still up")
)

// Config of an [Agent].
type Config struct {
	Host  string        // as the candidates of sets name it
	TTL   time.Duration // of new sessions
	Renew time.Duration // interval of rounds; 0 = TTL/6
	// StateDir has the session file and its lock; it must be on a tmpfs, which
	// a reboot empties.
	StateDir string
	BootID   string // of the running kernel
	// RepeatAfter is when a takeover is announced once more (0 = 1 s), Refresh
	// the interval at which held addresses are announced (0 = never).
	RepeatAfter, Refresh time.Duration
	// Interfaces may carry VIPs; empty means all.
	Interfaces []string
	Logger     *slog.Logger // nil discards
}

// Condition is what the health checks of this host say of one set.
type Condition struct {
	Weight int    // added to the host's priority
	Veto   bool   // the host must not hold the set
	Reason string // in words
	// Pending: some check has no result yet, so nothing is reported so far.
	Pending bool
}

// Agent holds VIPs. Make one with [Open], feed it with its methods, which never
// block, and let [Agent.Run] work.
type Agent struct {
	config  Config
	edges   Edges
	state   *stateDir
	inbox   *inbox
	journal *journal
	shield  shield // the owner's, once it runs
	renewer *renew.Renewer
	guard   atomic.Int64 // how long before a deadline addresses are taken down
	status  atomic.Pointer[Status]
	holds   atomic.Pointer[map[netip.Addr]bool]
}

// Open takes the lock of the state directory for as long as the agent lives,
// and reads the session file. The error wraps [ErrLocked] if another agent has
// the lock. It starts nothing and changes no address.
func Open(c Config, e Edges) (*Agent, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Renew == 0 {
		c.Renew = c.TTL / 6
	}
	if c.RepeatAfter == 0 {
		c.RepeatAfter = time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	state, err := openStateDir(c.StateDir)
	if err != nil {
		return nil, err
	}
	shield := newShield()
	if e.Shield != nil {
		shield = shield.with(e.Shield())
	}
	a := &Agent{shield: shield, config: c, edges: e, state: state, inbox: newInbox(), journal: newJournal(c.Logger)}
	a.renewer = renew.New(renew.Config{Every: c.Renew, Clock: e.Clock, Datagrams: e.Datagrams, Wake: a.inbox.signal, Fence: shield.report})
	a.status.Store(&Status{Host: c.Host, At: e.Clock.Now()})
	a.holds.Store(&map[netip.Addr]bool{})
	return a, nil
}

func (c Config) check() error {
	switch {
	case c.Host == "":
		return errors.New("open agent: no host name")
	case c.TTL < 200*time.Millisecond:
		return fmt.Errorf("open agent: ttl %v is shorter than 200ms", c.TTL)
	case c.Renew < 0 || c.Renew > c.TTL/3:
		return fmt.Errorf("open agent: renew %v is longer than a third of ttl %v", c.Renew, c.TTL)
	case c.StateDir == "":
		return errors.New("open agent: no state directory")
	case c.BootID == "":
		return errors.New("open agent: no boot id")
	}
	return nil
}

// Close frees the lock of an agent that was never run.
func (a *Agent) Close() error {
	a.shield.close()
	return a.state.close()
}

// Run holds VIPs until ctx ends. Then it takes them all down, confirms that,
// closes the session within a second and returns nil; or ErrStillUp, wrapped,
// if an address could not be taken down. What the agent needs from its edges
// must go on working until Run returns, not only until ctx ends. The lock is
// freed at the end. An agent runs once.
func (a *Agent) Run(ctx context.Context) error {
	defer func() { _ = a.Close() }()
	// The helpers outlive ctx: the lease is renewed until all is down.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { a.journal.run(work) })
	wg.Go(func() { a.renewer.Run(work) })
	wg.Go(func() { a.takeViews(work) })
	o := newOwner(a, work, &wg)
	err := o.run(ctx)
	stop()
	wg.Wait()
	return err
}

// takeViews hands each view to the owner, and what it says of the Raft
// configuration to the renewer.
func (a *Agent) takeViews(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case v := <-a.edges.Views.Views():
			if v == nil {
				return
			}
			a.renewer.Told(v.GetCoordinator(), v.GetConfiguration())
			a.inbox.putView(v, a.edges.Clock.Now())
		}
	}
}

// Datagram takes in an answer to a renewal. b is copied. Anything else is
// ignored; under a flood answers are lost, as on a wire.
func (a *Agent) Datagram(b []byte) { a.renewer.Datagram(b) }

// SetConditions replaces what the health checks say of each set. The key ""
// stands for every set that is not named.
func (a *Agent) SetConditions(c map[string]Condition) { a.inbox.putConditions(c) }

// AddressesChanged says that the addresses or interfaces of this host may have
// changed.
func (a *Agent) AddressesChanged() { a.inbox.putLook() }

// LinkUp says that an interface can pass packets again.
func (a *Agent) LinkUp(iface string) { a.inbox.putLink(iface) }

// Claimed says that another host has claimed an address on the wire; by tells
// who, for the log.
func (a *Agent) Claimed(address netip.Addr, by string) { a.inbox.putClaim(address, by) }

// Healed says that a node that could not be reached can be reached again, so
// that neighbours there may have missed announcements.
func (a *Agent) Healed() { a.inbox.putHealed() }

// Holds says whether the address is up under a grant. It waits for nothing.
func (a *Agent) Holds(address netip.Addr) bool { return (*a.holds.Load())[address] }

// Status returns the agent's newest status, which must not be changed.
func (a *Agent) Status() *Status { return a.status.Load() }

// Status is what an agent is doing, at one moment.
type Status struct {
	Host string
	// At is when the owner was last done with all that it had to do; it does
	// something at least once a second.
	At       lease.Time
	Session  uint64     // 0 = none
	Deadline lease.Time // until when it may act; 0 = never proven
	Fenced   bool       // some coordinator has marked the session
	Index    uint64     // of the view acted upon
	Holds    []Holding  // by set
	// Restored counts addresses that somebody else had removed, Lapses how
	// often the session lapsed, Dropped log lines that were lost because the
	// log blocked.
	Restored, Lapses, Dropped uint64
}

// Holding is a set whose addresses this host holds.
type Holding struct {
	Set       string
	Session   uint64
	Epoch     uint64
	Addresses int
}
