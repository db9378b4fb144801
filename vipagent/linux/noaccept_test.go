package linux

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

// refuses sends a UDP packet to a closed port of address and reports whether that is
// said to be closed: then the packet was taken.
func (h *host) refuses(address string, wait time.Duration) (ok bool) {
	h.t.Helper()
	h.do(func() {
		c, err := net.Dial("udp", net.JoinHostPort(address, "9"))
		if err != nil {
			h.t.Error(err)
			return
		}
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(wait))
		if _, err = c.Write([]byte("x")); err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		ok = errors.Is(err, syscall.ECONNREFUSED)
	})
	return ok
}

func TestNoAccept(t *testing.T) {
	h, peer := pair(t)
	k := h.kernel()
	v4, v6, own := "10.1.0.50", "2001:db8:1::50", "10.1.0.1"
	var err error
	h.do(func() { err = k.AddPlain(plainOf(v4+"/16 eth0", v6+"/64 eth0")) })
	h.must(err)
	taken := func(address string) {
		t.Helper()
		waitFor(t, address+" to be taken", func() bool { return peer.refuses(address, 100*time.Millisecond) })
	}
	dropped := func(address string) {
		t.Helper()
		if peer.refuses(address, 300*time.Millisecond) {
			t.Errorf("a packet to %s was taken", address)
		}
	}
	open := func(keep bool) (n *NoAccept) {
		t.Helper()
		h.do(func() { n, err = OpenNoAccept(keep) })
		h.must(err)
		return n
	}
	table := func() bool {
		t.Helper()
		text := h.run("nft", "list", "tables")
		return strings.Contains(text, noAcceptTable)
	}
	kept := open(true)
	n := kept
	set := func(list ...string) {
		t.Helper()
		var addresses []netip.Addr
		for _, s := range list {
			addresses = append(addresses, netip.MustParseAddr(s))
		}
		h.do(func() { err = n.Set(addresses) })
		h.must(err)
	}
	set() // nothing to remove
	taken(v4)
	taken(v6)
	peer.run("ip", "neigh", "flush", "all")
	set(v4, v6, v4)
	dropped(v4)
	dropped(v6)
	taken(own)
	// The neighbours still find them.
	for _, a := range []string{v4, v6} {
		waitFor(t, a+" to be resolved", func() bool { return peer.neighbour("eth0", a) == h.mac("eth0") })
	}
	set(v6)
	taken(v4)
	dropped(v6)
	set()
	taken(v6)
	if table() {
		t.Error("the table is left")
	}

	set(v4)
	h.must(kept.Close())
	if !table() {
		t.Error("the table that was to stay is gone")
	}
	n = open(false) // the next process
	set(v6)
	taken(v4)
	dropped(v6)
	set(v4)
	taken(v6)
	h.must(n.Close()) // as when it is killed
	waitFor(t, "the table to go with its process", func() bool { return !table() })
	taken(v4)

	n = open(false)
	set(v4)
	h.must(n.Close())
	n = open(true)
	set(v4, v6)
	h.run("nft", "delete", "table", "inet", noAcceptTable)
	set(v4) // somebody has deleted it
	dropped(v4)
	h.must(n.Close())
}
