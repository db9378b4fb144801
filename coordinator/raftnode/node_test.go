package raftnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestElectProposeRestart(t *testing.T) {
	c := newCluster(t, 3, calm)
	lead := c.leader()
	if i := c.propose("one"); i < 2 {
		t.Fatalf("Propose returned index %d", i)
	}
	c.applied("one", c.members...)

	other := c.others(lead)[0]
	_, err := other.Propose(limit(t), []byte("x"))
	var not *NotLeaderError
	if !errors.As(err, &not) || !errors.Is(err, ErrNotLeader) || not.Leader != lead.name || not.Address != lead.address {
		t.Errorf("Propose on a follower: %v", err)
	}
	for _, m := range c.members {
		if got, want := shape(m.Configuration()), "1<0:abc"; got != want {
			t.Errorf("%s: configuration %s, want %s", m.name, got, want)
		}
	}

	ids := map[string]bool{}
	for _, m := range c.members {
		ids[m.StoreID()] = true
		if err := m.stop(); err != nil {
			t.Fatalf("%s: %v", m.name, err)
		}
	}
	for _, m := range c.members {
		m.open()
		if !ids[m.StoreID()] || len(ids) != 3 || !m.HasState() {
			t.Errorf("%s: store id %s of %v, state %v", m.name, m.StoreID(), ids, m.HasState())
		}
		if err := m.Bootstrap([]Server{m.server()}); !errors.Is(err, ErrHasState) {
			t.Errorf("Bootstrap over a state: %v", err)
		}
		m.run()
	}
	c.propose("two")
	for _, m := range c.members {
		c.applied("two", m)
		list := m.machine.list()
		if list[0] != "1!" || !m.machine.has("one") {
			t.Errorf("%s replayed %v", m.name, list)
		}
	}
}

func TestLeaderVanishes(t *testing.T) {
	c := newCluster(t, 3, nil)
	var took []time.Duration
	for round := range 5 {
		lead := c.leader()
		c.propose(fmt.Sprintf("before %d", round))
		c.applied(fmt.Sprintf("before %d", round), c.members...)
		start := time.Now()
		c.wires.set(lead.name, true)
		c.propose(fmt.Sprintf("after %d", round), lead)
		took = append(took, time.Since(start))
		c.wires.set(lead.name, false)
		c.applied(fmt.Sprintf("after %d", round), c.members...)
	}
	slices.Sort(took)
	t.Logf("leader cut off -> entry committed by the next one: median %v of %v", took[2], took)
	if took[2] > 1500*time.Millisecond {
		t.Errorf("median %v", took[2])
	}
}

func TestPlannedStopHandsOver(t *testing.T) {
	c := newCluster(t, 3, calm)
	lead := c.leader()
	start := time.Now()
	if err := lead.stop(); err != nil {
		t.Fatal(err)
	}
	c.propose("after", lead)
	took := time.Since(start)
	t.Logf("planned stop -> entry committed by the next leader: %v", took)
	if took > 600*time.Millisecond { // less than the shortest election by timeout
		t.Errorf("took %v: leadership was not handed over", took)
	}
}

func TestLeadingIsCoalesced(t *testing.T) {
	l := latest{ch: make(chan bool, 1)}
	for _, v := range []bool{true, false, true, true} {
		l.set(v)
	}
	if v := <-l.ch; !v {
		t.Error("an old value came out")
	}
	select {
	case v := <-l.ch:
		t.Errorf("a second value: %v", v)
	default:
	}
}

func TestTransfer(t *testing.T) {
	c := newCluster(t, 3, calm)
	lead := c.leader()
	to := c.others(lead)[0]
	if err := lead.TransferLeadership(limit(t), "nobody"); !errors.Is(err, ErrUnknownServer) {
		t.Errorf("transfer to nobody: %v", err)
	}
	if err := to.TransferLeadership(limit(t), lead.name); !errors.Is(err, ErrNotLeader) {
		t.Errorf("transfer by a follower: %v", err)
	}
	c.applied("x", func() []*member { c.propose("x"); return c.members }()...)
	if err := lead.TransferLeadership(limit(t), to.name); err != nil {
		t.Fatal(err)
	}
	if got := c.leader(); got != to {
		t.Errorf("%s leads, not %s", got.name, to.name)
	}
}

// TestTransferWaitsForProposals: a proposal under way ends before leadership moves.
func TestTransferWaitsForProposals(t *testing.T) {
	var g gate
	if err := g.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- g.close(t.Context()) }()
	eventually(t, "the gate closes", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.shut != nil
	})
	select {
	case <-closed:
		t.Fatal("closed with a proposal inside")
	default:
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.enter(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("entered a closed gate: %v", err)
	}
	if err := g.close(ctx); !errors.Is(err, ErrChanging) {
		t.Errorf("second close: %v", err)
	}
	g.leave()
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	g.open()
	if err := g.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("close with ctx done: %v", err)
	}
	if err := g.enter(t.Context()); err != nil {
		t.Errorf("the gate stayed shut: %v", err)
	}
}

// TestStuckTransfer plants hashicorp/raft#696: a transfer whose last call never
// returns leaves a flag set, and that leader would refuse writes for ever.
func TestStuckTransfer(t *testing.T) {
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	c := newCluster(t, 3, both(calm, func(cfg *Config) { cfg.timeoutNow = func() { <-never } }))
	lead := c.leader()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := lead.TransferLeadership(ctx, c.others(lead)[0].name); err == nil {
		t.Fatal("the transfer worked")
	}
	first := lead.current.Load()
	start := time.Now()
	c.propose("after")
	t.Logf("stuck transfer -> next entry committed: %v", time.Since(start))
	eventually(t, "raft starts again", func() bool { in := lead.current.Load(); return in != nil && in != first })
	c.applied("after", c.members...)
}

func TestApplyErrorStops(t *testing.T) {
	c := newCluster(t, 3, calm)
	lead := c.leader()
	bad := c.others(lead)[0]
	bad.machine.mu.Lock()
	bad.machine.refuse = "poison"
	bad.machine.mu.Unlock()
	c.propose("poison")
	c.propose("later")
	err := bad.wait()
	if err == nil || err.Error() != fmt.Sprintf("apply entry %d: cannot decode poison", index(lead, "poison")) {
		t.Errorf("Run returned %v", err)
	}
	if bad.machine.has("later") {
		t.Error("applied an entry behind the one that failed")
	}
	if got := bad.State(); got.Role != "stopped" {
		t.Errorf("state %+v", got)
	}

	// On the leader the proposer gets the error.
	lead.machine.mu.Lock()
	lead.machine.refuse = "venom"
	lead.machine.mu.Unlock()
	_, err = lead.Propose(limit(t), []byte("venom"))
	if err == nil || errors.Is(err, ErrNotLeader) {
		t.Errorf("Propose returned %v", err)
	}
	if err := lead.wait(); err == nil {
		t.Error("Run returned nil")
	}
}

// TestNothingAfterAnApplyError: Raft may hand over more before it has stopped.
func TestNothingAfterAnApplyError(t *testing.T) {
	r := &record{refuse: "poison"}
	var failure error
	m := &machine{inner: r, fail: func(err error) { failure = err }, removed: func(uint64) bool { return false }}
	m.Apply(&raft.Log{Index: 1, Data: []byte("good")})
	m.Apply(&raft.Log{Index: 2, Data: []byte("poison")})
	if _, ok := m.Apply(&raft.Log{Index: 3, Data: []byte("later")}).(applyFailure); !ok {
		t.Error("an entry was taken after the failure")
	}
	m.StoreConfiguration(4, raft.Configuration{})
	if _, err := m.Snapshot(); err == nil {
		t.Error("a snapshot was taken after the failure")
	}
	if got := r.list(); !slices.Equal(got, []string{"1:good"}) || failure == nil || m.applied.Load() != 1 {
		t.Errorf("machine has %v, applied %d, failure %v", got, m.applied.Load(), failure)
	}
}

func index(m *member, data string) int {
	for _, e := range m.machine.list() {
		var i int
		var d string
		if n, _ := fmt.Sscanf(e, "%d:%s", &i, &d); n == 2 && d == data {
			return i
		}
	}
	return -1
}

func TestProposeUncertain(t *testing.T) {
	c := newCluster(t, 3, nil)
	lead := c.leader()
	c.wires.set(lead.name, true)
	_, err := lead.Propose(limit(t), []byte("lost"))
	if !errors.Is(err, ErrUncertain) {
		t.Errorf("cut off leader: %v", err)
	}
	c.leader(lead)
	c.wires.set(lead.name, false)
	c.propose("kept")
	c.applied("kept", c.members...)

	lead = c.leader()
	for _, o := range c.others(lead) {
		c.wires.set(o.name, true)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = lead.Propose(ctx, []byte("late"))
	if !errors.Is(err, ErrUncertain) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("context ended: %v", err)
	}
}

func TestPreVoteIsActive(t *testing.T) {
	c := newCluster(t, 3, calm)
	lead := c.leader()
	term := lead.State().Term
	other := c.others(lead)[0]
	c.wires.set(other.name, true)
	eventually(t, "the one cut off asks for votes", func() bool { return other.State().Role == "candidate" })
	// Several election timeouts alone: without pre-vote each raises its term.
	alone := time.After(2 * time.Second)
	for done := false; !done; {
		select {
		case <-alone:
			done = true
		case <-time.After(10 * time.Millisecond):
			if got := other.State().Term; got != term {
				t.Fatalf("term rose from %d to %d while cut off", term, got)
			}
		}
	}
	c.wires.set(other.name, false)
	c.propose("healed")
	c.applied("healed", c.members...)
	if got := c.leader(); got != lead || lead.State().Term != term {
		t.Errorf("healing deposed the leader: %s, term %d -> %d", got.name, term, lead.State().Term)
	}
}

func TestFollowersAndState(t *testing.T) {
	c := newCluster(t, 3, calm)
	lead := c.leader()
	i := c.propose("x")
	eventually(t, "followers match", func() bool {
		f := lead.Followers()
		for _, o := range c.others(lead) {
			if n := f[o.name]; n.Match < i || n.LastContact < 0 {
				return false
			}
		}
		return len(f) == 2
	})
	other := c.others(lead)[0]
	if f := other.Followers(); len(f) != 0 {
		t.Errorf("a follower knows followers: %v", f)
	}
	s := other.State()
	if s.Role != "follower" || s.Leader != lead.name || s.LeaderAddress != lead.address || s.LastContact < 0 {
		t.Errorf("follower: %+v", s)
	}
	if s := lead.State(); s.Role != "leader" || s.Applied < i || s.Commit < i || s.Last < i || s.LastContact != 0 {
		t.Errorf("leader: %+v", s)
	}
}
