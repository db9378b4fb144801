package linux

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// parseRoute makes sense of the words of a route.
func parseRoute(w *words) (*route, error) {
	r := &route{table: unix.RT_TABLE_MAIN, protocol: PlainProtocol, kind: unix.RTN_UNICAST, preference: -1}
	named := false
	for {
		word, ok := w.next()
		if !ok {
			break
		}
		known, err := r.take(w, word)
		if err != nil {
			return nil, err
		}
		if known {
			continue
		}
		if word == "to" {
			if word, err = w.value(word); err != nil {
				return nil, err
			}
		}
		if kind, ok := routeKind(word); ok {
			r.kind = kind
			continue
		}
		if named {
			return nil, fmt.Errorf("unknown word %q", word)
		}
		if r.destination, named = parseNetwork(word); !named {
			return nil, fmt.Errorf("unknown word %q: neither of a route nor a destination", word)
		}
		if r.destination.IsValid() {
			err = r.family.agree(familyOf(r.destination.Addr()), word)
		}
		if err != nil {
			return nil, err
		}
	}
	if !named {
		return nil, errors.New("no destination")
	}
	if r.family.is == unix.AF_UNSPEC && r.via.IsValid() {
		r.family.is = familyOf(r.via)
	}
	if r.family.is == unix.AF_UNSPEC && len(r.hops) > 0 && r.hops[0].via.IsValid() {
		r.family.is = familyOf(r.hops[0].via)
	}
	return r, nil
}

// take reads a word of a route, with its value, if it is one.
func (r *route) take(w *words, word string) (known bool, err error) {
	for _, f := range []func(*words, string) (bool, error){r.takePath, r.takeNumber, r.takeMetric, r.takeFlag} {
		if known, err := f(w, word); known || err != nil {
			return known, err
		}
	}
	return false, nil
}

// takePath reads words about addresses and interfaces.
func (r *route) takePath(w *words, word string) (known bool, err error) {
	switch word {
	case "via", "gw":
		r.via, err = w.address(word)
	case "or":
		if !r.via.IsValid() {
			return true, errors.New("\"or\" without \"via\"")
		}
		h := hop{weight: 1}
		h.via, err = w.address(word)
		r.hops = []hop{{via: r.via, weight: 1}, h}
		r.family.is, r.via = familyOf(r.via), netip.Addr{}
	case "src":
		if r.source, err = w.address(word); err == nil {
			err = r.family.agree(familyOf(r.source), word)
		}
	case "from":
		if r.from, err = w.network(word); err == nil && r.from.IsValid() {
			err = r.family.agree(familyOf(r.from.Addr()), word)
		}
	case "dev", "oif":
		r.device, err = w.device(word)
	case "nexthop":
		err = r.takeHop(w)
	default:
		return false, nil
	}
	return true, err
}

// takeHop reads one next hop of several.
func (r *route) takeHop(w *words) (err error) {
	h := hop{weight: 1}
	for len(w.rest) > 0 && w.rest[0] != "nexthop" && err == nil {
		word, _ := w.next()
		switch word {
		case "via":
			h.via, err = w.address(word)
		case "dev":
			h.device, err = w.device(word)
		case "weight":
			if h.weight, err = w.number(word, 32); err == nil && (h.weight < 1 || h.weight > 256) {
				err = fmt.Errorf("weight %d is not from 1 to 256", h.weight)
			}
		case "onlink":
			h.flags |= unix.RTNH_F_ONLINK
		case "realms":
			h.realms, err = w.realms()
		default:
			err = fmt.Errorf("unknown word %q of a next hop", word)
		}
	}
	r.hops = append(r.hops, h)
	return err
}

// takeNumber reads words with numbers that a route is told by.
func (r *route) takeNumber(w *words, word string) (known bool, err error) {
	var n uint32
	switch word {
	case "table":
		r.table, err = w.named(word, nameTable)
	case "tos", "dsfield":
		n, err = w.named(word, nameTOS)
		r.tos = byte(n)
	case "protocol", "proto":
		n, err = w.named(word, nameProtocol)
		r.protocol = byte(n)
	case "scope":
		n, err = w.named(word, nameScope)
		r.scope, r.scoped = byte(n), true
	case "metric", "priority", "preference":
		n, err = w.number(word, 32)
		r.attributes = append(r.attributes, routeAttribute{unix.RTA_PRIORITY, n})
	case "expires":
		n, err = w.number(word, 32)
		r.attributes = append(r.attributes, routeAttribute{unix.RTA_EXPIRES, n})
	case "realms":
		n, err = w.realms()
		r.attributes = append(r.attributes, routeAttribute{unix.RTA_FLOW, n})
	case "pref":
		r.preference, err = w.routerPreference()
	default:
		return false, nil
	}
	return true, err
}

// routerPreference reads an IPv6 router preference (RFC 4191).
func (w *words) routerPreference() (int, error) {
	text, err := w.value("pref")
	if err != nil {
		return 0, err
	}
	switch text {
	case "medium":
		return 0, nil
	case "high":
		return 1, nil
	case "low":
		return 3, nil
	}
	return 0, fmt.Errorf("pref %q is none of low, medium, high", text)
}

// takeMetric reads what a route tells the transport protocols.
func (r *route) takeMetric(w *words, word string) (known bool, err error) {
	kinds := map[string]uint16{
		"mtu": unix.RTAX_MTU, "advmss": unix.RTAX_ADVMSS, "reordering": unix.RTAX_REORDERING, "cwnd": unix.RTAX_CWND, "ssthresh": unix.RTAX_SSTHRESH,
		"hoplimit": unix.RTAX_HOPLIMIT, "window": unix.RTAX_WINDOW, "initcwnd": unix.RTAX_INITCWND, "initrwnd": unix.RTAX_INITRWND,
		"quickack": unix.RTAX_QUICKACK, "fastopen_no_cookie": unix.RTAX_FASTOPEN_NO_COOKIE, "congctl": unix.RTAX_CC_ALGO,
		"rtt": unix.RTAX_RTT, "rttvar": unix.RTAX_RTTVAR, "rto_min": unix.RTAX_RTO_MIN, "features": unix.RTAX_FEATURES,
	}
	kind, ok := kinds[word]
	if !ok {
		return false, nil
	}
	if word != "features" && w.skip("lock") {
		r.locked |= 1 << kind
	}
	var n uint32
	switch word {
	case "congctl":
		r.congestion, err = w.value(word)
		return true, err
	case "features":
		var text string
		if text, err = w.value(word); err == nil && text != "ecn" {
			err = fmt.Errorf("unknown feature %q", text)
		}
		n = unix.RTAX_FEATURE_ECN
	case "rtt": // the kernel counts eighths of a millisecond, and quarters
		n, err = w.milliseconds(word, 8)
	case "rttvar":
		n, err = w.milliseconds(word, 4)
	case "rto_min":
		n, err = w.milliseconds(word, 1)
	case "quickack", "fastopen_no_cookie":
		n, err = w.number(word, 1)
	case "hoplimit":
		n, err = w.number(word, 8)
	default:
		n, err = w.number(word, 32)
	}
	r.metrics = append(r.metrics, routeAttribute{kind, n})
	return true, err
}

// takeFlag reads words without a value.
func (r *route) takeFlag(_ *words, word string) (known bool, err error) {
	switch word {
	case "inet", "inet6":
		return true, r.family.agree(familyNamed(word), word)
	case "onlink":
		r.flags |= unix.RTNH_F_ONLINK
	case "add":
		r.order = unix.NLM_F_EXCL
	case "append":
		r.order = unix.NLM_F_APPEND
	case "prepend":
		r.order = 0
	default:
		return false, nil
	}
	return true, nil
}

// routeKind reads what the kernel does with the packets.
func routeKind(word string) (byte, bool) {
	kind, ok := map[string]byte{
		"unicast": unix.RTN_UNICAST, "local": unix.RTN_LOCAL, "broadcast": unix.RTN_BROADCAST, "anycast": unix.RTN_ANYCAST,
		"multicast": unix.RTN_MULTICAST, "blackhole": unix.RTN_BLACKHOLE, "unreachable": unix.RTN_UNREACHABLE,
		"prohibit": unix.RTN_PROHIBIT, "throw": unix.RTN_THROW,
	}[word]
	return kind, ok
}
