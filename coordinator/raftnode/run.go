package raftnode

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// shutdownLimit bounds how long Run waits for a disk or a peer at its end.
const shutdownLimit = 5 * time.Second

// instance is one raft.Raft over the node's stores. When a leader's disk has
// hung, or Raft has got stuck, the node ends the instance and builds another
// one from what is on disk, as after a crash.
type instance struct {
	node      *Node
	raft      *raft.Raft
	ready     atomic.Bool // raft is set
	transport *transport
	layer     *streamLayer

	endOnce sync.Once
	down    chan struct{} // closed when none of Raft's goroutines is left

	breakOnce sync.Once
	broken    chan struct{}
	cause     error      // set before broken is closed
	pending   *lateWrite // a write that has not returned yet, or nil
}

// lateWrite is a write that has taken longer than its limit.
type lateWrite struct {
	done chan struct{} // closed when it has returned
	err  error         // set before that
}

// Run takes part in the cluster until ctx ends (nil), the node is removed
// (ErrRemoved) or a fault stops it. A leader hands over first. At the end the
// stores and the listener are closed; a process whose disk hangs keeps its lock
// until it exits, and Run says so.
func (n *Node) Run(ctx context.Context) error {
	if !n.started.CompareAndSwap(false, true) {
		return errors.New("run node: it has been run already")
	}
	var acceptor sync.WaitGroup
	acceptor.Go(n.accept)
	err := n.supervise(ctx)
	n.cfg.Listener.Close()
	acceptor.Wait()
	return err
}

// accept hands connections to the instance that runs, if any.
func (n *Node) accept() {
	for {
		c, err := n.cfg.Listener.Accept()
		if err != nil {
			if isClosed(err) {
				return
			}
			n.cfg.Logger.Warn("accept raft connection", "error", err)
			continue
		}
		if in := n.current.Load(); in != nil {
			in.layer.deliver(c)
		} else {
			c.Close()
		}
	}
}

func (n *Node) supervise(ctx context.Context) error {
	for {
		in, err := n.start()
		if err != nil {
			n.fail(err)
			return n.finish(nil)
		}
		select {
		case <-ctx.Done():
			n.handOver(in)
			return n.finish(in)
		case <-n.failed:
			return n.finish(in)
		case <-in.broken:
		}
		n.current.Store(nil)
		n.stalled.Store(true)
		n.cfg.Logger.Error("raft stopped leading and starts again from disk", "cause", in.cause)
		if !n.settle(ctx, in) {
			return n.finish(in)
		}
		if err := n.stores.scan(n.configurations); err != nil {
			n.fail(err)
			return n.finish(in)
		}
		n.stalled.Store(false)
		n.cfg.Logger.Info("raft starts again")
	}
}

// settle waits until nothing of a broken instance can touch the stores any
// more. A write that came late is then part of the log, like one from before a
// crash: nobody has counted it, and Raft reads it anew. It must have ended
// before any other write: behind newer entries it could make this node forget
// one that it has acknowledged.
func (n *Node) settle(ctx context.Context, in *instance) bool {
	in.end()
	if in.pending != nil {
		select {
		case <-in.pending.done:
			if err := in.pending.err; err != nil {
				// What a failed write has left on disk is unknown.
				n.fail(fmt.Errorf("write log: %w", err))
				return false
			}
		case <-ctx.Done():
			return false
		case <-n.failed:
			return false
		}
	}
	select {
	case <-in.down:
	case <-ctx.Done():
		return false
	case <-n.failed:
		return false
	}
	select {
	case <-n.failed:
		return false
	default:
		return true
	}
}

// finish ends the last instance and frees the directory.
func (n *Node) finish(in *instance) error {
	n.stalled.Store(false)
	n.current.Store(nil)
	if in != nil {
		in.end()
		limit := time.NewTimer(shutdownLimit)
		defer limit.Stop()
		// In this order: a write may turn out to be late while Raft ends.
		for _, wait := range []func() <-chan struct{}{in.ended, in.written} {
			select {
			case <-wait():
			case <-limit.C:
				n.fail(errors.New("stop raft: the disk does not answer; the directory stays locked until the process ends"))
				return n.failure
			}
		}
	}
	n.Close()
	select {
	case <-n.failed:
		return n.failure
	default:
		return nil
	}
}

// ended is closed when none of Raft's goroutines is left.
func (in *instance) ended() <-chan struct{} { return in.down }

// written is closed when no late write of the instance is under way.
func (in *instance) written() <-chan struct{} {
	select {
	case <-in.broken:
		if in.pending != nil {
			return in.pending.done
		}
	default:
	}
	done := make(chan struct{})
	close(done)
	return done
}

// start builds an instance over the stores. NewRaft runs on a goroutine of its
// own, because the store wrappers end a goroutine that would go on without its disk.
func (n *Node) start() (*instance, error) {
	in := &instance{node: n, down: make(chan struct{}), broken: make(chan struct{})}
	in.layer = newStreamLayer(n.cfg)
	in.transport = newTransport(n.cfg, in.layer)
	notify := make(chan bool, 8)
	conf := n.cfg.raft()
	conf.NotifyCh = notify
	ahead, err := n.ahead()
	if err != nil {
		return nil, err
	}
	conf.NoSnapshotRestoreOnStart = ahead
	built := make(chan error, 1)
	go func() {
		err := errors.New("start raft: the store gave up")
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("start raft: %v", r)
			}
			built <- err
		}()
		in.raft, err = raft.NewRaft(conf, n.machine,
			&logStore{n.stores.log, in}, &stableStore{n.stores.bolt, in},
			&snapshotStore{n.stores.snapshots, n.configurations}, in.transport)
	}()
	if err := <-built; err != nil {
		in.transport.Close()
		select {
		case <-n.failed:
			return nil, n.failure
		default:
			return nil, fmt.Errorf("start raft: %w", err)
		}
	}
	in.ready.Store(true)
	go in.watch(notify)
	n.current.Store(in)
	return in, nil
}

// ahead tells whether the Machine has all that the newest snapshot holds, so
// that an instance that starts again need not restore it.
func (n *Node) ahead() (bool, error) {
	list, err := n.stores.snapshots.List()
	if err != nil {
		return false, fmt.Errorf("list snapshots: %w", err)
	}
	return len(list) > 0 && n.machine.applied.Load() >= list[0].Index, nil
}

// watch drains Raft's notifications, always: Raft waits for that.
func (in *instance) watch(notify <-chan bool) {
	for {
		select {
		case v := <-notify:
			in.node.leading.set(v)
		case <-in.down:
			in.node.leading.set(false)
			return
		}
	}
}

func (in *instance) leads() bool {
	return in.ready.Load() && in.raft.State() == raft.Leader
}

// end stops Raft without waiting; down tells when that is done.
func (in *instance) end() {
	in.endOnce.Do(func() {
		stopped := in.raft.Shutdown()
		in.transport.Close()
		go func() {
			stopped.Error()
			close(in.down)
		}()
	})
}

// breakDown ends an instance that must not go on, from wherever that shows.
// After a failed write Raft's memory and disk differ (its last index, and a
// configuration that it takes for appended), so it is stopped before it can act
// on either: its main loop looks for the shutdown before anything else.
func (in *instance) breakDown(cause error, pending *lateWrite) {
	in.breakOnce.Do(func() {
		in.cause, in.pending = cause, pending
		in.end()
		close(in.broken)
	})
}

// handOver gives leadership away before a planned stop, so that the others need
// not find out.
func (n *Node) handOver(in *instance) {
	voters := 0
	for _, s := range n.Configuration().Servers {
		if s.Voter {
			voters++
		}
	}
	if !in.leads() || voters < 2 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*n.cfg.Election)
	defer cancel()
	if err := n.TransferLeadership(ctx, ""); err != nil {
		n.cfg.Logger.Warn("stop without handing leadership over", "error", err)
	}
}
