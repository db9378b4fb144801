package router

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/vipagent/keepalived"
)

// TestCallsBeforeRun: a signal may come before Run has got its turn.
func TestCallsBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := configOf(one("V1", "eth0", 51, 100, "10.0.0.100/24"))
		r := New(Config{
			Keepalived: c, Logger: slog.New(slog.NewTextHandler(&w.log, nil)), Clock: w, Links: w, Addresses: fakeAddresses{w},
			Routes: w, Sockets: w, Scripts: w, Surroundings: w,
		})
		r.Reload(c)
		r.Dump(DumpStats)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		if w.files["/tmp/keepalived.stats"] == "" {
			t.Error("no dump")
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestShutdownScriptAfterASlowOne: what takes too long at the end does not take the
// shutdown script its time.
func TestShutdownScriptAfterASlowOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.scripts["slow"] = context.DeadlineExceeded
		in := one("V1", "eth0", 51, 100, "10.0.0.100/24")
		in.Notify.Stop = &keepalived.Command{Args: []string{"slow"}}
		c := configOf(in)
		c.Global.ShutdownScript = &keepalived.Command{Args: []string{"bye"}}
		_, stop := w.start(c)
		w.since()
		stop()
		if text := w.since(); !strings.Contains(text, "run bye") {
			t.Errorf("no shutdown script:\n%s", text)
		}
	})
}

// TestReloadOfWhatIsShared: a new instance with an address, a route or a rule that an
// Active one has does not take it away.
func TestReloadOfWhatIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		v1 := one("V1", "eth0", 51, 100, "10.0.0.100/24")
		v1.Routes = []keepalived.Route{{Words: []string{"10.9.0.0/16", "via", "10.0.0.7"}}}
		v1.Rules = []keepalived.Rule{{Words: []string{"from", "10.0.0.100", "lookup", "7"}}}
		r, stop := w.start(configOf(v1))
		defer stop()
		time.Sleep(4 * time.Second)
		w.since()
		v2 := v1
		v2.Name, v2.VRID = "V2", 52
		r.Reload(configOf(v1, v2))
		if text := w.since(); strings.Contains(text, "remove") {
			t.Errorf("V1's are taken down:\n%s", text)
		}
	})
}

// TestStatesOnReload: fifo_write_vrrp_states_on_reload tells the states of groups and
// instances, but not of those that have just come.
func TestStatesOnReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := configOf(one("V1", "eth0", 51, 100, "10.0.0.100/24"))
		c.Groups = []keepalived.SyncGroup{{Name: "G", Members: []string{"V1"}}}
		r, stop := w.start(c)
		defer stop()
		time.Sleep(4 * time.Second)
		w.since()
		w.said()
		v3 := one("V3", "eth0", 53, 100, "10.0.0.103/24")
		next := configOf(c.Instances[0], v3)
		next.Groups = c.Groups
		next.Global.FIFOStatesOnReload = true
		r.Reload(next)
		w.since()
		if got, want := w.said(), "INSTANCE \"V3\" BACKUP 100\nGROUP \"G\" MASTER 0\nINSTANCE \"V1\" MASTER 100\n"; got != want {
			t.Errorf("FIFO:\n%swant:\n%s", got, want)
		}
	})
}

// TestInterfaceAnew: instances that shared a socket share one on the interface that
// took its interface's place.
func TestInterfaceAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, stop := w.start(configOf(one("V1", "eth0", 51, 100, "10.0.0.100/24"), one("V2", "eth0", 52, 100, "10.0.0.101/24"), one("V3", "eth0", 53, 100, "10.0.0.102/24")))
		defer stop()
		if len(w.sockets) != 1 {
			t.Fatalf("%d sockets", len(w.sockets))
		}
		w.change(func() { w.links["eth0"].Index = 77 })
		if len(w.sockets) != 1 {
			t.Errorf("%d sockets on the new interface", len(w.sockets))
		}
	})
}

// TestSecondBurst: an advertisement of lower priority does not take away the second
// announcement of a takeover.
func TestSecondBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := one("V1", "eth0", 51, 100, "10.0.0.100/24")
		c.GARP.Repeat, c.GARP.LowerDelay, c.GARP.LowerRepeat = 3, 0, 0
		_, stop := w.start(configOf(c))
		defer stop()
		time.Sleep(4 * time.Second)
		w.hear("eth0", "10.0.0.2", advert(c, 50))
		w.since()
		time.Sleep(5 * time.Second)
		if n := strings.Count(w.since(), "announce"); n != 3 {
			t.Errorf("%d announcements in the second burst", n)
		}
	})
}

// TestGARPInterval: it is the distance between any two, not between two rounds.
func TestGARPInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := one("V1", "eth0", 51, 100, "10.0.0.100/24", "10.0.0.101/24")
		c.GARP.Interval, c.GARP.Delay = 100*time.Millisecond, 0
		_, stop := w.start(configOf(c))
		defer stop()
		time.Sleep(4 * time.Second)
		var got []string
		for line := range strings.Lines(w.since()) {
			if strings.Contains(line, "announce") {
				got = append(got, strings.TrimSpace(line))
			}
		}
		mustEqual(t, "at takeover", got, "3.61 announce 10.0.0.100", "3.71 announce 10.0.0.101", "3.81 announce 10.0.0.100", "3.91 announce 10.0.0.101")
	})
}

// TestPromoteSecondaries: it is switched on where it is asked for, and set back.
func TestPromoteSecondaries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := one("V1", "eth0", 51, 100, "10.0.0.100/24")
		c.PromoteSecondary = true
		r, stop := w.start(configOf(c, one("V2", "eth1", 52, 100, "10.1.0.100/24")))
		promoted := func() (out []string) {
			for _, line := range w.lines() {
				if strings.HasPrefix(line, "promote") {
					out = append(out, line)
				}
			}
			return out
		}
		mustEqual(t, "at the start", promoted(), "promote eth0 true")
		w.change(func() { w.links["eth0"].Index = 77 })
		mustEqual(t, "on a new interface", promoted(), "promote eth0 true")
		c.PromoteSecondary = false
		r.Reload(configOf(c))
		mustEqual(t, "when it is not asked for any more", promoted(), "promote eth0 false")
		c.PromoteSecondary = true
		r.Reload(configOf(c))
		mustEqual(t, "asked for again", promoted(), "promote eth0 true")
		stop()
		mustEqual(t, "at the end", promoted(), "promote eth0 false")
	})
}

// TestRoutesComeBack: the kernel drops the routes of an interface that goes down or is
// made anew, without a word; when it is back they are, too. Those of all instances are
// added again: which interface a route uses is the kernel's decision.
func TestRoutesComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		in := one("V1", "eth0", 51, 100, "10.0.0.100/24")
		in.Routes = []keepalived.Route{{Words: []string{"10.9.0.0/16", "via", "10.1.0.7"}}}
		c := configOf(in)
		c.StaticRoutes = []keepalived.Route{{Words: []string{"10.8.0.0/16", "via", "10.1.0.8"}}}
		_, stop := w.start(c)
		defer stop()
		time.Sleep(4 * time.Second)
		w.since()
		want := []string{"add route 10.9.0.0/16 via 10.1.0.7", "add route 10.8.0.0/16 via 10.1.0.8"}
		routes := func() []string {
			return slices.DeleteFunc(w.lines(), func(s string) bool { return !strings.Contains(s, "route") })
		}
		w.change(func() { w.links["eth1"].Up = false })
		mustEqual(t, "while it is down", routes())
		w.change(func() { w.links["eth1"].Up = true })
		mustEqual(t, "when it is up again", routes(), want...)
		w.change(func() { w.links["eth1"].Index = 77 })
		mustEqual(t, "when it was made anew", routes(), want...)
		var gone *Link
		w.change(func() { gone = w.links["eth1"]; delete(w.links, "eth1") })
		mustEqual(t, "while it is gone", routes())
		w.change(func() { w.links["eth1"] = gone })
		mustEqual(t, "when it is there again", routes(), want...)
		w.change(func() {})
		mustEqual(t, "when nothing has happened", routes())
	})
}

// TestUntracked: what nothing depends on is not run.
func TestUntracked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		in := one("V1", "eth0", 51, 100, "10.0.0.100/24")
		in.Scripts = []keepalived.Track{{Name: "used"}}
		c := configOf(in)
		for _, name := range []string{"used", "unused"} {
			c.Scripts = append(c.Scripts, keepalived.Script{Name: name, Command: keepalived.Command{Args: []string{name}}, Interval: time.Second, Rise: 1, Fall: 1})
		}
		c.Processes = []keepalived.TrackProcess{{Name: "daemon", Process: "daemon", Quorum: 1}}
		_, stop := w.start(c)
		defer stop()
		time.Sleep(4 * time.Second)
		text := w.since()
		if !strings.Contains(text, "run used") || strings.Contains(text, "run unused") || strings.Contains(text, "count daemon") {
			t.Errorf("what was run:\n%s", text)
		}
	})
}

// TestPriorityChanges: an instance's own word counts, which the parser takes from the
// global one where the instance has none.
func TestPriorityChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.numbers["/n"] = 1
		quiet, loud := one("V1", "eth0", 51, 100, "10.0.0.100/24"), one("V2", "eth0", 52, 100, "10.0.0.101/24")
		loud.Notify.Priorities = true
		quiet.Files = []keepalived.Track{{Name: "f"}}
		loud.Files = quiet.Files
		c := configOf(quiet, loud)
		c.Global.NotifyPriorities = true
		c.Files = []keepalived.TrackFile{{Name: "f", Path: "/n", Weight: 5}}
		_, stop := w.start(c)
		defer stop()
		time.Sleep(time.Second)
		w.said()
		w.change(func() { w.numbers["/n"] = 2 })
		time.Sleep(time.Second)
		if got := w.said(); got != "INSTANCE \"V2\" BACKUP_PRIORITY 110\n" {
			t.Errorf("FIFO:\n%s", got)
		}
	})
}
