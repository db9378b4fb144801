package vrrp

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Shared is a virtual router that several hosts of a quorum present together, to
// routers outside of it, as if they were one. Only the host that holds the lease
// speaks; the others listen, so that whoever follows knows at once whether a
// stranger is Active. The zero value is not ready: use [NewShared].
//
// That two of the hosts never speak is the lease's doing, not this type's: it is told
// when it may ([Shared.Speak]) and when no more ([Shared.Mute]).
type Shared struct {
	config   Config
	since    time.Duration // listening since then
	machine  *Machine      // nil: listens
	spoke    time.Duration // it speaks since then, if machine is set
	stranger stranger
	primary  netip.Addr
	fellows  []netip.Addr
}

// stranger is the router outside of the quorum that was last heard.
type stranger struct {
	Received
	at    time.Duration
	heard bool
}

// NewShared returns a virtual router that listens from now on.
func NewShared(c Config, now time.Duration) *Shared {
	return &Shared{config: c, since: now}
}

// Configure changes the configuration. A router that is Active stays so. Where it
// decides which advertisements are taken in, those of before say nothing any more.
func (s *Shared) Configure(c Config, now time.Duration) []Action {
	old := s.config
	s.config = c
	switch {
	case sameConfig(old, c):
		return nil
	case !hearsTheSame(old, c):
		return s.Anew(now)
	case s.machine == nil:
		return nil
	}
	return s.machine.Step(Reconfigure{c}, now)
}

// sameConfig compares all fields, those too that are yet to come.
func sameConfig(a, b Config) bool {
	same := slices.Equal(a.Addresses, b.Addresses) && bytes.Equal(a.Password, b.Password)
	a.Addresses, a.Password, b.Addresses, b.Password = nil, nil, nil, nil
	return same && fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b)
}

// hearsTheSame says whether two configurations take in the same advertisements; see
// [Config.Accept].
func hearsTheSame(a, b Config) bool {
	family := func(c Config) bool { return len(c.Addresses) > 0 && c.Addresses[0].Is6() }
	return a.Version == b.Version && a.VRID == b.VRID && family(a) == family(b) && bytes.Equal(a.Password, b.Password) &&
		a.Checksum == b.Checksum && (a.Version != 2 || a.Interval == b.Interval)
}

// Anew says that only from now on can be heard who is Active: before, nobody has
// listened, or elsewhere. A router that is Active stays so.
func (s *Shared) Anew(now time.Duration) []Action {
	s.since, s.stranger = now, stranger{}
	if s.machine == nil {
		return nil
	}
	was := s.machine.State()
	out := s.start(now)
	if was == Active && s.machine.State() != Active {
		out = append(out, s.takeOver("it was Active before", now)...)
	}
	return visible(was, out)
}

// Sources tells the source address of own advertisements, and those of the other
// hosts of the quorum: what comes from there while this host listens is no stranger's.
func (s *Shared) Sources(primary netip.Addr, fellows []netip.Addr, now time.Duration) []Action {
	s.fellows = fellows
	if s.machine == nil && slices.Contains(fellows, s.stranger.Source) {
		s.stranger.heard = false // it was a fellow
	}
	if s.primary == primary {
		return nil
	}
	s.primary = primary
	if s.machine == nil {
		return nil
	}
	return s.machine.Step(Primary{primary}, now)
}

// Hear takes in an advertisement.
func (s *Shared) Hear(r Received, now time.Duration) []Action {
	if r.Source == s.primary || slices.Contains(s.fellows, r.Source) && !s.alone(now) {
		return nil
	}
	s.stranger = stranger{Received: r, at: now, heard: true}
	if s.machine == nil {
		return nil
	}
	return s.machine.Step(r, now)
}

// alone says whether no fellow can have spoken lately: the lease is here, and what a
// former holder sent is not on its way any more. What then comes from a fellow's
// address is of another program on its host.
func (s *Shared) alone(now time.Duration) bool {
	return s.machine != nil && now-s.spoke >= s.config.Interval
}

// Speak says that this host holds the lease. If no stranger is Active, or the
// addresses are up here already, it is Active at once; else it is Backup, by the rules
// of [Machine].
func (s *Shared) Speak(up bool, now time.Duration) []Action {
	if s.machine != nil {
		return nil
	}
	s.spoke = now
	out := s.start(now)
	if up && s.machine.State() == Backup {
		out = append(out, s.takeOver("the addresses are up here", now)...)
	}
	return visible(Initialize, out)
}

// start begins to take part, as if it had done so ever since the last news.
func (s *Shared) start(now time.Duration) []Action {
	s.machine = New(s.config)
	if s.primary.IsValid() {
		s.machine.Step(Primary{s.primary}, now)
	}
	var out []Action
	switch r, at, ok := s.last(now); {
	case ok:
		out = append(out, s.machine.Step(Startup{}, at)...)
		out = append(out, s.machine.Step(r, at)...)
	case now-s.since < s.patience(s.config.Interval):
		out = append(out, s.machine.Step(Startup{}, s.since)...)
	default:
		out = append(out, s.machine.Step(Startup{}, now)...)
		if s.machine.State() == Backup {
			out = append(out, s.takeOver("no router outside of the quorum is Active", now)...)
		}
	}
	if due, ok := s.machine.Due(); ok && due <= now {
		out = append(out, s.machine.Step(Timer{}, now)...)
	}
	return out
}

// takeOver makes a Backup Active at once, and says why: the machine knows only that it
// was told to.
func (s *Shared) takeOver(why string, now time.Duration) []Action {
	out := s.machine.Step(Follow{Active}, now)
	for i, a := range out {
		if e, ok := a.(Enter); ok {
			e.Why = why
			out[i] = e
		}
	}
	return out
}

// patience is how long an Active router of that interval may be silent, at most.
func (s *Shared) patience(interval time.Duration) time.Duration {
	adverts := s.config.DownAdverts
	if adverts == 0 {
		adverts = 3
	}
	return time.Duration(adverts+1) * interval // the skew is less than one interval
}

// last returns what a stranger said that may still be Active.
func (s *Shared) last(now time.Duration) (Received, time.Duration, bool) {
	h := s.stranger
	interval := h.Advertisement.Interval
	if h.Advertisement.Version == 2 {
		interval = s.config.Interval
	}
	ok := h.heard && h.Advertisement.Priority != PriorityStop && now-h.at < s.patience(interval)
	return h.Received, h.at, ok
}

// Mute says that this host holds the lease no more, or must not speak: it only
// listens. Nothing is sent.
func (s *Shared) Mute() { s.machine = nil }

// Step passes Timer, Yield and Shutdown on. A host that listens does nothing.
func (s *Shared) Step(e Event, now time.Duration) []Action {
	if s.machine == nil {
		return nil
	}
	return s.machine.Step(e, now)
}

// Due is [Machine.Due], and false for a host that listens.
func (s *Shared) Due() (time.Duration, bool) {
	if s.machine == nil {
		return 0, false
	}
	return s.machine.Due()
}

// Speaking says whether it takes part.
func (s *Shared) Speaking() bool { return s.machine != nil }

// Active says whether it is the Active router.
func (s *Shared) Active() bool { return s.machine != nil && s.machine.State() == Active }

// Stranger returns the router outside of the quorum that is Active, as far as is
// known, with its priority.
func (s *Shared) Stranger(now time.Duration) (source netip.Addr, priority uint8, ok bool) {
	r, _, ok := s.last(now)
	if !ok || s.Active() {
		return netip.Addr{}, 0, false
	}
	return r.Source, r.Advertisement.Priority, true
}

// visible leaves out what led from one state to the same again.
func visible(was State, actions []Action) []Action {
	var enters []Enter
	for _, a := range actions {
		if e, ok := a.(Enter); ok {
			enters = append(enters, e)
		}
	}
	if len(enters) == 0 || enters[len(enters)-1].To != was {
		return actions
	}
	return slices.DeleteFunc(actions, func(a Action) bool { _, is := a.(Enter); return is })
}
