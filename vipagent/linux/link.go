package linux

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Interfaces returns the interfaces of the host by index.
func (k *Kernel) Interfaces() ([]Interface, error) {
	links, err := k.listLinks()
	if err != nil {
		return nil, err
	}
	out := make([]Interface, len(links))
	for i, l := range links {
		out[i] = interfaceOf(l)
	}
	slices.SortFunc(out, func(a, b Interface) int { return cmp.Compare(a.Index, b.Index) })
	return out, nil
}

// Interface returns one interface by its name, or [ErrNoInterface]. It asks the
// kernel for the state of this moment: events about a carrier that comes and
// goes more than once a second arrive late, by up to a second.
func (k *Kernel) Interface(name string) (Interface, error) {
	l, err := k.links.LinkByName(name)
	if err != nil {
		if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
			return Interface{}, fmt.Errorf("interface %s: %w", name, ErrNoInterface)
		}
		return Interface{}, fmt.Errorf("read interface %s: %w", name, err)
	}
	return interfaceOf(l), nil
}

func interfaceOf(l netlink.Link) Interface {
	a := l.Attrs()
	return Interface{
		Name: a.Name, Index: a.Index, MAC: a.HardwareAddr, MTU: a.MTU,
		Up:       passes(a.RawFlags),
		Loopback: a.RawFlags&unix.IFF_LOOPBACK != 0,
		NoARP:    a.RawFlags&unix.IFF_NOARP != 0,
	}
}

// passes reports whether an interface with these flags can pass packets.
// IFF_LOWER_UP is the carrier of this moment; IFF_RUNNING adds, for instance,
// that the bond or the supplicant above it is ready, but follows late.
func passes(flags uint32) bool {
	const all = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOWER_UP
	return flags&all == all
}

// listLinks reads all links, again if they changed meanwhile.
func (k *Kernel) listLinks() ([]netlink.Link, error) {
	for attempt := 1; ; attempt++ {
		links, err := k.links.LinkList()
		if errors.Is(err, netlink.ErrDumpInterrupted) && attempt < dumpAttempts {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read interfaces: %w", err)
		}
		return links, nil
	}
}

// names returns the names of the interfaces by index.
func (k *Kernel) names() (map[int]string, error) {
	links, err := k.listLinks()
	if err != nil {
		return nil, err
	}
	out := make(map[int]string, len(links))
	for _, l := range links {
		out[l.Attrs().Index] = l.Attrs().Name
	}
	return out, nil
}

// InterfaceFor returns the interface that is connected to the subnet of a VIP:
// the one with the longest subnet that holds the address, not counting our own
// VIPs; of equals one that passes packets, then the one with the lowest index.
// The prefix length of the VIP plays no part. The error is a [NoSubnetError] if
// there is none; link-local addresses never have one.
func (k *Kernel) InterfaceFor(prefix netip.Prefix) (string, error) {
	if prefix.Addr().IsLinkLocalUnicast() && prefix.Addr().Is6() {
		return "", &NoSubnetError{Prefix: prefix}
	}
	records, err := dumpAddresses(k.reads)
	if err != nil {
		return "", err
	}
	interfaces, err := k.Interfaces()
	if err != nil {
		return "", err
	}
	best, found := connected(prefix.Addr().Unmap(), records, interfaces)
	if !found {
		return "", &NoSubnetError{Prefix: prefix}
	}
	return best.Name, nil
}

func connected(ip netip.Addr, records []record, interfaces []Interface) (best Interface, found bool) {
	byIndex := make(map[int]Interface, len(interfaces))
	for _, i := range interfaces {
		byIndex[i.Index] = i
	}
	bits := -1
	for _, r := range records {
		// A host prefix connects to nothing; our VIPs are host prefixes.
		i, ok := byIndex[r.index]
		if !ok || i.Loopback || !r.subnet.Contains(ip) || r.subnet.IsSingleIP() {
			continue
		}
		if better(r.subnet.Bits(), i, bits, best) {
			best, bits, found = i, r.subnet.Bits(), true
		}
	}
	return best, found
}

func better(bits int, i Interface, bestBits int, best Interface) bool {
	switch {
	case bits != bestBits:
		return bits > bestBits
	case i.Up != best.Up:
		return i.Up
	}
	return i.Index < best.Index
}
