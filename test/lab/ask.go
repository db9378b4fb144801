package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Asker asks a client's neighbours for addresses, by ARP and by neighbour
// solicitation, at fixed points of time. A kernel asks only when it does not
// know; what somebody answers who is asked all the time shows at which moment
// he stops.
type Asker struct {
	fd    int
	index int
	stop  atomic.Bool
	group errgroup.Group
}

// Ask begins to ask for the addresses from this host, each of them every so
// often. The caller must Close the asker.
func (h *Host) Ask(every time.Duration, addresses ...netip.Addr) (*Asker, error) {
	link, _ := h.cable()
	a := &Asker{fd: -1, index: link.Attrs().Index}
	err := h.ns.do(func() (err error) {
		a.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open asker on %s: %w", h.Name, err)
	}
	var frames [][]byte
	for _, address := range addresses {
		if address.Is4() {
			frames = append(frames, h.arpRequest(address))
		} else {
			frames = append(frames, h.solicitation(address))
		}
	}
	a.group.Go(func() error { return a.run(every, frames) })
	return a, nil
}

func (a *Asker) run(every time.Duration, frames [][]byte) error {
	runtime.LockOSThread()
	preferThread()
	to := &unix.SockaddrLinklayer{Ifindex: a.index, Halen: 6}
	for next := Now().Add(every); !a.stop.Load(); next = next.Add(every) {
		sleepUntil(next)
		for _, f := range frames {
			// A full queue or a link that is down is a question that is not asked.
			if err := unix.Sendto(a.fd, f, unix.MSG_DONTWAIT, to); err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.ENOBUFS) {
				return fmt.Errorf("ask: %w", err)
			}
		}
		for Now().Sub(next) > every {
			next = next.Add(every)
		}
	}
	return nil
}

// Close ends the asking.
func (a *Asker) Close() error {
	a.stop.Store(true)
	return errors.Join(a.group.Wait(), unix.Close(a.fd))
}

// arpRequest asks everybody who has an address.
func (h *Host) arpRequest(address netip.Addr) []byte {
	f := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	f = append(f, h.MAC...)
	f = append(f, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	f = append(append(f, h.MAC...), h.IPv4.Addr().AsSlice()...)
	return append(append(f, 0, 0, 0, 0, 0, 0), address.AsSlice()...)
}

// solicitation asks the solicited-node group of an address for it.
func (h *Host) solicitation(address netip.Addr) []byte {
	target := address.As16()
	group := netip.MustParseAddr("ff02::1:ff00:0").As16()
	copy(group[13:], target[13:])
	ns := []byte{135, 0, 0, 0, 0, 0, 0, 0}
	ns = append(append(ns, target[:]...), 1, 1) // source link-layer address
	ns = append(ns, h.MAC...)
	source := h.IPv6.Addr().As16()
	binary.BigEndian.PutUint16(ns[2:], checksum(source[:], group[:], ns))
	f := []byte{0x33, 0x33, group[12], group[13], group[14], group[15]}
	f = append(append(f, h.MAC...), 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(ns)), unix.IPPROTO_ICMPV6, 255)
	return append(append(append(f, source[:]...), group[:]...), ns...)
}

// checksum is that of an ICMPv6 message with its pseudo header.
func checksum(source, to, message []byte) uint16 {
	sum := uint32(len(message)) + unix.IPPROTO_ICMPV6
	for _, part := range [][]byte{source, to, message} {
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
