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
	// Another version is another router: neither hears the other.
	version uint8
}

// instance is one virtual router.
type instance struct {
	router  *Router
	conf    keepalived.Instance
	next    *keepalived.Instance // during a reload: what conf will be
	machine *vrrp.Machine
	group   *group // nil = none
	depends []dependency

	timer appointment

	begun    bool       // the machine has had Startup
	source   netip.Addr // as the machine knows it
	broken   bool       // as the machine knows it
	priority uint8      // as the machine knows it
	why      string     // the first of the faults, "" = none

	wire     wire
	made     int    // index of the interface with the virtual MAC address, 0 = none yet
	macName  string // of that interface when the configuration names none, see nameMACs
	has      holdings
	bursts   bursts
	stats    vrrp.Stats
	diary    diary
	since    time.Time     // of the last change of state, wall clock
	failure  string        // of the last attempt to bring something up, "" = none
	restored time.Duration // when deleted addresses were put back last
}

func identityOf(c keepalived.Instance) identity {
	return identity{c.Interface, c.IPv6, c.VRID, c.Version}
}

// device is the interface of the instance's own addresses.
func (in *instance) device() string {
	if in.conf.VMAC != nil {
		return in.vmacName()
	}
	return in.conf.Interface
}

// machineConfig is the instance as the state machine sees it.
func (in *instance) machineConfig() vrrp.Config {
	c := in.conf
	m := vrrp.Config{
		Version: c.Version, VRID: c.VRID, Priority: c.Priority, Interval: c.Interval, Checksum: checksumOf(c),
		Password: c.Password, Preempt: c.Preempt, PreemptDelay: c.PreemptDelay,
		StartActive: c.Active, DownAdverts: c.DownAdverts,
		LowerNoAdvert: c.LowerNoAdvert, HigherAdvert: c.HigherAdvert, OwnerIgnores: c.OwnerIgnores,
		SkipCheckAddresses: c.SkipCheckAddress, Member: in.group != nil,
	}
	for _, a := range c.Addresses {
		m.Addresses = append(m.Addresses, a.Prefix.Addr())
	}
	return m
}

// checksumOf is the form that the configuration asks for, 0 = the usual one, which
// gives way to that of an old peer.
func checksumOf(c keepalived.Instance) vrrp.Checksum {
	switch {
	case c.ChecksumPlain:
		return vrrp.Plain
	case len(c.Peers) == 0:
		return 0
	case c.OldUnicast == "always":
		return vrrp.OldUnicast
	case c.OldUnicast == "never":
		return vrrp.Pseudo
	}
	return 0
}

// newInstance makes an instance that has not begun.
func newInstance(r *Router, c keepalived.Instance) *instance {
	in := &instance{router: r, conf: c, priority: c.Priority, since: time.Now(), diary: diary{}}
	in.machine = vrrp.New(in.machineConfig())
	in.timer.do = in.timeout
	in.bursts.init(in)
	return in
}

// step gives the machine an event and does what it says.
func (in *instance) step(e vrrp.Event) {
	if in.group != nil {
		in.group.step(in, e)
		return
	}
	before := in.machine.State()
	actions := in.machine.Step(e, in.router.host.Clock.Now())
	in.stats.Step(before, e, actions)
	for _, a := range actions {
		in.do(a)
	}
	in.schedule()
}

// do does one thing that the machine says.
func (in *instance) do(a vrrp.Action) {
	switch a := a.(type) {
	case vrrp.Send:
		in.send(a)
	case vrrp.Enter:
		in.enter(a)
	case vrrp.Announce:
		in.challenged()
	case vrrp.Note:
		in.note(a)
	case vrrp.Ready: // the group's business
	}
}

// schedule puts the machine's next timer on the agenda.
func (in *instance) schedule() {
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
	if late > stall && in.machine.State() == vrrp.Backup {
		in.router.agenda.set(&in.timer, in.router.host.Clock.Now()+grace)
		return
	}
	in.step(vrrp.Timer{})
}

// enter is a change of state.
func (in *instance) enter(e vrrp.Enter) {
	in.since = time.Now()
	if e.To == vrrp.Active {
		in.raise()
		in.bursts.start(in.conf.GARP.Delay, in.conf.GARP.Repeat)
	} else {
		in.bursts.stop()
		in.lower()
	}
	in.router.log.Info("state changed", "instance", in.conf.Name, "from", stateName(e.From), "to", stateName(e.To), "why", e.Why)
	if e.To != vrrp.Initialize {
		in.router.notifier.instance(in, stateName(e.To))
	}
}

// challenged: another router has advertised with a lower priority.
func (in *instance) challenged() {
	in.bursts.start(in.conf.GARP.LowerDelay, in.conf.GARP.LowerRepeat)
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
