package schedule

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"holdfast/fsm"
)

// plan is one run of the scheduler over one state.
type plan struct {
	in       Input
	hosts    map[string]*host
	units    []*unit // by the name of their first set
	unitOf   map[string]*unit
	tenants  map[place][]tenant // who is, or is going to be, at a label's host
	decision Decision
}

// host is what the state says of a host, whatever the set.
type host struct {
	name    string
	live    *fsm.Session // its newest live session, nil = none
	open    int          // open sessions
	drained bool
	cause   string // of the drain
}

func (h *host) usable() bool { return h.live != nil && !h.drained }

// unit is what is placed as one: the sets of a sync group, or one set.
type unit struct {
	group  string // "" = a set by itself
	sets   []*fsm.Set
	grants []*fsm.Grant // by index of sets, nil = free
	paused string       // name of a set that is paused, "" = none
	split  string       // anti-affinity label that two of its own sets bear
	note   string       // what was decided, in words
}

// place is a host as seen by the sets of one label.
type place struct {
	anti  bool // anti-affinity label; else spread label
	label string
	host  string
}

// tenant is one set at a place.
type tenant struct {
	unit    *unit
	set     string
	epoch   fsm.Epoch // 0 = it is only going to be there
	leaving bool      // recalled from there: keeps others out, counts for no spread
}

func newPlan(in Input) *plan {
	return &plan{in: in, hosts: make(map[string]*host)}
}

// host looks a host up once per run.
func (p *plan) host(name string) *host {
	if h := p.hosts[name]; h != nil {
		return h
	}
	h := &host{name: name}
	h.cause, h.drained = p.in.State.Drained(name)
	sessions := p.in.State.SessionsOf(name)
	h.open = len(sessions)
	for _, s := range slices.Backward(sessions) {
		if p.in.Live == nil || p.in.Live(s.ID) {
			h.live = s
			break
		}
	}
	p.hosts[name] = h
	return h
}

// run decides for every unit: first for those that are not in one piece; then for the free ones, the most
// constrained of them before the others; then for those that sit. In any other
// order a unit that sits could move into the place of one that is free only
// for the moment of its own move, and the two would chase each other for ever.
func (p *plan) run() {
	p.gather()
	var free, sitting []*unit
	for _, u := range p.units {
		switch {
		case p.in.State.Settings().Paused:
			u.note = "the scheduler is paused: nothing is changed anywhere"
		case u.paused != "":
			u.note = pausedNote(u)
		case !u.held():
			free = append(free, u)
		case u.moving():
			p.decideHeld(u)
		default:
			sitting = append(sitting, u)
		}
	}
	choices := make(map[*unit]int, len(free))
	for _, u := range free {
		choices[u] = len(p.eligible(u))
	}
	slices.SortStableFunc(free, func(a, b *unit) int { return cmp.Compare(choices[a], choices[b]) })
	for _, u := range free {
		p.decideFree(u)
	}
	for _, u := range sitting {
		p.decideHeld(u)
	}
}

func (p *plan) result() Decision {
	slices.SortFunc(p.decision.Grants, func(a, b Placement) int { return strings.Compare(a.Set, b.Set) })
	slices.SortFunc(p.decision.Recalls, func(a, b Recall) int { return strings.Compare(a.Set, b.Set) })
	return p.decision
}

// gather makes the units and notes where each held set is.
func (p *plan) gather() {
	sets := p.in.State.Sets()
	p.unitOf = make(map[string]*unit, len(sets))
	p.tenants = make(map[place][]tenant)
	groups := make(map[string]*unit)
	for _, set := range sets {
		u := groups[set.SyncGroup]
		if set.SyncGroup == "" || u == nil {
			u = &unit{group: set.SyncGroup}
			p.units = append(p.units, u)
			if u.group != "" {
				groups[u.group] = u
			}
		}
		p.unitOf[set.Name] = u
		p.add(u, set)
	}
}

func (p *plan) add(u *unit, set *fsm.Set) {
	if set.Paused && u.paused == "" {
		u.paused = set.Name
	}
	for _, other := range u.sets {
		if set.AntiAffinity != "" && set.AntiAffinity == other.AntiAffinity {
			u.split = set.AntiAffinity
		}
	}
	grant, held := p.in.State.Grant(set.Name)
	u.sets = append(u.sets, set)
	if !held {
		u.grants = append(u.grants, nil)
		return
	}
	u.grants = append(u.grants, grant)
	p.settle(set, grant.Host, tenant{unit: u, set: set.Name, epoch: grant.Epoch, leaving: grant.Recall != nil})
	if grant.Recall != nil && grant.Recall.To != "" {
		p.settle(set, grant.Recall.To, tenant{unit: u, set: set.Name})
	}
}

// settle notes a set's place under its labels.
func (p *plan) settle(set *fsm.Set, host string, t tenant) {
	if set.AntiAffinity != "" {
		at := place{true, set.AntiAffinity, host}
		p.tenants[at] = append(p.tenants[at], t)
	}
	if set.Spread != "" {
		at := place{false, set.Spread, host}
		p.tenants[at] = append(p.tenants[at], t)
	}
}

// leave notes that a set has been recalled from a host.
func (p *plan) leave(set *fsm.Set, host string) {
	for _, at := range []place{{true, set.AntiAffinity, host}, {false, set.Spread, host}} {
		for i, t := range p.tenants[at] {
			if t.set == set.Name {
				p.tenants[at][i].leaving = true
			}
		}
	}
}

func (u *unit) held() bool {
	return slices.ContainsFunc(u.grants, func(g *fsm.Grant) bool { return g != nil })
}

// moving says that a held unit is not in one piece: a set of it is free, or
// some of its sets are recalled and others are not.
func (u *unit) moving() bool {
	var free, recalled, sits bool
	for _, g := range u.grants {
		free = free || g == nil
		recalled = recalled || g != nil && g.Recall != nil
		sits = sits || g != nil && g.Recall == nil
	}
	return free || recalled && sits
}

// preempts gives the delay after which a better host takes the unit over.
func (u *unit) preempts() (delay time.Duration, ok bool) {
	for _, set := range u.sets {
		if !set.Preempt {
			return 0, false
		}
		delay = max(delay, set.PreemptDelay)
	}
	return delay, true
}

// fit is how one host suits one unit.
type fit struct {
	host      *host
	missing   *fsm.Set // a set of the unit that it is no candidate of
	veto      *fsm.Set // a set of the unit that its checks veto
	clash     *tenant  // a set that anti-affinity keeps apart from the unit
	label     string   // of the clash
	split     string   // the unit's sets keep each other apart by this label
	mates     int      // other sets of the same spread labels there
	effective int      // sum over the unit's sets
	since     time.Duration
}

func (f *fit) eligible() bool {
	return f.missing == nil && f.veto == nil && f.clash == nil && f.split == "" && f.host.usable()
}

// better says that f is a strictly better host than g for the same unit.
func (f *fit) better(g *fit) bool {
	if f.mates != g.mates {
		return f.mates < g.mates
	}
	return f.effective > g.effective
}

// compare orders fits, the best first.
func compare(f, g *fit) int {
	switch {
	case f.better(g):
		return -1
	case g.better(f):
		return 1
	}
	return strings.Compare(f.host.name, g.host.name)
}

// effective is a candidate's priority for one set, within VRRP's limits.
func effective(priority, weight int) int {
	return min(max(priority+weight, 1), fsm.MaxPriority)
}

// fit looks at one host for one unit. A host that holds sets of the unit is
// judged as their holder: only a set that came there earlier can disturb it.
func (p *plan) fit(u *unit, name string) *fit {
	f := &fit{host: p.host(name), split: u.split, since: 1<<63 - 1}
	for i, set := range u.sets {
		c, ok := set.Candidate(name)
		if !ok && f.missing == nil {
			f.missing = set
		}
		weight := 0
		if s := f.host.live; s != nil {
			condition := s.Conditions[set.Name]
			weight = condition.Weight
			if condition.Veto && f.veto == nil {
				f.veto = set
			}
		}
		f.effective += effective(c.Priority, weight)
		if p.in.Seen != nil {
			f.since = min(f.since, p.in.Seen.eligibleFor(set.Name, name, p.in.Now))
		}
		if set.AntiAffinity != "" && f.clash == nil {
			f.label = set.AntiAffinity
			f.clash = p.clash(u, u.grants[i], place{true, set.AntiAffinity, name})
		}
		if set.Spread != "" {
			for _, t := range p.tenants[place{false, set.Spread, name}] {
				if t.unit != u && !t.leaving {
					f.mates++
				}
			}
		}
	}
	return f
}

// clash finds a set of another unit that must not share the place with one of
// u's sets. own is the grant of that set, nil if it is free.
func (p *plan) clash(u *unit, own *fsm.Grant, at place) *tenant {
	sits := own != nil && own.Host == at.host
	for _, t := range p.tenants[at] {
		if t.unit == u {
			continue
		}
		// Where two sets sit together although they must not (the label came
		// later), the one that was granted first stays.
		if sits && (t.epoch == 0 || t.leaving || t.epoch > own.Epoch || t.epoch == own.Epoch && t.set > own.Set) {
			continue
		}
		return &t
	}
	return nil
}

// eligible gives the eligible hosts of a unit, the best first.
func (p *plan) eligible(u *unit) []*fit {
	var out []*fit
	for _, c := range u.sets[0].Candidates {
		if f := p.fit(u, c.Host); f.eligible() {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, compare)
	return out
}

// preferred gives the eligible host that an operator moved the unit to last,
// nil if there is none.
func (u *unit) preferred(fits []*fit) *fit {
	var best *fit
	var latest uint64
	for _, set := range u.sets {
		if set.Prefer == "" || best != nil && set.Revision <= latest {
			continue
		}
		for _, f := range fits {
			if f.host.name == set.Prefer {
				best, latest = f, set.Revision
			}
		}
	}
	return best
}
