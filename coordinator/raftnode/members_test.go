package raftnode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
)

// hookedLog runs a test's hook before entries are written.
type hookedLog struct {
	raft.LogStore
	hook *storeHook
}

type storeHook struct {
	mu sync.Mutex
	f  func([]*raft.Log) error
}

func (h *storeHook) set(f func([]*raft.Log) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.f = f
}

func (h *hookedLog) StoreLogs(logs []*raft.Log) error {
	h.hook.mu.Lock()
	f := h.hook.f
	h.hook.mu.Unlock()
	if f != nil {
		if err := f(logs); err != nil {
			return err
		}
	}
	return h.LogStore.StoreLogs(logs)
}

// hooks gives each member of a cluster a hook into its store.
type hooks struct {
	mu  sync.Mutex
	all map[string]*storeHook
}

func (h *hooks) config(cfg *Config) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all == nil {
		h.all = make(map[string]*storeHook)
	}
	hook := h.all[cfg.Name]
	if hook == nil {
		hook = &storeHook{}
		h.all[cfg.Name] = hook
	}
	cfg.wrapStore = func(inner raft.LogStore) raft.LogStore { return &hookedLog{inner, hook} }
}

func isConfiguration(logs []*raft.Log) bool {
	return slices.ContainsFunc(logs, func(l *raft.Log) bool { return l.Type == raft.LogConfiguration })
}

// grow adds a member and gives it its vote.
func (c *cluster) grow(name string, change func(*Config)) *member {
	c.t.Helper()
	m := c.member(name, change)
	m.run()
	lead := c.leader()
	if err := lead.AddNonvoter(limit(c.t), Server{Name: m.name, Address: m.address}); err != nil {
		c.t.Fatal(err)
	}
	i := c.propose("catch up " + name)
	eventually(c.t, name+" catches up", func() bool { return lead.Followers()[name].Match >= i })
	if err := lead.Promote(limit(c.t), name); err != nil {
		c.t.Fatal(err)
	}
	return m
}

// agree waits until all the members have the same configuration and entries.
func agree(t testing.TB, want string, members ...*member) {
	t.Helper()
	for _, m := range members {
		eventually(t, fmt.Sprintf("%s has configuration %s", m.name, want), func() bool {
			return shape(m.Configuration()) == want
		})
		eventually(t, m.name+" has the same entries", func() bool {
			return slices.Equal(m.machine.list(), members[0].machine.list())
		})
	}
}

func TestGrowAndShrink(t *testing.T) {
	c := newCluster(t, 3, calm)
	c.leader()
	d := c.grow("d", calm)
	e := c.grow("e", calm)
	lead := c.leader()
	cfg := lead.Configuration()
	five := shape(cfg)
	if want := fmt.Sprintf("%d<%d:abcde", cfg.Index, cfg.Previous); five != want || cfg.Previous <= 1 {
		t.Fatalf("configuration %s, want %s", five, want)
	}
	c.propose("five")
	c.applied("five", c.members...)
	agree(t, five, c.members...)
	// Everybody was told of each configuration, once, in order.
	told := lead.seen.told()
	if len(told) != 5 || told[0] != "1<0:abc" || told[4] != five {
		t.Errorf("told %v", told)
	}
	for _, m := range []*member{d, e} { // they get several entries with one write
		if got := m.seen.told(); got[len(got)-1] != five {
			t.Errorf("%s was told %v, want %s last", m.name, got, five)
		}
	}

	for _, m := range c.members {
		m.stop()
	}
	for _, m := range c.members {
		m.restart()
		if got := m.seen.told(); len(got) == 0 || got[0] != five {
			t.Errorf("%s: told at its start: %v, want %s first", m.name, got, five)
		}
	}

	lead = c.leader()
	gone := d
	if lead == d {
		gone = e
	}
	if err := lead.Remove(limit(t), gone.name); err != nil {
		t.Fatal(err)
	}
	if err := gone.wait(); !errors.Is(err, ErrRemoved) {
		t.Errorf("removed follower: Run returned %v", err)
	}
	if err := lead.Remove(limit(t), gone.name); !errors.Is(err, ErrUnknownServer) {
		t.Errorf("second removal: %v", err)
	}
	c.members = slices.DeleteFunc(c.members, func(m *member) bool { return m == gone })
	// A leader that removes itself stops as well.
	if err := lead.Remove(limit(t), lead.name); err != nil {
		t.Fatal(err)
	}
	if err := lead.wait(); !errors.Is(err, ErrRemoved) {
		t.Errorf("removed leader: Run returned %v", err)
	}
	c.members = slices.DeleteFunc(c.members, func(m *member) bool { return m == lead })
	c.propose("three")
	c.applied("three", c.members...)
	agree(t, shape(c.leader().Configuration()), c.members...)
}

// TestConfigurationFollowsCommitted: an index must name one configuration for
// ever, so a configuration entry is only written behind a committed one.
func TestConfigurationFollowsCommitted(t *testing.T) {
	var h hooks
	c := newCluster(t, 3, both(h.config, calm))
	lead := c.leader()
	ctx, cancel := context.WithCancel(limit(t))
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				lead.Propose(ctx, []byte("load"))
			}
		})
	}
	var written, early int
	h.all[lead.name].set(func(logs []*raft.Log) error {
		if isConfiguration(logs) {
			written++
			if lead.State().Commit < logs[0].Index-1 {
				early++
			}
		}
		return nil
	})
	for i := range 6 {
		s := Server{Name: "z", Address: fmt.Sprintf("127.0.0.1:%d", i+1)}
		if err := lead.AddNonvoter(limit(t), s); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	load.Wait()
	if written != 6 || early != 0 {
		t.Errorf("%d configuration entries, %d of them behind an uncommitted one", written, early)
	}
}

// TestConfigurationRollsBack: a leader that is cut off while it writes a
// configuration has it in its log, alone, until the next leader overrules it.
func TestConfigurationRollsBack(t *testing.T) {
	var h hooks
	c := newCluster(t, 3, both(h.config, calm))
	lead := c.leader()
	h.all[lead.name].set(func(logs []*raft.Log) error {
		if isConfiguration(logs) {
			c.wires.set(lead.name, true)
		}
		return nil
	})
	if err := lead.AddNonvoter(limit(t), Server{Name: "z", Address: "127.0.0.1:1"}); !errors.Is(err, ErrUncertain) {
		t.Fatalf("AddNonvoter: %v", err)
	}
	h.all[lead.name].set(nil)
	phantom := shape(lead.Configuration())
	if want := fmt.Sprintf("%d<1:abc(z)", lead.Configuration().Index); phantom != want {
		t.Fatalf("latest in the log is %s, want %s", phantom, want)
	}
	c.propose("next", lead)
	c.wires.set(lead.name, false)
	agree(t, "1<0:abc", append(c.others(lead), lead)...)
	if got, want := lead.seen.told(), []string{"1<0:abc", phantom, "1<0:abc"}; !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}

	// The same while the deposed leader is down: it finds the entry at its start.
	lead = c.leader()
	h.all[lead.name].set(func(logs []*raft.Log) error {
		if isConfiguration(logs) {
			c.wires.set(lead.name, true)
		}
		return nil
	})
	lead.AddNonvoter(limit(t), Server{Name: "y", Address: "127.0.0.1:1"})
	h.all[lead.name].set(nil)
	lead.stop()
	c.propose("again", lead)
	lead.open()
	if got := lead.seen.told(); len(got) != 1 || got[0] != fmt.Sprintf("%d<1:abc(y)", lead.Configuration().Index) {
		t.Errorf("told at its start: %v", got)
	}
	c.wires.set(lead.name, false)
	lead.run()
	agree(t, "1<0:abc", append(c.others(lead), lead)...)
}

func TestSnapshotInstall(t *testing.T) {
	change := both(calm, func(cfg *Config) { cfg.SnapshotThreshold = 16 })
	c := newCluster(t, 3, change)
	lead := c.leader()
	late := c.others(lead)[0]
	c.applied("zero", func() []*member { c.propose("zero"); return c.members }()...)
	c.wires.set(late.name, true)
	c.grow("d", change)
	for i := range 60 {
		c.propose(fmt.Sprintf("entry %d", i))
	}
	want := shape(lead.Configuration())
	for _, m := range c.members {
		if m == late {
			continue
		}
		c.applied("entry 59", m)
		if err := m.Snapshot(limit(t)); err != nil {
			t.Fatal(err)
		}
		if got := m.machine.covered(); got < 60 {
			t.Errorf("%s: told that a snapshot of index %d is on disk, after more than 60 entries", m.name, got)
		}
		first, err := m.stores.log.FirstIndex()
		if err != nil || first <= late.State().Last+1 {
			t.Fatalf("%s: the log still begins at %d (%v)", m.name, first, err)
		}
	}
	c.propose("behind")
	c.wires.set(late.name, false)
	c.applied("behind", late)
	agree(t, want, append(c.others(late), late)...)
	if got := late.machine.covered(); got < 60 {
		t.Errorf("%s: told that a snapshot of index %d is on disk, after one was installed", late.name, got)
	}
	if got, wantTold := late.seen.told(), []string{"1<0:abc", want}; !slices.Equal(got, wantTold) {
		t.Errorf("told %v, want %v: the snapshot brings the configuration and its previous one", got, wantTold)
	}
	// After a restart: from the snapshot again.
	for _, m := range c.members {
		m.stop()
		m.open()
		if got := shape(m.Configuration()); got != want {
			t.Errorf("%s: after the restart %s, want %s", m.name, got, want)
		}
		m.run()
	}
	c.propose("end")
	c.applied("end", c.members...)
	agree(t, want, c.members...)
	if !late.machine.has("entry 30") || late.machine.list()[0] != "1!" {
		t.Error("the restored machine lacks entries")
	}
}

func TestRecover(t *testing.T) {
	c := newCluster(t, 3, calm)
	c.grow("d", calm)
	c.propose("kept")
	c.applied("kept", c.members...)
	a := c.members[0]
	for _, m := range c.members {
		m.stop()
	}
	peers := filepath.Join(t.TempDir(), "peers.json")
	text := fmt.Sprintf(`[{"id": "a", "address": %q, "non_voter": false}]`, a.address)
	if err := os.WriteFile(peers, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Recover(Config{Name: "a", Dir: filepath.Join(t.TempDir(), "new"), Machine: &record{}}, peers); err == nil {
		t.Error("recovered a directory without state")
	}
	if err := Recover(Config{Name: "a", Dir: a.dir, Machine: &record{}}, peers); err != nil {
		t.Fatal(err)
	}
	a.open()
	cfg := a.Configuration()
	if got := shape(cfg); got != fmt.Sprintf("%d<%d:a", cfg.Index, cfg.Previous) || cfg.Previous < 2 {
		t.Errorf("recovered configuration %s: it needs an index of its own", got)
	}
	a.run()
	c.members = []*member{a}
	c.propose("after")
	list := a.machine.list()
	if list[0] != "1!" || !a.machine.has("kept") || !slices.Contains(list, fmt.Sprintf("%d!", cfg.Index)) {
		t.Errorf("recovered machine has %v", list)
	}
	b := c.grow("e", calm)
	c.propose("grown")
	c.applied("grown", b)
	agree(t, shape(a.Configuration()), a, b)
}
