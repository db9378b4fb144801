package keepalived

import (
	"fmt"
	"net/netip"
	"strconv"
)

// familyOf is 4 or 6.
func familyOf(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}

// ofFamily says whether an address fits the instance, whose family the first address
// decides.
func (p *parser) ofFamily(at Position, keyword string, a netip.Addr) bool {
	d := p.draft
	if d.family == 0 {
		d.family = familyOf(a)
	}
	if d.family == familyOf(a) {
		return true
	}
	p.warn(at, keyword, fmt.Sprintf("%s %s is ignored: the instance is one of IPv%d", keyword, a, d.family), "another instance is needed for the other family")
	return false
}

// setSource reads mcast_src_ip and unicast_src_ip.
func setSource(p *parser, s *statement) {
	p.draft.note(s)
	if a, ok := p.address(s, 1, "it is ignored"); ok && p.ofFamily(s.argAt(1), s.kw.name, a) {
		p.draft.Source = a
	}
}

// setMulticast reads mcast_dst_ip.
func setMulticast(p *parser, s *statement) {
	a, ok := p.address(s, 1, "it is ignored")
	if !ok || !p.ofFamily(s.argAt(1), s.kw.name, a) {
		return
	}
	if !a.IsMulticast() || a.Is6() && !a.IsLinkLocalMulticast() {
		p.warn(s.argAt(1), s.kw.name, fmt.Sprintf("mcast_dst_ip %s is ignored: it is not a (link-local) multicast address", a), "")
		return
	}
	p.draft.Group = a
	p.draft.note(s)
}

// setPeers reads unicast_peer.
func setPeers(p *parser, s *statement) {
	p.draft.note(s)
	for _, i := range s.items {
		a, err := netip.ParseAddr(i.words[0].text)
		if err != nil {
			p.warn(i.words[0].at, s.kw.name, fmt.Sprintf("%q is not an IP address: this peer is ignored", i.words[0].text), semicolon(i.words[0].text))
			continue
		}
		if !p.ofFamily(i.words[0].at, s.kw.name, a) {
			continue
		}
		peer := Peer{Address: a}
		p.peerOptions(&peer, i)
		p.draft.Peers = append(p.draft.Peers, peer)
	}
}

// peerOptions reads min_ttl and max_ttl, which make Keepalived check where
// advertisements come from.
func (p *parser) peerOptions(peer *Peer, i item) {
	for n := 1; n < len(i.words); n += 2 {
		w := i.words[n]
		if n+1 == len(i.words) {
			p.warn(w.at, "unicast_peer", fmt.Sprintf("%s lacks its value", w.text), "")
			return
		}
		ttl, err := strconv.Atoi(i.words[n+1].text)
		switch {
		case err != nil || ttl < 0 || ttl > 255:
			p.warn(i.words[n+1].at, "unicast_peer", fmt.Sprintf("%s %q is not between 0 and 255: it is ignored", w.text, i.words[n+1].text), "")
			continue
		case w.text == "min_ttl":
			peer.MinTTL = ttl
		case w.text == "max_ttl":
			peer.MaxTTL = ttl
		default:
			p.warn(w.at, "unicast_peer", fmt.Sprintf("unknown option %q of a peer", w.text), "one peer per line; options are min_ttl and max_ttl")
			return
		}
		p.draft.CheckUnicast = true
	}
	if peer.MaxTTL != 0 && peer.MinTTL > peer.MaxTTL {
		p.warn(i.words[0].at, "unicast_peer", fmt.Sprintf("min_ttl %d is above max_ttl %d: nothing of this peer is heard", peer.MinTTL, peer.MaxTTL), "")
	}
}

func setUnicastTTL(p *parser, s *statement) {
	if n, ok := p.number(s, 1, 0, 255, "it is ignored"); ok {
		p.draft.UnicastTTL = n
		p.draft.note(s)
	}
}

// setOldChecksum reads old_unicast_checksum [never].
func setOldChecksum(p *parser, s *statement) {
	p.draft.note(s)
	switch s.arg(1) {
	case "":
		p.draft.OldUnicast = "always"
	case "never":
		p.draft.OldUnicast = "never"
	default:
		p.warn(s.argAt(1), s.kw.name, fmt.Sprintf("unknown old_unicast_checksum %q: it is ignored", s.arg(1)), "")
	}
}
