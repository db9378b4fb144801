package linux

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// family is AF_INET or AF_INET6; 0 = not known yet.
type family byte

func familyOf(a netip.Addr) family {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// route is a route as its words have it; interfaces still have names.
type route struct {
	family      family
	kind        byte // RTN_*
	destination netip.Prefix
	from        netip.Prefix // IPv6
	source      netip.Addr   // preferred
	hop         hop
	hops        []hop // of a route with several
	vrf         string
	table       uint32
	scope       byte
	scoped      bool // scope was given
	protocol    byte
	priority    uint32 // 0 = the kernel's default
	tos         byte
	metrics     [unix.RTAX_MAX + 1]uint32
	set         [unix.RTAX_MAX + 1]bool
	congestion  string // its algorithm
	pref        byte
	hasPref     bool
	expires     uint32 // seconds
	propagate   byte
	propagates  bool
	flags       uint16 // NLM_F_* of the request that adds it
}

// hop is where a route leads.
type hop struct {
	via    netip.Addr
	device string
	weight uint32 // from 1; 0 = it is the only one
	onlink bool
	realms uint32
}

// readRoute reads a route in the words of ip(8).
func readRoute(list []string, lookup numbers) (route, error) {
	w := &words{list: list, numbers: lookup}
	r := route{kind: unix.RTN_UNICAST, table: unix.RT_TABLE_MAIN, protocol: PlainProtocol}
	seen := false
	for w.more() {
		word, _ := w.next()
		if read, ok := routeWords()[word]; ok {
			if err := read(w, &r); err != nil {
				return route{}, err
			}
			continue
		}
		if metric, ok := metricWords()[word]; ok {
			if err := r.metric(w, metric); err != nil {
				return route{}, err
			}
			continue
		}
		if seen {
			return route{}, w.wrong("not a word of a route")
		}
		seen = true
		if err := r.to(w, word); err != nil {
			return route{}, err
		}
	}
	if !seen {
		return route{}, &WordError{Place: len(list) + 1, Reason: "a route needs a destination"}
	}
	for _, h := range append([]hop{r.hop}, r.hops...) {
		if r.family == 0 && h.via.IsValid() { // "default" does not say
			r.family = familyOf(h.via)
		}
	}
	if r.family == 0 {
		r.family = unix.AF_INET
	}
	return r, r.check(len(list))
}

// check finds what does not go together.
func (r *route) check(n int) error {
	leads := r.kind == unix.RTN_UNICAST || r.kind == unix.RTN_LOCAL || r.kind == unix.RTN_ANYCAST ||
		r.kind == unix.RTN_BROADCAST || r.kind == unix.RTN_MULTICAST
	somewhere := r.hop.via.IsValid() || r.hop.device != "" || len(r.hops) > 0
	reason := ""
	switch {
	case leads && !somewhere:
		reason = "a route needs via, dev or nexthop"
	case !leads && somewhere:
		reason = "a route of this type leads nowhere"
	case len(r.hops) > 0 && (r.hop.via.IsValid() || r.hop.device != ""):
		reason = "nexthop does not go with via and dev"
	case r.family == unix.AF_INET && (r.hasPref || r.expires != 0 || r.from.IsValid()):
		reason = "pref, expires and from are words of IPv6"
	case r.family == unix.AF_INET6 && r.viaIPv4():
		reason = "an IPv6 route has no IPv4 next hop"
	case r.family == unix.AF_INET6 && r.hop.realms != 0:
		reason = "realms are a word of IPv4"
	default:
		return nil
	}
	return &WordError{Place: n + 1, Reason: reason}
}

// viaIPv4 reports whether a next hop is an IPv4 address.
func (r *route) viaIPv4() bool {
	return slices.ContainsFunc(append(r.hops, r.hop), func(h hop) bool { return h.via.Is4() })
}

func routeKinds() map[string]byte {
	return map[string]byte{
		"unicast": unix.RTN_UNICAST, "local": unix.RTN_LOCAL, "broadcast": unix.RTN_BROADCAST, "brd": unix.RTN_BROADCAST,
		"anycast": unix.RTN_ANYCAST, "multicast": unix.RTN_MULTICAST, "blackhole": unix.RTN_BLACKHOLE,
		"unreachable": unix.RTN_UNREACHABLE, "prohibit": unix.RTN_PROHIBIT, "throw": unix.RTN_THROW,
	}
}

// to reads [to] [TYPE] PREFIX; word is the first of them.
func (r *route) to(w *words, word string) (err error) {
	if word == "to" {
		if word, err = w.value(); err != nil {
			return err
		}
	}
	if kind, ok := routeKinds()[word]; ok {
		r.kind = kind
		if word, err = w.value(); err != nil {
			return err
		}
	}
	r.destination, err = w.prefixOf(word, &r.family)
	return err
}

// routeWords are the words that have a meaning of their own.
func routeWords() map[string]func(*words, *route) error {
	flag := func(f uint16) func(*words, *route) error {
		return func(_ *words, r *route) error { r.flags |= f; return nil }
	}
	return map[string]func(*words, *route) error{
		"inet":  func(w *words, r *route) error { return w.fixFamily(&r.family, unix.AF_INET) },
		"inet6": func(w *words, r *route) error { return w.fixFamily(&r.family, unix.AF_INET6) },
		"src":   func(w *words, r *route) (err error) { r.source, err = w.address(&r.family); return err },
		"from":  func(w *words, r *route) (err error) { r.from, err = w.prefix(&r.family); return err },
		"via":   routeVia, "gw": routeVia,
		"dev": routeDevice, "oif": routeDevice,
		"or":      routeOr,
		"onlink":  func(_ *words, r *route) error { r.hop.onlink = true; return nil },
		"nexthop": routeHop,
		"vrf":     func(w *words, r *route) (err error) { r.vrf, err = w.name(); return err },
		"tos":     routeTOS, "dsfield": routeTOS,
		"table":    func(w *words, r *route) (err error) { r.table, err = w.named("rt_tables", 32); return err },
		"protocol": routeProtocol, "proto": routeProtocol,
		"scope":  routeScope,
		"metric": routePriority, "priority": routePriority, "preference": routePriority,
		"expires":       func(w *words, r *route) (err error) { r.expires, err = w.number(32); return err },
		"realms":        func(w *words, r *route) (err error) { r.hop.realms, err = w.realms(); return err },
		"features":      routeFeatures,
		"congctl":       routeCongestion,
		"pref":          routePref,
		"ttl-propagate": routePropagate,
		"add":           flag(unix.NLM_F_EXCL), "append": flag(unix.NLM_F_APPEND), "prepend": flag(0),
		"encap": func(w *words, _ *route) error { return w.wrong("encapsulation is not supported") },
		"as":    func(w *words, _ *route) error { return w.wrong("labels are not supported") },
	}
}

// fixFamily is for the words inet and inet6.
func (w *words) fixFamily(f *family, is family) error {
	if *f != 0 && *f != is {
		return w.wrong("of the other family")
	}
	*f = is
	return nil
}

func routeVia(w *words, r *route) (err error) { return r.hop.readVia(w) }

// readVia reads [inet|inet6] ADDRESS. It may be of another family than the route (RFC
// 8950), and says nothing of that.
func (h *hop) readVia(w *words) (err error) {
	var f family
	switch {
	case w.skip("inet"):
		f = unix.AF_INET
	case w.skip("inet6"):
		f = unix.AF_INET6
	}
	h.via, err = w.address(&f)
	return err
}

// routeOr reads the second of two next hops: an old way to say nexthop.
func routeOr(w *words, r *route) (err error) {
	if !r.hop.via.IsValid() || len(r.hops) > 0 {
		return w.wrong("or goes with one via before it")
	}
	first, second := r.hop, hop{weight: 1}
	first.weight = 1
	r.hop = hop{}
	err = second.readVia(w)
	r.hops = []hop{first, second}
	return err
}

func routeDevice(w *words, r *route) (err error) { r.hop.device, err = w.name(); return err }
func routeTOS(w *words, r *route) (err error)    { r.tos, err = w.hexByte("rt_dsfield"); return err }

func routePriority(w *words, r *route) (err error) { r.priority, err = w.number(32); return err }

func routeProtocol(w *words, r *route) error {
	n, err := w.named("rt_protos", 8)
	r.protocol = byte(n)
	return err
}

func routeScope(w *words, r *route) error {
	s, err := w.value()
	if err != nil {
		return err
	}
	if r.scope, err = parseScope(s); err != nil {
		return w.wrong("not a scope")
	}
	r.scoped = true
	return nil
}

// routeHop reads nexthop [via ADDRESS] [dev NAME] [weight N] [onlink] [realms R]: all
// that follows, up to the next "nexthop".
func routeHop(w *words, r *route) error {
	h := hop{weight: 1}
	var err error
	for w.more() && err == nil {
		if w.list[w.at] == "nexthop" {
			break
		}
		switch word, _ := w.next(); word {
		case "via":
			err = h.readVia(w)
		case "dev":
			h.device, err = w.name()
		case "weight":
			if h.weight, err = w.number(16); err == nil && (h.weight < 1 || h.weight > 256) {
				err = w.wrong("a weight is from 1 to 256")
			}
		case "onlink":
			h.onlink = true
		case "realms":
			h.realms, err = w.realms()
		default:
			err = w.wrong("not a word of a nexthop")
		}
	}
	if err == nil && !h.via.IsValid() && h.device == "" {
		err = w.wrong("a nexthop needs via or dev")
	}
	r.hops = append(r.hops, h)
	return err
}

// realms reads [FROM/]TO.
func (w *words) realms() (uint32, error) {
	s, err := w.value()
	if err != nil {
		return 0, err
	}
	var out uint32
	parts := strings.Split(s, "/")
	if len(parts) > 2 {
		return 0, w.wrong("not realms")
	}
	for _, part := range parts {
		n, err := strconv.ParseUint(part, 0, 16)
		if err != nil {
			known, ok := w.numbers("rt_realms", part)
			if !ok || known > 0xffff {
				return 0, w.wrong("neither a number nor a name in rt_realms")
			}
			n = uint64(known)
		}
		out = out<<16 | uint32(n)
	}
	return out, nil
}

func (r *route) metric(w *words, metric int) (err error) {
	if lockable(metric) && w.skip("lock") {
		r.metrics[unix.RTAX_LOCK] |= 1 << metric
		r.set[unix.RTAX_LOCK] = true
	}
	r.set[metric] = true
	switch metric {
	case unix.RTAX_RTT:
		r.metrics[metric], err = w.milliseconds(8)
	case unix.RTAX_RTTVAR:
		r.metrics[metric], err = w.milliseconds(4)
	case unix.RTAX_RTO_MIN:
		r.metrics[metric], err = w.milliseconds(1)
		r.metrics[unix.RTAX_LOCK] |= 1 << metric // without it the kernel takes no notice
		r.set[unix.RTAX_LOCK] = true
	case unix.RTAX_HOPLIMIT:
		r.metrics[metric], err = w.number(8)
	case unix.RTAX_QUICKACK, unix.RTAX_FASTOPEN_NO_COOKIE:
		r.metrics[metric], err = w.number(1)
	default:
		r.metrics[metric], err = w.number(32)
	}
	return err
}

func metricWords() map[string]int {
	return map[string]int{
		"mtu": unix.RTAX_MTU, "window": unix.RTAX_WINDOW, "rtt": unix.RTAX_RTT, "rttvar": unix.RTAX_RTTVAR,
		"ssthresh": unix.RTAX_SSTHRESH, "cwnd": unix.RTAX_CWND, "advmss": unix.RTAX_ADVMSS,
		"reordering": unix.RTAX_REORDERING, "hoplimit": unix.RTAX_HOPLIMIT, "initcwnd": unix.RTAX_INITCWND,
		"rto_min": unix.RTAX_RTO_MIN, "initrwnd": unix.RTAX_INITRWND, "quickack": unix.RTAX_QUICKACK,
		"fastopen_no_cookie": unix.RTAX_FASTOPEN_NO_COOKIE,
	}
}

func lockable(metric int) bool {
	return slices.Contains([]int{
		unix.RTAX_MTU, unix.RTAX_ADVMSS, unix.RTAX_RTT, unix.RTAX_RTTVAR, unix.RTAX_REORDERING, unix.RTAX_CWND,
		unix.RTAX_SSTHRESH, unix.RTAX_RTO_MIN,
	}, metric)
}

// milliseconds reads a time with the unit s or ms as a number of so many parts of a
// millisecond. A number without a unit is that number of parts.
func (w *words) milliseconds(parts uint64) (uint32, error) {
	s, err := w.value()
	if err != nil {
		return 0, err
	}
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyz")
	switch s[len(digits):] {
	case "":
		parts = 1
	case "ms", "msec", "msecs":
	case "s", "sec", "secs":
		parts *= 1000
	default:
		return 0, w.wrong("not a time")
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || n*parts > 1<<32-1 {
		return 0, w.wrong("not a time")
	}
	return uint32(n * parts), nil
}

func routeFeatures(w *words, r *route) error {
	s, err := w.value()
	if err == nil && s != "ecn" {
		err = w.wrong("not a feature")
	}
	r.metrics[unix.RTAX_FEATURES] |= unix.RTAX_FEATURE_ECN
	r.set[unix.RTAX_FEATURES] = true
	return err
}

func routeCongestion(w *words, r *route) (err error) {
	if w.skip("lock") {
		r.metrics[unix.RTAX_LOCK] |= 1 << unix.RTAX_CC_ALGO
		r.set[unix.RTAX_LOCK] = true
	}
	if r.congestion, err = w.value(); err == nil && len(r.congestion) > 15 {
		err = w.wrong("longer than 15 characters")
	}
	return err
}

// routePref reads the preference of RFC 4191.
func routePref(w *words, r *route) error {
	s, err := w.value()
	if err != nil {
		return err
	}
	known := map[string]byte{"low": 3, "medium": 0, "high": 1}
	value, ok := known[s]
	if !ok {
		return w.wrong("not low, medium or high")
	}
	r.pref, r.hasPref = value, true
	return nil
}

func routePropagate(w *words, r *route) error {
	s, err := w.value()
	if err != nil {
		return err
	}
	if s != "enabled" && s != "disabled" {
		return w.wrong("not enabled or disabled")
	}
	r.propagates = true
	if s == "enabled" {
		r.propagate = 1
	}
	return nil
}
