package linux

import (
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ip runs ip(8) in the namespace and returns what it prints.
func (h *host) ip(args ...string) string {
	h.t.Helper()
	var out []byte
	var err error
	h.do(func() { out, err = exec.Command("ip", args...).CombinedOutput() })
	if err != nil {
		h.t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// inside runs a method of a kernel in its namespace.
func (h *host) inside(f func() error) {
	h.t.Helper()
	var err error
	h.do(func() { err = f() })
	h.must(err)
}

// squeeze makes one space of each gap.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

// lines returns the lines without gaps.
func lines(s string) (out []string) {
	for line := range strings.Lines(s) {
		if l := squeeze(line); l != "" {
			out = append(out, l)
		}
	}
	return out
}

func plainHost(t *testing.T) (*host, *Kernel) {
	t.Helper()
	h, _ := pair(t)
	return h, h.kernel()
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func TestPlainAddresses(t *testing.T) {
	for _, c := range []struct {
		name    string
		address PlainAddress
		want    string // of ip address show, which prints no protocol before iproute2 6.3
	}{
		{"bare", PlainAddress{Prefix: prefix("10.9.0.5/24")}, "inet 10.9.0.5/24 scope global eth0"},
		{"host prefix", PlainAddress{Prefix: prefix("10.9.0.5/32")}, "inet 10.9.0.5/32 scope global eth0"},
		{"label", PlainAddress{Prefix: prefix("10.9.0.5/24"), Label: "eth0:vip"}, "inet 10.9.0.5/24 scope global eth0:vip"},
		{"scope", PlainAddress{Prefix: prefix("10.9.0.5/24"), Scope: "link"}, "inet 10.9.0.5/24 scope link eth0"},
		{"scope number", PlainAddress{Prefix: prefix("10.9.0.5/24"), Scope: "200"}, "inet 10.9.0.5/24 scope site eth0"},
		{"broadcast", PlainAddress{Prefix: prefix("10.9.0.5/24"), Broadcast: netip.MustParseAddr("10.9.0.255")}, "inet 10.9.0.5/24 brd 10.9.0.255 scope global eth0"},
		{"peer", PlainAddress{Prefix: prefix("10.9.0.5/32"), Peer: prefix("10.8.0.1/30")}, "inet 10.9.0.5 peer 10.8.0.1/30 scope global eth0"},
		{"no route", PlainAddress{Prefix: prefix("10.9.0.5/24"), Options: []string{"noprefixroute"}}, "inet 10.9.0.5/24 scope global noprefixroute eth0"},
		{"multicast", PlainAddress{Prefix: prefix("224.9.9.9/32"), Options: []string{"autojoin", "preferred_lft", "0"}}, "inet 224.9.9.9/32 scope global autojoin eth0"},
		{"IPv6", PlainAddress{Prefix: prefix("2001:db8:9::5/64"), Label: "eth0:no", Scope: "link"}, "inet6 2001:db8:9::5/64 scope global nodad"},
		{"IPv6 with detection", PlainAddress{Prefix: prefix("2001:db8:9::5/64"), Options: []string{"-nodad"}}, "inet6 2001:db8:9::5/64 scope global"},
		{"IPv6 of a host", PlainAddress{Prefix: prefix("2001:db8:9::5/128")}, "inet6 2001:db8:9::5/128 scope global nodad deprecated"},
		{"IPv6 preferred", PlainAddress{Prefix: prefix("2001:db8:9::5/128"), Options: []string{"preferred_lft", "forever"}}, "inet6 2001:db8:9::5/128 scope global nodad"},
		{"IPv6 temporary", PlainAddress{Prefix: prefix("2001:db8:9::5/64"), Options: []string{"mngtmpaddr"}}, "inet6 2001:db8:9::5/64 scope global nodad mngtmpaddr"},
		{"IPv6 peer", PlainAddress{Prefix: prefix("2001:db8:9::5/128"), Peer: prefix("2001:db8:8::1/128"), Options: []string{"home", "use_vmac", "preferred_lft", "forever"}}, "inet6 2001:db8:9::5 peer 2001:db8:8::1/128 scope global nodad home"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, k := plainHost(t)
			c.address.Interface = "eth0"
			set := []PlainAddress{c.address}
			show := func() string { return squeeze(h.ip("address", "show", "dev", "eth0")) }
			before := show()
			for range 2 { // adding again is fine
				h.inside(func() error { return k.AddPlain(set) })
			}
			got := strings.Replace(show(), " tentative", "", 1) // while duplicate address detection runs
			if !strings.Contains(got, c.want+" valid_lft forever") {
				t.Errorf("got %s\nwant %s", got, c.want)
			}
			left, err := k.LeftPlain()
			if err != nil || len(left) != 1 || left[0].Prefix.Addr() != c.address.Prefix.Addr() {
				t.Fatalf("left: %v, %v", left, err)
			}
			h.inside(func() error { return k.RemovePlain(left) }) // what is left tells enough to remove it
			h.inside(func() error { return k.RemovePlain(set) })
			if after := show(); after != before {
				t.Errorf("after the removal: %s\nbefore: %s", after, before)
			}
		})
	}
}

func TestPlainAddressErrors(t *testing.T) {
	h, k := plainHost(t)
	err := k.AddPlain([]PlainAddress{
		{Prefix: prefix("10.9.0.1/24"), Interface: "eth7"},
		{Prefix: prefix("10.9.0.2/24"), Interface: "eth0", Scope: "moon"},
		{Prefix: prefix("10.9.0.3/24"), Interface: "eth0", Options: []string{"fast"}},
		{Prefix: prefix("10.9.0.4/24"), Interface: "eth0", Options: []string{"preferred_lft"}},
		{Prefix: prefix("10.9.0.5/24"), Interface: "eth0", Options: []string{"preferred_lft", "soon"}},
		{Prefix: prefix("10.9.0.6/24"), Interface: "eth0"},
	})
	for _, want := range []string{"eth7", "moon", "fast", "lacks its value", "soon"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	if !h.has("10.9.0.6/24") {
		t.Error("what is right was not added")
	}
	if err := k.RemovePlain([]PlainAddress{{Prefix: prefix("10.9.0.1/24"), Interface: "eth7"}, {Prefix: prefix("10.9.0.9/24"), Interface: "eth0"}}); err != nil {
		t.Errorf("remove what is not there: %v", err)
	}
}

// TestPlainTakesOthers: an address that another program has added is taken as it is, and
// one with another prefix length is another.
func TestPlainTakesOthers(t *testing.T) {
	h, k := plainHost(t)
	h.own("eth0", "10.9.0.5/16")
	a := []PlainAddress{{Prefix: prefix("10.9.0.5/16"), Interface: "eth0", Label: "eth0:x"}}
	h.inside(func() error { return k.AddPlain(a) })
	if left, err := k.LeftPlain(); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if got := h.ip("address", "show", "dev", "eth0"); strings.Contains(got, "eth0:x") {
		t.Errorf("it was changed: %s", got)
	}
	h.inside(func() error { return k.RemovePlain([]PlainAddress{{Prefix: prefix("10.9.0.5/24"), Interface: "eth0"}}) })
	if !h.has("10.9.0.5/16") {
		t.Error("removed with another prefix length")
	}
	h.inside(func() error { return k.RemovePlain(a) })
	if h.has("10.9.0.5/16") {
		t.Error("not removed: it would be up twice")
	}
}

// TestPlainKeepsSecondaries removes the addresses of a subnet in every order, and none
// may go with another.
func TestPlainKeepsSecondaries(t *testing.T) {
	h, k := plainHost(t)
	h.sysctl("ipv4/conf/eth0/promote_secondaries", "0")
	list := []string{"10.9.0.1/24", "10.9.0.2/24", "10.9.0.3/24", "10.9.0.4/24"}
	all := make([]PlainAddress, len(list))
	for i, s := range list {
		all[i] = PlainAddress{Prefix: prefix(s), Interface: "eth0"}
	}
	for _, doomed := range [][]int{{0}, {1}, {0, 2}, {2, 0}, {0, 1, 2, 3}, {3, 1, 0}} {
		h.inside(func() error { return k.AddPlain(all) })
		var gone []PlainAddress
		for _, i := range doomed {
			gone = append(gone, all[i])
		}
		h.inside(func() error { return k.RemovePlain(gone) })
		for i, s := range list {
			if want := !slices.Contains(doomed, i); h.has(s) != want {
				t.Errorf("after the removal of %v: %s there: %v", doomed, s, !want)
			}
		}
		h.inside(func() error { return k.RemovePlain(all) })
	}
	index := h.get("eth0").Attrs().Index
	if v, err := k.devconf(index, devconfPromoteSecondaries); err != nil || v != 0 {
		t.Errorf("promote_secondaries is %d, %v: not set back", v, err)
	}
}

// answers sends one UDP packet to a closed port of ip and reports whether it is refused:
// then the packet was received there.
func (h *host) answers(ip string) (ok bool) {
	h.t.Helper()
	h.do(func() {
		c, err := net.Dial("udp", net.JoinHostPort(ip, "9"))
		if err != nil {
			return
		}
		defer c.Close()
		if _, err = c.Write([]byte("x")); err != nil {
			ok = errors.Is(err, syscall.ECONNREFUSED)
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, err = c.Read(make([]byte, 1))
		ok = errors.Is(err, syscall.ECONNREFUSED)
	})
	return ok
}
