package e2e

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"holdfast/test/lab"
	"holdfast/test/lab/scenario"
	"holdfast/vipagent/fault"
)

// stopsVariable says how often each place is tried; `make campaign` sets it.
const stopsVariable = "HOLDFAST_STOPS"

// An agent that is stopped between a check and an act, wherever that is, and goes
// on half a second after its deadline, does not send one packet that claims an
// address: the call that it had prepared comes too late to do harm.
func TestStoppedBetweenCheckAndAct(t *testing.T) {
	rounds, points := 1, []string{fault.Store, fault.Add, fault.Open, fault.Announce, fault.Advertise}
	if n, err := strconv.Atoi(os.Getenv(stopsVariable)); err == nil {
		rounds, points = n, fault.Names()
	}
	n, _ := ownNetwork(t, lab.Standard())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Duration(rounds*len(points))*15*time.Second)
	t.Cleanup(cancel)
	s, err := startStage(n, lab.ClusterConfig{TTL: scenario.QuickProfile, Agent: program("faultpoints/vipagent")})
	check(t, err)
	t.Cleanup(func() { check(t, s.Recorder.Close()) })
	asker, err := n.Clients[1].Ask(lab.ProbeEvery, s.VIPs...)
	check(t, err)
	t.Cleanup(func() { check(t, asker.Close()) })
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			if point == fault.Advertise { // only what is shared with VRRP routers comes there
				check(t, s.Cluster.Apply(ctx, vipFile(s.Cluster)+"    vrrp: {vrid: 51, version: 3, interval: 100ms}\n"))
				defer func() { check(t, s.Cluster.Apply(ctx, vipFile(s.Cluster))) }()
			}
			silent := 0
			for round := range rounds {
				f, err := s.StopAt(ctx, point, 1+round%scenario.Passes(point))
				check(t, err)
				s.Recorder.Forget(lab.Now().Add(-time.Second))
				if f.Silent() && f.Overlap == 0 {
					silent++
				} else if !s.Weak {
					t.Errorf("pass %d on %s, %v left: after the deadline %v, overlap %v", f.Pass, f.Host, f.Left, f.Claims, f.Overlap)
				}
			}
			t.Logf("%s: 0 packets after the deadline in %d of %d", point, silent, rounds)
		})
	}
}
