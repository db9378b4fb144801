package vip

import (
	"net/netip"
	"testing"
	"time"
)

func TestLifetime(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	cases := []struct {
		remaining time.Duration
		addresses int
		left      time.Duration
		valid     time.Duration
		due       bool
	}{
		{remaining: 0, addresses: 1, left: 0},
		{remaining: -s, addresses: 1000, left: 0},
		{remaining: s, addresses: 0, left: 0},
		{remaining: 1, addresses: 1, left: 0, valid: s, due: true},
		{remaining: 999 * ms, addresses: 1, left: 998 * ms, valid: s, due: true},
		{remaining: 999 * ms, addresses: 1, left: 999 * ms, valid: s, due: false},
		{remaining: s, addresses: Few, left: 834 * ms, valid: s, due: true},
		{remaining: s + 1, addresses: Few, left: 834 * ms, valid: 2 * s, due: true},
		{remaining: s, addresses: Few + 1, left: 3*s + 1, valid: 4 * s, due: false},
		{remaining: s, addresses: Few + 1, left: 3 * s, valid: 4 * s, due: true},
		{remaining: 9800 * ms, addresses: 1000, left: 11 * s, valid: 12 * s, due: true},
		{remaining: 9800 * ms, addresses: 1000, left: 11*s + 1, valid: 12 * s, due: false},
	}
	for _, c := range cases {
		valid, due := Lifetime(c.remaining, c.addresses, c.left)
		if valid != c.valid || due != c.due {
			t.Errorf("Lifetime(%v, %d, %v) = %v, %v; want %v, %v", c.remaining, c.addresses, c.left, valid, due, c.valid, c.due)
		}
	}
}

func many(n int) []Address {
	out := make([]Address, n)
	for i := range out {
		out[i] = Address{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 16), "eth0"}
	}
	return out
}

// run renews a lease every 167 ms for ten seconds and returns how many calls
// and addresses the refreshing took. Each address must outlive the lease.
func run(t *testing.T, n int, ttl time.Duration) (calls, addresses int) {
	t.Helper()
	var r Refresher
	up, until := many(n), map[Address]time.Duration{}
	valid, _ := Lifetime(ttl, n, 0)
	r.Refreshed(0, valid, up)
	for _, a := range up {
		until[a] = valid
	}
	for now := time.Duration(0); now < 10*time.Second; now += 167 * time.Millisecond {
		for {
			due, valid, _ := r.Next(now, ttl, up)
			if len(due) == 0 {
				break
			}
			if len(due) > Slice {
				t.Fatalf("a slice of %d", len(due))
			}
			calls, addresses = calls+1, addresses+len(due)
			r.Refreshed(now, valid, due)
			for _, a := range due {
				until[a] = now + valid
			}
		}
		for _, a := range up {
			if until[a] < now+ttl {
				t.Fatalf("at %v: %v ends at %v, before the lease", now, a, until[a])
			}
		}
	}
	return calls, addresses
}

func TestRefresherFollowsEveryRenewalOfFew(t *testing.T) {
	if calls, n := run(t, 10, 990*time.Millisecond); calls != 59 || n != 590 {
		t.Errorf("%d calls for %d addresses in 59 renewals", calls, n)
	}
}

func TestRefresherDealsManyOncePerSecond(t *testing.T) {
	calls, n := run(t, 1000, 990*time.Millisecond)
	if n < 8000 || n > 10000 || calls != n/1000*16 {
		t.Errorf("%d calls for %d addresses in ten seconds", calls, n)
	}
	run(t, 1000, 10*time.Second)
}

func TestRefresherSaysWhenTheNextIsDue(t *testing.T) {
	var r Refresher
	up := many(100)
	r.Refreshed(0, 4*time.Second, up)
	due, _, again := r.Next(300*time.Millisecond, time.Second, up)
	if len(due) != 0 || again != 700*time.Millisecond {
		t.Errorf("%d due, again in %v", len(due), again)
	}
}

func TestRefresherForgets(t *testing.T) {
	var r Refresher
	up := many(2)
	r.Refreshed(0, 10*time.Second, up)
	r.Next(0, time.Second, up[:1])
	if due, _, _ := r.Next(0, time.Second, up); len(due) != 1 || due[0] != up[1] {
		t.Errorf("due: %v", due)
	}
	if due, valid, _ := r.Next(0, 0, up); len(due) != 0 || valid != 0 {
		t.Errorf("without a lease: %v for %v", due, valid)
	}
}
