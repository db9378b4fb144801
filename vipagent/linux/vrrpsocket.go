package linux

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"
)

const (
	vrrpProtocol     = 112
	vrrpTrafficClass = 0xc0 // "internetwork control"
	vrrpMessage      = 4096 // more than any message
	ipv4HeaderSize   = 20
)

// VRRPConfig is what [Kernel.ListenVRRP] needs.
type VRRPConfig struct {
	Interface string // "" = all, for unicast
	IPv6      bool
	Group     netip.Addr // the multicast group to join; zero = unicast alone
	// ReceiveBuffer is the size of the socket's receive buffer in bytes, 0 = the
	// kernel's default.
	ReceiveBuffer int
}

// VRRPPacket is a packet of protocol 112 that has come.
type VRRPPacket struct {
	Source, Destination netip.Addr // without zones
	TTL                 int        // or hop limit; -1 = the kernel did not say
	// Message is what follows the IP header. It is valid until the next Receive.
	Message []byte
}

// VRRPSocket sends and receives the advertisements of all virtual routers of one
// family on one interface. One goroutine may receive while others send.
type VRRPSocket struct {
	conn  *socket.Conn
	c     VRRPConfig
	index int // of the interface, 0 = all
	buf   [vrrpMessage]byte
	oob   [256]byte
}

// ListenVRRP opens a raw socket in the network namespace of the calling thread. It
// sees no packet of this host. When its interface is deleted it hears no more, see
// [VRRPSocket.Stale].
func (k *Kernel) ListenVRRP(c VRRPConfig) (*VRRPSocket, error) {
	s := &VRRPSocket{c: c}
	if c.Interface != "" {
		i, err := k.Interface(c.Interface)
		if err != nil {
			return nil, fmt.Errorf("listen for VRRP: %w", err)
		}
		s.index = i.Index
	}
	family := unix.AF_INET
	if c.IPv6 {
		family = unix.AF_INET6
	}
	var err error
	if s.conn, err = socket.Socket(family, unix.SOCK_RAW, vrrpProtocol, "vrrp", nil); err != nil {
		return nil, fmt.Errorf("listen for VRRP: %w", err)
	}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for VRRP on %s: %w", c.Interface, err), s.conn.Close())
	}
	return s, nil
}

// prepare sets the socket's options. What came before the last of them is thrown
// away: it may be of other interfaces.
func (s *VRRPSocket) prepare() error {
	type option struct{ level, name, value int }
	options := []option{
		{unix.SOL_IP, unix.IP_HDRINCL, 1},
		{unix.SOL_IP, unix.IP_MULTICAST_LOOP, 0},
		{unix.SOL_IP, unix.IP_MULTICAST_ALL, 0}, // not what others on this host have joined
	}
	if s.c.IPv6 {
		options = []option{
			{unix.SOL_IPV6, unix.IPV6_MULTICAST_LOOP, 0},
			{unix.SOL_IPV6, unix.IPV6_MULTICAST_ALL, 0},
			{unix.SOL_IPV6, unix.IPV6_RECVHOPLIMIT, 1},
			{unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1},
			{unix.SOL_IPV6, unix.IPV6_TCLASS, vrrpTrafficClass},
		}
	}
	for _, o := range options {
		if err := s.conn.SetsockoptInt(o.level, o.name, o.value); err != nil {
			return fmt.Errorf("set option %d: %w", o.name, err)
		}
	}
	if s.index != 0 {
		if err := s.conn.SetsockoptString(unix.SOL_SOCKET, unix.SO_BINDTODEVICE, s.c.Interface); err != nil {
			return fmt.Errorf("bind to the interface: %w", err)
		}
	}
	if s.c.ReceiveBuffer > 0 && s.conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, s.c.ReceiveBuffer) != nil {
		_ = s.conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_RCVBUF, s.c.ReceiveBuffer)
	}
	if s.c.Group.IsValid() {
		if err := s.join(); err != nil {
			return fmt.Errorf("join %s: %w", s.c.Group, err)
		}
	}
	return s.drain()
}

// join joins the group on the interface.
func (s *VRRPSocket) join() error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	var joined error
	err = raw.Control(func(fd uintptr) {
		if s.c.IPv6 {
			m := unix.IPv6Mreq{Multiaddr: s.c.Group.As16(), Interface: uint32(s.index)}
			joined = unix.SetsockoptIPv6Mreq(int(fd), unix.SOL_IPV6, unix.IPV6_JOIN_GROUP, &m)
			return
		}
		m := unix.IPMreqn{Multiaddr: s.c.Group.As4(), Ifindex: int32(s.index)}
		joined = unix.SetsockoptIPMreqn(int(fd), unix.SOL_IP, unix.IP_ADD_MEMBERSHIP, &m)
	})
	return errors.Join(err, joined)
}

// drain throws away what the socket has received so far.
func (s *VRRPSocket) drain() error {
	if err := s.conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return err
	}
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	if err := raw.Control(func(fd uintptr) {
		for {
			if _, _, err := unix.Recvfrom(int(fd), s.buf[:], unix.MSG_DONTWAIT); err != nil {
				return
			}
		}
	}); err != nil {
		return err
	}
	return s.conn.SetReadDeadline(time.Time{})
}

// Receive returns the next packet; the error is ctx's if that ends first. Whatever
// cannot be a packet of protocol 112 with a whole IP header is passed over.
func (s *VRRPSocket) Receive(ctx context.Context) (VRRPPacket, error) {
	for {
		n, oobn, _, from, err := s.conn.Recvmsg(ctx, s.buf[:], s.oob[:], 0)
		switch {
		case errors.Is(err, unix.ENETDOWN):
			continue // said once when the interface goes down
		case err != nil:
			return VRRPPacket{}, fmt.Errorf("receive VRRP on %s: %w", s.c.Interface, err)
		}
		p, ok := VRRPPacket{}, false
		if s.c.IPv6 {
			p, ok = parseVRRP6(s.buf[:n], s.oob[:oobn], from)
		} else {
			p, ok = parseVRRP4(s.buf[:n])
		}
		if ok {
			return p, nil
		}
	}
}

// parseVRRP4 takes the IPv4 header off. The kernel has checked it and put fragments
// together; its lengths are looked at all the same.
func parseVRRP4(b []byte) (VRRPPacket, bool) {
	if len(b) < ipv4HeaderSize {
		return VRRPPacket{}, false
	}
	header, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if b[0]>>4 != 4 || header < ipv4HeaderSize || header > total || total > len(b) || b[9] != vrrpProtocol {
		return VRRPPacket{}, false
	}
	return VRRPPacket{
		Source: netip.AddrFrom4([4]byte(b[12:16])), Destination: netip.AddrFrom4([4]byte(b[16:20])),
		TTL: int(b[8]), Message: b[header:total],
	}, true
}

// parseVRRP6 gets addresses and hop limit from what the kernel says beside the
// message.
func parseVRRP6(b, oob []byte, from unix.Sockaddr) (VRRPPacket, bool) {
	sa, ok := from.(*unix.SockaddrInet6)
	if !ok {
		return VRRPPacket{}, false
	}
	p := VRRPPacket{Source: netip.AddrFrom16(sa.Addr), TTL: -1, Message: b}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return VRRPPacket{}, false
	}
	for _, m := range messages {
		switch {
		case m.Header.Level != unix.SOL_IPV6:
		case m.Header.Type == unix.IPV6_HOPLIMIT && len(m.Data) >= 4:
			p.TTL = int(int32(binary.NativeEndian.Uint32(m.Data)))
		case m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			p.Destination = netip.AddrFrom16([16]byte(m.Data[:16]))
		}
	}
	return p, p.Destination.IsValid()
}

// Send hands a message to the kernel and does not wait: what does not fit into a
// queue is lost, as on a wire. The packet takes the usual way out, past the fence.
func (s *VRRPSocket) Send(message []byte, source, destination netip.Addr, ttl int) error {
	if source.Is4() == s.c.IPv6 || destination.Is4() == s.c.IPv6 || len(message) > vrrpMessage || ttl < 1 || ttl > 255 {
		return fmt.Errorf("send VRRP from %s to %s: does not go with this socket", source, destination)
	}
	var err error
	if s.c.IPv6 {
		err = s.send6(message, source, destination, ttl)
	} else {
		err = s.send4(message, source, destination, ttl)
	}
	switch {
	case err == nil, errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOBUFS):
		return nil
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return fmt.Errorf("send VRRP on %s: %w: %w", s.c.Interface, ErrNoInterface, err)
	}
	return fmt.Errorf("send VRRP from %s to %s: %w", source, destination, os.NewSyscallError("sendmsg", err))
}

// send4 writes the IP header itself: no other way sets the source address without
// the address being up. The kernel fills in identification, length and checksum.
func (s *VRRPSocket) send4(message []byte, source, destination netip.Addr, ttl int) error {
	packet := make([]byte, ipv4HeaderSize, ipv4HeaderSize+len(message))
	packet[0], packet[1], packet[8], packet[9] = 0x45, vrrpTrafficClass, byte(ttl), vrrpProtocol
	from, to := source.As4(), destination.As4()
	copy(packet[12:], from[:])
	copy(packet[16:], to[:])
	packet = append(packet, message...)
	oob := pktinfo4(s.index)
	return s.sendmsg(packet, oob, &unix.SockaddrInet4{Addr: to})
}

func (s *VRRPSocket) send6(message []byte, source, destination netip.Addr, ttl int) error {
	oob := append(pktinfo6(s.index, source), hopLimit(ttl)...)
	sa := &unix.SockaddrInet6{Addr: destination.As16()}
	if destination.IsLinkLocalUnicast() || destination.IsLinkLocalMulticast() {
		sa.ZoneId = uint32(s.index)
	}
	return s.sendmsg(message, oob, sa)
}

func (s *VRRPSocket) sendmsg(b, oob []byte, to unix.Sockaddr) error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) {
		sent = ignoringEINTR(func() error { return unix.Sendmsg(int(fd), b, oob, to, unix.MSG_DONTWAIT) })
	})
	return errors.Join(err, sent)
}

// control returns a control message with room for n bytes.
func control(level, kind int32, n int) (message, data []byte) {
	b := make([]byte, unix.CmsgSpace(n))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(n))
	return b, b[unix.CmsgLen(0):]
}

func pktinfo4(index int) []byte {
	b, data := control(unix.SOL_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
	binary.NativeEndian.PutUint32(data, uint32(index))
	return b
}

func pktinfo6(index int, source netip.Addr) []byte {
	b, data := control(unix.SOL_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
	from := source.As16()
	copy(data, from[:])
	binary.NativeEndian.PutUint32(data[16:], uint32(index))
	return b
}

func hopLimit(n int) []byte {
	b, data := control(unix.SOL_IPV6, unix.IPV6_HOPLIMIT, 4)
	binary.NativeEndian.PutUint32(data, uint32(n))
	return b
}

// Stale says whether the socket's interface has been deleted, or deleted and made
// again: then it hears nothing any more, and another one is to be opened.
func (s *VRRPSocket) Stale() bool {
	if s.index == 0 {
		return false
	}
	i, err := net.InterfaceByName(s.c.Interface)
	return err != nil || i.Index != s.index
}

// Close closes the socket; Receive then fails.
func (s *VRRPSocket) Close() error { return s.conn.Close() }

// PrimaryAddress returns the address from which advertisements leave on an interface:
// its first IPv4 address that is no VIP of ours, or its link-local IPv6 address.
func (k *Kernel) PrimaryAddress(iface string, ipv6 bool) (netip.Addr, error) {
	return k.sourceAddress(iface, ipv6, ipv6)
}

// UnicastAddress is PrimaryAddress for peers that may be behind a router: over IPv6 an
// address that is not link-local.
func (k *Kernel) UnicastAddress(iface string, ipv6 bool) (netip.Addr, error) {
	return k.sourceAddress(iface, ipv6, false)
}

func (k *Kernel) sourceAddress(iface string, ipv6, linkLocal bool) (netip.Addr, error) {
	i, err := k.Interface(iface)
	if err != nil {
		return netip.Addr{}, err
	}
	records, err := dumpAddresses(k.reads)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, r := range records {
		switch {
		case r.index != i.Index || r.ours() || r.ip.Is6() != ipv6 || r.ip.IsLoopback():
		case ipv6 && (r.ip.IsLinkLocalUnicast() != linkLocal || r.flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0):
		default:
			return r.ip.WithZone(""), nil
		}
	}
	switch {
	case ipv6 && !linkLocal:
		return netip.Addr{}, fmt.Errorf("interface %s has no IPv6 address of its own that is ready and not link-local", iface)
	case ipv6:
		return netip.Addr{}, fmt.Errorf("interface %s has no link-local address that is ready", iface)
	}
	return netip.Addr{}, fmt.Errorf("interface %s has no IPv4 address of its own", iface)
}
