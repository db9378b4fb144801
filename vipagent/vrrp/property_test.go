package vrrp

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// wire joins routers: what one sends, all others hear a delay later, nothing is lost,
// and no process stands still.
type wire struct {
	now      time.Duration
	delay    time.Duration
	routers  []*Machine
	flying   []flight
	together time.Duration // since when two are Active, 0 = they are not
	longest  time.Duration // for which two were
}

type flight struct {
	at   time.Duration
	from int
	r    Received
}

func (w *wire) step(i int, e Event) {
	m := w.routers[i]
	for _, a := range m.Step(e, w.now) {
		if send, ok := a.(Send); ok {
			r := Received{m.Advertisement(send), m.primary, m.Form(true)}
			w.flying = append(w.flying, flight{w.now + w.delay, i, r})
		}
	}
	switch n := len(w.active()); {
	case n < 2:
		w.together = 0
	case w.together == 0:
		w.together = max(w.now, 1)
	}
}

func (w *wire) active() (list []int) {
	for i, m := range w.routers {
		if m.State() == Active {
			list = append(list, i)
		}
	}
	return list
}

// pass lets time pass.
func (w *wire) pass(d time.Duration) {
	for end := w.now + d; ; {
		next, run := end+1, func() {}
		if len(w.flying) > 0 && w.flying[0].at < next {
			next, run = w.flying[0].at, w.land
		}
		for i, m := range w.routers {
			if due, armed := m.Due(); armed && due < next {
				next, run = due, func() { w.step(i, Timer{}) }
			}
		}
		if next > end {
			w.now = end
			return
		}
		w.now = max(next, w.now)
		if w.together != 0 {
			w.longest = max(w.longest, w.now-w.together)
		}
		run()
	}
}

// land delivers the first packet.
func (w *wire) land() {
	f := w.flying[0]
	w.flying = w.flying[1:]
	for i := range w.routers {
		if i != f.from {
			w.step(i, f.r)
		}
	}
}

// anyRouter draws a configuration for a wire: one version for all, and in version 2
// one interval.
func anyRouter(t *rapid.T, version uint8, interval time.Duration) Config {
	c := Config{Version: version, VRID: 7, Interval: interval, Addresses: addresses("10.0.0.100"),
		Priority:     rapid.Uint8Range(1, 254).Draw(t, "priority"),
		Preempt:      rapid.Bool().Draw(t, "preempt"),
		HigherAdvert: rapid.Bool().Draw(t, "higher advert"),
	}
	if version == 3 {
		c.Interval = time.Duration(rapid.IntRange(1, 200).Draw(t, "centiseconds")) * centisecond
	}
	if rapid.Bool().Draw(t, "delayed") {
		c.PreemptDelay = time.Duration(rapid.IntRange(1, 5).Draw(t, "delay")) * time.Second
	}
	return c
}

// TestOneActive: whatever happens to routers that hear each other, two are Active at
// once only until the first has heard the second and been answered; when nothing
// happens any more, exactly one of those that run is, and if all preempt it is the
// one of highest priority and address.
func TestOneActive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		version := rapid.SampledFrom([]uint8{2, 3}).Draw(t, "version")
		w := &wire{delay: time.Duration(rapid.IntRange(10, 900).Draw(t, "wire, us")) * time.Microsecond}
		for i := range rapid.IntRange(1, 4).Draw(t, "routers") {
			w.routers = append(w.routers, New(anyRouter(t, version, time.Second)))
			w.step(i, Primary{netip.AddrFrom4([4]byte{10, 0, 0, byte(20 - i)})})
			w.step(i, Startup{})
		}
		for range rapid.IntRange(0, 30).Draw(t, "events") {
			i := rapid.IntRange(0, len(w.routers)-1).Draw(t, "router")
			w.step(i, anyEvent(t))
			w.pass(time.Duration(rapid.IntRange(0, 8000).Draw(t, "ms")) * time.Millisecond)
		}
		w.pass(60 * time.Second)
		if limit := 3 * w.delay; w.longest > limit {
			t.Fatalf("two were Active for %v, over a wire of %v", w.longest, w.delay)
		}
		if got, want := fmt.Sprint(w.active()), winners(w.routers); got != want && want != "" {
			t.Fatalf("Active are %s, should be %s", got, want)
		} else if running(w.routers) > 0 && len(w.active()) != 1 {
			t.Fatalf("Active are %s of %d that run", got, running(w.routers))
		}
	})
}

// anyEvent draws what may happen to a router beside packets and timers.
func anyEvent(t *rapid.T) Event {
	return rapid.OneOf(
		rapid.Just[Event](Startup{}), rapid.Just[Event](Shutdown{}), rapid.Just[Event](Broken{"x"}), rapid.Just[Event](Repaired{}),
		rapid.Just[Event](Yield{}), rapid.Just[Event](Timer{}),
		rapid.Map(rapid.Uint8(), func(p uint8) Event { return Priority{p} }),
	).Draw(t, "event")
}

func running(routers []*Machine) (n int) {
	for _, m := range routers {
		if m.State() == Backup || m.State() == Active {
			n++
		}
	}
	return n
}

// winners says who has to be Active if all preempt, "" if some do not.
func winners(routers []*Machine) string {
	best := -1
	for i, m := range routers {
		if !m.config.Preempt {
			return ""
		}
		if m.State() != Backup && m.State() != Active {
			continue
		}
		if best < 0 || m.priority > routers[best].priority {
			best = i
		}
	}
	// Of equal priorities any may be Active: a Backup does not take over by its address.
	for i, m := range routers {
		if best >= 0 && i != best && m.priority == routers[best].priority {
			return ""
		}
	}
	if best < 0 {
		return "[]"
	}
	return fmt.Sprintf("[%d]", best)
}

// anyReceived draws an advertisement of some other router.
func anyReceived(t *rapid.T, c Config) Event {
	a := c.Advertisement(rapid.Uint8().Draw(t, "heard priority"))
	if c.Version == 3 {
		a.Interval = time.Duration(rapid.IntRange(1, 4095).Draw(t, "heard interval")) * centisecond
	}
	if rapid.Bool().Draw(t, "other addresses") {
		a.Addresses = addresses("10.0.0.101")
	}
	source := netip.AddrFrom4([4]byte{10, 0, 0, rapid.Uint8().Draw(t, "heard source")})
	return Received{a, source, rapid.SampledFrom([]Checksum{0, Plain, Pseudo, OldUnicast}).Draw(t, "heard form")}
}

// TestAnyEvents: whatever happens in whatever order, at whatever time, a machine's
// actions tell one story: see the checks.
func TestAnyEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyRouter(t, rapid.SampledFrom([]uint8{2, 3}).Draw(t, "version"), time.Second)
		c.Priority = rapid.Uint8Range(1, 255).Draw(t, "any priority")
		for _, flag := range []*bool{&c.StartActive, &c.LowerNoAdvert, &c.OwnerIgnores, &c.CheckAddresses, &c.SkipCheckAddresses, &c.Member} {
			*flag = rapid.Bool().Draw(t, "flag")
		}
		c.LateBackup = rapid.SampledFrom([]uint8{0, 100}).Draw(t, "late backup")
		m := New(c)
		var now time.Duration
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			now += time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond
			var e Event
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				e = anyEvent(t)
			case 1:
				e = anyReceived(t, c)
			case 2:
				e = Follow{State(rapid.IntRange(0, 3).Draw(t, "follow"))}
			default:
				e = Timer{}
				if due, armed := m.Due(); armed && rapid.Bool().Draw(t, "on time") {
					now = max(now, due)
				}
			}
			before := m.State()
			checkStory(t, m, before, e, m.Step(e, now), now)
		}
	})
}

// checkStory: each change is said once and in order, addresses are raised after an
// advertisement and lowered before priority 0, only an Active router sends, and a
// timer runs exactly in Backup and Active.
func checkStory(t *rapid.T, m *Machine, state State, e Event, actions []Action, now time.Duration) {
	raising := false
	for i, a := range actions {
		switch a := a.(type) {
		case Enter:
			if a.From != state || a.To == state || a.Why == "" || a.To == Active && !raising {
				t.Fatalf("%T: %+v out of %v", e, actions, state)
			}
			state = a.To
		case Send:
			left := i > 0 && a.Priority == PriorityStop
			if left {
				enter, ok := actions[i-1].(Enter)
				left = ok && enter.From == Active
			}
			raising = i+1 < len(actions) && actions[i+1] == Action(Enter{state, Active, whyOf(actions[i+1])})
			if a.Priority == PriorityStop && !left || a.Priority != PriorityStop && state != Active && !raising {
				t.Fatalf("%T: sends in %v: %+v", e, state, actions)
			}
		case Announce:
			if state != Active {
				t.Fatalf("%T: announces in %v: %+v", e, state, actions)
			}
		case Ready:
			if state != Backup || !m.Status().Ready {
				t.Fatalf("%T: ready in %v: %+v", e, state, actions)
			}
		case Note:
			if a.Kind == "" || a.Text == "" {
				t.Fatalf("%T: an empty note: %+v", e, actions)
			}
		}
	}
	due, armed := m.Due()
	_, timer := e.(Timer)
	switch {
	case m.State() != state:
		t.Fatalf("%T: %+v end in %v, the machine in %v", e, actions, state, m.State())
	case armed != (state == Backup || state == Active):
		t.Fatalf("%T: a timer is %t in %v", e, armed, state)
	case timer && armed && due <= now:
		t.Fatalf("the timer at %v is due at %v after it has come", now, due)
	case m.Status().Priority == PriorityStop || m.Status().Priority == PriorityOwner && m.config.Priority != PriorityOwner:
		t.Fatalf("%T: effective priority %d", e, m.Status().Priority)
	case m.Status().Broken != "" && state != Fault && state != Initialize:
		t.Fatalf("%T: broken and %v", e, state)
	}
}

func whyOf(a Action) string {
	if e, ok := a.(Enter); ok {
		return e.Why
	}
	return ""
}

// TestRhythm: however late timers come, advertisements leave at whole intervals
// after the first was due, none of them twice, and none is left out if none is a
// whole interval late.
func TestRhythm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyRouter(t, 3, 0)
		m := New(c)
		m.Step(Startup{}, 0)
		first, _ := m.Due()
		m.Step(Timer{}, first)
		sent, lost := 0, false
		for range rapid.IntRange(1, 50).Draw(t, "timers") {
			due, _ := m.Due()
			if (due-first)%c.Interval != 0 {
				t.Fatalf("due at %v, %v after the first, with an interval of %v", due, due-first, c.Interval)
			}
			late := time.Duration(rapid.Int64Range(0, int64(2*c.Interval)).Draw(t, "late"))
			lost = lost || late >= c.Interval
			if n := len(m.Step(Timer{}, due+late)); n != 1 && late < c.Interval || n == 0 {
				t.Fatalf("%d actions at a timer %v late", n, late)
			}
			sent++
			if next, _ := m.Due(); next <= due+late || next > due+late+c.Interval {
				t.Fatalf("at %v the next one is due at %v", due+late, next)
			}
			if next, _ := m.Due(); !lost && next != first+time.Duration(sent+1)*c.Interval {
				t.Fatalf("after %d the next one is due at %v, first was %v", sent, next, first)
			}
		}
	})
}

// TestSyncGroupTogether: after each step the members of a group are all Active or none
// is, and none is Backup or Active while one is broken.
func TestSyncGroupTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var members []*Machine
		for range rapid.IntRange(1, 4).Draw(t, "members") {
			c := anyRouter(t, 3, 0)
			c.Member = true
			members = append(members, New(c))
		}
		g := NewSyncGroup(members...)
		var now time.Duration
		step := func(i int, e Event) {
			before := make([]State, len(members))
			for j, m := range members {
				before[j] = m.State()
			}
			for _, did := range g.Step(i, e, now) {
				if enter, ok := did.Action.(Enter); ok {
					if enter.From != before[did.Member] {
						t.Fatalf("%T of %d: %+v out of %v", e, i, did, before[did.Member])
					}
					before[did.Member] = enter.To
				}
			}
			checkTogether(t, e, members, before)
		}
		for i := range members {
			step(i, Primary{addresses("10.0.0.50")[0]})
			step(i, Startup{})
		}
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			now += time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond
			i := rapid.IntRange(0, len(members)-1).Draw(t, "member")
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				step(i, rapid.SampledFrom([]Event{Broken{"x"}, Repaired{}, Repaired{}, Yield{}}).Draw(t, "event"))
			case 1:
				step(i, anyReceived(t, members[i].config))
			default:
				for j, m := range members {
					if due, armed := m.Due(); armed {
						now = max(now, due)
						step(j, Timer{})
					}
				}
			}
		}
	})
}

func checkTogether(t *rapid.T, e Event, members []*Machine, said []State) {
	count := map[State]int{}
	broken := 0
	for i, m := range members {
		count[m.State()]++
		if m.Status().Broken != "" {
			broken++
		}
		if said[i] != m.State() {
			t.Fatalf("%T: member %d is %v, its actions say %v", e, i, m.State(), said[i])
		}
	}
	started := len(members) - count[Initialize]
	if count[Active] != 0 && count[Active] != started {
		t.Fatalf("%T: %d of %d are Active", e, count[Active], started)
	}
	if broken > 0 != (count[Fault] > 0) || broken > 0 && count[Fault] != started {
		t.Fatalf("%T: %d broken, %d of %d in Fault", e, broken, count[Fault], started)
	}
}
