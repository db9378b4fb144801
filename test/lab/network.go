package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Segment names one of the two bridged segments.
type Segment string

// The two segments of every network.
const (
	SegmentA Segment = "a"
	SegmentB Segment = "b"
)

// Layout says how many hosts and clients there are and on which segment each
// is. Host i is called "host<i+1>", client i "client<i+1>".
type Layout struct {
	Hosts   []Segment
	Clients []Segment
	Dir     string // where logs go; "" = a new temporary directory
}

// Standard is the layout of every measurement: host 1 alone on segment a with
// client 1, the other two hosts on segment b with client 2.
func Standard() Layout {
	return Layout{
		Hosts:   []Segment{SegmentA, SegmentB, SegmentB},
		Clients: []Segment{SegmentA, SegmentB},
	}
}

// Network is a running lab network. Its methods are safe for concurrent use.
type Network struct {
	Hosts   []*Host
	Clients []*Host
	Dir     string // logs

	disks  string     // directory of the hosts' disks, on the lab's tmpfs
	wires  *namespace // both bridges and the far ends of all links
	trunk  [2]int     // interface indexes of the trunk's two ends
	mu     sync.Mutex // guards the faults
	faults faults
}

// New builds the network. The caller must be inside [Enter], and must Close it.
func New(layout Layout) (*Network, error) {
	n := &Network{Dir: layout.Dir}
	if n.Dir == "" {
		dir, err := os.MkdirTemp("", "holdfast-lab-")
		if err != nil {
			return nil, fmt.Errorf("make log directory: %w", err)
		}
		n.Dir = dir
	}
	if err := os.MkdirAll(n.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	err := os.MkdirAll(root, 0o755)
	if err != nil {
		return nil, fmt.Errorf("make disks: %w", err)
	}
	if n.disks, err = os.MkdirTemp(root, "disk-"); err != nil {
		return nil, fmt.Errorf("make disks: %w", err)
	}
	if n.wires, err = newNamespace("wires"); err != nil {
		return nil, err
	}
	if err := n.build(layout); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Network) build(layout Layout) error {
	for _, s := range []Segment{SegmentA, SegmentB} {
		if err := n.addBridge(bridgeName(s)); err != nil {
			return err
		}
	}
	if err := n.addTrunk(); err != nil {
		return err
	}
	for i, s := range layout.Hosts {
		h, err := n.addHost(fmt.Sprintf("host%d", i+1), s, 10+i+1)
		if err != nil {
			return err
		}
		n.Hosts = append(n.Hosts, h)
	}
	for i, s := range layout.Clients {
		c, err := n.addHost(fmt.Sprintf("client%d", i+1), s, 100+i+1)
		if err != nil {
			return err
		}
		n.Clients = append(n.Clients, c)
	}
	for _, h := range n.all() {
		if err := h.waitLink(); err != nil {
			return err
		}
	}
	return errors.Join(waitUp(n.wires, n.trunk[0]), waitUp(n.wires, n.trunk[1]))
}

// waitLink waits until packets pass both ends of the host's cable.
func (h *Host) waitLink() error {
	link, port := h.cable()
	if err := errors.Join(waitUp(h.ns, link.Attrs().Index), waitUp(h.network.wires, port)); err != nil {
		return fmt.Errorf("link of %s: %w", h.Name, err)
	}
	return nil
}

// waitUp waits until the kernel has noticed an interface's carrier, which it
// does in the background: until then the interface drops what it should send.
func waitUp(ns *namespace, index int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return Poll(ctx, time.Millisecond, func() error {
		link, err := ns.handle.LinkByIndex(index)
		if err != nil {
			return fmt.Errorf("find interface %d: %w", index, err)
		}
		if state := link.Attrs().OperState; state != netlink.OperUp {
			return fmt.Errorf("%s is %s", link.Attrs().Name, state)
		}
		return nil
	})
}

func bridgeName(s Segment) string { return "br-" + string(s) }

func (n *Network) addBridge(name string) error {
	off := false // snooping would hold neighbour solicitations back until a querier is heard
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	bridge := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}
	if err := n.wires.handle.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add bridge %s: %w", name, err)
	}
	if err := n.wires.handle.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

// addTrunk joins the bridges by a veth pair.
func (n *Network) addTrunk() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "trunk-a"
	if err := n.wires.handle.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "trunk-b"}); err != nil {
		return fmt.Errorf("add trunk: %w", err)
	}
	for i, s := range []Segment{SegmentA, SegmentB} {
		index, err := n.plug("trunk-"+string(s), s)
		if err != nil {
			return err
		}
		n.trunk[i] = index
	}
	return nil
}

// plug makes the link a port of the segment's bridge, sets it up and returns
// its interface index.
func (n *Network) plug(name string, s Segment) (int, error) {
	link, err := n.wires.handle.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", name, err)
	}
	bridge, err := n.wires.handle.LinkByName(bridgeName(s))
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", bridgeName(s), err)
	}
	if err := n.wires.handle.LinkSetMaster(link, bridge); err != nil {
		return 0, fmt.Errorf("plug %s into %s: %w", name, bridgeName(s), err)
	}
	if err := n.wires.handle.LinkSetUp(link); err != nil {
		return 0, fmt.Errorf("set %s up: %w", name, err)
	}
	return link.Attrs().Index, nil
}

// addHost makes a host with the given last number in its addresses.
func (n *Network) addHost(name string, s Segment, number int) (*Host, error) {
	ns, err := newNamespace(name)
	if err != nil {
		return nil, err
	}
	h := &Host{
		Name:    name,
		Segment: s,
		IPv4:    netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, 0, byte(number)}), 16),
		IPv6:    netip.PrefixFrom(netip.MustParseAddr(fmt.Sprintf("fd77::%x", number)), 64),
		MAC:     net.HardwareAddr{0x02, 0x77, 0, 0, 0, byte(number)},
		Disk:    filepath.Join(n.disks, name),
		network: n,
		ns:      ns,
		power:   []Off{},
	}
	if err := os.MkdirAll(h.Disk, 0o755); err != nil {
		return nil, fmt.Errorf("make disk of %s: %w", name, err)
	}
	return h, h.plugIn()
}

// plugIn makes the host's cable: a pair of interfaces, one in the host and one
// in the bridge of its segment.
func (h *Host) plugIn() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = h.Name
	veth := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         Interface,
		PeerHardwareAddr: h.MAC,
		PeerNamespace:    netlink.NsFd(int(h.ns.netFile.Fd())),
	}
	if err := h.network.wires.handle.LinkAdd(veth); err != nil {
		return fmt.Errorf("add link of %s: %w", h.Name, err)
	}
	port, err := h.network.plug(h.Name, h.Segment)
	if err != nil {
		return err
	}
	link, err := h.ns.handle.LinkByName(Interface)
	if err != nil {
		return fmt.Errorf("find %s of %s: %w", Interface, h.Name, err)
	}
	h.mu.Lock()
	h.link, h.port = link, port
	h.mu.Unlock()
	return h.connect()
}

// Replug deletes the host's interface and makes it again under its name, with
// its own addresses and nothing else, as a driver's reload would. Losses that
// were in force for the host end.
func (h *Host) Replug() error {
	if err := h.network.Restore(h); err != nil {
		return err
	}
	link, _ := h.cable()
	if err := h.ns.handle.LinkDel(link); err != nil {
		return fmt.Errorf("delete %s of %s: %w", Interface, h.Name, err)
	}
	return errors.Join(h.plugIn(), h.waitLink())
}

// connect sets the host's interface up and gives it its own addresses.
func (h *Host) connect() error {
	link, _ := h.cable()
	if err := h.ns.handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("set link of %s up: %w", h.Name, err)
	}
	for _, p := range []netip.Prefix{h.IPv4, h.IPv6} {
		address := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			address.Flags = unix.IFA_F_NODAD
		}
		if err := h.ns.handle.AddrReplace(link, address); err != nil {
			return fmt.Errorf("give %s to %s: %w", p, h.Name, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Host returns the host or client with that name, or nil.
func (n *Network) Host(name string) *Host {
	for _, h := range n.all() {
		if h.Name == name {
			return h
		}
	}
	return nil
}

func (n *Network) all() []*Host {
	return append(append([]*Host{}, n.Hosts...), n.Clients...)
}

// Close kills every process that was started in the network and takes the
// network down. Logs stay.
func (n *Network) Close() error {
	var errs []error
	for _, h := range n.all() {
		errs = append(errs, h.killAll())
	}
	for _, h := range n.all() {
		h.ns.close()
	}
	n.wires.close()
	return errors.Join(append(errs, os.RemoveAll(n.disks))...)
}
