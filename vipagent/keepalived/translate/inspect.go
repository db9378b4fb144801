package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"unicode/utf8"

	"holdfast/fsm"
	"holdfast/vipagent/keepalived"
)

// passwordLength is what fits into an advertisement (RFC 3768 5.3.10).
const passwordLength = 8

// inspect finds what single members say to their own harm, or what the set cannot say.
func (r *router) inspect() []Difference {
	tests := []struct {
		keyword string
		found   func(m member) (value string, ok bool)
		Difference
	}{
		{"nopreempt", ignoredNoPreempt, Difference{Severity: keepalived.Warning,
			Meaning: "Keepalived ignores nopreempt with state MASTER: this host takes the addresses back whenever it returns, and so does the set (preempt: true)",
			Remedy:  "for what was meant write preempt: false in the set, and state BACKUP on all hosts as long as Keepalived runs"}},
		{"auth_pass", cutPassword, Difference{Severity: keepalived.Warning,
			Meaning: "only 8 characters are sent, so the rest protects nothing; the set has these 8",
			Remedy:  "write what is sent: at most 8 characters. It goes over the wire in the clear"}},
		{"auth_pass", func(m member) (string, bool) { return "not UTF-8", !utf8.Valid(m.instance.Password) }, Difference{Severity: keepalived.Error,
			Meaning: "the set can have no password of these characters, and peers drop advertisements without",
			Remedy:  "choose one of ASCII characters on all hosts"}},
		{"priority", func(m member) (string, bool) { return "255", m.instance.Priority > fsm.MaxPriority }, Difference{Severity: keepalived.Warning,
			Meaning: "255 says that the host owns the addresses and may not be outranked: `coordctl migrate takeover` works by stopping Keepalived there only (--stop); the candidate has 254",
			Remedy:  "give it at most 253 before the migration, for a takeover without a stop"}},
		{"priority", r.noRoomBelow, Difference{Severity: keepalived.Warning,
			Meaning: "there is no priority below that of every host: to join with 1 may take over from this one",
			Remedy:  "give it a higher priority before the migration"}},
		{"virtual_ipaddress", func(m member) (string, bool) { return "none", len(m.instance.Addresses) == 0 }, Difference{Severity: keepalived.Error,
			Meaning: "there is nothing that a VIP set could hold: something else, such as a notify script, moves the address",
			Remedy:  "leave this instance with Keepalived"}},
		{"virtual_ipaddress_excluded", sameFamilyExcluded, Difference{Severity: keepalived.Error,
			Meaning: "the set advertises all its addresses of the family: Keepalived before 2.3.3 drops an advertisement with other addresses than its own, so that both are Active after a takeover",
			Remedy:  "move them to virtual_ipaddress on all hosts, or update Keepalived, before the migration"}},
		{"version", func(m member) (string, bool) { return "2 over IPv6", m.instance.IPv6 && m.instance.Version == 2 }, Difference{Severity: keepalived.Error,
			Meaning: "VRRP version 2 has no IPv6: the set speaks version 3, which these routers do not hear",
			Remedy:  "say version 3 on all hosts"}},
		{"mcast_dst_ip", ownGroup, Difference{Severity: keepalived.Error,
			Meaning: "a VIP set uses the multicast group of the protocol: it and these routers do not hear each other",
			Remedy:  "take the group out of the configuration of all hosts before the migration"}},
		{"old_unicast_checksum", func(m member) (string, bool) { return "always", m.instance.OldUnicast == "always" }, Difference{Severity: keepalived.Error,
			Meaning: "a VIP set does not make this checksum, and these routers drop the right one",
			Remedy:  "take it out on all hosts: Keepalived since 1.3.6 does without"}},
		{"unicast_src_ip", func(m member) (string, bool) {
			return m.instance.Source.String(), m.instance.Source.IsValid() && m.instance.CheckUnicast
		}, Difference{Severity: keepalived.Warning,
			Meaning: "with check_unicast_src a router hears only the peers that it lists, and the agent sends from the first address of its interface",
			Remedy:  "see that this is the first address of the interface (ip address show)"}},
	}
	var out []Difference
	for _, t := range tests {
		var sides []Side
		for _, m := range r.members {
			if value, ok := t.found(m); ok {
				sides = append(sides, m.side(t.keyword, value))
			}
		}
		if d := t.Difference; len(sides) > 0 {
			d.Router, d.Keyword, d.Sides = r.String(), t.keyword, sides
			out = append(out, d)
		}
	}
	return out
}

func noPreemptIgnored(m member) bool {
	return m.instance.Active && m.instance.Preempt && m.remarked("nopreempt")
}

func ignoredNoPreempt(m member) (string, bool) {
	return "nopreempt with state MASTER", noPreemptIgnored(m)
}

func cutPassword(m member) (string, bool) {
	return "longer than 8 characters", len(m.instance.Password) == passwordLength && m.remarked("auth_pass")
}

func (r *router) noRoomBelow(m member) (string, bool) { return "1", m.instance.Priority == 1 }

func sameFamilyExcluded(m member) (string, bool) {
	var list []netip.Addr
	for _, a := range m.instance.Excluded {
		if a.Prefix.Addr().Is6() == m.instance.IPv6 {
			list = append(list, a.Prefix.Addr())
		}
	}
	return joinAddrs(list), len(list) > 0
}

// ownGroup is the multicast group, if it is not that of the protocol.
func ownGroup(m member) (string, bool) {
	if len(m.instance.Peers) > 0 {
		return "", false
	}
	g := m.instance.Group
	if !g.IsValid() {
		g = m.host.Config.Global.Group4
		if m.instance.IPv6 {
			g = m.host.Config.Global.Group6
		}
	}
	protocol := netip.AddrFrom4([4]byte{224, 0, 0, 18})
	if m.instance.IPv6 {
		protocol = netip.MustParseAddr("ff02::12")
	}
	return g.String(), g.IsValid() && g != protocol
}

// compareUnicast finds hosts that do not send to each other.
func (r *router) compareUnicast() []Difference {
	if slices.ContainsFunc(r.members, func(m member) bool { return len(m.instance.Peers) == 0 }) {
		return nil // multicast, or both: a setting of which another says enough
	}
	own := r.ownAddresses()
	var deaf, unknown, self []Side
	for n, m := range r.members {
		var missing []string
		for o, other := range r.members {
			if o != n && own[o].IsValid() && !hasPeer(m.instance, own[o]) {
				missing = append(missing, fmt.Sprintf("%s of %s", own[o], other.host.Host))
			}
		}
		switch {
		case len(missing) > 0:
			deaf = append(deaf, m.side("unicast_peer", "does not name "+names(missing)))
		case own[n].IsValid() && hasPeer(m.instance, own[n]):
			self = append(self, m.side("unicast_peer", "names itself, "+own[n].String()))
		}
		if !own[n].IsValid() {
			unknown = append(unknown, m.side("unicast_peer", "peers "+joinAddrs(peersOf(m.instance))))
		}
	}
	return unicastDifferences(r.String(), deaf, unknown, self)
}

func unicastDifferences(router string, deaf, unknown, self []Side) []Difference {
	var out []Difference
	for _, d := range []Difference{
		{Severity: keepalived.Error, Sides: deaf,
			Meaning: "advertisements go to those alone that are named: the others become Active too",
			Remedy:  "name all other hosts in unicast_peer of each"},
		{Severity: keepalived.Warning, Sides: unknown,
			Meaning: "the address of this host cannot be told, so it was not checked that the hosts name each other: each must list the other's address and not its own",
			Remedy:  "write unicast_src_ip on all hosts, and import again"},
		{Severity: keepalived.Info, Sides: self,
			Meaning: "a host that sends to itself does no harm", Remedy: "nothing"},
	} {
		if len(d.Sides) > 0 {
			d.Router, d.Keyword = router, "unicast_peer"
			out = append(out, d)
		}
	}
	return out
}

func peersOf(i *keepalived.Instance) []netip.Addr {
	var out []netip.Addr
	for _, p := range i.Peers {
		out = append(out, p.Address)
	}
	return out
}

func hasPeer(i *keepalived.Instance, a netip.Addr) bool { return slices.Contains(peersOf(i), a) }

// ownAddresses finds out from which address each member sends: its unicast_src_ip, else
// the one address that all others name, it does not, and nobody else has.
func (r *router) ownAddresses() []netip.Addr {
	own := make([]netip.Addr, len(r.members))
	for n, m := range r.members {
		own[n] = m.instance.Source
	}
	for n, m := range r.members {
		if own[n].IsValid() {
			continue
		}
		var candidates []netip.Addr
		for o, other := range r.members {
			if o == n {
				continue
			}
			if peers := peersOf(other.instance); candidates == nil {
				candidates = peers
			} else {
				candidates = slices.DeleteFunc(candidates, func(a netip.Addr) bool { return !slices.Contains(peers, a) })
			}
		}
		candidates = slices.DeleteFunc(candidates, func(a netip.Addr) bool { return hasPeer(m.instance, a) || slices.Contains(own, a) })
		if len(candidates) == 1 {
			own[n] = candidates[0]
		}
	}
	return own
}
