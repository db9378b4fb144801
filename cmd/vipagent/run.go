package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/cmd/internal/daemon"
	"holdfast/coordinator/client"
	"holdfast/coordinator/gossip"
	"holdfast/vipagent"
	"holdfast/vipagent/health"
	"holdfast/vipagent/linux"
)

// process is one agent with its adapters.
type process struct {
	log      *slog.Logger
	notify   *daemon.Notifier
	kernel   *linux.Kernel
	gossip   *gossip.Gossip
	sessions *client.Sessions
	checks   *health.Runner
	agent    *vipagent.Agent
	adverts  *adverts
	sets     []string // that checks name, and "" for all others
	returns  returns
}

func run(ctx context.Context, cfg daemon.Agent, p *daemon.Process) error {
	proc := &process{log: p.Logger, notify: p.Notify, sets: namedSets(cfg.Checks)}
	defer proc.close()
	if err := proc.open(cfg, p.Version); err != nil {
		return err
	}
	return proc.run(ctx)
}

func (p *process) open(cfg daemon.Agent, version string) error {
	boot, err := linux.BootID()
	if err != nil {
		return err
	}
	if p.kernel, err = linux.Open(linux.Config{Logger: p.log}); err != nil {
		return fmt.Errorf("open kernel: %w", err)
	}
	if p.checks, err = health.New(cfg.Checks, p.log, health.Deps{Reach: reach(p.kernel)}); err != nil {
		return err
	}
	p.gossip, err = gossip.New(gossip.Config{
		Role: gossip.RoleAgent, Host: cfg.Host, Bind: cfg.GossipAddr().String(), Advertise: cfg.AdvertiseGossip().String(),
		Seeds: cfg.Seeds, Keys: cfg.Gossip.Raw(), Meta: gossip.Meta{Version: version}, Logger: p.log,
		// Neither is called before run starts the gossip, when all is built.
		OnDatagram: func(_ string, b []byte) { p.agent.Datagram(b) },
		OnChange: func() {
			p.shareServers(cfg.StateDir)
			if p.returns.look(p.gossip.Nodes()) {
				p.agent.Healed()
			}
		},
	})
	if err != nil {
		return err
	}
	p.sessions = client.NewSessions(client.SessionsConfig{
		Host: cfg.Host, Coordinators: func() []client.Coordinator { return coordinators(p.gossip) }, Logger: p.log,
	})
	p.adverts = newAdverts(p.kernel, p.log, func(x vipagent.Advert) { p.agent.Advertised(x) })
	p.agent, err = vipagent.Open(vipagent.Config{
		Host: cfg.Host, TTL: cfg.TTL, Renew: cfg.Renew, StateDir: cfg.StateDir, BootID: boot,
		RepeatAfter: cfg.Announce.RepeatAfter, Refresh: cfg.Announce.Refresh, Interfaces: cfg.Interfaces, Logger: p.log,
	}, vipagent.Edges{
		Kernel: p.kernel, Shield: shield(cfg, p.kernel, p.log), Links: links{p.kernel},
		Sessions: p.sessions, Grants: p.sessions, Views: p.sessions, Datagrams: datagrams{p.gossip}, Clock: clock{},
		Adverts: p.adverts,
	})
	if errors.Is(err, vipagent.ErrLocked) {
		return daemon.Final(err)
	}
	return err
}

// shareServers tells coordctl on this host where the coordinators are.
func (p *process) shareServers(stateDir string) {
	var addresses []string
	for _, c := range coordinators(p.gossip) {
		addresses = append(addresses, c.API)
	}
	if err := daemon.WriteServers(stateDir, addresses); err != nil {
		p.log.Warn("coordctl on this host has to be told where the coordinators are", "err", err)
	}
}

// close frees what open has taken; the agent's lock only if it never ran.
func (p *process) close() {
	if p.agent != nil {
		_ = p.agent.Close()
	}
	if p.gossip != nil {
		_ = p.gossip.Close()
	}
	if p.kernel != nil {
		_ = p.kernel.Close()
	}
}

// run lets the agent end first: until it has taken its addresses down and said
// so, all that it does this with goes on.
func (p *process) run(ctx context.Context) error {
	helpers, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, helpers := errgroup.WithContext(helpers)
	agent, stopAgent := context.WithCancel(ctx)
	defer stopAgent()
	defer context.AfterFunc(helpers, stopAgent)() // a helper has failed

	health := &conditions{agent: p.agent}
	for _, set := range p.sets {
		health.set(set, p.checks.Condition(set))
	}
	g.Go(func() error { return p.gossip.Run(helpers) })
	g.Go(func() error { return p.sessions.Run(helpers) })
	g.Go(func() error { return p.checks.Run(helpers, health.set) })
	g.Go(func() error {
		return p.keep(helpers, "watch addresses", func(ctx context.Context) error {
			return p.kernel.Watch(ctx, func(e linux.Event) { kernelEvent(p.agent, p.checks, e) })
		})
	})
	g.Go(func() error {
		return p.keep(helpers, "watch for foreign claims", func(ctx context.Context) error {
			return p.kernel.WatchClaims(ctx, p.agent.Holds, func(c linux.Claim) {
				p.agent.Claimed(c.Address, fmt.Sprintf("%s on %s (%s)", c.MAC, c.Interface, c.Kind))
			})
		})
	})
	g.Go(func() error { return p.adverts.run(helpers) })
	g.Go(func() error { return p.report(helpers) })
	g.Go(func() error {
		defer stop()
		return p.agent.Run(agent)
	})
	return g.Wait()
}

// namedSets returns the sets that checks name, and "" for all others.
func namedSets(checks []health.Check) []string {
	sets := []string{""}
	for _, c := range checks {
		sets = append(sets, c.Sets...)
	}
	slices.Sort(sets)
	return slices.Compact(sets)
}

// keepPause is the time between two tries of a watch that failed. Without it
// the agent still looks at its addresses every second.
const keepPause = time.Second

func (p *process) keep(ctx context.Context, what string, f func(context.Context) error) error {
	for {
		err := f(ctx)
		if ctx.Err() != nil {
			return nil
		}
		p.log.Warn("trying again", "what", what, "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(keepPause):
		}
	}
}

// freshWithin is how old the owner's last step may be for the agent to count
// as alive.
const freshWithin = 3 * time.Second

// report shows the service manager in one line how the agent does, and feeds
// its watchdog as long as the owner loop makes progress.
func (p *process) report(ctx context.Context) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	ready := false
	for {
		s := p.agent.Status()
		now := linux.Boottime()
		line := fmt.Sprintf("session %d, lease left %v, holds %d sets", s.Session, max(s.Deadline.Sub(now), 0).Round(time.Millisecond), len(s.Holds))
		if !ready && s.Session != 0 {
			ready = true
			p.notify.Ready(line)
		}
		p.notify.Status(line)
		if now.Sub(s.At) < freshWithin {
			p.notify.Alive()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
