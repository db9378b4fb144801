package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// AddRoute adds a route in the words of ip(8), as "ip route" and a keepalived.conf
// have them: a destination and via, dev, src, metric, table and so on. It bears
// [PlainProtocol] as its protocol number unless the words name another, so that
// RemoveRoute never removes one of the host's. Where the host has a route of its own to the
// same destination, the new IPv4 route comes before it, and an IPv6 one shares with
// it, as Keepalived's do; the word "append" puts it behind, "add" makes that an error. A
// route that is there already in the same words is fine. The error about a word is a
// [WordError].
func (k *Kernel) AddRoute(words []string) error {
	k.change.Lock()
	defer k.change.Unlock()
	m, err := k.routeMessage(words, unix.RTM_NEWROUTE)
	if err == nil {
		exclusive := m.flags&unix.NLM_F_EXCL != 0
		err = k.one(m)
		switch {
		case !errors.Is(err, unix.EEXIST):
		case !exclusive:
			err = nil
		default:
			// It may be ours, of a process that was killed.
			gone := message{kind: unix.RTM_DELROUTE, body: m.body}
			if k.one(gone) == nil {
				err = k.one(m)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("add route %q: %w", strings.Join(words, " "), err)
	}
	return nil
}

// RemoveRoute removes a route that [Kernel.AddRoute] added with the same words. One
// that is not there is fine, and so is one whose interface is not there.
func (k *Kernel) RemoveRoute(words []string) error {
	k.change.Lock()
	defer k.change.Unlock()
	m, err := k.routeMessage(words, unix.RTM_DELROUTE)
	if err == nil {
		err = k.one(m)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, ErrNoInterface) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove route %q: %w", strings.Join(words, " "), err)
	}
	return nil
}

// one sends one message. k.change is held.
func (k *Kernel) one(m message) error { return k.writes.do([]message{m}, 1)[0] }

func (k *Kernel) routeMessage(words []string, kind uint16) (message, error) {
	r, err := readRoute(words, iproute2)
	if err != nil {
		return message{}, err
	}
	if r.vrf != "" {
		link, err := k.links.LinkByName(r.vrf)
		if err != nil {
			return message{}, fmt.Errorf("vrf %s: %w", r.vrf, ErrNoInterface)
		}
		vrf, ok := link.(*netlink.Vrf)
		if !ok {
			return message{}, fmt.Errorf("interface %s is no vrf", r.vrf)
		}
		r.table = vrf.Table
	}
	body, err := r.encode(func(name string) (int, error) {
		i, err := k.Interface(name)
		return i.Index, err
	})
	if err != nil {
		return message{}, err
	}
	m := message{kind: kind, body: body}
	if kind == unix.RTM_NEWROUTE {
		m.flags = unix.NLM_F_CREATE | r.flags
	}
	return m, nil
}

// encode makes the body of a message about the route:
//
//	struct rtmsg  family, lengths of destination and source, tos, table (8 bits),
//	              protocol, scope, type (8 bits each), flags (32 bits)
//	RTA_*         attributes
func (r *route) encode(index func(string) (int, error)) ([]byte, error) {
	var flags uint32
	if r.hop.onlink {
		flags |= unix.RTNH_F_ONLINK
	}
	b := []byte{byte(r.family), bitsOf(r.destination), bitsOf(r.from), r.tos, tableByte(r.table), r.protocol, r.scopeByte(), r.kind}
	b = binary.NativeEndian.AppendUint32(b, flags)
	if r.table > 255 {
		b = appendNative(b, unix.RTA_TABLE, r.table)
	}
	if r.destination.Bits() > 0 {
		b = appendAttr(b, unix.RTA_DST, r.destination.Addr().AsSlice())
	}
	if r.from.Bits() > 0 {
		b = appendAttr(b, unix.RTA_SRC, r.from.Addr().AsSlice())
	}
	if r.source.IsValid() {
		b = appendAttr(b, unix.RTA_PREFSRC, r.source.AsSlice())
	}
	if r.priority != 0 {
		b = appendNative(b, unix.RTA_PRIORITY, r.priority)
	}
	if r.hop.device != "" {
		i, err := index(r.hop.device)
		if err != nil {
			return nil, err
		}
		b = appendNative(b, unix.RTA_OIF, uint32(i))
	}
	b = r.hop.appendTo(b, r.family)
	if len(r.hops) > 0 {
		var list []byte
		for _, h := range r.hops {
			var err error
			if list, err = h.appendNext(list, r.family, index); err != nil {
				return nil, err
			}
		}
		b = appendAttr(b, unix.RTA_MULTIPATH, list)
	}
	if m := r.encodeMetrics(); len(m) > 0 {
		b = appendAttr(b, unix.RTA_METRICS, m)
	}
	if r.hasPref {
		b = appendAttr(b, unix.RTA_PREF, []byte{r.pref})
	}
	if r.expires != 0 {
		b = appendNative(b, unix.RTA_EXPIRES, r.expires)
	}
	if r.propagates {
		b = appendAttr(b, unix.RTA_TTL_PROPAGATE, []byte{r.propagate})
	}
	return b, nil
}

// scopeByte is the scope that was given, or the one that ip(8) would take.
func (r *route) scopeByte() byte {
	switch {
	case r.scoped:
		return r.scope
	case r.family == unix.AF_INET6:
		return unix.RT_SCOPE_UNIVERSE
	case r.kind == unix.RTN_LOCAL:
		return unix.RT_SCOPE_HOST
	case r.kind == unix.RTN_BROADCAST, r.kind == unix.RTN_MULTICAST, r.kind == unix.RTN_ANYCAST:
		return unix.RT_SCOPE_LINK
	case r.kind == unix.RTN_UNICAST && !r.hop.via.IsValid() && len(r.hops) == 0:
		return unix.RT_SCOPE_LINK
	}
	return unix.RT_SCOPE_UNIVERSE
}

// appendTo adds the attributes of a hop of such a route that do not name its interface.
func (h *hop) appendTo(b []byte, of family) []byte {
	switch {
	case !h.via.IsValid():
	case familyOf(h.via) == of:
		b = appendAttr(b, unix.RTA_GATEWAY, h.via.AsSlice())
	default: // struct rtvia: family (16 bits), address
		via := binary.NativeEndian.AppendUint16(nil, uint16(familyOf(h.via)))
		b = appendAttr(b, unix.RTA_VIA, append(via, h.via.AsSlice()...))
	}
	if h.realms != 0 {
		b = appendNative(b, unix.RTA_FLOW, h.realms)
	}
	return b
}

// appendNext adds one of several hops:
//
//	struct rtnexthop  length (16 bits), flags, weight - 1 (8 bits each), interface (32 bits)
//	RTA_*             attributes
func (h *hop) appendNext(b []byte, of family, index func(string) (int, error)) ([]byte, error) {
	var i int
	if h.device != "" {
		var err error
		if i, err = index(h.device); err != nil {
			return nil, err
		}
	}
	var flags byte
	if h.onlink {
		flags |= unix.RTNH_F_ONLINK
	}
	attributes := h.appendTo(nil, of)
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtNexthop+len(attributes)))
	b = append(b, flags, byte(h.weight-1))
	b = binary.NativeEndian.AppendUint32(b, uint32(i))
	return append(b, attributes...), nil
}

func (r *route) encodeMetrics() (b []byte) {
	for kind, set := range r.set {
		if set {
			b = appendNative(b, uint16(kind), r.metrics[kind])
		}
	}
	if r.congestion != "" {
		b = appendString(b, unix.RTAX_CC_ALGO, r.congestion)
	}
	return b
}

func appendNative(b []byte, kind uint16, v uint32) []byte {
	return appendAttr(b, kind, binary.NativeEndian.AppendUint32(nil, v))
}

func bitsOf(p netip.Prefix) byte {
	if !p.IsValid() {
		return 0
	}
	return byte(p.Bits())
}

// tableByte is the old field for a table's number; RTA_TABLE has the larger ones.
func tableByte(table uint32) byte {
	if table > 255 {
		return unix.RT_TABLE_UNSPEC
	}
	return byte(table)
}
