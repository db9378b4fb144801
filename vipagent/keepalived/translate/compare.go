package translate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"holdfast/vipagent/keepalived"
)

// Compare returns where the files contradict each other, the worst first.
func Compare(hosts []HostConfig) []Difference {
	all := routers(hosts)
	var out []Difference
	for _, r := range all {
		out = append(out, r.absent(hosts)...)
		if len(r.members) > 1 {
			for _, s := range settings() {
				if s.keyword == "nopreempt" && slices.ContainsFunc(r.members, noPreemptIgnored) {
					continue // [router.inspect] says more
				}
				out = append(out, r.compare(s)...)
			}
			out = append(out, r.compareAddresses()...)
			out = append(out, r.comparePriorities()...)
			out = append(out, r.compareUnicast()...)
		}
		out = append(out, r.inspect()...)
	}
	out = append(out, clashes(all)...)
	out = append(out, compareGroups(hosts, all)...)
	slices.SortStableFunc(out, func(a, b Difference) int { return cmp.Compare(b.Severity, a.Severity) })
	return out
}

// Severe says whether Keepalived or the migration fails on one of the differences.
func Severe(ds []Difference) bool {
	return slices.ContainsFunc(ds, func(d Difference) bool { return d.Severity == keepalived.Error })
}

// setting is one that all instances of a router should have in common.
type setting struct {
	keyword  string
	value    func(i *keepalived.Instance) string
	severity func(r *router) keepalived.Severity
	meaning  string
	remedy   string
	// secret: values are not shown, only which are the same.
	secret bool
}

func always(s keepalived.Severity) func(*router) keepalived.Severity {
	return func(*router) keepalived.Severity { return s }
}

func settings() []setting {
	return []setting{
		{keyword: "virtual_router_id", severity: always(keepalived.Error),
			value:   func(i *keepalived.Instance) string { return fmt.Sprint(i.VRID) },
			meaning: "these are different virtual routers to each other: each host is Active, and both have the addresses",
			remedy:  "give all the same virtual_router_id, and reload Keepalived where it changed"},
		{keyword: "version", severity: always(keepalived.Error),
			value:   func(i *keepalived.Instance) string { return fmt.Sprint(i.Version) },
			meaning: "routers drop advertisements of another version: each host is Active",
			remedy:  "give all the same vrrp_version (global_defs) or version"},
		{keyword: "advert_int", severity: intervalSeverity,
			value:   func(i *keepalived.Instance) string { return i.Interval.String() },
			meaning: "version 2 drops advertisements of another interval, so that each host is Active; version 3 takes over the Active router's",
			remedy:  "give all the same advert_int"},
		{keyword: "auth_pass", severity: always(keepalived.Error), secret: true,
			value:   func(i *keepalived.Instance) string { return string(i.Password) },
			meaning: "routers drop advertisements with another password: each host is Active",
			remedy:  "give all the same auth_type and auth_pass, at most 8 characters"},
		{keyword: "unicast_peer", severity: always(keepalived.Error),
			value: func(i *keepalived.Instance) string {
				if len(i.Peers) > 0 {
					return "unicast"
				}
				return "multicast"
			},
			meaning: "a router takes either unicast or multicast: these do not hear each other, and each is Active",
			remedy:  "name the others in unicast_peer on all hosts, or on none"},
		{keyword: "v3_checksum_as_v2", severity: always(keepalived.Warning),
			value:   func(i *keepalived.Instance) string { return onOff(i.ChecksumPlain && i.Version == 3 && !i.IPv6) },
			meaning: "the checksums of version 3 over IPv4 are made in two ways: the host without it drops what the other sends",
			remedy:  "say the same on all hosts"},
		{keyword: "mcast_dst_ip", severity: always(keepalived.Error),
			value:   func(i *keepalived.Instance) string { return groupAddress(i) },
			meaning: "they send to different multicast groups and do not hear each other: each host is Active",
			remedy:  "say the same mcast_dst_ip on all hosts"},
		{keyword: "interface", severity: always(keepalived.Info),
			value:   func(i *keepalived.Instance) string { return i.Interface },
			meaning: "the set names no interface: each agent takes the one whose subnet has the address",
			remedy:  "see that this subnet is configured on one interface of each host"},
		{keyword: "nopreempt", severity: always(keepalived.Warning),
			value:   func(i *keepalived.Instance) string { return onOff(!i.Preempt) },
			meaning: "it depends on the host that comes back whether it takes the addresses; the set does as the host with the highest priority",
			remedy:  "decide for one, and change preempt in the set if it is the other"},
		{keyword: "preempt_delay", severity: always(keepalived.Info),
			value:   func(i *keepalived.Instance) string { return i.PreemptDelay.String() },
			meaning: "the set has one preempt_delay, that of the host with the highest priority",
			remedy:  "change preempt_delay in the set if it is to be another"},
	}
}

func intervalSeverity(r *router) keepalived.Severity {
	if r.primary().instance.Version == 2 {
		return keepalived.Error
	}
	return keepalived.Warning
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

func groupAddress(i *keepalived.Instance) string {
	if !i.Group.IsValid() || len(i.Peers) > 0 {
		return "by default"
	}
	return i.Group.String()
}

// compare finds a setting in which the members differ.
func (r *router) compare(s setting) []Difference {
	var values []string
	var sides []Side
	for _, m := range r.members {
		v := s.value(m.instance)
		n := slices.Index(values, v)
		if n < 0 {
			n = len(values)
			values = append(values, v)
		}
		if s.secret {
			v = secret(v, n)
		}
		sides = append(sides, m.side(s.keyword, v))
	}
	if len(values) == 1 {
		return nil
	}
	return []Difference{{Severity: s.severity(r), Router: r.String(), Keyword: s.keyword, Sides: sides, Meaning: s.meaning, Remedy: s.remedy}}
}

// secret tells passwords apart without showing them.
func secret(v string, n int) string {
	if v == "" {
		return "none"
	}
	return fmt.Sprintf("password %c, %d characters", 'A'+rune(n%26), len(v))
}

// absent says which hosts lack the router.
func (r *router) absent(hosts []HostConfig) []Difference {
	var sides []Side
	missing := 0
	for _, h := range hosts {
		switch m := r.of(h.Host); {
		case m != nil:
			sides = append(sides, sideAt(h.Host, m.instance.Name, m.instance.At))
		case len(h.Config.Instances) > 0:
			sides = append(sides, Side{Host: h.Host, Value: "not there", File: h.File})
			missing++
		}
	}
	if missing == 0 && len(r.members) > 1 {
		return nil
	}
	d := Difference{Severity: keepalived.Info, Router: r.String(), Keyword: "vrrp_instance", Sides: sides,
		Meaning: "the hosts without it are no candidates of the set", Remedy: "add them to hosts of the set if they may have the addresses"}
	if len(r.members) == 1 {
		d.Severity = keepalived.Warning
		d.Meaning = "only one host has it: nobody takes the addresses over from that one"
		d.Remedy = "import the files of the other hosts too, or add candidates to hosts of the set"
	}
	return []Difference{d}
}

// compareAddresses finds addresses that not all members have, or not all advertise.
func (r *router) compareAddresses() []Difference {
	advertised := r.list("virtual_ipaddress", func(i *keepalived.Instance) []keepalived.Address { return i.Addresses })
	excluded := r.list("virtual_ipaddress_excluded", func(i *keepalived.Instance) []keepalived.Address { return i.Excluded })
	var out []Difference
	if advertised != nil {
		out = append(out, Difference{Severity: keepalived.Error, Router: r.String(), Keyword: "virtual_ipaddress", Sides: advertised,
			Meaning: "Keepalived before 2.3.3 drops advertisements with other addresses, so that each host is Active; and a takeover changes what is served",
			Remedy:  "give all hosts the same list; the set has that of " + r.primary().host.Host})
	}
	if excluded != nil {
		out = append(out, Difference{Severity: keepalived.Warning, Router: r.String(), Keyword: "virtual_ipaddress_excluded", Sides: excluded,
			Meaning: "a takeover changes which addresses are served",
			Remedy:  "give all hosts the same list; the set has that of " + r.primary().host.Host})
	}
	return append(out, r.comparePrefixes()...)
}

// list returns the sides if the lists of the members differ.
func (r *router) list(keyword string, of func(*keepalived.Instance) []keepalived.Address) []Side {
	var union []netip.Addr
	lists := make([][]netip.Addr, len(r.members))
	for n, m := range r.members {
		for _, a := range of(m.instance) {
			lists[n] = append(lists[n], a.Prefix.Addr())
		}
		slices.SortFunc(lists[n], netip.Addr.Compare)
		lists[n] = slices.Compact(lists[n])
		union = append(union, lists[n]...)
	}
	slices.SortFunc(union, netip.Addr.Compare)
	union = slices.Compact(union)
	differ := false
	var sides []Side
	for n, m := range r.members {
		lacks := slices.DeleteFunc(slices.Clone(union), func(a netip.Addr) bool { return slices.Contains(lists[n], a) })
		differ = differ || len(lacks) > 0
		value := joinAddrs(lists[n])
		if len(lists[n]) > manyAddresses {
			value = fmt.Sprintf("%d addresses", len(lists[n]))
			if len(lacks) > 0 {
				value += ", lacks " + joinAddrs(lacks)
			}
		}
		sides = append(sides, m.side(keyword, value))
	}
	if !differ {
		return nil
	}
	return sides
}

// manyAddresses is how long a list may be to be shown in full.
const manyAddresses = 6

// comparePrefixes finds addresses whose prefix length differs.
func (r *router) comparePrefixes() []Difference {
	var out []Difference
	first := r.members[0]
	for _, a := range slices.Concat(first.instance.Addresses, first.instance.Excluded) {
		sides := []Side{sideAt(first.host.Host, a.Prefix.String(), a.At)}
		differ := false
		for _, m := range r.members[1:] {
			for _, b := range slices.Concat(m.instance.Addresses, m.instance.Excluded) {
				if a.Prefix.Addr() == b.Prefix.Addr() {
					differ = differ || a.Prefix.Bits() != b.Prefix.Bits()
					sides = append(sides, sideAt(m.host.Host, b.Prefix.String(), b.At))
				}
			}
		}
		if differ {
			out = append(out, Difference{Severity: keepalived.Warning, Router: r.String(), Keyword: "virtual_ipaddress", Sides: sides,
				Meaning: "a takeover changes the prefix length of the address, and with it the routes of the host", Remedy: "give it the same length everywhere, that of its subnet"})
		}
	}
	return out
}

// comparePriorities finds hosts between which no priority decides.
func (r *router) comparePriorities() []Difference {
	var out []Difference
	byPriority := make(map[uint8][]Side)
	var masters []Side
	for _, m := range r.members {
		p := m.instance.Priority
		byPriority[p] = append(byPriority[p], m.side("priority", fmt.Sprint(p)))
		if m.instance.Active {
			masters = append(masters, m.side("state", "MASTER"))
		}
	}
	for p := 255; p > 0; p-- {
		if sides := byPriority[uint8(p)]; len(sides) > 1 {
			out = append(out, Difference{Severity: keepalived.Warning, Router: r.String(), Keyword: "priority", Sides: sides,
				Meaning: "the higher address decides between them, and both are Active for a moment when they start together",
				Remedy:  "give each host another priority"})
		}
	}
	if len(masters) > 1 {
		out = append(out, Difference{Severity: keepalived.Info, Router: r.String(), Keyword: "state", Sides: masters,
			Meaning: "all of them begin as Active when they start, until they hear a higher priority; the set knows no such state",
			Remedy:  "nothing; with Keepalived, state BACKUP on all hosts is the better choice"})
	}
	return out
}

// clashes finds virtual routers that take each other's advertisements for their own, and
// addresses that two of them have.
func clashes(all []*router) []Difference {
	var out []Difference
	for i, a := range all {
		for _, b := range all[:i] {
			out = append(out, clash(b, a)...)
			out = append(out, sharedAddresses(b, a)...)
		}
	}
	return out
}

func clash(a, b *router) []Difference {
	for _, x := range a.members {
		for _, y := range b.members {
			if x.instance.VRID != y.instance.VRID || x.instance.IPv6 != y.instance.IPv6 || !a.onLAN(x, y) {
				continue
			}
			return []Difference{{Severity: keepalived.Error, Router: a.String() + " and " + b.primary().instance.Name, Keyword: "virtual_router_id",
				Sides:   []Side{x.side("virtual_router_id", fmt.Sprintf("%s has %d", x.instance.Name, x.instance.VRID)), y.side("virtual_router_id", fmt.Sprintf("%s has %d", y.instance.Name, y.instance.VRID))},
				Meaning: "two virtual routers with one VRID on one LAN silence each other: one of them has its addresses nowhere",
				Remedy:  "give one of them another virtual_router_id on all its hosts"}}
		}
	}
	return nil
}

// onLAN says whether y, of another router, is on the LAN of x, which is of this one. Where
// this router has an instance on y's host, its interface tells for certain.
func (r *router) onLAN(x, y member) bool {
	if own := r.of(y.host.Host); own != nil {
		return own.instance.Interface == y.instance.Interface
	}
	return sameLAN(x.instance, y.instance)
}

func sharedAddresses(a, b *router) []Difference {
	var out []Difference
	seen := make(map[netip.Addr]bool)
	for _, x := range a.members {
		for _, y := range b.members {
			for _, p := range slices.Concat(x.instance.Addresses, x.instance.Excluded) {
				for _, q := range slices.Concat(y.instance.Addresses, y.instance.Excluded) {
					ip := p.Prefix.Addr()
					if ip != q.Prefix.Addr() || seen[ip] {
						continue
					}
					seen[ip] = true
					out = append(out, Difference{Severity: keepalived.Error, Router: a.primary().instance.Name + " and " + b.primary().instance.Name, Keyword: "virtual_ipaddress",
						Sides:   []Side{sideAt(x.host.Host, fmt.Sprintf("%s of %s", ip, x.instance.Name), p.At), sideAt(y.host.Host, fmt.Sprintf("%s of %s", ip, y.instance.Name), q.At)},
						Meaning: "two virtual routers have this address, and two hosts may have it at once; an address belongs to one VIP set only",
						Remedy:  "take it out of one of them"})
				}
			}
		}
	}
	return out
}

// remarked says whether the parser warned of a keyword of an instance.
func (m member) remarked(keyword string) bool {
	at := m.instance.Where(keyword)
	return slices.ContainsFunc(m.host.Diagnostics, func(d keepalived.Diagnostic) bool {
		return d.Keyword == keyword && d.Severity == keepalived.Warning && d.File == at.File && d.Line == at.Line
	})
}

// names lists the instances of a group in words.
func names(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}
