package keepalived

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// setAddresses reads virtual_ipaddress. An address of another family than the first
// is moved to those that are not advertised.
func setAddresses(p *parser, s *statement) {
	d := p.draft
	d.note(s)
	for _, i := range s.items {
		a, ok := p.parseAddress(s, i)
		if !ok {
			continue
		}
		f := familyOf(a.Prefix.Addr())
		if d.family == 0 {
			d.family = f
		}
		if d.family != f {
			p.warn(i.words[0].at, s.kw.name, fmt.Sprintf("%s is set but not advertised: the instance is one of IPv%d", a.Prefix.Addr(), d.family),
				"Keepalived before 2.3 drops it; another instance is needed for the other family")
			d.Excluded = append(d.Excluded, a)
			continue
		}
		d.Addresses = append(d.Addresses, a)
	}
}

// setExcluded reads virtual_ipaddress_excluded.
func setExcluded(p *parser, s *statement) {
	for _, i := range s.items {
		if a, ok := p.parseAddress(s, i); ok {
			p.draft.Excluded = append(p.draft.Excluded, a)
		}
	}
}

// setStaticAddresses reads static_ipaddress.
func setStaticAddresses(p *parser, s *statement) {
	for _, i := range s.items {
		if a, ok := p.parseAddress(s, i); ok {
			p.config.StaticAddresses = append(p.config.StaticAddresses, a)
		}
	}
}

// addressReader reads the words after an address.
type addressReader struct {
	p       *parser
	block   string
	item    item
	i       int
	address *Address
	static  bool
}

// parseAddress reads a line like "192.0.2.1/24 brd + dev eth0 label eth0:1".
func (p *parser) parseAddress(s *statement, i item) (Address, bool) {
	w := i.words[0]
	prefix, ok := p.parsePrefixOf(s.kw.name, w)
	if !ok {
		return Address{}, false
	}
	a := Address{Prefix: prefix, At: w.at}
	r := &addressReader{p: p, block: s.kw.name, item: i, i: 1, address: &a, static: s.kw.in == topLevel}
	for r.i < len(i.words) {
		if !r.word() {
			return Address{}, false
		}
		r.i++
	}
	r.finish()
	return a, true
}

// parsePrefixOf reads an address; a length that is wrong is the longest.
func (p *parser) parsePrefixOf(block string, w word) (netip.Prefix, bool) {
	if prefix, ok := parsePrefix(w.text); ok {
		return prefix, true
	}
	s, length, cut := strings.Cut(w.text, "/")
	a, err := netip.ParseAddr(s)
	switch {
	case w.text == "default" || w.text == "any" || w.text == "all":
		return netip.Prefix{}, false
	case err != nil || !cut:
		p.warn(w.at, block, fmt.Sprintf("%q is not an IP address: it is ignored", w.text), orElse(semicolon(w.text), "each line begins with an address"))
		return netip.Prefix{}, false
	}
	p.warn(w.at, block, fmt.Sprintf("the prefix length %q of %s is not valid: %d is used", length, s, a.BitLen()), "")
	return netip.PrefixFrom(a, a.BitLen()), true
}

// value is the word after the current one; false if there is none.
func (r *addressReader) value() (word, bool) {
	w := r.item.words[r.i]
	if r.i+1 == len(r.item.words) {
		r.warn(w.at, fmt.Sprintf("%s lacks its value: %s is ignored", w.text, r.item.words[0].text))
		return w, false
	}
	r.i++
	return r.item.words[r.i], true
}

func (r *addressReader) warn(at Position, message string) { r.p.warn(at, r.block, message, "") }

// word reads one option of an address, and says whether the address is still good.
func (r *addressReader) word() bool {
	w := r.item.words[r.i]
	a := r.address
	switch w.text {
	case "no_track":
		a.NoTrack = true
		return true
	case "home", "-nodad", "mngtmpaddr", "noprefixroute", "autojoin":
		a.Options = append(a.Options, w.text)
		return true
	case "dev", "scope", "brd", "broadcast", "label", "peer", "preferred_lft":
		return r.option(w)
	case "use_vmac":
		if !r.static {
			a.Options = append(a.Options, w.text)
			return true
		}
	case "track_group":
		if r.static {
			v, ok := r.value()
			a.TrackGroup = v.text
			return ok
		}
	}
	hint := ""
	if _, ok := parsePrefix(w.text); ok {
		hint = "one address per line"
	}
	r.p.warn(w.at, r.block, fmt.Sprintf("unknown option %q of an address: it is ignored", w.text), orElse(semicolon(w.text), hint))
	return true
}

// option reads an option that has a value.
func (r *addressReader) option(w word) bool {
	v, ok := r.value()
	if !ok {
		return false
	}
	a := r.address
	switch w.text {
	case "dev":
		if a.Interface != "" {
			r.warn(w.at, fmt.Sprintf("dev is there twice: %s is ignored", r.item.words[0].text))
			return false
		}
		a.Interface = v.text
	case "scope":
		if !isScope(v.text) {
			r.warn(v.at, fmt.Sprintf("unknown scope %q: it is ignored", v.text))
			return true
		}
		a.Scope = v.text
	case "brd", "broadcast":
		return r.broadcast(v)
	case "label":
		if len(v.text) > maxInterface {
			r.warn(v.at, fmt.Sprintf("the label %q is longer than %d characters: %s is ignored", v.text, maxInterface, r.item.words[0].text))
			return false
		}
		a.Label = v.text
	case "peer":
		r.peer(v)
	case "preferred_lft":
		if _, err := strconv.ParseUint(v.text, 10, 32); err != nil && v.text != "forever" {
			r.warn(v.at, fmt.Sprintf("preferred_lft %q is ignored: it is a number of seconds, or forever", v.text))
			return true
		}
		a.Options = append(a.Options, "preferred_lft", v.text)
	}
	return true
}

// isScope says whether ip(8) knows a scope without further configuration.
func isScope(s string) bool {
	_, err := strconv.ParseUint(s, 0, 8)
	return err == nil || slices.Contains([]string{"global", "nowhere", "host", "link", "site"}, s)
}

// broadcast reads an address, "+" for all ones in the host's part, or "-" for all
// zeros.
func (r *addressReader) broadcast(v word) bool {
	p := r.address.Prefix
	if p.Addr().Is6() {
		r.warn(v.at, fmt.Sprintf("IPv6 has no broadcast: %s is ignored", r.item.words[0].text))
		return false
	}
	if v.text == "+" || v.text == "-" {
		if p.Bits() > 30 {
			r.warn(v.at, fmt.Sprintf("a prefix of %d bits has no broadcast address: brd %s is ignored", p.Bits(), v.text))
			return true
		}
		b := p.Masked().Addr().As4()
		if v.text == "+" {
			for bit := p.Bits(); bit < 32; bit++ {
				b[bit/8] |= 0x80 >> (bit % 8)
			}
		}
		r.address.Broadcast = netip.AddrFrom4(b)
		return true
	}
	a, err := netip.ParseAddr(v.text)
	if err != nil || !a.Is4() {
		r.warn(v.at, fmt.Sprintf("%q is not a broadcast address: %s is ignored", v.text, r.item.words[0].text))
		return false
	}
	r.address.Broadcast = a
	return true
}

// peer reads the address of the other end, which has no prefix length.
func (r *addressReader) peer(v word) {
	a, err := netip.ParseAddr(v.text)
	switch {
	case r.address.Peer.IsValid():
		r.warn(v.at, fmt.Sprintf("there is a peer already: %s is ignored", v.text))
	case err != nil:
		r.warn(v.at, fmt.Sprintf("the peer %q is not an IP address: it is ignored", v.text))
	case familyOf(a) != familyOf(r.address.Prefix.Addr()):
		r.warn(v.at, fmt.Sprintf("the peer %s is of the other family: it is ignored", v.text))
	default:
		if !r.address.Prefix.IsSingleIP() {
			r.warn(r.item.words[0].at, "the prefix length is ignored: an address with a peer has the peer's")
		}
		r.address.Peer = netip.PrefixFrom(a, a.BitLen())
		r.address.Prefix = netip.PrefixFrom(r.address.Prefix.Addr(), a.BitLen())
	}
}

// finish checks what depends on more than one option.
func (r *addressReader) finish() {
	a := r.address
	at := r.item.words[0].at
	if a.Broadcast.IsValid() && a.Peer.IsValid() {
		r.warn(at, "an address with a peer has no broadcast address: it is ignored")
		a.Broadcast = netip.Addr{}
	}
	if r.static && a.Interface == "" {
		a.Interface = r.p.config.Global.DefaultInterface
		if a.Interface == "" {
			r.p.info(at, r.block, fmt.Sprintf("%s has no dev: Keepalived takes eth0 then", r.item.words[0].text), "name the interface")
			a.Interface = "eth0"
		}
	}
	if a.Prefix.Addr().Is4() {
		return
	}
	if a.Scope != "" {
		r.warn(at, "the scope of an IPv6 address is not chosen: it is ignored")
		a.Scope = ""
	}
	if a.Label != "" {
		r.warn(at, "IPv6 addresses have no label: it is ignored")
		a.Label = ""
	}
}
