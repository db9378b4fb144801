package lab

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Direction says which packets of a host a fault concerns.
type Direction int

// The two directions, seen from the host.
const (
	Outgoing Direction = iota
	Incoming
)

// String returns "outgoing" or "incoming".
func (d Direction) String() string {
	if d == Outgoing {
		return "outgoing"
	}
	return "incoming"
}

// States of a bridge port (linux/if_bridge.h).
const (
	portDisabled   = 0
	portForwarding = 3
)

// spot is a place where packets get lost: a port of the bridge, one direction,
// all packets or those of one sender.
type spot struct {
	port      int // interface index
	direction Direction
	sender    hardwareAddress // zero: everybody
}

type hardwareAddress [6]byte

// faults are the losses in force, in percent of the packets.
type faults struct {
	loss    map[spot]int
	present bool // the nftables table exists
}

// Lose drops the given percentage of the host's packets in one direction, by
// chance; 100 drops all, 0 ends the fault. The carrier stays.
func (n *Network) Lose(h *Host, d Direction, percent int) error {
	_, port := h.cable()
	err := n.setLosses(func(loss map[spot]int) {
		delete(loss, spot{port: port, direction: d})
		if percent > 0 {
			loss[spot{port: port, direction: d}] = percent
		}
	})
	if err != nil {
		return fmt.Errorf("lose %d%% of the %s packets of %s: %w", percent, d, h.Name, err)
	}
	return nil
}

// CutPair loses what two hosts send to each other, broadcasts included;
// everybody else hears both. Two of three hosts apart: what A hears of B and B
// of C says nothing about A and C.
func (n *Network) CutPair(a, b *Host) error {
	_, portA := a.cable()
	_, portB := b.cable()
	err := n.setLosses(func(loss map[spot]int) {
		loss[spot{portA, Incoming, hardwareAddress(b.MAC)}] = 100
		loss[spot{portB, Incoming, hardwareAddress(a.MAC)}] = 100
	})
	if err != nil {
		return fmt.Errorf("cut %s off from %s: %w", a.Name, b.Name, err)
	}
	return nil
}

// setLosses changes the losses in force, all or nothing.
func (n *Network) setLosses(change func(map[spot]int)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	next := maps.Clone(n.faults.loss)
	if next == nil {
		next = make(map[spot]int)
	}
	change(next)
	if maps.Equal(next, n.faults.loss) {
		return nil
	}
	if err := n.wires.do(func() error { return n.writeLosses(next) }); err != nil {
		return err
	}
	n.faults.loss = next
	return nil
}

// CutOut loses all packets that the host sends.
func (n *Network) CutOut(h *Host) error { return n.Lose(h, Outgoing, 100) }

// CutIn loses all packets that are sent to the host.
func (n *Network) CutIn(h *Host) error { return n.Lose(h, Incoming, 100) }

// Restore ends CutOut, CutIn, CutPair and Lose for the host.
func (n *Network) Restore(h *Host) error {
	_, port := h.cable()
	err := n.setLosses(func(loss map[spot]int) {
		maps.DeleteFunc(loss, func(s spot, _ int) bool { return s.port == port || s.sender == hardwareAddress(h.MAC) })
	})
	if err != nil {
		return fmt.Errorf("restore %s: %w", h.Name, err)
	}
	return nil
}

// Partition cuts the trunk: each segment is alone. Nobody's carrier changes.
func (n *Network) Partition() error { return n.setTrunk(portDisabled) }

// Heal joins the segments again.
func (n *Network) Heal() error { return n.setTrunk(portForwarding) }

// Repair ends every fault of the network and switches every host on.
func (n *Network) Repair() error {
	errs := []error{n.Heal()}
	for _, h := range n.Hosts {
		errs = append(errs, n.Restore(h))
		if h.IsOff() {
			errs = append(errs, h.PowerOn())
		}
		errs = append(errs, h.SetCarrier(true), n.Join(h))
	}
	return errors.Join(errs...)
}

func (n *Network) setTrunk(state byte) error {
	for _, end := range n.trunk {
		if err := n.setPort(end, state); err != nil {
			return fmt.Errorf("set trunk: %w", err)
		}
	}
	return nil
}

// Isolate cuts the host off from everybody, its own segment included, without
// a carrier event. Join ends it.
func (n *Network) Isolate(h *Host) error {
	_, port := h.cable()
	return n.setPort(port, portDisabled)
}

// Join ends Isolate.
func (n *Network) Join(h *Host) error {
	_, port := h.cable()
	return n.setPort(port, portForwarding)
}

// setPort sets a bridge port's state. The kernel looks at it for each packet,
// so the change takes effect at once; setting a link down takes milliseconds.
func (n *Network) setPort(index int, state byte) error {
	return n.wires.do(func() error {
		req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
		msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
		msg.Index = int32(index)
		req.AddData(msg)
		port := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
		port.AddRtAttr(nl.IFLA_BRPORT_STATE, []byte{state})
		req.AddData(port)
		if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
			return fmt.Errorf("set state of bridge port %d to %d: %w", index, state, err)
		}
		return nil
	})
}

// writeLosses replaces the nftables table in one transaction: one chain for
// each port and direction, on the netdev hooks of the host's bridge port. What the host sends
// comes in there, and what is sent to it goes out there.
func (n *Network) writeLosses(loss map[spot]int) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyNetdev, Name: "lab"}
	if n.faults.present {
		conn.DelTable(table)
	}
	spots := slices.SortedFunc(maps.Keys(loss), func(a, b spot) int {
		return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.direction, b.direction), bytes.Compare(a.sender[:], b.sender[:]))
	})
	if len(spots) > 0 {
		conn.AddTable(table)
	}
	chains := make(map[spot]*nftables.Chain)
	for _, s := range spots {
		link, err := n.wires.handle.LinkByIndex(s.port)
		if err != nil {
			return fmt.Errorf("find port %d: %w", s.port, err)
		}
		hook := spot{port: s.port, direction: s.direction}
		if chains[hook] == nil {
			chains[hook] = lossChain(conn, table, s, link)
		}
		conn.AddRule(&nftables.Rule{Table: table, Chain: chains[hook], Exprs: append(sentBy(s.sender), dropping(loss[s])...)})
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("write nftables: %w", err)
	}
	n.faults.present = len(spots) > 0
	return nil
}

func lossChain(conn *nftables.Conn, table *nftables.Table, s spot, link netlink.Link) *nftables.Chain {
	hook := nftables.ChainHookIngress
	if s.direction == Incoming {
		hook = nftables.ChainHookEgress
	}
	return conn.AddChain(&nftables.Chain{
		Name:     fmt.Sprintf("%s-%s", link.Attrs().Name, s.direction),
		Table:    table,
		Type:     nftables.ChainTypeFilter,
		Hooknum:  hook,
		Priority: nftables.ChainPriorityFilter,
		Device:   link.Attrs().Name,
	})
}

// sentBy returns the expressions of "ether saddr == sender"; none for everybody.
func sentBy(sender hardwareAddress) []expr.Any {
	if sender == (hardwareAddress{}) {
		return nil
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: sender[:]},
	}
}

// dropping returns the expressions of "numgen random mod 100 < percent drop".
func dropping(percent int) []expr.Any {
	drop := &expr.Verdict{Kind: expr.VerdictDrop}
	if percent >= 100 {
		return []expr.Any{drop}
	}
	return []expr.Any{
		&expr.Numgen{Register: 1, Modulus: 100, Type: unix.NFT_NG_RANDOM},
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4},
		&expr.Cmp{Op: expr.CmpOpLt, Register: 1, Data: binaryutil.BigEndian.PutUint32(uint32(percent))},
		drop,
	}
}
