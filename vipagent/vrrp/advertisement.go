package vrrp

import (
	"errors"
	"net/netip"
	"time"
)

// Priorities with a meaning of their own.
const (
	PriorityStop  = 0   // the Active router gives up
	PriorityOwner = 255 // the router owns the addresses
)

// Advertisement is a VRRP advertisement.
type Advertisement struct {
	Version  uint8 // 2 or 3
	VRID     uint8 // 1..255
	Priority uint8
	// Interval is whole seconds in version 2 (1..255 s), centiseconds in version 3
	// (up to 40.95 s).
	Interval  time.Duration
	Addresses []netip.Addr // all of one family
	// Password is version 2's simple authentication, at most eight bytes; nil =
	// none. It is compared with its padding of zeros.
	Password []byte
}

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

// ErrMalformed is in the chain of every error about the bytes of an advertisement.
var ErrMalformed = errors.New("malformed advertisement")

// Append appends the message, without IP header, to b. source and destination are
// of the IP header, for the pseudo-header. The error says which field does not fit.
func (a Advertisement) Append(b []byte, form Checksum, source, destination netip.Addr) ([]byte, error) {
	return nil, errors.New("not written yet")
}

// Parse reads a message without its IP header, and finds out the form of its
// checksum. b may be longer than the message only by what pads a short Ethernet frame.
func Parse(b []byte, source, destination netip.Addr) (Advertisement, Checksum, error) {
	return Advertisement{}, 0, errors.New("not written yet")
}
