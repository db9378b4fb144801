package linux

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// run runs a program on the host.
func (h *host) run(args ...string) string {
	h.t.Helper()
	var out []byte
	var err error
	h.do(func() { out, err = exec.Command(args[0], args[1:]...).CombinedOutput() })
	if err != nil {
		h.t.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

// plainOf reads "10.0.0.5/24 eth0 options...".
func plainOf(list ...string) []PlainAddress {
	var out []PlainAddress
	for _, s := range list {
		words := strings.Fields(s)
		out = append(out, PlainAddress{Prefix: netip.MustParsePrefix(words[0]), Interface: words[1], Options: words[2:]})
	}
	return out
}

func TestPlainAddressesAreAsConfigured(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	labelled := PlainAddress{Prefix: netip.MustParsePrefix("10.0.1.5/24"), Interface: "eth0", Label: "eth0:1", Scope: "link", Broadcast: netip.MustParseAddr("10.0.1.255")}
	peer := PlainAddress{Prefix: netip.MustParsePrefix("10.0.2.5/30"), Interface: "eth0", Peer: netip.MustParsePrefix("10.0.3.6/30")}
	list := append(plainOf("10.0.0.5/24 eth0", "10.0.0.6/24 eth0 noprefixroute", "2001:db8::5/64 eth0",
		"2001:db8::6/128 eth0", "2001:db8::7/128 eth0 preferred_lft forever home", "2001:db8::8/64 eth0 preferred_lft 100 -nodad"), labelled, peer)
	var err error
	h.do(func() { err = k.AddPlain(list) })
	h.must(err)
	out := h.run("ip", "-N", "addr", "show", "dev", "eth0")
	for _, want := range []string{
		"inet 10.0.0.5/24 scope 0 eth0",
		"inet 10.0.0.6/24 scope 0 secondary noprefixroute eth0",
		"inet 10.0.1.5/24 brd 10.0.1.255 scope 253 eth0:1",
		"inet 10.0.2.5 peer 10.0.3.6/30 scope 0 eth0",
		"inet6 2001:db8::5/64 scope 0 nodad \n       valid_lft forever preferred_lft forever",
		"inet6 2001:db8::6/128 scope 0 nodad deprecated \n       valid_lft forever preferred_lft 0sec",
		"inet6 2001:db8::7/128 scope 0 nodad home \n       valid_lft forever preferred_lft forever",
	} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("there is no %q in\n%s", want, out)
		}
	}
	if !strings.Contains(out, "preferred_lft 100sec") && !strings.Contains(out, "preferred_lft 99sec") {
		t.Errorf("no preferred lifetime of 100 s in\n%s", out)
	}
	h.do(func() { err = k.AddPlain(list) })
	if err != nil {
		t.Errorf("added a second time: %v", err)
	}
	var left []PlainAddress
	h.do(func() { left, err = k.PlainAddresses() })
	h.must(err)
	if len(left) != len(list) {
		t.Errorf("left %v, added %v", left, list)
	}
	h.do(func() { err = k.RemovePlain(left) })
	h.must(err)
	if out := h.run("ip", "addr", "show", "dev", "eth0"); strings.Contains(out, "inet 10.0.") || strings.Contains(out, "2001:db8::") {
		t.Errorf("after the removal:\n%s", out)
	}
	h.do(func() { err = k.RemovePlain(list) })
	if err != nil {
		t.Errorf("removed a second time: %v", err)
	}
}

// A primary goes; its secondaries are the host's and another virtual router's.
func TestPlainRemovalKeepsSecondaries(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	first, second := plainOf("10.0.0.5/24 eth0"), plainOf("10.0.0.6/24 eth0")
	var err error
	h.do(func() { err = k.AddPlain(first) })
	h.must(err)
	h.own("eth0", "10.0.0.7/24")
	h.do(func() { err = k.AddPlain(second) })
	h.must(err)
	h.do(func() { err = k.RemovePlain(first) })
	h.must(err)
	if h.has("10.0.0.5/24") || !h.has("10.0.0.6/24") || !h.has("10.0.0.7/24") {
		t.Errorf("the host has\n%s", h.run("ip", "addr", "show", "dev", "eth0"))
	}
	if v := h.run("cat", "/proc/sys/net/ipv4/conf/eth0/promote_secondaries"); v != "0\n" {
		t.Errorf("promote_secondaries is %q afterwards", v)
	}
}

func TestPlainAddressesOfOthers(t *testing.T) {
	for _, mark := range []byte{Protocol, 0} {
		t.Run(fmt.Sprintf("mark %d", mark), func(t *testing.T) {
			h, _ := pair(t)
			k := h.kernel()
			k.mark = mark // 0: the kernel keeps none
			h.own("eth0", "10.0.0.5/24")
			list := plainOf("10.0.0.5/24 eth0", "10.0.0.6/24 eth0", "10.0.0.7/24 nowhere")
			var err error
			h.do(func() { err = k.AddPlain(list) })
			if err == nil || !strings.Contains(err.Error(), "add 10.0.0.7/24 on nowhere") || strings.Contains(err.Error(), "0.5") {
				t.Errorf("add: %v", err)
			}
			h.do(func() { err = k.RemovePlain(list) })
			h.must(err)
			if !h.has("10.0.0.5/24") || h.has("10.0.0.6/24") {
				t.Errorf("after remove:\n%s", h.run("ip", "addr", "show", "dev", "eth0"))
			}
			h.do(func() { err = k.ClearPlain(list) })
			h.must(err)
			if h.has("10.0.0.5/24") {
				t.Error("clear has left it")
			}
		})
	}
}

func TestEncodePlainRefuses(t *testing.T) {
	for name, a := range map[string]PlainAddress{
		"nothing":       {},
		"label":         {Prefix: netip.MustParsePrefix("10.0.0.1/24"), Label: "0123456789abcdef"},
		"scope":         {Prefix: netip.MustParsePrefix("10.0.0.1/24"), Scope: "galaxy"},
		"peer":          {Prefix: netip.MustParsePrefix("10.0.0.1/24"), Peer: netip.MustParsePrefix("2001:db8::1/64")},
		"broadcast":     {Prefix: netip.MustParsePrefix("2001:db8::1/64"), Broadcast: netip.MustParseAddr("10.0.0.255")},
		"option":        {Prefix: netip.MustParsePrefix("10.0.0.1/24"), Options: []string{"hom"}},
		"option of six": {Prefix: netip.MustParsePrefix("10.0.0.1/24"), Options: []string{"home"}},
		"no lifetime":   {Prefix: netip.MustParsePrefix("2001:db8::1/64"), Options: []string{"preferred_lft"}},
		"bad lifetime":  {Prefix: netip.MustParsePrefix("2001:db8::1/64"), Options: []string{"preferred_lft", "x"}},
	} {
		if _, err := encodePlain(a, 1, PlainProtocol); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
	m, err := encodePlain(PlainAddress{Prefix: netip.MustParsePrefix("10.0.0.1/24")}, 7, PlainProtocol)
	if err != nil {
		t.Fatal(err)
	}
	r, err := decodeAddress(m.body)
	if err != nil || r.index != 7 || r.bits != 24 || r.protocol != PlainProtocol || r.validFor != foreverSeconds || m.kind != unix.RTM_NEWADDR {
		t.Errorf("decoded %+v, %v", r, err)
	}
}
