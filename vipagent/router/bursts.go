package router

import (
	"slices"
	"time"

	"holdfast/vipagent/keepalived"
)

// bursts announces where an instance's addresses are: at once, again after a while,
// and then now and then.
type bursts struct {
	instance                *instance
	second, refresh, spaced appointment
	repeat                  int                  // of the second burst
	left                    []keepalived.Address // announcements of the spaced burst
}

func (b *bursts) init(in *instance) {
	b.instance = in
	b.second.do = func(time.Duration) { b.burst(b.repeat) }
	b.spaced.do = func(time.Duration) { b.one() }
	b.refresh.do = func(time.Duration) {
		b.burst(max(1, in.conf.GARP.RefreshRepeat))
		b.refreshLater(0)
	}
}

// start announces repeat times now, and as often after delay (0 = not again).
func (b *bursts) start(delay time.Duration, repeat int) {
	in := b.instance
	b.burst(repeat)
	if delay > 0 {
		b.repeat = repeat
		in.router.agenda.set(&b.second, in.router.host.Clock.Now()+delay)
	}
	if b.refresh.index == 0 {
		b.refreshLater(delay)
	}
}

func (b *bursts) refreshLater(delay time.Duration) {
	in := b.instance
	if in.conf.GARP.Refresh > 0 {
		in.router.agenda.set(&b.refresh, in.router.host.Clock.Now()+delay+in.conf.GARP.Refresh)
	}
}

// burst announces n times. If a distance is configured, it is that between any two
// announcements: there are switches that take no more.
func (b *bursts) burst(n int) {
	in := b.instance
	if b.distance() <= 0 {
		for range n {
			in.announce(in.has.addresses)
		}
		return
	}
	b.left = nil
	for range n {
		b.left = append(b.left, in.has.addresses...)
	}
	if b.spaced.index == 0 {
		b.one()
	}
}

func (b *bursts) distance() time.Duration {
	if b.instance.conf.IPv6 {
		return b.instance.conf.GARP.NAInterval
	}
	return b.instance.conf.GARP.Interval
}

// one announces the next address of a spaced burst that is still up.
func (b *bursts) one() {
	in := b.instance
	for len(b.left) > 0 {
		a := b.left[0]
		b.left = b.left[1:]
		if !slices.ContainsFunc(in.has.addresses, func(x keepalived.Address) bool { return addressKey(x) == addressKey(a) }) {
			continue
		}
		in.announce([]keepalived.Address{a})
		in.router.agenda.set(&b.spaced, in.router.host.Clock.Now()+b.distance())
		return
	}
}

func (b *bursts) stop() {
	for _, p := range []*appointment{&b.second, &b.refresh, &b.spaced} {
		b.instance.router.agenda.cancel(p)
	}
}

func (in *instance) announce(list []keepalived.Address) {
	if len(list) == 0 {
		return
	}
	if err := in.router.host.Addresses.Announce(list); err != nil {
		in.router.log.Warn("cannot announce", "instance", in.conf.Name, "error", err)
	}
}
