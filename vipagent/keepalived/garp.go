package keepalived

import (
	"fmt"
	"slices"
	"time"
)

// garpSetting is a keyword of an instance that, with vrrp_ before it, is one of
// global_defs.
type garpSetting struct {
	name  string
	apply func(g *GARP, n int)
	// least is what a lower number is raised to; most bounds it.
	least, most int
}

func garpSettings() []garpSetting {
	return []garpSetting{
		{"garp_master_delay", func(g *GARP, n int) { g.Delay = time.Duration(n) * time.Second }, 0, maxSeconds},
		{"garp_master_repeat", func(g *GARP, n int) { g.Repeat = n }, 1, 1<<32 - 1},
		{"garp_master_refresh", func(g *GARP, n int) { g.Refresh = time.Duration(n) * time.Second }, 0, 1<<32 - 1},
		{"garp_master_refresh_repeat", func(g *GARP, n int) { g.RefreshRepeat = n }, 1, 1<<32 - 1},
		{"garp_lower_prio_delay", func(g *GARP, n int) { g.LowerDelay = time.Duration(n) * time.Second }, 0, maxSeconds},
		{"garp_lower_prio_repeat", func(g *GARP, n int) { g.LowerRepeat = n }, 0, 1<<31 - 1},
	}
}

// garpDefaults is what global_defs says about GARPs.
type garpDefaults struct {
	GARP
	min    bool // vrrp_min_garp
	groups []*garpGroup
	group  *garpGroup // that is being read
}

// garpGroup is garp_group: interfaces with an interval of their own.
type garpGroup struct {
	interval, naInterval *time.Duration
	interfaces           []string
}

// read takes the number of a setting.
func (k garpSetting) read(p *parser, s *statement) (int, bool) {
	n, ok := p.number(s, 1, 0, k.most, "it is ignored")
	if ok && n < k.least {
		p.warn(s.argAt(1), s.kw.name, fmt.Sprintf("%s %d is too small: %d is used", s.kw.name, n, k.least), "")
		n = k.least
	}
	p.extra(s, 1)
	return n, ok
}

func setGARP(k garpSetting) func(*parser, *statement) {
	return func(p *parser, s *statement) {
		if n, ok := k.read(p, s); ok {
			k.apply(&p.draft.GARP, n)
			p.draft.note(s)
		}
	}
}

func setGlobalGARP(k garpSetting) func(*parser, *statement) {
	return func(p *parser, s *statement) {
		if n, ok := k.read(p, s); ok {
			k.apply(&p.garp.GARP, n)
			p.set[s.kw.name] = s.at()
		}
	}
}

// setGlobalInterval reads vrrp_garp_interval and vrrp_gna_interval.
func setGlobalInterval(p *parser, s *statement) {
	v, ok := p.seconds(s, 1, time.Microsecond, maxSeconds*time.Second, "it is ignored")
	if !ok {
		return
	}
	if s.kw.name == "vrrp_garp_interval" {
		p.garp.Interval = v
	} else {
		p.garp.NAInterval = v
	}
}

func setMinGARP(p *parser, s *statement) {
	if v, ok := p.flag(s); ok && v {
		p.garp.min = true
	}
}

// setGARPGroup reads garp_group.
func setGARPGroup(p *parser, s *statement) {
	g := &garpGroup{}
	p.garp.group = g
	p.handleBody(s)
	if g.interval == nil && g.naInterval == nil {
		p.warn(s.at(), s.kw.name, "garp_group has no interval: it is dropped", "")
		return
	}
	p.garp.groups = append(p.garp.groups, g)
}

func setGroupInterval(p *parser, s *statement) {
	v, ok := p.seconds(s, 1, 0, 2147*time.Second, "it is ignored")
	switch {
	case !ok:
	case s.kw.name == "garp_interval":
		p.garp.group.interval = &v
	default:
		p.garp.group.naInterval = &v
	}
}

func setGroupInterface(p *parser, s *statement) { p.garpInterface(s, s.words[1]) }

func setGroupInterfaces(p *parser, s *statement) {
	if len(s.items) == 0 {
		p.warn(s.at(), s.kw.name, "interfaces is empty", "")
	}
	for _, i := range s.items {
		for _, w := range i.words {
			p.garpInterface(s, w)
		}
	}
}

func (p *parser) garpInterface(s *statement, w word) {
	for _, g := range append(p.garp.groups, p.garp.group) {
		if slices.Contains(g.interfaces, w.text) {
			p.warn(w.at, s.kw.name, fmt.Sprintf("%s is in a garp_group already: it is ignored", w.text), "")
			return
		}
	}
	p.garp.group.interfaces = append(p.garp.group.interfaces, w.text)
}

// Keepalived's defaults.
const (
	garpDelay  = 5 * time.Second
	garpRepeat = 5
)

// complete fills in what global_defs does not say.
func (g *garpDefaults) complete(set settings) {
	if !set.has("vrrp_garp_master_delay") {
		g.Delay = garpDelay
		if g.min {
			g.Delay = 0
		}
	}
	if !set.has("vrrp_garp_master_repeat") {
		g.Repeat = garpRepeat
		if g.min {
			g.Repeat = 1
		}
	}
	if !set.has("vrrp_garp_master_refresh_repeat") {
		g.RefreshRepeat = 1
		if g.min {
			g.RefreshRepeat = 0
		}
	}
	if !set.has("vrrp_garp_lower_prio_delay") {
		g.LowerDelay = g.Delay
	}
	if !set.has("vrrp_garp_lower_prio_repeat") {
		g.LowerRepeat = g.Repeat
	}
}

// fill gives an instance what it does not say itself.
func (g *garpDefaults) fill(d *draft) {
	own := d.GARP
	d.GARP = g.GARP
	for _, k := range garpSettings() {
		if !d.set.has(k.name) {
			continue
		}
		switch k.name {
		case "garp_master_delay":
			d.GARP.Delay = own.Delay
		case "garp_master_repeat":
			d.GARP.Repeat = own.Repeat
		case "garp_master_refresh":
			d.GARP.Refresh = own.Refresh
		case "garp_master_refresh_repeat":
			d.GARP.RefreshRepeat = own.RefreshRepeat
		case "garp_lower_prio_delay":
			d.GARP.LowerDelay = own.LowerDelay
		case "garp_lower_prio_repeat":
			d.GARP.LowerRepeat = own.LowerRepeat
		}
	}
	for _, group := range g.groups {
		if !slices.Contains(group.interfaces, d.Interface) {
			continue
		}
		if group.interval != nil {
			d.GARP.Interval = *group.interval
		}
		if group.naInterval != nil {
			d.GARP.NAInterval = *group.naInterval
		}
	}
}
