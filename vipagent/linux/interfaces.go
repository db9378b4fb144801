package linux

import "net/netip"

// InterfacesFor answers like [Kernel.InterfaceFor] for many VIPs with one
// reading of the kernel: the interface for each, "" where there is none.
func (k *Kernel) InterfacesFor(prefixes []netip.Prefix) ([]string, error) {
	records, err := dumpAddresses(k.reads)
	if err != nil {
		return nil, err
	}
	interfaces, err := k.Interfaces()
	if err != nil {
		return nil, err
	}
	names := make([]string, len(prefixes))
	for i, p := range prefixes {
		if p.Addr().IsLinkLocalUnicast() && p.Addr().Is6() {
			continue // every interface has that subnet
		}
		if best, found := connected(p.Addr().Unmap(), records, interfaces); found {
			names[i] = best.Name
		}
	}
	return names, nil
}
