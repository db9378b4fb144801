package linux

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

var (
	macA = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x01}
	macB = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x02}
	ip4  = netip.MustParseAddr("192.0.2.5")
	ip6  = netip.MustParseAddr("2001:db8::5")
)

// bin reads hexadecimal digits; blanks do not count.
func bin(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var addrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

var arpGolden = []struct {
	name   string
	packet arpPacket
	frame  string
}{
	{
		"gratuitous request", gratuitousRequest(macA, ip4),
		"ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 c0000205 000000000000 c0000205",
	},
	{
		"gratuitous reply", gratuitousReply(macA, ip4),
		"ffffffffffff 020000000001 0806 0001 0800 06 04 0002 020000000001 c0000205 020000000001 c0000205",
	},
	{
		"reply to a host",
		arpPacket{
			Destination: macB, Source: macA, Operation: arpReply,
			SenderMAC: macA, SenderIP: ip4, TargetMAC: macB, TargetIP: netip.MustParseAddr("192.0.2.9"),
		},
		"020000000002 020000000001 0806 0001 0800 06 04 0002 020000000001 c0000205 020000000002 c0000209",
	},
}

func TestARPGolden(t *testing.T) {
	for _, g := range arpGolden {
		frame := bin(t, g.frame)
		if diff := cmp.Diff(frame, g.packet.appendTo(nil)); diff != "" {
			t.Errorf("%s: frame (-want +got):\n%s", g.name, diff)
		}
		padded := append(slices.Clone(frame), make([]byte, 18)...) // as on the wire
		for _, b := range [][]byte{frame, padded} {
			got, err := parseARP(b)
			if diff := cmp.Diff(g.packet, got, addrs); err != nil || diff != "" {
				t.Errorf("%s: packet: %v (-want +got):\n%s", g.name, err, diff)
			}
		}
		for n := range frame {
			if _, err := parseARP(frame[:n]); !errors.Is(err, errShort) {
				t.Errorf("%s cut to %d bytes: %v", g.name, n, err)
			}
		}
	}
}

func TestARPOfOtherKinds(t *testing.T) {
	for name, frame := range map[string]string{
		"another ethertype":     "ffffffffffff 020000000001 0800 0001 0800 06 04 0001 020000000001 c0000205 000000000000 c0000205",
		"another hardware":      "ffffffffffff 020000000001 0806 0006 0800 06 04 0001 020000000001 c0000205 000000000000 c0000205",
		"another protocol":      "ffffffffffff 020000000001 0806 0001 86dd 06 04 0001 020000000001 c0000205 000000000000 c0000205",
		"wrong hardware length": "ffffffffffff 020000000001 0806 0001 0800 08 04 0001 020000000001 c0000205 000000000000 c0000205",
		"wrong address length":  "ffffffffffff 020000000001 0806 0001 0800 06 10 0001 020000000001 c0000205 000000000000 c0000205",
		"reverse ARP":           "ffffffffffff 020000000001 0806 0001 0800 06 04 0003 020000000001 c0000205 000000000000 c0000205",
		"operation 0":           "ffffffffffff 020000000001 0806 0001 0800 06 04 0000 020000000001 c0000205 000000000000 c0000205",
	} {
		if p, err := parseARP(bin(t, frame)); !errors.Is(err, errForeign) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

const ether6 = "333300000001 020000000001 86dd "

var neighbourGolden = []struct {
	name   string
	packet neighbourPacket
	frame  string
}{
	{
		"unsolicited advertisement", unsolicited(macA, ip6, false),
		ether6 + "60000000 0020 3a ff 20010db8000000000000000000000005 ff020000000000000000000000000001" +
			"88 00 f922 20 000000 20010db8000000000000000000000005 02 01 020000000001",
	},
	{
		"unsolicited advertisement of a router", unsolicited(macA, ip6, true),
		ether6 + "60000000 0020 3a ff 20010db8000000000000000000000005 ff020000000000000000000000000001" +
			"88 00 7922 a0 000000 20010db8000000000000000000000005 02 01 020000000001",
	},
	{
		"duplicate address detection",
		neighbourPacket{
			DestinationMAC: multicastMAC(solicitedNode(ip6)), SourceMAC: macA,
			Source: netip.IPv6Unspecified(), Destination: solicitedNode(ip6), Type: solicitation, Target: ip6,
		},
		"3333ff000005 020000000001 86dd 60000000 0018 3a ff 00000000000000000000000000000000 ff0200000000000000000001ff000005" +
			"87 00 4ce5 00 000000 20010db8000000000000000000000005",
	},
}

func TestNeighbourGolden(t *testing.T) {
	for _, g := range neighbourGolden {
		frame := bin(t, g.frame)
		if diff := cmp.Diff(frame, g.packet.appendTo(nil)); diff != "" {
			t.Errorf("%s: frame (-want +got):\n%s", g.name, diff)
		}
		padded := append(slices.Clone(frame), make([]byte, 18)...)
		for _, b := range [][]byte{frame, padded} {
			got, err := parseNeighbour(b)
			if diff := cmp.Diff(g.packet, got, addrs); err != nil || diff != "" {
				t.Errorf("%s: packet: %v (-want +got):\n%s", g.name, err, diff)
			}
		}
		for n := range frame {
			if _, err := parseNeighbour(frame[:n]); !errors.Is(err, errShort) {
				t.Errorf("%s cut to %d bytes: %v", g.name, n, err)
			}
		}
		for i := range frame[etherHeader+8:] { // both addresses and the message
			broken := slices.Clone(frame)
			broken[etherHeader+8+i] ^= 0x10
			if got, err := parseNeighbour(broken); err == nil {
				t.Errorf("%s with byte %d changed: %+v", g.name, etherHeader+8+i, got)
			}
		}
	}
}

// TestNeighbourOracle compares with another implementation.
func TestNeighbourOracle(t *testing.T) {
	p := unsolicited(macA, ip6, true)
	want, err := ndp.MarshalMessageChecksum(&ndp.NeighborAdvertisement{
		Router: true, Override: true, TargetAddress: ip6,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: macA}},
	}, ip6, allNodes)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, p.appendTo(nil)[etherHeader+ipv6Header:]); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	group, err := ndp.SolicitedNodeMulticast(ip6)
	if err != nil || group != solicitedNode(ip6) {
		t.Errorf("solicited-node group %v, want %v (%v)", solicitedNode(ip6), group, err)
	}
}

func TestNeighbourMalformed(t *testing.T) {
	na := neighbourGolden[0]
	for _, c := range []struct {
		name   string
		change func(p *neighbourPacket, b []byte) []byte
		want   error
	}{
		{"hop limit 254", func(_ *neighbourPacket, b []byte) []byte { b[21] = 254; return b }, errBroken},
		{"another protocol", func(_ *neighbourPacket, b []byte) []byte { b[20] = 17; return b }, errForeign},
		{"IP version 4", func(_ *neighbourPacket, b []byte) []byte { b[14] = 0x45; return b }, errForeign},
		{"payload longer than the frame", func(_ *neighbourPacket, b []byte) []byte { b[19]++; return b }, errShort},
		{"echo request", func(p *neighbourPacket, _ []byte) []byte { p.Type = 128; return p.appendTo(nil) }, errForeign},
		{"multicast target", func(p *neighbourPacket, _ []byte) []byte { p.Target = allNodes; return p.appendTo(nil) }, errBroken},
		{"option of length 0", func(p *neighbourPacket, _ []byte) []byte { return withOption(p, 2, 0) }, errBroken},
		{"option longer than the packet", func(p *neighbourPacket, _ []byte) []byte { return withOption(p, 2, 2) }, errBroken},
		{"unknown option", func(p *neighbourPacket, _ []byte) []byte { return withOption(p, 77, 1) }, nil},
	} {
		p := na.packet
		b := c.change(&p, na.packet.appendTo(nil))
		if _, err := parseNeighbour(b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// withOption rewrites the option and the checksum.
func withOption(p *neighbourPacket, kind, length byte) []byte {
	b := p.appendTo(nil)
	icmp := b[etherHeader+ipv6Header:]
	icmp[24], icmp[25], icmp[2], icmp[3] = kind, length, 0, 0
	sum := icmpChecksum(p.Source, p.Destination, icmp)
	icmp[2], icmp[3] = byte(sum>>8), byte(sum)
	return b
}

// TestFilters runs the packet filters in a virtual machine.
func TestFilters(t *testing.T) {
	probe := neighbourGolden[2].packet
	resolution := probe
	resolution.Source, resolution.MAC = netip.MustParseAddr("fe80::1"), macA
	late := probe
	late.Source = netip.MustParseAddr("::1")
	router := probe
	router.Type = 134
	for _, c := range []struct {
		name   string
		filter []bpf.Instruction
		frame  []byte
		passes bool
	}{
		{"ARP request", arpFilter(), gratuitousRequest(macA, ip4).appendTo(nil), true},
		{"ARP reply", arpFilter(), gratuitousReply(macA, ip4).appendTo(nil), true},
		{"reverse ARP", arpFilter(), arpPacket{broadcastMAC, macA, 3, macA, ip4, macA, ip4}.appendTo(nil), false},
		{"ARP of no operation", arpFilter(), arpPacket{broadcastMAC, macA, 0, macA, ip4, macA, ip4}.appendTo(nil), false},
		{"ARP cut short", arpFilter(), make([]byte, 18), false},
		{"advertisement", neighbourFilter(), unsolicited(macA, ip6, false).appendTo(nil), true},
		{"duplicate address detection", neighbourFilter(), probe.appendTo(nil), true},
		{"address resolution", neighbourFilter(), resolution.appendTo(nil), false},
		{"address resolution from ::1", neighbourFilter(), late.appendTo(nil), false},
		{"router advertisement", neighbourFilter(), router.appendTo(nil), false},
		{"UDP", neighbourFilter(), append(bin(t, ether6+"60000000 0020 11 ff"), make([]byte, 72)...), false},
		{"IPv6 cut short", neighbourFilter(), make([]byte, 30), false},
	} {
		vm, err := bpf.NewVM(c.filter)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := vm.Run(c.frame); err != nil || (n > 0) != c.passes {
			t.Errorf("%s: passes %d bytes, %v", c.name, n, err)
		}
	}
}

// TestAddressGolden: the bytes that the kernel gets and tells.
func TestAddressGolden(t *testing.T) {
	if bytes.Equal(bin(t, "0100"), []byte{0, 1}) || nativeUint16([2]byte{1, 0}) != 1 {
		t.Log("big-endian machine: the golden bytes are little-endian")
		return
	}
	for _, c := range []struct {
		name string
		got  message
		body string
	}{
		{
			"add IPv4", encodeAdd(place{ip4, 7}, Protocol, 4, unix.NLM_F_CREATE),
			"02 20 00 00 07000000  0800 0200 c0000205  0800 0100 c0000205  1400 0600 04000000 04000000 00000000 00000000  0500 0b00 48 000000",
		},
		{
			"add IPv6", encodeAdd(place{ip6, 7}, Protocol, 4, unix.NLM_F_CREATE),
			"0a 80 00 00 07000000  1400 0200 20010db8000000000000000000000005  1400 0100 20010db8000000000000000000000005" +
				"0800 0800 02020000  1400 0600 00000000 04000000 00000000 00000000  0500 0b00 48 000000",
		},
		{
			"remove IPv4", encodeRemove(record{ip: ip4, index: 7, bits: 24}),
			"02 18 00 00 07000000  0800 0200 c0000205  0800 0100 c0000205",
		},
	} {
		if diff := cmp.Diff(bin(t, c.body), c.got.body); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		r, err := decodeAddress(c.got.body)
		if err != nil || r.index != 7 || r.ip != ip4 && r.ip != ip6 {
			t.Errorf("%s: read back as %+v, %v", c.name, r, err)
		}
	}
	peer := "02 18 80 00 03000000  0800 0100 c6336401  0800 0200 c0000205"
	r, err := decodeAddress(bin(t, peer))
	if err != nil || r.prefix().String() != "192.0.2.5/24" || r.subnet.String() != "198.51.100.0/24" || r.validFor != foreverSeconds {
		t.Errorf("point to point: %+v, %v", r, err)
	}
}

func TestAddressMalformed(t *testing.T) {
	for name, body := range map[string]string{
		"empty":                       "",
		"header cut short":            "02 20 00 00 0700",
		"no address":                  "02 20 00 00 07000000",
		"prefix too long":             "02 21 00 00 07000000 0800 0200 c0000205",
		"IPv6 address in IPv4":        "02 20 00 00 07000000 1400 0200 20010db8000000000000000000000005",
		"attribute longer than all":   "02 20 00 00 07000000 0900 0200 c0000205",
		"attribute shorter than head": "02 20 00 00 07000000 0300 0200 c0000205",
		"flags of two bytes":          "02 20 00 00 07000000 0800 0200 c0000205 0600 0800 0200",
		"lifetime cut short":          "02 20 00 00 07000000 0800 0200 c0000205 0800 0600 04000000",
		"mark of two bytes":           "02 20 00 00 07000000 0800 0200 c0000205 0600 0b00 4848",
	} {
		if r, err := decodeAddress(bin(t, body)); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if _, err := decodeAddress(bin(t, "07 20 00 00 07000000")); !errors.Is(err, errOtherFamily) {
		t.Errorf("bridge message: %v", err)
	}
}

func FuzzARP(f *testing.F) {
	for _, g := range arpGolden {
		f.Add(g.packet.appendTo(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseARP(b)
		if err != nil {
			return
		}
		if got := p.appendTo(nil); !bytes.Equal(got, b[:len(got)]) {
			t.Errorf("%x reads as %+v, which is %x", b, p, got)
		}
		arpClaim(b)
	})
}

func FuzzNeighbour(f *testing.F) {
	for _, g := range neighbourGolden {
		f.Add(g.packet.appendTo(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseNeighbour(b)
		if err != nil {
			return
		}
		again, err := parseNeighbour(p.appendTo(nil))
		if diff := cmp.Diff(p, again, addrs); err != nil || diff != "" {
			t.Errorf("round trip: %v\n%s", err, diff)
		}
		neighbourClaim(b)
	})
}

// FuzzNeighbourMessage changes messages with a right checksum.
func FuzzNeighbourMessage(f *testing.F) {
	f.Add(byte(136), []byte{2, 1, 2, 0, 0, 0, 0, 1})
	f.Add(byte(135), []byte{1, 1, 2, 0, 0, 0, 0, 1, 14, 1, 1, 1, 1, 1, 1, 1})
	f.Fuzz(func(t *testing.T, kind byte, options []byte) {
		if len(options) > 1400 {
			return
		}
		p := neighbourPacket{DestinationMAC: macB, SourceMAC: macA, Source: ip6, Destination: allNodes, Type: neighbourType(kind), Target: ip6}
		b := append(p.appendTo(nil), options...)
		icmp := b[etherHeader+ipv6Header:]
		b[18], b[19] = byte(len(icmp)>>8), byte(len(icmp))
		icmp[2], icmp[3] = 0, 0
		sum := icmpChecksum(p.Source, p.Destination, icmp)
		icmp[2], icmp[3] = byte(sum>>8), byte(sum)
		got, err := parseNeighbour(b)
		_, oracle := ndp.ParseMessage(icmp)
		if err == nil && oracle == nil && got.Target != ip6 {
			t.Errorf("%+v", got)
		}
		if len(options) > 0 && oracle == nil && (kind == 135 || kind == 136) && err != nil {
			t.Errorf("%x is refused (%v), but another implementation reads it", icmp, err)
		}
	})
}

func FuzzAddress(f *testing.F) {
	f.Add(encodeAdd(place{ip4, 7}, Protocol, 4, 0).body)
	f.Add(encodeAdd(place{ip6, 7}, Protocol, 4, 0).body)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeAddress(b)
		if err == nil && (!r.prefix().IsValid() || !r.subnet.IsValid()) {
			t.Errorf("%x reads as %+v", b, r)
		}
		if err == nil {
			r.actual("eth0")
		}
		_, _ = decodeLink(b)
	})
}
