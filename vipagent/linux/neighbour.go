package linux

import (
	"encoding/binary"
	"net"
	"net/netip"
)

const (
	ipv6Header       = 40
	neighbourLength  = 24 // ICMPv6 header, flags and target
	nextHeaderICMPv6 = 58
	neighbourHops    = 255 // a router would have lowered it, so the packet comes from the link

	optionSourceMAC = 1
	optionTargetMAC = 2
)

// neighbourType is the ICMPv6 type of a neighbour discovery message.
type neighbourType uint8

const (
	solicitation  neighbourType = 135
	advertisement neighbourType = 136
)

// The flags of an advertisement.
const (
	flagRouter    = 0x80
	flagSolicited = 0x40
	flagOverride  = 0x20
)

var allNodes = netip.MustParseAddr("ff02::1")

// neighbourPacket is a neighbour solicitation or advertisement (RFC 4861) with
// its frame and IPv6 header:
//
//	 0  destination MAC (6)    6  source MAC (6)       12  0x86dd
//	14  version 6, class, flow (4)   18  payload length (2)   20  58   21  hop limit 255
//	22  source (16)           38  destination (16)
//	54  type  55  code 0      56  checksum (2)         58  flags (1, advertisements only)  59  reserved (3)
//	62  target (16)           78  options: type, length in units of 8 bytes, value
//
// Extension headers are not understood; neighbours do not send any.
type neighbourPacket struct {
	DestinationMAC net.HardwareAddr // of the frame
	SourceMAC      net.HardwareAddr // of the frame
	Source         netip.Addr
	Destination    netip.Addr
	Type           neighbourType
	Flags          uint8 // of an advertisement
	Target         netip.Addr
	// MAC is the link-layer address option: of the sender in a solicitation,
	// of the target in an advertisement. Empty if there is none.
	MAC net.HardwareAddr
}

// appendTo adds the frame to b. MACs must have 6 bytes (MAC may be empty) and
// addresses be IPv6.
func (p neighbourPacket) appendTo(b []byte) []byte {
	payload := neighbourLength
	if len(p.MAC) != 0 {
		payload += 8
	}
	b = appendEther(b, p.DestinationMAC, p.SourceMAC, etherIPv6)
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(payload))
	b = append(b, nextHeaderICMPv6, neighbourHops)
	b = append(b, p.Source.AsSlice()...)
	b = append(b, p.Destination.AsSlice()...)
	icmp := len(b)
	b = append(b, byte(p.Type), 0, 0, 0, p.Flags, 0, 0, 0)
	b = append(b, p.Target.AsSlice()...)
	if len(p.MAC) != 0 {
		b = append(b, p.option(), 1)
		b = append(b, p.MAC...)
	}
	sum := icmpChecksum(p.Source, p.Destination, b[icmp:])
	binary.BigEndian.PutUint16(b[icmp+2:], sum)
	return b
}

// option returns the option that carries MAC.
func (p neighbourPacket) option() byte {
	if p.Type == solicitation {
		return optionSourceMAC
	}
	return optionTargetMAC
}

// parseNeighbour reads a frame and checks all that RFC 4861 (7.1) asks of a
// receiver. The MACs share its memory.
func parseNeighbour(b []byte) (neighbourPacket, error) {
	if len(b) < etherHeader+ipv6Header {
		return neighbourPacket{}, errShort
	}
	ip := b[etherHeader:]
	if binary.BigEndian.Uint16(b[12:]) != etherIPv6 || ip[0]>>4 != 6 || ip[6] != nextHeaderICMPv6 {
		return neighbourPacket{}, errForeign
	}
	payload := int(binary.BigEndian.Uint16(ip[4:]))
	if payload < neighbourLength || payload > len(ip)-ipv6Header {
		return neighbourPacket{}, errShort
	}
	icmp := ip[ipv6Header : ipv6Header+payload]
	p := neighbourPacket{
		DestinationMAC: net.HardwareAddr(b[0:6]), SourceMAC: net.HardwareAddr(b[6:12]),
		Source: netip.AddrFrom16([16]byte(ip[8:24])), Destination: netip.AddrFrom16([16]byte(ip[24:40])),
		Type: neighbourType(icmp[0]), Target: netip.AddrFrom16([16]byte(icmp[8:24])),
	}
	switch p.Type {
	case solicitation:
	case advertisement:
		p.Flags = icmp[4]
	default:
		return neighbourPacket{}, errForeign
	}
	if ip[7] != neighbourHops || icmp[1] != 0 || p.Target.IsMulticast() || icmpChecksum(p.Source, p.Destination, icmp) != 0 {
		return neighbourPacket{}, errBroken
	}
	return p, p.parseOptions(icmp[neighbourLength:])
}

func (p *neighbourPacket) parseOptions(b []byte) error {
	for len(b) > 0 {
		if len(b) < 2 || b[1] == 0 || int(b[1])*8 > len(b) {
			return errBroken
		}
		if b[0] == p.option() && b[1] == 1 && p.MAC == nil {
			p.MAC = net.HardwareAddr(b[2:8])
		}
		b = b[int(b[1])*8:]
	}
	return nil
}

// icmpChecksum returns the checksum of an ICMPv6 message; zero if it already
// holds the right one.
func icmpChecksum(source, destination netip.Addr, icmp []byte) uint16 {
	sum := uint32(len(icmp)) + nextHeaderICMPv6
	for _, ip := range [2]netip.Addr{source, destination} {
		b := ip.As16()
		sum = addWords(sum, b[:])
	}
	sum = addWords(sum, icmp)
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// addWords cannot overflow: a packet has fewer than 2^15 words.
func addWords(sum uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

// unsolicited makes the advertisement that moves an address to mac at once.
func unsolicited(mac net.HardwareAddr, ip netip.Addr, router bool) neighbourPacket {
	p := neighbourPacket{
		DestinationMAC: multicastMAC(allNodes), SourceMAC: mac, Source: ip, Destination: allNodes,
		Type: advertisement, Flags: flagOverride, Target: ip, MAC: mac,
	}
	if router {
		// Neighbours that know us as their router would drop us otherwise.
		p.Flags |= flagRouter
	}
	return p
}

// multicastMAC returns the Ethernet address of an IPv6 multicast group
// (RFC 2464).
func multicastMAC(group netip.Addr) net.HardwareAddr {
	b := group.As16()
	return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// solicitedNode returns the multicast group in which an address is asked for.
func solicitedNode(ip netip.Addr) netip.Addr {
	b := ip.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}
