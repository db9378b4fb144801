// Package translate says what the keepalived.conf files of several hosts come to
// together: where they contradict each other, and which VIP sets and checks do the
// same under the quorum. It is pure.
package translate

import (
	"fmt"
	"net/netip"
	"strings"

	"holdfast/vipagent/keepalived"
)

// HostConfig is the keepalived.conf of one host.
type HostConfig struct {
	Host        string // as vipagent.yaml will name it
	File        string
	Config      *keepalived.Config
	Diagnostics []keepalived.Diagnostic
}

// Difference is what the files of several hosts do not agree on, or agree on to their
// own harm.
type Difference struct {
	Severity keepalived.Severity `json:"severity"` // Error: Keepalived or the migration fails on it
	Router   string              `json:"router"`   // the virtual router or sync group, in words
	Keyword  string              `json:"keyword"`
	Sides    []Side              `json:"sides"`
	Meaning  string              `json:"meaning"`
	Remedy   string              `json:"remedy"`
}

// Side is what one host says.
type Side struct {
	Host  string `json:"host"`
	Value string `json:"value"`
	File  string `json:"file,omitzero"`
	Line  int    `json:"line,omitzero"` // 0: the host says nothing of it
}

// Place returns "lb1.conf:12", or "" if the host says nothing.
func (s Side) Place() string {
	if s.Line == 0 {
		return s.File
	}
	return fmt.Sprintf("%s:%d", s.File, s.Line)
}

// router is one virtual router with its instances, one of each host that has it.
type router struct {
	members []member
}

// member is an instance of a router.
type member struct {
	host     *HostConfig
	instance *keepalived.Instance
}

func (m member) side(keyword, value string) Side {
	return sideAt(m.host.Host, value, m.instance.Where(keyword))
}

func sideAt(host, value string, at keepalived.Position) Side {
	return Side{Host: host, Value: value, File: at.File, Line: at.Line}
}

// primary is the member that is Active when all is well.
func (r *router) primary() member {
	best := r.members[0]
	for _, m := range r.members[1:] {
		if m.instance.Priority > best.instance.Priority {
			best = m
		}
	}
	return best
}

// of returns the member of a host, nil if it has none.
func (r *router) of(host string) *member {
	for i := range r.members {
		if r.members[i].host.Host == host {
			return &r.members[i]
		}
	}
	return nil
}

// String names the router in messages.
func (r *router) String() string {
	p := r.primary().instance
	return fmt.Sprintf("%s (VRID %d, %s)", p.Name, p.VRID, familyName(p.IPv6))
}

func familyName(ipv6 bool) string {
	if ipv6 {
		return "IPv6"
	}
	return "IPv4"
}

// routers finds out which instances of the hosts are the same virtual router.
func routers(hosts []HostConfig) []*router {
	var all []*router
	for h := range hosts {
		host := &hosts[h]
		for i := range host.Config.Instances {
			m := member{host, &host.Config.Instances[i]}
			if r := partner(all, m); r != nil {
				r.members = append(r.members, m)
			} else {
				all = append(all, &router{members: []member{m}})
			}
		}
	}
	return unite(all)
}

// partner is the router that a member belongs to: of the same VRID and family, and with
// the same name or an address in common. Two that share no more than the VRID are two
// routers, be it on two LANs or in conflict.
func partner(all []*router, m member) *router {
	var best *router
	most := 0
	for _, r := range all {
		first := r.members[0].instance
		if first.VRID != m.instance.VRID || first.IPv6 != m.instance.IPv6 || r.of(m.host.Host) != nil {
			continue
		}
		if n := likeness(first, m.instance); n > most {
			best, most = r, n
		}
	}
	return best
}

// likeness weighs what two instances have in common besides the VRID.
func likeness(a, b *keepalived.Instance) int {
	n := 0
	for _, x := range a.Addresses {
		for _, y := range b.Addresses {
			if x.Prefix.Addr() == y.Prefix.Addr() {
				n += 2
			}
		}
	}
	if strings.EqualFold(a.Name, b.Name) {
		n += 3
	}
	if n > 0 && a.Interface == b.Interface {
		n++
	}
	return n
}

// unite joins routers of one family whose VRIDs differ by mistake: no host has both, and
// they have the name or an address in common.
func unite(all []*router) []*router {
	var out []*router
next:
	for _, r := range all {
		for _, o := range out {
			a, b := o.members[0].instance, r.members[0].instance
			if a.IPv6 == b.IPv6 && disjoint(o, r) && likeness(a, b) > 0 {
				o.members = append(o.members, r.members...)
				continue next
			}
		}
		out = append(out, r)
	}
	return out
}

func disjoint(a, b *router) bool {
	for _, m := range b.members {
		if a.of(m.host.Host) != nil {
			return false
		}
	}
	return true
}

// sameLAN says whether two instances seem to be on one LAN: their interfaces have the
// same name, or their addresses a subnet in common.
func sameLAN(a, b *keepalived.Instance) bool {
	if a.Interface != "" && a.Interface == b.Interface {
		return true
	}
	for _, x := range a.Addresses {
		for _, y := range b.Addresses {
			if !x.Prefix.IsSingleIP() && !y.Prefix.IsSingleIP() && !x.Prefix.Addr().IsLinkLocalUnicast() && x.Prefix.Overlaps(y.Prefix) {
				return true
			}
		}
	}
	return false
}

func joinAddrs(list []netip.Addr) string {
	if len(list) == 0 {
		return "none"
	}
	var words []string
	for _, a := range list {
		words = append(words, a.String())
	}
	return strings.Join(words, ", ")
}
