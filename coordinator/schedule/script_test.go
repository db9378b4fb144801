package schedule

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/fsm"
)

var rewrite = flag.Bool("rewrite", false, "write the outputs of testdata/*.txt anew; review the difference")

// TestScripts runs testdata/*.txt: blocks of commands, a line "----", and what
// they must print. A block ends at an empty line. Lines that start with # are
// comments. The commands:
//
//	set NAME HOST=PRIORITY... [preempt] [delay=D] [group=G] [spread=L] [anti=L]
//	delete NAME         pause [NAME]          resume [NAME]
//	open HOST...        another session of each host; the newest is "HOST"
//	silent HOST...      its sessions stop renewing
//	stale HOST...       all its sessions but the newest stop renewing for ever
//	live HOST...        they renew again, but for the stale ones
//	expire HOST...      its sessions end, as after fencing
//	drain HOST [CAUSE]  undrain HOST
//	check HOST SET weight=N|veto|fine [REASON]
//	move SET [HOST]     an operator prefers a host
//	wait D              time passes
//	decide              prints the decision and leaves the state alone
//	step                decides, prints and applies
//	release SET         the holder gives a set back
//	settle              step and release, until nothing happens any more
//	show                prints who holds what
//	explain SET
//
// and of broker groups those of masters_test.go.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 5 {
		t.Fatalf("scripts: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runScript(t, file) })
	}
}

func runScript(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	var out []string
	for block := range strings.SplitSeq(strings.TrimRight(string(data), "\n"), "\n\n") {
		input, want, _ := strings.Cut(block+"\n", "----\n")
		var got strings.Builder
		for line := range strings.Lines(input) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if err := w.do(&got, strings.Fields(line)); err != nil {
				t.Fatalf("%s: %q: %v", file, line, err)
			}
		}
		if got.String() != want && !*rewrite {
			t.Errorf("%s:\n%s---- got\n%s---- want\n%s", file, input, got.String(), want)
		}
		if got.Len() > 0 {
			input += "----\n" + got.String()
		}
		out = append(out, strings.TrimRight(input, "\n"))
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(strings.Join(out, "\n\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// world is a cluster without Raft, network and clock.
type world struct {
	state   *fsm.State
	tracker *Tracker
	silent  map[string]bool
	stale   map[fsm.SessionID]bool
	now     time.Duration
	nextIP  int
	reports map[string]Replica // by "GROUP BROKER"
}

func newWorld() *world {
	return &world{state: fsm.New(), tracker: NewTracker(), silent: make(map[string]bool), stale: make(map[fsm.SessionID]bool),
		reports: make(map[string]Replica)}
}

func (w *world) input() Input {
	replica := func(group, broker string) Replica { return w.reports[group+" "+broker] }
	return Input{State: w.state, Now: w.now, Seen: w.tracker, Replica: replica, Live: func(id fsm.SessionID) bool {
		s, ok := w.state.Session(id)
		return ok && !w.silent[s.Host] && !w.stale[id]
	}}
}

func (w *world) apply(ops ...fsm.Op) error {
	if len(ops) == 0 {
		return nil
	}
	res, err := w.state.ApplyEntry(w.state.Applied()+1, fsm.Entry{Version: fsm.EntryVersion, Ops: ops})
	return errors.Join(err, res.Err())
}

func (w *world) do(out *strings.Builder, words []string) error {
	cmd, args := words[0], words[1:]
	switch cmd {
	case "set":
		return w.set(args)
	case "delete":
		return w.apply(fsm.DeleteSet{Set: args[0]})
	case "pause", "resume":
		return w.apply(fsm.PauseSet{Set: strings.Join(args, ""), Paused: cmd == "pause"})
	case "open", "silent", "stale", "live", "expire":
		return w.sessions(cmd, args)
	case "drain", "undrain":
		return w.apply(fsm.DrainHost{Host: args[0], Drained: cmd == "drain", Cause: strings.Join(args[1:], " ")})
	case "check":
		return w.check(args)
	case "move":
		return w.apply(fsm.PreferHost{Set: args[0], Host: strings.Join(args[1:], "")})
	case "wait":
		d, err := time.ParseDuration(args[0])
		w.now += d
		return err
	case "decide":
		w.print(out, Decide(w.input()))
		return nil
	case "step":
		d := Decide(w.input())
		w.print(out, d)
		return w.apply(d.Ops()...)
	case "release":
		return w.release(args[0])
	case "settle":
		return w.settle(out)
	case "show":
		w.show(out)
		return nil
	case "explain":
		return w.explain(out, args[0])
	}
	return w.doGroup(out, cmd, args)
}

func (w *world) set(args []string) error {
	set := fsm.Set{Name: args[0]}
	for _, arg := range args[1:] {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "preempt":
			set.Preempt = true
		case "delay":
			d, err := time.ParseDuration(value)
			if err != nil {
				return err
			}
			set.PreemptDelay = d
		case "group":
			set.SyncGroup = value
		case "spread":
			set.Spread = value
		case "anti":
			set.AntiAffinity = value
		default:
			n, err := strconv.Atoi(value)
			if err != nil {
				return err
			}
			set.Candidates = append(set.Candidates, fsm.Candidate{Host: key, Priority: n})
		}
	}
	if old, ok := w.state.Set(set.Name); ok {
		set.Addresses = old.Addresses
	} else {
		w.nextIP++
		set.Addresses = []fsm.Address{{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(w.nextIP)}), 24)}}
	}
	return w.apply(fsm.PutSet{Set: set})
}

func (w *world) sessions(cmd string, hosts []string) error {
	for _, h := range hosts {
		switch cmd {
		case "open":
			if err := w.apply(fsm.OpenSession{Host: h, TTL: time.Second, Secret: [32]byte{1}}); err != nil {
				return err
			}
			delete(w.silent, h)
		case "silent":
			w.silent[h] = true
		case "stale":
			all := w.state.SessionsOf(h)
			for _, s := range all[:len(all)-1] {
				w.stale[s.ID] = true
			}
		case "live":
			delete(w.silent, h)
		case "expire":
			for _, s := range append(w.state.SessionsOf(h), w.brokers(h)...) {
				if err := w.apply(fsm.CloseSession{Session: s.ID}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (w *world) check(args []string) error {
	sessions := w.state.SessionsOf(args[0])
	if len(sessions) == 0 {
		return fmt.Errorf("%s has no session", args[0])
	}
	c := fsm.Condition{Reason: strings.Join(args[3:], " ")}
	switch verdict, value, _ := strings.Cut(args[2], "="); verdict {
	case "veto":
		c.Veto = true
	case "weight":
		n, err := strconv.Atoi(value)
		if err != nil {
			return err
		}
		c.Weight = n
	case "fine":
	default:
		return fmt.Errorf("unknown verdict %q", verdict)
	}
	return w.apply(fsm.SetCondition{Session: sessions[len(sessions)-1].ID, Set: args[1], Condition: c})
}

func (w *world) release(set string) error {
	g, held := w.state.Grant(set)
	if !held {
		return fmt.Errorf("%s is free", set)
	}
	return w.apply(fsm.Release{Set: set, Session: g.Session, Epoch: g.Epoch})
}

// settle plays scheduler and agents until nothing happens any more.
func (w *world) settle(out *strings.Builder) error {
	for range 50 {
		d := Decide(w.input())
		if len(d.Grants)+len(d.Recalls) > 0 {
			w.print(out, d)
		}
		if err := w.apply(d.Ops()...); err != nil {
			return err
		}
		released := false
		for _, g := range w.state.Grants() {
			if g.Recall != nil && !w.silent[g.Host] && !w.stale[g.Session] {
				fmt.Fprintf(out, "%s releases %s\n", g.Host, g.Set)
				released = true
				if err := w.release(g.Set); err != nil {
					return err
				}
			}
		}
		if len(d.Grants)+len(d.Recalls) == 0 && !released {
			if d.Again > 0 {
				fmt.Fprintf(out, "look again in %v\n", d.Again)
			}
			w.show(out)
			return nil
		}
	}
	return fmt.Errorf("does not come to rest:\n%s", out)
}

func (w *world) print(out *strings.Builder, d Decision) {
	for _, g := range d.Grants {
		fmt.Fprintf(out, "grant %s to %s (session %d): %s\n", g.Set, g.Host, g.Session, g.Reason)
	}
	for _, r := range d.Recalls {
		to := r.To
		if to == "" {
			to = "nobody"
		}
		fmt.Fprintf(out, "recall %s (epoch %d) from %s for %s: %s\n", r.Set, r.Epoch, r.From, to, r.Reason)
	}
	for _, m := range d.Masters {
		unclean := ""
		if m.Unclean {
			unclean = ", unclean"
		}
		fmt.Fprintf(out, "make %s (session %d) master of %s%s: %s\n", m.Broker, m.Session, m.Group, unclean, m.Reason)
	}
	if d.Again > 0 {
		fmt.Fprintf(out, "look again in %v\n", d.Again)
	}
	if len(d.Grants)+len(d.Recalls)+len(d.Masters) == 0 && d.Again == 0 {
		fmt.Fprintln(out, "nothing to do")
	}
}

func (w *world) show(out *strings.Builder) {
	var parts []string
	for _, s := range w.state.Sets() {
		holder := "free"
		if g, held := w.state.Grant(s.Name); held {
			holder = "at " + g.Host
			if g.Recall != nil {
				holder += " (recalled)"
			}
		}
		parts = append(parts, s.Name+" "+holder)
	}
	fmt.Fprintln(out, strings.Join(parts, ", "))
}

func (w *world) explain(out *strings.Builder, set string) error {
	e, err := Explain(w.input(), set)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %s\n", e.Set, e.Decision)
	for _, c := range e.Candidates {
		mark := "no "
		if c.Eligible {
			mark = "yes"
		}
		if c.Holder {
			mark += " holder"
		}
		fmt.Fprintf(out, "  %s %d->%d %s: %s\n", c.Host, c.Priority, c.Effective, mark, strings.Join(c.Reasons, "; "))
	}
	for _, l := range e.IfHostDies {
		next := l.Next
		if next == "" {
			next = "nobody"
		}
		fmt.Fprintf(out, "  if %s dies: %s: %s\n", l.Host, next, l.Reason)
	}
	return nil
}
