package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// tap hears from which hardware addresses echo replies, ARP and neighbour
// advertisements come. It sends nothing: an ARP request of its own would mend this
// host's neighbour table, and the loss that a client has whose table is wrong would
// not be seen.
type tap struct {
	file *os.File
	raw  syscall.RawConn
}

// openTap needs CAP_NET_RAW.
func openTap() (*tap, error) {
	// Protocol 0: nothing comes in before the filter is there.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	filter, err := tapFilter()
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err = errors.Join(
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL)}),
	)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind packet socket: %w", err)
	}
	file := os.NewFile(uintptr(fd), "packet socket")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("poll packet socket: %w", err)
	}
	return &tap{file, raw}, nil
}

// tapFilter lets ARP, ICMP and ICMPv6 pass that others sent. Offsets count from the
// network header.
func tapFilter() ([]unix.SockFilter, error) {
	const accept, outgoing = 1 << 16, 4
	assembled, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: outgoing, SkipTrue: 8},
		bpf.LoadExtension{Num: bpf.ExtProto},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_ARP, SkipTrue: 7},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_IPV6, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 4},
		bpf.LoadAbsolute{Off: 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_ICMP, SkipTrue: 3, SkipFalse: 2},
		bpf.LoadAbsolute{Off: 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: accept},
	})
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	filter := make([]unix.SockFilter, len(assembled))
	for i, r := range assembled {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return filter, nil
}

func bigEndian(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// read waits for a packet; the error is that of a closed tap.
func (t *tap) read(b []byte) (n int, from *unix.SockaddrLinklayer, err error) {
	var sender unix.Sockaddr
	var failed error
	err = t.raw.Read(func(fd uintptr) bool {
		n, sender, failed = unix.Recvfrom(int(fd), b, 0)
		return !errors.Is(failed, unix.EAGAIN) && !errors.Is(failed, unix.EINTR)
	})
	if err != nil {
		return 0, nil, err
	}
	from, _ = sender.(*unix.SockaddrLinklayer)
	if failed != nil || from == nil {
		return 0, nil, nil // such as an interface that went down
	}
	return n, from, nil
}

// sighting is what a packet says of who has an address.
type sighting struct {
	address netip.Addr
	mac     string
	claim   bool // ARP or neighbour advertisement, not an answer
}

// sight reads a packet from its network header on; protocol is its EtherType, source
// the hardware address that the frame came from.
func sight(protocol uint16, source, b []byte) (sighting, bool) {
	switch protocol {
	case unix.ETH_P_ARP:
		return sightARP(b)
	case unix.ETH_P_IP:
		return sightEcho(source, b)
	case unix.ETH_P_IPV6:
		return sightICMPv6(source, b)
	}
	return sighting{}, false
}

// sightARP takes the sender of a request or reply (RFC 826, Ethernet and IPv4): who
// sends from an address says that he has it.
func sightARP(b []byte) (sighting, bool) {
	const size = 28
	if len(b) < size || [6]byte(b[:6]) != [6]byte{0, 1, 8, 0, 6, 4} {
		return sighting{}, false
	}
	return sighting{netip.AddrFrom4([4]byte(b[14:18])), net.HardwareAddr(b[8:14]).String(), true}, true
}

// sightEcho takes the source of an echo reply (RFC 792).
func sightEcho(source, b []byte) (sighting, bool) {
	const least, reply, offset = 20, 0, 0x1fff
	if len(b) < least || b[0]>>4 != 4 || b[9] != unix.IPPROTO_ICMP || binary.BigEndian.Uint16(b[6:])&offset != 0 {
		return sighting{}, false
	}
	header := int(b[0]&0xf) * 4
	if header < least || len(b) <= header || b[header] != reply {
		return sighting{}, false
	}
	return sighting{netip.AddrFrom4([4]byte(b[12:16])), net.HardwareAddr(source).String(), false}, true
}

// sightICMPv6 takes the source of an echo reply (RFC 4443), or the target of a
// neighbour advertisement with its link-layer address (RFC 4861 4.4).
func sightICMPv6(source, b []byte) (sighting, bool) {
	const header, reply, advertisement, fixed = 40, 129, 136, 24
	if len(b) <= header || b[0]>>4 != 6 || b[6] != unix.IPPROTO_ICMPV6 {
		return sighting{}, false
	}
	switch message := b[header:]; {
	case message[0] == reply:
		return sighting{netip.AddrFrom16([16]byte(b[8:24])), net.HardwareAddr(source).String(), false}, true
	case message[0] == advertisement && len(message) >= fixed && b[7] == 255:
		mac := source
		if o := message[fixed:]; len(o) >= 8 && o[0] == 2 && o[1] == 1 {
			mac = o[2:8]
		}
		return sighting{netip.AddrFrom16([16]byte(message[8:24])), net.HardwareAddr(mac).String(), true}, true
	}
	return sighting{}, false
}
