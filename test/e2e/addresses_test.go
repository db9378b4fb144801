package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"holdfast/test/lab"
	"holdfast/test/lab/scenario"
)

// An agent that is killed and restarted within the TTL adopts its session: no
// probe is lost and nothing moves.
func TestAgentAdoptsAfterRestart(t *testing.T) {
	s, ctx := stage(t)
	before, err := s.Cluster.Status(ctx)
	check(t, err)
	runOn(ctx, t, s, scenario.AgentRestart())
	after, err := s.Cluster.Status(ctx)
	check(t, err)
	if b, a := before.Vips[0], after.Vips[0]; a.Session != b.Session || a.Epoch != b.Epoch {
		t.Errorf("before the restart: session %d, epoch %d; after it: %d, %d", b.Session, b.Epoch, a.Session, a.Epoch)
	}
}

// The agent alone is killed: its guardian starts it at once, it adopts its session,
// and no answer is lost.
func TestAgentKilledAloneLosesNothing(t *testing.T) {
	s, ctx := stage(t)
	before, err := s.Cluster.Status(ctx)
	check(t, err)
	guardian := s.Cluster.Agent(s.Holder)
	agent := guardian.Children()
	runOn(ctx, t, s, scenario.AgentKilled())
	after, err := s.Cluster.Status(ctx)
	check(t, err)
	if b, a := before.Vips[0], after.Vips[0]; a.Session != b.Session || a.Epoch != b.Epoch {
		t.Errorf("before the kill: session %d, epoch %d; after it: %d, %d", b.Session, b.Epoch, a.Session, a.Epoch)
	}
	if now := guardian.Children(); len(now) != 1 || slices.Equal(now, agent) {
		t.Errorf("agents before %v, after %v", agent, now)
	}
	check(t, logSays(guardian, "died and was started again"))
}

// An address that somebody deletes by hand is restored within 50 ms.
func TestDeletedAddressIsRestored(t *testing.T) {
	s, ctx := stage(t)
	for _, vip := range s.VIPs {
		began := lab.Now()
		check(t, s.Holder.RemoveAddress(vip))
		var restored lab.Time
		eventually(ctx, t, 2*time.Second, func() error {
			for _, h := range s.Recorder.Holds(vip) {
				if h.Host == s.Holder.Name && h.From > began {
					restored = h.From
					return nil
				}
			}
			return fmt.Errorf("%s is not back", vip)
		})
		stall := s.Recorder.Stall(began, restored).Sum
		if took := restored.Sub(began); took > 50*time.Millisecond+stall {
			t.Errorf("%s was back after %v, promised 50 ms, own stall %v", vip, took, stall)
		} else {
			t.Logf("%s was back after %v", vip, took)
		}
	}
	eventually(ctx, t, 2*time.Second, func() error { return logSays(s.Cluster.Agent(s.Holder), "restor") })
}

// protocolMark is the address protocol number that marks Holdfast's addresses.
const protocolMark = 0x48

// At its start an agent removes addresses that bear its mark and that it does
// not hold; what others added stays.
func TestLeftoversAreSwept(t *testing.T) {
	s, ctx := stage(t)
	var host *lab.Host
	for _, h := range s.Cluster.Network.Hosts {
		if h != s.Holder {
			host = h
		}
	}
	check(t, s.Cluster.Agent(host).Stop(ctx))
	leftover4, leftover6 := netip.MustParsePrefix("10.77.9.1/32"), netip.MustParsePrefix("fd77::9:1/128")
	foreign := netip.MustParsePrefix("10.77.9.2/32")
	for _, p := range []netip.Prefix{leftover4, leftover6} {
		check(t, host.AddMarkedAddress(p, protocolMark))
	}
	check(t, host.AddAddress(foreign))
	_, err := s.Cluster.StartAgent(host)
	check(t, err)
	eventually(ctx, t, 5*time.Second, func() error {
		return errors.Join(lacksAddress(host, leftover4), lacksAddress(host, leftover6))
	})
	if lacksAddress(host, foreign) == nil {
		t.Errorf("%s, which bears no mark, was removed", foreign)
	}
	check(t, host.RemoveAddress(foreign.Addr()))
}

// lacksAddress returns nil if the host does not have the address.
func lacksAddress(h *lab.Host, p netip.Prefix) error {
	have, err := h.Addresses()
	if err != nil {
		return err
	}
	for _, a := range have {
		if a.Addr() == p.Addr() {
			return fmt.Errorf("%s has %s", h.Name, p)
		}
	}
	return nil
}

// After a takeover the address is announced, and again after a second.
func TestAnnouncedAtTakeoverAndAgain(t *testing.T) {
	s, ctx := stage(t)
	began := lab.Now()
	row := runOn(ctx, t, s, scenario.Move())
	for _, vip := range s.VIPs {
		eventually(ctx, t, 3*time.Second, func() error {
			first, again := announcements(s.Recorder.Observe(vip, began, lab.Now()), row.To)
			if first == 0 || again == 0 {
				return fmt.Errorf("%s: announced %d times at the takeover and %d times again", vip, first, again)
			}
			return nil
		})
	}
}

// announcements counts unasked claims of a host on each segment: those within
// half a second of the first one, and the later ones.
func announcements(o lab.Observations, host string) (first, again int) {
	var begin lab.Time
	for _, c := range o.Claims {
		if c.Host != host || !c.Gratuitous || c.Segment != lab.SegmentB {
			continue
		}
		if begin == 0 {
			begin = c.At
		}
		if c.At.Sub(begin) < 500*time.Millisecond {
			first++
		} else {
			again++
		}
	}
	return first, again
}

// After the holder's link was away, the address is announced again.
func TestAnnouncedAfterLinkUp(t *testing.T) {
	s, ctx := stage(t)
	check(t, s.Holder.SetCarrier(false))
	s.Pause(ctx, 100*time.Millisecond)
	began := lab.Now()
	check(t, s.Holder.SetCarrier(true))
	for _, vip := range s.VIPs {
		eventually(ctx, t, 5*time.Second, func() error {
			for _, c := range s.Recorder.Observe(vip, began, lab.Now()).Claims {
				if c.Gratuitous {
					return nil
				}
			}
			return fmt.Errorf("%s was not announced after the link was up", vip)
		})
	}
}

// Somebody else claims the address: its holder answers with an announcement.
func TestForeignClaimIsAnswered(t *testing.T) {
	s, ctx := stage(t)
	intruder := s.Cluster.Network.Clients[0]
	s.Pause(ctx, 1500*time.Millisecond) // the announcement that follows a takeover is past
	began := lab.Now()
	check(t, intruder.ClaimAddress(vip4))
	eventually(ctx, t, 2*time.Second, func() error {
		for _, c := range s.Recorder.Observe(vip4, began, lab.Now()).Claims {
			if c.Gratuitous && c.Host == s.Holder.Name {
				return nil
			}
		}
		return fmt.Errorf("%s did not defend %s", s.Holder.Name, vip4)
	})
}

// An address goes from one set to another only after its holder has taken it
// down, and it is never on two hosts on its way.
func TestAddressChangesItsSet(t *testing.T) {
	s, ctx := stage(t)
	from, other := s.Holder, s.Cluster.Network.Hosts[0]
	if other == from {
		other = s.Cluster.Network.Hosts[1]
	}
	began := lab.Now()
	check(t, s.Cluster.Apply(ctx, "vips:\n"+setEntry(s.Cluster, setName, vip4.String()+"/32")))
	taker := fmt.Sprintf("vips:\n  - name: other\n    addresses: [%s/128]\n    hosts: [{host: %s, priority: 100}]\n", vip6, other.Name)
	eventually(ctx, t, 5*time.Second, func() error { return s.Cluster.Apply(ctx, taker) }) // refused until the holder has confirmed
	eventually(ctx, t, 5*time.Second, func() error {
		if holders := s.Recorder.Holders(vip6); len(holders) != 1 || holders[0] != other.Name {
			return fmt.Errorf("%s is on %v, want %s", vip6, holders, other.Name)
		}
		return nil
	})
	ended := lab.Now()
	if o, stall := s.Recorder.Observe(vip6, began, ended).Overlap(), s.Recorder.Stall(began, ended).Max; o.Max() > stall {
		t.Errorf("%s was on two hosts: %+v, own stall %v", vip6, o, stall)
	}
	if holders := s.Recorder.Holders(vip4); len(holders) != 1 || holders[0] != from.Name {
		t.Errorf("%s, which stayed in its set, is on %v and not on %s", vip4, holders, from.Name)
	}
	_, err := s.Cluster.MustCtl(ctx, "vip", "delete", "other")
	check(t, err)
	eventually(ctx, t, 5*time.Second, func() error { return s.Cluster.Apply(ctx, vipFile(s.Cluster)) })
}
