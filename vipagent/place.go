package vipagent

import (
	"fmt"
	"net/netip"
	"slices"

	"holdfast/vipagent/tenure"
	"holdfast/vipagent/vip"
)

// obstacleError says why this host cannot hold a set.
type obstacleError struct{ reason string }

func (e *obstacleError) Error() string { return e.reason }

// resolve returns what is wanted of a grant that may be acted upon.
func (o *owner) resolve(g tenure.Grant) ([]vip.Wanted, error) {
	if err := o.readLinks(); err != nil {
		return nil, err
	}
	var out []vip.Wanted
	for _, c := range g.Addresses {
		if !o.book.Raisable(&g, c) {
			continue
		}
		iface, err := o.interfaceOf(c)
		if err != nil {
			return nil, err
		}
		out = append(out, vip.Wanted{Address: vip.Address{Prefix: c.Prefix, Interface: iface}, Set: g.Set, Epoch: g.Epoch})
	}
	return out, nil
}

// interfaceOf returns where an address belongs. One that is up stays where it
// is as long as the interface is there.
func (o *owner) interfaceOf(c tenure.Claimed) (string, error) {
	if name, ok := o.staysOn(c); ok {
		return name, nil
	}
	name := c.Interface
	if name == "" {
		if o.foundErr != nil {
			return "", o.foundErr
		}
		if name = o.found[c.Prefix]; name == "" {
			return "", &obstacleError{fmt.Sprintf(
				"no interface has an address in a subnet that holds %s: give this host one in %s, or name the interface in the VIP set",
				c.Prefix.Addr(), c.Prefix.Masked())}
		}
	}
	switch {
	case !o.links[name]:
		return "", &obstacleError{fmt.Sprintf("interface %s is missing", name)}
	case len(o.config.Interfaces) > 0 && !slices.Contains(o.config.Interfaces, name):
		return "", &obstacleError{fmt.Sprintf("interface %s must not carry VIPs on this host", name)}
	}
	return name, nil
}

// staysOn returns the interface on which an address is up.
func (o *owner) staysOn(c tenure.Claimed) (string, bool) {
	u, ok := o.book.UpAt(c.Prefix.Addr())
	return u.Interface, ok && o.links[u.Interface] && (c.Interface == "" || c.Interface == u.Interface)
}

// findInterfaces looks up, in one go, the interfaces of all addresses that name
// none: for a thousand of them one by one would take seconds.
func (o *owner) findInterfaces(grants []tenure.Grant) {
	var prefixes []netip.Prefix
	for _, g := range grants {
		for _, c := range g.Addresses {
			if _, ok := o.staysOn(c); !ok && c.Interface == "" {
				prefixes = append(prefixes, c.Prefix)
			}
		}
	}
	o.found, o.foundErr = make(map[netip.Prefix]string, len(prefixes)), nil
	if len(prefixes) == 0 {
		return
	}
	names, err := o.edges.Links.InterfacesFor(prefixes)
	if err == nil && len(names) != len(prefixes) {
		err = fmt.Errorf("%d answers to %d questions", len(names), len(prefixes))
	}
	if err != nil {
		o.foundErr = fmt.Errorf("find interfaces: %w", err)
		return
	}
	for i, p := range prefixes {
		o.found[p] = names[i]
	}
}

func (o *owner) readLinks() error {
	if o.linksRead {
		return nil
	}
	names, err := o.edges.Links.Interfaces()
	if err != nil {
		return fmt.Errorf("read interfaces: %w", err)
	}
	clear(o.links)
	for _, name := range names {
		o.links[name] = true
	}
	o.linksRead = true
	return nil
}
