package linux

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// likeIP are words that must do what ip(8) does with them.
func likeIP() (routes, rules []string) {
	routes = []string{
		"10.2.0.0/16 via 10.1.0.9 dev eth0",
		"to 10.3.0.0/16 via 10.1.0.9",
		"10.4.0.1 dev eth0 src 10.1.0.1 metric 50 table 1000",
		"10.5.0.0/16 dev eth0 scope global proto static tos 0x10",
		"10.6.0.0/16 via 192.0.2.1 dev eth0 onlink mtu lock 1400 advmss 1300 hoplimit 9 window 5000",
		"10.7.0.0/16 via 10.1.0.9 rtt 20ms rttvar 3ms rto_min 100ms initcwnd 12 initrwnd 13 quickack 1 reordering 4 cwnd lock 7 ssthresh 8 features ecn",
		"blackhole 10.8.0.0/16", "unreachable 10.9.0.0/16 metric 3", "prohibit 10.10.0.0/16", "throw 10.11.0.0/16 table 77",
		"10.12.0.0/16 nexthop via 10.1.0.9 dev eth0 weight 3 nexthop via 10.1.0.8 weight 1",
		"default via 10.1.0.9 table 5",
		"local 10.13.0.1 dev lo table 6",
		"10.14.0.0/16 via 10.1.0.9 congctl reno fastopen_no_cookie 1 realms 3/7",
		"2001:db8:2::/48 via 2001:db8:1::9 dev eth0 metric 77 mtu 1400",
		"2001:db8:3::/48 dev eth0 pref high",
		"default via 2001:db8:1::9 table 9",
		"2001:db8:4::/48 from 2001:db8:5::/48 via 2001:db8:1::9",
		"blackhole 2001:db8:6::/48",
		"2001:db8:7::/48 nexthop via 2001:db8:1::9 weight 2 nexthop via 2001:db8:1::8 weight 1",
	}
	rules = []string{
		"from 10.2.0.0/16 table 1 priority 100",
		"from 10.2.0.0/16 to 10.3.0.1 lookup 1000 pref 101",
		"not fwmark 0x10/0xff iif eth0 table main priority 102",
		"oif eth0 tos 0x10 table 2 priority 103",
		"from all blackhole priority 104", "to 10.9.0.0/16 unreachable priority 105", "prohibit priority 106 from 10.1.0.0/16",
		"table main suppress_prefixlength 0 priority 107",
		"goto 32766 priority 108",
		"ipproto tcp sport 80 dport 100-200 table 3 priority 109",
		"uidrange 10-20 table 4 priority 110", "l3mdev priority 111",
		"from 10.2.0.0/16 table 7 realms 3/4 priority 112",
		"from 2001:db8::/32 table 8 priority 100",
		"to 2001:db8::1 iif lo table 9 priority 101",
	}
	return routes, rules
}

func TestRoutesAndRulesAreThoseOfIP(t *testing.T) {
	h, _ := pair(t)
	peer, _ := pair(t)
	k := h.kernel()
	routes, rules := likeIP()
	before := shown(h)
	theirs, ours := shown(peer), before
	for _, r := range slices.Concat(routes, rules) {
		what := "rule"
		add := k.AddRule
		if slices.Contains(routes, r) {
			what, add = "route", k.AddRoute
		}
		ip := "-4"
		if strings.Contains(r, "2001:") {
			ip = "-6"
		}
		peer.run(append([]string{"ip", ip, what, "add"}, strings.Fields(r)...)...)
		var err error
		for range 2 {
			h.do(func() { err = add(strings.Fields(r)) })
			if err != nil {
				t.Fatalf("add %s %s: %v", what, r, err)
			}
		}
		nowTheirs, nowOurs := shown(peer), shown(h)
		want, got := slices.DeleteFunc(slices.Clone(nowTheirs), func(s string) bool { return slices.Contains(theirs, s) }),
			slices.DeleteFunc(slices.Clone(nowOurs), func(s string) bool { return slices.Contains(ours, s) })
		if len(want) == 0 || !slices.Equal(want, got) {
			t.Errorf("%s %s:\nip has %q\nwe have %q", what, r, want, got)
		}
		theirs, ours = nowTheirs, nowOurs
	}
	for _, r := range slices.Concat(routes, rules) {
		remove := k.RemoveRule
		if slices.Contains(routes, r) {
			remove = k.RemoveRoute
		}
		for range 2 {
			var err error
			h.do(func() { err = remove(strings.Fields(r)) })
			if err != nil {
				t.Errorf("remove %s: %v", r, err)
			}
		}
	}
	if after := shown(h); !slices.Equal(before, after) {
		t.Errorf("before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

// shown are the routes and rules that ip(8) shows, without their protocol.
func shown(h *host) []string {
	var out []string
	for _, args := range [][]string{{"-4", "route"}, {"-6", "route"}, {"-4", "rule"}, {"-6", "rule"}} {
		command := []string{"ip", "-o", "-N", args[0], args[1], "show"}
		if args[1] == "route" {
			command = append(command, "table", "all")
		}
		for line := range strings.Lines(h.run(command...)) {
			if strings.Contains(line, "fe80") || strings.Contains(line, "ff00") || strings.Contains(line, "multicast") {
				continue
			}
			words := strings.Fields(line)
			if i := slices.Index(words, "proto"); i >= 0 {
				words = slices.Delete(words, i, i+2)
			}
			out = append(out, args[0]+" "+args[1]+" "+strings.Join(words, " "))
		}
	}
	slices.Sort(out)
	return out
}

// A route of ours does not replace the host's, and its removal leaves that alone.
func TestRouteBesideTheHosts(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	h.run("ip", "route", "add", "default", "via", "10.1.0.7")
	words := strings.Fields("default via 10.1.0.9 dev eth0")
	var err error
	h.do(func() { err = k.AddRoute(words) })
	h.must(err)
	if out := h.run("ip", "route", "get", "192.0.2.1"); !strings.Contains(out, "via 10.1.0.9") {
		t.Errorf("the new one does not count: %s", out)
	}
	h.do(func() { err = k.RemoveRoute(words) })
	h.must(err)
	if out := h.run("ip", "route", "get", "192.0.2.1"); !strings.Contains(out, "via 10.1.0.7") {
		t.Errorf("the host's own is gone: %s", out)
	}
	h.do(func() { err = k.RemoveRoute(strings.Fields("default via 10.1.0.7 dev eth0")) })
	h.must(err)
	if out := h.run("ip", "route", "get", "192.0.2.1"); !strings.Contains(out, "via 10.1.0.7") {
		t.Errorf("the host's own was removed: %s", out)
	}
	h.do(func() { err = k.AddRoute(strings.Fields("add default via 10.1.0.9 dev eth0")) })
	if err == nil {
		t.Error("added exclusively beside another")
	}
	h.do(func() { err = k.RemoveRoute(strings.Fields("10.9.0.0/16 dev gone")) })
	h.must(err)
	h.do(func() { err = k.AddRoute(strings.Fields("10.9.0.0/16 dev gone")) })
	if !errors.Is(err, ErrNoInterface) {
		t.Errorf("without its interface: %v", err)
	}
}

func TestWordErrors(t *testing.T) {
	lookup := func(file, name string) (uint32, bool) { return 42, file == "rt_tables" && name == "ours" }
	route := func(list []string) error { _, err := readRoute(list, lookup); return err }
	rule := func(list []string) error { _, err := readRule(list, lookup); return err }
	for _, c := range []struct {
		read  func([]string) error
		words string
		want  string
	}{
		{route, "", "word 1: a route needs a destination"},
		{route, "via 10.0.0.1", "word 3: a route needs a destination"},
		{route, "10.0.0.0/8", "word 2: a route needs via, dev or nexthop"},
		{route, "10.0.0.0/8 vai 10.0.0.1", `word 2, "vai": not a word of a route`},
		{route, "10.0.0.0/33 dev eth0", `word 1, "10.0.0.0/33": neither a word that is known here nor an address`},
		{route, "10.0.0.0/8 via", "word 3: via lacks its value"},
		{route, "2001:db8::/32 via 10.0.0.1", "word 4: an IPv6 route has no IPv4 next hop"},
		{route, "10.0.0.0/8 via inet 2001:db8::1", `word 4, "2001:db8::1": of the other family`},
		{route, "10.0.0.0/8 or 10.0.0.1", `word 2, "or": or goes with one via before it`},
		{route, "10.0.0.0/8 via 10.0.0.1 or 10.0.0.2 or 10.0.0.3", `word 6, "or": or goes with one via before it`},
		{route, "10.0.0.0/8 dev eth0 table nosuch", `word 5, "nosuch": neither a number nor a name in rt_tables`},
		{route, "10.0.0.0/8 dev eth0 metric -1", `word 5, "-1": not a number of 32 bits`},
		{route, "10.0.0.0/8 dev eth0/1", `word 3, "eth0/1": not a name of an interface`},
		{route, "10.0.0.0/8 dev eth0 nexthop via 10.0.0.1", "word 7: nexthop does not go with via and dev"},
		{route, "10.0.0.0/8 nexthop weight 300 via 10.0.0.1", `word 4, "300": a weight is from 1 to 256`},
		{route, "10.0.0.0/8 nexthop foo", `word 3, "foo": not a word of a nexthop`},
		{route, "10.0.0.0/8 nexthop", `word 2, "nexthop": a nexthop needs via or dev`},
		{route, "blackhole 10.0.0.0/8 dev eth0", "word 5: a route of this type leads nowhere"},
		{route, "10.0.0.0/8 dev eth0 pref high", "word 6: pref, expires and from are words of IPv6"},
		{route, "10.0.0.0/8 dev eth0 rtt 5m", `word 5, "5m": not a time`},
		{route, "10.0.0.0/8 dev eth0 rtt 4294967295s", `word 5, "4294967295s": not a time`},
		{route, "10.0.0.0/8 encap mpls 1 dev eth0", `word 2, "encap": encapsulation is not supported`},
		{rule, "from 10.0.0.0/8", "word 3: a rule needs table, l3mdev, goto, nop, blackhole, unreachable or prohibit"},
		{rule, "from 10.0.0.0/8 tabel 3", `word 3, "tabel": not a word of a rule`},
		{rule, "from 10.0.0.0/8 to 2001:db8::1 table 3", `word 4, "2001:db8::1": of the other family`},
		{rule, "table 3 nop", `word 3, "nop": a rule has one action`},
		{rule, "table 0", `word 2, "0": there is no table 0`},
		{rule, "nop suppress_prefixlength 0", "word 4: realms and suppress_ words go with table alone"},
		{rule, "goto 10 priority 11", "word 5: goto leads to a rule further down: its number is to be higher than the priority"},
		{rule, "fwmark 1/x table 3", `word 2, "1/x": not a mark with a mask`},
		{rule, "dport 9-8 table 3", `word 2, "9-8": not a range`},
		{rule, "uidrange 9 table 3", `word 2, "9": not a range`},
		{rule, "type", "word 2: type lacks its value"},
	} {
		err := c.read(strings.Fields(c.words))
		if err == nil || err.Error() != c.want {
			t.Errorf("%q: %v, want %s", c.words, err, c.want)
		}
	}
	if r, err := readRoute([]string{"default", "dev", "eth0", "table", "ours"}, lookup); err != nil || r.table != 42 {
		t.Errorf("a table by name: %+v, %v", r, err)
	}
}

func FuzzRouteWords(f *testing.F) {
	routes, rules := likeIP()
	for _, s := range slices.Concat(routes, rules) {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, s string) {
		lookup := func(string, string) (uint32, bool) { return 7, true }
		if r, err := readRoute(strings.Fields(s), lookup); err == nil {
			_, _ = r.encode(func(string) (int, error) { return 1, nil })
		}
		if r, err := readRule(strings.Fields(s), lookup); err == nil {
			r.encode()
		}
	})
}
