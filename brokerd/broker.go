package brokerd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/brokerd/commitlog"
	"holdfast/brokerd/pop"
	"holdfast/coordinator/renew"
)

// Config of a [Broker]. Name, Group, TTL and the addresses are required.
type Config struct {
	Name, Group string
	TTL         time.Duration // of sessions
	Renew       time.Duration // interval of rounds; 0 = TTL/6
	Clients     string        // host:port that clients are told
	Replication string        // host:port that other brokers are told
	Lag         time.Duration // a member of the in-sync set that is behind for longer is taken out
	Log         commitlog.Options
	Retention   Retention
	Limits      pop.Limits
	Topics      int          // queues per group of a topic that a producer's message creates; 0 = none does
	Logger      *slog.Logger // nil discards
}

// Retention is when segments are deleted.
type Retention struct {
	Age   time.Duration // 0 = never
	Bytes uint64        // 0 = never
}

// Edges is all that a broker touches outside of itself and its directory.
type Edges struct {
	Sessions  Sessions
	Groups    Groups
	Reports   Reports
	Peers     Peers
	Datagrams renew.Datagrams
	Clock     Clock
}

// Errors that callers distinguish.
var (
	// ErrStuck: the disk did not answer for too long.
	ErrStuck = errors.New("the disk does not answer")
	// ErrForeign: the directory has another broker's log, or another group's.
	ErrForeign = errors.New("the directory belongs to another broker or group")
)

// Broker is one replica of a broker group. Make one with [New], feed it, and let
// [Broker.Run] work. Its methods may be called from any goroutine.
type Broker struct {
	config Config
	edges  Edges
	log    *slog.Logger
	disk   *disk

	tasks    chan func(*owner) // requests of clients
	messages chan message
	wake     chan struct{} // one slot: the renewer has something new

	published atomic.Pointer[published]
	status    atomic.Pointer[Status]
	keeper    *keeper
	cluster   *Cluster
	turning   atomic.Int64 // when the owner's turn began, CLOCK_BOOTTIME; 0 = it waits
	running   chan struct{}
}

// published is what readers may know without asking the owner.
type published struct {
	readable uint64 // as the owner saw it last
	leads    bool   // then the lease must be asked too
	session  *held
}

// message is one of another replica.
type message struct {
	from           string
	message, bytes []byte
	broken         bool // the stream to it has ended
}

// tasksWaiting bounds what clients may have asked for and the owner has not begun.
const tasksWaiting = 4096

// New opens the log in a directory and recovers it. Nobody else may use the directory:
// the caller holds its lock. New starts nothing.
func New(c Config, e Edges, dir commitlog.FS) (*Broker, error) {
	if c.Renew == 0 {
		c.Renew = c.TTL / 6
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Broker{
		config: c, edges: e, log: c.Logger,
		tasks: make(chan func(*owner), tasksWaiting), messages: make(chan message, 256), wake: make(chan struct{}, 1),
		running: make(chan struct{}),
	}
	b.keeper = newKeeper(c, e, b.signal)
	b.cluster = newCluster(c, e, b.keeper)
	b.published.Store(&published{})
	b.status.Store(&Status{Broker: c.Name, Group: c.Group, Role: RoleStarting})
	var err error
	if b.disk, err = openDisk(c, dir); err != nil {
		return nil, fmt.Errorf("open broker: %w", err)
	}
	return b, nil
}

// Close frees what New has opened, if Run was never called.
func (b *Broker) Close() error { return b.disk.close() }

func (b *Broker) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Datagram takes in an answer to a renewal. b is copied; anything else is ignored.
func (b *Broker) Datagram(data []byte) { b.keeper.renewer.Datagram(data) }

// Deliver takes in a message of another replica of the group, and the records that it
// brings. It waits while the owner is busy: that is what slows a master down.
func (b *Broker) Deliver(from string, msg, records []byte) {
	select {
	case b.messages <- message{from: from, message: msg, bytes: records}:
	case <-b.running:
	}
}

// Broken says that the stream to another replica has ended: what was on its way may be
// lost.
func (b *Broker) Broken(to string) {
	select {
	case b.messages <- message{from: to, broken: true}:
	case <-b.running:
	}
}

// Run is the replica until ctx ends. Then it gives its grant up, closes its session and
// the log, and returns nil. An error says why it cannot go on; the log is closed then,
// too. What it needs from its edges must work until Run returns. A Broker runs once.
func (b *Broker) Run(ctx context.Context) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer close(b.running)
	var wg sync.WaitGroup
	failed := make(chan error, 2)
	wg.Go(func() { b.keeper.renewer.Run(work) })
	wg.Go(func() {
		if err := b.disk.log.Run(work); err != nil && work.Err() == nil {
			failed <- fmt.Errorf("write log: %w", err)
		}
	})
	hung := make(chan error, 1)
	wg.Go(func() { b.watchdog(work, hung) })
	wg.Go(func() { b.report(work) })
	o := newOwner(b, work)
	ended := make(chan error, 1)
	go func() { ended <- o.run(ctx, failed) }()
	var err error
	select {
	case err = <-ended:
	case err := <-hung:
		return err // nothing that touches the disk comes back: the process has to end
	}
	stop()
	wg.Wait()
	b.keeper.opening.Wait()
	return errors.Join(err, b.disk.close())
}

// stuck is how long the owner's turn may take. A disk that takes longer must not keep
// the lease.
const (
	stuck      = 3 * time.Second
	stuckTicks = 10 // of the watchdog
)

// watchdog fails the broker when the owner's turn does not end. It stands for the
// owner, which cannot say so itself. It counts its own ticks: a process that was stopped
// has had none.
func (b *Broker) watchdog(ctx context.Context, hung chan<- error) {
	tick := time.NewTicker(stuck / stuckTicks)
	defer tick.Stop()
	for seen, n := int64(0), 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		began := b.turning.Load()
		if began == 0 || began != seen {
			seen, n = began, 0
		}
		if n >= stuckTicks {
			hung <- fmt.Errorf("%w for %v", ErrStuck, stuck)
			return
		}
	}
}

// Cluster is the cluster as this broker knows it, for the endpoints of clients.
func (b *Broker) Cluster() *Cluster { return b.cluster }
