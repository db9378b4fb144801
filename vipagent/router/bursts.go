package router

import (
	"time"

	"holdfast/vipagent/keepalived"
)

// bursts announces where an instance's addresses are: at once, again after a while,
// and then now and then.
type bursts struct {
	instance                *instance
	second, refresh, spaced appointment
	repeat                  int // of the second burst
	left                    int // announcements of the spaced burst
}

func (b *bursts) init(in *instance) {
	b.instance = in
	b.second.do = func(time.Duration) { b.burst(b.repeat) }
	b.spaced.do = func(time.Duration) { b.burst(b.left) }
	b.refresh.do = func(time.Duration) {
		b.burst(max(1, in.conf.GARP.RefreshRepeat))
		b.refreshLater(0)
	}
}

// start announces repeat times now, and as often after delay (0 = not again).
func (b *bursts) start(delay time.Duration, repeat int) {
	in := b.instance
	b.repeat = repeat
	b.burst(repeat)
	if delay > 0 {
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

// burst announces n times, at the configured distance if there is one.
func (b *bursts) burst(n int) {
	in := b.instance
	distance := in.conf.GARP.Interval
	if in.conf.IPv6 {
		distance = in.conf.GARP.NAInterval
	}
	for n > 0 {
		in.announce(in.has.addresses)
		n--
		if distance > 0 && n > 0 {
			b.left = n
			in.router.agenda.set(&b.spaced, in.router.host.Clock.Now()+distance)
			return
		}
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
