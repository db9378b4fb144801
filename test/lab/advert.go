package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Advert is a VRRP advertisement as it was heard on the wire. It is decoded by
// the lab's own means: a judge shares no code with what it judges.
type Advert struct {
	At                  Time
	Host                string // whose cable it came by
	MAC                 string // source of the Ethernet header
	Source, Destination netip.Addr
	TTL                 uint8 // or hop limit
	Version, VRID       uint8
	Priority            uint8
	Interval            time.Duration
	AuthType            uint8  // version 2; 1 = simple password
	Password            string // version 2, without the zeros at its end
	Addresses           []netip.Addr
	// Faults is what no receiver should have to put up with: a wrong checksum, a
	// multicast with a TTL that is not 255, bytes that do not belong there.
	Faults []string
}

// vrrpAuthSize is the length of the authentication data that end every
// advertisement of version 2.
const vrrpAuthSize = 8

// vrrpGroup4 and vrrpGroup6 are the multicast groups of VRRP.
var (
	vrrpGroup4 = netip.AddrFrom4([4]byte{224, 0, 0, 18})
	vrrpGroup6 = netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 15: 0x12})
)

// ParseAdvert decodes a frame; ok is false when it has no VRRP in it.
func ParseAdvert(f Frame) (a Advert, ok bool) {
	if len(f.Data) < etherSize {
		return Advert{}, false
	}
	a = Advert{At: f.At, Host: f.Host, MAC: net.HardwareAddr(f.Data[6:12]).String()}
	body := f.Data[etherSize:]
	var message []byte
	switch binary.BigEndian.Uint16(f.Data[etherType:]) {
	case unix.ETH_P_IP:
		message, ok = a.takeIPv4(body)
	case unix.ETH_P_IPV6:
		message, ok = a.takeIPv6(body)
	}
	if !ok {
		return Advert{}, false
	}
	a.checkDestination(net.HardwareAddr(f.Data[:6]))
	a.takeMessage(message)
	return a, true
}

func (a *Advert) fault(format string, args ...any) {
	a.Faults = append(a.Faults, fmt.Sprintf(format, args...))
}

func (a *Advert) takeIPv4(b []byte) (message []byte, ok bool) {
	if len(b) < ipv4Size || b[0]>>4 != 4 || b[9] != vrrpNext {
		return nil, false
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < ipv4Size || total < header || total > len(b) {
		a.fault("IPv4 header of %d and packet of %d bytes in a frame with %d", header, total, len(b))
		return nil, true
	}
	a.Source, a.Destination = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	if sum16(b[:header]) != 0 {
		a.fault("IPv4 header checksum is wrong")
	}
	a.takeTTL(b[8])
	if slices.ContainsFunc(b[total:], func(c byte) bool { return c != 0 }) {
		a.fault("padding of the frame is not zero")
	}
	return b[header:total], true
}

func (a *Advert) takeIPv6(b []byte) (message []byte, ok bool) {
	if len(b) < ipv6Size || b[0]>>4 != 6 || b[6] != vrrpNext {
		return nil, false
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if length > len(b)-ipv6Size {
		a.fault("IPv6 payload of %d bytes in a frame with %d", length, len(b))
		return nil, true
	}
	a.Source, a.Destination = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	a.takeTTL(b[7])
	if a.Destination == vrrpGroup6 && !a.Source.IsLinkLocalUnicast() {
		a.fault("source %s is not link-local", a.Source)
	}
	return b[ipv6Size : ipv6Size+length], true
}

// takeTTL: a receiver of multicast takes 255 alone, so that nothing from beyond a
// router is heard. Keepalived 2.2.7 sends unicast of IPv6 with 64.
func (a *Advert) takeTTL(ttl uint8) {
	if a.TTL = ttl; ttl != 255 && a.Destination.IsMulticast() {
		a.fault("TTL is %d", ttl)
	}
}

// checkDestination compares the Ethernet destination with that of the multicast
// group: a switch forwards by it.
func (a *Advert) checkDestination(mac net.HardwareAddr) {
	want := ""
	switch a.Destination {
	case vrrpGroup4:
		want = "01:00:5e:00:00:12"
	case vrrpGroup6:
		want = "33:33:00:00:00:12"
	}
	if want != "" && mac.String() != want {
		a.fault("Ethernet destination is %s, not %s", mac, want)
	}
}

// takeMessage decodes the VRRP message (RFC 3768 section 5, RFC 9568 section 5):
//
//	 0               1               2               3
//	+-------+-------+---------------+---------------+---------------+
//	|version| type 1|     VRID      |   Priority    |   Addresses   |
//	+-------+-------+---------------+---------------+---------------+
//	| version 2: Auth Type, Interval|           Checksum            |
//	| version 3: 0, Interval (12)   |                               |
//	+-------------------------------+-------------------------------+
//	|  the addresses; version 2: 8 bytes of authentication data     |
func (a *Advert) takeMessage(b []byte) {
	if len(b) < vrrpSize {
		a.fault("message of %d bytes", len(b))
		return
	}
	a.Version, a.VRID, a.Priority = b[0]>>4, b[1], b[2]
	if b[0]&15 != 1 {
		a.fault("type is %d", b[0]&15)
	}
	size := 4
	if a.Source.Is6() {
		size = 16
	}
	want := vrrpSize + int(b[3])*size
	switch a.Version {
	case 2:
		a.AuthType, a.Interval = b[4], time.Duration(b[5])*time.Second
		want += vrrpAuthSize
	case 3:
		interval := binary.BigEndian.Uint16(b[4:])
		a.Interval = time.Duration(interval&0xfff) * 10 * time.Millisecond
		if interval > 0xfff {
			a.fault("reserved bits are set: %#04x", interval)
		}
	default:
		a.fault("version is %d", a.Version)
	}
	if len(b) != want {
		a.fault("message of %d bytes with %d addresses, want %d bytes", len(b), b[3], want)
		return
	}
	for list := b[vrrpSize : vrrpSize+int(b[3])*size]; len(list) > 0; list = list[size:] {
		address, _ := netip.AddrFromSlice(list[:size])
		a.Addresses = append(a.Addresses, address)
	}
	if a.Version == 2 {
		a.takePassword(b[want-vrrpAuthSize:])
	}
	if a.checksum(b) != 0 {
		a.fault("VRRP checksum %#04x is wrong", binary.BigEndian.Uint16(b[6:]))
	}
}

func (a *Advert) takePassword(b []byte) {
	end := len(b)
	for end > 0 && b[end-1] == 0 {
		end--
	}
	a.Password = string(b[:end])
	if a.AuthType != 0 && a.AuthType != 1 {
		a.fault("authentication type is %d", a.AuthType)
	}
	if a.AuthType == 0 && end > 0 {
		a.fault("authentication data without authentication")
	}
}

// checksum returns 0 for a message that is whole. Version 3 counts a pseudo-header,
// for IPv4 too: that is what Keepalived and FRR send and expect without further
// configuration.
func (a *Advert) checksum(b []byte) uint16 {
	if a.Version == 2 {
		return sum16(b)
	}
	pseudo := append(a.Source.AsSlice(), a.Destination.AsSlice()...)
	if a.Source.Is6() {
		pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(b)))
		pseudo = append(pseudo, 0, 0, 0, vrrpNext)
	} else {
		pseudo = append(pseudo, 0, vrrpNext)
		pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(b)))
	}
	return sum16(append(pseudo, b...))
}

// sum16 is the Internet checksum (RFC 1071); 0 over what includes a right one.
func sum16(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
