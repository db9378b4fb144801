package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// errWords is what is wrong with the options of an address.
var errWords = errors.New("not an option of an address")

// encodePlain makes the message that adds an address. The attributes are those of
// [record]; a label and a broadcast address come with IPv4 alone.
func encodePlain(a PlainAddress, index int, mark byte) (message, error) {
	ip := plain(a.Prefix.Addr())
	switch {
	case !a.Prefix.IsValid():
		return message{}, errors.New("not an address")
	case a.Peer.IsValid() && a.Peer.Addr().Is6() != ip.Is6(), a.Broadcast.IsValid() && !(a.Broadcast.Is4() && ip.Is4()):
		return message{}, errors.New("addresses of two families")
	case len(a.Label) >= unix.IFNAMSIZ:
		return message{}, fmt.Errorf("label %q has more than %d characters", a.Label, unix.IFNAMSIZ-1)
	}
	scope, err := parseScope(a.Scope)
	if err != nil {
		return message{}, err
	}
	if ip.Is6() && ip.IsLinkLocalUnicast() {
		scope = unix.RT_SCOPE_LINK
	}
	flags, preferred, err := plainOptions(a)
	if err != nil {
		return message{}, err
	}
	peer := ip
	if a.Peer.IsValid() {
		peer = plain(a.Peer.Addr())
	}
	b := appendPlain(plainPlace{index, ip, a.bits()}, scope)
	b = appendAttr(b, unix.IFA_LOCAL, ip.AsSlice())
	b = appendAttr(b, unix.IFA_ADDRESS, peer.AsSlice())
	if ip.Is4() && a.Broadcast.IsValid() {
		b = appendAttr(b, unix.IFA_BROADCAST, a.Broadcast.AsSlice())
	}
	if ip.Is4() && a.Label != "" {
		b = appendString(b, unix.IFA_LABEL, a.Label)
	}
	b = appendAttr(b, unix.IFA_FLAGS, binary.NativeEndian.AppendUint32(nil, flags))
	if preferred != foreverSeconds {
		var cache [16]byte
		binary.NativeEndian.PutUint32(cache[0:], preferred)
		binary.NativeEndian.PutUint32(cache[4:], foreverSeconds)
		b = appendAttr(b, unix.IFA_CACHEINFO, cache[:])
	}
	b = appendAttr(b, ifaProto, []byte{mark})
	return message{kind: unix.RTM_NEWADDR, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, body: b}, nil
}

// encodeRemovePlain makes the message that deletes an address. The kernel compares
// IFA_ADDRESS of IPv4 with the peer, masked, where there is one.
func encodeRemovePlain(r record) message {
	b := appendPlain(r.place(), unix.RT_SCOPE_UNIVERSE)
	b = appendAttr(b, unix.IFA_LOCAL, r.ip.AsSlice())
	if r.ip.Is4() {
		b = appendAttr(b, unix.IFA_ADDRESS, r.subnet.Addr().AsSlice())
	}
	return message{kind: unix.RTM_DELADDR, body: b}
}

func appendPlain(p plainPlace, scope byte) []byte {
	family := byte(unix.AF_INET)
	if p.ip.Is6() {
		family = unix.AF_INET6
	}
	b := append(make([]byte, 0, 96), family, byte(p.bits), 0, scope)
	return binary.NativeEndian.AppendUint32(b, uint32(p.index))
}

// plainOptions reads the options of an address: its flags, and its preferred lifetime
// in seconds.
func plainOptions(a PlainAddress) (flags, preferred uint32, err error) {
	preferred = foreverSeconds
	v6 := plain(a.Prefix.Addr()).Is6()
	if v6 {
		flags = unix.IFA_F_NODAD
		if a.bits() == 128 {
			preferred = 0
		}
	}
	for i := 0; i < len(a.Options); i++ {
		word, only6 := a.Options[i], true
		switch word {
		case "home":
			flags |= unix.IFA_F_HOMEADDRESS
		case "mngtmpaddr":
			flags |= unix.IFA_F_MANAGETEMPADDR
		case "nodad":
			flags |= unix.IFA_F_NODAD
		case "-nodad":
			flags &^= unix.IFA_F_NODAD
		case "preferred_lft":
			if i++; i == len(a.Options) {
				return 0, 0, fmt.Errorf("option %d: preferred_lft lacks its value: %w", i, errWords)
			}
			if preferred, err = parseLifetime(a.Options[i]); err != nil {
				return 0, 0, fmt.Errorf("option %d: %w", i+1, err)
			}
		case "noprefixroute":
			flags, only6 = flags|unix.IFA_F_NOPREFIXROUTE, false
		case "autojoin":
			flags, only6 = flags|unix.IFA_F_MCAUTOJOIN, false
		case "use_vmac":
			only6 = false
		default:
			return 0, 0, fmt.Errorf("option %d, %q: %w", i+1, word, errWords)
		}
		if only6 && !v6 {
			return 0, 0, fmt.Errorf("option %d: %s is one of IPv6: %w", i+1, word, errWords)
		}
	}
	return flags, preferred, nil
}

func parseLifetime(s string) (uint32, error) {
	if s == "forever" {
		return foreverSeconds, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number of seconds: %w", s, errWords)
	}
	return uint32(n), nil
}

// parseScope reads a scope as ip(8) names it.
func parseScope(s string) (byte, error) {
	switch s {
	case "", "global", "universe":
		return unix.RT_SCOPE_UNIVERSE, nil
	case "site":
		return unix.RT_SCOPE_SITE, nil
	case "link":
		return unix.RT_SCOPE_LINK, nil
	case "host":
		return unix.RT_SCOPE_HOST, nil
	case "nowhere":
		return unix.RT_SCOPE_NOWHERE, nil
	}
	n, err := strconv.ParseUint(s, 0, 8)
	if err != nil {
		return 0, fmt.Errorf("scope %q: %w", s, errWords)
	}
	return byte(n), nil
}
