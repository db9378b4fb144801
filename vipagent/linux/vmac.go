package linux

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// vmacAlias begins the alias (ip link show: "alias") of the interfaces that we make. What
// follows are settings that the parent had before.
const vmacAlias = "holdfast vmac"

// VMACConfig describes an interface on top of another, with the virtual router's MAC
// address (macvlan), or with the parent's (ipvlan).
type VMACConfig struct {
	Name, Parent string
	MAC          net.HardwareAddr // of a macvlan
	IPv6         bool             // the virtual router's family is IPv6, or it has IPv6 addresses as well
	IPVLAN       bool
	Mode         string // of an ipvlan: bridge, private or vepa; "" = bridge
}

// AddVMAC makes the interface and switches it on. One that is there and is as it should
// be is kept, also if another process made it; one of our making that is otherwise is
// made anew; any other is an error.
//
// A macvlan is in private mode: it hears the frames to its MAC address, and neither
// those of other macvlans nor its parent's. So that virtual addresses are only ever seen
// with the virtual MAC address, it and its parent answer ARP for their own addresses
// only; both are in the same subnet, so that it does not check the way back of packets
// (rp_filter) and accepts those from the host's own addresses. It makes no IPv6
// link-local address of the virtual MAC address, which would be the same on all
// routers (RFC 9568, section 7.4): it has the parent's.
func (k *Kernel) AddVMAC(v VMACConfig) error {
	k.vmacs.Lock()
	defer k.vmacs.Unlock()
	if err := k.addVMAC(v); err != nil {
		return fmt.Errorf("make interface %s: %w", v.Name, err)
	}
	return nil
}

func (k *Kernel) addVMAC(v VMACConfig) error {
	parent, err := k.links.LinkByName(v.Parent)
	if err != nil {
		return fmt.Errorf("parent %s: %w", v.Parent, noInterface(err))
	}
	link, err := k.findVMAC(v, parent)
	if err != nil {
		return err
	}
	if link == nil {
		if link, err = k.makeVMAC(v, parent); err != nil {
			return err
		}
	}
	if err := k.tuneVMAC(v, link, parent); err != nil {
		return err
	}
	if err := k.links.LinkSetUp(link); err != nil {
		return fmt.Errorf("switch on: %w", err)
	}
	if !v.IPv6 || v.IPVLAN {
		return nil
	}
	return k.lendLinkLocal(link.Attrs().Name, parent.Attrs().Index)
}

// findVMAC returns the interface if it is there as it should be; nil if it is to be made.
func (k *Kernel) findVMAC(v VMACConfig, parent netlink.Link) (netlink.Link, error) {
	link, err := k.links.LinkByName(v.Name)
	if err != nil {
		if errors.Is(noInterface(err), ErrNoInterface) {
			return nil, nil
		}
		return nil, err
	}
	switch {
	case v.matches(link, parent.Attrs().Index):
		return link, k.adoptVMAC(v, link)
	case !isVMAC(link):
		return nil, fmt.Errorf("there is another interface (%s) of that name", link.Type())
	}
	if err := k.removeVMAC(link); err != nil {
		return nil, err
	}
	return nil, nil
}

// adoptVMAC makes ours what another program, such as a killed Keepalived, has made.
func (k *Kernel) adoptVMAC(v VMACConfig, link netlink.Link) error {
	if isVMAC(link) {
		return nil
	}
	alias, err := k.vmacAlias(v, link.Attrs().ParentIndex)
	if err != nil {
		return err
	}
	return k.links.LinkSetAlias(link, alias)
}

// isVMAC reports whether we made the interface.
func isVMAC(link netlink.Link) bool {
	return (link.Type() == "macvlan" || link.Type() == "ipvlan") && strings.HasPrefix(link.Attrs().Alias, vmacAlias)
}

func (v VMACConfig) matches(link netlink.Link, parent int) bool {
	if link.Attrs().ParentIndex != parent {
		return false
	}
	if v.IPVLAN {
		l, ok := link.(*netlink.IPVlan)
		return ok && l.Mode == netlink.IPVLAN_MODE_L2
	}
	l, ok := link.(*netlink.Macvlan)
	return ok && l.Mode == netlink.MACVLAN_MODE_PRIVATE && l.HardwareAddr.String() == v.MAC.String()
}

func (k *Kernel) makeVMAC(v VMACConfig, parent netlink.Link) (netlink.Link, error) {
	a := netlink.NewLinkAttrs()
	a.Name, a.ParentIndex, a.Group = v.Name, parent.Attrs().Index, parent.Attrs().Group
	var link netlink.Link
	if v.IPVLAN {
		flag, err := ipvlanFlag(v.Mode)
		if err != nil {
			return nil, err
		}
		link = &netlink.IPVlan{LinkAttrs: a, Mode: netlink.IPVLAN_MODE_L2, Flag: flag}
	} else {
		a.HardwareAddr = v.MAC
		link = &netlink.Macvlan{LinkAttrs: a, Mode: netlink.MACVLAN_MODE_PRIVATE}
	}
	alias, err := k.vmacAlias(v, parent.Attrs().Index)
	if err != nil {
		return nil, err
	}
	if err := k.links.LinkAdd(link); err != nil {
		return nil, err
	}
	made, err := k.links.LinkByName(v.Name)
	if err == nil {
		err = k.links.LinkSetAlias(made, alias) // the kernel takes no alias with the making
	}
	if err == nil {
		return k.links.LinkByName(v.Name)
	}
	return nil, errors.Join(err, k.links.LinkDel(link))
}

func ipvlanFlag(mode string) (netlink.IPVlanFlag, error) {
	switch mode {
	case "", "bridge":
		return netlink.IPVLAN_FLAG_BRIDGE, nil
	case "private":
		return netlink.IPVLAN_FLAG_PRIVATE, nil
	case "vepa":
		return netlink.IPVLAN_FLAG_VEPA, nil
	}
	return 0, fmt.Errorf("unknown ipvlan mode %q", mode)
}

// lendLinkLocal gives the interface the parent's IPv6 link-local addresses.
func (k *Kernel) lendLinkLocal(name string, parent int) error {
	records, err := dumpAddresses(k.reads)
	if err != nil {
		return err
	}
	var lent []PlainAddress
	for _, r := range records {
		if r.index == parent && r.ip.Is6() && r.ip.IsLinkLocalUnicast() && r.protocol != PlainProtocol && r.protocol != Protocol {
			lent = append(lent, PlainAddress{Prefix: r.prefix(), Interface: name})
		}
	}
	return k.AddPlain(lent)
}

// RemoveVMAC deletes an interface that [Kernel.AddVMAC] has made; one that is not there
// is fine. With the last one of a parent, that has its former settings back.
func (k *Kernel) RemoveVMAC(name string) error {
	k.vmacs.Lock()
	defer k.vmacs.Unlock()
	link, err := k.links.LinkByName(name)
	if errors.Is(noInterface(err), ErrNoInterface) {
		return nil
	}
	if err == nil && !isVMAC(link) {
		err = errors.New("it is another program's")
	}
	if err == nil {
		err = k.removeVMAC(link)
	}
	if err != nil {
		return fmt.Errorf("delete interface %s: %w", name, err)
	}
	return nil
}

func (k *Kernel) removeVMAC(link netlink.Link) error {
	if err := k.links.LinkDel(link); err != nil {
		return err
	}
	return k.restoreParent(link.Attrs().ParentIndex, link.Attrs().Alias)
}

// LeftVMACs returns the names of the interfaces that [Kernel.AddVMAC] has made, in this
// process or in one before it.
func (k *Kernel) LeftVMACs() ([]string, error) {
	links, err := k.listLinks()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, l := range links {
		if isVMAC(l) {
			out = append(out, l.Attrs().Name)
		}
	}
	return out, nil
}

func noInterface(err error) error {
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
		return ErrNoInterface
	}
	return err
}

// setSysctl sets an IPv6 setting of an interface, which there is no other way to.
func setSysctl(iface, name, value string) error {
	err := os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", iface, name), []byte(value), 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a kernel without IPv6
	}
	return err
}

// setAddrGenMode says whether the kernel makes a link-local address.
func (k *Kernel) setAddrGenMode(index int, mode byte) error {
	const iflaInet6AddrGenMode = 8 // IFLA_INET6_ADDR_GEN_MODE
	body := appendNest(linkBody(index), unix.IFLA_AF_SPEC, appendNest(nil, unix.AF_INET6, appendAttr(nil, iflaInet6AddrGenMode, []byte{mode})))
	return k.writes.do([]message{{kind: unix.RTM_SETLINK, body: body}}, 1)[0]
}
