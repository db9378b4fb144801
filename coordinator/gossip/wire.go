package gossip

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// MaxDatagram is how many bytes one Send may carry: with the header below,
// memberlist's and the encryption's it stays within an Ethernet frame.
const MaxDatagram = 1200

// Every datagram that this package sends inside memberlist's encryption:
//
//	+---------+-------------+--------+-------------+---------+--------+---------+
//	| version | name length |  name  | addr length | address |  port  | payload |
//	| 1 = 0x1 |      1      | 1..75  |  1: 4 or 16 | 4 or 16 | 2 (BE) | 0..1200 |
//	+---------+-------------+--------+-------------+---------+--------+---------+
//
// The name says to whom an answer goes. The address lets a coordinator answer
// an agent that it has not heard of yet, or has forgotten by a restart:
// gossip would take a while to tell, and a lease cannot wait for that.
const (
	headerVersion = 1
	maxNameLen    = len(RoleCoordinator) + 1 + maxHostLen
	maxHostLen    = 63
)

var errTruncated = errors.New("datagram is cut short")

func appendHeader(b []byte, name string, from netip.AddrPort) []byte {
	addr := from.Addr().AsSlice()
	b = append(b, headerVersion, byte(len(name)))
	b = append(b, name...)
	b = append(b, byte(len(addr)))
	b = append(b, addr...)
	return append(b, byte(from.Port()>>8), byte(from.Port()))
}

// parseHeader splits a datagram. The payload is a part of b.
func parseHeader(b []byte) (name string, from netip.AddrPort, payload []byte, err error) {
	fail := func(err error) (string, netip.AddrPort, []byte, error) {
		return "", netip.AddrPort{}, nil, err
	}
	if len(b) < 2 {
		return fail(errTruncated)
	}
	if b[0] != headerVersion {
		return fail(fmt.Errorf("datagram version %d is not %d", b[0], headerVersion))
	}
	n := int(b[1])
	if n > maxNameLen {
		return fail(fmt.Errorf("sender name of %d bytes", n))
	}
	b = b[2:]
	if len(b) < n+1 {
		return fail(errTruncated)
	}
	name, b = string(b[:n]), b[n:]
	if _, _, err := parseName(name); err != nil {
		return fail(err)
	}
	a := int(b[0])
	b = b[1:]
	if a != 4 && a != 16 {
		return fail(fmt.Errorf("sender address of %d bytes", a))
	}
	if len(b) < a+2 {
		return fail(errTruncated)
	}
	if len(b) > a+2+MaxDatagram {
		return fail(ErrTooLarge)
	}
	addr, _ := netip.AddrFromSlice(b[:a])
	from = netip.AddrPortFrom(addr, uint16(b[a])<<8|uint16(b[a+1]))
	if err := checkAddress(from); err != nil {
		return fail(err)
	}
	return name, from, b[a+2:], nil
}

// checkAddress refuses what nothing should be sent to, and the second
// spelling of an IPv4 address.
func checkAddress(a netip.AddrPort) error {
	switch ip := a.Addr(); {
	case !ip.IsValid(), ip.IsUnspecified(), ip.IsMulticast(), ip.Is4In6(), a.Port() == 0:
		return fmt.Errorf("address %s cannot be sent to", a)
	}
	return nil
}

// parseName splits and checks a node's name.
func parseName(name string) (role, host string, err error) {
	role, host, ok := strings.Cut(name, "/")
	if !ok || role != RoleCoordinator && role != RoleAgent && role != RoleBroker {
		return "", "", fmt.Errorf("node name %q does not start with %s/, %s/ or %s/", name, RoleCoordinator, RoleAgent, RoleBroker)
	}
	if host == "" || len(host) > maxHostLen {
		return "", "", fmt.Errorf("host name %q has %d characters: must be 1 to %d", host, len(host), maxHostLen)
	}
	for i := range len(host) {
		c := host[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '.' && c != '_' && c != '-') {
			return "", "", fmt.Errorf("host name %q: character %d is not allowed", host, i+1)
		}
	}
	return role, host, nil
}

// Meta is what a node tells of itself beside its name and gossip address.
// Each part is at most 120 characters of printable ASCII; empty means none.
type Meta struct {
	API     string // host:port
	Raft    string // host:port
	Store   string // id of the data directory
	Version string // of the program
}

// On the wire: one version byte, then four strings in the order of the
// fields, each after one byte of length. 485 bytes at most; memberlist takes
// 512.
const (
	metaVersion = 1
	maxMetaPart = 120
)

func (m Meta) encode() ([]byte, error) {
	b := []byte{metaVersion}
	for _, s := range []string{m.API, m.Raft, m.Store, m.Version} {
		if err := checkMetaPart(s); err != nil {
			return nil, err
		}
		b = append(append(b, byte(len(s))), s...)
	}
	return b, nil
}

func decodeMeta(b []byte) (Meta, error) {
	var m Meta
	if len(b) == 0 {
		return Meta{}, errors.New("no metadata")
	}
	if b[0] != metaVersion {
		return Meta{}, fmt.Errorf("metadata version %d is not %d", b[0], metaVersion)
	}
	b = b[1:]
	for _, part := range []*string{&m.API, &m.Raft, &m.Store, &m.Version} {
		if len(b) < 1 || len(b) < 1+int(b[0]) {
			return Meta{}, errors.New("metadata is cut short")
		}
		*part, b = string(b[1:1+int(b[0])]), b[1+int(b[0]):]
		if err := checkMetaPart(*part); err != nil {
			return Meta{}, err
		}
	}
	if len(b) != 0 {
		return Meta{}, fmt.Errorf("metadata has %d bytes too many", len(b))
	}
	return m, nil
}

func checkMetaPart(s string) error {
	if len(s) > maxMetaPart {
		return fmt.Errorf("metadata part of %d bytes: at most %d", len(s), maxMetaPart)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return fmt.Errorf("metadata has the byte %#02x", s[i])
		}
	}
	return nil
}
