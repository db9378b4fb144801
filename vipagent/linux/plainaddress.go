package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// PlainProtocol is the address protocol number (IFA_PROTO) that marks the addresses
// of plain mode. It is another than [Protocol]: an agent of the quorum has nothing to
// do with them, and they nothing with its leases.
const PlainProtocol = 0x4b

// PlainAddress is an address as ip(8) takes it: with the prefix length that is
// configured, and what else an address may have.
type PlainAddress struct {
	Prefix           netip.Prefix
	Interface, Label string
	Scope            uint8
	Broadcast        netip.Addr
	Peer             netip.Prefix // zero = none
	Flags            uint32       // IFA_F_*
	// Preferred is how long it is preferred as a source address, in whole seconds;
	// more than a century is for ever.
	Preferred time.Duration
}

// AddPlain brings an address up, with the mark of plain mode. One that is there with the
// same prefix is taken as it is.
func (k *Kernel) AddPlain(a PlainAddress) error {
	index, err := k.indexOf(a.Interface)
	if err != nil {
		return fmt.Errorf("add address %s: %w", a.Prefix, err)
	}
	k.change.Lock()
	defer k.change.Unlock()
	m := message{kind: unix.RTM_NEWADDR, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, body: encodePlain(a, index)}
	if err := k.writes.do([]message{m}, 1)[0]; err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add address %s on %s: %w", a.Prefix, a.Interface, err)
	}
	return nil
}

// RemovePlain takes an address down; one that is not there, or whose interface is
// not, is fine.
func (k *Kernel) RemovePlain(a PlainAddress) error {
	index, err := k.indexOf(a.Interface)
	if errors.Is(err, ErrNoInterface) {
		return nil
	} else if err != nil {
		return fmt.Errorf("remove address %s: %w", a.Prefix, err)
	}
	k.change.Lock()
	defer k.change.Unlock()
	m := message{kind: unix.RTM_DELADDR, body: encodePlain(PlainAddress{Prefix: a.Prefix, Peer: a.Peer}, index)}
	if err := k.writes.do([]message{m}, 1)[0]; err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove address %s from %s: %w", a.Prefix, a.Interface, err)
	}
	return nil
}

// PlainAddresses returns the addresses that bear the mark of plain mode.
func (k *Kernel) PlainAddresses() ([]PlainAddress, error) {
	records, err := dumpAddresses(k.reads)
	if err != nil {
		return nil, err
	}
	interfaces, err := k.Interfaces()
	if err != nil {
		return nil, err
	}
	names := make(map[int]string)
	for _, i := range interfaces {
		names[i.Index] = i.Name
	}
	var out []PlainAddress
	for _, r := range records {
		if r.protocol == PlainProtocol && names[r.index] != "" {
			a := PlainAddress{Prefix: r.prefix(), Interface: names[r.index]}
			if r.ip.Is4() && !r.subnet.Contains(r.ip) {
				a.Peer = r.subnet
			}
			out = append(out, a)
		}
	}
	return out, nil
}

func (k *Kernel) indexOf(name string) (int, error) {
	i, err := k.Interface(name)
	return i.Index, err
}

// encodePlain makes the body of RTM_NEWADDR and RTM_DELADDR.
func encodePlain(a PlainAddress, index int) []byte {
	ip, bits, onLink := a.Prefix.Addr().Unmap(), a.Prefix.Bits(), a.Prefix.Addr().Unmap()
	if a.Peer.IsValid() {
		onLink, bits = a.Peer.Addr().Unmap(), a.Peer.Bits()
	}
	family := byte(unix.AF_INET)
	if ip.Is6() {
		family = unix.AF_INET6
	}
	b := make([]byte, 0, 128)
	b = append(b, family, byte(bits), 0, a.Scope)
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = appendAttr(b, unix.IFA_LOCAL, ip.AsSlice())
	b = appendAttr(b, unix.IFA_ADDRESS, onLink.AsSlice())
	if a.Interface == "" {
		return b // to delete: what it is called does not matter
	}
	if a.Broadcast.IsValid() {
		b = appendAttr(b, unix.IFA_BROADCAST, a.Broadcast.Unmap().AsSlice())
	}
	if a.Label != "" && ip.Is4() {
		b = appendAttr(b, unix.IFA_LABEL, append([]byte(a.Label), 0))
	}
	var flags [4]byte
	binary.NativeEndian.PutUint32(flags[:], a.Flags)
	b = appendAttr(b, unix.IFA_FLAGS, flags[:])
	preferred := uint32(foreverSeconds)
	if seconds := math.Ceil(a.Preferred.Seconds()); seconds < foreverSeconds {
		preferred = uint32(max(0, seconds))
	}
	var cache [16]byte
	binary.NativeEndian.PutUint32(cache[0:], preferred)
	binary.NativeEndian.PutUint32(cache[4:], foreverSeconds)
	b = appendAttr(b, unix.IFA_CACHEINFO, cache[:])
	return appendAttr(b, ifaProto, []byte{PlainProtocol})
}
