package keepalived

import "fmt"

// setSyncGroup reads vrrp_sync_group.
func setSyncGroup(p *parser, s *statement) {
	if !p.named(s) {
		return
	}
	for _, g := range p.config.Groups {
		if g.Name == s.arg(1) {
			p.error(s.at(), s.kw.name, fmt.Sprintf("vrrp_sync_group %s is there already, at line %d: this one is ignored", g.Name, g.At.Line), "", 5)
			return
		}
	}
	p.group = &SyncGroup{Name: s.arg(1), At: s.at()}
	if p.groupSet == nil {
		p.groupSet = make(map[string]settings)
	}
	p.groupSet[p.group.Name] = make(settings)
	p.handleBody(s)
	p.config.Groups = append(p.config.Groups, *p.group)
}

// setMembers reads group.
func setMembers(p *parser, s *statement) {
	if len(p.group.Members) > 0 {
		p.warn(s.at(), s.kw.name, "the members are there already: this group is ignored", "")
		return
	}
	p.group.Members = p.members(s)
}

// members are all words of a block.
func (p *parser) members(s *statement) (members []string) {
	for _, i := range s.items {
		for _, w := range i.words {
			members = append(members, w.text)
			p.memberAt(w)
		}
	}
	if len(members) == 0 {
		p.warn(s.at(), s.kw.name, s.kw.name+" is empty", "")
	}
	return members
}

// memberAt remembers where a member is named.
func (p *parser) memberAt(w word) {
	if p.membersAt == nil {
		p.membersAt = make(map[string]Position)
	}
	if _, ok := p.membersAt[w.text]; !ok {
		p.membersAt[w.text] = w.at
	}
}

func setGroupEmail(p *parser, s *statement) {
	if v, ok := p.flag(s); ok {
		p.group.Notify.Email = v
		p.groupSet[p.group.Name][s.kw.name] = s.at()
	}
}

func setGroupPriorities(p *parser, s *statement) {
	if v, ok := p.flag(s); ok {
		p.group.Notify.Priorities = v
		p.groupSet[p.group.Name][s.kw.name] = s.at()
	}
}

func setTrackingWeight(p *parser, s *statement) {
	if s.kw.name == "global_tracking" {
		p.warn(s.at(), s.kw.name, "global_tracking is obsolete: sync_group_tracking_weight is used", "")
	}
	p.group.TrackingWeight = true
}

// setTrackGroup reads track_group.
func setTrackGroup(p *parser, s *statement) {
	if !p.named(s) {
		return
	}
	for _, g := range p.config.TrackGroups {
		if g.Name == s.arg(1) {
			p.warn(s.at(), s.kw.name, fmt.Sprintf("track_group %s is there already: this one is ignored", g.Name), "")
			return
		}
	}
	p.trackGroup = &TrackGroup{Name: s.arg(1), At: s.at()}
	p.handleBody(s)
	p.config.TrackGroups = append(p.config.TrackGroups, *p.trackGroup)
}

func setTrackMembers(p *parser, s *statement) {
	if len(p.trackGroup.Members) > 0 {
		p.warn(s.at(), s.kw.name, "the members are there already: this group is ignored", "")
		return
	}
	p.trackGroup.Members = p.members(s)
}
