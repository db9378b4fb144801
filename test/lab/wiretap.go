package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/net/bpf"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Frame is an Ethernet frame that a host sent.
type Frame struct {
	At   Time
	Host string
	Data []byte
}

// Wiretap hears VRRP, ARP and neighbour advertisements at the far end of every
// host's cable. So each frame has a sender, whatever its source address says: a
// virtual MAC address is that of several hosts.
type Wiretap struct {
	network *Network
	fd      int
	hosts   map[int]string // interface index of the far end -> host
	stop    atomic.Bool
	group   errgroup.Group

	mu     sync.Mutex
	frames []Frame
}

// StartWiretap begins to listen. The caller must Close the wiretap. A host that
// is replugged is not heard any more.
func (n *Network) StartWiretap() (*Wiretap, error) {
	w := &Wiretap{network: n, fd: -1, hosts: make(map[int]string)}
	for _, h := range n.Hosts {
		_, port := h.cable()
		w.hosts[port] = h.Name
	}
	program, err := speakersOnly()
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	err = n.wires.do(func() (err error) {
		w.fd, err = openPacket(program)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open wiretap: %w", err), closeAll([]int{w.fd}))
	}
	w.group.Go(w.run)
	return w, nil
}

// openPacket opens a packet socket that hears all interfaces of the calling
// thread's namespace through a filter.
func openPacket(program []bpf.RawInstruction) (int, error) {
	// Protocol 0 receives nothing until the filter is in place.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open packet socket: %w", err)
	}
	if err := errors.Join(attachFilter(fd, program), prepare(fd)); err != nil {
		return fd, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everyProtocol()})
}

// speakersOnly is the filter: what comes in, of VRRP, ARP and neighbour
// advertisements.
func speakersOnly() ([]bpf.RawInstruction, error) {
	load := func(offset uint32, size int) bpf.Instruction { return bpf.LoadAbsolute{Off: offset, Size: size} }
	unlike := func(v uint32, skip uint8) bpf.Instruction {
		return bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: v, SkipTrue: skip}
	}
	accept, reject := bpf.RetConstant{Val: 1 << 16}, bpf.RetConstant{Val: 0}
	return bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType}, unlike(unix.PACKET_OUTGOING, 1), reject,
		load(etherType, 2),
		unlike(unix.ETH_P_ARP, 1), accept,
		unlike(unix.ETH_P_IP, 4), load(ipv4Next, 1), unlike(vrrpNext, 1), accept, reject,
		unlike(unix.ETH_P_IPV6, 6), load(ipv6Next, 1), unlike(vrrpNext, 1), accept,
		unlike(unix.IPPROTO_ICMPV6, 2), load(icmpOffset, 1), bpf.JumpIf{Cond: bpf.JumpEqual, Val: naType, SkipTrue: 1},
		reject,
		accept,
	})
}

func (w *Wiretap) run() error {
	preferThread()
	r := newReceiver(w.fd)
	for !w.stop.Load() {
		d, from, ok, err := r.next()
		if err != nil {
			return fmt.Errorf("listen to the wires: %w", err)
		}
		link, isLink := from.(*unix.SockaddrLinklayer)
		if !ok || !isLink {
			continue
		}
		host, known := w.hosts[link.Ifindex]
		if !known {
			continue // a bridge, the trunk, a client
		}
		w.mu.Lock()
		w.frames = append(w.frames, Frame{d.at, host, append([]byte(nil), d.data...)})
		w.mu.Unlock()
	}
	return nil
}

// Frames returns what was heard between two times, in its order, but for what a
// host sent while it was off: for a moment its processes still live.
func (w *Wiretap) Frames(from, to Time) []Frame {
	var offs []Off
	for _, h := range w.network.Hosts {
		offs = append(offs, h.powerCuts()...)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []Frame
	for _, f := range w.frames {
		if from <= f.At && f.At <= to && !offAt(offs, f.Host, f.At) {
			list = append(list, f)
		}
	}
	return list
}

// Adverts returns the VRRP advertisements that were heard between two times.
func (w *Wiretap) Adverts(from, to Time) []Advert {
	var list []Advert
	for _, f := range w.Frames(from, to) {
		if a, ok := ParseAdvert(f); ok {
			list = append(list, a)
		}
	}
	return list
}

// Close ends the listening. After an error the record is not complete.
func (w *Wiretap) Close() error {
	w.stop.Store(true)
	return errors.Join(w.group.Wait(), closeAll([]int{w.fd}))
}

// WritePcap writes frames as a capture file that tcpdump and tshark read. Its
// times are those of the lab's clock.
func WritePcap(to io.Writer, frames []Frame) error {
	const magic, major, minor, ethernet = 0xa1b23c4d, 2, 4, 1 // times in nanoseconds
	head := binary.LittleEndian.AppendUint32(nil, magic)
	head = binary.LittleEndian.AppendUint16(head, major)
	head = binary.LittleEndian.AppendUint16(head, minor)
	head = binary.LittleEndian.AppendUint64(head, 0) // time zone, accuracy
	head = binary.LittleEndian.AppendUint32(head, 1<<16)
	head = binary.LittleEndian.AppendUint32(head, ethernet)
	if _, err := to.Write(head); err != nil {
		return fmt.Errorf("write capture: %w", err)
	}
	for _, f := range frames {
		b := binary.LittleEndian.AppendUint32(nil, uint32(f.At/1e9))
		b = binary.LittleEndian.AppendUint32(b, uint32(f.At%1e9))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Data)))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Data)))
		if _, err := to.Write(append(b, f.Data...)); err != nil {
			return fmt.Errorf("write capture: %w", err)
		}
	}
	return nil
}
