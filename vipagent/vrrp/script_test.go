package vrrp

import (
	"flag"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/test/scripts"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the expected output in testdata/*.txt")

// TestScripts runs testdata/*.txt. A script is blocks, apart by blank lines: what
// happens, "----", and what the routers do, with the time since the script began.
// Comments stand before a block. The last lines of a block say where each router
// is, and when its timer is due. What may happen, where NAME: is left out in a
// script with one router:
//
//	router [name=NAME] priority=N [version=3] [vrid=1] [interval=1s] [primary=ADDR]
//	    [addresses=ADDR,...] [nopreempt] [delay=D] [start-active] [down=N]
//	    [lower-no-advert] [higher-advert] [owner-ignores] [skip-check]
//	    [check-addresses] [late-backup=N] [form=F] [member]
//	group NAME NAME...              the routers are a sync group
//	anew                            another story: no routers, time 0
//	run D                           time passes; timers come when they are due
//	pause D                         time passes, and the process stands still
//	[NAME:] start, stop, yield, repaired, timer, status
//	[NAME:] broken REASON           [NAME:] follow STATE
//	[NAME:] priority N              [NAME:] primary ADDR
//	[NAME:] reconfigure KEY=VALUE   as for router; what is left out stays
//	[NAME:] hear N from ADDR [interval=D] [addresses=ADDR,...] [form=F]
//	[NAME:] peer N from ADDR ...    from now on heard every interval
//	[NAME:] silence ADDR            no longer
func TestScripts(t *testing.T) {
	scripts.Run(t, *rewrite, func(t *testing.T, text string) string { return (&script{t: t}).run(text) })
}

// script is one run of a script.
type script struct {
	t       *testing.T
	now     time.Duration
	routers []*scripted
	group   *SyncGroup
	out     strings.Builder
}

// scripted is a router with those that it hears.
type scripted struct {
	name  string
	m     *Machine
	stats Stats
	peers []*scriptedPeer
}

type scriptedPeer struct {
	received Received
	next     time.Duration
}

// run returns the script with the output that it really has.
func (s *script) run(text string) string {
	var out strings.Builder
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		head, _, _ := strings.Cut(block+"\n", "\n----\n")
		head = strings.TrimRight(head, "\n")
		if out.Len() > 0 {
			out.WriteString("\n")
		}
		out.WriteString(head + "\n")
		s.out.Reset()
		done := false
		for line := range strings.Lines(head) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				s.do(line)
				done = true
			}
		}
		if done {
			out.WriteString("----\n" + s.out.String())
			for _, r := range s.routers {
				out.WriteString(s.prefix(r) + standing(r.m) + "\n")
			}
		}
	}
	return out.String()
}

// do runs one line.
func (s *script) do(line string) {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "router":
		s.addRouter(parseWords(s.t, rest))
		return
	case "group":
		var members []*Machine
		for name := range strings.FieldsSeq(rest) {
			members = append(members, s.find(name).m)
		}
		s.group = NewSyncGroup(members...)
		return
	case "anew":
		s.routers, s.group, s.now = nil, nil, 0
		return
	case "run":
		s.pass(s.now + parseWords(s.t, rest).time(""))
		return
	case "pause":
		s.now += parseWords(s.t, rest).time("")
		return
	}
	r := s.routers[0]
	if name, ok := strings.CutSuffix(verb, ":"); ok {
		r = s.find(name)
		verb, rest, _ = strings.Cut(rest, " ")
	}
	w := parseWords(s.t, rest)
	switch verb {
	case "peer":
		s.dropPeer(r, w)
		s.step(r, r.addPeer(w, s.now))
	case "silence":
		w.plain = append([]string{"", ""}, w.plain...)
		s.dropPeer(r, w)
	case "status":
		s.status(r)
	default:
		s.step(r, s.event(r, verb, rest))
	}
}

func (s *script) find(name string) *scripted {
	for _, r := range s.routers {
		if r.name == name {
			return r
		}
	}
	s.t.Fatalf("there is no router %q", name)
	return nil
}

func (s *script) addRouter(w words) {
	r := &scripted{name: w.named["name"], m: New(w.config(Config{Version: 3, VRID: 1, Interval: time.Second, Preempt: true,
		Addresses: addresses("10.0.0.100")}))}
	s.routers = append(s.routers, r)
	if p := w.named["primary"]; p != "" {
		s.step(r, Primary{netip.MustParseAddr(p)})
	}
}

// event reads one.
func (s *script) event(r *scripted, verb, rest string) Event {
	w := parseWords(s.t, rest)
	switch verb {
	case "start":
		return Startup{}
	case "stop":
		return Shutdown{}
	case "yield":
		return Yield{}
	case "repaired":
		return Repaired{}
	case "timer":
		return Timer{}
	case "broken":
		return Broken{rest}
	case "follow":
		for _, state := range []State{Initialize, Backup, Active, Fault} {
			if strings.EqualFold(state.String(), rest) {
				return Follow{state}
			}
		}
	case "priority":
		return Priority{uint8(w.number("", w.at(0)))}
	case "primary":
		return Primary{netip.MustParseAddr(rest)}
	case "reconfigure":
		return Reconfigure{w.config(r.m.Config())}
	case "hear":
		return w.received(r.m.Config())
	}
	s.t.Fatalf("what is %q?", verb)
	return nil
}

// step hands an event in and writes down what comes of it.
func (s *script) step(r *scripted, e Event) {
	before := r.m.State()
	if s.group == nil {
		actions := r.m.Step(e, s.now)
		r.stats.Step(before, e, actions)
		for _, a := range actions {
			fmt.Fprintf(&s.out, "%s %s%s\n", seconds(s.now), s.prefix(r), describe(a))
		}
		return
	}
	for i, other := range s.routers {
		if other != r {
			continue
		}
		for _, a := range s.group.Step(i, e, s.now) {
			fmt.Fprintf(&s.out, "%s %s%s\n", seconds(s.now), s.prefix(s.routers[a.Member]), describe(a.Action))
		}
	}
}

// pass lets time pass until a moment, with all that is due on the way, what was
// heard first.
func (s *script) pass(end time.Duration) {
	for {
		at, run := end, func() {}
		for _, r := range s.routers {
			for _, p := range r.peers {
				if p.next <= end && (p.next < at || at == end) {
					at, run = p.next, func() { p.next += p.received.Advertisement.Interval; s.step(r, p.received) }
				}
			}
			if due, ok := r.m.Due(); ok && due <= end && due < at {
				at, run = due, func() { s.step(r, Timer{}) }
			}
		}
		if at == end {
			if !s.lastOnes(end) {
				s.now = end
				return
			}
			continue
		}
		s.now = max(at, s.now)
		run()
	}
}

// lastOnes does what is due at the very end.
func (s *script) lastOnes(end time.Duration) bool {
	for _, r := range s.routers {
		for _, p := range r.peers {
			if p.next == end {
				s.now, p.next = end, p.next+p.received.Advertisement.Interval
				s.step(r, p.received)
				return true
			}
		}
		if due, ok := r.m.Due(); ok && due <= end {
			s.now = end
			s.step(r, Timer{})
			return true
		}
	}
	return false
}

func (r *scripted) addPeer(w words, now time.Duration) Event {
	p := &scriptedPeer{received: w.received(r.m.Config())}
	p.next = now + p.received.Advertisement.Interval
	r.peers = append(r.peers, p)
	return p.received
}

func (s *script) dropPeer(r *scripted, w words) {
	for i, p := range r.peers {
		if p.received.Source.String() == w.at(2) {
			r.peers = append(r.peers[:i:i], r.peers[i+1:]...)
			return
		}
	}
}

// prefix names a router if there are several.
func (s *script) prefix(r *scripted) string {
	if len(s.routers) == 1 {
		return ""
	}
	return r.name + ": "
}

func (s *script) status(r *scripted) {
	st := r.m.Status()
	fmt.Fprintf(&s.out, "priority %d, primary %v; Active is %v, priority %d, interval %v; skew %v, down %v; preempts from %s; ready %t; broken %q\n",
		st.Priority, st.Primary, st.Active, st.ActivePriority, st.ActiveInterval, st.Skew, st.ActiveDown, seconds(st.PreemptFrom), st.Ready, st.Broken)
	c := r.stats
	fmt.Fprintf(&s.out, "received %d, sent %d, became %d, released %d, stop received %d, sent %d, addr_list_err %d; form %v\n",
		c.Received, c.Sent, c.Became, c.Released, c.StopReceived, c.StopSent, c.Counter("addr_list_err"), r.m.Form(true))
}

// standing says where a machine is.
func standing(m *Machine) string {
	due, armed := m.Due()
	if !armed {
		return "= " + m.State().String()
	}
	return fmt.Sprintf("= %v, timer due at %s", m.State(), seconds(due))
}

func describe(a Action) string {
	switch a := a.(type) {
	case Send:
		return fmt.Sprintf("send priority %d", a.Priority)
	case Enter:
		return fmt.Sprintf("%v -> %v: %s", a.From, a.To, a.Why)
	case Announce:
		return "announce again"
	case Ready:
		return "ready"
	case Note:
		return fmt.Sprintf("note %s: %s", a.Kind, a.Text)
	}
	return fmt.Sprintf("%T", a)
}

// seconds is a duration in seconds, to the microsecond.
func seconds(d time.Duration) string {
	text := strconv.FormatFloat(d.Round(time.Microsecond).Seconds(), 'f', 6, 64)
	return strings.TrimRight(strings.TrimRight(text, "0"), ".") + "s"
}
