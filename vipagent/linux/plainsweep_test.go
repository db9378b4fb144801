package linux

import (
	"fmt"
	"strings"
	"testing"
)

// TestSweepRoutes: the routes and rules that a killed process left go, and nothing else.
func TestSweepRoutes(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	show := func() string {
		return fmt.Sprint(h.run("ip", "route", "show", "table", "all"), h.run("ip", "-6", "route", "show", "table", "all"), h.run("ip", "rule"), h.run("ip", "-6", "rule"))
	}
	h.run("ip", "route", "add", "198.51.100.0/24", "via", "10.1.255.2", "proto", "18")
	h.run("ip", "rule", "add", "from", "198.51.100.0/24", "table", "9")
	waitFor(t, "the host's own address to be usable", func() bool {
		return strings.Contains(h.run("ip", "-6", "route", "show", "table", "local"), "local 2001:db8:1::1 ")
	})
	before := show()
	add := func(f func([]string) error, list ...string) {
		for _, s := range list {
			var err error
			h.do(func() { err = f(strings.Fields(s)) })
			h.must(err)
		}
	}
	add(k.AddRoute, "192.0.2.0/24 via 10.1.255.2", "198.51.100.0/24 via 10.1.255.3", "blackhole 192.0.2.0/25 table 700", "2001:db8:5::/48 via 2001:db8:1::ffff:2",
		"192.0.3.0/24 nexthop via 10.1.255.2 nexthop via 10.1.255.3")
	add(k.AddRule, "from 10.0.0.1 table 700 priority 6", "from 2001:db8:5::1 table 700 priority 7", "iif eth0 fwmark 5 goto 32766 priority 9")
	for _, want := range []int{8, 0} {
		if n, err := k.SweepRoutes(); n != want || err != nil {
			t.Errorf("swept %d, %v, want %d", n, err, want)
		}
	}
	if after := show(); after != before {
		t.Errorf("after: %s\nbefore: %s", after, before)
	}
}

// TestRouteHops: next hops that ip(8) would not take in these words, or not of the same
// family.
func TestRouteHops(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	for words, want := range map[string]string{
		"192.0.2.0/24 via 10.1.255.2 or 10.1.255.3":                                                  "192.0.2.0/24 proto 73 nexthop via 10.1.255.2 dev eth0 weight 1 nexthop via 10.1.255.3 dev eth0 weight 1",
		"192.0.2.0/24 via inet6 2001:db8:1::9 dev eth0":                                              "192.0.2.0/24 via inet6 2001:db8:1::9 dev eth0 proto 73",
		"192.0.2.0/24 nexthop via inet6 2001:db8:1::9 dev eth0 nexthop via inet 10.1.255.3 weight 2": "192.0.2.0/24 proto 73 nexthop via inet6 2001:db8:1::9 dev eth0 weight 1 nexthop via 10.1.255.3 dev eth0 weight 2",
	} {
		var err error
		h.do(func() { err = k.AddRoute(strings.Fields(words)) })
		h.must(err)
		if got := strings.Join(strings.Fields(h.run("ip", "route", "show", "192.0.2.0/24")), " "); got != want {
			t.Errorf("%s: got %s, want %s", words, got, want)
		}
		h.do(func() { err = k.RemoveRoute(strings.Fields(words)) })
		if got := h.run("ip", "route", "show", "192.0.2.0/24"); err != nil || got != "" {
			t.Errorf("%s: after the removal: %s, %v", words, got, err)
		}
	}
}
