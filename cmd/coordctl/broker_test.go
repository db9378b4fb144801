package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/client"
	"holdfast/coordinator/gossip"
	"holdfast/coordinator/lease"
)

// playBrokers is a program of the scripts: `brokers b1 b2 ...` plays brokers that have a
// lease, report logs of a thousand bytes and a hundred less for each, and release what
// they are asked for. The first is there before the others, as the first that comes is
// made master, and no priority takes that away. SIGTERM ends it without a word, as a
// crash would.
func playBrokers() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	key, err := base64.StdEncoding.DecodeString(os.Getenv("GOSSIP_KEY"))
	if err == nil {
		err = runBrokers(ctx, key, os.Args[1:])
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "brokers:", err)
		os.Exit(1)
	}
}

func runBrokers(ctx context.Context, key []byte, names []string) error {
	begun := time.Now()
	c := &castOfBrokers{now: func() lease.Time { return lease.Time(time.Since(begun)) + 1 }, mastered: make(chan struct{})}
	for i, name := range names {
		b := &playedBroker{name: name, cast: c, end: uint64(1000 - 100*i)}
		b.sessions = client.NewSessions(client.SessionsConfig{Broker: name, Coordinators: c.coordinators})
		c.brokers = append(c.brokers, b)
	}
	var err error
	c.gossip, err = gossip.New(gossip.Config{
		Role: gossip.RoleAgent, Host: "brokers-" + names[0], Bind: "127.0.0.1:" + os.Getenv("BROKERS_PORT"),
		Seeds: []string{os.Getenv("GOSSIP_SEED")}, Keys: [][]byte{key},
		OnDatagram: func(_ string, b []byte) { c.answer(b) },
	})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.gossip.Run(ctx) })
	for _, b := range c.brokers {
		g.Go(func() error { return b.sessions.Run(ctx) })
		g.Go(func() error {
			if b != c.brokers[0] {
				select {
				case <-ctx.Done():
					return nil
				case <-c.mastered:
				}
			}
			return b.play(ctx)
		})
	}
	return g.Wait()
}

// castOfBrokers is what the brokers of one process share.
type castOfBrokers struct {
	gossip   *gossip.Gossip
	now      func() lease.Time
	mu       sync.Mutex
	brokers  []*playedBroker
	once     sync.Once
	mastered chan struct{} // closed when one of them is master of something
}

// playedBroker is one broker. Its holder is guarded by the cast's mutex.
type playedBroker struct {
	name     string
	end      uint64
	cast     *castOfBrokers
	sessions *client.Sessions
	holder   *lease.Holder
}

func (c *castOfBrokers) coordinators() (out []client.Coordinator) {
	for _, n := range c.gossip.Nodes() {
		if n.Role == gossip.RoleCoordinator && n.API != "" {
			out = append(out, client.Coordinator{Name: n.Host, API: n.API})
		}
	}
	return out
}

func (c *castOfBrokers) answer(b []byte) {
	u, err := lease.ParseAnswer(b)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.brokers {
		if p.holder == nil || p.holder.Session().ID != u.Session {
			continue
		}
		s := p.holder.Session()
		if a, err := u.Verify(&s.Secret); err == nil {
			p.holder.Answer(a)
		}
	}
}

// play opens the session, and renews, reports and releases until ctx ends.
func (b *playedBroker) play(ctx context.Context) error {
	s := lease.Session{TTL: time.Second}
	_, _ = rand.Read(s.Secret[:])
	reply, err := b.sessions.Open(ctx, &pb.OpenRequest{Host: "host-" + b.name, TtlMs: s.TTL.Milliseconds(), Secret: s.Secret[:],
		Broker: &pb.Broker{Name: b.name, Client: "127.0.0.1:8081", Replication: "127.0.0.1:7962"}})
	if err != nil {
		return err
	}
	s.ID = reply.Session
	b.cast.mu.Lock()
	b.holder = lease.NewHolder(s, s.ID)
	b.cast.mu.Unlock()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var conf lease.Configuration
	var groups []client.Group
	for {
		select {
		case <-ctx.Done():
			return nil
		case v := <-b.sessions.Views():
			conf = lease.Configuration{Index: v.GetConfiguration().GetIndex()}
			for _, m := range v.GetConfiguration().GetMembers() {
				if m.GetVoter() {
					conf.Voters = append(conf.Voters, m.GetName())
				}
			}
			slices.Sort(conf.Voters)
			groups = client.Groups(v)
			for _, g := range groups {
				if g.Session == s.ID {
					b.cast.once.Do(func() { close(b.cast.mastered) })
				}
				if g.Session == s.ID && g.Recalled {
					_, _ = b.sessions.ReleaseGroup(ctx, &pb.ReleaseGroupRequest{Session: s.ID, Group: g.Name, Epoch: g.Record.Epoch, Cause: "asked to"})
				}
			}
		case <-tick.C:
			b.renew(s, conf)
			b.report(ctx, s.ID, groups)
		}
	}
}

func (b *playedBroker) renew(s lease.Session, conf lease.Configuration) {
	b.cast.mu.Lock()
	defer b.cast.mu.Unlock()
	if conf.Index == 0 {
		return
	}
	b.holder.SetConfiguration(conf)
	now := b.cast.now()
	r := lease.Renewal{Session: s.ID, Configuration: conf.Index, Proven: !b.holder.Lapsed(now), Round: b.holder.Begin(now)}
	for _, name := range conf.Voters {
		_ = b.cast.gossip.Send(gossip.RoleCoordinator+"/"+name, r.Marshal(&s.Secret))
	}
}

func (b *playedBroker) report(ctx context.Context, session uint64, groups []client.Group) {
	r := &pb.ReportRequest{Session: session}
	for _, g := range groups {
		role := "follower"
		if g.Session == session {
			role = "master"
		}
		r.Groups = append(r.Groups, &pb.GroupReport{Group: g.Name, Role: role, LastEpoch: g.Record.Epoch, End: b.end, Durable: b.end, Confirm: 700})
	}
	b.sessions.Report(ctx, r)
}
