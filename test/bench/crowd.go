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
	sessions *client.Sessions
	opening  bool // has no session yet
	opened   lease.Time
	session  lease.Session
	holder   *lease.Holder
	round    lease.Round
	sent     lease.Time
	counts   bool // the newest round belongs to the measurement
	answered int  // of the newest round
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
	for i := range c.config.Agents {
		c.agents = append(c.agents, newPlayed(fmt.Sprintf("sim%03d", i), c.coordinators))
	}
	group.Go(func() error { return c.renew(ctx) })
	if err := c.openAll(ctx, group); err != nil {
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

// newPlayed makes an agent without a session.
func newPlayed(name string, coordinators func() []client.Coordinator) *played {
	sessions := client.NewSessions(client.SessionsConfig{Host: name, Coordinators: coordinators})
	return &played{name: name, opening: true, sessions: sessions}
}

// watch keeps an agent's watches.
func (c *crowd) watch(ctx context.Context, group *errgroup.Group, p *played) {
	group.Go(func() error { return p.sessions.Run(ctx) })
	group.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case v := <-p.sessions.Views():
				c.told(v.GetConfiguration())
			}
		}
	})
}

// openAll starts the agents, a few at a time: what is measured is many agents
// and not their start in one instant.
func (c *crowd) openAll(ctx context.Context, group *errgroup.Group) error {
	starting, opened := errgroup.WithContext(ctx)
	starting.SetLimit(4)
	for _, p := range c.agents {
		starting.Go(func() error {
			c.watch(ctx, group, p)
			return c.open(opened, p)
		})
	}
	return starting.Wait()
}

// open opens an agent's session. p.opening is set until it is open.
func (c *crowd) open(ctx context.Context, p *played) error {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails
	reply, err := p.sessions.Open(ctx, &pb.OpenRequest{Host: p.name, TtlMs: c.config.TTL.Milliseconds(), Secret: secret[:]})
	if err != nil {
		return fmt.Errorf("open session of %s: %w", p.name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.bySession, p.session.ID)
	p.session = lease.Session{ID: reply.GetSession(), TTL: c.config.TTL, Secret: secret}
	p.holder = lease.NewHolder(p.session, uint64(lab.Now()))
	p.holder.SetConfiguration(c.configuration)
	p.opened, p.opening = lease.Time(lab.Now()), false
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
	for _, p := range c.bySession {
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
		c.step(ctx, c.agents[i%c.config.Agents])
		c.mu.Unlock()
	}
	return nil
}

// step is what an agent does at its turn: it renews, or, having lost its
// lease, opens a new session. c.mu is held.
func (c *crowd) step(ctx context.Context, p *played) {
	now := lease.Time(lab.Now())
	if p.opening {
		return
	}
	if p.holder.Lapsed(now) && now.Sub(p.opened) > c.config.TTL {
		if c.measuring {
			c.result.Lapsed++
		}
		p.opening = true
		go func() { _ = c.open(ctx, p) }() // fails only when ctx ends
		return
	}
	c.sendRound(p, now)
}

// sendRound sends one round of an agent. c.mu is held.
func (c *crowd) sendRound(p *played, now lease.Time) {
	p.sent, p.answered, p.counts = now, 0, c.measuring
	p.round = p.holder.Begin(now)
	r := lease.Renewal{Session: p.session.ID, Round: p.round, Configuration: c.configuration.Index, Proven: !p.holder.Lapsed(now)}
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
	if !p.counts || a.Round != p.round {
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
