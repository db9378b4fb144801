package raftnode

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// hang makes a member's log writes block until free is called. entered gets a
// value when the first one blocks.
func (h *hooks) hang(name string, only func([]*raft.Log) bool) (entered <-chan struct{}, free func(error)) {
	in, out := make(chan struct{}, 16), make(chan struct{})
	var result error
	h.all[name].set(func(logs []*raft.Log) error {
		if only != nil && !only(logs) {
			return nil
		}
		in <- struct{}{}
		<-out
		return result
	})
	return in, func(err error) {
		h.all[name].set(nil)
		result = err
		close(out)
	}
}

func TestLeaderDiskHangs(t *testing.T) {
	var h hooks
	c := newCluster(t, 3, h.config)
	var took []time.Duration
	for round := range 3 {
		lead := c.leader()
		if round == 1 { // Raft starts again over a snapshot that the machine has
			if err := lead.Snapshot(limit(t)); err != nil {
				t.Fatal(err)
			}
		}
		before := fmt.Sprintf("before %d", round)
		c.propose(before)
		c.applied(before, c.members...)
		entered, free := h.hang(lead.name, nil)
		proposed := make(chan error, 1)
		start := time.Now()
		go func() {
			_, err := lead.Propose(limit(t), []byte(fmt.Sprintf("hung %d", round)))
			proposed <- err
		}()
		<-entered
		c.propose(fmt.Sprintf("meanwhile %d", round), lead)
		took = append(took, time.Since(start))
		if err := <-proposed; !errors.Is(err, ErrUncertain) {
			t.Errorf("the proposer got %v", err)
		}
		if leading := <-lead.Leading(); leading {
			t.Error("Leading says that it leads")
		}
		if got := lead.State().Role; got != "stalled" {
			t.Errorf("role %q while the disk hangs", got)
		}
		if _, err := lead.Propose(limit(t), []byte("x")); !errors.Is(err, ErrStopped) {
			t.Errorf("Propose while stalled: %v", err)
		}
		for i := range 5 {
			c.propose(fmt.Sprintf("more %d.%d", round, i), lead)
		}
		free(nil) // the late write lands now, behind entries that it lacks
		last := fmt.Sprintf("last %d", round)
		c.propose(last)
		c.applied(last, c.members...)
		agree(t, "1<0:abc", c.members...)
		if lead.machine.has(fmt.Sprintf("hung %d", round)) {
			t.Error("the late write was applied")
		}
	}
	t.Logf("leader's disk hangs -> entry committed by the next leader: %v", took)
	for _, d := range took {
		if d > 2500*time.Millisecond {
			t.Errorf("took %v", d)
		}
	}
	for _, m := range c.members {
		if m.machine.restored > 0 {
			t.Errorf("%s: the machine was set back", m.name)
		}
	}
	// What is on disk is what a restart reads.
	for _, m := range c.members {
		m.stop()
	}
	for _, m := range c.members {
		m.restart()
	}
	c.propose("end")
	c.applied("end", c.members...)
	agree(t, "1<0:abc", c.members...)
}

// TestLeaderDiskHangsOnConfiguration: Raft takes a configuration for appended
// even though its write has failed; nothing may be left of it.
func TestLeaderDiskHangsOnConfiguration(t *testing.T) {
	var h hooks
	c := newCluster(t, 3, h.config)
	lead := c.leader()
	entered, free := h.hang(lead.name, isConfiguration)
	changed := make(chan error, 1)
	go func() {
		changed <- lead.AddNonvoter(limit(t), Server{Name: "z", Address: "127.0.0.1:1"})
	}()
	<-entered
	c.propose("meanwhile", lead)
	if err := <-changed; !errors.Is(err, ErrUncertain) {
		t.Errorf("AddNonvoter: %v", err)
	}
	free(nil)
	c.propose("last")
	c.applied("last", c.members...)
	agree(t, "1<0:abc", c.members...)
	if in := lead.current.Load(); in != nil {
		if got := in.raft.GetConfiguration().Configuration(); len(got.Servers) != 3 {
			t.Errorf("raft itself goes by %v", got.Servers)
		}
	}
	told := lead.seen.told()
	if last := told[len(told)-1]; last != "1<0:abc" {
		t.Errorf("told %v", told)
	}
}

func TestFollowerDiskHangs(t *testing.T) {
	var h hooks
	c := newCluster(t, 3, both(h.config, calm))
	lead := c.leader()
	slow := c.others(lead)[0]
	entered, free := h.hang(slow.name, nil)
	c.propose("one")
	<-entered
	for i := range 5 {
		c.propose(fmt.Sprintf("more %d", i))
	}
	if c.leader() != lead {
		t.Error("the leader changed")
	}
	free(nil)
	c.applied("more 4", slow)
	agree(t, "1<0:abc", c.members...)
}

func TestDiskFails(t *testing.T) {
	broken := errors.New("input/output error")
	for name, late := range map[string]bool{"at once": false, "after its limit": true} {
		t.Run(name, func(t *testing.T) {
			var h hooks
			c := newCluster(t, 3, h.config)
			lead := c.leader()
			if late {
				entered, free := h.hang(lead.name, nil)
				go lead.Propose(limit(t), []byte("x"))
				<-entered
				eventually(t, "the leader stalls", func() bool { return lead.State().Role == "stalled" })
				free(broken)
			} else {
				var once atomic.Bool
				h.all[lead.name].set(func([]*raft.Log) error {
					if once.Swap(true) {
						return nil
					}
					return broken
				})
				if _, err := lead.Propose(limit(t), []byte("x")); !errors.Is(err, ErrUncertain) {
					t.Errorf("Propose: %v", err)
				}
			}
			if err := lead.wait(); !errors.Is(err, broken) {
				t.Errorf("Run returned %v", err)
			}
			c.propose("after", lead)
		})
	}
	t.Run("on a follower", func(t *testing.T) {
		var h hooks
		c := newCluster(t, 3, h.config)
		m := c.others(c.leader())[0]
		h.all[m.name].set(func([]*raft.Log) error { return broken })
		c.propose("x")
		if err := m.wait(); !errors.Is(err, broken) {
			t.Errorf("Run returned %v", err)
		}
	})
}

// TestStopWhileDiskHangs: Run ends in bounded time and says why the directory
// is still locked.
func TestStopWhileDiskHangs(t *testing.T) {
	var h hooks
	c := newCluster(t, 1, h.config)
	lead := c.leader()
	entered, free := h.hang(lead.name, nil)
	go lead.Propose(limit(t), []byte("x"))
	<-entered
	if err := lead.stop(); err == nil {
		t.Error("Run returned nil while a write is under way")
	}
	free(nil)
}
