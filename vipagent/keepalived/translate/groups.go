package translate

import (
	"fmt"
	"slices"

	"holdfast/vipagent/keepalived"
)

// gang is a sync group of all hosts: routers that some host moves together.
type gang struct {
	label   string
	routers []*router
}

// gangs joins the sync groups of all hosts. The name is that of the first.
func gangs(hosts []HostConfig, all []*router) []gang {
	var out []gang
	for h := range hosts {
		for _, g := range hosts[h].Config.Groups {
			next := gang{label: label(g.Name), routers: grouped(&hosts[h], &g, all)}
			if len(next.routers) < 2 {
				continue
			}
			var rest []gang
			for _, o := range out {
				if slices.ContainsFunc(o.routers, func(r *router) bool { return slices.Contains(next.routers, r) }) {
					next = gang{o.label, union(o.routers, next.routers)}
				} else {
					rest = append(rest, o)
				}
			}
			out = append(rest, next)
		}
	}
	seen := make(map[string]bool)
	for i := range out {
		if l := out[i].label; seen[l] {
			out[i].label = fmt.Sprintf("%s-%d", l[:min(len(l), maxLabel-4)], i+1)
		}
		seen[out[i].label] = true
	}
	return out
}

func union(a, b []*router) []*router {
	out := slices.Clone(a)
	for _, r := range b {
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

// grouped returns the routers of a host's group.
func grouped(h *HostConfig, g *keepalived.SyncGroup, all []*router) []*router {
	var out []*router
	for _, r := range all {
		if m := r.of(h.Host); m != nil && slices.Contains(g.Members, m.instance.Name) {
			out = append(out, r)
		}
	}
	return out
}

// groupOf returns the sync group of an instance, nil = none.
func groupOf(m member) *keepalived.SyncGroup {
	for i := range m.host.Config.Groups {
		if slices.Contains(m.host.Config.Groups[i].Members, m.instance.Name) {
			return &m.host.Config.Groups[i]
		}
	}
	return nil
}

// compareGroups finds sync groups that are others on other hosts.
func compareGroups(hosts []HostConfig, all []*router) []Difference {
	var out []Difference
	for _, g := range gangs(hosts, all) {
		out = append(out, g.compare(hosts)...)
		out = append(out, g.primaries()...)
	}
	return out
}

func (g gang) compare(hosts []HostConfig) []Difference {
	var sides []Side
	differ := false
	for h := range hosts {
		here, groups := 0, make(map[string][]string)
		var order []*keepalived.SyncGroup
		for _, r := range g.routers {
			m := r.of(hosts[h].Host)
			if m == nil {
				continue
			}
			here++
			if own := groupOf(*m); own != nil {
				if groups[own.Name] == nil {
					order = append(order, own)
				}
				groups[own.Name] = append(groups[own.Name], m.instance.Name)
			}
		}
		if here < 2 {
			continue // it has no two of them to move together
		}
		if len(order) == 0 {
			sides = append(sides, Side{Host: hosts[h].Host, Value: "no vrrp_sync_group", File: hosts[h].File})
			differ = true
		}
		for _, own := range order {
			members := groups[own.Name]
			differ = differ || len(members) < here
			sides = append(sides, sideAt(hosts[h].Host, fmt.Sprintf("%s: %s", own.Name, names(members)), own.At))
		}
	}
	if !differ {
		return nil
	}
	return []Difference{{Severity: keepalived.Warning, Router: "sync group " + g.label, Keyword: "vrrp_sync_group", Sides: sides,
		Meaning: "one host moves these instances together and another does not, so that their addresses part; the sets have one sync_group and stay together",
		Remedy:  "give all hosts the same vrrp_sync_group"}}
}

// primaries finds a group that wants to be on two hosts.
func (g gang) primaries() []Difference {
	var sides []Side
	hosts := make(map[string]bool)
	for _, r := range g.routers {
		p := r.primary()
		hosts[p.host.Host] = true
		sides = append(sides, p.side("priority", fmt.Sprintf("%s has its highest priority, %d, here", p.instance.Name, p.instance.Priority)))
	}
	if len(hosts) < 2 {
		return nil
	}
	return []Difference{{Severity: keepalived.Warning, Router: "sync group " + g.label, Keyword: "priority", Sides: sides,
		Meaning: "the members of the group want to be on different hosts, and cannot",
		Remedy:  "give one host the highest priority in all of them"}}
}
