package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// ClaimKind says by what kind of packet an address was claimed.
type ClaimKind string

// Kinds of claims. The last three are not claims that others learn from, but
// they say the same: "I have this address".
const (
	ARPRequest    ClaimKind = "arp-request"
	ARPReply      ClaimKind = "arp-reply"
	Advertisement ClaimKind = "neighbour-advertisement"
	VRRPAdvert    ClaimKind = "vrrp-advertisement"
	IPv4Packet    ClaimKind = "ipv4" // the address is its source
	IPv6Packet    ClaimKind = "ipv6"
)

// Claim is a packet, heard on a segment, in which somebody says that an address
// is his. Packets with the address as source come by the thousand: they are
// kept as a [Stretch].
type Claim struct {
	Segment    Segment // where it was heard
	Host       string  // who sent it; the hardware address when it is nobody's
	Address    netip.Addr
	Kind       ClaimKind
	Gratuitous bool // ARP for itself, or an unsolicited advertisement
	At         Time
}

// Stretch is a run of packets of one sender with one source address, none of
// them more than [sameRun] after the one before.
type Stretch struct {
	Segment  Segment
	Host     string
	Address  netip.Addr
	Kind     ClaimKind
	From, To Time // the first and the last packet
	Count    int
}

// sniffer hears what crosses one segment's bridge, whoever it is for.
type sniffer struct {
	segment Segment
	fd      int
	names   map[string]string // hardware address -> host

	mu        sync.Mutex
	claims    []Claim
	stretches []Stretch
	latest    map[source]int // position of the latest stretch
}

// source is whose packets make one stretch.
type source struct {
	host    string
	address netip.Addr
}

// Offsets in Ethernet frames.
const (
	etherType   = 12
	etherSize   = 14
	arpSize     = 28
	ipv4Size    = 20
	ipv4Next    = etherSize + 9
	ipv4Source  = etherSize + 12
	ipv6Next    = etherSize + 6
	ipv6Source  = etherSize + 8
	ipv6Size    = 40
	icmpOffset  = etherSize + ipv6Size
	naSize      = 24 // ICMPv6 header, flags, target
	naType      = 136
	vrrpSize    = 8
	vrrpNext    = 112        // IP protocol number
	ownIPv4     = 0x0a4d0000 // 10.77.0.0/24, where hosts have their own addresses
	ownIPv6     = 0xfd770000 // fd77::/120
	linkLocal   = 0xfe800000
	wholeClaims = 256
)

// claimsOnly is the classic BPF program that lets through what may claim an
// address that is not a host's own, so that everything else costs the sniffer
// nothing: ARP, neighbour advertisements, VRRP, and IP with such a source.
func claimsOnly() ([]bpf.RawInstruction, error) {
	load := func(offset uint32, size int) bpf.Instruction { return bpf.LoadAbsolute{Off: offset, Size: size} }
	unlike := func(v uint32, skip uint8) bpf.Instruction {
		return bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: v, SkipTrue: skip}
	}
	accept, reject := bpf.RetConstant{Val: wholeClaims}, bpf.RetConstant{Val: 0}
	return bpf.Assemble([]bpf.Instruction{
		load(etherType, 2),
		unlike(unix.ETH_P_ARP, 1), accept,
		unlike(unix.ETH_P_IP, 7),
		load(ipv4Next, 1), unlike(vrrpNext, 1), accept,
		load(ipv4Source, 4), bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xffffff00}, unlike(ownIPv4, 15), reject,
		unlike(unix.ETH_P_IPV6, 14),
		load(ipv6Next, 1), unlike(vrrpNext, 1), accept,
		unlike(unix.IPPROTO_ICMPV6, 2), load(icmpOffset, 1), bpf.JumpIf{Cond: bpf.JumpEqual, Val: naType, SkipTrue: 7},
		load(ipv6Source, 4), bpf.JumpIf{Cond: bpf.JumpEqual, Val: linkLocal, SkipTrue: 6}, unlike(ownIPv6, 4),
		load(ipv6Source+8, 4), unlike(0, 2),
		load(ipv6Source+12, 4), bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: 0xff, SkipTrue: 1},
		accept,
		reject,
	})
}

// openSniffer listens on the bridge of a segment. A bridge that is promiscuous
// is shown every frame that it forwards.
func (n *Network) openSniffer(segment Segment, names map[string]string) (*sniffer, error) {
	s := &sniffer{segment: segment, fd: -1, names: names, latest: make(map[source]int)}
	program, err := claimsOnly()
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	bridge, err := n.wires.handle.LinkByName(bridgeName(segment))
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", bridgeName(segment), err)
	}
	err = n.wires.do(func() (err error) {
		// Protocol 0 receives nothing until the filter is in place and the
		// socket is bound.
		s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open packet socket: %w", err)
		}
		if err := errors.Join(attachFilter(s.fd, program), prepare(s.fd)); err != nil {
			return err
		}
		promiscuous := unix.PacketMreq{Ifindex: int32(bridge.Attrs().Index), Type: unix.PACKET_MR_PROMISC}
		if err := unix.SetsockoptPacketMreq(s.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &promiscuous); err != nil {
			return fmt.Errorf("hear everybody: %w", err)
		}
		return unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: everyProtocol(), Ifindex: bridge.Attrs().Index})
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open sniffer on segment %s: %w", segment, err), closeAll([]int{s.fd}))
	}
	return s, nil
}

func attachFilter(fd int, program []bpf.RawInstruction) error {
	filter := make([]unix.SockFilter, len(program))
	for i, ins := range program {
		filter[i] = unix.SockFilter{Code: ins.Op, Jt: ins.Jt, Jf: ins.Jf, K: ins.K}
	}
	fprog := &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, fprog); err != nil {
		return fmt.Errorf("attach filter: %w", err)
	}
	return nil
}

// everyProtocol is ETH_P_ALL in the byte order of the wire, as packet sockets
// take it.
func everyProtocol() uint16 {
	return binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff})
}

func (s *sniffer) run(stop *atomic.Bool) error {
	r := newReceiver(s.fd)
	for !stop.Load() {
		d, from, ok, err := r.next()
		if err != nil {
			return fmt.Errorf("sniff on segment %s: %w", s.segment, err)
		}
		if link, isLink := from.(*unix.SockaddrLinklayer); !ok || isLink && link.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		claims := parseFrame(d.data)
		if len(claims) == 0 {
			continue
		}
		s.mu.Lock()
		for _, c := range claims {
			c.Segment, c.At = s.segment, d.at
			if name, known := s.names[c.Host]; known {
				c.Host = name
			}
			s.add(c)
		}
		s.mu.Unlock()
	}
	return nil
}

// add records a claim. The caller has the lock.
func (s *sniffer) add(c Claim) {
	if c.Kind != IPv4Packet && c.Kind != IPv6Packet {
		s.claims = append(s.claims, c)
		return
	}
	from := source{c.Host, c.Address}
	if i, ok := s.latest[from]; ok && c.At.Sub(s.stretches[i].To) <= sameRun {
		s.stretches[i].To = max(s.stretches[i].To, c.At)
		s.stretches[i].Count++
		return
	}
	s.latest[from] = len(s.stretches)
	s.stretches = append(s.stretches, Stretch{c.Segment, c.Host, c.Address, c.Kind, c.At, c.At, 1})
}

// forget drops what was over before a time.
func (s *sniffer) forget(before Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claims = slices.DeleteFunc(s.claims, func(c Claim) bool { return c.At < before })
	s.stretches = slices.DeleteFunc(s.stretches, func(p Stretch) bool { return p.To < before })
	clear(s.latest)
	for i, p := range s.stretches {
		s.latest[source{p.Host, p.Address}] = i
	}
}

// parseFrame returns what a frame claims. Host is the sender's hardware address
// as it stands in the claim, where it does: that is what neighbours believe.
func parseFrame(frame []byte) []Claim {
	if len(frame) < etherSize {
		return nil
	}
	body, sender := frame[etherSize:], net.HardwareAddr(frame[6:12]).String()
	switch binary.BigEndian.Uint16(frame[etherType:]) {
	case unix.ETH_P_ARP:
		if c, ok := parseARP(body); ok {
			return []Claim{c}
		}
	case unix.ETH_P_IP:
		if len(body) < ipv4Size || body[0]>>4 != 4 {
			return nil
		}
		own := Claim{Host: sender, Address: netip.AddrFrom4([4]byte(body[12:16])), Kind: IPv4Packet}
		if header := int(body[0]&15) * 4; body[9] == vrrpNext && len(body) >= header {
			return append(parseVRRP(body[header:], sender, 4), own)
		}
		return []Claim{own}
	case unix.ETH_P_IPV6:
		if len(body) < ipv6Size || body[0]>>4 != 6 {
			return nil
		}
		own := Claim{Host: sender, Address: netip.AddrFrom16([16]byte(body[8:24])), Kind: IPv6Packet}
		if body[6] == vrrpNext {
			return append(parseVRRP(body[ipv6Size:], sender, 16), own)
		}
		if c, ok := parseAdvertisement(body, frame[6:12]); ok {
			return []Claim{c, own}
		}
		return []Claim{own}
	}
	return nil
}

// parseVRRP returns the addresses that an advertisement is for, by whoever sent
// it. One of priority 0 gives them up.
func parseVRRP(b []byte, sender string, size int) (claims []Claim) {
	if len(b) < vrrpSize || b[0]&15 != 1 || b[2] == 0 {
		return nil
	}
	for list := b[vrrpSize:]; len(list) >= size && len(claims) < int(b[3]); list = list[size:] {
		a, _ := netip.AddrFromSlice(list[:size])
		claims = append(claims, Claim{Host: sender, Address: a, Kind: VRRPAdvert})
	}
	return claims
}

func parseARP(b []byte) (Claim, bool) {
	if len(b) < arpSize || binary.BigEndian.Uint32(b) != 0x00010800 || b[4] != 6 || b[5] != 4 {
		return Claim{}, false
	}
	sender, target := netip.AddrFrom4([4]byte(b[14:18])), netip.AddrFrom4([4]byte(b[24:28]))
	c := Claim{Host: net.HardwareAddr(b[8:14]).String(), Address: sender, Gratuitous: sender == target}
	switch binary.BigEndian.Uint16(b[6:]) {
	case 1:
		c.Kind = ARPRequest
	case 2:
		c.Kind = ARPReply
	default:
		return Claim{}, false
	}
	return c, !sender.IsUnspecified() // a probe (RFC 5227) claims nothing
}

func parseAdvertisement(b []byte, source net.HardwareAddr) (Claim, bool) {
	if len(b) < ipv6Size+naSize || b[6] != unix.IPPROTO_ICMPV6 || b[ipv6Size] != naType {
		return Claim{}, false
	}
	na := b[ipv6Size:]
	c := Claim{
		Host:       source.String(),
		Address:    netip.AddrFrom16([16]byte(na[8:24])),
		Kind:       Advertisement,
		Gratuitous: na[4]&0x40 == 0, // not solicited
	}
	for options := na[24:]; len(options) >= 8 && options[1] > 0 && len(options) >= int(options[1])*8; options = options[int(options[1])*8:] {
		if options[0] == 2 { // target link-layer address
			c.Host = net.HardwareAddr(options[2:8]).String()
		}
	}
	return c, true
}
