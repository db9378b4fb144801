package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/test/lab"
	"holdfast/test/lab/scenario"
)

// Two of three coordinators are gone: the address ends by its deadline, and it
// is back within 2 s after a second coordinator runs again.
func TestTwoOfThreeCoordinatorsGone(t *testing.T) { run(t, scenario.QuorumLost()) }

// Without a quorum the address ends by the lease's deadline, on every host, and
// coordctl says so in words and by its exit code.
func TestNoQuorum(t *testing.T) {
	s, ctx := stage(t)
	hosts := s.Cluster.Network.Hosts
	killed := lab.Now()
	for _, h := range hosts[1:] {
		check(t, s.Cluster.Coordinator(h).Kill())
	}
	eventually(ctx, t, s.TTL+2*time.Second, func() error {
		for _, vip := range s.VIPs {
			if holders := s.Recorder.Holders(vip); len(holders) > 0 {
				return fmt.Errorf("%v still have %s", holders, vip)
			}
		}
		return nil
	})
	for _, vip := range s.VIPs {
		var last lab.Time
		for _, h := range s.Recorder.Holds(vip) {
			last = max(last, h.To)
		}
		// The last renewal that two coordinators answered was sent before the kill.
		if held, stall := last.Sub(killed), s.Recorder.Stall(killed, last).Sum; held > s.TTL+stall {
			t.Errorf("%s was up %v after the quorum was gone, TTL %v, own stall %v", vip, held, s.TTL, stall)
		}
	}
	for _, args := range [][]string{{"status"}, {"move", setName, "--to", "host2"}, {"vip", "delete", setName}} {
		r, err := s.Cluster.Ctl(ctx, append(args, "--timeout", "2s")...)
		check(t, err)
		said := strings.ToLower(r.Stdout + r.Stderr)
		if r.Code != 4 || !strings.Contains(said, "no quorum") && !strings.Contains(said, "a majority of coordinators must be up") {
			t.Errorf("coordctl %v: exit code %d, want 4, and says:\n%s", args, r.Code, said)
		}
	}
	check(t, s.Cluster.Coordinator(hosts[0]).Kill())
	r, err := s.Cluster.Ctl(ctx, "status")
	check(t, err)
	if r.Code != 4 || !strings.Contains(r.Stderr, "no coordinator answers") {
		t.Errorf("no coordinator at all: exit code %d, %q", r.Code, r.Stderr)
	}
}
