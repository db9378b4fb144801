package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// ClaimKind says by what kind of packet an address was claimed.
type ClaimKind string

// Kinds of claims.
const (
	ARPRequest    ClaimKind = "arp-request"
	ARPReply      ClaimKind = "arp-reply"
	Advertisement ClaimKind = "neighbour-advertisement"
)

// Claim is a packet, heard by a client, in which somebody says that an address
// is at its hardware address.
type Claim struct {
	Segment    Segment // where it was heard
	Host       string  // who sent it; the hardware address when it is nobody's
	Address    netip.Addr
	Kind       ClaimKind
	Gratuitous bool // ARP for itself, or an unsolicited advertisement
	At         Time
}

// sniffer hears the claims on one segment, with a client's ears.
type sniffer struct {
	segment Segment
	fd      int
	names   map[string]string // hardware address -> host

	mu     sync.Mutex
	claims []Claim
}

// Offsets in Ethernet frames.
const (
	etherType  = 12
	etherSize  = 14
	arpSize    = 28
	ipv6Next   = etherSize + 6
	ipv6Size   = 40
	icmpOffset = etherSize + ipv6Size
	naSize     = 24 // ICMPv6 header, flags, target
	naType     = 136
)

// claimsOnly is the classic BPF program that lets ARP and neighbour
// advertisements through, so that the probes' packets cost the sniffer nothing.
func claimsOnly() ([]bpf.RawInstruction, error) {
	return bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: etherType, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_ARP, SkipTrue: 5},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IPV6, SkipTrue: 5},
		bpf.LoadAbsolute{Off: ipv6Next, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 3},
		bpf.LoadAbsolute{Off: icmpOffset, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: naType, SkipTrue: 1},
		bpf.RetConstant{Val: 256},
		bpf.RetConstant{Val: 0},
	})
}

func openSniffer(h *Host, names map[string]string) (*sniffer, error) {
	s := &sniffer{segment: h.Segment, fd: -1, names: names}
	program, err := claimsOnly()
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	err = h.ns.do(func() (err error) {
		// Protocol 0 receives nothing until the filter is in place and the
		// socket is bound.
		s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open packet socket: %w", err)
		}
		filter := make([]unix.SockFilter, len(program))
		for i, ins := range program {
			filter[i] = unix.SockFilter{Code: ins.Op, Jt: ins.Jt, Jf: ins.Jf, K: ins.K}
		}
		fprog := &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		if err := unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, fprog); err != nil {
			return fmt.Errorf("attach filter: %w", err)
		}
		if err := prepare(s.fd); err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff})
		return unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: h.link.Attrs().Index})
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open sniffer on %s: %w", h.Name, err), closeAll([]int{s.fd}))
	}
	return s, nil
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
		c, ok := parseClaim(d.data)
		if !ok {
			continue
		}
		c.Segment, c.At = s.segment, d.at
		if name, known := s.names[c.Host]; known {
			c.Host = name
		}
		s.mu.Lock()
		s.claims = append(s.claims, c)
		s.mu.Unlock()
	}
	return nil
}

// parseClaim reads a frame. Host is the sender's hardware address as it stands
// in the claim, not in the frame's head: that is what neighbours believe.
func parseClaim(frame []byte) (Claim, bool) {
	if len(frame) < etherSize {
		return Claim{}, false
	}
	switch body := frame[etherSize:]; binary.BigEndian.Uint16(frame[etherType:]) {
	case unix.ETH_P_ARP:
		return parseARP(body)
	case unix.ETH_P_IPV6:
		return parseAdvertisement(body, net.HardwareAddr(frame[6:12]))
	}
	return Claim{}, false
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
