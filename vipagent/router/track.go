package router

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"holdfast/vipagent/vrrp"
)

// What is tracked.
const (
	kindInterface = "interface"
	kindScript    = "script"
	kindProcess   = "process"
	kindFile      = "file"
)

// condition is that of something tracked.
type condition uint8

const (
	unknown condition = iota
	up
	down
)

func (c condition) String() string {
	return [...]string{"unknown", "up", "down"}[c]
}

type factorKey struct{ kind, name string }

func (k factorKey) compare(o factorKey) int {
	return cmp.Or(cmp.Compare(k.kind, o.kind), cmp.Compare(k.name, o.name))
}

// factor is something that instances depend on.
type factor struct {
	factorKey
	state condition
	value int // of a file
	// patient: until something is known it counts as good, and nobody waits for it.
	// So it is after a reload: instances that run go on.
	patient bool
	stop    func() // ends what watches it; nil = nothing does
}

// dependency is how much an instance depends on something.
type dependency struct {
	on      *factor
	weight  int // 0 = fault
	reverse bool
}

// effect is what a dependency means right now.
type effect struct {
	weight  int
	fault   string // "" = none
	waiting bool   // it is not known yet whether there is a fault
}

// fileLimit is where a weighted file value becomes a fault, and its negative the most
// that it adds.
const fileLimit = 254

func (d dependency) effect() effect {
	if d.on.kind == kindFile {
		return d.fileEffect()
	}
	state := d.on.state
	if d.weight == 0 {
		switch {
		case state == unknown:
			return effect{waiting: !d.on.patient}
		case (state == up) == d.reverse:
			return effect{fault: fmt.Sprintf("%s %s is %s", d.on.kind, d.on.name, state)}
		}
		return effect{}
	}
	if state == up && d.weight > 0 || state == down && d.weight < 0 {
		if d.reverse {
			return effect{weight: -d.weight}
		}
		return effect{weight: d.weight}
	}
	return effect{}
}

// fileEffect: the file's number times the weight; with weight 0 a number other than 0
// is a fault.
func (d dependency) fileEffect() effect {
	if d.on.state == unknown {
		return effect{waiting: !d.on.patient}
	}
	sum := d.on.value * d.weight
	if d.reverse {
		sum = -sum
	}
	if d.weight == 0 && (d.on.value != 0) != d.reverse || sum <= -fileLimit {
		return effect{fault: fmt.Sprintf("file %s says %d", d.on.name, d.on.value)}
	}
	return effect{weight: min(sum, fileLimit-1)}
}

// standing is what all that an instance depends on means for it.
type standing struct {
	fault    string
	waiting  bool
	priority uint8
}

// stand sums up the dependencies of an instance, and its own condition.
func (in *instance) stand() standing {
	s := standing{fault: in.ownFault()}
	sum := int(in.conf.Priority)
	for _, d := range in.depends {
		e := d.effect()
		sum += e.weight
		s.fault = cmp.Or(s.fault, e.fault)
		s.waiting = s.waiting || e.waiting
	}
	s.priority = uint8(min(max(sum, 1), vrrp.PriorityOwner-1))
	if in.conf.Priority == vrrp.PriorityOwner {
		s.priority = vrrp.PriorityOwner
	}
	return s
}

// review looks at all that instances depend on and tells the machines what has
// changed. One member of a group waits for all.
func (r *Router) review() {
	r.ofInterfaces()
	virtual := r.current.virtual()
	standings := make(map[*instance]standing, len(r.current.instances))
	for _, in := range r.current.instances {
		in.learnSource(in.ownAddress(virtual))
		standings[in] = in.stand()
	}
	for _, g := range r.current.groups {
		waiting := slices.ContainsFunc(g.members, func(in *instance) bool { return standings[in].waiting })
		for _, in := range g.members {
			s := standings[in]
			s.waiting = waiting
			standings[in] = s
		}
	}
	for _, in := range r.current.instances {
		in.follow(standings[in])
	}
}

// learnSource: the source address of advertisements may have changed, and with it the
// socket.
func (in *instance) learnSource(a netip.Addr) {
	// Without an address an Active router still has a priority 0 to send, from the
	// former one, where the kernel lets it.
	if changed := a != in.source; changed && a.IsValid() {
		in.source = a
		if in.begun {
			in.step(vrrp.Primary{Address: a})
		}
	} else if changed && in.begun && in.machine.State() == vrrp.Active {
		in.breakDown("no source address on " + in.conf.Interface)
		in.source = a
	} else if changed {
		in.source = a
	}
	if !in.source.IsValid() {
		return
	}
	if err := in.connect(); err != nil {
		in.sendFailed(fmt.Errorf("open socket: %w", err))
		in.router.repairSoon()
	}
}

// follow tells the machine what has changed, and begins once nothing is waited for.
func (in *instance) follow(s standing) {
	in.why = s.fault
	if !in.begun {
		if in.router.started && (!s.waiting || s.fault != "") {
			in.start(s)
		}
		return
	}
	if s.priority != in.priority {
		in.changePriority(s.priority)
	}
	switch {
	case s.fault != "" && !in.broken:
		in.breakDown(s.fault)
	case s.fault == "" && in.broken && !s.waiting:
		in.broken = false
		in.step(vrrp.Repaired{})
	}
}

func (in *instance) breakDown(why string) {
	if in.broken {
		return
	}
	in.broken = true
	in.step(vrrp.Broken{Reason: why})
}

func (in *instance) changePriority(to uint8) {
	in.router.log.Info("effective priority changed", "instance", in.conf.Name, "from", in.priority, "to", to)
	in.priority = to
	in.step(vrrp.Priority{Value: to})
	in.router.notifier.priority(in)
}

// start gives a new machine all that it must know, and Startup.
func (in *instance) start(s standing) {
	in.begun = true
	if in.source.IsValid() {
		in.step(vrrp.Primary{Address: in.source})
	}
	if in.priority = s.priority; s.priority != in.conf.Priority {
		in.step(vrrp.Priority{Value: s.priority})
	}
	if in.broken = s.fault != ""; in.broken {
		in.step(vrrp.Broken{Reason: s.fault})
	}
	in.step(vrrp.Startup{})
}
