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
		if isNear(d.Name, name) {
			return fmt.Sprintf("did you mean %s?", d.Name)
		}
	}
	return ""
}

// isNear says whether one name may be the other misspelt.
func isNear(a, b string) bool {
	return distance(strings.ToLower(a), strings.ToLower(b), 2) <= min(2, len(b)-1)
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
	}
	if others > 0 {
		// Unless all own their addresses, the group begins as Backup.
		for _, m := range g.Members {
			p.find(m).Active = false
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

// dropWeights undoes weights that would change the priority of one member of a group
// alone, which would let the members part, or that of an owner, which is always 255.
func (p *parser) dropWeights() {
	group := make(map[string]SyncGroup)
	for _, g := range p.config.Groups {
		for _, m := range g.Members {
			group[m] = g
		}
	}
	for _, d := range p.drafts {
		g, in := group[d.Name]
		switch {
		case in && !g.TrackingWeight:
			p.noWeights(d, fmt.Sprintf("vrrp_instance %s is in vrrp_sync_group %s", d.Name, g.Name), "track it in the group, or say sync_group_tracking_weight there", false)
		case d.Priority == ownerPriority:
			p.noWeights(d, fmt.Sprintf("vrrp_instance %s has priority %d, which does not change", d.Name, ownerPriority), "", true)
		}
	}
	for i := range p.config.Groups {
		g := &p.config.Groups[i]
		if slices.ContainsFunc(g.Members, func(m string) bool { return p.find(m).Priority == ownerPriority }) {
			p.noGroupWeights(g)
		}
	}
}

// noWeights makes a weighted interface, and a file of weight 1, one whose fault puts
// the instance into Fault, and drops other weighted things. Processes keep their
// weight, as they do in Keepalived. An owner drops interfaces, too.
func (p *parser) noWeights(d *draft, why, hint string, owner bool) {
	plain := func(t *Track) {
		p.warn(t.At, "weight", fmt.Sprintf("%s counts without its weight: %s", t.Name, why), hint)
		t.Weight, t.Set, t.Reverse = 0, true, false
	}
	drop := func(t Track) bool {
		p.warn(t.At, "weight", fmt.Sprintf("%s is not tracked, for it has a weight: %s", t.Name, why), hint)
		return true
	}
	d.Interfaces = slices.DeleteFunc(d.Interfaces, func(t Track) bool { return owner && t.Weight != 0 && drop(t) })
	for i := range d.Interfaces {
		if d.Interfaces[i].Weight != 0 {
			plain(&d.Interfaces[i])
		}
	}
	d.Scripts = slices.DeleteFunc(d.Scripts, func(t Track) bool { return p.scriptWeight(t) != 0 && drop(t) })
	d.Files = slices.DeleteFunc(d.Files, func(t Track) bool {
		w := p.fileWeight(t)
		return w != 0 && w != defaultFileWeight && drop(t)
	})
	for i := range d.Files {
		if p.fileWeight(d.Files[i]) != 0 {
			plain(&d.Files[i])
		}
	}
}

// noGroupWeights makes what a group with an owner tracks count without weight.
func (p *parser) noGroupWeights(g *SyncGroup) {
	plain := func(list []Track, weight func(Track) int) {
		for i := range list {
			if t := &list[i]; weight(*t) != 0 {
				p.warn(t.At, "weight", fmt.Sprintf("%s counts without its weight: a member of vrrp_sync_group %s has priority %d", t.Name, g.Name, ownerPriority), "")
				t.Weight, t.Set, t.Reverse = 0, true, false
			}
		}
	}
	plain(g.Interfaces, func(t Track) int { return t.Weight })
	plain(g.Scripts, p.scriptWeight)
	plain(g.Processes, p.processWeight)
	plain(g.Files, p.fileWeight)
}

// scriptWeight is what a tracked script weighs.
func (p *parser) scriptWeight(t Track) int {
	for _, s := range p.config.Scripts {
		if s.Name == t.Name && !t.Set {
			return s.Weight
		}
	}
	return t.Weight
}

// processWeight is what a tracked process weighs.
func (p *parser) processWeight(t Track) int {
	for _, s := range p.config.Processes {
		if s.Name == t.Name && !t.Set {
			return s.Weight
		}
	}
	return t.Weight
}

// fileWeight is what a tracked file weighs.
func (p *parser) fileWeight(t Track) int {
	for _, f := range p.config.Files {
		if f.Name == t.Name && !t.Set {
			return f.Weight
		}
	}
	return t.Weight
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
		p.trackGroupUnused(r.TrackGroup, "route", r.At)
	}
	for _, r := range p.config.StaticRules {
		p.trackGroupUnused(r.TrackGroup, "rule", r.At)
	}
}

// trackGroupUnused remarks on a static route or rule that instances should depend on.
func (p *parser) trackGroupUnused(name, of string, at Position) {
	p.knownTrackGroup(name, at)
	if name != "" {
		p.add(Diagnostic{Position: at, Severity: Unhandled, Keyword: "track_group",
			Message: "track_group of a static " + of + " is not handled: no instance is in FAULT when the " + of + " is gone; that of a static address is handled"})
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
