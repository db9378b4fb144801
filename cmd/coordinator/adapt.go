package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"holdfast/coordinator"
	"holdfast/coordinator/gossip"
	"holdfast/coordinator/raftnode"
)

// bridge hands the log's and the gossip's calls to the coordinator, which is
// built last. Only a configuration can come before that; it is given at start.
type bridge struct {
	c atomic.Pointer[coordinator.Coordinator]
}

func (b *bridge) coordinator() *coordinator.Coordinator { return b.c.Load() }

func (b *bridge) start(c *coordinator.Coordinator, cfg coordinator.Configuration) {
	if cfg.Index > 0 {
		c.SetConfiguration(cfg)
	}
	b.c.Store(c)
}

func (b *bridge) configured(cfg raftnode.Configuration) {
	if c := b.c.Load(); c != nil {
		c.SetConfiguration(toConfiguration(cfg))
	}
}

func (b *bridge) datagram(from string, datagram []byte) {
	if c := b.c.Load(); c != nil {
		c.HandleDatagram(from, datagram)
	}
}

func (b *bridge) Apply(index uint64, data []byte) (any, error) {
	return b.c.Load().Machine().Apply(index, data)
}
func (b *bridge) Configured(index uint64)   { b.c.Load().Machine().Configured(index) }
func (b *bridge) Snapshot() ([]byte, error) { return b.c.Load().Machine().Snapshot() }
func (b *bridge) Persisted(index uint64)    { b.c.Load().Machine().Persisted(index) }
func (b *bridge) Restore(data []byte) error { return b.c.Load().Machine().Restore(data) }

// replicatedLog is a raftnode.Node as the coordinator sees it.
type replicatedLog struct {
	node     *raftnode.Node
	mu       sync.Mutex
	hasState bool // once true, always true; the question costs disk reads
}

func (l *replicatedLog) Propose(ctx context.Context, data []byte) (any, error) {
	out, err := l.node.Propose(ctx, data)
	return out, toError(err)
}

func (l *replicatedLog) Barrier(ctx context.Context) error { return toError(l.node.Barrier(ctx)) }
func (l *replicatedLog) Leading() <-chan bool              { return l.node.Leading() }

func (l *replicatedLog) Info() coordinator.LogInfo {
	i := l.node.State()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hasState = l.hasState || i.Last > 0 || l.node.HasState()
	return coordinator.LogInfo{
		Role: i.Role, Leader: i.Leader, Term: i.Term, Applied: i.Applied, Last: i.Last,
		LastContact: i.LastContact, HasState: l.hasState,
	}
}

func (l *replicatedLog) Configuration() coordinator.Configuration {
	return toConfiguration(l.node.Configuration())
}

func (l *replicatedLog) AddNonvoter(ctx context.Context, name, address string) error {
	return toError(l.node.AddNonvoter(ctx, raftnode.Server{Name: name, Address: address}))
}

func (l *replicatedLog) Promote(ctx context.Context, name string) error {
	return toError(l.node.Promote(ctx, name))
}

func (l *replicatedLog) Remove(ctx context.Context, name string) error {
	return toError(l.node.Remove(ctx, name))
}

func (l *replicatedLog) TransferLeadership(ctx context.Context, to string) error {
	return toError(l.node.TransferLeadership(ctx, to))
}

// toError turns the log's word for "somebody else leads" into the
// coordinator's.
func toError(err error) error {
	var notLeader *raftnode.NotLeaderError
	switch {
	case errors.As(err, &notLeader) && notLeader.Leader != "":
		return &coordinator.NotLeaderError{Leader: notLeader.Leader}
	case errors.Is(err, raftnode.ErrNotLeader), errors.Is(err, raftnode.ErrStopped):
		return coordinator.ErrNoLeader
	case errors.Is(err, raftnode.ErrUncertain) && !errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w (%w)", coordinator.ErrUncertain, err)
	}
	return err
}

func toConfiguration(cfg raftnode.Configuration) coordinator.Configuration {
	out := coordinator.Configuration{Index: cfg.Index, Previous: cfg.Previous}
	for _, s := range cfg.Servers {
		out.Servers = append(out.Servers, coordinator.Server{Name: s.Name, RaftAddress: s.Address, Voter: s.Voter})
	}
	return out
}

func fromServers(servers []coordinator.Server) []raftnode.Server {
	var out []raftnode.Server
	for _, s := range servers {
		out = append(out, raftnode.Server{Name: s.Name, Address: s.RaftAddress, Voter: s.Voter})
	}
	return out
}

// datagrams is the gossip as the coordinator sees it.
type datagrams struct{ g *gossip.Gossip }

func (d datagrams) Send(name string, datagram []byte) error { return d.g.Send(name, datagram) }

func (d datagrams) Coordinators() []coordinator.Endpoint {
	var out []coordinator.Endpoint
	for _, n := range d.g.Nodes() {
		if n.Role == gossip.RoleCoordinator {
			out = append(out, coordinator.Endpoint{
				Name: n.Host, API: n.API, Gossip: n.Gossip, Raft: n.Raft, Version: n.Version, Alive: n.Alive,
			})
		}
	}
	return out
}

func (d datagrams) apiAddress(name string) string {
	for _, e := range d.Coordinators() {
		if e.Name == name {
			return e.API
		}
	}
	return ""
}
