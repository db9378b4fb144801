package translate

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"holdfast/fsm"
)

// Sets returns a VIP set for each virtual router, paused and not shared yet, in the
// order of the files. What the hosts do not agree on is taken from the one with the
// highest priority; [Compare] tells of it. The error joins one for each router that makes
// no set that the quorum would accept, such as one with a broadcast address; those of the
// others are returned with it.
func Sets(hosts []HostConfig) ([]fsm.Set, error) {
	all := routers(hosts)
	names, groups := setNames(all), gangs(hosts, all)
	var sets []fsm.Set
	var bad []error
	for i, r := range all {
		if len(r.primary().instance.Addresses) == 0 {
			continue // [Compare] says so
		}
		s := r.set(names[i])
		for _, g := range groups {
			if slices.Contains(g.routers, r) {
				s.SyncGroup = g.label
			}
		}
		if err := fsm.ValidateSet(s); err != nil {
			at := r.primary().instance.At
			bad = append(bad, fmt.Errorf("translate vrrp_instance %s (%s:%d): %w", r.primary().instance.Name, at.File, at.Line, err))
			continue
		}
		sets = append(sets, s)
	}
	return sets, errors.Join(bad...)
}

// setNames makes a name of each router's: lower case, and each once.
func setNames(all []*router) []string {
	names := make([]string, len(all))
	seen := make(map[string]bool)
	for i, r := range all {
		p := r.primary().instance
		name := label(p.Name)
		for _, suffix := range []string{"", fmt.Sprintf("-%d", p.VRID), fmt.Sprintf("-%d-%s", p.VRID, strings.ToLower(familyName(p.IPv6))), fmt.Sprintf("-%d-%d", p.VRID, i+1)} {
			names[i] = name[:min(len(name), maxLabel-len(suffix))] + suffix
			if !seen[names[i]] {
				break
			}
		}
		seen[names[i]] = true
	}
	return names
}

const maxLabel = 63

// label makes of a name one that the quorum accepts.
func label(name string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(name) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			b.WriteRune(c)
		case b.Len() == 0: // must not begin with these
		case c == '.' || c == '_' || c == '-':
			b.WriteRune(c)
		default:
			b.WriteByte('-')
		}
	}
	s := b.String()
	if s == "" {
		return "vip"
	}
	return s[:min(len(s), maxLabel)]
}

// set translates a router.
func (r *router) set(name string) fsm.Set {
	p := r.primary().instance
	s := fsm.Set{Name: name, Preempt: p.Preempt, PreemptDelay: p.PreemptDelay, Paused: true}
	dev := r.device()
	for _, a := range slices.Concat(p.Addresses, p.Excluded) {
		if slices.ContainsFunc(s.Addresses, func(b fsm.Address) bool { return b.Addr() == a.Prefix.Addr() }) {
			continue
		}
		s.Addresses = append(s.Addresses, fsm.Address{Prefix: a.Prefix, Interface: cmp.Or(a.Interface, dev)})
	}
	lowest := fsm.MaxPriority
	for _, m := range r.members {
		priority := min(int(m.instance.Priority), fsm.MaxPriority)
		lowest = min(lowest, priority)
		s.Candidates = append(s.Candidates, fsm.Candidate{Host: m.host.Host, Priority: priority})
	}
	slices.SortStableFunc(s.Candidates, func(a, b fsm.Candidate) int { return cmp.Compare(b.Priority, a.Priority) })
	s.VRRP = &fsm.VRRP{
		ID: p.VRID, Version: p.Version, Interval: p.Interval, Interface: dev, IPv6: p.IPv6, NoPreempt: !p.Preempt,
		// Below every Keepalived: who joins takes nothing over.
		Priority: uint8(max(lowest-1, 1)), Peers: r.peers(), Mode: fsm.VRRPOff,
	}
	if p.IPv6 {
		s.VRRP.Version = 3
	}
	s.VRRP.PlainChecksum = p.ChecksumPlain && s.VRRP.Version == 3 && !p.IPv6
	if s.VRRP.Version == 3 {
		s.VRRP.Interval = min(s.VRRP.Interval, maxInterval3)
	}
	if utf8.Valid(p.Password) && s.VRRP.Version == 2 {
		s.VRRP.Password = string(p.Password)
	}
	return s
}

// maxInterval3 is the longest Advertisement_Interval of version 3 (RFC 9568 5.2.7).
const maxInterval3 = 4095 * 10 * time.Millisecond

// device is the interface of all members, "" if its name differs between hosts: then
// the agent takes the one whose subnet has the address.
func (r *router) device() string {
	name := r.members[0].instance.Interface
	for _, m := range r.members {
		if m.instance.Interface != name {
			return ""
		}
	}
	return name
}

// peers are all unicast peers that any member names. The hosts themselves are among
// them: as long as Keepalived runs on one it must hear the holder, and by multicast it
// would not.
func (r *router) peers() []netip.Addr {
	var out []netip.Addr
	for _, m := range r.members {
		for _, p := range m.instance.Peers {
			if !slices.Contains(out, p.Address) && len(out) < fsm.MaxVRRPPeers {
				out = append(out, p.Address)
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}
