package linux

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/mdlayher/socket"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// frameSize is more than any packet that we look at.
const frameSize = 2048

func nativeUint16(b [2]byte) uint16 { return binary.NativeEndian.Uint16(b[:]) }

// listener receives the frames of one protocol, on one interface or (index 0)
// on all. It is bound to the protocol, not to all of them, so that it costs
// other traffic nothing and does not see what this host sends.
type listener struct {
	conn *socket.Conn
	buf  [frameSize]byte
}

func listen(protocol uint16, index int, filter []bpf.Instruction) (*listener, error) {
	raw, err := bpf.Assemble(filter)
	if err != nil {
		return nil, fmt.Errorf("assemble packet filter: %w", err)
	}
	// No protocol until the filter is in place, or other packets would slip in.
	c, err := socket.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0, "packet", nil)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	if err := c.SetBPF(raw); err != nil {
		return nil, errors.Join(fmt.Errorf("set packet filter: %w", err), c.Close())
	}
	if err := c.Bind(&unix.SockaddrLinklayer{Protocol: be16(protocol), Ifindex: index}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind packet socket: %w", err), c.Close())
	}
	return &listener{conn: c}, nil
}

// receive returns the next frame, which is valid until the next call, and the
// index of its interface.
func (l *listener) receive() ([]byte, int, error) {
	for {
		n, from, err := l.conn.Recvfrom(context.Background(), l.buf[:], 0)
		switch {
		case errors.Is(err, unix.ENETDOWN):
			continue // reported once when the interface goes down; the socket lives on
		case err != nil:
			return nil, 0, err
		}
		if sa, ok := from.(*unix.SockaddrLinklayer); ok && sa.Pkttype != unix.PACKET_OUTGOING {
			return l.buf[:n], sa.Ifindex, nil
		}
	}
}

// interruptedBy makes reads fail with [os.ErrDeadlineExceeded] once ctx ends.
func interruptedBy(ctx context.Context, c *socket.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
}

func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// arpFilter passes ARP requests and replies for IPv4 on Ethernet.
func arpFilter() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 14, Size: 4}, // hardware and protocol type
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0x0001_0800, SkipTrue: 4},
		bpf.LoadAbsolute{Off: 20, Size: 2}, // operation
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: uint32(arpReply), SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1},
		bpf.RetConstant{Val: frameSize},
		bpf.RetConstant{Val: 0},
	}
}

// neighbourFilter passes neighbour advertisements, and solicitations that come
// from no address: duplicate address detection.
func neighbourFilter() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 20, Size: 1}, // next header
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nextHeaderICMPv6, SkipTrue: 12},
		bpf.LoadAbsolute{Off: 54, Size: 1}, // ICMPv6 type
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(advertisement), SkipTrue: 9},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(solicitation), SkipTrue: 9},
		bpf.LoadAbsolute{Off: 22, Size: 4}, // source address
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 7},
		bpf.LoadAbsolute{Off: 26, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 5},
		bpf.LoadAbsolute{Off: 30, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 3},
		bpf.LoadAbsolute{Off: 34, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 1},
		bpf.RetConstant{Val: frameSize},
		bpf.RetConstant{Val: 0},
	}
}

// sameMAC compares without allocating.
func sameMAC(a, b net.HardwareAddr) bool { return string(a) == string(b) }
