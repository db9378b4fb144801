package e2e

import (
	"testing"
	"time"

	"holdfast/test/lab"
	"holdfast/test/lab/scenario"
)

// The holder's host loses power: the address answers from another host within
// the TTL and a quarter of a second, and never from two.
func TestPowerOff(t *testing.T) { run(t, scenario.PowerOff()) }

// Losing leader and holder at once costs the longer of the two and not their
// sum.
func TestPowerOffOfLeaderAndHolder(t *testing.T) { run(t, scenario.PowerOffLeader()) }

// The documented quick profile.
func TestPowerOffQuickProfile(t *testing.T) {
	n, ctx := ownNetwork(t, lab.Standard())
	s, err := startStage(n, lab.ClusterConfig{TTL: scenario.QuickProfile})
	check(t, err)
	t.Cleanup(func() { check(t, s.Recorder.Close()) })
	row := runOn(ctx, t, s, scenario.PowerOff())
	if want := float64(700); row.PromiseGapMS != want {
		t.Errorf("the promise is %v ms, want %v ms", row.PromiseGapMS, want)
	}
}

// A Raft leader that dies elsewhere costs the holder nothing.
func TestLeaderKilledElsewhere(t *testing.T) { run(t, scenario.LeaderKilled()) }

// Agent and coordinator of the holder are killed and its host goes on: the
// kernel's lifetime of the address ends the overlap.
func TestAllProcessesKilled(t *testing.T) { run(t, scenario.KillAll()) }

// The agent stands still and goes on after the takeover: it must not claim the
// address again.
func TestAgentFrozenAndThawed(t *testing.T) {
	run(t, scenario.Freeze())
}

// One run of random loss: the address must end up where it was or be taken over
// in order, never be on two hosts.
func TestRandomLoss(t *testing.T) {
	sc := scenario.RandomLoss()
	sc.Watch = 8 * time.Second
	s, ctx := stage(t)
	row, err := s.Run(ctx, sc)
	check(t, err)
	if row.OverlapMS > row.OverlapStallMS {
		t.Errorf("overlap %+v", row)
	}
	t.Logf("takeover: %t, stall %.1f ms", row.From != row.To, row.StallMS)
}
