package main

import (
	"net/netip"
	"slices"
	"testing"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/linux"
	"holdfast/vipagent/vip"
)

func TestLapsed(t *testing.T) {
	const now = lease.Time(1000)
	a := netip.MustParseAddr("10.0.0.50")
	sessions := []linux.FenceSession{{Session: 7, Deadline: now}, {Session: 8, Deadline: now + 1}, {Session: 9}}
	for _, tt := range []struct {
		name  string
		guard []linux.FenceAddress
		ours  bool
		want  bool
	}{
		{"its deadline lies ahead", []linux.FenceAddress{{Address: a, Open: true, Session: 8}}, true, false},
		{"its deadline is now", []linux.FenceAddress{{Address: a, Open: true, Session: 7}}, true, true},
		{"its session is closed", []linux.FenceAddress{{Address: a, Open: true, Session: 9}}, true, true},
		{"its session has ended", []linux.FenceAddress{{Address: a, Open: true, Session: 10}}, true, true},
		{"it is closed", []linux.FenceAddress{{Address: a, Session: 8}}, true, true},
		{"both must lie ahead", []linux.FenceAddress{{Address: a, Open: true, Session: 8, Also: 7}}, true, true},
		{"and do", []linux.FenceAddress{{Address: a, Open: true, Session: 8, Also: 8}}, true, false},
		{"of somebody else", []linux.FenceAddress{{Address: a, Session: 7}}, false, false},
		{"not guarded", []linux.FenceAddress{{Address: netip.MustParseAddr("10.0.0.51"), Session: 7}}, true, false},
		{"no fence", nil, true, false},
	} {
		up := []vip.Actual{{Address: vip.Address{Prefix: netip.PrefixFrom(a, 32), Interface: "eth0"}, Ours: tt.ours}}
		got := lapsed(linux.FenceTable{Sessions: sessions, Addresses: tt.guard}, up, now)
		if want := tt.want; slices.Equal(got, []vip.Address{up[0].Address}) != want || !want && len(got) > 0 {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
