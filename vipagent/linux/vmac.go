package linux

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// VMAC is an interface on top of another, with a MAC address of its own (macvlan), or
// with the parent's (ipvlan).
type VMAC struct {
	Name, Parent string
	MAC          net.HardwareAddr
	IPVLAN       bool
	Mode         string // of an ipvlan: bridge, private, vepa; "" = bridge
}

// AddVMAC makes the interface, or finds it as it should be, and switches it on. One
// that is otherwise is made anew. The parent then answers ARP for its own addresses
// only: an answer for a virtual one must come from the virtual MAC.
func (k *Kernel) AddVMAC(v VMAC) error {
	parent, err := k.links.LinkByName(v.Parent)
	if err != nil {
		return fmt.Errorf("make interface %s: parent %s: %w", v.Name, v.Parent, noInterface(err))
	}
	link, err := k.links.LinkByName(v.Name)
	if err == nil && !v.is(link, parent.Attrs().Index) {
		if err := k.links.LinkDel(link); err != nil {
			return fmt.Errorf("delete interface %s: %w", v.Name, err)
		}
		link = nil
	}
	if err != nil || link == nil {
		if link, err = k.makeVMAC(v, parent); err != nil {
			return err
		}
	}
	if err := tuneVMAC(v); err != nil {
		return err
	}
	if err := k.links.LinkSetUp(link); err != nil {
		return fmt.Errorf("switch on interface %s: %w", v.Name, err)
	}
	return k.lendLinkLocal(v, parent, link)
}

func (v VMAC) is(link netlink.Link, parent int) bool {
	a := link.Attrs()
	if v.IPVLAN {
		return link.Type() == "ipvlan" && a.ParentIndex == parent
	}
	return link.Type() == "macvlan" && a.ParentIndex == parent && a.HardwareAddr.String() == v.MAC.String()
}

func (k *Kernel) makeVMAC(v VMAC, parent netlink.Link) (netlink.Link, error) {
	a := netlink.NewLinkAttrs()
	a.Name, a.ParentIndex, a.MTU = v.Name, parent.Attrs().Index, parent.Attrs().MTU
	var link netlink.Link
	if v.IPVLAN {
		link = &netlink.IPVlan{LinkAttrs: a, Mode: netlink.IPVLAN_MODE_L2, Flag: map[string]netlink.IPVlanFlag{"private": netlink.IPVLAN_FLAG_PRIVATE, "vepa": netlink.IPVLAN_FLAG_VEPA}[v.Mode]}
	} else {
		a.HardwareAddr = v.MAC
		link = &netlink.Macvlan{LinkAttrs: a, Mode: netlink.MACVLAN_MODE_PRIVATE}
	}
	if err := k.links.LinkAdd(link); err != nil {
		return nil, fmt.Errorf("make interface %s: %w", v.Name, err)
	}
	return k.links.LinkByName(v.Name)
}

// tuneVMAC: packets with the addresses of the parent's subnet come and go on both
// interfaces, which the kernel takes for forged by default.
func tuneVMAC(v VMAC) error {
	settings := [][3]string{
		{"ipv6", v.Name, "addr_gen_mode=1"}, // the parent's link-local address is lent
		{"ipv6", v.Name, "accept_ra=0"},
		{"ipv4", v.Name, "rp_filter=0"},
		{"ipv4", v.Name, "accept_local=1"},
		{"ipv4", v.Name, "arp_ignore=1"},
		{"ipv4", v.Parent, "arp_ignore=1"},
		{"ipv4", v.Parent, "arp_filter=1"},
	}
	for _, s := range settings {
		if err := setSysctl(s[0], s[1], s[2]); err != nil {
			return err
		}
	}
	return nil
}

// setSysctl sets "name=value" of an interface. What this kernel does not have is fine.
func setSysctl(family, iface, setting string) error {
	for i := range setting {
		if setting[i] != '=' {
			continue
		}
		err := os.WriteFile(filepath.Join("/proc/sys/net", family, "conf", iface, setting[:i]), []byte(setting[i+1:]), 0o644)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set %s of interface %s: %w", setting, iface, err)
		}
		return nil
	}
	return fmt.Errorf("set %s of interface %s: no value", setting, iface)
}

// lendLinkLocal gives the interface the parent's IPv6 link-local address, from which
// advertisements leave: one made from the virtual MAC would be the same on all routers.
func (k *Kernel) lendLinkLocal(v VMAC, parent, link netlink.Link) error {
	records, err := dumpAddresses(k.reads)
	if err != nil {
		return err
	}
	for _, r := range records {
		if r.index != parent.Attrs().Index || !r.ip.Is6() || !r.ip.IsLinkLocalUnicast() {
			continue
		}
		return k.AddPlain(PlainAddress{Prefix: r.prefix(), Interface: link.Attrs().Name, Scope: unix.RT_SCOPE_LINK, Flags: unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE, Preferred: math.MaxInt64})
	}
	return nil
}

// RemoveVMAC deletes an interface that [Kernel.AddVMAC] has made; one that is not there
// is fine. An interface of another kind is left alone.
func (k *Kernel) RemoveVMAC(name string) error {
	link, err := k.links.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	} else if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	if t := link.Type(); t != "macvlan" && t != "ipvlan" {
		return fmt.Errorf("delete interface %s: it is no macvlan", name)
	}
	if err := k.links.LinkDel(link); err != nil {
		return fmt.Errorf("delete interface %s: %w", name, err)
	}
	return nil
}

func noInterface(err error) error {
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return ErrNoInterface
	}
	return err
}
