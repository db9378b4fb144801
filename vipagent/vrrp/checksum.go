package vrrp

import (
	"encoding/binary"
	"net/netip"
)

// Checksum is the form of an advertisement's checksum.
type Checksum uint8

// The forms of a checksum.
const (
	// Plain covers the message alone: version 2, and version 3 over IPv4 by RFC 9568
	// (Keepalived's v3_checksum_as_v2).
	Plain Checksum = iota + 1
	// Pseudo covers a pseudo-header too: version 3 over IPv6 always, over IPv4 as
	// Keepalived sends it unless told otherwise.
	Pseudo
	// OldUnicast is Pseudo with 224.0.0.18 as the destination of a unicast packet
	// (Keepalived up to 1.3.6).
	OldUnicast
)

// String is a lower-case word.
func (f Checksum) String() string {
	switch f {
	case Plain:
		return "plain"
	case Pseudo:
		return "pseudo-header"
	case OldUnicast:
		return "old unicast"
	}
	return "unknown"
}

// fits tells whether a version has the form over IPv4 or IPv6.
func (f Checksum) fits(version uint8, ip4 bool) bool {
	switch {
	case version == 2:
		return f == Plain
	case !ip4:
		return f == Pseudo
	}
	return f == Plain || f == Pseudo || f == OldUnicast
}

// formOf finds out the form of a message's checksum, 0 if it fits in none. Where two
// forms come to the same number it is the one that Keepalived means: a multicast
// packet is never OldUnicast.
func formOf(message []byte, version uint8, source, destination netip.Addr) Checksum {
	for _, f := range [...]Checksum{Pseudo, OldUnicast, Plain} {
		if f.fits(version, source.Is4()) && fold(sumOf(f.pseudo(len(message), source, destination), message)) == 0xffff {
			return f
		}
	}
	return 0
}

// pseudo returns the sum of the form's pseudo-header: addresses, length and protocol
// (RFC 8200, section 8.1; that of IPv4 has the same fields in fewer bytes).
func (f Checksum) pseudo(length int, source, destination netip.Addr) uint64 {
	switch f {
	case Plain:
		return 0
	case OldUnicast:
		destination = MulticastGroup(true)
	}
	sum := sumOf(uint64(length)+Protocol, source.AsSlice())
	return sumOf(sum, destination.AsSlice())
}

// sumOf adds the 16-bit words of b to sum, without the carries. All that it is
// given is of even length.
func sumOf(sum uint64, b []byte) uint64 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint64(binary.BigEndian.Uint16(b))
	}
	return sum
}

// fold adds the carries in: the ones' complement sum of RFC 1071.
func fold(sum uint64) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
