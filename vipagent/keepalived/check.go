package keepalived

import (
	"fmt"
	"slices"
	"strings"
)

// duplicateVRIDs finds routers that would take each other's advertisements for their
// own. Keepalived's VRRP does not run with them.
func (p *parser) duplicateVRIDs() {
	for i, d := range p.drafts {
		for _, e := range p.drafts[:i] {
			if d.VRID == 0 || d.VRID != e.VRID || d.IPv6 != e.IPv6 || d.Interface != e.Interface || (len(d.Peers) > 0) != (len(e.Peers) > 0) {
				continue
			}
			if len(d.Peers) == 0 && d.Group != e.Group || len(d.Peers) > 0 && (d.Source != e.Source || !samePeer(d.Peers, e.Peers)) {
				continue
			}
			at := d.set["virtual_router_id"]
			p.error(at, "virtual_router_id", fmt.Sprintf("vrrp_instance %s and %s both have virtual_router_id %d on %s: neither can run", e.Name, d.Name, d.VRID, d.Interface), "", 5)
			d.lost, e.lost = true, true
		}
	}
}

func samePeer(a, b []Peer) bool {
	return slices.ContainsFunc(a, func(x Peer) bool {
		return slices.ContainsFunc(b, func(y Peer) bool { return x.Address == y.Address })
	})
}

// find is the draft of a name.
func (p *parser) find(name string) *draft {
	for _, d := range p.drafts {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// completeGroups drops members that are not there, and groups that have none left.
func (p *parser) completeGroups() {
	var groups []SyncGroup
	in := make(map[string]string)
	for _, g := range p.config.Groups {
		if len(g.Members) == 0 {
			p.warn(g.At, "vrrp_sync_group", fmt.Sprintf("vrrp_sync_group %s has no members: it is dropped", g.Name), "")
			continue
		}
		p.checkMembers(&g, in)
		switch len(g.Members) {
		case 0:
			p.warn(g.At, "vrrp_sync_group", fmt.Sprintf("vrrp_sync_group %s has no member that exists: it is dropped", g.Name), "")
			continue
		case 1:
			p.warn(g.At, "vrrp_sync_group", fmt.Sprintf("vrrp_sync_group %s has only one member", g.Name), "a group is for two and more")
		}
		p.completeMembers(&g)
		groups = append(groups, g)
	}
	p.config.Groups = groups
}

func (p *parser) checkMembers(g *SyncGroup, in map[string]string) {
	var members []string
	for _, m := range g.Members {
		at := orAt(p.membersAt[m], g.At)
		switch d := p.find(m); {
		case d == nil:
			p.warn(at, "group", fmt.Sprintf("there is no vrrp_instance %s: it is ignored in vrrp_sync_group %s", m, g.Name), p.nearestInstance(m))
		case in[m] != "":
			p.warn(at, "group", fmt.Sprintf("vrrp_instance %s is in vrrp_sync_group %s already: it is ignored in %s", m, in[m], g.Name), "")
		default:
			in[m] = g.Name
			members = append(members, m)
		}
	}
	g.Members = members
}

func orAt(p, other Position) Position {
	if p.Line == 0 {
		return other
	}
	return p
}

func (p *parser) nearestInstance(name string) string {
	for _, d := range p.drafts {
		if distance(strings.ToLower(d.Name), strings.ToLower(name), 2) <= 2 {
			return fmt.Sprintf("did you mean %s?", d.Name)
		}
	}
	return ""
}

// completeMembers hands on what members and their group have in common.
func (p *parser) completeMembers(g *SyncGroup) {
	owners, others := 0, 0
	for _, m := range g.Members {
		d := p.find(m)
		if d.Priority == ownerPriority {
			owners++
		} else {
			others++
		}
		if p.groupSet[g.Name].has("notify_priority_changes") && !d.set.has("notify_priority_changes") {
			d.Notify.Priorities = g.Notify.Priorities
			d.set["notify_priority_changes"] = g.At
		}
		if !g.TrackingWeight {
			p.noWeights(g, d)
		}
	}
	if owners > 0 && others > 0 {
		p.info(g.At, "vrrp_sync_group", fmt.Sprintf("vrrp_sync_group %s has members with priority 255 and others without: they cannot change state together", g.Name), "")
	}
	if !p.groupSet[g.Name].has("smtp_alert") {
		g.Notify.Email = p.config.Global.Email.Alert
		if p.emailAlert != nil {
			g.Notify.Email = *p.emailAlert
		}
	}
}

// noWeights drops what would change the priority of one member alone, which would let
// the members of a group part.
func (p *parser) noWeights(g *SyncGroup, d *draft) {
	for _, list := range []*[]Track{&d.Interfaces, &d.Scripts, &d.Processes, &d.Files} {
		*list = slices.DeleteFunc(*list, func(t Track) bool {
			weighted := t.Set && t.Weight != 0 || !t.Set && p.ownWeight(list, d, t.Name) != 0
			if weighted {
				p.warn(t.At, "weight", fmt.Sprintf("%s is not tracked: vrrp_instance %s is in vrrp_sync_group %s, which allows no weights", t.Name, d.Name, g.Name),
					"track it in the group, or say sync_group_tracking_weight there")
			}
			return weighted
		})
	}
}

// ownWeight is what the tracked thing itself says.
func (p *parser) ownWeight(list *[]Track, d *draft, name string) int {
	switch list {
	case &d.Scripts:
		for _, s := range p.config.Scripts {
			if s.Name == name {
				return s.Weight
			}
		}
	case &d.Processes:
		for _, t := range p.config.Processes {
			if t.Name == name {
				return t.Weight
			}
		}
	case &d.Files:
		for _, f := range p.config.Files {
			if f.Name == name {
				return f.Weight
			}
		}
	}
	return 0
}

// completeTracking hands on the rest that depends on groups, and remarks on scripts
// that nothing tracks.
func (p *parser) completeTracking() {
	used := make(map[string]bool)
	for i := range p.config.Instances {
		in := &p.config.Instances[i]
		for _, t := range in.Scripts {
			used[t.Name] = true
		}
		if !p.find(in.Name).set.has("notify_priority_changes") {
			in.Notify.Priorities = p.config.Global.NotifyPriorities
		}
	}
	for _, g := range p.config.Groups {
		for _, t := range g.Scripts {
			used[t.Name] = true
		}
	}
	for _, s := range p.config.Scripts {
		if !used[s.Name] {
			p.info(s.At, "vrrp_script", fmt.Sprintf("nothing tracks vrrp_script %s: it is not run", s.Name), "")
		}
	}
	for _, a := range p.config.StaticAddresses {
		p.knownTrackGroup(a.TrackGroup, a.At)
	}
	for _, r := range p.config.StaticRoutes {
		p.knownTrackGroup(r.TrackGroup, r.At)
	}
	for _, r := range p.config.StaticRules {
		p.knownTrackGroup(r.TrackGroup, r.At)
	}
}

func (p *parser) knownTrackGroup(name string, at Position) {
	known := slices.ContainsFunc(p.config.TrackGroups, func(g TrackGroup) bool { return g.Name == name })
	if name != "" && !known {
		p.warn(at, "track_group", fmt.Sprintf("there is no track_group %s: it is ignored", name), "")
	}
}

// security remarks on programs that run without enable_script_security.
func (p *parser) security() {
	if p.config.Global.ScriptSecurity || len(p.drafts) == 0 {
		return
	}
	c := p.firstProgram()
	if c == nil {
		return
	}
	p.add(Diagnostic{c.At, Warning, "enable_script_security", "programs are run, and enable_script_security is not set: whoever may change them may run what they like as their user",
		"write enable_script_security and script_user in global_defs", 6})
}

// firstProgram is the program that is named first, not counting scripts that only open
// a file ("</path").
func (p *parser) firstProgram() *Command {
	var first *Command
	see := func(cs ...*Command) {
		for _, c := range cs {
			if c == nil || len(c.Args) == 0 || strings.HasPrefix(strings.ReplaceAll(c.Args[0], " ", ""), "</") {
				continue
			}
			if first == nil || c.At.File == first.At.File && c.At.Line < first.At.Line {
				first = c
			}
		}
	}
	for i := range p.config.Scripts {
		see(&p.config.Scripts[i].Command)
	}
	notify := func(n *Notify) { see(n.Active, n.Backup, n.Fault, n.Stop, n.Deleted, n.LowerPriority, n.Any) }
	for _, d := range p.drafts {
		notify(&d.Notify)
	}
	for i := range p.config.Groups {
		notify(&p.config.Groups[i].Notify)
	}
	for _, f := range p.config.Global.NotifyFIFOs {
		see(f.Script)
	}
	return first
}
