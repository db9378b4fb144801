package vipagent

import (
	"fmt"
	"net/netip"
)

// places says where sets advertise. The kernel is asked for each thing once, however
// many sets want to know it: for hundreds one by one the owner would stand still for
// a good part of each second.
type places struct {
	adverts    Adverts
	interfaces map[netip.Prefix]string
	err        error // why the interfaces are not known
	sources    map[AdvertPort]sourceFound
}

type sourceFound struct {
	address netip.Addr
	err     error
}

// findPlaces looks up, in one go, the interfaces of all sets that name none.
func (o *owner) findPlaces(sets []sharedSet) *places {
	p := &places{adverts: o.edges.Adverts, interfaces: make(map[netip.Prefix]string), sources: make(map[AdvertPort]sourceFound)}
	var prefixes []netip.Prefix
	for i := range sets {
		if s := &sets[i]; s.unread == nil && s.iface == "" {
			prefixes = append(prefixes, s.first)
		}
	}
	if len(prefixes) == 0 {
		return p
	}
	names, err := o.edges.Links.InterfacesFor(prefixes)
	if err == nil && len(names) != len(prefixes) {
		err = fmt.Errorf("%d answers to %d questions", len(names), len(prefixes))
	}
	if err != nil {
		p.err = fmt.Errorf("find interfaces: %w", err)
		return p
	}
	for i, prefix := range prefixes {
		p.interfaces[prefix] = names[i]
	}
	return p
}

// of returns where a set advertises, and from which address.
func (p *places) of(s *sharedSet) (AdvertPort, netip.Addr, error) {
	name := s.iface
	if name == "" {
		if p.err != nil {
			return AdvertPort{}, netip.Addr{}, p.err
		}
		if name = p.interfaces[s.first]; name == "" {
			return AdvertPort{}, netip.Addr{}, fmt.Errorf("no interface has an address in %s", s.first.Masked())
		}
	}
	port := AdvertPort{Interface: name, IPv6: s.ipv6, Unicast: len(s.peers) > 0}
	found, ok := p.sources[port]
	if !ok {
		found.address, found.err = p.adverts.Source(port)
		p.sources[port] = found
	}
	return port, found.address, found.err
}
