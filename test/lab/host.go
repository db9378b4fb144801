package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Interface is the name of every host's network interface.
const Interface = "eth0"

// Host is a machine of the network, a client too. Its methods are safe for
// concurrent use.
type Host struct {
	Name    string
	Segment Segment
	IPv4    netip.Prefix
	IPv6    netip.Prefix
	MAC     net.HardwareAddr
	Disk    string // a directory that outlives PowerOff; /run/holdfast does not

	network *Network
	ns      *namespace

	mu        sync.Mutex   // guards what follows
	link      netlink.Link // eth0
	port      int          // interface index of its port of the bridge
	processes []*Process
	power     []Off
}

// cable returns the two ends of the host's cable: its interface, and the index
// of its port of the bridge. Replug changes both.
func (h *Host) cable() (netlink.Link, int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.link, h.port
}

// Off is a stretch of time in which a host was switched off.
type Off struct {
	Host string
	From Time
	To   Time // 0: still off
}

// OutsideID returns the number by which the caller's PID namespace knows the
// host's thread: `nsenter --target <id>` reaches the host's namespaces. It is
// "" when the outer /proc could not be read.
func (h *Host) OutsideID() string { return h.ns.outside }

// InNamespace runs fn on a thread of the host's network and mount namespaces.
// Sockets that fn opens stay there. fn must be short.
func (h *Host) InNamespace(fn func() error) error { return h.ns.do(fn) }

// Netlink returns a handle whose requests act inside the host.
func (h *Host) Netlink() *netlink.Handle { return h.ns.handle }

// AddAddress adds an address to the host's interface, as somebody with a shell
// would.
func (h *Host) AddAddress(p netip.Prefix) error {
	link, _ := h.cable()
	if err := h.ns.handle.AddrReplace(link, &netlink.Addr{IPNet: ipNet(p), Flags: nodad(p)}); err != nil {
		return fmt.Errorf("add %s on %s: %w", p, h.Name, err)
	}
	return nil
}

// RemoveAddress deletes an address from the host's interface, whatever its
// prefix length.
func (h *Host) RemoveAddress(a netip.Addr) error {
	link, _ := h.cable()
	addresses, err := h.ns.handle.AddrList(link, family(a))
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", h.Name, err)
	}
	for _, found := range addresses {
		if ip, ok := netip.AddrFromSlice(found.IP); ok && ip.Unmap() == a {
			if err := h.ns.handle.AddrDel(link, &found); err != nil {
				return fmt.Errorf("delete %s on %s: %w", a, h.Name, err)
			}
			return nil
		}
	}
	return fmt.Errorf("delete %s on %s: it is not there", a, h.Name)
}

// Addresses lists the addresses of the host's interface, its own included.
func (h *Host) Addresses() ([]netip.Prefix, error) {
	link, _ := h.cable()
	addresses, err := h.ns.handle.AddrList(link, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", h.Name, err)
	}
	var prefixes []netip.Prefix
	for _, a := range addresses {
		ip, _ := netip.AddrFromSlice(a.IP)
		bits, _ := a.Mask.Size()
		prefixes = append(prefixes, netip.PrefixFrom(ip.Unmap(), bits))
	}
	return prefixes, nil
}

// SetLink sets the host's own interface up or down, as `ip link` would.
func (h *Host) SetLink(up bool) error {
	set := h.ns.handle.LinkSetDown
	if up {
		set = h.ns.handle.LinkSetUp
	}
	link, _ := h.cable()
	if err := set(link); err != nil {
		return fmt.Errorf("set link of %s (up: %t): %w", h.Name, up, err)
	}
	if !up {
		return nil
	}
	return h.connect() // the kernel drops IPv6 addresses with the link
}

// SetCarrier plugs the host's cable out of the bridge or in again: the host
// sees its carrier go. It waits until a cable that is plugged in passes packets.
func (h *Host) SetCarrier(on bool) error {
	_, port := h.cable()
	far, err := h.network.wires.handle.LinkByIndex(port)
	if err != nil {
		return fmt.Errorf("find cable of %s: %w", h.Name, err)
	}
	set := h.network.wires.handle.LinkSetDown
	if on {
		set = h.network.wires.handle.LinkSetUp
	}
	if err := set(far); err != nil {
		return fmt.Errorf("set carrier of %s (on: %t): %w", h.Name, on, err)
	}
	if on {
		return h.waitLink() // the bridge takes no state for a port without carrier
	}
	return nil
}

// PowerOff ends the host between one packet and the next: its port of the
// bridge goes dead, without a carrier event and without a farewell from any
// socket, and all its processes are killed. It returns when they are gone.
// From the returned time on the host does not count as holding anything.
func (h *Host) PowerOff() (Time, error) {
	at := Now()
	_, port := h.cable()
	if err := h.network.setPort(port, portDisabled); err != nil {
		return 0, fmt.Errorf("power off %s: %w", h.Name, err)
	}
	h.mu.Lock()
	h.power = append(h.power, Off{Host: h.Name, From: at})
	h.mu.Unlock()
	err := h.killAll()
	// What the kernel of a machine loses with its power: addresses, neighbours, /run.
	return at, errors.Join(err, h.forget())
}

func (h *Host) forget() error {
	prefixes, err := h.Addresses()
	if err != nil {
		return err
	}
	for _, p := range prefixes {
		if p != h.IPv4 && p != h.IPv6 && !p.Addr().IsLinkLocalUnicast() {
			err = errors.Join(err, h.RemoveAddress(p.Addr()))
		}
	}
	return errors.Join(err, h.deleteMacvlans(), h.SetLink(false), h.empty("/run/holdfast"), h.empty(bpfDir), h.flush())
}

// deleteMacvlans deletes the interfaces of virtual routers.
func (h *Host) deleteMacvlans() error {
	links, err := h.ns.handle.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces of %s: %w", h.Name, err)
	}
	for _, link := range links {
		if link.Type() == "macvlan" || link.Type() == "ipvlan" {
			if err := h.ns.handle.LinkDel(link); err != nil {
				return fmt.Errorf("delete %s on %s: %w", link.Attrs().Name, h.Name, err)
			}
		}
	}
	return nil
}

// empty removes what is in a directory of the host's own: of its /run, or the
// pins that keep programs in the kernel.
func (h *Host) empty(dir string) error {
	return h.ns.do(func() error {
		if dir == bpfDir && !ownFileSystem(dir) {
			return nil // the kernel refused the mount: what is there is the machine's
		}
		entries, err := os.ReadDir(dir)
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".debug") && dir == bpfDir {
				continue // the kernel's own
			}
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
		return err
	})
}

// ownFileSystem reports whether something is mounted on the directory itself.
func ownFileSystem(dir string) bool {
	var inside, above unix.Stat_t
	return unix.Stat(dir, &inside) == nil && unix.Stat(filepath.Dir(dir), &above) == nil && inside.Dev != above.Dev
}

// PowerOn switches the host on again, with an empty /run and its disk as it
// was. No process is started.
func (h *Host) PowerOn() error {
	if err := h.SetLink(true); err != nil {
		return err
	}
	_, port := h.cable()
	if err := errors.Join(h.waitLink(), h.network.setPort(port, portForwarding)); err != nil {
		return fmt.Errorf("power on %s: %w", h.Name, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.power {
		if h.power[i].To == 0 {
			h.power[i].To = Now()
		}
	}
	return nil
}

// IsOff reports whether the host is switched off.
func (h *Host) IsOff() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.power) > 0 && h.power[len(h.power)-1].To == 0
}

// powerCuts returns when the host was off.
func (h *Host) powerCuts() []Off {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.power)
}

// killAll kills what runs on the host and waits for its end. What the lab's
// processes have started themselves is found by the namespace that it was born in.
func (h *Host) killAll() error {
	h.mu.Lock()
	running := slices.Clone(h.processes)
	h.mu.Unlock()
	var errs []error
	for _, p := range running {
		errs = append(errs, p.signalAll(unix.SIGKILL)) // all first, then wait: none outlives another for long
	}
	for _, p := range running {
		<-p.done
	}
	for {
		found := bornIn(h.ns.mounts)
		if len(found) == 0 {
			return errors.Join(errs...)
		}
		for _, pid := range found {
			errs = append(errs, killPID(pid))
		}
	}
}

func nodad(p netip.Prefix) int {
	if p.Addr().Is6() {
		return unix.IFA_F_NODAD
	}
	return 0
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
