package linux

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const addrGenModeNone = 1 // IN6_ADDR_GEN_MODE_NONE

// tuneVMAC sets what an interface with a virtual MAC address needs; see [Kernel.AddVMAC].
func (k *Kernel) tuneVMAC(v VMACConfig, link, parent netlink.Link) error {
	index := link.Attrs().Index
	if v.IPv6 {
		if err := k.setAddrGenMode(index, addrGenModeNone); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			return fmt.Errorf("turn off link-local addresses: %w", err)
		}
	}
	// Settings that /proc alone has are not worth failing for, where it is read only.
	off := "1"
	if v.IPv6 {
		off = "0"
		k.trySysctl(v.Name, "accept_ra", "0") // what the parent hears is enough
	}
	k.trySysctl(v.Name, "disable_ipv6", off)
	if v.IPVLAN {
		return nil // the parent's MAC address is right for every answer
	}
	settings := []devconfValue{{devconfARPIgnore, 1}, {devconfPromoteSecondaries, 1}}
	if !v.IPv6 {
		settings = append(settings, devconfValue{devconfAcceptLocal, 1}, devconfValue{devconfRPFilter, 0})
	}
	if err := k.setDevconf(index, settings...); err != nil || v.IPv6 {
		return err
	}
	if err := k.lowerRPFilter(index); err != nil {
		return err
	}
	return k.setDevconf(parent.Attrs().Index, lentSettings(1, 1, 2)...)
}

// lentSettings are those of the parent that tuneVMAC changes. With arp_announce 2 the
// parent asks with an address of its own: packets from a virtual address leave there, too,
// and a question in its name would tell the neighbours the wrong MAC address.
func lentSettings(ignore, filter, announce uint32) []devconfValue {
	return []devconfValue{{devconfARPIgnore, ignore}, {devconfARPFilter, filter}, {devconfARPAnnounce, announce}}
}

func (k *Kernel) trySysctl(iface, name, value string) {
	if err := setSysctl(iface, name, value); err != nil {
		k.logger.Warn("cannot set a setting of an interface", "interface", iface, "setting", name, "value", value, "error", err)
	}
}

// vmacAlias is the alias for an interface on the parent: the mark, and the settings of
// the parent that tuneVMAC changes. They are kept there so that they outlive a process
// that is killed. Where there is an interface already, it knows the former ones.
func (k *Kernel) vmacAlias(v VMACConfig, parent int) (string, error) {
	if v.IPVLAN || v.IPv6 {
		return vmacAlias, nil
	}
	others, err := k.tuned(parent)
	if err != nil {
		return "", err
	}
	if len(others) > 0 {
		return others[0], nil
	}
	var had [3]uint32
	for i, s := range lentSettings(0, 0, 0) {
		if had[i], err = k.devconf(parent, s.number); err != nil {
			return "", err
		}
	}
	return vmacAlias + fmt.Sprintf(parentFormat, had[0], had[1], had[2]), nil
}

const parentFormat = ", parent's arp_ignore %d arp_filter %d arp_announce %d"

// parentSettings reads an alias of vmacAlias; false if it has no settings.
func parentSettings(alias string) ([]devconfValue, bool) {
	var ignore, filter, announce uint32
	text, ok := strings.CutPrefix(alias, vmacAlias)
	if !ok {
		return nil, false
	}
	if n, err := fmt.Sscanf(text, parentFormat, &ignore, &filter, &announce); n != 3 || err != nil {
		return nil, false
	}
	return lentSettings(ignore, filter, announce), true
}

// tuned returns the aliases of the interfaces for which the parent was changed.
func (k *Kernel) tuned(parent int) ([]string, error) {
	links, err := k.listLinks()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, l := range links {
		if _, ok := parentSettings(l.Attrs().Alias); ok && isVMAC(l) && l.Attrs().ParentIndex == parent {
			out = append(out, l.Attrs().Alias)
		}
	}
	return out, nil
}

// restoreParent gives a parent back the settings that the alias of a deleted interface
// has, unless there is another that needs the changed ones.
func (k *Kernel) restoreParent(parent int, alias string) error {
	settings, ok := parentSettings(alias)
	if !ok {
		return nil
	}
	others, err := k.tuned(parent)
	if err != nil || len(others) > 0 {
		return err
	}
	if _, err := k.links.LinkByIndex(parent); errors.Is(noInterface(err), ErrNoInterface) {
		return nil
	}
	return k.setDevconf(parent, settings...)
}
