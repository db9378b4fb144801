package lab

import (
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

// spot is a place where packets get lost: a port of the bridge, one direction.
type spot struct {
	port      int // interface index
	direction Direction
}

// faults are the losses in force, in percent of the packets.
type faults struct {
	loss    map[spot]int
	present bool // the nftables table exists
}

// Lose drops the given percentage of the host's packets in one direction, by
// chance; 100 drops all, 0 ends the fault. The carrier stays.
func (n *Network) Lose(h *Host, d Direction, percent int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	next := maps.Clone(n.faults.loss)
	if next == nil {
		next = make(map[spot]int)
	}
	delete(next, spot{h.port, d})
	if percent > 0 {
		next[spot{h.port, d}] = percent
	}
	if err := n.wires.do(func() error { return n.writeLosses(next) }); err != nil {
		return fmt.Errorf("lose %d%% of the %s packets of %s: %w", percent, d, h.Name, err)
	}
	n.faults.loss = next
	return nil
}

// CutOut loses all packets that the host sends.
func (n *Network) CutOut(h *Host) error { return n.Lose(h, Outgoing, 100) }

// CutIn loses all packets that are sent to the host.
func (n *Network) CutIn(h *Host) error { return n.Lose(h, Incoming, 100) }

// Restore ends CutOut, CutIn and Lose for the host.
func (n *Network) Restore(h *Host) error {
	if err := n.Lose(h, Outgoing, 0); err != nil {
		return err
	}
	return n.Lose(h, Incoming, 0)
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
		errs = append(errs, n.Join(h))
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
func (n *Network) Isolate(h *Host) error { return n.setPort(h.port, portDisabled) }

// Join ends Isolate.
func (n *Network) Join(h *Host) error { return n.setPort(h.port, portForwarding) }

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
// each spot, on the netdev hooks of the host's bridge port. What the host sends
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
		return (a.port-b.port)*2 + int(a.direction-b.direction)
	})
	if len(spots) > 0 {
		conn.AddTable(table)
	}
	for _, s := range spots {
		link, err := n.wires.handle.LinkByIndex(s.port)
		if err != nil {
			return fmt.Errorf("find port %d: %w", s.port, err)
		}
		conn.AddRule(&nftables.Rule{Table: table, Chain: lossChain(conn, table, s, link), Exprs: dropping(loss[s])})
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
