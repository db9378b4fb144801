package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/test/lab"
)

// The quorum grows from three to five by starting coordinators, and shrinks
// again one at a time, and the holder does not notice.
func TestFiveCoordinatorsAndBack(t *testing.T) {
	layout := lab.Standard()
	layout.Hosts = append(layout.Hosts, lab.SegmentA, lab.SegmentB)
	n, ctx := ownNetwork(t, layout)
	s, err := startStage(n, lab.ClusterConfig{TTL: time.Second, Agents: n.Hosts[:3]})
	check(t, err)
	t.Cleanup(func() { check(t, s.Recorder.Close()) })
	began, holder := lab.Now(), s.Holder.Name

	for i, h := range n.Hosts[3:] {
		_, err := s.Cluster.StartCoordinator(h)
		check(t, err)
		waitVoters(ctx, t, s.Cluster, 4+i)
	}
	// The leader goes too: it hands over before it leaves.
	leader, err := s.Cluster.Leader(ctx)
	check(t, err)
	gone := []*lab.Host{leader}
	for _, h := range n.Hosts {
		if h != leader && len(gone) < 2 {
			gone = append(gone, h)
		}
	}
	for i, h := range gone {
		_, err := s.Cluster.MustCtl(ctx, "members", "remove", h.Name)
		check(t, err)
		waitVoters(ctx, t, s.Cluster, 4-i)
		check(t, s.Cluster.Coordinator(h).Kill())
	}
	s.Pause(ctx, s.TTL+500*time.Millisecond) // longer than a lease that nobody renews

	ended := lab.Now()
	s.Pause(ctx, 50*time.Millisecond)
	for _, vip := range s.VIPs {
		o := s.Recorder.Observe(vip, began, ended)
		for _, a := range o.Answers {
			if a.Host != holder {
				t.Fatalf("%s answers for %s, held by %s", a.Host, vip, holder)
			}
		}
		for _, c := range n.Clients {
			if lost := s.Recorder.Lost(c.Name, vip, began, ended); lost > 0 {
				t.Errorf("%s lost %d probes of %s, longest gap %v", c.Name, lost, vip, o.LongestGap(c.Name).Length())
			}
		}
	}
}

// waitVoters waits until so many coordinators vote and all of them answer.
func waitVoters(ctx context.Context, t *testing.T, c *lab.Cluster, want int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	check(t, c.Await(ctx, func(s *pb.StatusReply) error {
		voters := 0
		for _, m := range s.Coordinators {
			if m.Voter && m.Reachable {
				voters++
			}
		}
		if voters != want || s.Leader == "" {
			return fmt.Errorf("%d voters, want %d: %s %v", voters, want, s.Verdict, s.Problems)
		}
		return nil
	}))
}

// A coordinator that comes back under its name with an empty disk has
// forgotten its fence marks: it must not vote.
func TestWipedCoordinatorIsRefused(t *testing.T) {
	s, ctx := stage(t)
	host := s.Cluster.Network.Hosts[2]
	leadElsewhere(ctx, t, s.Cluster, host)
	// A cluster that has hardly begun cannot tell a wiped member from one that
	// has not been reached yet.
	eventually(ctx, t, 20*time.Second, func() error {
		status, err := s.Cluster.Status(ctx)
		if err != nil || status.AppliedIndex > 40 {
			return err
		}
		if _, err := s.Cluster.MustCtl(ctx, "pause", setName); err != nil {
			return err
		}
		_, err = s.Cluster.MustCtl(ctx, "resume", setName)
		return errors.Join(err, errors.New("the log is short"))
	})
	check(t, s.Cluster.Coordinator(host).Kill())
	moved := moveAside(t, host)
	p, err := s.Cluster.StartCoordinator(host)
	check(t, err)
	eventually(ctx, t, 10*time.Second, func() error { return logSays(p, "wiped", "empty", "data director") })
	if p.Running() {
		check(t, p.Kill())
	}
	moved()
}
