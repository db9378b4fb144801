package e2e

import (
	"fmt"
	"testing"
	"time"

	"holdfast/test/lab"
	"holdfast/test/lab/scenario"
)

// Planned moves wait for nothing.
func TestMove(t *testing.T) { run(t, scenario.Move()) }

// A drained host gives everything away and takes nothing.
func TestDrain(t *testing.T) {
	row := run(t, scenario.Drain())
	if row.To == row.From {
		t.Errorf("the drained host %s took the set again", row.From)
	}
}

// On SIGTERM the address is down before it is released: the old kernel has lost
// it before the new one gets it.
func TestSIGTERMOrder(t *testing.T) {
	s, ctx := stage(t)
	old, began := s.Holder.Name, lab.Now()
	runOn(ctx, t, s, scenario.Terminate())
	for _, vip := range s.VIPs {
		var down, up lab.Time
		for _, h := range s.Recorder.Holds(vip) {
			if h.Host == old && h.To > began && down == 0 {
				down = h.To
			}
			if h.Host != old && h.From > began && up == 0 {
				up = h.From
			}
		}
		allowed := s.Recorder.Stall(began, lab.Now()).Max
		if down == 0 || up == 0 || down.Sub(up) > allowed {
			t.Errorf("%s: down on %s at %d, up elsewhere at %d: %v too early (own stall %v)", vip, old, down, up, down.Sub(up), allowed)
		}
	}
}

// SIGTERM ends the session too: nobody has to wait for it to lapse.
func TestSIGTERMClosesSession(t *testing.T) {
	s, ctx := stage(t)
	host := s.Holder
	check(t, s.Cluster.Agent(host).Stop(ctx))
	if code := s.Cluster.Agent(host).ExitCode(); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	eventually(ctx, t, time.Second, func() error {
		status, err := s.Cluster.Status(ctx)
		if err != nil {
			return err
		}
		for _, a := range status.Agents {
			if a.Host == host.Name && a.Session != 0 {
				return fmt.Errorf("%s still has session %d", host.Name, a.Session)
			}
		}
		return nil
	})
}

// A health check that turns bad moves the set at once.
func TestHealthVerdict(t *testing.T) { run(t, scenario.Unhealthy()) }
