package keepalived

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

func (d *draft) vmac() *VMAC {
	if d.VMAC == nil {
		d.VMAC = &VMAC{}
	}
	return d.VMAC
}

// setVMAC reads use_vmac [NAME] [MAC].
func setVMAC(p *parser, s *statement) {
	v := p.draft.vmac()
	p.draft.note(s)
	for i := 1; i < len(s.words) && i <= 2; i++ {
		w := s.arg(i)
		if !strings.Contains(w, ":") {
			p.nameVMAC(s, i, v)
			continue
		}
		first, ok := parseMAC(w)
		if !ok {
			p.warn(s.argAt(i), s.kw.name, fmt.Sprintf("%q is not a MAC address: it is ignored", w), "")
			continue
		}
		if first&1 != 0 {
			p.warn(s.argAt(i), s.kw.name, fmt.Sprintf("the MAC address %s is one of a group: it is ignored", w), "")
			continue
		}
		v.MAC = w
	}
	p.extra(s, 2)
}

// setIPVLAN reads use_ipvlan [NAME] [ADDRESS] [bridge|private|vepa].
func setIPVLAN(p *parser, s *statement) {
	if p.draft.set.has(s.kw.name) {
		p.warn(s.at(), s.kw.name, "use_ipvlan is there already: this one is ignored", "")
		return
	}
	v := p.draft.vmac()
	v.IPVLAN = true
	p.draft.note(s)
	for i := 1; i < len(s.words); i++ {
		w := s.arg(i)
		prefix, isAddress := parsePrefix(w)
		switch {
		case w == "bridge" || w == "private" || w == "vepa":
			if v.Mode != "" {
				p.warn(s.argAt(i), s.kw.name, fmt.Sprintf("the mode of the ipvlan is %s already: %s is ignored", v.Mode, w), "")
				continue
			}
			v.Mode = w
		case isAddress && v.Address.IsValid():
			p.warn(s.argAt(i), s.kw.name, fmt.Sprintf("the ipvlan has an address already: %s is ignored", w), "")
		case isAddress:
			if p.ofFamily(s.argAt(i), s.kw.name, prefix.Addr()) {
				v.Address = prefix
				if !p.draft.Source.IsValid() {
					p.draft.Source = prefix.Addr()
				}
			}
		default:
			p.nameVMAC(s, i, v)
		}
	}
}

// nameVMAC takes the name of the interface.
func (p *parser) nameVMAC(s *statement, i int, v *VMAC) {
	w := s.arg(i)
	switch {
	case v.Name != "":
		p.warn(s.argAt(i), s.kw.name, fmt.Sprintf("the interface is named %s already: %q is ignored", v.Name, w), "")
		return
	case len(w) > maxInterface || w == "." || w == ".." || strings.ContainsAny(w, "/: \t"):
		p.warn(s.argAt(i), s.kw.name, fmt.Sprintf("%q cannot be the name of an interface: it is ignored", w), "")
		return
	}
	for _, d := range p.drafts {
		if d != p.draft && d.VMAC != nil && d.VMAC.Name == w {
			p.warn(s.argAt(i), s.kw.name, fmt.Sprintf("vrrp_instance %s uses the interface name %s already: it is ignored", d.Name, w), "")
			return
		}
	}
	v.Name = w
}

func setXmitBase(p *parser, s *statement) {
	p.draft.note(s)
}

// parsePrefix reads an address with or without its length.
func parsePrefix(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p, true
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}

// parseMAC reads six octets, or five of them, and gives the first.
func parseMAC(s string) (first byte, ok bool) {
	octets := strings.Split(strings.TrimSuffix(s, ":"), ":")
	if len(octets) != 5 && len(octets) != 6 {
		return 0, false
	}
	for i, o := range octets {
		n, err := strconv.ParseUint(o, 16, 8)
		if err != nil || len(o) > 2 {
			return 0, false
		}
		if i == 0 {
			first = byte(n)
		}
	}
	return first, true
}
