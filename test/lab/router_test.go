package lab

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestFRRAddresses(t *testing.T) {
	got, err := frrAddresses("interface eth0\n vrrp 51 version 3\n vrrp 51 priority 150\n vrrp 51 ip 10.77.1.1\n vrrp 51 ipv6 fe80::1\n vrrp 51 ipv6 fd77::1\n")
	check(t, err)
	want := map[VirtualRouter][]netip.Addr{
		{VRID: 51}:             {netip.MustParseAddr("10.77.1.1")},
		{VRID: 51, IPv6: true}: {netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fd77::1")},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"vrrp 256 ip 10.77.1.1", "vrrp 1 ip 10.77.1"} {
		if got, err := frrAddresses(bad); err == nil {
			t.Errorf("%s gives %v", bad, got)
		}
	}
}

func TestWritePcap(t *testing.T) {
	var b bytes.Buffer
	check(t, WritePcap(&b, []Frame{{At: 3_000_000_007, Data: []byte{1, 2, 3}}}))
	want := "4d3cb2a1" + "0200" + "0400" + "0000000000000000" + "00000100" + "01000000" + "03000000" + "07000000" + "03000000" + "03000000" + "010203"
	if got := hex.EncodeToString(b.Bytes()); got != want {
		t.Errorf("wrote %s, want %s", got, want)
	}
}

// TestWiretap: what a host sends is heard as its own, whatever address it bears,
// and nothing that only passes.
func TestWiretap(t *testing.T) {
	n := newNetwork(t)
	tap, err := n.StartWiretap()
	check(t, err)
	began := Now()
	for _, h := range []*Host{n.Hosts[0], n.Hosts[1], n.Clients[0]} {
		check(t, h.InNamespace(func() error {
			link, err := h.Netlink().LinkByName(Interface)
			if err != nil {
				return err
			}
			return announce(link, netip.MustParseAddr("10.77.1.1"))
		}))
	}
	var heard []string
	eventually(t, func() error {
		heard = nil
		for _, f := range tap.Frames(began, Now()) {
			if c, ok := parseARP(f.Data[etherSize:]); ok && c.Gratuitous {
				heard = append(heard, f.Host)
			}
		}
		if len(heard) < 2 {
			return fmt.Errorf("heard %q", heard)
		}
		return nil
	})
	if diff := cmp.Diff([]string{"host1", "host2"}, heard); diff != "" {
		t.Error(diff)
	}
	_, err = n.Hosts[0].PowerOff()
	check(t, err)
	if got := tap.Frames(Now(), Now()); len(got) > 0 {
		t.Errorf("heard %d frames of nobody", len(got))
	}
	check(t, tap.Close())
}
