package router

import (
	"net/netip"
	"slices"
	"time"

	"holdfast/vipagent/keepalived"
	"holdfast/vipagent/vrrp"
)

// identity is what makes an instance the same one after a reload: other routers know
// it by that.
type identity struct {
	iface string
	ipv6  bool
	vrid  uint8
}

// instance is one virtual router.
type instance struct {
	router  *Router
	conf    keepalived.Instance
	next    *keepalived.Instance // during a reload: what conf will be
	machine *vrrp.Machine
	runs    vrrp.Config // what the machine was made from
	group   *group      // nil = none
	depends []dependency

	timer appointment
	held  bool // its timer has run out, and the group is not ready yet

	begun    bool       // the machine has had Startup
	source   netip.Addr // as the machine knows it
	broken   bool       // as the machine knows it
	priority uint8      // as the machine knows it
	why      string     // the first of the faults, "" = none

	wire     wire
	has      holdings
	bursts   bursts
	counters counters
	heard    heard
	since    time.Time     // of the last change of state, wall clock
	failure  string        // of the last attempt to bring something up, "" = none
	restored time.Duration // when deleted addresses were put back last
	quiet    bool          // taken over by a reload: the state is not news
}

// heard is the last advertisement that was accepted.
type heard struct {
	from     netip.Addr
	priority uint8
	interval time.Duration
}

func (in *instance) identity() identity {
	return identity{in.conf.Interface, in.conf.IPv6, in.conf.VRID}
}

// device is the interface of the instance's own addresses.
func (in *instance) device() string {
	if in.conf.VMAC != nil {
		return in.vmacName()
	}
	return in.conf.Interface
}

// machineConfig is the instance as the state machine sees it.
func machineConfig(c keepalived.Instance) vrrp.Config {
	m := vrrp.Config{
		Version: c.Version, VRID: c.VRID, Priority: c.Priority, Interval: c.Interval,
		Password: c.Password, Preempt: c.Preempt, PreemptDelay: c.PreemptDelay,
		StartActive: c.Active, DownAdverts: c.DownAdverts,
		LowerNoAdvert: c.LowerNoAdvert, HigherAdvert: c.HigherAdvert, OwnerIgnores: c.OwnerIgnores,
		SkipCheckAddresses: c.SkipCheckAddress,
	}
	for _, a := range c.Addresses {
		m.Addresses = append(m.Addresses, a.Prefix.Addr())
	}
	return m
}

// newInstance makes an instance that has not begun.
func newInstance(r *Router, c keepalived.Instance) *instance {
	m := machineConfig(c)
	in := &instance{router: r, conf: c, runs: m, machine: vrrp.New(m), priority: c.Priority, since: time.Now()}
	in.timer.do = in.timeout
	in.bursts.init(in)
	in.wire.reset(c)
	return in
}

// step gives the machine an event and does what it says.
func (in *instance) step(e vrrp.Event) {
	for _, a := range in.machine.Step(e, in.router.host.Clock.Now()) {
		switch a := a.(type) {
		case vrrp.Send:
			in.send(a.Priority)
		case vrrp.Enter:
			in.enter(a)
		case vrrp.Announce:
			in.challenged()
		case vrrp.Note:
			in.note(a)
		}
	}
	in.schedule()
}

// schedule puts the machine's next timer on the agenda.
func (in *instance) schedule() {
	in.held = false
	if at, ok := in.machine.Due(); ok {
		in.router.agenda.set(&in.timer, at)
	} else {
		in.router.agenda.cancel(&in.timer)
	}
}

// grace is how long a Backup whose timer is late listens to what came meanwhile.
const grace = 20 * time.Millisecond

// timeout is the machine's timer.
func (in *instance) timeout(late time.Duration) {
	if in.machine.State() == vrrp.Backup {
		if late > stall {
			in.router.agenda.set(&in.timer, in.router.host.Clock.Now()+grace)
			return
		}
		if in.group != nil && !in.group.ready(in.router.host.Clock.Now()) {
			in.held = true
			return
		}
	}
	in.step(vrrp.Timer{})
}

// enter is a change of state.
func (in *instance) enter(e vrrp.Enter) {
	if e.To == vrrp.Active {
		in.counters.becameActive++
	} else if e.From == vrrp.Active {
		in.counters.releasedActive++
	}
	if in.quiet {
		return
	}
	in.router.log.Info("state changed", "instance", in.conf.Name, "from", stateName(e.From), "to", stateName(e.To), "why", e.Why)
	in.arrive(e.To)
}

// arrive does what a change of state asks for.
func (in *instance) arrive(to vrrp.State) {
	in.since = time.Now()
	if to == vrrp.Active {
		in.raise()
		in.bursts.start(in.conf.GARP.Delay, in.conf.GARP.Repeat)
	} else {
		in.bursts.stop()
		in.lower()
	}
	if in.group != nil {
		in.group.moved(to)
	}
	if to != vrrp.Initialize {
		in.router.notifier.instance(in, stateName(to))
	}
}

// challenged: another router has advertised with a lower priority.
func (in *instance) challenged() {
	members := []*instance{in}
	if in.group != nil {
		members = in.group.members
	}
	for _, m := range members {
		if m.machine.State() == vrrp.Active {
			m.bursts.start(m.conf.GARP.LowerDelay, m.conf.GARP.LowerRepeat)
		}
	}
	in.router.notifier.lowerPriority(in)
}

// wanted is what the instance should have now.
func (in *instance) wanted() holdings {
	if in.machine.State() != vrrp.Active {
		return holdings{}
	}
	return in.all()
}

// all is what the instance should have when it is Active.
func (in *instance) all() holdings {
	return holdings{
		addresses: in.located(slices.Concat(in.conf.Addresses, in.conf.Excluded)),
		routes:    in.conf.Routes,
		rules:     in.conf.Rules,
	}
}

// located fills in the interface.
func (in *instance) located(list []keepalived.Address) []keepalived.Address {
	out := slices.Clone(list)
	for i := range out {
		if out[i].Interface == "" || out[i].Interface == in.conf.Interface {
			out[i].Interface = in.device()
		}
	}
	return out
}

// stateName is Keepalived's word for a state.
func stateName(s vrrp.State) string {
	switch s {
	case vrrp.Backup:
		return "BACKUP"
	case vrrp.Active:
		return "MASTER"
	case vrrp.Fault:
		return "FAULT"
	}
	return "INIT"
}
