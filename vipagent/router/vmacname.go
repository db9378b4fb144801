package router

import (
	"fmt"
	"slices"
)

// vmacName is the name of the interface with the virtual MAC address, "" if the
// instance has none.
func (in *instance) vmacName() string {
	switch v := in.conf.VMAC; {
	case v == nil:
		return ""
	case v.Name != "":
		return v.Name
	}
	return in.macName
}

// nameMACs gives each instance a name that no other one has: the same VRID on two
// interfaces, or for both families on one, is common. Names of the configuration come
// first, then those that instances have already, then free ones in the order of the
// configuration, chosen as Keepalived does.
func (s *setup) nameMACs() {
	used := map[string]bool{}
	for _, in := range s.instances {
		if in.conf.VMAC != nil && in.conf.VMAC.Name != "" {
			used[in.conf.VMAC.Name] = true
		}
	}
	var nameless []*instance
	for _, in := range s.instances {
		switch {
		case in.conf.VMAC == nil || in.conf.VMAC.Name != "":
			in.macName = ""
		case in.macName == "" || used[in.macName]:
			nameless = append(nameless, in)
		default:
			used[in.macName] = true
		}
	}
	for _, in := range nameless {
		in.macName = freeMACName(in.conf.VRID, in.conf.IPv6, used)
		used[in.macName] = true
	}
}

// freeMACName is the first name that is free of vrrp.VRID, for IPv6 then vrrp6.VRID, and
// then vrrp1.VRID, vrrp2.VRID and so on.
func freeMACName(vrid uint8, ipv6 bool, used map[string]bool) string {
	name := fmt.Sprintf("vrrp.%d", vrid)
	if second := fmt.Sprintf("vrrp6.%d", vrid); ipv6 && used[name] && !used[second] {
		return second
	}
	for n := 1; used[name]; n++ {
		name = fmt.Sprintf("vrrp%d.%d", n, vrid)
	}
	return name
}

// macNames are the names of the interfaces with virtual MAC addresses.
func (s *setup) macNames() (names []string) {
	for _, in := range s.instances {
		if name := in.vmacName(); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// removeMACs deletes the interfaces with virtual MAC addresses but those to keep.
func (r *Router) removeMACs(names, keep []string) {
	if r.host.MACs == nil {
		return
	}
	for _, name := range names {
		if slices.Contains(keep, name) {
			continue
		}
		if err := r.host.MACs.Remove(name); err != nil {
			r.log.Error("cannot delete interface", "interface", name, "error", err)
		}
	}
}
