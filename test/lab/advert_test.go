package lab

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Frames as Keepalived 2.2.7 and FRR 8.4.4 sent them.
const (
	keepalived2         = "01005e00001202770000000b080045c0002c00010000ff70d0360a4d000be0000012213396020001322c0a4d01010a4d01020000000000000000"
	keepalived2Password = "01005e00001202770000000b080045c0002c00010000ff70d0360a4d000be000001221339602010181b90a4d01010a4d0102636f72726563742d"
	keepalived3         = "01005e00001202770000000b080045c0002400010000ff70d03e0a4d000be000001231339602000a37380a4d01010a4d0102"
	keepalived3IPv6     = "33330000001202770000000b86dd6c00bcb5002870fffe80000000000000007700fffe00000bff02000000000000000000000000001231349602000a3efcfe8000000000000000000000000c0001fd7700000000000000000000000c0001"
	frr3                = "01005e00001200005e000133080045c00024ca264000ff70c6180a4d000be000001231339602000a37380a4d01010a4d0102"
)

func TestParseAdvert(t *testing.T) {
	vips := []netip.Addr{netip.MustParseAddr("10.77.1.1"), netip.MustParseAddr("10.77.1.2")}
	base := Advert{
		MAC: "02:77:00:00:00:0b", Source: netip.MustParseAddr("10.77.0.11"), Destination: vrrpGroup4, TTL: 255,
		Version: 2, VRID: 51, Priority: 150, Interval: time.Second, Addresses: vips,
	}
	withPassword, version3, frr, ipv6 := base, base, base, base
	withPassword.AuthType, withPassword.Password = 1, "correct-"
	version3.Version, version3.Interval = 3, 100*time.Millisecond
	frr, ipv6 = version3, version3
	frr.MAC = "00:00:5e:00:01:33"
	ipv6.Source, ipv6.Destination, ipv6.VRID = netip.MustParseAddr("fe80::77:ff:fe00:b"), vrrpGroup6, 52
	ipv6.Addresses = []netip.Addr{netip.MustParseAddr("fe80::c:1"), netip.MustParseAddr("fd77::c:1")}
	for _, tt := range []struct {
		name, frame string
		want        Advert
	}{
		{"Keepalived, version 2", keepalived2, base},
		{"Keepalived, version 2 with a password", keepalived2Password, withPassword},
		{"Keepalived, version 3", keepalived3, version3},
		{"Keepalived, version 3 for IPv6", keepalived3IPv6, ipv6},
		{"FRR", frr3, frr},
		{"padding to the least frame", keepalived3 + strings.Repeat("00", 10), version3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := ParseAdvert(Frame{Data: fromHex(t, tt.frame)})
			if !ok {
				t.Fatal("no advertisement")
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestAdvertFaults: each byte that is changed is found, but for those that say
// something else just as well.
func TestAdvertFaults(t *testing.T) {
	for _, tt := range []struct {
		name, frame, want string
		change            func([]byte) []byte
	}{
		{"checksum", keepalived3, "VRRP checksum", func(b []byte) []byte { b[41] ^= 1; return b }},
		{"checksum, version 2", keepalived2, "VRRP checksum", func(b []byte) []byte { b[41] ^= 1; return b }},
		{"checksum, IPv6", keepalived3IPv6, "VRRP checksum", func(b []byte) []byte { b[61] ^= 1; return b }},
		{"another source", keepalived3, "VRRP checksum", func(b []byte) []byte { b[29]++; b[25]--; return b }},
		{"checksum of IPv4", keepalived3, "IPv4 header checksum", func(b []byte) []byte { b[25] ^= 1; return b }},
		{"TTL", keepalived3, "TTL is 254", func(b []byte) []byte { b[22]--; b[24]++; return b }},
		{"hop limit", keepalived3IPv6, "TTL is 64", func(b []byte) []byte { b[21] = 64; return b }},
		{"Ethernet destination", keepalived3, "Ethernet destination", func(b []byte) []byte { b[5]++; return b }},
		{"type", keepalived3, "type is 2", func(b []byte) []byte { b[34]++; return b }},
		{"version", keepalived3, "version is 4", func(b []byte) []byte { b[34] = 0x41; return b }},
		{"reserved bits", keepalived3, "reserved bits", func(b []byte) []byte { b[38] |= 0x10; return b }},
		{"count", keepalived3, "message of 16 bytes with 3 addresses", func(b []byte) []byte { b[37]++; return b }},
		{"more than is counted", keepalived3, "message of 16 bytes with 1 addresses", func(b []byte) []byte { b[37]--; return b }},
		{"authentication type", keepalived2, "authentication type", func(b []byte) []byte { b[38] = 2; return b }},
		{"password without type", keepalived2Password, "without authentication", func(b []byte) []byte { b[38] = 0; return b }},
		{"link-local source", keepalived3IPv6, "not link-local", func(b []byte) []byte { b[22], b[23] = 0xfd, 0x77; return b }},
		{"total length", keepalived3, "bytes in a frame", func(b []byte) []byte { return b[:len(b)-1] }},
		{"payload length", keepalived3IPv6, "bytes in a frame", func(b []byte) []byte { return b[:len(b)-1] }},
		{"short message", keepalived3IPv6, "message of 7 bytes", func(b []byte) []byte { b[19] = 7; return b[:54+7] }},
		{"padding", keepalived3, "padding", func(b []byte) []byte { return append(b, 1) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, ok := ParseAdvert(Frame{Data: tt.change(fromHex(t, tt.frame))})
			if !ok || !slices.ContainsFunc(a.Faults, func(f string) bool { return strings.Contains(f, tt.want) }) {
				t.Errorf("faults %q, want %q", a.Faults, tt.want)
			}
		})
	}
	for _, other := range []string{"", keepalived3[:40], strings.Replace(keepalived3, "ff70", "ff11", 1), strings.Replace(keepalived3, "0800", "0806", 1)} {
		if a, ok := ParseAdvert(Frame{Data: fromHex(t, other)}); ok {
			t.Errorf("%s is taken for %+v", other, a)
		}
	}
}

func FuzzParseAdvert(f *testing.F) {
	for _, frame := range []string{keepalived2, keepalived2Password, keepalived3, keepalived3IPv6, frr3} {
		b, err := hex.DecodeString(frame)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(_ *testing.T, b []byte) { ParseAdvert(Frame{Data: b}) })
}

func fromHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	check(t, err)
	return b
}
