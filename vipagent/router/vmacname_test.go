package router

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"holdfast/vipagent/keepalived"
)

// fakeMACs makes interfaces of the world.
type fakeMACs struct{ *world }

func (w fakeMACs) Add(m MAC) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("make %s on %s", m.Name, m.Parent)
	index := len(w.links) + 1
	for _, l := range w.links {
		index = max(index, l.Index+1)
	}
	w.links[m.Name] = &Link{Name: m.Name, Index: index, Up: true, Addresses: []netip.Prefix{netip.MustParsePrefix("fe80::9/64")}}
	return nil
}

func (w fakeMACs) Remove(name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("delete %s", name)
	delete(w.links, name)
	return nil
}

func (w fakeMACs) Left() (names []string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.links {
		if strings.HasPrefix(name, "vrrp") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func withMAC(in keepalived.Instance, name string) keepalived.Instance {
	in.VMAC = &keepalived.VMAC{Name: name}
	in.IPv6 = len(in.Addresses) > 0 && in.Addresses[0].Prefix.Addr().Is6()
	if in.IPv6 {
		in.Version = 3
	}
	return in
}

// TestVMACNames: no two instances share an interface, and names are Keepalived's.
func TestVMACNames(t *testing.T) {
	four := func(iface, name string) keepalived.Instance {
		return withMAC(one("4"+iface+name, iface, 51, 100, "10.0.0.100/24"), name)
	}
	six := func(iface string) keepalived.Instance {
		return withMAC(one("6"+iface, iface, 51, 100, "fe80::100/64"), "")
	}
	for _, c := range []struct {
		what      string
		instances []keepalived.Instance
		want      string
	}{
		{"one VRID on two interfaces", []keepalived.Instance{four("eth0", ""), four("eth1", "")}, "vrrp.51 vrrp1.51"},
		{"IPv6 alone", []keepalived.Instance{six("eth0")}, "vrrp.51"},
		{"IPv6 second", []keepalived.Instance{four("eth0", ""), six("eth0")}, "vrrp.51 vrrp6.51"},
		{"IPv6 first", []keepalived.Instance{six("eth0"), four("eth0", "")}, "vrrp.51 vrrp1.51"},
		{"two of each", []keepalived.Instance{four("eth0", ""), four("eth1", ""), six("eth0"), six("eth1")}, "vrrp.51 vrrp1.51 vrrp6.51 vrrp2.51"},
		{"named later in the file", []keepalived.Instance{four("eth0", ""), four("eth1", "vrrp.51")}, "vrrp1.51 vrrp.51"},
		{"no virtual MAC", []keepalived.Instance{one("N", "eth0", 51, 100, "10.0.0.100/24"), four("eth1", "")}, " vrrp.51"},
	} {
		s := &setup{config: configOf(c.instances...)}
		s.adoptInstances(&Router{}, &setup{})
		var got []string
		for _, in := range s.instances {
			got = append(got, in.vmacName())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", c.what, strings.Join(got, " "), c.want)
		}
	}
}

// TestReloadOfVMACs: an instance keeps its interface's name while others come and go,
// and an interface that is not wanted any more is deleted.
func TestReloadOfVMACs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.macs = fakeMACs{w}
		a := withMAC(one("A", "eth0", 51, 100, "10.0.0.100/24"), "")
		b := withMAC(one("B", "eth1", 51, 100, "10.1.0.100/24"), "")
		r, stop := w.start(configOf(a, b))
		defer stop()
		interfaces := func() (out []string) {
			for _, line := range w.lines() {
				if strings.HasPrefix(line, "make ") || strings.HasPrefix(line, "delete ") {
					out = append(out, line)
				}
			}
			return out
		}
		mustEqual(t, "at the start", interfaces(), "make vrrp.51 on eth0", "make vrrp1.51 on eth1")
		r.Reload(configOf(b))
		mustEqual(t, "without the first", interfaces(), "delete vrrp.51")
		r.Reload(configOf(a, b))
		mustEqual(t, "with it again", interfaces(), "make vrrp.51 on eth0")
		r.Reload(configOf(a, withMAC(b, "own")))
		mustEqual(t, "under a name of the user's", interfaces(), "delete vrrp1.51", "make own on eth1")
		b.VMAC = nil
		r.Reload(configOf(a, b))
		mustEqual(t, "without use_vmac", interfaces(), "delete own")
	})
}

// TestSweepOfVMACs: at the start all interfaces of a former process go before any is
// made: one of the same name may be on another parent, one of another name may have a MAC
// address that is needed there.
func TestSweepOfVMACs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.macs = fakeMACs{w}
		w.link("vrrp.51")
		w.link("vrrp1.51")
		_, stop := w.start(configOf(withMAC(one("A", "eth0", 51, 100, "10.0.0.100/24"), "")))
		defer stop()
		mustEqual(t, "at the start", w.lines(), "delete vrrp.51", "delete vrrp1.51", "make vrrp.51 on eth0")
	})
}
