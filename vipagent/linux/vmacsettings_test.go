package linux

import (
	"strings"
	"testing"
)

func (h *host) wantSettings(when string, want map[string]string) {
	h.t.Helper()
	for name, v := range want {
		if got := strings.TrimSpace(h.run("cat", "/proc/sys/net/ipv4/conf/"+name)); got != v {
			h.t.Errorf("%s: %s is %s, want %s", when, name, got, v)
		}
	}
}

// TestVMACGivesSettingsBack: the parent's, after the last one, also by a process that did
// not make them.
func TestVMACGivesSettingsBack(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	before := map[string]string{"eth0/arp_ignore": "0", "eth0/arp_filter": "0", "eth0/arp_announce": "1"}
	changed := map[string]string{"eth0/arp_ignore": "1", "eth0/arp_filter": "1", "eth0/arp_announce": "2"}
	for name, v := range before {
		h.sysctl("ipv4/conf/"+name, v)
	}
	a := VMACConfig{Name: "vrrp.51", Parent: "eth0", MAC: virtualMAC(51, false)}
	b := VMACConfig{Name: "vrrp.52", Parent: "eth0", MAC: virtualMAC(52, false)}
	six := VMACConfig{Name: "vrrp6.51", Parent: "eth0", MAC: virtualMAC(51, true), IPv6: true}
	act := func(f func() error) {
		t.Helper()
		var err error
		h.do(func() { err = f() })
		h.must(err)
	}
	act(func() error { return k.AddVMAC(six) })
	h.wantSettings("with one for IPv6", before)
	act(func() error { return k.AddVMAC(a) })
	act(func() error { return k.AddVMAC(b) })
	h.wantSettings("with two", changed)
	k = h.kernel() // another process
	act(func() error { return k.AddVMAC(a) })
	act(func() error { return k.RemoveVMAC("vrrp.51") })
	h.wantSettings("with one left", changed)
	act(func() error { return k.RemoveVMAC("vrrp6.51") })
	h.wantSettings("with one left", changed)
	act(func() error { return k.RemoveVMAC("vrrp.52") })
	h.wantSettings("with none left", before)
}

// TestVMACMovesToAnotherParent: the one that it leaves gets its settings back, and so does
// the new one in the end. One that is made anew on the same parent forgets nothing.
func TestVMACMovesToAnotherParent(t *testing.T) {
	h, _ := pair(t)
	h.run("ip", "link", "add", "eth7", "type", "veth", "peer", "name", "eth8")
	k := h.kernel()
	had := func(iface string) map[string]string {
		return map[string]string{iface + "/arp_ignore": "0", iface + "/arp_filter": "0", iface + "/arp_announce": "1"}
	}
	for _, iface := range []string{"eth0", "eth7"} {
		for name, v := range had(iface) {
			h.sysctl("ipv4/conf/"+name, v)
		}
	}
	for _, c := range []VMACConfig{
		{Name: "vrrp.51", Parent: "eth0", MAC: virtualMAC(51, false)},
		{Name: "vrrp.51", Parent: "eth0", MAC: virtualMAC(52, false)},
		{Name: "vrrp.51", Parent: "eth7", MAC: virtualMAC(52, false)},
	} {
		var err error
		h.do(func() { err = k.AddVMAC(c) })
		h.must(err)
		h.wantSettings("with it", map[string]string{c.Parent + "/arp_ignore": "1", c.Parent + "/arp_filter": "1", c.Parent + "/arp_announce": "2"})
	}
	h.wantSettings("on the former parent", had("eth0"))
	var err error
	h.do(func() { err = k.RemoveVMAC("vrrp.51") })
	h.must(err)
	h.wantSettings("with none left", had("eth7"))
}

// TestVMACLowersRPFilter: the strict filter of "all" goes over to the other interfaces.
func TestVMACLowersRPFilter(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	h.sysctl("ipv4/conf/eth0/rp_filter", "0")
	h.sysctl("ipv4/conf/lo/rp_filter", "2")
	h.sysctl("ipv4/conf/default/rp_filter", "0")
	h.sysctl("ipv4/conf/all/rp_filter", "1")
	for range 2 {
		var err error
		h.do(func() { err = k.AddVMAC(VMACConfig{Name: "vrrp.51", Parent: "eth0", MAC: virtualMAC(51, false)}) })
		h.must(err)
		h.wantSettings("with it", map[string]string{
			"all/rp_filter": "0", "default/rp_filter": "1", "eth0/rp_filter": "1", "lo/rp_filter": "2", "vrrp.51/rp_filter": "0",
		})
	}
}
