package linux

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func virtualMAC(vrid byte) net.HardwareAddr { return net.HardwareAddr{0, 0, 0x5e, 0, 1, vrid} }

// setting reads net.<name> in the namespace.
func (h *host) setting(name string) string {
	h.t.Helper()
	var b []byte
	var err error
	h.do(func() { b, err = os.ReadFile("/proc/sys/net/" + name) })
	h.must(err)
	return strings.TrimSpace(string(b))
}

func (h *host) wantSettings(want map[string]string) {
	h.t.Helper()
	for name, v := range want {
		if got := h.setting(name); got != v {
			h.t.Errorf("%s is %s, want %s", name, got, v)
		}
	}
}

func (h *host) gone(name string) bool {
	_, err := h.handle.LinkByName(name)
	return noInterface(err) == ErrNoInterface
}

func TestVMAC(t *testing.T) {
	h, peer := pair(t)
	h.sysctl("ipv4/conf/all/rp_filter", "1")
	h.sysctl("ipv4/conf/eth0/rp_filter", "0")
	h.sysctl("ipv4/conf/lo/rp_filter", "2")
	h.sysctl("ipv4/conf/eth0/arp_filter", "0")
	h.sysctl("ipv4/conf/eth0/arp_ignore", "0")
	h.sysctl("ipv4/conf/eth0/arp_announce", "1")
	k := h.kernel()
	v := VMACConfig{Name: "vrrp.51", Parent: "eth0", MAC: virtualMAC(51)}
	h.inside(func() error { return k.AddVMAC(v) })
	got := squeeze(h.ip("-d", "link", "show", "vrrp.51"))
	for _, want := range []string{"vrrp.51@eth0: <BROADCAST,MULTICAST,UP,LOWER_UP>", "link/ether 00:00:5e:00:01:33", "macvlan mode private", "alias holdfast vmac, parent's arp_ignore 0 arp_filter 0 arp_announce 1"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	h.wantSettings(map[string]string{
		"ipv4/conf/vrrp.51/arp_ignore": "1", "ipv4/conf/vrrp.51/accept_local": "1", "ipv4/conf/vrrp.51/rp_filter": "0",
		"ipv4/conf/vrrp.51/promote_secondaries": "1", "ipv6/conf/vrrp.51/disable_ipv6": "1",
		"ipv4/conf/eth0/arp_ignore": "1", "ipv4/conf/eth0/arp_filter": "1",
		// Only what had less than "all" is raised.
		"ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "1", "ipv4/conf/eth0/rp_filter": "1", "ipv4/conf/lo/rp_filter": "2",
	})
	// Its address is answered for by the virtual MAC address, and the parent's by its own.
	h.inside(func() error {
		return k.AddPlain([]PlainAddress{{Prefix: prefix("10.1.0.50/16"), Interface: "vrrp.51"}})
	})
	for ip, mac := range map[string]string{"10.1.0.50": "00:00:5e:00:01:33", "10.1.0.1": h.mac("eth0")} {
		peer.ip("neigh", "flush", "all")
		peer.ping(ip)
		if got := peer.neighbour("eth0", ip); got != mac {
			t.Errorf("%s has MAC address %s, want %s", ip, got, mac)
		}
	}
	// A second one knows the parent's former settings, and the last gives them back.
	w := VMACConfig{Name: "vrrp.52", Parent: "eth0", MAC: virtualMAC(52)}
	h.inside(func() error { return k.AddVMAC(w) })
	h.inside(func() error { return k.RemoveVMAC("vrrp.51") })
	h.wantSettings(map[string]string{"ipv4/conf/eth0/arp_ignore": "1", "ipv4/conf/eth0/arp_filter": "1", "ipv4/conf/eth0/arp_announce": "2"})
	h.inside(func() error { return k.RemoveVMAC("vrrp.52") })
	h.inside(func() error { return k.RemoveVMAC("vrrp.52") })
	h.wantSettings(map[string]string{"ipv4/conf/eth0/arp_ignore": "0", "ipv4/conf/eth0/arp_filter": "0", "ipv4/conf/eth0/arp_announce": "1"})
	if !h.gone("vrrp.51") || !h.gone("vrrp.52") {
		t.Error("still there")
	}
}

func (h *host) ping(ip string) {
	h.t.Helper()
	h.ip("route", "get", ip)
	waitFor(h.t, "an answer of "+ip, func() bool { return h.answers(ip) })
}

func TestVMACIPv6(t *testing.T) {
	h, peer := pair(t)
	k := h.kernel()
	v := VMACConfig{Name: "vrrp6.51", Parent: "eth0", MAC: net.HardwareAddr{0, 0, 0x5e, 0, 2, 51}, IPv6: true}
	h.inside(func() error { return k.AddVMAC(v) })
	h.wantSettings(map[string]string{"ipv6/conf/vrrp6.51/disable_ipv6": "0", "ipv6/conf/vrrp6.51/accept_ra": "0", "ipv4/conf/vrrp6.51/arp_ignore": "1", "ipv4/conf/eth0/arp_ignore": "0"})
	// It has the parent's link-local address and none of the virtual MAC address.
	var local string
	for _, l := range lines(h.ip("-6", "address", "show", "dev", "eth0", "scope", "link")) {
		if strings.HasPrefix(l, "inet6 ") {
			local = strings.Fields(l)[1]
		}
	}
	got := squeeze(h.ip("-6", "address", "show", "dev", "vrrp6.51"))
	if !strings.Contains(got, "inet6 "+local+" scope link") || strings.Count(got, "inet6 ") != 1 {
		t.Errorf("it has %s, want %s alone", got, local)
	}
	h.inside(func() error {
		return k.AddPlain([]PlainAddress{{Prefix: prefix("2001:db8:1::50/64"), Interface: "vrrp6.51"}})
	})
	peer.ping("2001:db8:1::50")
	if got := peer.neighbour("eth0", "2001:db8:1::50"); got != v.MAC.String() {
		t.Errorf("MAC address %s, want %s", got, v.MAC)
	}
	h.inside(func() error { return k.RemoveVMAC("vrrp6.51") })
}

// TestVMACLeft: what a process left is taken over if it fits, made anew if not, and what
// is another program's is left alone.
func TestVMACLeft(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	v := VMACConfig{Name: "vrrp.51", Parent: "eth0", MAC: virtualMAC(51)}
	h.inside(func() error { return k.AddVMAC(v) })
	index := h.get("vrrp.51").Attrs().Index
	h.link("vrrp.51", false)
	k = h.kernel()
	if left, err := k.LeftVMACs(); err != nil || len(left) != 1 || left[0] != "vrrp.51" {
		t.Errorf("left: %v, %v", left, err)
	}
	h.inside(func() error { return k.AddVMAC(v) })
	if got := h.get("vrrp.51").Attrs(); got.Index != index || got.Flags&net.FlagUp == 0 {
		t.Errorf("it was made anew or is off: %+v", got)
	}
	v.MAC = virtualMAC(52)
	h.inside(func() error { return k.AddVMAC(v) })
	if got := h.mac("vrrp.51"); got != v.MAC.String() {
		t.Errorf("MAC address %s, want %s", got, v.MAC)
	}
	h.inside(func() error { return k.RemoveVMAC("vrrp.51") })
	h.wantSettings(map[string]string{"ipv4/conf/eth0/arp_ignore": "0", "ipv4/conf/eth0/arp_filter": "0"})

	// What Keepalived would make is taken over, and removed.
	h.ip("link", "add", "link", "eth0", "vrrp.51", "address", v.MAC.String(), "type", "macvlan", "mode", "private")
	h.inside(func() error { return k.AddVMAC(v) })
	h.inside(func() error { return k.RemoveVMAC("vrrp.51") })
	if !h.gone("vrrp.51") {
		t.Error("still there")
	}

	for _, args := range []string{"link add vrrp.51 type veth peer name other", "link add link eth0 vrrp.51 type macvlan mode bridge"} {
		h.ip(strings.Fields(args)...)
		var added, removed error
		h.do(func() { added, removed = k.AddVMAC(v), k.RemoveVMAC("vrrp.51") })
		if added == nil || removed == nil || h.gone("vrrp.51") {
			t.Errorf("%s: %v, %v", args, added, removed)
		}
		h.ip("link", "del", "vrrp.51")
	}
	v.Parent = "eth7"
	if err := k.AddVMAC(v); err == nil || !strings.Contains(err.Error(), "parent eth7") {
		t.Errorf("without a parent: %v", err)
	}
}

func TestIPVLAN(t *testing.T) {
	h, peer := pair(t)
	k := h.kernel()
	v := VMACConfig{Name: "vrrp.51", Parent: "eth0", IPVLAN: true, Mode: "private"}
	for range 2 {
		var err error
		h.do(func() { err = k.AddVMAC(v) })
		if errors.Is(err, unix.EOPNOTSUPP) {
			t.Skip("this kernel has no ipvlan")
		}
		h.must(err)
	}
	l, ok := h.get("vrrp.51").(*netlink.IPVlan)
	if !ok || l.Mode != netlink.IPVLAN_MODE_L2 || l.Flag != netlink.IPVLAN_FLAG_PRIVATE {
		t.Errorf("got %+v", l)
	}
	h.inside(func() error {
		return k.AddPlain([]PlainAddress{{Prefix: prefix("10.1.0.50/16"), Interface: "vrrp.51"}})
	})
	peer.ping("10.1.0.50")
	if got := peer.neighbour("eth0", "10.1.0.50"); got != h.mac("eth0") {
		t.Errorf("MAC address %s", got)
	}
	h.inside(func() error { return k.RemoveVMAC("vrrp.51") })
	v.Mode = "fast"
	if err := k.AddVMAC(v); err == nil || !strings.Contains(err.Error(), `"fast"`) {
		t.Errorf("unknown mode: %v", err)
	}
}
