package linux

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestRoutes(t *testing.T) {
	for _, c := range []struct{ words, show, want string }{
		{"192.0.2.0/24 via 10.1.255.2", "route", "192.0.2.0/24 via 10.1.255.2 dev eth0 proto 73"},
		{"192.0.2.0/24 via inet 10.1.255.2 dev eth0 src 10.1.0.1 metric 50", "route", "192.0.2.0/24 via 10.1.255.2 dev eth0 proto 73 src 10.1.0.1 metric 50"},
		{"to 192.0.2.1 dev eth0 priority 5", "route", "192.0.2.1 dev eth0 proto 73 scope link metric 5"},
		{"192.0.2.9/24 dev eth0 scope host preference 6 proto static", "route", "192.0.2.0/24 dev eth0 proto static scope host metric 6"},
		{"default via 10.1.255.2 table 1000", "route show table 1000", "default via 10.1.255.2 dev eth0 proto 73"},
		{"default via 10.1.255.2 table local", "route show table local", "default via 10.1.255.2 dev eth0 proto 73"},
		{"default via 10.1.255.2", "route", "default via 10.1.255.2 dev eth0 proto 73"},
		{"192.0.2.0/24 gw 203.0.113.1 dev eth0 onlink mtu lock 1400 advmss 1300 initcwnd 20", "route", "192.0.2.0/24 via 203.0.113.1 dev eth0 proto 73 onlink mtu lock 1400 advmss 1300 initcwnd 20"},
		{"192.0.2.0/24 via 10.1.255.2 rtt 100ms rttvar 1s rto_min 200 hoplimit 5 quickack 1 features ecn congctl reno window 1000 ssthresh 7 cwnd lock 9 reordering 4 initrwnd 8 fastopen_no_cookie 1", "route",
			"192.0.2.0/24 via 10.1.255.2 dev eth0 proto 73 window 1000 rtt 100ms rttvar 1s ssthresh 7 cwnd lock 9 reordering 4 hoplimit 5 features ecn rto_min 200ms initrwnd 8 quickack 1 congctl reno fastopen_no_cookie 1"},
		{"192.0.2.0/24 tos 0x04 via 10.1.255.2 realms 3/4", "route", "192.0.2.0/24 tos 0x04 via 10.1.255.2 dev eth0 proto 73 realms 3/4"},
		{"blackhole 192.0.2.0/24", "route", "blackhole 192.0.2.0/24 proto 73"},
		{"unreachable 192.0.2.0/24 metric 9", "route", "unreachable 192.0.2.0/24 proto 73 metric 9"},
		{"prohibit to 192.0.2.0/24", "route", "prohibit 192.0.2.0/24 proto 73"},
		{"throw 192.0.2.0/24 table 77", "route show table 77", "throw 192.0.2.0/24 proto 73"},
		{"192.0.2.0/24 nexthop via 10.1.255.2 dev eth0 weight 2 nexthop via 10.1.255.3 weight 256 onlink dev eth0", "route", "192.0.2.0/24 proto 73 nexthop via 10.1.255.2 dev eth0 weight 2 nexthop via 10.1.255.3 dev eth0 weight 256 onlink"},
		{"192.0.2.0/24 via 10.1.255.2 or 10.1.255.3", "route", "192.0.2.0/24 proto 73 nexthop via 10.1.255.2 dev eth0 weight 1 nexthop via 10.1.255.3 dev eth0 weight 1"},
		{"192.0.2.0/24 via inet6 2001:db8:1::ffff:2 dev eth0", "route", "192.0.2.0/24 via inet6 2001:db8:1::ffff:2 dev eth0 proto 73"},
		{"2001:db8:2::/48 via 2001:db8:1::ffff:2 metric 77 pref high", "-6 route", "2001:db8:2::/48 via 2001:db8:1::ffff:2 dev eth0 proto 73 metric 77 pref high"},
		{"inet6 default via 2001:db8:1::ffff:2", "-6 route", "default via 2001:db8:1::ffff:2 dev eth0 proto 73 metric 1024 pref medium"},
		{"default via 2001:db8:1::ffff:2 src 2001:db8:1::1", "-6 route", "default via 2001:db8:1::ffff:2 dev eth0 proto 73 src 2001:db8:1::1 metric 1024 pref medium"},
		{"2001:db8:2::/48 from 2001:db8:3::/48 via 2001:db8:1::ffff:2", "-6 route", "2001:db8:2::/48 from 2001:db8:3::/48 via 2001:db8:1::ffff:2 dev eth0 proto 73 metric 1024 pref medium"},
		{"unreachable 2001:db8:2::/48", "-6 route", "unreachable 2001:db8:2::/48 dev lo proto 73 metric 1024 pref medium"},
		{"2001:db8:2::/48 nexthop via 2001:db8:1::ffff:2 nexthop via 2001:db8:1::ffff:3 weight 3", "-6 route", "2001:db8:2::/48 proto 73 metric 1024 pref medium nexthop via 2001:db8:1::ffff:2 dev eth0 weight 1 nexthop via 2001:db8:1::ffff:3 dev eth0 weight 3"},
	} {
		t.Run(c.words, func(t *testing.T) {
			h, k := plainHost(t)
			words := strings.Fields(c.words)
			show := func() string { return squeeze(h.ip(strings.Fields(c.show)...)) }
			before := ""
			if !strings.Contains(c.show, "table") || strings.Contains(c.show, "local") {
				before = show()
			}
			for range 2 {
				h.inside(func() error { return k.AddRoute(words) })
			}
			if got := show(); !strings.Contains(got+" ", c.want+" ") || strings.Count(got, c.want) != 1 {
				t.Errorf("got %s\nwant %s", got, c.want)
			}
			for range 2 {
				h.inside(func() error { return k.RemoveRoute(words) })
			}
			if after := show(); after != before {
				t.Errorf("after the removal: %s\nbefore: %s", after, before)
			}
		})
	}
}

// TestRouteBesideOthers: a route comes before another one to the same destination, and
// leaves it there when it goes.
func TestRouteBesideOthers(t *testing.T) {
	h, k := plainHost(t)
	h.ip("route", "add", "192.0.2.0/24", "via", "10.1.255.9")
	words := strings.Fields("192.0.2.0/24 via 10.1.255.2")
	h.inside(func() error { return k.AddRoute(words) })
	if got := h.ip("route", "get", "192.0.2.1"); !strings.Contains(got, "via 10.1.255.2 ") {
		t.Errorf("it is not the first: %s", got)
	}
	h.inside(func() error { return k.RemoveRoute(words) })
	if got := h.ip("route", "get", "192.0.2.1"); !strings.Contains(got, "via 10.1.255.9 ") {
		t.Errorf("the other one is gone: %s", got)
	}
	if err := k.AddRoute(strings.Fields("192.0.2.0/24 dev eth7")); !errors.Is(err, ErrNoInterface) {
		t.Errorf("add over an interface that is not there: %v", err)
	}
	if err := k.RemoveRoute(strings.Fields("192.0.2.0/24 dev eth7")); err != nil {
		t.Errorf("remove over an interface that is not there: %v", err)
	}
}

func TestRules(t *testing.T) {
	for _, c := range []struct{ words, show, want string }{
		{"from 10.0.0.0/8 to 192.0.2.1 table 100 priority 500", "rule", "500: from 10.0.0.0/8 to 192.0.2.1 lookup 100 proto 73"},
		{"from all lookup main pref 501 iif eth0 oif eth9", "rule", "501: from all iif eth0 oif eth9 [detached] lookup main proto 73"},
		{"not from 10.0.0.1 table 3000 preference 502 fwmark 0x10/0xff", "rule", "502: not from 10.0.0.1 fwmark 0x10/0xff lookup 3000 proto 73"},
		{"dev eth0 table local order 503 fwmark 7 protocol 201", "rule", "503: from all fwmark 0x7 iif eth0 lookup local proto 201"},
		{"to 192.0.2.0/24 blackhole priority 504", "rule", "504: from all to 192.0.2.0/24 blackhole proto 73"},
		{"to 192.0.2.0/24 type unreachable priority 505", "rule", "505: from all to 192.0.2.0/24 unreachable proto 73"},
		{"to 192.0.2.0/24 prohibit priority 506", "rule", "506: from all to 192.0.2.0/24 prohibit proto 73"},
		{"goto 32766 priority 507", "rule", "507: from all goto 32766 proto 73"},
		{"nop priority 508", "rule", "508: from all nop proto 73"},
		{"table main suppress_prefixlength 0 priority 509", "rule", "509: from all lookup main suppress_prefixlength 0 proto 73"},
		{"table main sup_group 7 priority 510", "rule", "510: from all lookup main suppress_ifgroup 7 proto 73"},
		{"table 100 ipproto tcp sport 1-1023 dport 80 priority 511", "rule", "511: from all ipproto tcp sport 1-1023 dport 80 lookup 100 proto 73"},
		{"table 100 ipproto 17 uidrange 5-6 priority 512", "rule", "512: from all uidrange 5-6 ipproto udp lookup 100 proto 73"},
		{"table 100 tos 0x04 realms 3/4 tunnel-id 5 priority 513", "rule", "513: from all tos 0x04 tun_id 5 lookup 100 realms 3/4 proto 73"},
		{"l3mdev priority 514", "rule", "514: from all lookup [l3mdev-table] proto 73"},
		{"from 10.0.0.7 table 100", "rule", "32765: from 10.0.0.7 lookup 100 proto 73"},
		{"from 2001:db8::/32 table 100 priority 515", "-6 rule", "515: from 2001:db8::/32 lookup 100 proto 73"},
		{"inet6 from all table 100 priority 516", "-6 rule", "516: from all lookup 100 proto 73"},
	} {
		t.Run(c.words, func(t *testing.T) {
			h, k := plainHost(t)
			words := strings.Fields(c.words)
			show := func() []string { return lines(h.ip(strings.Fields(c.show)...)) }
			before := fmt.Sprint(show())
			for range 2 {
				h.inside(func() error { return k.AddRule(words) })
			}
			count := 0
			for _, l := range show() {
				if l == c.want {
					count++
				}
			}
			if count != 1 {
				t.Errorf("got %q\nwant %s", show(), c.want)
			}
			for range 2 {
				h.inside(func() error { return k.RemoveRule(words) })
			}
			if after := fmt.Sprint(show()); after != before {
				t.Errorf("after the removal: %s\nbefore: %s", after, before)
			}
		})
	}
}

// TestWordErrors: what is not understood is said, and nothing is guessed.
func TestWordErrors(t *testing.T) {
	index := func(name string) (int, error) {
		if name != "eth0" {
			return 0, ErrNoInterface
		}
		return 2, nil
	}
	tables := names{func(kind nameKind) []string {
		if kind == nameTable {
			return []string{"# reserved\n255 local\n 0x20 blue # a comment\n9999999999 huge\nx bad\n"}
		}
		return nil
	}}
	for _, c := range []struct{ words, want string }{
		{"", "no destination"},
		{"via 10.0.0.1", "no destination"},
		{"10.0.0.0/8 fast", `unknown word "fast"`},
		{"10.0.0.0/8 11.0.0.0/8", `unknown word "11.0.0.0/8"`},
		{"10.0.0.0/33", `unknown word "10.0.0.0/33"`},
		{"10.0.0.0/8 via", "via lacks its value"},
		{"10.0.0.0/8 via inet6", "via lacks its value"},
		{"10.0.0.0/8 via inet6 10.0.0.1", `"10.0.0.1" is no such address`},
		{"10.0.0.0/8 via eth0", `"eth0" is no such address`},
		{"10.0.0.0/8 dev eth7", "no such interface"},
		{"10.0.0.0/8 src 2001:db8::1", "IPv4 and IPv6 together"},
		{"10.0.0.0/8 metric 4294967296", "no number of 32 bits"},
		{"10.0.0.0/8 metric -1", "no number of 32 bits"},
		{"10.0.0.0/8 hoplimit 256", "no number of 8 bits"},
		{"10.0.0.0/8 mtu lock", "mtu lacks its value"},
		{"10.0.0.0/8 table red", `"red" is no number, nor a name in /etc/iproute2/rt_tables`},
		{"10.0.0.0/8 table huge", `"huge" is no number`},
		{"10.0.0.0/8 scope moon", `"moon" is no number`},
		{"10.0.0.0/8 rtt soon", `"soon" is no time`},
		{"10.0.0.0/8 rtt NaN", `"NaN" is no time`},
		{"10.0.0.0/8 pref best", `"best" is none of`},
		{"10.0.0.0/8 features quic", `unknown feature "quic"`},
		{"10.0.0.0/8 or 10.0.0.1", `"or" without "via"`},
		{"10.0.0.0/8 nexthop via 10.0.0.1 weight 0", "not from 1 to 256"},
		{"10.0.0.0/8 nexthop via 10.0.0.1 metric 1", `unknown word "metric" of a next hop`},
		{"10.0.0.0/8 encap mpls 5 via 10.0.0.1", `unknown word "encap"`},
		{"rule from 10.0.0.0/8", "nothing says what it does"},
		{"rule from 10.0.0.0/8 table blue to 2001:db8::1", "IPv4 and IPv6 together"},
		{"rule table blue blackhole", "it does something else already"},
		{"rule blackhole suppress_prefixlength 0", "suppress_prefixlength without table"},
		{"rule table blue fwmark 0x1/", "the mask is no number"},
		{"rule table blue fwmark x", `fwmark "x" is no number`},
		{"rule table blue sport 5-4", "neither a number nor a range"},
		{"rule table blue dport 65536", "neither a number nor a range"},
		{"rule table blue ipproto tdp", `unknown ipproto "tdp"`},
		{"rule table blue iif a-name-that-is-too-long", "longer than 15 bytes"},
		{"rule table blue from", "from lacks its value"},
		{"rule table blue type", "type lacks its value"},
		{"rule table blue fast", `unknown word "fast"`},
	} {
		text := strings.Fields(c.words)
		var err error
		if len(text) > 0 && text[0] == "rule" {
			_, err = parsePolicyRule(&words{rest: text[1:], names: tables, index: index})
		} else {
			_, err = parseRoute(&words{rest: text, names: tables, index: index})
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %s", c.words, err, c.want)
		}
	}
	r, err := parseRoute(&words{rest: []string{"10.0.0.0/8", "table", "blue", "dev", "eth0"}, names: tables, index: index})
	if err != nil || r.table != 32 || r.device != 2 {
		t.Errorf("got %+v, %v", r, err)
	}
}

// TestSweepRoutes: what a killed process left goes, and nothing else.
func TestSweepRoutes(t *testing.T) {
	h, k := plainHost(t)
	show := func() string {
		return fmt.Sprint(lines(h.ip("route", "show", "table", "all")), lines(h.ip("-6", "route", "show", "table", "all")), lines(h.ip("rule")), lines(h.ip("-6", "rule")))
	}
	h.ip("route", "add", "198.51.100.0/24", "via", "10.1.255.2", "proto", "18")
	h.ip("rule", "add", "from", "198.51.100.0/24", "table", "9")
	before := show()
	for _, s := range []string{"192.0.2.0/24 via 10.1.255.2", "198.51.100.0/24 via 10.1.255.3", "blackhole 192.0.2.0/25 table 700", "2001:db8:5::/48 via 2001:db8:1::ffff:2", "192.0.3.0/24 nexthop via 10.1.255.2 nexthop via 10.1.255.3"} {
		h.inside(func() error { return k.AddRoute(strings.Fields(s)) })
	}
	for _, s := range []string{"from 10.0.0.1 table 700", "from 2001:db8:5::1 table 700 priority 7", "iif eth0 fwmark 5 goto 32766 priority 9"} {
		h.inside(func() error { return k.AddRule(strings.Fields(s)) })
	}
	n, err := k.SweepRoutes()
	if n != 8 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	if after := show(); after != before {
		t.Errorf("after: %s\nbefore: %s", after, before)
	}
}
