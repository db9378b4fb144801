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

	"holdfast/brokerd"
	"holdfast/brokerd/commitlog"
	"holdfast/brokerd/rmqgrpc"
	"holdfast/brokerd/stream"
	"holdfast/cmd/internal/daemon"
	"holdfast/coordinator/api/dial"
	"holdfast/coordinator/client"
	"holdfast/coordinator/gossip"
	"holdfast/coordinator/lease"
	"holdfast/vipagent/linux"
)

// process is one broker with its adapters.
type process struct {
	cfg    daemon.Broker
	log    *slog.Logger
	notify *daemon.Notifier

	dir      *commitlog.Dir
	gossip   *gossip.Gossip
	sessions *client.Sessions
	streams  *stream.Streams
	broker   *brokerd.Broker
	peers    net.Listener
	clients  *rmqgrpc.Server
}

func run(ctx context.Context, cfg daemon.Broker, p *daemon.Process) error {
	proc := &process{cfg: cfg, log: p.Logger, notify: p.Notify}
	defer proc.close()
	if err := proc.open(p.Version); err != nil {
		return err
	}
	return proc.run(ctx)
}

func (p *process) open(version string) (err error) {
	if p.dir, err = commitlog.OpenDir(p.cfg.DataDir); err != nil {
		return fmt.Errorf("open data directory %s: %w", p.cfg.DataDir, err)
	}
	p.gossip, err = gossip.New(gossip.Config{
		Role: gossip.RoleBroker, Host: p.cfg.Name, Bind: p.cfg.GossipAddr().String(), Advertise: p.cfg.AdvertiseGossip().String(),
		Seeds: p.cfg.Seeds, Keys: p.cfg.Gossip.Raw(), Meta: gossip.Meta{Version: version}, Logger: p.log,
		// Not called before run starts the gossip, when all is built.
		OnDatagram: func(_ string, b []byte) { p.broker.Datagram(b) },
		OnChange:   func() {},
	})
	if err != nil {
		return err
	}
	p.sessions = client.NewSessions(client.SessionsConfig{
		Broker: p.cfg.Name, Coordinators: func() []client.Coordinator { return coordinators(p.gossip) }, Logger: p.log,
	})
	p.streams = stream.New(stream.Config{
		Group: p.cfg.Group, Self: p.cfg.Name, Boot: uint64(linux.Boottime()), Logger: p.log,
		Deliver: func(from string, message, records []byte) { p.broker.Deliver(from, message, records) },
		Broken:  func(to string) { p.broker.Broken(to) },
	})
	p.broker, err = brokerd.New(p.config(), brokerd.Edges{
		Sessions: p.sessions, Groups: p.sessions, Reports: p.sessions, Peers: p.streams, Datagrams: datagrams{p.gossip}, Clock: clock{},
	}, p.dir)
	if errors.Is(err, brokerd.ErrForeign) {
		return daemon.Final(err)
	}
	if err != nil {
		return err
	}
	if p.peers, err = net.Listen("tcp", p.cfg.ReplicationAddr().String()); err != nil {
		return fmt.Errorf("listen for brokers: %w", err)
	}
	l, err := net.Listen("tcp", p.cfg.ClientsAddr().String())
	if err != nil {
		return fmt.Errorf("listen for clients: %w", err)
	}
	p.clients = rmqgrpc.New(rmqgrpc.Config{Broker: p.cfg.Name, Group: p.cfg.Group, Listener: l, Log: p.log}, p.broker, p.broker.Cluster())
	return nil
}

func (p *process) config() brokerd.Config {
	c := brokerd.Config{
		Name: p.cfg.Name, Group: p.cfg.Group, TTL: p.cfg.TTL, Renew: p.cfg.Renew, Lag: p.cfg.Replication.Lag,
		Clients: p.cfg.AdvertiseClients().String(), Replication: p.cfg.AdvertiseReplication().String(),
		Log: commitlog.Options{
			FlushInterval: p.cfg.Commitlog.Every, SegmentSize: int64(p.cfg.Commitlog.Segment), Space: p.dir.Space, MinFree: uint64(p.cfg.Retention.Free),
		},
		Retention: brokerd.Retention{Age: p.cfg.Retention.Age, Bytes: uint64(p.cfg.Retention.Size)},
		Logger:    p.log,
	}
	if p.cfg.Commitlog.Flush == "async" {
		c.Log.Flush = commitlog.FlushAsync
	}
	if p.cfg.Topics.Create {
		c.Topics = p.cfg.Topics.Queues
	}
	return c
}

func (p *process) close() {
	if p.gossip != nil {
		_ = p.gossip.Close()
	}
	if p.peers != nil {
		_ = p.peers.Close()
	}
	if p.dir != nil {
		_ = p.dir.Close()
	}
}

// run lets the replica end first: until its grant's end is seen, all that it does this
// with goes on.
func (p *process) run(ctx context.Context) error {
	helpers, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, helpers := errgroup.WithContext(helpers)
	replica, stopReplica := context.WithCancel(ctx)
	defer stopReplica()
	defer context.AfterFunc(helpers, stopReplica)() // a helper has failed

	g.Go(func() error { return p.gossip.Run(helpers) })
	g.Go(func() error { return p.sessions.Run(helpers) })
	g.Go(func() error { return p.streams.Run(helpers) })
	g.Go(func() error { return p.serve(helpers) })
	g.Go(func() error { return p.clients.Run(helpers) })
	g.Go(func() error { return p.report(helpers) })
	g.Go(func() error {
		defer stop()
		return p.broker.Run(replica)
	})
	return g.Wait()
}

// serve takes in what other brokers send.
func (p *process) serve(ctx context.Context) error {
	server := grpc.NewServer(append(dial.ServerOptions(), grpc.MaxRecvMsgSize(stream.MaxParcel))...)
	p.streams.Register(server)
	defer context.AfterFunc(ctx, server.Stop)()
	if err := server.Serve(p.peers); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve brokers: %w", err)
	}
	return nil
}

// report shows the service manager in one line how the replica does.
func (p *process) report(ctx context.Context) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	ready := false
	for {
		s := p.broker.Status()
		left := max(s.Deadline.Sub(linux.Boottime()), 0).Round(time.Millisecond)
		line := fmt.Sprintf("%s of group %s, epoch %d, log %d to %d, confirmed %d, lease left %v", s.Role, s.Group, s.Epoch, s.First, s.End, s.Confirm, left)
		if !ready && s.Session != 0 {
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

// clock is CLOCK_BOOTTIME, and the wall clock for what is stored.
type clock struct{}

func (clock) Now() lease.Time { return linux.Boottime() }
func (clock) Wall() int64     { return time.Now().UnixMilli() }

// datagrams sends through gossip, where a coordinator's name has its role in front.
type datagrams struct{ g *gossip.Gossip }

func (d datagrams) Send(coordinator string, b []byte) error {
	return d.g.Send(gossip.RoleCoordinator+"/"+coordinator, b)
}

// coordinators returns those that gossip knows.
func coordinators(g *gossip.Gossip) []client.Coordinator {
	var out []client.Coordinator
	for _, n := range g.Nodes() {
		if n.Role == gossip.RoleCoordinator && n.API != "" {
			out = append(out, client.Coordinator{Name: n.Host, API: n.API})
		}
	}
	return out
}
