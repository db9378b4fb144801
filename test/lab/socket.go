package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The measuring sockets are plain file descriptors read by threads of their
// own: the kernel stamps each packet on arrival, and a late reader cannot
// change the stamp.

// stopEvery bounds how long a blocked read goes on after the end was asked for.
const stopEvery = 200 * time.Millisecond

// datagram is one received packet.
type datagram struct {
	data []byte
	from netip.AddrPort
	to   netip.Addr // local address it was sent to; only when packet info is on
	at   Time       // when the kernel took it from the wire
}

// openUDP opens a UDP socket on the wildcard address of the calling thread's
// namespace, with arrival stamps and packet info.
func openUDP(family, port int) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open UDP socket: %w", err)
	}
	var local unix.Sockaddr = &unix.SockaddrInet4{Port: port}
	info := func() error { return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1) }
	if family == unix.AF_INET6 {
		local = &unix.SockaddrInet6{Port: port}
		info = func() error {
			return errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1),
				unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1))
		}
	}
	if err := errors.Join(info(), prepare(fd)); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("set up UDP socket: %w", err)
	}
	if err := unix.Bind(fd, local); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("bind UDP port %d: %w", port, err)
	}
	return fd, nil
}

// prepare turns arrival stamps on, bounds blocking reads and enlarges the
// receive buffer.
func prepare(fd int) error {
	limit := unix.NsecToTimeval(int64(stopEvery))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return fmt.Errorf("bound reads: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return fmt.Errorf("turn stamps on: %w", err)
	}
	return growBuffer(fd, 4<<20)
}

// growBuffer enlarges the receive buffer, beyond the system's limit if allowed.
func growBuffer(fd, size int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) == nil {
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size); err != nil {
		return fmt.Errorf("enlarge receive buffer: %w", err)
	}
	return nil
}

// receiver reads packets and turns arrival stamps into boot time.
type receiver struct {
	fd       int
	buf, oob []byte
	offset   time.Duration // realtime -> boottime
	checked  Time          // when offset was read
}

func newReceiver(fd int) *receiver {
	return &receiver{fd: fd, buf: make([]byte, 2048), oob: make([]byte, 256)}
}

// next returns the next packet, or ok = false when none came within
// [stopEvery]. The data is valid until the next call.
func (r *receiver) next() (d datagram, from unix.Sockaddr, ok bool, err error) {
	n, oobn, _, from, err := unix.Recvmsg(r.fd, r.buf, r.oob, 0)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN):
		return datagram{}, nil, false, nil
	case err != nil:
		return datagram{}, nil, false, fmt.Errorf("receive: %w", err)
	}
	now := Now()
	if now.Sub(r.checked) > 100*time.Millisecond {
		r.offset, r.checked = realtimeOffset(), now
	}
	d = datagram{data: r.buf[:n], at: now, from: addrPort(from)}
	messages, err := unix.ParseSocketControlMessage(r.oob[:oobn])
	if err != nil {
		return datagram{}, nil, false, fmt.Errorf("parse control message: %w", err)
	}
	for _, m := range messages {
		r.control(&d, m)
	}
	return d, from, true, nil
}

func (r *receiver) control(d *datagram, m unix.SocketControlMessage) {
	switch {
	case m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16:
		wall := int64(binary.NativeEndian.Uint64(m.Data))*int64(time.Second) + int64(binary.NativeEndian.Uint64(m.Data[8:]))
		d.at = Time(wall).Add(r.offset)
	case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
		d.to = netip.AddrFrom4([4]byte(m.Data[8:12])) // ipi_addr
	case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
		d.to = netip.AddrFrom16([16]byte(m.Data[:16]))
	}
}

// sourceControl returns the control message that makes a reply leave from the
// given local address.
func sourceControl(a netip.Addr) []byte {
	level, kind, size := unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo
	if a.Is6() {
		level, kind, size = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo
	}
	b := make([]byte, unix.CmsgSpace(size))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = int32(level), int32(kind)
	h.SetLen(unix.CmsgLen(size))
	data := b[unix.CmsgLen(0):]
	if a.Is6() {
		copy(data[:16], a.AsSlice())
	} else {
		copy(data[4:8], a.AsSlice()) // ipi_spec_dst
	}
	return b
}

func addrPort(s unix.Sockaddr) netip.AddrPort {
	switch s := s.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(s.Addr), uint16(s.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(s.Addr), uint16(s.Port))
	}
	return netip.AddrPort{}
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// preferThread asks for a better place in the scheduler for a measuring
// thread. Without the right to it the lab measures with what it has.
func preferThread() { _ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20) }
