package linux

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestInterfaceFor(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	other := newHost(t)
	wire(h, other, "eth1")
	h.own("eth1", "10.1.7.1/24")
	h.own("lo", "10.5.0.1/16")
	if err := k.Add(vips("10.8.0.1/24 eth0", "10.1.7.9/24 eth0"), time.Minute); err != nil {
		t.Fatal(err)
	}
	for prefix, want := range map[string]string{
		"10.1.9.9/16":           "eth0",
		"10.1.9.9/32":           "eth0",
		"10.1.7.9/16":           "eth1", // the longest subnet, and not our own VIP on eth0
		"10.8.0.1/24":           "",     // our own VIP is no subnet
		"10.5.0.9/16":           "",     // nobody is behind the loopback
		"10.77.0.1/24":          "",
		"2001:db8:1::77/64":     "eth0",
		"2001:db8:2::77/64":     "",
		"fe80::77/64":           "",
		"::ffff:10.1.7.33/128":  "eth1",
		"10.1.255.255/16":       "eth0",
		"2001:db8:1:0:1::1/128": "eth0",
	} {
		got, err := k.InterfaceFor(vips(prefix)[0].Prefix)
		missing, typed := errors.AsType[*NoSubnetError](err)
		if got != want || (want == "") != typed {
			t.Errorf("%s: %q, %v; want %q", prefix, got, err, want)
		}
		if typed && missing.Prefix != vips(prefix)[0].Prefix {
			t.Errorf("%s: the error names %v", prefix, missing.Prefix)
		}
	}
	h.disown("eth1", "10.1.7.1/24")
	h.own("eth1", "10.1.0.3/16")
	h.link("eth0", false)
	if got, err := k.InterfaceFor(vips("10.1.9.9/16")[0].Prefix); got != "eth1" {
		t.Errorf("with eth0 down: %q, %v", got, err)
	}
}

// TestSourceAddress: an outgoing connection does not come from a VIP.
func TestSourceAddress(t *testing.T) {
	h, peer := pair(t)
	k := h.kernel()
	// Closer to the peer than the host's own addresses are.
	if err := k.Add(vips("10.1.255.3/16 eth0", "2001:db8:1::ffff:3/64 eth0"), time.Minute); err != nil {
		t.Fatal(err)
	}
	_ = peer
	for to, want := range map[string]string{"10.1.255.2": "10.1.0.1", "2001:db8:1::ffff:2": "2001:db8:1::1"} {
		routes, err := h.handle.RouteGet(vips(to + "/0")[0].IP().AsSlice())
		if err != nil || len(routes) != 1 || routes[0].Src.String() != want {
			t.Errorf("to %s: %v, %v; want the source %s", to, routes, err, want)
		}
	}
}

func TestInterfaces(t *testing.T) {
	h, peer := pair(t)
	k := h.kernel()
	list, err := k.Interfaces()
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	if lo := list[0]; lo.Name != "lo" || !lo.Loopback || !lo.Up {
		t.Errorf("%+v", lo)
	}
	if e := list[1]; e.Name != "eth0" || e.Loopback || !e.Up || e.MAC.String() != h.mac("eth0") || e.MTU != 1500 {
		t.Errorf("%+v", e)
	}
	// The state of this moment, however often the carrier changes.
	for range 5 {
		peer.link("eth0", false)
		if i, err := k.Interface("eth0"); err != nil || i.Up {
			t.Errorf("without a carrier: %+v, %v", i, err)
		}
		peer.link("eth0", true)
		waitFor(t, "carrier", func() bool { i, err := k.Interface("eth0"); return err == nil && i.Up })
	}
	if _, err := k.Interface("eth9"); !errors.Is(err, ErrNoInterface) {
		t.Errorf("missing interface: %v", err)
	}
}

// TestSwitchedOff: an interface that is switched off loses its IPv6 addresses,
// and takes them again while it is off.
func TestSwitchedOff(t *testing.T) {
	h, peer := pair(t)
	k := h.kernel()
	set := vips("10.1.0.100/16 eth0", "2001:db8:1::100/64 eth0")
	h.must(k.Add(set, time.Minute))
	h.link("eth0", false)
	if h.has("2001:db8:1::100/128") || !h.has("10.1.0.100/32") {
		t.Error("not as doc.go says")
	}
	h.must(k.Add(set, time.Minute))
	h.link("eth0", true)
	for _, a := range set {
		peer.do(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if err := Reachable(ctx, "eth0", a.IP()); err != nil {
				t.Error(err)
			}
		})
	}
	h.must(k.Remove(set))
}
