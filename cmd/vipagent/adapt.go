package main

import (
	"context"
	"maps"
	"net/netip"
	"sync"

	"holdfast/coordinator/client"
	"holdfast/coordinator/gossip"
	"holdfast/coordinator/lease"
	"holdfast/vipagent"
	"holdfast/vipagent/health"
	"holdfast/vipagent/linux"
)

// links is the kernel as the agent sees its interfaces.
type links struct{ *linux.Kernel }

func (l links) Interfaces() ([]string, error) {
	all, err := l.Kernel.Interfaces()
	if err != nil {
		return nil, err
	}
	names := make([]string, len(all))
	for i, x := range all {
		names[i] = x.Name
	}
	return names, nil
}

// clock is CLOCK_BOOTTIME.
type clock struct{}

func (clock) Now() lease.Time                                    { return linux.Boottime() }
func (clock) SleepUntil(ctx context.Context, t lease.Time) error { return linux.SleepUntil(ctx, t) }

// datagrams sends through gossip, where a coordinator's name has its role in
// front.
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

// returns tells when a node that gossip thought dead is back.
type returns struct {
	mu    sync.Mutex
	alive map[string]bool
}

func (r *returns) look(nodes []gossip.Node) (back bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.alive == nil {
		r.alive = make(map[string]bool)
	}
	for _, n := range nodes {
		was, known := r.alive[n.Name]
		back = back || known && !was && n.Alive
		r.alive[n.Name] = n.Alive
	}
	return back
}

// conditions keeps what the health checks say and passes all of it on.
type conditions struct {
	agent *vipagent.Agent
	now   map[string]vipagent.Condition
}

func (c *conditions) set(set string, x health.Condition) {
	if c.now == nil {
		c.now = make(map[string]vipagent.Condition)
	}
	c.now[set] = vipagent.Condition{Weight: x.Weight, Veto: x.Veto, Reason: x.Reason, Pending: x.Pending}
	c.agent.SetConditions(maps.Clone(c.now))
}

// kernelEvent tells the agent and the checks what the kernel reports.
func kernelEvent(a *vipagent.Agent, checks *health.Runner, e linux.Event) {
	switch e.Kind {
	case linux.LinkUp:
		a.LinkUp(e.Interface)
		checks.LinkChanged(e.Interface)
	case linux.LinkDown, linux.LinkGone:
		a.AddressesChanged()
		checks.LinkChanged(e.Interface)
	case linux.AddressAppeared:
		if !e.Address.Ours { // ours are the agent's own doing
			a.AddressesChanged()
		}
	case linux.AddressGone:
		if !e.Address.Ours || a.Holds(e.Address.IP()) {
			a.AddressesChanged()
		}
	case linux.Resynced:
		a.AddressesChanged()
	}
}

// reach is what gateway checks ask with.
func reach(k *linux.Kernel) func(context.Context, netip.Addr, string) error {
	return func(ctx context.Context, address netip.Addr, iface string) error {
		if iface == "" {
			found, err := k.InterfaceFor(netip.PrefixFrom(address, address.BitLen()))
			if err != nil {
				return err
			}
			iface = found
		}
		return linux.Reachable(ctx, iface, address)
	}
}
