package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/vipagent/vip"
)

// ifaProto is IFA_PROTO, an attribute of one byte that says who made the
// address.
const ifaProto = 11

// foreverSeconds is how the kernel writes a lifetime without an end.
const foreverSeconds = math.MaxUint32

// record is an address as the kernel tells it.
//
//	struct ifaddrmsg   family, prefix length, flags (8 bits), scope, index (32 bits)
//	IFA_LOCAL          the address (IPv6: only if IFA_ADDRESS is a peer)
//	IFA_ADDRESS        the address, or the peer of a point-to-point link
//	IFA_FLAGS          flags, 32 bits
//	IFA_CACHEINFO      preferred and valid lifetime left in seconds, two time stamps
//	IFA_PROTO          who made it
type record struct {
	index    int
	ip       netip.Addr
	bits     int
	subnet   netip.Prefix // what is on the link: differs from ip/bits on point-to-point links
	flags    uint32
	validFor uint32 // seconds
	protocol byte
}

// ours reports whether we made it. We only ever add host prefixes: one with our
// mark but a shorter prefix is somebody else's, and may have secondaries.
func (r record) ours() bool {
	return r.protocol == Protocol && r.bits == r.ip.BitLen()
}

func (r record) prefix() netip.Prefix { return netip.PrefixFrom(r.ip, r.bits) }

func (r record) actual(iface string) vip.Actual {
	a := vip.Actual{
		Address:   vip.Address{Prefix: r.prefix(), Interface: iface},
		Ours:      r.ours(),
		ValidLeft: vip.Forever,
	}
	if r.validFor != foreverSeconds {
		a.ValidLeft = time.Duration(r.validFor) * time.Second
	}
	for bit, flag := range map[uint32]vip.Flags{
		unix.IFA_F_TENTATIVE: vip.Tentative, unix.IFA_F_DADFAILED: vip.DADFailed, unix.IFA_F_DEPRECATED: vip.Deprecated,
	} {
		if r.flags&bit != 0 {
			a.Flags |= flag
		}
	}
	if r.ip.Is4() && r.flags&unix.IFA_F_SECONDARY != 0 { // the same bit means "temporary" for IPv6
		a.Flags |= vip.Secondary
	}
	return a
}

// errOtherFamily marks a message about neither IPv4 nor IPv6.
var errOtherFamily = errors.New("neither IPv4 nor IPv6")

// decodeAddress reads the body of an RTM_NEWADDR or RTM_DELADDR message.
func decodeAddress(b []byte) (record, error) {
	if len(b) < unix.SizeofIfAddrmsg {
		return record{}, fmt.Errorf("address message of %d bytes", len(b))
	}
	length := 4
	switch b[0] {
	case unix.AF_INET:
	case unix.AF_INET6:
		length = 16
	default:
		return record{}, errOtherFamily
	}
	r := record{
		bits: int(b[1]), flags: uint32(b[2]), index: int(binary.NativeEndian.Uint32(b[4:])),
		validFor: foreverSeconds,
	}
	var local, address netip.Addr
	var bad error
	err := attributes(b[unix.SizeofIfAddrmsg:], func(kind uint16, v []byte) {
		switch {
		case kind == unix.IFA_LOCAL && len(v) == length:
			local, _ = netip.AddrFromSlice(v)
		case kind == unix.IFA_ADDRESS && len(v) == length:
			address, _ = netip.AddrFromSlice(v)
		case kind == unix.IFA_FLAGS && len(v) == 4:
			r.flags = binary.NativeEndian.Uint32(v)
		case kind == unix.IFA_CACHEINFO && len(v) >= 8:
			r.validFor = binary.NativeEndian.Uint32(v[4:])
		case kind == ifaProto && len(v) == 1:
			r.protocol = v[0]
		case kind == unix.IFA_LOCAL, kind == unix.IFA_ADDRESS, kind == unix.IFA_FLAGS, kind == unix.IFA_CACHEINFO, kind == ifaProto:
			bad = fmt.Errorf("address attribute %d of %d bytes", kind, len(v))
		}
	})
	if err = errors.Join(err, bad); err != nil {
		return record{}, err
	}
	if !address.IsValid() {
		address = local
	}
	if !local.IsValid() {
		local = address
	}
	r.ip = local
	subnet := netip.PrefixFrom(address, r.bits)
	if !local.IsValid() || !subnet.IsValid() {
		return record{}, fmt.Errorf("address message without an address or with prefix length %d", r.bits)
	}
	r.subnet = subnet.Masked()
	return r, nil
}

// place is a VIP on an interface that has been found.
type place struct {
	ip    netip.Addr
	index int
}

// encodeAdd makes the message that adds the VIP with the mark, or replaces its
// lifetime.
func encodeAdd(p place, mark byte, seconds uint32, flags uint16) message {
	b := encodePlace(p, p.ip.BitLen())
	preferred := seconds
	if p.ip.Is6() {
		var f [4]byte
		binary.NativeEndian.PutUint32(f[:], unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE)
		b = appendAttr(b, unix.IFA_FLAGS, f[:])
		preferred = 0 // see doc.go: never chosen as a source address
	}
	var cache [16]byte
	binary.NativeEndian.PutUint32(cache[0:], preferred)
	binary.NativeEndian.PutUint32(cache[4:], seconds)
	b = appendAttr(b, unix.IFA_CACHEINFO, cache[:])
	b = appendAttr(b, ifaProto, []byte{mark})
	return message{kind: unix.RTM_NEWADDR, flags: flags, body: b}
}

// encodeRemove makes the message that deletes an address with that very prefix
// length.
func encodeRemove(r record) message {
	return message{kind: unix.RTM_DELADDR, body: encodePlace(place{r.ip, r.index}, r.bits)}
}

func encodePlace(p place, bits int) []byte {
	family := byte(unix.AF_INET)
	if p.ip.Is6() {
		family = unix.AF_INET6
	}
	b := make([]byte, 0, 80)
	b = append(b, family, byte(bits), 0, unix.RT_SCOPE_UNIVERSE)
	b = binary.NativeEndian.AppendUint32(b, uint32(p.index))
	b = appendAttr(b, unix.IFA_LOCAL, p.ip.AsSlice())
	return appendAttr(b, unix.IFA_ADDRESS, p.ip.AsSlice())
}

// dumpAddresses reads all addresses of the namespace.
func dumpAddresses(c *conn) ([]record, error) {
	var out []record
	request := message{kind: unix.RTM_GETADDR, body: make([]byte, unix.SizeofIfAddrmsg)}
	err := c.dump(request, func() { out = out[:0] }, func(kind uint16, body []byte) error {
		if kind != unix.RTM_NEWADDR {
			return nil
		}
		r, err := decodeAddress(body)
		if errors.Is(err, errOtherFamily) {
			return nil
		}
		out = append(out, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read addresses: %w", err)
	}
	return out, nil
}
