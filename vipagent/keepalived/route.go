package keepalived

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

func setRoutes(p *parser, s *statement) {
	p.draft.Routes = append(p.draft.Routes, p.routes(s)...)
}

func setStaticRoutes(p *parser, s *statement) {
	p.config.StaticRoutes = append(p.config.StaticRoutes, p.routes(s)...)
}

// wordKind says what a word of a route or rule is followed by.
type wordKind uint8

const (
	noWord     wordKind = iota // not one of the language
	flagWord                   // nothing
	anyValue                   // a word that only the host can judge
	lockValue                  // a word, perhaps with "lock" before it
	numberWord                 // a number
	hostValue                  // an address
	netValue                   // a prefix
	typeWord                   // nothing; it says what the kernel does with packets
	restWord                   // everything after it is its own
	portValue                  // a number, or two joined by "-"
)

// routeWord says what follows a word of a route.
func routeWord(s string) wordKind {
	switch s {
	case "onlink", "add", "prepend", "append", "no_track", "inet", "inet6", "to":
		return flagWord
	case "table", "protocol", "scope", "tos", "dsfield", "dev", "oif", "vrf", "features", "ttl-propagate", "pref", "track_group", "realms":
		return anyValue
	case "mtu", "advmss", "rtt", "rttvar", "reordering", "cwnd", "ssthresh", "rto_min", "congctl":
		return lockValue
	case "metric", "priority", "preference", "expires", "hoplimit", "window", "initcwnd", "initrwnd", "quickack", "fastopen_no_cookie":
		return numberWord
	case "via", "gw", "src", "or":
		return hostValue
	case "from":
		return netValue
	case "nexthop", "encap", "as":
		return restWord
	case "unicast", "local", "broadcast", "anycast", "multicast", "throw", "unreachable", "prohibit", "blackhole", "nat", "xresolve":
		return typeWord
	}
	return noWord
}

// ruleWord says what follows a word of a rule.
func ruleWord(s string) wordKind {
	switch s {
	case "not", "no_track", "inet", "inet6", "type":
		return flagWord
	case "from", "to":
		return netValue
	case "table", "lookup", "tos", "dsfield", "fwmark", "realms", "suppress_ifgroup", "sup_group", "dev", "iif", "oif", "uidrange", "ipproto", "track_group":
		return anyValue
	case "preference", "order", "priority", "suppress_prefixlength", "sup_pl", "tunnel-id", "protocol", "goto":
		return numberWord
	case "sport", "dport":
		return portValue
	case "nop", "blackhole", "unreachable", "prohibit", "l3mdev":
		return typeWord
	}
	return noWord
}

// lineReader reads a line of a block of routes or rules.
type lineReader struct {
	p       *parser
	keyword string // of the block
	static  bool
	kindOf  func(string) wordKind
	words   []word
	i       int
	// What was there.
	kept       []string
	seen       []string
	noTrack    bool
	trackGroup string
}

// take reads the whole line; other takes in a word that is not of the language.
func (r *lineReader) take(other func(word) bool) bool {
	for ; r.i < len(r.words); r.i++ {
		w := r.words[r.i]
		kind := r.kindOf(w.text)
		if w.text == "track_group" && !r.static {
			kind = noWord
		}
		switch {
		case kind == noWord:
			r.kept = append(r.kept, w.text)
			if !other(w) {
				return false
			}
			continue
		case kind == restWord:
			r.seen = append(r.seen, w.text)
			for _, w := range r.words[r.i:] {
				r.kept = append(r.kept, w.text)
			}
			return true
		case w.text == "no_track":
			r.noTrack = true
			continue
		}
		r.seen = append(r.seen, w.text)
		if w.text != "track_group" {
			r.kept = append(r.kept, w.text)
		}
		if kind != flagWord && kind != typeWord && !r.value(w, kind) {
			return false
		}
	}
	return true
}

// value reads what follows a word.
func (r *lineReader) value(w word, kind wordKind) bool {
	for r.i++; r.i < len(r.words); r.i++ {
		v := r.words[r.i]
		if w.text == "track_group" {
			r.trackGroup = v.text
			return true
		}
		r.kept = append(r.kept, v.text)
		if kind == lockValue && v.text == "lock" || kind == hostValue && (v.text == "inet" || v.text == "inet6") {
			continue
		}
		return r.judge(w, v, kind)
	}
	r.p.error(w.at, r.keyword, w.text+" lacks its value", "Keepalived ends here, and reads no further", 2)
	return false
}

// judge says whether a value is possible.
func (r *lineReader) judge(w, v word, kind wordKind) (ok bool) {
	switch kind {
	case numberWord:
		_, err := strconv.ParseUint(v.text, 0, 64)
		ok = err == nil
	case hostValue:
		_, err := netip.ParseAddr(v.text)
		ok = err == nil
	case netValue:
		ok = isNet(v.text)
	case portValue:
		low, high, two := strings.Cut(v.text, "-")
		_, err := strconv.ParseUint(low, 10, 16)
		_, err2 := strconv.ParseUint(high, 10, 16)
		ok = err == nil && (!two || err2 == nil)
	default:
		ok = true
	}
	if !ok {
		r.warn(v, fmt.Sprintf("%s cannot be %q: this line is ignored", w.text, v.text))
	}
	return ok
}

func (r *lineReader) warn(w word, message string) {
	r.p.warn(w.at, r.keyword, message, semicolon(w.text))
}

func (r *lineReader) has(words ...string) bool {
	return slices.ContainsFunc(r.seen, func(s string) bool { return slices.Contains(words, s) })
}

// isNet says whether a word is the destination of a route: an IPv4 prefix may leave
// octets out.
func isNet(s string) bool {
	if s == "default" || s == "any" || s == "all" {
		return true
	}
	if _, ok := parsePrefix(s); ok {
		return true
	}
	octets, length, cut := strings.Cut(s, "/")
	if n := strings.Count(octets, "."); n < 3 {
		octets += strings.Repeat(".0", 3-n)
	}
	if cut {
		octets += "/" + length
	}
	_, ok := parsePrefix(octets)
	return ok
}

// routes reads the lines of a block of routes, in the words of ip(8).
func (p *parser) routes(s *statement) (routes []Route) {
	for _, i := range s.items {
		r := &lineReader{p: p, keyword: s.kw.name, static: s.kw.in == topLevel, kindOf: routeWord, words: i.words}
		to := ""
		good := r.take(func(w word) bool {
			if !isNet(w.text) {
				r.warn(w, fmt.Sprintf("unknown word %q of a route: this line is ignored", w.text))
				return false
			}
			to = w.text
			return true
		})
		switch {
		case !good:
			continue
		case to == "":
			r.warn(i.words[0], "a route needs a destination: this line is ignored")
			continue
		case r.has("gw", "or"):
			r.warn(i.words[0], `"gw" and "or" are obsolete: write via and nexthop`)
		}
		if !r.noTrack && !r.has("dev", "oif") {
			r.warn(i.words[0], fmt.Sprintf("the route to %s has no dev: it is not put back when it is deleted, as with no_track", to))
			r.noTrack = true
		}
		routes = append(routes, Route{Words: r.kept, NoTrack: r.noTrack, TrackGroup: r.trackGroup, At: i.words[0].at})
	}
	return routes
}
