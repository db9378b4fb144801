package linux

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// vmacAlias begins the alias (IFLA_IFALIAS) of an interface that AddVMAC made: it is how
// the next process knows it. What follows are settings that the parent had before.
const vmacAlias = "holdfast virtual MAC"

// VMACConfig is an interface of a virtual router on top of another one.
type VMACConfig struct {
	Name, Parent string
	// MAC is the virtual router's address. Not for an IPVLAN, which
	// has its parent's.
	MAC    net.HardwareAddr
	IPVLAN bool
	Mode   string // of an IPVLAN: bridge (""), private or vepa
	// IPv6 is the family of the virtual router. An interface of an IPv4 router has IPv6
	// switched off, unless BothFamilies is set: it has addresses of both.
	IPv6, BothFamilies bool
	// Source is an address for the interface itself, from which advertisements may
	// leave; zero = none.
	Source netip.Prefix
}

// AddVMAC makes the interface and switches it on: a macvlan in private mode, or an
// IPVLAN. One of that name that is as it should be is kept, with its addresses (a
// macvlan that a killed Keepalived left, too); one that a former process made in another way is replaced; any other is an error. On
// the interface of an IPv4 router, and for ARP on its parent, it sets what keeps the
// two from answering for each other:
//
//	interface  arp_ignore 1, accept_local 1, rp_filter 0, promote_secondaries 1
//	parent     arp_ignore 1, arp_filter 1, arp_announce 2
//
// Keepalived sets all but the last. Without it, an answer of the VIP that leaves on the
// parent makes the parent ask for the client with the VIP as sender and its own MAC
// address, and the client goes on with that one.
//
// The parent has its former settings back when the last such interface on it is removed;
// until then they are in the alias of each, so that they outlive a process that is
// killed. If net.ipv4.conf.all.rp_filter is not 0, each interface gets at least its value
// and it becomes 0, as Keepalived does, because the larger of the two counts.
//
// The kernel makes no link-local address on the interface; give it the
// parent's as Source if IPv6 advertisements are to leave on it.
func (k *Kernel) AddVMAC(c VMACConfig) error {
	k.change.Lock()
	defer k.change.Unlock()
	if err := k.addVMAC(c); err != nil {
		return fmt.Errorf("add interface %s on %s: %w", c.Name, c.Parent, err)
	}
	return nil
}

func (k *Kernel) addVMAC(c VMACConfig) error {
	parent, err := k.links.LinkByName(c.Parent)
	if err != nil {
		return noInterface(err)
	}
	wanted, err := c.link(parent.Attrs())
	if err != nil {
		return err
	}
	if master := parent.Attrs().MasterIndex; master != 0 {
		if link, err := k.links.LinkByIndex(master); err == nil && link.Type() == "vrf" {
			wanted.Attrs().MasterIndex = master
		}
	}
	alias, err := k.aliasFor(c, parent.Attrs().Index)
	if err != nil {
		return err
	}
	there, err := k.links.LinkByName(c.Name)
	made := false
	switch {
	case err == nil && same(there, wanted):
		if !isVMAC(there) {
			if err := k.links.LinkSetAlias(there, alias); err != nil {
				return fmt.Errorf("mark: %w", err)
			}
		}
	case err == nil && !isVMAC(there):
		return fmt.Errorf("there is another interface of that name, which we did not make")
	default:
		if err == nil {
			if err := k.deleteVMAC(there); err != nil {
				return fmt.Errorf("replace: %w", err)
			}
		}
		if there, err = k.make(wanted, alias); err != nil {
			return err
		}
		made = true
	}
	err = k.prepareVMAC(c, there.Attrs().Index, parent.Attrs().Index)
	if err == nil {
		err = k.links.LinkSetUp(there)
	}
	if err == nil && c.Source.IsValid() {
		err = k.one(sourceMessage(c.Source, there.Attrs().Index))
		if errors.Is(err, unix.EEXIST) {
			err = nil
		}
	}
	if err != nil && made {
		err = errors.Join(err, k.links.LinkDel(there))
	}
	return err
}

// make makes an interface that is off.
func (k *Kernel) make(wanted netlink.Link, alias string) (netlink.Link, error) {
	if err := k.links.LinkAdd(wanted); err != nil {
		return nil, err
	}
	there, err := k.links.LinkByName(wanted.Attrs().Name)
	if err != nil {
		return nil, err
	}
	if err := k.links.LinkSetAlias(there, alias); err != nil {
		return nil, errors.Join(fmt.Errorf("mark: %w", err), k.links.LinkDel(there))
	}
	return there, nil
}

// link is the interface as it should be.
func (c VMACConfig) link(parent *netlink.LinkAttrs) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = c.Name, parent.Index
	attrs.Group = parent.Group // filters by group go on to fit
	if !c.IPVLAN {
		if len(c.MAC) != 6 || c.MAC[0]&1 != 0 {
			return nil, fmt.Errorf("MAC address %s is not one of a host", c.MAC)
		}
		attrs.HardwareAddr = c.MAC
		return &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_PRIVATE}, nil
	}
	modes := map[string]netlink.IPVlanFlag{"": netlink.IPVLAN_FLAG_BRIDGE, "bridge": netlink.IPVLAN_FLAG_BRIDGE,
		"private": netlink.IPVLAN_FLAG_PRIVATE, "vepa": netlink.IPVLAN_FLAG_VEPA}
	flag, ok := modes[c.Mode]
	if !ok {
		return nil, fmt.Errorf("mode %q is not bridge, private or vepa", c.Mode)
	}
	return &netlink.IPVlan{LinkAttrs: attrs, Mode: netlink.IPVLAN_MODE_L2, Flag: flag}, nil
}

// same says whether an interface is as it should be. A macvlan need not bear our mark:
// with that MAC address it is the virtual router's, left by a Keepalived that was killed.
func same(there, wanted netlink.Link) bool {
	a, b := there.Attrs(), wanted.Attrs()
	if a.ParentIndex != b.ParentIndex {
		return false
	}
	switch w := wanted.(type) {
	case *netlink.Macvlan:
		t, ok := there.(*netlink.Macvlan)
		return ok && t.Mode == w.Mode && sameMAC(a.HardwareAddr, b.HardwareAddr)
	case *netlink.IPVlan:
		t, ok := there.(*netlink.IPVlan)
		return ok && isVMAC(there) && t.Mode == w.Mode && t.Flag == w.Flag
	}
	return false
}

// sourceMessage adds the interface's own address: it is no VIP, and bears no mark. It
// goes with the interface.
func sourceMessage(p netip.Prefix, index int) message {
	scope := byte(unix.RT_SCOPE_UNIVERSE)
	if p.Addr().IsLinkLocalUnicast() {
		scope = unix.RT_SCOPE_LINK
	}
	b := appendPlain(plainPlace{index, plain(p.Addr()), p.Bits()}, scope)
	b = appendAttr(b, unix.IFA_LOCAL, plain(p.Addr()).AsSlice())
	b = appendAttr(b, unix.IFA_ADDRESS, plain(p.Addr()).AsSlice())
	if p.Addr().Is6() {
		b = appendNative(b, unix.IFA_FLAGS, unix.IFA_F_NODAD)
	}
	return message{kind: unix.RTM_NEWADDR, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, body: b}
}

// RemoveVMAC deletes an interface that AddVMAC made, with its addresses. One that is
// not there is fine; any other of that name is an error.
func (k *Kernel) RemoveVMAC(name string) error {
	k.change.Lock()
	defer k.change.Unlock()
	there, err := k.links.LinkByName(name)
	if err = noInterface(err); errors.Is(err, ErrNoInterface) {
		return nil
	}
	if err == nil && !isVMAC(there) {
		err = errors.New("we did not make it")
	}
	if err == nil {
		err = k.deleteVMAC(there)
	}
	if err != nil {
		return fmt.Errorf("remove interface %s: %w", name, err)
	}
	return nil
}

// deleteVMAC deletes an interface that AddVMAC made, and gives its parent's settings
// back.
func (k *Kernel) deleteVMAC(there netlink.Link) error {
	if err := k.links.LinkDel(there); err != nil {
		return err
	}
	return k.restoreParent(there.Attrs().ParentIndex, there.Attrs().Alias)
}

// VMACs returns the names of the interfaces that AddVMAC made, this process's and those
// of a killed one.
func (k *Kernel) VMACs() ([]string, error) {
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

// noInterface turns the library's error into ours.
func noInterface(err error) error {
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
		return ErrNoInterface
	}
	return err
}
