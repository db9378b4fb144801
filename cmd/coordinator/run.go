package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"holdfast/cmd/internal/daemon"
	"holdfast/coordinator"
	"holdfast/coordinator/api"
	"holdfast/coordinator/api/dial"
	"holdfast/coordinator/gossip"
	"holdfast/coordinator/lease"
	"holdfast/coordinator/raftnode"
	"holdfast/vipagent/linux"
)

// process is one coordinator with its adapters.
type process struct {
	cfg    daemon.Coordinator
	log    *slog.Logger
	notify *daemon.Notifier

	bridge *bridge
	node   *raftnode.Node
	gossip *gossip.Gossip
	peers  *api.Peers
	server *grpc.Server
	listen net.Listener
}

func run(ctx context.Context, cfg daemon.Coordinator, p *daemon.Process) error {
	proc, err := build(cfg, p)
	if err != nil {
		return err
	}
	defer proc.peers.Close()
	return proc.run(ctx)
}

// build opens everything in the order that safety asks for: the data
// directory's lock first, then what is read from it, then the coordinator,
// whose quiet time begins there.
func build(cfg daemon.Coordinator, p *daemon.Process) (*process, error) {
	proc := &process{cfg: cfg, log: p.Logger, notify: p.Notify, bridge: &bridge{}}
	raftListener, err := net.Listen("tcp", cfg.RaftAddr().String())
	if err != nil {
		return nil, fmt.Errorf("listen for raft: %w", err)
	}
	proc.node, err = raftnode.Open(raftnode.Config{
		Name: cfg.Name, Dir: cfg.DataDir, Listener: raftListener, Advertise: cfg.AdvertiseRaft().String(),
		Heartbeat: cfg.Raft.Heartbeat, Election: cfg.Raft.Election, LeaderLease: cfg.Raft.LeaderLease,
		StoreTimeout: cfg.Raft.StoreTimeout, Logger: p.Logger,
		OnConfiguration: proc.bridge.configured, Machine: proc.bridge,
	})
	if err != nil {
		return nil, fmt.Errorf("open data directory %s: %w", cfg.DataDir, err)
	}
	store, err := raftnode.OpenLeaseStore(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("open data directory %s: %w", cfg.DataDir, err)
	}
	proc.gossip, err = gossip.New(gossip.Config{
		Role: gossip.RoleCoordinator, Host: cfg.Name, Bind: cfg.GossipAddr().String(), Advertise: cfg.AdvertiseGossip().String(),
		Seeds: cfg.Seeds, Keys: cfg.Gossip.Raw(), Logger: p.Logger,
		Meta: gossip.Meta{
			API: cfg.AdvertiseAPI().String(), Raft: cfg.AdvertiseRaft().String(), Store: proc.node.StoreID(), Version: p.Version,
		},
		OnDatagram: proc.bridge.datagram,
		OnChange:   proc.warm,
	})
	if err != nil {
		return nil, err
	}
	if proc.listen, err = net.Listen("tcp", cfg.APIAddr().String()); err != nil {
		return nil, fmt.Errorf("listen for api: %w", err)
	}
	datagrams := datagrams{proc.gossip}
	proc.peers = api.NewPeers(datagrams.apiAddress)
	log := &replicatedLog{node: proc.node}
	proc.bridge.start(coordinator.New(coordinator.Config{
		Name: cfg.Name, StoreID: proc.node.StoreID(), Version: p.Version,
		Params:   lease.Params{Rho: cfg.Lease.Rho, Margin: cfg.Lease.Margin},
		Boottime: linux.Boottime, Log: log, Members: log, Datagrams: datagrams, Peers: proc.peers,
		Store: store, Logger: p.Logger,
	}), log.Configuration())
	proc.server = grpc.NewServer(dial.ServerOptions()...)
	api.Register(proc.server, proc.bridge.coordinator(), proc.peers)
	return proc, nil
}

// warm connects to the other coordinators before a question has to be asked.
func (p *process) warm() {
	for _, e := range (datagrams{p.gossip}).Coordinators() {
		if e.Name != p.cfg.Name && e.Alive {
			p.peers.Warm(e.Name)
		}
	}
}

func (p *process) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	c := p.bridge.coordinator()
	g.Go(func() error { return p.gossip.Run(ctx) })
	g.Go(func() error { return p.serve(ctx) })
	g.Go(func() error { return c.Run(ctx) })
	g.Go(func() error { return p.replicate(ctx, c) })
	g.Go(func() error { return p.report(ctx, c) })
	return g.Wait()
}

// stopWithin bounds how long calls under way may take when the process ends;
// watches never end by themselves.
const stopWithin = 200 * time.Millisecond

func (p *process) serve(ctx context.Context) error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		hard := time.AfterFunc(stopWithin, p.server.Stop)
		defer hard.Stop()
		p.server.GracefulStop()
	}()
	err := p.server.Serve(p.listen)
	if ctx.Err() != nil {
		<-stopped
		return nil
	}
	return fmt.Errorf("serve api: %w", err)
}

// replicate founds a cluster, joins one or goes on with what the data
// directory holds, and then runs the log.
func (p *process) replicate(ctx context.Context, c *coordinator.Coordinator) error {
	defer p.node.Close()
	select {
	case <-ctx.Done():
		return nil
	case <-p.gossip.Ready():
	}
	if !p.node.HasState() {
		servers, err := c.Found(ctx, p.cfg.BootstrapExpect)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if servers != nil {
			p.log.Info("founding a cluster", "with", servers)
			if err := p.node.Bootstrap(fromServers(servers)); err != nil {
				return err
			}
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.KeepJoined(ctx, p.cfg.AdvertiseRaft().String()) })
	g.Go(func() error {
		err := p.node.Run(ctx)
		if errors.Is(err, raftnode.ErrRemoved) {
			return fmt.Errorf("%w: to join again, delete %s and start anew", err, p.cfg.DataDir)
		}
		return err
	})
	return g.Wait()
}

// report tells the service manager when this coordinator is of use, and shows
// in one line what it does.
func (p *process) report(ctx context.Context, c *coordinator.Coordinator) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	ready := false
	for {
		leader, line := c.Summary()
		if leader != "" && !ready {
			ready = true
			p.notify.Ready(line)
		}
		p.notify.Status(line)
		p.notify.Alive()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
