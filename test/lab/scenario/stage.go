package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"holdfast/test/lab"
)

// Stage is a running cluster with one VIP set under observation.
type Stage struct {
	Cluster  *lab.Cluster // with another System, only its Network and Config count
	System   System       // what holds the set; nil: the cluster
	Recorder *lab.Recorder
	Set      string
	VIPs     []netip.Addr // of the set, all of them probed
	TTL      time.Duration
	Say      func(format string, args ...any) // comments for a person; may be nil

	// Weak: the hosts' kernels have no fence with an absolute deadline. Promises
	// are then held to what the address's lifetime alone can keep.
	Weak bool
	// Candidates are the hosts that may hold the set; nil: all with an agent.
	Candidates []*lab.Host
	// Also are addresses of other sets that are judged for overlap with it.
	Also []netip.Addr

	// Holder is the host that holds the set before the fault.
	Holder *lab.Host

	broken string         // the scenario whose fault is still in place
	began  lab.Time       // when the latest fault began
	undo   []func() error // what Repair has to do besides
}

// later has something undone when the stage is repaired.
func (s *Stage) later(undo func() error) { s.undo = append(s.undo, undo) }

func (s *Stage) candidates() []*lab.Host {
	if s.Candidates != nil {
		return s.Candidates
	}
	return s.Cluster.Config().Agents
}

func (s *Stage) say(format string, args ...any) {
	if s.Say != nil {
		s.Say(format, args...)
	}
}

// Pause waits for a length of time or the end of ctx.
func (s *Stage) Pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Calm waits until the cluster is ready, one host has every address of the set
// by its kernel and by the quorum, and every client has had its answers from
// it for a while.
func (s *Stage) Calm(ctx context.Context) error {
	if err := s.system().Ready(ctx); err != nil {
		return err
	}
	return lab.Poll(ctx, 50*time.Millisecond, func() error {
		name, err := s.answering(s.Cluster.Network.Clients, 200*time.Millisecond)
		if err != nil {
			return err
		}
		granted, err := s.system().Holder(ctx, s.Set)
		if err != nil {
			return err
		}
		if granted != name {
			return fmt.Errorf("%s answers and %q holds the grant", name, granted)
		}
		s.Holder = s.Cluster.Network.Host(name)
		return nil
	})
}

// answering returns the one host that has every address and from which alone
// the clients had their answers for a while.
func (s *Stage) answering(clients []*lab.Host, period time.Duration) (string, error) {
	now := lab.Now()
	var host string
	for _, vip := range s.VIPs {
		holders := s.Recorder.Holders(vip)
		if len(holders) != 1 {
			return "", fmt.Errorf("%s is on %v", vip, holders)
		}
		if host != "" && holders[0] != host {
			return "", fmt.Errorf("the addresses are on %s and %s", host, holders[0])
		}
		host = holders[0]
		o := s.Recorder.Observe(vip, now.Add(-period), now)
		for _, c := range clients {
			if gap := o.LongestGap(c.Name); gap.Length() > period/2 {
				return "", fmt.Errorf("%s has no answer from %s", c.Name, vip)
			}
		}
		if i := slices.IndexFunc(o.Answers, func(a lab.Answer) bool { return a.Host != host && counts(clients, a.Client) }); i >= 0 {
			return "", fmt.Errorf("%s answers for %s, which is on %s", o.Answers[i].Host, vip, host)
		}
	}
	return host, nil
}

func counts(clients []*lab.Host, name string) bool {
	return slices.ContainsFunc(clients, func(c *lab.Host) bool { return c.Name == name })
}

// rest waits until another host than the old holder answers all clients, and
// has the addresses alone.
func (s *Stage) rest(ctx context.Context, old *lab.Host, clients []*lab.Host) error {
	return lab.Poll(ctx, 20*time.Millisecond, func() error {
		name, err := s.answering(clients, 100*time.Millisecond)
		if err == nil && name == old.Name {
			err = fmt.Errorf("%s still answers", name)
		}
		return err
	})
}

// other returns a host that is not the holder, the same one each time.
func (s *Stage) other() *lab.Host {
	hosts := s.candidates()
	for i, h := range hosts {
		if h == s.Holder {
			return hosts[(i+1)%len(hosts)]
		}
	}
	return hosts[0]
}

// leadElsewhere makes a coordinator lead that is not on the holder's host.
func (s *Stage) leadElsewhere(ctx context.Context) error {
	if s.System != nil {
		return nil // nothing else has a leader
	}
	for _, h := range s.Cluster.Config().Coordinators {
		if h != s.Holder {
			return s.Cluster.Lead(ctx, h)
		}
	}
	return fmt.Errorf("%s has the only coordinator", s.Holder.Name)
}

// moveTo makes the host the holder.
func (s *Stage) moveTo(ctx context.Context, h *lab.Host) error {
	if s.Holder != h {
		if err := s.system().Move(ctx, s.Set, h); err != nil {
			return err
		}
	}
	return lab.Poll(ctx, 50*time.Millisecond, func() error {
		if err := s.Calm(ctx); err != nil {
			return err
		}
		if s.Holder != h {
			return fmt.Errorf("%s holds the set and not %s", s.Holder.Name, h.Name)
		}
		return nil
	})
}

// Repair undoes every fault and leaves the cluster calm.
func (s *Stage) Repair(ctx context.Context) error {
	s.broken = ""
	var errs []error
	for _, undo := range s.undo {
		errs = append(errs, undo())
	}
	s.undo = nil
	for _, h := range s.Cluster.Network.Hosts {
		if err := os.Remove(MaintenanceFile(h)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(append(errs, s.system().Repair(ctx))...); err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	return s.Calm(ctx)
}
