package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/client"
	"holdfast/coordinator/gossip"
	"holdfast/coordinator/lease"
	"holdfast/test/lab"
)

// The bench starts itself again in a client's namespace to play the agents.
const (
	roleVariable = "HOLDFAST_BENCH_ROLE"
	roleCrowd    = "crowd"
)

// crowdConfig says whom to play and for how long.
type crowdConfig struct {
	Host          netip.Addr // own address
	Seeds         []string
	Key           string // base64
	Agents        int
	TTL           time.Duration
	Warm, Measure time.Duration
}

// crowdResult is what was measured; times in milliseconds.
type crowdResult struct {
	Sent, Answered, Lapsed                int
	AnswerP50, AnswerP99, AnswerMax       float64
	MajorityP50, MajorityP99, MajorityMax float64
	usages                                []namedUsage
}

func crowdMain(args []string) int {
	var config crowdConfig
	err := json.Unmarshal([]byte(args[0]), &config)
	if err == nil {
		err = playCrowd(context.Background(), config)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "crowd:", err)
		return 1
	}
	return 0
}

// crowd is many agents with one gossip node. Every agent has a session of its
// own, watches every coordinator, and renews like the real one.
type crowd struct {
	config crowdConfig
	gossip *gossip.Gossip

	mu            sync.Mutex
	agents        []*played
	bySession     map[uint64]*played
	configuration lease.Configuration
	measuring     bool
	result        crowdResult
	answers       []float64
	majorities    []float64
}

// played is one agent.
type played struct {
	name     string
	session  lease.Session
	holder   *lease.Holder
	round    lease.Round
	sent     lease.Time
	answered int // of the newest round
}

func playCrowd(ctx context.Context, config crowdConfig) error {
	key, err := base64.StdEncoding.DecodeString(config.Key)
	if err != nil {
		return fmt.Errorf("read key: %w", err)
	}
	c := &crowd{config: config, bySession: make(map[uint64]*played)}
	c.gossip, err = gossip.New(gossip.Config{
		Role: gossip.RoleAgent, Host: "crowd", Bind: netip.AddrPortFrom(config.Host, 7953).String(),
		Seeds: config.Seeds, Keys: [][]byte{key}, OnDatagram: func(_ string, b []byte) { c.answer(b) },
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.gossip.Run(ctx) })
	group.Go(func() error {
		defer cancel()
		return c.play(ctx, group)
	})
	return group.Wait()
}

// play opens the sessions, renews for the time of the measurement and prints
// the result.
func (c *crowd) play(ctx context.Context, group *errgroup.Group) error {
	select {
	case <-c.gossip.Ready():
	case <-ctx.Done():
		return ctx.Err()
	}
	opening, opened := errgroup.WithContext(ctx)
	opening.SetLimit(16)
	for i := range c.config.Agents {
		opening.Go(func() error { return c.open(opened, ctx, group, fmt.Sprintf("sim%03d", i)) })
	}
	renewing := make(chan error, 1)
	go func() { renewing <- c.renew(ctx) }()
	if err := opening.Wait(); err != nil {
		return err
	}
	if err := pause(ctx, c.config.Warm); err != nil {
		return err
	}
	fmt.Println(`{"Phase": "all sessions are open and renewed"}`)
	c.setMeasuring(true)
	if err := pause(ctx, c.config.Measure); err != nil {
		return err
	}
	c.setMeasuring(false)
	return json.NewEncoder(os.Stdout).Encode(c.summary())
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// open opens one agent's session and keeps its watches.
func (c *crowd) open(ctx, running context.Context, group *errgroup.Group, name string) error {
	sessions := client.NewSessions(client.SessionsConfig{Host: name, Coordinators: c.coordinators})
	group.Go(func() error { return sessions.Run(running) })
	group.Go(func() error {
		for {
			select {
			case <-running.Done():
				return nil
			case v := <-sessions.Views():
				c.told(v.GetConfiguration())
			}
		}
	})
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails
	reply, err := sessions.Open(ctx, &pb.OpenRequest{Host: name, TtlMs: c.config.TTL.Milliseconds(), Secret: secret[:]})
	if err != nil {
		return fmt.Errorf("open session of %s: %w", name, err)
	}
	p := &played{name: name, session: lease.Session{ID: reply.GetSession(), TTL: c.config.TTL, Secret: secret}}
	p.holder = lease.NewHolder(p.session, uint64(lab.Now()))
	c.mu.Lock()
	defer c.mu.Unlock()
	p.holder.SetConfiguration(c.configuration)
	c.agents = append(c.agents, p)
	c.bySession[p.session.ID] = p
	return nil
}

func (c *crowd) coordinators() []client.Coordinator {
	var list []client.Coordinator
	for _, n := range c.gossip.Nodes() {
		if n.Role == gossip.RoleCoordinator && n.API != "" {
			list = append(list, client.Coordinator{Name: n.Host, API: n.API})
		}
	}
	return list
}

// told takes in the configuration of a view.
func (c *crowd) told(conf *pb.Configuration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conf.GetIndex() <= c.configuration.Index {
		return
	}
	c.configuration = lease.Configuration{Index: conf.GetIndex()}
	for _, m := range conf.GetMembers() {
		if m.GetVoter() {
			c.configuration.Voters = append(c.configuration.Voters, m.GetName())
		}
	}
	slices.Sort(c.configuration.Voters)
	for _, p := range c.agents {
		p.holder.SetConfiguration(c.configuration)
	}
}

// renew sends the rounds of all agents, spread evenly over the interval.
func (c *crowd) renew(ctx context.Context) error {
	every := c.config.TTL / 6
	next := time.Now()
	for i := 0; ctx.Err() == nil; i++ {
		next = next.Add(every / time.Duration(c.config.Agents))
		if wait := time.Until(next); wait > 0 {
			if err := pause(ctx, wait); err != nil {
				return nil
			}
		}
		c.mu.Lock()
		if len(c.agents) > 0 && i%c.config.Agents < len(c.agents) {
			c.sendRound(c.agents[i%c.config.Agents])
		}
		c.mu.Unlock()
	}
	return nil
}

// sendRound sends one round of an agent. c.mu is held.
func (c *crowd) sendRound(p *played) {
	now := lease.Time(lab.Now())
	if c.measuring && p.holder.Lapsed(now) {
		c.result.Lapsed++
	}
	p.sent, p.answered = now, 0
	p.round = p.holder.Begin(now)
	r := lease.Renewal{Session: p.session.ID, Round: p.round, Configuration: c.configuration.Index}
	for _, name := range c.configuration.Voters {
		if c.gossip.Send(gossip.RoleCoordinator+"/"+name, r.Marshal(&p.session.Secret)) == nil && c.measuring {
			c.result.Sent++
		}
	}
}

// answer takes in one answer.
func (c *crowd) answer(b []byte) {
	now := lease.Time(lab.Now())
	u, err := lease.ParseAnswer(b)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.bySession[u.Session]
	if !ok {
		return
	}
	a, err := u.Verify(&p.session.Secret)
	if err != nil {
		return
	}
	p.holder.Answer(a)
	if !c.measuring || a.Round != p.round {
		return
	}
	took := millis(now.Sub(p.sent))
	c.result.Answered++
	c.answers = append(c.answers, took)
	if p.answered++; p.answered == len(c.configuration.Voters)/2+1 {
		c.majorities = append(c.majorities, took)
	}
}

func (c *crowd) setMeasuring(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.measuring = on
}

func (c *crowd) summary() crowdResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.result
	r.AnswerP50, r.AnswerP99, r.AnswerMax = quantile(c.answers, 0.5), quantile(c.answers, 0.99), quantile(c.answers, 1)
	r.MajorityP50, r.MajorityP99, r.MajorityMax = quantile(c.majorities, 0.5), quantile(c.majorities, 0.99), quantile(c.majorities, 1)
	return r
}
