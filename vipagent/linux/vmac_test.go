package linux

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"holdfast/vipagent/vrrp"
)

func TestVMAC(t *testing.T) {
	h, peer := pair(t)
	k := h.kernel()
	c := VMACConfig{Name: "vrrp.51", Parent: "eth0", MAC: virtualMAC(51, false)}
	add := func(c VMACConfig) (err error) {
		h.do(func() { err = k.AddVMAC(c) })
		return err
	}
	h.must(add(c))
	first := h.get("vrrp.51").Attrs().Index
	out := h.run("ip", "-d", "link", "show", "dev", "vrrp.51")
	for _, want := range []string{"00:00:5e:00:01:33", "macvlan mode private", ",UP", "addrgenmode none"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if out := h.run("ip", "addr", "show", "dev", "vrrp.51"); strings.Contains(out, "inet") {
		t.Errorf("it has addresses:\n%s", out)
	}
	for path, want := range map[string]string{
		"ipv4/conf/vrrp.51/arp_ignore": "1", "ipv4/conf/vrrp.51/accept_local": "1", "ipv4/conf/vrrp.51/rp_filter": "0",
		"ipv4/conf/vrrp.51/promote_secondaries": "1", "ipv6/conf/vrrp.51/disable_ipv6": "1",
		"ipv4/conf/eth0/arp_ignore": "1", "ipv4/conf/eth0/arp_filter": "1", "ipv4/conf/eth0/arp_announce": "2",
	} {
		if got := strings.TrimSpace(h.run("cat", "/proc/sys/net/"+path)); got != want {
			t.Errorf("%s = %s, want %s", path, got, want)
		}
	}

	// The VIP on it is reached by the virtual MAC, and the parent does not answer for it.
	var err error
	h.do(func() { err = k.AddPlain(plainOf("10.1.0.50/32 vrrp.51")) })
	h.must(err)
	for address, want := range map[string]string{"10.1.0.50": "00:00:5e:00:01:33", "10.1.0.1": h.mac("eth0")} {
		peer.seek(address)
		waitFor(t, address+" to be resolved", func() bool { return peer.neighbour("eth0", address) != "" })
		if mac := peer.neighbour("eth0", address); mac != want {
			t.Errorf("the peer believes %s at %s, want %s", address, mac, want)
		}
	}

	// What is as it should be stays, with its addresses; else it is replaced.
	h.must(add(c))
	if h.get("vrrp.51").Attrs().Index != first || !h.has("10.1.0.50/32") {
		t.Error("it was made again")
	}
	c.MAC = virtualMAC(52, false)
	h.must(add(c))
	if h.get("vrrp.51").Attrs().Index == first || h.mac("vrrp.51") != "00:00:5e:00:01:34" {
		t.Error("it was not replaced")
	}
	h.must(add(VMACConfig{Name: "vrrp6.51", Parent: "eth0", MAC: virtualMAC(51, true), IPv6: true, Source: netip.MustParsePrefix("fe80::51/64")}))
	if !h.has("fe80::51/64") || strings.Count(h.run("ip", "addr", "show", "dev", "vrrp6.51"), "inet6") != 1 {
		t.Errorf("addresses:\n%s", h.run("ip", "addr", "show", "dev", "vrrp6.51"))
	}
	var names []string
	h.do(func() { names, err = k.VMACs() })
	slices.Sort(names)
	if err != nil || !slices.Equal(names, []string{"vrrp.51", "vrrp6.51"}) {
		t.Errorf("VMACs: %v, %v", names, err)
	}
	for _, name := range []string{"vrrp.51", "vrrp6.51", "vrrp.51"} {
		h.do(func() { err = k.RemoveVMAC(name) })
		h.must(err)
	}
	h.do(func() { names, err = k.VMACs() })
	if err != nil || len(names) != 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}

// seek makes the host look for a neighbour.
func (h *host) seek(address string) {
	h.t.Helper()
	var err error
	h.do(func() {
		var c net.Conn
		if c, err = net.Dial("udp", net.JoinHostPort(address, "9")); err == nil {
			_, err = c.Write([]byte{0})
			err = errors.Join(err, c.Close())
		}
	})
	h.must(err)
}

// Not every kernel has IPVLAN; what is asked of it is looked at here.
func TestIPVLAN(t *testing.T) {
	for mode, flag := range map[string]netlink.IPVlanFlag{"": netlink.IPVLAN_FLAG_BRIDGE, "private": netlink.IPVLAN_FLAG_PRIVATE, "vepa": netlink.IPVLAN_FLAG_VEPA} {
		l, err := VMACConfig{Name: "vip0", IPVLAN: true, Mode: mode}.link(&netlink.LinkAttrs{Index: 7, Group: 3})
		if err != nil {
			t.Fatal(err)
		}
		v, ok := l.(*netlink.IPVlan)
		if !ok || v.Mode != netlink.IPVLAN_MODE_L2 || v.Flag != flag || v.ParentIndex != 7 || v.Group != 3 || v.Name != "vip0" {
			t.Errorf("mode %q: %+v", mode, l)
		}
	}
}

// Interfaces of others are neither changed nor deleted.
func TestVMACOfOthers(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	h.run("ip", "link", "add", "link", "eth0", "name", "vrrp.51", "type", "macvlan", "mode", "private")
	var err error
	h.do(func() { err = k.AddVMAC(VMACConfig{Name: "vrrp.51", Parent: "eth0", MAC: virtualMAC(51, false)}) })
	if err == nil {
		t.Error("another's interface was taken")
	}
	h.do(func() { err = k.RemoveVMAC("vrrp.51") })
	if err == nil {
		t.Error("another's interface was removed")
	}
	h.run("ip", "link", "set", "vrrp.51", "address", "00:00:5e:00:01:33") // as Keepalived has it
	h.do(func() { err = k.AddVMAC(VMACConfig{Name: "vrrp.51", Parent: "eth0", MAC: virtualMAC(51, false)}) })
	h.must(err)
	h.do(func() { err = k.RemoveVMAC("vrrp.51") })
	h.must(err)
	h.do(func() { err = k.AddVMAC(VMACConfig{Name: "vrrp.52", Parent: "gone", MAC: virtualMAC(52, false)}) })
	if !errors.Is(err, ErrNoInterface) {
		t.Errorf("without its parent: %v", err)
	}
	for _, c := range []VMACConfig{{Name: "v", Parent: "eth0"}, {Name: "v", Parent: "eth0", MAC: []byte{1, 0, 0, 0, 0, 1}}, {Name: "v", Parent: "eth0", IPVLAN: true, Mode: "x"}} {
		h.do(func() { err = k.AddVMAC(c) })
		if err == nil {
			t.Errorf("made %+v", c)
		}
	}
}

// Two hosts have the same virtual MAC, as at the moment when one takes over from the
// other: each must hear the other.
func TestVMACHostsHearEachOther(t *testing.T) {
	h, peer := pair(t)
	group := netip.MustParseAddr("224.0.0.18")
	message := []byte{0x21, 51, 100, 0, 0, 1, 0, 0}
	sockets := map[string]*VRRPSocket{}
	for name, x := range map[string]*host{"h": h, "peer": peer} {
		k := x.kernel()
		var err error
		x.do(func() { err = k.AddVMAC(VMACConfig{Name: "vrrp.51", Parent: "eth0", MAC: virtualMAC(51, false)}) })
		x.must(err)
		x.do(func() { sockets[name], err = k.ListenVRRP(VRRPConfig{Interface: "vrrp.51", Group: group}) })
		x.must(err)
		t.Cleanup(func() { sockets[name].Close() })
	}
	h.must(sockets["h"].Send(message, netip.MustParseAddr("10.1.0.1"), group, 255))
	if p := receiveVRRP(t, sockets["peer"]); p.Source.String() != "10.1.0.1" || !bytes.Equal(p.Message, message) {
		t.Errorf("received %+v", p)
	}
}

func virtualMAC(vrid uint8, ipv6 bool) net.HardwareAddr {
	mac := vrrp.VirtualMAC(vrid, !ipv6)
	return mac[:]
}
