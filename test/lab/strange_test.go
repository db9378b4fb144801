package lab

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// A second host takes the address and says nothing. The clients go on with the
// first one, which is what their neighbour tables name; a stranger hears both,
// and asking changes nobody's table.
func TestStrangersHearASecondHost(t *testing.T) {
	n := newNetwork(t)
	vip := netip.MustParsePrefix("10.77.1.1/32")
	r, err := n.StartRecorder(0, vip.Addr())
	check(t, err)
	t.Cleanup(func() { check(t, r.Close()) })
	check(t, r.Strangers(vip.Addr(), netip.MustParseAddr("fd77::c:1")))
	mustHolder(t, n.Hosts[0], vip.String())
	eventually(t, func() error { return answered(r, vip.Addr(), "host1") })

	before := Now()
	pause(100 * time.Millisecond)
	if both := r.Observe(vip.Addr(), before, Now()).Both(); both > 0 {
		t.Errorf("both were heard for %v, and there is one", both)
	}
	check(t, n.Hosts[1].AddAddress(vip))
	from := Now()
	eventually(t, func() error {
		if both := r.Observe(vip.Addr(), from, Now()).Both(); both < 200*time.Millisecond {
			return fmt.Errorf("both were heard for %v", both)
		}
		return nil
	})
	o := r.Observe(vip.Addr(), from, Now())
	for _, a := range o.Answers {
		if a.Host != "host1" {
			t.Fatalf("%s was answered by %s", a.Client, a.Host)
		}
	}
}

func TestBoth(t *testing.T) {
	both := append(claimsOf("h1", 0, 80*ms), claimsOf("h2", 30*ms, 100*ms)...)
	for name, tt := range map[string]struct {
		o    Observations
		want time.Duration
	}{
		"both claim it, over and over": {Observations{Claims: both}, time.Duration(50 * ms)},
		"one and then the other":       {Observations{Claims: append(claimsOf("h1", 0, 40*ms), claimsOf("h2", 50*ms, 100*ms)...)}, 0},
		"one packet is an instant":     {Observations{Claims: append(claimsOf("h1", 0, 100*ms), claimsOf("h2", 50*ms, 50*ms)...)}, 0},
		"one of them is off":           {Observations{Claims: both, Offs: []Off{{"h1", 20 * ms, 0}}}, 0},
		"both answer": {
			Observations{Answers: append(answersOf("c", "h1", 0, 60*ms), answersOf("d", "h2", 40*ms, 100*ms)...)}, time.Duration(20 * ms),
		},
	} {
		t.Run(name, func(t *testing.T) {
			tt.o.From, tt.o.To = 0, 100*ms
			if got := tt.o.Both(); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// claimsOf makes claims of one host each 10 ms between two times.
func claimsOf(host string, from, to Time) []Claim {
	var claims []Claim
	for t := from; t <= to; t += 10 * ms {
		claims = append(claims, Claim{Host: host, At: t})
	}
	return claims
}
