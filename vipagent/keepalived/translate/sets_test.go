package translate

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/fsm"
)

// tellSet is a set in one line.
func tellSet(s fsm.Set) string {
	var words []string
	for _, a := range s.Addresses {
		words = append(words, strings.TrimSuffix(a.Prefix.String()+"@"+a.Interface, "@"))
	}
	for _, c := range s.Candidates {
		words = append(words, fmt.Sprintf("%s:%d", c.Host, c.Priority))
	}
	for _, f := range []struct {
		word string
		is   bool
	}{{"preempt", s.Preempt}, {"after " + s.PreemptDelay.String(), s.PreemptDelay != 0}, {"with " + s.SyncGroup, s.SyncGroup != ""}, {"AWAKE", !s.Paused}} {
		if f.is {
			words = append(words, f.word)
		}
	}
	v := s.VRRP
	words = append(words, fmt.Sprintf("| v%d %d priority %d each %v %s", v.Version, v.ID, v.Priority, v.Interval, v.Mode))
	for _, f := range []struct {
		word string
		is   bool
	}{{"on " + v.Interface, v.Interface != ""}, {"ipv6", v.IPv6}, {"nopreempt", v.NoPreempt}, {"password " + v.Password, v.Password != ""}, {"plain", v.PlainChecksum}, {fmt.Sprint("to ", v.Peers), len(v.Peers) > 0}} {
		if f.is {
			words = append(words, f.word)
		}
	}
	return s.Name + ": " + strings.Join(words, " ")
}

func TestSets(t *testing.T) {
	web := vip("10.0.0.50/24")
	tests := []struct {
		name  string
		files []string
		want  []string
	}{
		{"a pair, as the primary has it", []string{
			instance("Back", 51, 100, web, "preempt_delay 20"),
			instance("VI_1", 51, 150, web, "preempt_delay 30", password("secret12345"))},
			[]string{"vi_1: 10.0.0.50/24@eth0 lb2:150 lb1:100 preempt after 30s | v2 51 priority 99 each 1s off on eth0 password secret12"}},
		{"three hosts, nopreempt", []string{instance("VI", 51, 150, web, "nopreempt"), instance("VI", 51, 100, web, "nopreempt"), instance("VI", 51, 40, web, "nopreempt")},
			[]string{"vi: 10.0.0.50/24@eth0 lb1:150 lb2:100 lb3:40 | v2 51 priority 39 each 1s off on eth0 nopreempt"}},
		{"priorities at the ends", []string{instance("VI", 51, 255, web), instance("VI", 51, 1, web)},
			[]string{"vi: 10.0.0.50/24@eth0 lb1:254 lb2:1 preempt | v2 51 priority 1 each 1s off on eth0"}},
		{"version 3, checksum, excluded of the other family", []string{instance("VI", 51, 150, web, "version 3", "advert_int 0.25", "v3_checksum_as_v2", "virtual_ipaddress_excluded {\n 2001:db8::50/64 dev eth1\n }")},
			[]string{"vi: 10.0.0.50/24@eth0 2001:db8::50/64@eth1 lb1:150 preempt | v3 51 priority 149 each 250ms off on eth0 plain"}},
		{"dual stack", []string{group("VG_1", "V4", "V6") + instance("V4", 51, 150, web) + instance("V6", 51, 150, vip("fe80::50/64", "2001:db8::50/64"))},
			[]string{
				"v4: 10.0.0.50/24@eth0 lb1:150 preempt with vg_1 | v2 51 priority 149 each 1s off on eth0",
				"v6: fe80::50/64@eth0 2001:db8::50/64@eth0 lb1:150 preempt with vg_1 | v3 51 priority 149 each 1s off on eth0 ipv6",
			}},
		{"groups named otherwise", []string{
			group("G", "A", "B") + instance("A", 51, 150, web) + instance("B", 52, 100, vip("10.0.0.60/24")),
			group("H", "A", "B") + instance("A", 51, 100, web) + instance("B", 52, 150, vip("10.0.0.60/24"))},
			[]string{
				"a: 10.0.0.50/24@eth0 lb1:150 lb2:100 preempt with g | v2 51 priority 99 each 1s off on eth0",
				"b: 10.0.0.60/24@eth0 lb2:150 lb1:100 preempt with g | v2 52 priority 99 each 1s off on eth0",
			}},
		{"unicast: the hosts are peers too", []string{instance("VI", 51, 150, web, peers("10.0.0.9", "10.0.0.2")), instance("VI", 51, 100, web, peers("10.0.0.1", "10.0.0.9"))},
			[]string{"vi: 10.0.0.50/24@eth0 lb1:150 lb2:100 preempt | v2 51 priority 99 each 1s off on eth0 to [10.0.0.1 10.0.0.2 10.0.0.9]"}},
		{"interfaces that differ", []string{instance("VI", 51, 150, web), strings.Replace(instance("VI", 51, 100, web), "eth0", "ens3", 1)},
			[]string{"vi: 10.0.0.50/24 lb1:150 lb2:100 preempt | v2 51 priority 99 each 1s off"}},
		{"names that collide", []string{instance("vi.a", 51, 150, web) + instance("VI.A", 52, 150, vip("10.0.0.60/24")) + instance("_:ä", 53, 150, vip("10.0.0.70/24"))},
			[]string{
				"vi.a: 10.0.0.50/24@eth0 lb1:150 preempt | v2 51 priority 149 each 1s off on eth0",
				"vi.a-52: 10.0.0.60/24@eth0 lb1:150 preempt | v2 52 priority 149 each 1s off on eth0",
				"vip: 10.0.0.70/24@eth0 lb1:150 preempt | v2 53 priority 149 each 1s off on eth0",
			}},
		{"groups whose names collide", []string{group("VG", "A", "B") + group("vg", "C", "D") +
			instance("A", 51, 150, web) + instance("B", 52, 150, vip("10.0.0.60/24")) + instance("C", 53, 150, vip("10.0.0.70/24")) + instance("D", 54, 150, vip("10.0.0.80/24"))},
			[]string{
				"a: 10.0.0.50/24@eth0 lb1:150 preempt with vg | v2 51 priority 149 each 1s off on eth0",
				"b: 10.0.0.60/24@eth0 lb1:150 preempt with vg | v2 52 priority 149 each 1s off on eth0",
				"c: 10.0.0.70/24@eth0 lb1:150 preempt with vg-2 | v2 53 priority 149 each 1s off on eth0",
				"d: 10.0.0.80/24@eth0 lb1:150 preempt with vg-2 | v2 54 priority 149 each 1s off on eth0",
			}},
		{"no addresses", []string{instance("VI", 51, 150, "no_virtual_ipaddress")}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sets, err := Sets(parse(t, tt.files...))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range sets {
				got = append(got, tellSet(s))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("made\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(tt.want, "\n  "))
			}
		})
	}
}

// TestSetsRefused has an address that no quorum accepts beside one that it does.
func TestSetsRefused(t *testing.T) {
	sets, err := Sets(parse(t, instance("A", 51, 150, vip("10.0.0.255/24"))+instance("B", 52, 150, vip("10.0.0.60/24"))))
	if len(sets) != 1 || sets[0].Name != "b" {
		t.Errorf("sets are %v", sets)
	}
	if want := "translate vrrp_instance A (lb1.conf:1): addresses[0].prefix: 10.0.0.255 is the broadcast address of 10.0.0.0/24"; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}
