package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// A move by hand from host 1 to host 2, once with a hole between and once with
// both having the address: the lab must see what was done.
func TestRecorderSeesMove(t *testing.T) {
	n := newNetwork(t)
	v4, v6 := netip.MustParseAddr("10.77.1.1"), netip.MustParseAddr("fd77::c:1")
	r, err := n.StartRecorder(0, v4, v6)
	check(t, err)
	closed := false
	t.Cleanup(func() {
		if !closed {
			check(t, r.Close())
		}
	})
	begin := Now()
	first := mustHolder(t, n.Hosts[0], "10.77.1.1/32", "fd77::c:1/128")
	pause(100 * time.Millisecond)

	hole := Now()
	check(t, first.Stop(t.Context()))
	pause(150 * time.Millisecond)
	second := mustHolder(t, n.Hosts[1], "10.77.1.1/32", "fd77::c:1/128")
	filled := Now()
	pause(100 * time.Millisecond)

	both := Now()
	third := mustHolder(t, n.Hosts[2], "10.77.1.1/32", "fd77::c:1/128")
	pause(120 * time.Millisecond)
	check(t, second.Stop(t.Context()))
	single := Now()
	pause(100 * time.Millisecond)
	check(t, third.Stop(t.Context()))
	end := Now()
	pause(50 * time.Millisecond)
	check(t, r.Close())
	closed = true

	for _, vip := range []netip.Addr{v4, v6} {
		moved := r.Observe(vip, hole, both)
		for _, client := range []string{"client1", "client2"} {
			gap := moved.LongestGap(client)
			if limit := filled.Sub(hole) + r.Stall(gap.From, gap.To).Sum + 10*time.Millisecond; gap.Length() < 150*time.Millisecond || gap.Length() > limit || gap.Open {
				t.Errorf("%s, %s: gap %v (open: %t), the hole was 150 ms to %v", vip, client, gap.Length(), gap.Open, limit)
			}
		}
		if lost := r.Lost("client1", vip, hole, both); lost < 30 {
			t.Errorf("%s: %d probes lost in a hole of 150 ms", vip, lost)
		}
		if lost := r.Lost("client1", vip, filled.Add(60*time.Millisecond), both); lost > 0 {
			t.Errorf("%s: %d probes lost after the move", vip, lost)
		}
		stall := r.Stall(hole, both).Max
		if o := moved.Overlap(); o.Max() > stall {
			t.Errorf("%s: overlap %+v with nobody sharing; stall %v", vip, o, stall)
		}
		shared := r.Observe(vip, both, end)
		if got := shared.Overlap().Kernel; got < 120*time.Millisecond || got > single.Sub(both)+stall+5*time.Millisecond {
			t.Errorf("%s: overlap %v by the kernels, made one of 120 ms to %v", vip, got, single.Sub(both))
		}
		whole := r.Observe(vip, begin, end)
		if len(whole.Claims) < 6 {
			t.Errorf("%s: %d claims heard, three announcements on two segments", vip, len(whole.Claims))
		}
		holders := map[string]bool{}
		for _, a := range whole.Answers {
			holders[a.Host] = true
			if a.Accepted < a.Sent.Add(-time.Millisecond) || a.Received < a.Accepted.Add(-time.Millisecond) {
				t.Fatalf("%s: answer out of order: %+v", vip, a)
			}
		}
		if len(holders) != 3 {
			t.Errorf("%s: answers from %v", vip, holders)
		}
	}
}

// A host without power holds nothing, though its kernel still has the address
// for a moment.
func TestPoweredOffHostHoldsNothing(t *testing.T) {
	n := newNetwork(t)
	vip := netip.MustParseAddr("10.77.1.1")
	r, err := n.StartRecorder(0, vip)
	check(t, err)
	t.Cleanup(func() { check(t, r.Close()) })
	mustHolder(t, n.Hosts[0], "10.77.1.1/32")
	eventually(t, func() error { return answered(r, vip, "host1") })
	off, err := n.Hosts[0].PowerOff()
	check(t, err)
	mustHolder(t, n.Hosts[1], "10.77.1.1/32")
	eventually(t, func() error { return answered(r, vip, "host2") })
	if o := r.Observe(vip, off.Add(-time.Second), Now()).Overlap(); o.Kernel > 0 || o.Wire > 0 {
		t.Errorf("overlap %+v with a host that is off", o)
	}
	eventually(t, func() error { // what the kernel tells is read beside the answers
		if holders := r.Holders(vip); len(holders) != 1 || holders[0] != "host2" {
			return fmt.Errorf("holders are %v", holders)
		}
		return nil
	})
}

func answered(r *Recorder, vip netip.Addr, host string) error {
	now := Now()
	for _, a := range r.Observe(vip, now.Add(-100*time.Millisecond), now).Answers {
		if a.Host == host {
			return nil
		}
	}
	return errNoAnswer
}

// pause waits for a length of time that is itself what the test makes.
func pause(d time.Duration) { sleepUntil(Now().Add(d)) }

var errNoAnswer = errors.New("no answer")

// Probes of an address that nobody has go on at their pace: the packets that
// wait for a neighbour must not hold the prober up, or its own stall would
// excuse the gap that it measures.
func TestProbingNobodyGoesOn(t *testing.T) {
	n := newNetwork(t)
	vip := netip.MustParseAddr("10.77.1.1")
	began := Now()
	r, err := n.StartRecorder(0, vip)
	check(t, err)
	pause(1500 * time.Millisecond)
	ended := Now()
	check(t, r.Close())
	if lost := r.Lost("client1", vip, began, ended); lost < 500 {
		t.Errorf("%d probes in 1.5 s, 750 are due; stall %v", lost, r.Stall(began, ended))
	}
}
