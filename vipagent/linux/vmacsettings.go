package linux

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
)

// prepareVMAC sets how the interface behaves, before it is on.
func (k *Kernel) prepareVMAC(c VMACConfig, index, parent int) error {
	off := "1"
	if c.IPv6 || c.BothFamilies {
		off = "0"
	}
	for _, s := range [][2]string{{"disable_ipv6", off}, {"addr_gen_mode", "1"}} { // 1 = none
		err := os.WriteFile("/proc/sys/net/ipv6/conf/"+c.Name+"/"+s[0], []byte(s[1]), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel without IPv6 has none
			return fmt.Errorf("set: %w", err)
		}
	}
	if c.IPVLAN {
		return nil // the parent's MAC address is right for every answer
	}
	settings := []devconfValue{{devconfARPIgnore, 1}}
	if !c.IPv6 {
		settings = append(settings, devconfValue{devconfAcceptLocal, 1}, devconfValue{devconfRPFilter, 0}, devconfValue{devconfPromoteSecondaries, 1})
	}
	if err := k.setDevconf(index, settings...); err != nil || c.IPv6 {
		return err
	}
	if err := k.lowerRPFilter(index); err != nil {
		return fmt.Errorf("lower rp_filter: %w", err)
	}
	return k.setDevconf(parent, parentSettings(1, 1, 2)...)
}

// parentSettings are those that the parent of an IPv4 router's interface gets.
func parentSettings(ignore, filter, announce uint32) []devconfValue {
	return []devconfValue{{devconfARPIgnore, ignore}, {devconfARPFilter, filter}, {devconfARPAnnounce, announce}}
}

const parentFormat = ", parent had arp_ignore %d arp_filter %d arp_announce %d"

// isVMAC reports whether AddVMAC has made the interface, in this process or a former one.
func isVMAC(link netlink.Link) bool { return strings.HasPrefix(link.Attrs().Alias, vmacAlias) }

// aliasFor is the alias of a new interface: our mark, and what is to be changed of the
// parent. Where there is another one on the parent, that knows how it was.
func (k *Kernel) aliasFor(c VMACConfig, parent int) (string, error) {
	if c.IPVLAN || c.IPv6 {
		return vmacAlias, nil
	}
	others, err := k.changers(parent)
	if err != nil {
		return "", err
	}
	if len(others) > 0 {
		return others[0], nil
	}
	var had [3]uint32
	for i, s := range parentSettings(0, 0, 0) {
		if had[i], err = k.devconf(parent, s.number); err != nil {
			return "", err
		}
	}
	return vmacAlias + fmt.Sprintf(parentFormat, had[0], had[1], had[2]), nil
}

// formerSettings reads what an alias says of the parent; false if nothing.
func formerSettings(alias string) ([]devconfValue, bool) {
	text, ok := strings.CutPrefix(alias, vmacAlias)
	if !ok {
		return nil, false
	}
	var ignore, filter, announce uint32
	if n, err := fmt.Sscanf(text, parentFormat, &ignore, &filter, &announce); n != 3 || err != nil {
		return nil, false
	}
	return parentSettings(ignore, filter, announce), true
}

// changers returns the aliases of the interfaces for which the parent was changed.
func (k *Kernel) changers(parent int) ([]string, error) {
	links, err := k.listLinks()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, l := range links {
		if _, ok := formerSettings(l.Attrs().Alias); ok && l.Attrs().ParentIndex == parent {
			out = append(out, l.Attrs().Alias)
		}
	}
	return out, nil
}

// restoreParent gives a parent its former settings back, which the alias of a deleted
// interface has, unless another one needs the changed ones.
func (k *Kernel) restoreParent(parent int, alias string) error {
	settings, ok := formerSettings(alias)
	if !ok {
		return nil
	}
	others, err := k.changers(parent)
	if err != nil || len(others) > 0 {
		return err
	}
	if _, err := k.links.LinkByIndex(parent); errors.Is(noInterface(err), ErrNoInterface) {
		return nil
	}
	return k.setDevconf(parent, settings...)
}
