package router

import (
	"context"
	"errors"
	"reflect"
	"slices"

	"holdfast/vipagent/keepalived"
	"holdfast/vipagent/vrrp"
)

// setup is a configuration and what runs for it.
type setup struct {
	config    *keepalived.Config
	instances []*instance
	groups    []*group
	factors   map[factorKey]*factor
	checks    map[string]*check
	quorums   map[string]*quorum
	ports     map[Endpoint]*port
	owners    map[string][]*instance // which instances may want an address, a route, a rule
	endNews   func()                 // ends the readers of FIFOs
}

// open reads the host, cleans up after a former process, and sets the instances up.
func (r *Router) open() error {
	if err := r.sweep(); err != nil {
		r.log.Error("cannot sweep what a former process left", "error", err)
	}
	r.install(r.host.Keepalived)
	r.sweepMACs()
	r.readLinks()
	r.statics.change(r, r.current.config)
	g := r.current.config.Global
	delay := g.StartupDelay
	if boot := g.DelayAfterBoot - r.host.Clock.Now(); boot > delay {
		delay = boot
	}
	if delay > 0 {
		r.log.Info("waiting before the instances begin", "delay", delay)
		r.agenda.set(&r.waiting, r.host.Clock.Now()+delay)
		return nil
	}
	r.begin()
	return nil
}

// sweep takes down what bears our mark: a former process was killed.
func (r *Router) sweep() error {
	left, err := r.host.Addresses.Left()
	if err != nil || len(left) == 0 {
		return err
	}
	for _, a := range left {
		r.log.Info("a former process left an address: taking it down", "address", a.Prefix, "interface", a.Interface)
	}
	return r.host.Addresses.Remove(left)
}

// begin lets the instances begin.
func (r *Router) begin() {
	r.started = true
	for _, in := range r.current.instances {
		in.clear()
	}
	r.review()
}

// clear takes down what the instance may have and has not, whoever put it up, other
// instances apart:
// Keepalived does the same, and a keepalived that was killed before us leaves its
// addresses. An owner's addresses are the host's own.
func (in *instance) clear() {
	if in.begun {
		return
	}
	r := in.router
	all := in.all()
	all.addresses = keepOthers(in, all.addresses, addressKey)
	all.routes = keepOthers(in, slices.Clone(all.routes), routeKey)
	all.rules = keepOthers(in, slices.Clone(all.rules), ruleKey)
	errs := []error{r.remove(holdings{routes: all.routes, rules: all.rules})}
	there := slices.DeleteFunc(all.addresses, func(a keepalived.Address) bool { return !r.links[a.Interface].has(a.Prefix.Addr()) })
	if len(there) > 0 && in.conf.Priority != vrrp.PriorityOwner {
		r.log.Info("addresses are up already: taking them down", "instance", in.conf.Name, "addresses", len(there))
		errs = append(errs, r.host.Addresses.Clear(there))
	}
	if err := errors.Join(errs...); err != nil {
		r.log.Error("cannot take down", "instance", in.conf.Name, "error", err)
	}
}

// install makes a configuration the current one. Instances that were there before go
// on as they are, those that are gone stop, new ones begin.
func (r *Router) install(c *keepalived.Config) {
	old := r.current
	next := &setup{
		config: c, factors: map[factorKey]*factor{}, checks: map[string]*check{},
		quorums: map[string]*quorum{}, ports: old.ports,
	}
	if next.ports == nil {
		next.ports = map[Endpoint]*port{}
	}
	first := old.config == nil
	r.current = next
	macs := old.macNames() // the instances are shared: afterwards they have the next names
	next.track(r, old, !first)
	gone := next.adoptInstances(r, old)
	next.formGroups(r, old)
	next.findOwners()
	for _, in := range gone {
		in.retire()
	}
	next.change()
	r.removeMACs(macs, next.macNames())
	old.untrack(next)
	r.renewNews(old)
}

// renewNews starts the carriers of news anew if they are others than before.
func (r *Router) renewNews(old *setup) {
	c := r.current
	if old.config != nil && reflect.DeepEqual(old.config.Global.NotifyFIFOs, c.config.Global.NotifyFIFOs) &&
		reflect.DeepEqual(old.config.Global.Email, c.config.Global.Email) {
		c.endNews = old.endNews
		return
	}
	if old.endNews != nil {
		old.endNews()
	}
	r.notifier.end()
	ctx, end := context.WithCancel(r.brief)
	c.endNews = end
	r.notifier.begin(ctx)
}

// track sets up what may be tracked. Scripts and processes that nothing depends on are
// not run and not looked for. Scripts that may not be run are left out, and so is what
// depends on them.
func (s *setup) track(r *Router, old *setup, again bool) {
	tracked := s.tracked()
	for _, conf := range s.config.Scripts {
		if !tracked[factorKey{kindScript, conf.Name}] {
			continue
		}
		if err := r.host.Scripts.Prepare(conf.Command); err != nil {
			r.log.Error("script is not run, and not counted", "script", conf.Name, "error", err)
			continue
		}
		f := s.factor(kindScript, conf.Name, again)
		c := newCheck(r, f, conf)
		if was := old.checks[conf.Name]; was != nil {
			c.adopt(was)
		}
		s.checks[conf.Name] = c
		r.agenda.set(&c.next, r.host.Clock.Now())
	}
	for _, conf := range s.config.Files {
		r.watchFile(s.factor(kindFile, conf.Name, again), conf)
	}
	for _, conf := range s.config.Processes {
		if !tracked[factorKey{kindProcess, conf.Name}] {
			continue
		}
		q := &quorum{factor: s.factor(kindProcess, conf.Name, again), router: r, conf: conf}
		if was := old.quorums[conf.Name]; was != nil {
			q.state, q.count = was.state, was.count
		}
		s.quorums[conf.Name] = q
		r.watchProcesses(q)
	}
}

// tracked are the scripts and processes that something depends on.
func (s *setup) tracked() map[factorKey]bool {
	all := make(map[factorKey]bool)
	note := func(kind string, lines []keepalived.Track) {
		for _, t := range lines {
			all[factorKey{kind, t.Name}] = true
		}
	}
	for _, in := range s.config.Instances {
		note(kindScript, in.Scripts)
		note(kindProcess, in.Processes)
	}
	for _, g := range s.config.Groups {
		note(kindScript, g.Scripts)
		note(kindProcess, g.Processes)
	}
	return all
}

func (s *setup) factor(kind, name string, patient bool) *factor {
	f := &factor{factorKey: factorKey{kind, name}, patient: patient}
	s.factors[f.factorKey] = f
	return f
}

// untrack ends what was tracked before.
func (s *setup) untrack(next *setup) {
	for key, f := range s.factors {
		if f.stop != nil && next.factors[key] != f {
			f.stop()
		}
	}
	for _, c := range s.checks {
		c.gone = true
		c.router.agenda.cancel(&c.next)
	}
	for _, q := range s.quorums {
		q.router.agenda.cancel(&q.late)
	}
}

// adoptInstances takes over the instances that go on, makes the new ones, and returns
// those that are gone.
func (s *setup) adoptInstances(r *Router, old *setup) (gone []*instance) {
	before := make(map[identity]*instance, len(old.instances))
	for _, in := range old.instances {
		before[identityOf(in.conf)] = in
	}
	for _, conf := range s.config.Instances {
		id := identityOf(conf)
		in := before[id]
		if in == nil {
			in = newInstance(r, conf)
		} else {
			delete(before, id)
			in.next = &conf
		}
		s.instances = append(s.instances, in)
	}
	for _, in := range old.instances {
		if before[identityOf(in.conf)] == in {
			gone = append(gone, in)
		}
	}
	for _, in := range s.instances {
		if in.next != nil {
			in.conf, in.next = *in.next, nil
		}
	}
	s.nameMACs()
	return gone
}

// formGroups connects instances with their groups and with what they depend on.
func (s *setup) formGroups(r *Router, old *setup) {
	byName := make(map[string]*instance, len(s.instances))
	for _, in := range s.instances {
		byName[in.conf.Name] = in
		in.group, in.depends = nil, nil
	}
	for _, conf := range s.config.Groups {
		g := &group{conf: conf, router: r}
		for _, name := range conf.Members {
			if in := byName[name]; in != nil && in.group == nil {
				in.group = g
				g.members = append(g.members, in)
			}
		}
		if len(g.members) == 0 {
			continue
		}
		machines := make([]*vrrp.Machine, len(g.members))
		for i, in := range g.members {
			machines[i] = in.machine
		}
		g.sync = vrrp.NewSyncGroup(machines...)
		for _, was := range old.groups {
			if was.conf.Name == conf.Name {
				g.state = was.state
			}
		}
		s.groups = append(s.groups, g)
	}
	for _, in := range s.instances {
		s.connect(r, in)
	}
}

// connect makes the dependencies of one instance, those of its group among them.
func (s *setup) connect(r *Router, in *instance) {
	g, c := in.group, in.conf
	// Weights would make the members' priorities differ from what the peers' groups
	// expect, and an owner has no other priority.
	weightless := g != nil && !g.conf.TrackingWeight || c.Priority == vrrp.PriorityOwner
	add := func(kind string, lines []keepalived.Track, fromGroup bool) {
		for _, t := range lines {
			d, ok := s.depend(kind, t)
			if !ok {
				continue
			}
			if d.weight != 0 && weightless && !fromGroup {
				if kind == kindScript || kind == kindFile && t.Set || kind == kindInterface && c.Priority == vrrp.PriorityOwner {
					r.log.Warn("tracked with a weight in a sync group or by an owner: not counted", "instance", c.Name, kind, t.Name)
					continue
				}
				d.weight = 0
			}
			in.depends = append(in.depends, d)
		}
	}
	add(kindInterface, c.Interfaces, false)
	add(kindScript, c.Scripts, false)
	add(kindProcess, c.Processes, false)
	add(kindFile, c.Files, false)
	if g != nil {
		add(kindInterface, g.conf.Interfaces, true)
		add(kindScript, g.conf.Scripts, true)
		add(kindProcess, g.conf.Processes, true)
		add(kindFile, g.conf.Files, true)
	}
}

// depend makes one dependency; a line of a track_ block without a weight has that of
// the thing.
func (s *setup) depend(kind string, t keepalived.Track) (dependency, bool) {
	key := factorKey{kind, t.Name}
	if kind == kindInterface && s.factors[key] == nil {
		s.factor(kind, t.Name, true)
	}
	d := dependency{on: s.factors[key], weight: t.Weight, reverse: t.Reverse}
	if d.on == nil {
		return d, false
	}
	if t.Set {
		return d, true
	}
	switch kind {
	case kindScript:
		c := s.checks[t.Name].conf
		d.weight, d.reverse = c.Weight, c.Reverse
	case kindProcess:
		c := s.quorums[t.Name].conf
		d.weight, d.reverse = c.Weight, c.Reverse
	case kindFile:
		for _, c := range s.config.Files {
			if c.Name == t.Name {
				d.weight, d.reverse = c.Weight, c.Reverse
			}
		}
	}
	return d, true
}

// shutdown ends all instances: priority 0, then everything down.
func (r *Router) shutdown() {
	r.agenda.cancel(&r.repair)
	r.agenda.cancel(&r.waiting)
	for _, in := range r.current.instances {
		in.step(vrrp.Shutdown{})
		r.notifier.instance(in, wordStop)
	}
	for _, g := range r.current.groups {
		r.notifier.group(g, wordStop)
	}
	if !r.host.Keep {
		r.demote(nil)
		r.statics.change(r, &keepalived.Config{})
		r.removeMACs(r.current.macNames(), nil)
	}
	for _, in := range r.current.instances {
		in.disconnect()
	}
	r.current.untrack(&setup{})
	r.notifier.end()
	if r.current.endNews != nil {
		r.current.endNews()
	}
}
