package interop

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"holdfast/test/lab"
)

// TestReloadUnderLoad: a client asks addresses all the time while the holder's
// keepalived.conf changes around them. What does not change loses nothing, what is
// new is there soon, what is gone does not answer any more.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	for _, p := range underTest() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			reloadUnderLoad(t, p)
		})
	}
}

func reloadUnderLoad(t *testing.T, p program) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s := version3()
	kept := netip.MustParsePrefix(vip4).Addr()
	kept6 := netip.MustParseAddr("fd77::c:2")
	s.instances[0].lines = []string{"virtual_ipaddress_excluded {", "    fd77::c:2/128", "}"}
	site := newSite(t, s, [2]program{p, p}, 2*time.Millisecond)
	check(t, site.start(0))
	check(t, awaitSettled(ctx, site, 0, s.down(0)))
	turns := 5
	if long() {
		turns = 50
	}
	site.recorder.Probe(kept, kept6)
	check(t, pause(ctx, 200*time.Millisecond))
	began := lab.Now()
	var last []netip.Addr
	for turn := range turns {
		added := fmt.Sprintf("10.77.1.%d/32", 10+turn)
		vips := []string{vip4, added}
		if turn%2 == 1 {
			slices.Reverse(vips)
		}
		site.list(vips)
		if turn == 2 && p.name == holdfast().name {
			// One that comes, is Backup at first, and has an address in common with the holder.
			site.setting.instances = append(site.setting.instances, instance{vrid: 59, vips: []string{vip4}})
		}
		site.recorder.Probe(kept, kept6)
		check(t, site.reload(0))
		want := netip.MustParsePrefix(added).Addr()
		eventually(ctx, t, func() error { return tableHas(site, 0, want, last...) })
		last = []netip.Addr{want}
		check(t, pause(ctx, 2*s.interval))
	}
	end := lab.Now()
	check(t, pause(ctx, 300*time.Millisecond)) // answers that are on their way
	client := site.network.Clients[0].Name
	for _, a := range []netip.Addr{kept, kept6} {
		lost := site.recorder.Lost(client, a, began, end)
		t.Logf("%s: %d of %d probes lost in %d reloads, stall %.1f ms", a, lost, int(end.Sub(began)/(2*time.Millisecond)), turns, ms(site.recorder.Stall(began, end).Max))
		if lost != 0 {
			t.Errorf("%s, which did not change, lost %d probes", a, lost)
		}
	}
	for _, a := range site.tap.Adverts(began, end) {
		if a.Priority == 0 {
			t.Error("a farewell on reload")
		}
	}
}

// tableHas returns nil when a host has an address and not the others.
func tableHas(s *site, host int, want netip.Addr, not ...netip.Addr) error {
	have, err := s.host(host).Addresses()
	if err != nil {
		return err
	}
	has := func(a netip.Addr) bool {
		return slices.ContainsFunc(have, func(p netip.Prefix) bool { return p.Addr() == a })
	}
	if !has(want) || slices.ContainsFunc(not, has) {
		return fmt.Errorf("%s has %v, want %s and not %v", s.host(host).Name, have, want, not)
	}
	return nil
}
