package linux

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/vipagent/fault"
	"holdfast/vipagent/vip"
)

// sendTimeout bounds how long one frame may wait for an interface that does not
// drain; the rest for that interface is then given up.
const sendTimeout = 20 * time.Millisecond

// openSender opens a packet socket that is bound to no protocol, so that it
// receives nothing. Its frames take the usual way out, past every filter on the
// interface: PACKET_QDISC_BYPASS must never be set, as it would go round a
// fence.
func openSender() (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open packet socket: %w", os.NewSyscallError("socket", err))
	}
	timeout := unix.NsecToTimeval(int64(sendTimeout))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("open packet socket: %w", os.NewSyscallError("setsockopt", err))
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, bufferBytes) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, bufferBytes)
	}
	return fd, nil
}

// Announce tells all neighbours that the VIPs are on this host now: for IPv4 a
// gratuitous ARP in the form of a request and one in the form of a reply, as
// some equipment looks at one of them only; for IPv6 an unsolicited
// advertisement with the override flag to all nodes. The caller repeats it:
// frames get lost. Interfaces without neighbours (loopback, tunnels) are passed
// over. The error is a [BatchError].
func (k *Kernel) Announce(addresses []vip.Address) error {
	failed := failures{verb: "announce"}
	ports := make(map[string]*port)
	var first, second []frame
	for _, a := range addresses {
		p, ok := ports[a.Interface]
		if !ok {
			p = k.port(a.Interface)
			ports[a.Interface] = p
		}
		ip := a.IP().Unmap().WithZone("")
		switch {
		case p.err != nil:
			failed.add(a, p.err)
		case p.silent:
		case ip.Is4():
			first = append(first, frame{a, p, gratuitousRequest(p.mac, ip).appendTo(nil)})
			second = append(second, frame{a, p, gratuitousReply(p.mac, ip).appendTo(nil)})
		default:
			first = append(first, frame{a, p, unsolicited(p.mac, ip, p.router).appendTo(nil)})
		}
	}
	// The second forms only after the last of the first: no address waits for
	// the repetition of another.
	for _, f := range append(first, second...) {
		if f.port.err == nil {
			fault.Point(fault.Announce)
			f.port.err = k.send(f)
		}
		if f.port.err != nil {
			failed.add(f.address, f.port.err)
		}
	}
	return failed.err()
}

// port is an interface to announce on.
type port struct {
	index  int
	mac    net.HardwareAddr
	router bool
	silent bool  // has no neighbours
	err    error // not found, or a frame did not get out
}

type frame struct {
	address vip.Address
	port    *port
	bytes   []byte
}

func (k *Kernel) port(name string) *port {
	i, err := k.Interface(name)
	if err != nil {
		return &port{err: err}
	}
	return &port{
		index: i.Index, mac: i.MAC, router: forwards(name),
		silent: i.Loopback || i.NoARP || len(i.MAC) != 6,
	}
}

// forwards reports whether the kernel is an IPv6 router on the interface.
func forwards(name string) bool {
	b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + name + "/forwarding")
	return err == nil && !bytes.HasPrefix(b, []byte("0"))
}

func (k *Kernel) send(f frame) error {
	sa := &unix.SockaddrLinklayer{
		Protocol: be16(uint16(f.bytes[12])<<8 | uint16(f.bytes[13])),
		Ifindex:  f.port.index,
	}
	err := ignoringEINTR(func() error { return unix.Sendto(k.sender, f.bytes, 0, sa) })
	switch {
	case errors.Is(err, unix.ENOBUFS):
		return &SwallowedError{os.NewSyscallError("sendto", err)}
	case errors.Is(err, unix.EAGAIN):
		return fmt.Errorf("interface does not drain: %w", os.NewSyscallError("sendto", err))
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%w: %w", ErrNoInterface, os.NewSyscallError("sendto", err))
	}
	return os.NewSyscallError("sendto", err)
}

// SwallowedError says that a frame was dropped on its way out of the host: by a
// program or a filter on the interface, or by a queue that is full.
type SwallowedError struct{ Err error }

func (e *SwallowedError) Error() string { return "dropped on the way out: " + e.Err.Error() }

// Unwrap returns the system call's error.
func (e *SwallowedError) Unwrap() error { return e.Err }

// Swallowed is how those know it who do not know this package.
func (e *SwallowedError) Swallowed() bool { return true }

// be16 returns the value whose memory is v in network byte order.
func be16(v uint16) uint16 {
	b := [2]byte{byte(v >> 8), byte(v)}
	return nativeUint16(b)
}
