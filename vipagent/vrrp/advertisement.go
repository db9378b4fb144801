package vrrp

import (
	"encoding/binary"
	"fmt"
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
	// (10 ms to 40.95 s).
	Interval time.Duration
	// Addresses are all of one family and without zones, at most 255. There may be
	// none: Keepalived has instances without addresses.
	Addresses []netip.Addr
	// Password is version 2's simple authentication, at most eight bytes; nil =
	// none, empty = a password of zeros. It is compared with its padding of zeros.
	Password []byte
}

// A message of version 2 (RFC 3768, section 5.1) goes over IPv4 only:
//
//	 0             1        2          3       4           5          6          8
//	+---------+------+------+----------+-------+-----------+----------+----------+-----------+----------------+
//	| version | type | VRID | priority | count | auth type | interval | checksum | addresses | authentication |
//	+---------+------+------+----------+-------+-----------+----------+----------+-----------+----------------+
//	   4 bits  4 bits                                       in seconds             4 × count    8, always
//
// one of version 3 (RFC 9568, section 5.1) over either:
//
//	+---------+------+------+----------+-------+----------+----------+----------+-----------------+
//	| version | type | VRID | priority | count | reserved | interval | checksum | addresses       |
//	+---------+------+------+----------+-------+----------+----------+----------+-----------------+
//	   4 bits  4 bits                            4 bits     12 bits,             4 or 16 × count
//	                                                        centiseconds
const (
	typeAdvertisement = 1
	headerSize        = 8
	checksumAt        = 6
	authSize          = 8 // of the authentication data
	maxCount          = 255

	authNone     = 0
	authPassword = 1
	authAH       = 2

	second      = time.Second
	centisecond = 10 * time.Millisecond
	// MaxInterval2 and MaxInterval3 are the longest intervals that the versions can
	// say; the shortest are one second and 10 ms.
	MaxInterval2 = 255 * second
	MaxInterval3 = 4095 * centisecond
)

// MaxPassword is the longest password in bytes.
const MaxPassword = authSize

// MaxSize is the size of the largest message in bytes.
const MaxSize = headerSize + maxCount*16

// Append appends the message, without IP header, to b. source and destination are
// of the IP header, for the family and the pseudo-header; their zones do not matter.
// The error is a [*Error] that says which field does not fit.
func (a Advertisement) Append(b []byte, form Checksum, source, destination netip.Addr) ([]byte, error) {
	if err := a.check(form, source, destination); err != nil {
		return b, fmt.Errorf("encode advertisement: %w", err)
	}
	start := len(b)
	b = append(b, a.Version<<4|typeAdvertisement, a.VRID, a.Priority, byte(len(a.Addresses)))
	if a.Version == 2 {
		auth := byte(authNone)
		if a.Password != nil {
			auth = authPassword
		}
		b = append(b, auth, byte(a.Interval/second))
	} else {
		b = binary.BigEndian.AppendUint16(b, uint16(a.Interval/centisecond))
	}
	b = append(b, 0, 0) // the checksum
	for _, address := range a.Addresses {
		b = append(b, address.AsSlice()...)
	}
	if a.Version == 2 {
		var data [authSize]byte
		copy(data[:], a.Password)
		b = append(b, data[:]...)
	}
	sum := ^fold(sumOf(form.pseudo(len(b)-start, source, destination), b[start:]))
	binary.BigEndian.PutUint16(b[start+checksumAt:], sum)
	return b, nil
}

// check returns which field cannot be encoded, nil if all can.
func (a Advertisement) check(form Checksum, source, destination netip.Addr) error {
	if !source.IsValid() || !destination.IsValid() || source.Is4() != destination.Is4() {
		return unfit(BadFamily, "source %v and destination %v are not two addresses of one family", source, destination)
	}
	unit, longest := second, MaxInterval2
	if a.Version == 3 {
		unit, longest = centisecond, MaxInterval3
	}
	switch {
	case a.Version != 2 && a.Version != 3:
		return unfit(BadVersion, "version %d is neither 2 nor 3", a.Version)
	case a.Version == 2 && !source.Is4():
		return unfit(BadFamily, "version 2 is for IPv4 alone")
	case a.VRID == 0:
		return unfit(BadVRID, "the VRID is 0, outside 1 to 255")
	case a.Interval < unit || a.Interval > longest || a.Interval%unit != 0:
		return unfit(BadInterval, "the interval %v is not a multiple of %v from %v to %v", a.Interval, unit, unit, longest)
	case len(a.Addresses) > maxCount:
		return unfit(BadAddresses, "%d addresses, at most %d fit", len(a.Addresses), maxCount)
	case a.Version == 3 && a.Password != nil:
		return unfit(BadAuthType, "version 3 has no password")
	case len(a.Password) > MaxPassword:
		return unfit(BadPassword, "the password has %d bytes, at most %d fit", len(a.Password), MaxPassword)
	}
	for _, address := range a.Addresses {
		if !address.IsValid() || address.Is4() != source.Is4() || address.Zone() != "" {
			return unfit(BadAddresses, "address %v does not go with source %v", address, source)
		}
	}
	if !form.fits(a.Version, source.Is4()) {
		return unfit(BadChecksum, "checksum form %v does not exist in version %d with source %v", form, a.Version, source)
	}
	return nil
}

// Parse reads a message without its IP header, and finds out the form of its
// checksum. source and destination are of the IP header. b may be longer than the
// message only by what pads a short Ethernet frame. Ignored, as the RFCs ask for,
// are version 3's reserved bits and version 2's authentication data without a
// type. The error is a [*Error] that says which field is wrong, with [ErrMalformed]
// in its chain.
func Parse(b []byte, source, destination netip.Addr) (Advertisement, Checksum, error) {
	p, err := dissect(b, source, destination)
	if err == nil {
		err = p.validate()
	}
	if err == nil && p.checksum == 0 {
		err = malformed(BadChecksum, "the checksum fits in no form")
	}
	if err != nil {
		return Advertisement{}, 0, fmt.Errorf("parse advertisement: %w", err)
	}
	return p.advertisement, p.checksum, nil
}

// dissected is a message of which only the lengths have been checked.
type dissected struct {
	advertisement Advertisement
	kind          byte     // its type
	auth          byte     // version 2's type of authentication
	checksum      Checksum // 0: it fits in no form
}

// dissect takes the bytes apart. It refuses what cannot be taken apart: the rest
// is left to those who have an order of their own for it (see [Config.Accept]).
func dissect(b []byte, source, destination netip.Addr) (dissected, error) {
	var p dissected
	if !source.IsValid() || !destination.IsValid() || source.Is4() != destination.Is4() {
		return p, malformed(BadFamily, "source %v and destination %v are not two addresses of one family", source, destination)
	}
	if len(b) < headerSize {
		return p, malformed(BadLength, "%d bytes are too short for a header of %d", len(b), headerSize)
	}
	a := &p.advertisement
	a.Version, p.kind, a.VRID, a.Priority = b[0]>>4, b[0]&0xf, b[1], b[2]
	if a.Version != 2 && a.Version != 3 {
		// How long another version would be is not known.
		return p, malformed(BadVersion, "version %d is neither 2 nor 3", a.Version)
	}
	if a.Version == 2 && !source.Is4() {
		return p, malformed(BadFamily, "version 2 is for IPv4 alone")
	}
	size := 16
	if source.Is4() {
		size = 4
	}
	count, length := int(b[3]), headerSize+int(b[3])*size
	if a.Version == 2 {
		length += authSize
	}
	if extra := len(b) - length; extra < 0 || extra > 0 && !isPadding(len(b), extra, source.Is4()) {
		return p, malformed(BadLength, "%d bytes, %d addresses take %d", len(b), count, length)
	}
	b = b[:length]
	for rest := b[headerSize:]; len(a.Addresses) < count; rest = rest[size:] {
		address, _ := netip.AddrFromSlice(rest[:size])
		a.Addresses = append(a.Addresses, address)
	}
	if a.Version == 2 {
		p.auth, a.Interval = b[4], time.Duration(b[5])*second
		if p.auth == authPassword {
			a.Password = trimZeros(b[length-authSize:])
		}
	} else {
		a.Interval = time.Duration(binary.BigEndian.Uint16(b[4:])&0xfff) * centisecond
	}
	p.checksum = formOf(b, a.Version, source, destination)
	return p, nil
}

// validate returns what is wrong with the message whoever reads it.
func (p dissected) validate() error {
	a := p.advertisement
	switch {
	case p.kind != typeAdvertisement:
		return malformed(BadType, "type %d is not 1, advertisement", p.kind)
	case a.VRID == 0:
		return malformed(BadVRID, "the VRID is 0, outside 1 to 255")
	case a.Interval == 0:
		// Keepalived would learn it in version 3, and take over at once.
		return malformed(BadInterval, "the interval is 0")
	}
	return p.validateAuth()
}

// validateAuth returns what is wrong with version 2's type of authentication.
func (p dissected) validateAuth() error {
	switch {
	case p.auth > authAH:
		return malformed(BadAuthType, "authentication type %d does not exist", p.auth)
	case p.auth == authAH:
		return malformed(OtherAuth, "authentication by IPsec AH is not supported")
	}
	return nil
}

// trimZeros returns a copy of b without the zeros at its end, never nil.
func trimZeros(b []byte) []byte {
	n := len(b)
	for n > 0 && b[n-1] == 0 {
		n--
	}
	return append([]byte{}, b[:n]...)
}

// The shortest Ethernet frame carries 46 bytes, and four less per VLAN tag that has
// been taken off it.
const (
	shortestPayload = 46
	tagSize         = 4
	ip4HeaderSize   = 20
)

// isPadding tells whether length bytes of message, extra of them too many, may be
// those of a padded frame. Keepalived compares modulo 4 too, as it does not know of
// tags; it has no upper limit, which would let any even trailer pass. An IPv6 header
// and the shortest message fill a frame, so there is none to pad.
func isPadding(length, extra int, ip4 bool) bool {
	room := shortestPayload - ip4HeaderSize
	return ip4 && length <= room && extra%tagSize == room%tagSize
}
