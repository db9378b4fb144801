package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// AddRoute adds a route in the words of ip(8), in the forms that keepalived.conf has:
// [TYPE] DESTINATION [via ADDRESS] [dev INTERFACE] and so on. A word that it does not know is an
// error that names it. Without "add" or "append" the route comes before others to the
// same destination. It has [PlainProtocol] unless "protocol" says otherwise. One that is
// there is fine.
func (k *Kernel) AddRoute(text []string) error {
	r, err := parseRoute(k.words(text))
	if err == nil {
		err = k.one(message{kind: unix.RTM_NEWROUTE, flags: unix.NLM_F_CREATE | r.order, body: r.encode()})
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add route %s: %w", strings.Join(text, " "), err)
	}
	return nil
}

// RemoveRoute removes the route that [Kernel.AddRoute] adds for the same words. One that
// is not there is fine, and so is one over an interface that is gone.
func (k *Kernel) RemoveRoute(text []string) error {
	r, err := parseRoute(k.words(text))
	if err == nil {
		err = k.one(message{kind: unix.RTM_DELROUTE, body: r.encode()})
	}
	if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, ErrNoInterface) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove route %s: %w", strings.Join(text, " "), err)
	}
	return nil
}

func (k *Kernel) words(text []string) *words {
	return &words{rest: text, names: systemNames(), index: k.indexOf}
}

// one sends a single request.
func (k *Kernel) one(m message) error { return k.writes.do([]message{m}, 1)[0] }

// route is a route as the kernel takes it.
type route struct {
	family      family
	destination netip.Prefix // zero = all
	from        netip.Prefix // zero = all
	tos         byte
	table       uint32
	protocol    byte
	scope       byte
	scoped      bool // scope was given
	kind        byte // RTN_*
	flags       uint32
	order       uint16 // NLM_F_EXCL, NLM_F_APPEND or 0: before the others
	via         netip.Addr
	source      netip.Addr
	device      int
	attributes  []routeAttribute // of 32 bits
	metrics     []routeAttribute
	congestion  string
	locked      uint32 // metrics that are not discovered, by bits
	preference  int    // IPv6 router preference; -1 = none
	hops        []hop
}

// routeAttribute is an attribute of 32 bits.
type routeAttribute struct {
	kind  uint16
	value uint32
}

// hop is one of several next hops.
type hop struct {
	via    netip.Addr
	device int
	weight uint32 // from 1
	flags  uint32
	realms uint32
}

// encode makes the body of RTM_NEWROUTE and RTM_DELROUTE.
//
//	struct rtmsg   family, length of destination and source, tos,
//	               table, protocol, scope, type (8 bits each), flags (32 bits)
func (r *route) encode() []byte {
	family := r.family.orIPv4()
	table := byte(unix.RT_TABLE_UNSPEC)
	if r.table < 256 {
		table = byte(r.table)
	}
	b := make([]byte, 0, 128)
	b = append(b, family, bitsOf(r.destination), bitsOf(r.from), r.tos, table, r.protocol, r.scopeOr(), r.kind)
	b = binary.NativeEndian.AppendUint32(b, r.flags)
	b = appendNative32(b, unix.RTA_TABLE, r.table)
	if r.destination.IsValid() {
		b = appendAttr(b, unix.RTA_DST, r.destination.Addr().AsSlice())
	}
	if r.from.IsValid() {
		b = appendAttr(b, unix.RTA_SRC, r.from.Addr().AsSlice())
	}
	if r.source.IsValid() {
		b = appendAttr(b, unix.RTA_PREFSRC, r.source.AsSlice())
	}
	b = appendGateway(b, family, r.via)
	if r.device != 0 {
		b = appendNative32(b, unix.RTA_OIF, uint32(r.device))
	}
	for _, a := range r.attributes {
		b = appendNative32(b, a.kind, a.value)
	}
	if r.preference >= 0 {
		b = appendAttr(b, unix.RTA_PREF, []byte{byte(r.preference)})
	}
	if m := r.encodeMetrics(); len(m) > 0 {
		b = appendNest(b, unix.RTA_METRICS, m)
	}
	if len(r.hops) > 0 {
		b = appendNest(b, unix.RTA_MULTIPATH, encodeHops(r.hops, family))
	}
	return b
}

// scopeOr is the scope; by default, as ip(8) has it, what the type and the next hop make
// likely.
func (r *route) scopeOr() byte {
	direct := !r.via.IsValid() && len(r.hops) == 0
	switch {
	case r.scoped:
		return r.scope
	case r.family.orIPv4() == unix.AF_INET6:
		return unix.RT_SCOPE_UNIVERSE
	case r.kind == unix.RTN_LOCAL, r.kind == unix.RTN_NAT:
		return unix.RT_SCOPE_HOST
	case r.kind == unix.RTN_BROADCAST, r.kind == unix.RTN_MULTICAST, r.kind == unix.RTN_ANYCAST, r.kind == unix.RTN_UNICAST && direct:
		return unix.RT_SCOPE_LINK
	}
	return unix.RT_SCOPE_UNIVERSE
}

func (r *route) encodeMetrics() (b []byte) {
	for _, m := range r.metrics {
		b = appendNative32(b, m.kind, m.value)
	}
	if r.congestion != "" {
		b = appendAttr(b, unix.RTAX_CC_ALGO, append([]byte(r.congestion), 0))
	}
	if r.locked != 0 {
		b = appendNative32(b, unix.RTAX_LOCK, r.locked)
	}
	return b
}

// appendGateway adds a next hop; it may be of another family than the route.
func appendGateway(b []byte, family byte, via netip.Addr) []byte {
	switch {
	case !via.IsValid():
		return b
	case familyOf(via) == family:
		return appendAttr(b, unix.RTA_GATEWAY, via.AsSlice())
	}
	return appendAttr(b, unix.RTA_VIA, append(binary.NativeEndian.AppendUint16(nil, uint16(familyOf(via))), via.AsSlice()...))
}

// encodeHops makes the next hops.
//
//	struct rtnexthop   length (16 bits), flags, weight - 1 (8 bits each), index (32 bits)
func encodeHops(hops []hop, family byte) (b []byte) {
	for _, h := range hops {
		a := appendGateway(nil, family, h.via)
		if h.realms != 0 {
			a = appendNative32(a, unix.RTA_FLOW, h.realms)
		}
		b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtNexthop+len(a)))
		b = append(b, byte(h.flags), byte(h.weight-1))
		b = binary.NativeEndian.AppendUint32(b, uint32(h.device))
		b = append(b, a...)
	}
	return b
}

func bitsOf(p netip.Prefix) byte {
	if !p.IsValid() {
		return 0
	}
	return byte(p.Bits())
}
