package linux

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"holdfast/vipagent/vip"
)

// PlainProtocol marks what plain mode adds: it is the address protocol (IFA_PROTO) of
// its addresses, and the protocol of its routes and rules. It is not [Protocol], as an
// agent of the quorum sweeps what bears its own mark, and may run on the same host; nor
// is it Keepalived's number of routes (18), which a Keepalived beside us may use. "ip
// address show proto 0x49" and "ip route show proto 73" list what bears it. Kernels
// before Linux 5.18 do not keep it for addresses: nothing is then found to be left.
const PlainProtocol = 0x49

// PlainAddress is an address as keepalived.conf describes it. It has the prefix length
// that is configured, and no lifetime.
type PlainAddress struct {
	Prefix    netip.Prefix
	Interface string
	Label     string // IPv4 only
	Scope     string // as ip(8) names it, or a number; "" = global; IPv4 only
	Broadcast netip.Addr
	Peer      netip.Prefix // zero = none; otherwise its prefix length counts
	// Options are home, mngtmpaddr, noprefixroute, autojoin, -nodad, and preferred_lft
	// with its value (seconds, or forever) as the next element. use_vmac says where the
	// address goes, which Interface tells already.
	Options []string
}

// String returns the address as messages have it.
func (a PlainAddress) String() string { return a.Prefix.String() + " on " + a.Interface }

func (a PlainAddress) ip() netip.Addr { return a.Prefix.Addr().Unmap().WithZone("") }

// onLink is what the kernel has as IFA_ADDRESS, and its prefix length.
func (a PlainAddress) onLink() (netip.Addr, int) {
	if a.Peer.IsValid() {
		return a.Peer.Addr().Unmap().WithZone(""), a.Peer.Bits()
	}
	return a.ip(), a.Prefix.Bits()
}

// AddPlain brings addresses up. One that is there with the same prefix length is taken
// as it is, whoever added it. The error joins one for each that failed; all others were
// added.
func (k *Kernel) AddPlain(addresses []PlainAddress) error {
	k.change.Lock()
	defer k.change.Unlock()
	var errs []error
	var v4, v6 []plainRequest
	for _, a := range addresses {
		index, err := k.indexOf(a.Interface)
		var body []byte
		if err == nil {
			body, err = encodePlain(a, index)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("add address %v: %w", a, err))
			continue
		}
		r := plainRequest{a, message{kind: unix.RTM_NEWADDR, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, body: body}}
		if a.ip().Is4() {
			v4 = append(v4, r)
		} else {
			v6 = append(v6, r)
		}
	}
	// IPv6 one by one: the kernel takes several times as long for a batch.
	errs = append(errs, k.doPlain("add", v4, batchSize, unix.EEXIST)...)
	errs = append(errs, k.doPlain("add", v6, 1, unix.EEXIST)...)
	return errors.Join(errs...)
}

type plainRequest struct {
	address PlainAddress
	message message
}

// doPlain sends the requests; an error with one of the numbers fine counts as success.
func (k *Kernel) doPlain(verb string, requests []plainRequest, per int, fine ...error) []error {
	msgs := make([]message, len(requests))
	for i, r := range requests {
		msgs[i] = r.message
	}
	var errs []error
	for i, err := range k.writes.do(msgs, per) {
		if err == nil || slices.ContainsFunc(fine, func(f error) bool { return errors.Is(err, f) }) {
			continue
		}
		a := requests[i].address
		errs = append(errs, fmt.Errorf("%s address %v: %w", verb, a, explain(vip.Address{Prefix: a.Prefix, Interface: a.Interface}, err)))
	}
	return errs
}

// RemovePlain takes addresses down, whoever brought them up: a VIP that stays on a host
// in state Backup is up twice. One that is not there with that prefix length is fine, and
// so is one whose interface is gone. No other address goes with them: where a primary
// one goes, its secondaries are promoted.
func (k *Kernel) RemovePlain(addresses []PlainAddress) error {
	k.change.Lock()
	defer k.change.Unlock()
	records, err := dumpAddresses(k.writes)
	if err != nil {
		return fmt.Errorf("remove addresses: %w", err)
	}
	var errs []error
	var doomed []doomedAddress
	for _, a := range addresses {
		index, err := k.indexOf(a.Interface)
		if err != nil {
			if !errors.Is(err, ErrNoInterface) {
				errs = append(errs, fmt.Errorf("remove address %v: %w", a, err))
			}
			continue
		}
		peer, bits := a.onLink()
		for _, r := range records {
			if r.index == index && r.ip == a.ip() && r.bits == bits && (r.ip.Is6() || r.subnet.Contains(peer)) {
				doomed = append(doomed, doomedAddress{a, r})
			}
		}
	}
	// Secondaries first: they would go with their primary, or be promoted for nothing.
	slices.SortStableFunc(doomed, func(x, y doomedAddress) int { return cmp.Compare(x.order(), y.order()) })
	restore := k.promoteSecondaries(widowed(doomed, records))
	requests := make([]plainRequest, len(doomed))
	for i, d := range doomed {
		requests[i] = plainRequest{d.address, encodeRemovePlain(d.address, d.record.index)}
	}
	errs = append(errs, k.doPlain("remove", requests, batchSize, unix.EADDRNOTAVAIL, unix.ENODEV)...)
	restore()
	return errors.Join(errs...)
}

// doomedAddress is an address to remove, and the kernel's record of it.
type doomedAddress struct {
	address PlainAddress
	record  record
}

func (d doomedAddress) order() int {
	if d.record.secondary() {
		return 0
	}
	return 1
}

// secondary reports whether the address goes when the first of its subnet goes.
func (r record) secondary() bool {
	return r.ip.Is4() && r.flags&unix.IFA_F_SECONDARY != 0 // the same bit means "temporary" for IPv6
}

// widowed returns the interfaces on which a primary address goes, but not all of its
// secondaries.
func widowed(doomed []doomedAddress, records []record) []int {
	var out []int
	goes := func(r record) bool {
		return slices.ContainsFunc(doomed, func(d doomedAddress) bool {
			return d.record.index == r.index && d.record.ip == r.ip && d.record.subnet == r.subnet
		})
	}
	for _, d := range doomed {
		if !d.record.ip.Is4() || d.record.secondary() || slices.Contains(out, d.record.index) {
			continue
		}
		for _, r := range records {
			if r.index == d.record.index && r.secondary() && r.subnet == d.record.subnet && !goes(r) {
				out = append(out, r.index)
				break
			}
		}
	}
	return out
}

// promoteSecondaries makes interfaces keep secondary addresses when their primary goes,
// until restore is called.
func (k *Kernel) promoteSecondaries(indexes []int) (restore func()) {
	var changed []int
	for _, i := range indexes {
		old, err := k.devconf(i, devconfPromoteSecondaries)
		if err == nil && old == 0 {
			err = k.setDevconf(i, devconfValue{devconfPromoteSecondaries, 1})
			changed = append(changed, i)
		}
		if err != nil {
			k.logger.Warn("cannot keep secondary addresses", "index", i, "error", err)
		}
	}
	return func() {
		for _, i := range changed {
			if err := k.setDevconf(i, devconfValue{devconfPromoteSecondaries, 0}); err != nil {
				k.logger.Warn("cannot set promote_secondaries back", "index", i, "error", err)
			}
		}
	}
}

// LeftPlain returns the addresses that bear the mark of plain mode, with what
// [Kernel.RemovePlain] needs to know of them.
func (k *Kernel) LeftPlain() ([]PlainAddress, error) {
	records, err := dumpAddresses(k.reads)
	if err != nil {
		return nil, err
	}
	names, err := k.names()
	if err != nil {
		return nil, err
	}
	var out []PlainAddress
	for _, r := range records {
		name, ok := names[r.index]
		if !ok || r.protocol != PlainProtocol {
			continue
		}
		a := PlainAddress{Prefix: r.prefix(), Interface: name}
		if !r.subnet.Contains(r.ip) {
			a.Peer = r.subnet
		}
		out = append(out, a)
	}
	return out, nil
}

// indexOf finds an interface, or returns [ErrNoInterface].
func (k *Kernel) indexOf(name string) (int, error) {
	i, err := k.Interface(name)
	return i.Index, err
}

// encodePlain makes the body of RTM_NEWADDR.
func encodePlain(a PlainAddress, index int) ([]byte, error) {
	o, err := a.options()
	if err != nil {
		return nil, err
	}
	scope := uint32(unix.RT_SCOPE_UNIVERSE)
	if a.Scope != "" && a.ip().Is4() { // the kernel knows the scope of an IPv6 address
		if scope, err = systemNames().number(nameScope, a.Scope); err != nil {
			return nil, err
		}
	}
	b := plainBody(a, index, byte(scope))
	if a.ip().Is4() {
		// None by default, as with Keepalived and ip(8). A peer needs none.
		if a.Broadcast.IsValid() && !a.Peer.IsValid() {
			b = appendAttr(b, unix.IFA_BROADCAST, a.Broadcast.Unmap().AsSlice())
		}
		if a.Label != "" {
			b = appendAttr(b, unix.IFA_LABEL, append([]byte(a.Label), 0))
		}
	}
	b = appendNative32(b, unix.IFA_FLAGS, o.flags)
	var cache [16]byte
	binary.NativeEndian.PutUint32(cache[0:], o.preferred)
	binary.NativeEndian.PutUint32(cache[4:], foreverSeconds)
	b = appendAttr(b, unix.IFA_CACHEINFO, cache[:])
	return appendAttr(b, ifaProto, []byte{PlainProtocol}), nil
}

// encodeRemovePlain leaves out the label: the kernel would ask that it be the same.
func encodeRemovePlain(a PlainAddress, index int) message {
	return message{kind: unix.RTM_DELADDR, body: plainBody(a, index, 0)}
}

func plainBody(a PlainAddress, index int, scope byte) []byte {
	onLink, bits := a.onLink()
	family := byte(unix.AF_INET)
	if a.ip().Is6() {
		family = unix.AF_INET6
	}
	b := make([]byte, 0, 128)
	b = append(b, family, byte(bits), 0, scope)
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = appendAttr(b, unix.IFA_LOCAL, a.ip().AsSlice())
	return appendAttr(b, unix.IFA_ADDRESS, onLink.AsSlice())
}

func appendNative32(b []byte, kind uint16, v uint32) []byte {
	return appendAttr(b, kind, binary.NativeEndian.AppendUint32(nil, v))
}

// plainOptions are the options of an address as the kernel takes them.
type plainOptions struct {
	flags     uint32 // IFA_F_*
	preferred uint32 // seconds
}

// options reads the options. An IPv6 address skips duplicate address detection, so that
// it serves at once, and a /128 is never chosen as a source address, because it would
// win against the host's own; both as Keepalived has it.
func (a PlainAddress) options() (plainOptions, error) {
	o := plainOptions{preferred: foreverSeconds}
	if a.ip().Is6() {
		o.flags = unix.IFA_F_NODAD
		if _, bits := a.onLink(); bits == 128 {
			o.preferred = 0
		}
	}
	for i := 0; i < len(a.Options); i++ {
		switch word := a.Options[i]; word {
		case "home":
			o.flags |= unix.IFA_F_HOMEADDRESS
		case "mngtmpaddr":
			o.flags |= unix.IFA_F_MANAGETEMPADDR
		case "noprefixroute":
			o.flags |= unix.IFA_F_NOPREFIXROUTE
		case "autojoin":
			o.flags |= unix.IFA_F_MCAUTOJOIN
		case "-nodad":
			o.flags &^= unix.IFA_F_NODAD
		case "use_vmac":
		case "preferred_lft":
			if i++; i == len(a.Options) {
				return o, fmt.Errorf("%s lacks its value", word)
			}
			n, err := preferredSeconds(a.Options[i])
			if err != nil {
				return o, err
			}
			if a.ip().Is6() { // Keepalived heeds it for IPv6 only
				o.preferred = n
			}
		default:
			return o, fmt.Errorf("unknown option %q", word)
		}
	}
	return o, nil
}

func preferredSeconds(text string) (uint32, error) {
	if text == "forever" {
		return foreverSeconds, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("preferred_lft %q is no number of seconds", text)
	}
	return uint32(n), nil
}
