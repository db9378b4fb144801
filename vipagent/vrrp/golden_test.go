package vrrp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

// golden is a message as it was on the wire, without IP header.
type golden struct {
	name                string
	source, destination string
	hex                 string
	want                Advertisement
	form                Checksum
}

func addresses(list ...string) []netip.Addr {
	var a []netip.Addr
	for _, s := range list {
		a = append(a, netip.MustParseAddr(s))
	}
	return a
}

// captured are messages that Keepalived 2.2.7 and vrrpd of FRR 8.4.4 sent, captured by
// tshark on the other end of a veth pair.
func captured() []golden {
	vip := addresses("10.9.0.100")
	return []golden{
		{"v2", "10.9.0.1", "224.0.0.18", "21339602000133ee0a0900640a0900650000000000000000",
			Advertisement{2, 51, 150, time.Second, addresses("10.9.0.100", "10.9.0.101"), nil}, Plain},
		{"v2 stop", "10.9.0.1", "224.0.0.18", "213300020001c9ee0a0900640a0900650000000000000000",
			Advertisement{2, 51, 0, time.Second, addresses("10.9.0.100", "10.9.0.101"), nil}, Plain},
		{"v2 password", "10.9.0.1", "224.0.0.18", "213464010102330f0a0900647365637265740000",
			Advertisement{2, 52, 100, 2 * time.Second, vip, []byte("secret")}, Plain},
		{"v2 password stop", "10.9.0.1", "224.0.0.18", "213400010102970f0a0900647365637265740000",
			Advertisement{2, 52, 0, 2 * time.Second, vip, []byte("secret")}, Plain},
		{"v2 owner", "10.9.0.1", "224.0.0.18", "213aff010001d5550a0900640000000000000000",
			Advertisement{2, 58, 255, time.Second, vip, nil}, Plain},
		{"v3 IPv4", "10.9.0.1", "224.0.0.18", "31359601003243910a090064",
			Advertisement{3, 53, 150, 500 * time.Millisecond, vip, nil}, Pseudo},
		{"v3 IPv4 stop", "10.9.0.1", "224.0.0.18", "313500010032d9910a090064",
			Advertisement{3, 53, 0, 500 * time.Millisecond, vip, nil}, Pseudo},
		{"v3 IPv6", "fe80::1", "ff02::12", "3136ff020064a2f9fe80000000000000000000000000010020010db8000000000000000000000100",
			Advertisement{3, 54, 255, time.Second, addresses("fe80::100", "2001:db8::100"), nil}, Pseudo},
		{"v3 IPv6 stop", "fe80::1", "ff02::12", "313600020064a1fafe80000000000000000000000000010020010db8000000000000000000000100",
			Advertisement{3, 54, 0, time.Second, addresses("fe80::100", "2001:db8::100"), nil}, Pseudo},
		{"v3 unicast", "10.9.0.1", "10.9.0.2", "3137c8010064e7640a090064",
			Advertisement{3, 55, 200, time.Second, vip, nil}, Pseudo},
		{"v3 unicast stop", "10.9.0.1", "10.9.0.2", "313700010064af650a090064",
			Advertisement{3, 55, 0, time.Second, vip, nil}, Pseudo},
		{"v3 old_unicast_checksum", "10.9.0.1", "10.9.0.2", "3138c8010064115c0a090064",
			Advertisement{3, 56, 200, time.Second, vip, nil}, OldUnicast},
		{"v3 IPv6 unicast", "fe80::1", "fe80::2", "3139c8010064da1a20010db8000000000000000000000100",
			Advertisement{3, 57, 200, time.Second, addresses("2001:db8::100"), nil}, Pseudo},
		{"FRR IPv4", "10.9.0.1", "224.0.0.18", "31057801003261c10a090064",
			Advertisement{3, 5, 120, 500 * time.Millisecond, vip, nil}, Pseudo},
		{"FRR IPv4 stop", "10.9.0.1", "224.0.0.18", "310500010032d9c10a090064",
			Advertisement{3, 5, 0, 500 * time.Millisecond, vip, nil}, Pseudo},
		{"FRR IPv6", "fe80::200:5eff:fe00:205", "ff02::12", "310578010032c8ea20010db8000000000000000000000100",
			Advertisement{3, 5, 120, 500 * time.Millisecond, addresses("2001:db8::100"), nil}, Pseudo},
		{"FRR IPv6 stop", "fe80::200:5eff:fe00:205", "ff02::12", "31050001003240eb20010db8000000000000000000000100",
			Advertisement{3, 5, 0, 500 * time.Millisecond, addresses("2001:db8::100"), nil}, Pseudo},
	}
}

func TestGolden(t *testing.T) {
	for _, tt := range captured() {
		t.Run(tt.name, func(t *testing.T) {
			message, err := hex.DecodeString(tt.hex)
			if err != nil {
				t.Fatal(err)
			}
			source, destination := netip.MustParseAddr(tt.source), netip.MustParseAddr(tt.destination)
			got, form, err := Parse(message, source, destination)
			if err != nil || form != tt.form || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("parsed: %+v, %v, %v; want %+v, %v", got, form, err, tt.want, tt.form)
			}
			encoded, err := tt.want.Append([]byte("before"), tt.form, source, destination)
			if err != nil || !bytes.Equal(encoded, append([]byte("before"), message...)) {
				t.Errorf("encoded: %x, %v; want %s after what was there", encoded, err, tt.hex)
			}
		})
	}
}

// TestParseDamaged: each way in which a message may be wrong, with the reason that
// is counted.
func TestParseDamaged(t *testing.T) {
	tests := []struct {
		name, hex           string
		source, destination string
		want                Reason
	}{
		{"empty", "", "10.9.0.1", "224.0.0.18", BadLength},
		{"short header", "31359601003243", "10.9.0.1", "224.0.0.18", BadLength},
		{"cut address", "31359601003243910a0900", "10.9.0.1", "224.0.0.18", BadLength},
		{"count beyond the end", "313596ff003243910a090064", "10.9.0.1", "224.0.0.18", BadLength},
		{"v2 without authentication data", "213aff010001d5550a090064", "10.9.0.1", "224.0.0.18", BadLength},
		{"trailer of 4 is no padding", "31359601003243910a09006400000000", "10.9.0.1", "224.0.0.18", BadLength},
		{"padding beyond the shortest frame", "31359601003243910a090064" + "000000000000000000000000000000000000", "10.9.0.1", "224.0.0.18", BadLength},
		{"IPv6 is never padded", "3139c8010064da1a20010db80000000000000000000001000000", "fe80::1", "fe80::2", BadLength},
		{"version 1", "11359601003243910a090064", "10.9.0.1", "224.0.0.18", BadVersion},
		{"version 4", "41359601003243910a090064", "10.9.0.1", "224.0.0.18", BadVersion},
		{"v2 over IPv6", "213aff010001d5550a0900640000000000000000", "fe80::1", "ff02::12", BadFamily},
		{"no source", "31359601003243910a090064", "", "224.0.0.18", BadFamily},
		{"two families", "31359601003243910a090064", "10.9.0.1", "ff02::12", BadFamily},
		{"type 2", "32359601003243910a090064", "10.9.0.1", "224.0.0.18", BadType},
		{"VRID 0", "31009601003243910a090064", "10.9.0.1", "224.0.0.18", BadVRID},
		{"interval 0", "31359601000043910a090064", "10.9.0.1", "224.0.0.18", BadInterval},
		{"v2 interval 0", "213aff010000d5550a0900640000000000000000", "10.9.0.1", "224.0.0.18", BadInterval},
		{"authentication type 3", "213464010302330f0a0900647365637265740000", "10.9.0.1", "224.0.0.18", BadAuthType},
		{"authentication by AH", "213464010202330f0a0900647365637265740000", "10.9.0.1", "224.0.0.18", OtherAuth},
		{"checksum", "31359601003243900a090064", "10.9.0.1", "224.0.0.18", BadChecksum},
		{"checksum of another source", "31359601003243910a090064", "10.9.0.2", "224.0.0.18", BadChecksum},
		{"v2 checksum, a bit of the password", "213464010102330f0a0900647365637264740000", "10.9.0.1", "224.0.0.18", BadChecksum},
		{"v6 checksum", "3139c8010064da1b20010db8000000000000000000000100", "fe80::1", "fe80::2", BadChecksum},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			message, err := hex.DecodeString(tt.hex)
			if err != nil {
				t.Fatal(err)
			}
			source, _ := netip.ParseAddr(tt.source)
			destination, _ := netip.ParseAddr(tt.destination)
			got, _, err := Parse(message, source, destination)
			if !errors.Is(err, ErrMalformed) || ReasonOf(err) != tt.want {
				t.Errorf("%+v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

// TestParsePadded: a short frame's padding, without and with VLAN tags.
func TestParsePadded(t *testing.T) {
	for _, tt := range captured() {
		message, err := hex.DecodeString(tt.hex)
		if err != nil {
			t.Fatal(err)
		}
		source, destination := netip.MustParseAddr(tt.source), netip.MustParseAddr(tt.destination)
		for _, to := range []int{26, 22, 18, 14} {
			if !source.Is4() || to <= len(message) {
				continue
			}
			padded := append(bytes.Clone(message), make([]byte, to-len(message))...)
			padded[to-1] = 0xff // what it holds does not matter
			got, form, err := Parse(padded, source, destination)
			if err != nil || form != tt.form || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%s padded to %d: %+v, %v, %v", tt.name, to, got, form, err)
			}
		}
	}
}

// TestAppendUnfit: what does not fit is not sent in a shorter form.
func TestAppendUnfit(t *testing.T) {
	good2 := Advertisement{2, 1, 100, time.Second, addresses("10.0.0.9"), nil}
	good3 := Advertisement{3, 1, 100, time.Second, addresses("10.0.0.9"), nil}
	good6 := Advertisement{3, 1, 100, time.Second, addresses("fe80::9"), nil}
	tests := []struct {
		name   string
		a      Advertisement
		change func(a *Advertisement)
		form   Checksum
		want   Reason
	}{
		{"version 0", good3, func(a *Advertisement) { a.Version = 0 }, Pseudo, BadVersion},
		{"VRID 0", good3, func(a *Advertisement) { a.VRID = 0 }, Pseudo, BadVRID},
		{"v2 half a second", good2, func(a *Advertisement) { a.Interval = 1500 * time.Millisecond }, Plain, BadInterval},
		{"v2 256 s", good2, func(a *Advertisement) { a.Interval = 256 * time.Second }, Plain, BadInterval},
		{"v3 5 ms", good3, func(a *Advertisement) { a.Interval = 5 * time.Millisecond }, Pseudo, BadInterval},
		{"v3 40.96 s", good3, func(a *Advertisement) { a.Interval = 40960 * time.Millisecond }, Pseudo, BadInterval},
		{"no interval", good3, func(a *Advertisement) { a.Interval = 0 }, Pseudo, BadInterval},
		{"negative interval", good3, func(a *Advertisement) { a.Interval = -time.Second }, Pseudo, BadInterval},
		{"256 addresses", good3, func(a *Advertisement) { a.Addresses = make([]netip.Addr, 256) }, Pseudo, BadAddresses},
		{"no address", good3, func(a *Advertisement) { a.Addresses = make([]netip.Addr, 1) }, Pseudo, BadAddresses},
		{"other family", good3, func(a *Advertisement) { a.Addresses = addresses("10.0.0.9", "fe80::9") }, Pseudo, BadAddresses},
		{"zone", good6, func(a *Advertisement) { a.Addresses = addresses("fe80::9%eth0") }, Pseudo, BadAddresses},
		{"v3 password", good3, func(a *Advertisement) { a.Password = []byte("x") }, Pseudo, BadAuthType},
		{"long password", good2, func(a *Advertisement) { a.Password = []byte("123456789") }, Plain, BadPassword},
		{"v2 pseudo-header", good2, func(a *Advertisement) {}, Pseudo, BadChecksum},
		{"v6 plain", good6, func(a *Advertisement) {}, Plain, BadChecksum},
		{"v6 old unicast", good6, func(a *Advertisement) {}, OldUnicast, BadChecksum},
		{"no form", good3, func(a *Advertisement) {}, 0, BadChecksum},
		{"v2 over IPv6", good6, func(a *Advertisement) { a.Version = 2 }, Plain, BadFamily},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			source, destination := netip.MustParseAddr("10.0.0.1"), MulticastGroup(true)
			if tt.a.Addresses[0].Is6() {
				source, destination = netip.MustParseAddr("fe80::1%eth0"), MulticastGroup(false)
			}
			if _, err := tt.a.Append(nil, good(tt.a), source, destination); err != nil {
				t.Fatalf("before the change: %v", err)
			}
			tt.change(&tt.a)
			got, err := tt.a.Append([]byte{1}, tt.form, source, destination)
			if ReasonOf(err) != tt.want || !bytes.Equal(got, []byte{1}) {
				t.Errorf("%x, %v; want %v and nothing appended", got, err, tt.want)
			}
		})
	}
	if _, err := good3.Append(nil, Pseudo, netip.Addr{}, MulticastGroup(true)); ReasonOf(err) != BadFamily {
		t.Errorf("without a source: %v", err)
	}
}

// good is the form that each version and family has.
func good(a Advertisement) Checksum {
	if a.Version == 2 {
		return Plain
	}
	return Pseudo
}
