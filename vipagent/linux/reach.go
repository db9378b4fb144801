package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// askEvery is how long one question waits for its answer.
const askEvery = 200 * time.Millisecond

// Reachable asks on the interface by ARP or neighbour solicitation who has addr,
// five times a second, and returns nil at the first answer. When ctx ends first,
// the error is [ErrUnreachable] and says for how long it asked; give ctx a
// deadline. The kernel's own neighbour table is neither used nor changed, so
// that a stale entry cannot hide a dead gateway.
func Reachable(ctx context.Context, iface string, addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	ifi, err := net.InterfaceByName(iface)
	if err != nil {
		return fmt.Errorf("reach %s: interface %s: %w: %w", addr, iface, ErrNoInterface, err)
	}
	if len(ifi.HardwareAddr) != 6 {
		return fmt.Errorf("reach %s: interface %s has no neighbours", addr, iface)
	}
	q, err := newQuestion(ifi, addr)
	if err != nil {
		return fmt.Errorf("reach %s on %s: %w", addr, iface, err)
	}
	start := time.Now()
	err = q.ask(ctx, ifi.Index)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("reach %s on %s: %w in %v", addr, iface, ErrUnreachable, time.Since(start).Round(time.Millisecond))
	}
	if err != nil {
		return fmt.Errorf("reach %s on %s: %w", addr, iface, err)
	}
	return nil
}

// question is what to send and how to know the answer.
type question struct {
	protocol uint16
	frame    []byte
	filter   []bpf.Instruction
	answers  func(frame []byte) bool
}

func newQuestion(ifi *net.Interface, addr netip.Addr) (question, error) {
	addresses, err := ifi.Addrs()
	if err != nil {
		return question{}, fmt.Errorf("read its addresses: %w", err)
	}
	var own []netip.Prefix
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, p)
		}
	}
	if addr.Is4() {
		return arpQuestion(ifi.HardwareAddr, own, addr), nil
	}
	return neighbourQuestion(ifi.HardwareAddr, own, addr)
}

// arpQuestion asks from the interface's own address in that subnet. Without one
// it asks as a probe, from no address: not from another, which would leave a
// wrong entry with the neighbours, and not from a VIP.
func arpQuestion(mac net.HardwareAddr, own []netip.Prefix, addr netip.Addr) question {
	source := netip.IPv4Unspecified()
	for _, p := range own {
		if !p.IsSingleIP() && p.Contains(addr) {
			source = p.Addr()
			break
		}
	}
	packet := arpPacket{
		Destination: broadcastMAC, Source: mac, Operation: arpRequest,
		SenderMAC: mac, SenderIP: source, TargetMAC: unknownMAC, TargetIP: addr,
	}
	return question{
		protocol: etherARP, frame: packet.appendTo(nil), filter: arpFilter(),
		answers: func(b []byte) bool {
			p, err := parseARP(b)
			return err == nil && p.SenderIP == addr && !sameMAC(p.SenderMAC, mac)
		},
	}
}

// neighbourQuestion asks from the interface's link-local address, or from its
// own address in that subnet if it has none.
func neighbourQuestion(mac net.HardwareAddr, own []netip.Prefix, addr netip.Addr) (question, error) {
	source := netip.Addr{}
	for _, p := range own {
		switch {
		case !p.Addr().Is6() || p.IsSingleIP():
		case p.Addr().IsLinkLocalUnicast():
			source = p.Addr()
		case !source.IsValid() && p.Contains(addr):
			source = p.Addr()
		}
	}
	if !source.IsValid() {
		return question{}, errors.New("it has no IPv6 address of its own to ask from")
	}
	group := solicitedNode(addr)
	packet := neighbourPacket{
		DestinationMAC: multicastMAC(group), SourceMAC: mac, Source: source, Destination: group,
		Type: solicitation, Target: addr, MAC: mac,
	}
	return question{
		protocol: etherIPv6, frame: packet.appendTo(nil), filter: neighbourFilter(),
		answers: func(b []byte) bool {
			p, err := parseNeighbour(b)
			return err == nil && p.Type == advertisement && p.Target == addr
		},
	}, nil
}

func (q question) ask(ctx context.Context, index int) error {
	l, err := listen(q.protocol, index, q.filter)
	if err != nil {
		return err
	}
	defer l.conn.Close()
	defer interruptedBy(ctx, l.conn)()
	to := &unix.SockaddrLinklayer{Protocol: be16(q.protocol), Ifindex: index}
	for {
		if err := l.conn.Sendto(ctx, q.frame, 0, to); err != nil {
			return fmt.Errorf("ask: %w", err)
		}
		if err := l.conn.SetReadDeadline(time.Now().Add(askEvery)); err != nil {
			return err
		}
		if ctx.Err() != nil { // it may have ended before the deadline was moved
			return ctx.Err()
		}
		for {
			b, _, err := l.receive()
			if timedOut(err) {
				break
			}
			if err != nil {
				return fmt.Errorf("wait for the answer: %w", err)
			}
			if q.answers(b) {
				return nil
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}
