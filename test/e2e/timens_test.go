package e2e

import (
	"errors"
	"testing"
	"time"

	"holdfast/test/lab"
)

// An agent in a time namespace reads another boot clock than the kernel's fence
// does: every deadline that it stores would be wrong by the difference. It must
// notice and hold nothing, by whatever way it is asked.
func TestTimeNamespaceHoldsNothing(t *testing.T) {
	s, ctx := stage(t)
	if s.Weak {
		t.Log("no eBPF here: the weaker fence counts from now, and there is nothing to refuse")
		return
	}
	host := s.Cluster.Network.Hosts[1]
	if host == s.Holder {
		host = s.Cluster.Network.Hosts[2]
	}
	check(t, s.Cluster.Agent(host).Stop(ctx))
	s.Cluster.AgentAhead(host, 2000*time.Second)
	t.Cleanup(func() {
		s.Cluster.AgentAhead(host, 0)
		check(t, s.Cluster.Agent(host).Kill())
	})
	began := lab.Now()
	agent, err := s.Cluster.StartAgent(host)
	check(t, err)
	eventually(ctx, t, 5*time.Second, func() error { return logSays(agent, "no fence") })
	check(t, s.Cluster.WaitReady(ctx)) // it has a session all the same
	r, err := s.Cluster.Ctl(ctx, "move", setName, "--to", host.Name, "--timeout", "2s")
	check(t, err)
	if r.Code == 0 {
		t.Errorf("the set may move to %s: %s", host.Name, r.Stdout)
	}
	// Nobody else is left, and it still does not take the addresses.
	for _, h := range s.Cluster.Network.Hosts {
		if h != host {
			check(t, s.Cluster.Agent(h).Kill())
		}
	}
	s.Pause(ctx, 3*s.TTL)
	for _, vip := range s.VIPs {
		o := s.Recorder.Observe(vip, began, lab.Now())
		if last := o.LastClaims(host.Name); len(last) > 0 {
			t.Errorf("%s claimed %s: %v", host.Name, vip, last)
		}
		for _, h := range o.Holds {
			if h.Host == host.Name && (h.To == 0 || h.To > began) {
				t.Error(errors.New(host.Name + " had the address in its table"))
			}
		}
	}
}
