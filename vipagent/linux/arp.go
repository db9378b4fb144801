package linux

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
)

const (
	etherHeader = 14
	arpLength   = 28
	etherARP    = 0x0806
	etherIPv6   = 0x86dd
)

var (
	broadcastMAC = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	unknownMAC   = net.HardwareAddr{0, 0, 0, 0, 0, 0}
)

var (
	errShort   = errors.New("packet is too short")
	errForeign = errors.New("packet is of another kind")
	errBroken  = errors.New("packet is malformed")
)

// arpOperation is the operation field of an ARP packet.
type arpOperation uint16

const (
	arpRequest arpOperation = 1
	arpReply   arpOperation = 2
)

// arpPacket is an ARP packet for IPv4 on Ethernet (RFC 826) with its frame:
//
//	 0  destination MAC (6)   6  source MAC (6)          12  0x0806
//	14  hardware type 1 (2)  16  protocol type 0x0800    18  6  19  4   20  operation (2)
//	22  sender MAC (6)       28  sender IP (4)           32  target MAC (6)   38  target IP (4)
//
// Frames are padded to 60 bytes on the wire; what follows the packet is not
// looked at.
type arpPacket struct {
	Destination net.HardwareAddr // of the frame
	Source      net.HardwareAddr // of the frame
	Operation   arpOperation
	SenderMAC   net.HardwareAddr
	SenderIP    netip.Addr
	TargetMAC   net.HardwareAddr
	TargetIP    netip.Addr
}

// appendTo adds the frame to b. All MACs must have 6 bytes and the addresses be
// IPv4.
func (p arpPacket) appendTo(b []byte) []byte {
	b = appendEther(b, p.Destination, p.Source, etherARP)
	b = append(b, 0, 1, 0x08, 0x00, 6, 4)
	b = binary.BigEndian.AppendUint16(b, uint16(p.Operation))
	b = append(b, p.SenderMAC...)
	b = append(b, p.SenderIP.AsSlice()...)
	b = append(b, p.TargetMAC...)
	return append(b, p.TargetIP.AsSlice()...)
}

// parseARP reads a frame. The MACs share its memory.
func parseARP(b []byte) (arpPacket, error) {
	if len(b) < etherHeader+arpLength {
		return arpPacket{}, errShort
	}
	if binary.BigEndian.Uint16(b[12:]) != etherARP {
		return arpPacket{}, errForeign
	}
	a := b[etherHeader : etherHeader+arpLength]
	if [6]byte(a) != [6]byte{0, 1, 0x08, 0x00, 6, 4} {
		return arpPacket{}, errForeign
	}
	p := arpPacket{
		Destination: net.HardwareAddr(b[0:6]), Source: net.HardwareAddr(b[6:12]),
		Operation: arpOperation(binary.BigEndian.Uint16(a[6:])),
		SenderMAC: net.HardwareAddr(a[8:14]), SenderIP: netip.AddrFrom4([4]byte(a[14:18])),
		TargetMAC: net.HardwareAddr(a[18:24]), TargetIP: netip.AddrFrom4([4]byte(a[24:28])),
	}
	if p.Operation != arpRequest && p.Operation != arpReply {
		return arpPacket{}, errForeign
	}
	return p, nil
}

func appendEther(b []byte, destination, source net.HardwareAddr, kind uint16) []byte {
	b = append(b, destination...)
	b = append(b, source...)
	return binary.BigEndian.AppendUint16(b, kind)
}

// gratuitousRequest makes the usual form of a gratuitous ARP.
func gratuitousRequest(mac net.HardwareAddr, ip netip.Addr) arpPacket {
	return arpPacket{
		Destination: broadcastMAC, Source: mac, Operation: arpRequest,
		SenderMAC: mac, SenderIP: ip, TargetMAC: unknownMAC, TargetIP: ip,
	}
}

// gratuitousReply makes the other form, for equipment that looks at replies
// only.
func gratuitousReply(mac net.HardwareAddr, ip netip.Addr) arpPacket {
	return arpPacket{
		Destination: broadcastMAC, Source: mac, Operation: arpReply,
		SenderMAC: mac, SenderIP: ip, TargetMAC: mac, TargetIP: ip,
	}
}
