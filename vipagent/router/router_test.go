package router

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/vipagent/keepalived"
	"holdfast/vipagent/vrrp"
)

// TestTakeover: alone, an instance becomes Active after its down interval; in the end it
// says so and takes everything down.
func TestTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := one("V1", "eth0", 51, 100, "10.0.0.100/24", "10.0.0.101/32")
		c.Routes = []keepalived.Route{{Words: []string{"10.9.0.0/16", "via", "10.0.0.7"}}}
		c.Rules = []keepalived.Rule{{Words: []string{"from", "10.0.0.100", "lookup", "7"}}}
		c.Notify = keepalived.Notify{
			Active: &keepalived.Command{Args: []string{"on-master", "now"}}, Stop: &keepalived.Command{Args: []string{"on-stop"}},
			Any: &keepalived.Command{Args: []string{"on-any"}},
		}
		_, stop := w.start(configOf(c))
		mustEqual(t, "at the start", w.lines(), "remove rule from 10.0.0.100 lookup 7", "remove route 10.9.0.0/16 via 10.0.0.7", "run on-any INSTANCE V1 BACKUP 100")
		time.Sleep(3600 * time.Millisecond)
		mustEqual(t, "before its time", w.lines())
		time.Sleep(20 * time.Millisecond) // 3 s + 156/256 s
		got := w.lines()
		mustEqual(t, "when nobody was heard", got[:9], "send vrid 51 priority 100 to 224.0.0.18",
			"add 10.0.0.100/24 eth0", "add 10.0.0.101/32 eth0",
			"add route 10.9.0.0/16 via 10.0.0.7", "add rule from 10.0.0.100 lookup 7",
			"announce 10.0.0.100", "announce 10.0.0.101", "announce 10.0.0.100", "announce 10.0.0.101")
		if len(got) != 11 {
			t.Errorf("scripts: %q", got[9:])
		}
		time.Sleep(time.Second)
		mustEqual(t, "an interval later", w.lines(), "send vrid 51 priority 100 to 224.0.0.18")
		time.Sleep(4 * time.Second)
		if text := w.since(); strings.Count(text, "announce 10.0.0.100") != 2 {
			t.Errorf("after garp_master_delay:\n%s", text)
		}
		stop()
		got = w.lines()
		down := []string{"remove rule from 10.0.0.100 lookup 7", "remove route 10.9.0.0/16 via 10.0.0.7", "remove 10.0.0.100/24 eth0", "remove 10.0.0.101/32 eth0", "send vrid 51 priority 0 to 224.0.0.18"}
		mustEqual(t, "at the end", got[:len(down)], down...)
		if got := w.said(); got != "INSTANCE \"V1\" BACKUP 100\nINSTANCE \"V1\" MASTER 100\nINSTANCE \"V1\" STOP 100\n" {
			t.Errorf("FIFO:\n%s", got)
		}
		if len(w.sockets) != 0 {
			t.Error("a socket is open")
		}
	})
}

// TestYield: an advertisement of higher priority makes an Active router Backup.
func TestYield(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := one("V1", "eth0", 51, 100, "10.0.0.100/24")
		_, stop := w.start(configOf(c))
		defer stop()
		time.Sleep(4 * time.Second)
		w.since()
		w.hear("eth0", "10.0.0.2", advert(c, 150))
		mustEqual(t, "after a higher priority", w.lines(), "remove 10.0.0.100/24 eth0")
		for range 10 {
			time.Sleep(time.Second)
			w.hear("eth0", "10.0.0.2", advert(c, 150))
		}
		mustEqual(t, "while it is heard", w.lines())
		w.hear("eth0", "10.0.0.2", advert(c, 0))
		time.Sleep(700 * time.Millisecond)
		if text := w.since(); !strings.Contains(text, "add 10.0.0.100/24 eth0") {
			t.Errorf("after priority 0:\n%s", text)
		}
	})
}

// TestLateTimer: a host that was asleep listens before it takes over.
func TestLateTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := one("V1", "eth0", 51, 100, "10.0.0.100/24")
		_, stop := w.start(configOf(c))
		defer stop()
		w.hear("eth0", "10.0.0.2", advert(c, 150))
		synctest.Wait()
		w.change(func() { w.jump += time.Hour }) // the timer is overdue now
		time.Sleep(grace / 2)
		w.hear("eth0", "10.0.0.2", advert(c, 150))
		time.Sleep(time.Second)
		mustEqual(t, "after the sleep", w.lines())
	})
}

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		old := configOf(
			one("V1", "eth0", 51, 100, "10.0.0.100/24", "10.0.0.101/24"),
			one("V2", "eth0", 52, 100, "10.0.0.102/24", "10.0.0.103/24"),
			one("V3", "eth0", 53, 100, "10.0.0.104/24"),
		)
		r, stop := w.start(old)
		defer stop()
		time.Sleep(4 * time.Second)
		w.since()
		w.said()

		// V1 loses .101 to V2 and gets .105, V2 is renamed, V3 goes, V4 comes.
		v2 := one("web", "eth0", 52, 100, "10.0.0.102/24", "10.0.0.103/24", "10.0.0.101/24")
		r.Reload(configOf(one("V1", "eth0", 51, 110, "10.0.0.100/24", "10.0.0.105/24"), v2, one("V4", "eth1", 54, 100, "10.1.0.106/24")))
		got := strings.Join(w.lines(), "\n")
		for _, want := range []string{
			"remove 10.0.0.104/24 eth0", "send vrid 53 priority 0", "add 10.0.0.105/24 eth0", "announce 10.0.0.105",
			"send vrid 51 priority 110", "announce 10.0.0.101",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in:\n%s", want, got)
			}
		}
		for _, never := range []string{"remove 10.0.0.100/24", "remove 10.0.0.101/24", "remove 10.0.0.102/24", "remove 10.0.0.103/24", "add 10.0.0.100", "add 10.0.0.102", "vrid 51 priority 0", "vrid 52 priority 0"} {
			if strings.Contains(got, never) {
				t.Errorf("%q in:\n%s", never, got)
			}
		}
		if got := w.said(); got != "INSTANCE \"V3\" FAULT 100\nINSTANCE \"V4\" BACKUP 100\n" {
			t.Errorf("FIFO:\n%s", got)
		}
		time.Sleep(4 * time.Second)
		if got := w.said(); got != "INSTANCE \"V4\" MASTER 100\n" {
			t.Errorf("FIFO later:\n%s", got)
		}
		w.since()
		r.Reload(configOf(one("V1", "eth0", 51, 110, "10.0.0.100/24", "10.0.0.105/24"), v2, one("V4", "eth1", 54, 100, "10.1.0.106/24")))
		mustEqual(t, "after a reload of the same", w.lines())
	})
}

func TestSyncGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := one("A", "eth0", 51, 100, "10.0.0.100/24"), one("B", "eth1", 52, 100, "10.1.0.100/24")
		c := configOf(a, b)
		c.Groups = []keepalived.SyncGroup{{Name: "G", Members: []string{"A", "B"}}}
		_, stop := w.start(c)
		defer stop()
		for range 10 { // a peer is Active for B; A hears nobody
			w.hear("eth1", "10.1.0.2", advert(b, 150))
			time.Sleep(time.Second)
		}
		mustEqual(t, "while one hears an Active router", w.lines())
		time.Sleep(10 * time.Second)
		if text := w.since(); !strings.Contains(text, "add 10.0.0.100/24") || !strings.Contains(text, "add 10.1.0.100/24") {
			t.Errorf("when both hear nobody:\n%s", text)
		}
		w.change(func() { w.links["eth0"].Up = false })
		if text := w.since(); !strings.Contains(text, "remove 10.0.0.100/24") || !strings.Contains(text, "remove 10.1.0.100/24") {
			t.Errorf("when one interface is down:\n%s", text)
		}
		w.change(func() { w.links["eth0"].Up = true })
		time.Sleep(20 * time.Second)
		w.since()
		w.hear("eth1", "10.1.0.2", advert(b, 150))
		if text := w.since(); !strings.Contains(text, "remove 10.0.0.100/24") || !strings.Contains(text, "remove 10.1.0.100/24") {
			t.Errorf("when one must yield:\n%s", text)
		}
		want := `INSTANCE "A" BACKUP 100
INSTANCE "B" BACKUP 100
GROUP "G" BACKUP 0
INSTANCE "A" MASTER 100
INSTANCE "B" MASTER 100
GROUP "G" MASTER 0
INSTANCE "A" FAULT 100
INSTANCE "B" FAULT 100
GROUP "G" FAULT 0
`
		got := w.said()
		if !strings.HasPrefix(got, want) && !strings.HasPrefix(got, strings.Replace(want, "INSTANCE \"A\" MASTER 100\nINSTANCE \"B\" MASTER 100", "INSTANCE \"B\" MASTER 100\nINSTANCE \"A\" MASTER 100", 1)) {
			t.Errorf("FIFO:\n%s", got)
		}
	})
}

// TestWeights: scripts, a file, a process and an interface change the priority; a
// fault of one without a weight makes the instance fall.
func TestWeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		v := one("V1", "eth0", 51, 100, "10.0.0.100/24")
		v.Notify.Priorities = true
		v.Scripts = []keepalived.Track{{Name: "plus"}, {Name: "minus"}, {Name: "gone"}}
		v.Files = []keepalived.Track{{Name: "number", Weight: 2, Set: true}}
		v.Processes = []keepalived.Track{{Name: "daemon"}}
		v.Interfaces = []keepalived.Track{{Name: "eth1", Weight: -30, Set: true}}
		c := configOf(v)
		script := func(name string, weight, rise, fall int) keepalived.Script {
			return keepalived.Script{Name: name, Command: keepalived.Command{Args: []string{name}}, Interval: time.Second, Timeout: time.Second, Weight: weight, Rise: rise, Fall: fall}
		}
		missing := script("gone", 0, 1, 1)
		missing.Command.Args = []string{"missing"}
		c.Scripts = []keepalived.Script{script("plus", 10, 2, 2), script("minus", -20, 1, 1), missing}
		c.Files = []keepalived.TrackFile{{Name: "number", Path: "/n", Weight: 1}}
		c.Processes = []keepalived.TrackProcess{{Name: "daemon", Process: "d", Weight: 5, Quorum: 2, QuorumMax: 65535, EndDelay: 3 * time.Second}}
		w.scripts["plus"], w.scripts["minus"] = nil, nil
		r, stop := w.start(c)
		defer stop()
		priority := func(when string, want uint8) {
			t.Helper()
			synctest.Wait()
			got := make(chan uint8)
			r.post(func() { got <- r.current.instances[0].priority })
			if p := <-got; p != want {
				t.Errorf("%s: priority %d, want %d", when, p, want)
			}
		}
		bad := errors.New("exit status 1")
		time.Sleep(100 * time.Millisecond)
		priority("all scripts good", 110)
		w.change(func() { w.scripts["plus"] = bad })
		time.Sleep(time.Second)
		priority("one failure of two", 110)
		time.Sleep(time.Second)
		priority("two failures", 100)
		w.change(func() { w.scripts["plus"] = nil })
		time.Sleep(time.Second)
		priority("one success of two", 100)
		time.Sleep(time.Second)
		priority("two successes", 110)
		w.change(func() { w.scripts["minus"] = bad })
		time.Sleep(time.Second)
		priority("a negative weight", 90)
		w.change(func() { w.numbers["/n"] = 7 })
		time.Sleep(time.Second)
		priority("a number", 104)
		w.change(func() { w.counts["d"] = 2 })
		time.Sleep(time.Second)
		priority("enough processes", 109)
		w.change(func() { w.counts["d"] = 1 })
		time.Sleep(2 * time.Second)
		priority("too few, but not for long", 109)
		time.Sleep(2 * time.Second)
		priority("too few", 104)
		w.change(func() { w.links["eth1"].Up = false })
		priority("an interface", 74)
		w.change(func() { w.numbers["/n"] = 126 })
		time.Sleep(time.Second)
		priority("never more than 254", 254)
		w.change(func() { w.numbers["/n"] = -127 })
		time.Sleep(time.Second)
		if got := w.said(); !strings.HasSuffix(got, "INSTANCE \"V1\" MASTER_PRIORITY 254\nINSTANCE \"V1\" MASTER_PRIORITY 60\nINSTANCE \"V1\" FAULT 60\n") {
			t.Errorf("FIFO:\n%s", got)
		}
	})
}

// TestScriptFault: a script without a weight decides whether the instance may be at
// all; nothing begins before it has run once.
func TestScriptFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		v := one("V1", "eth0", 51, 100, "10.0.0.100/24")
		v.Scripts = []keepalived.Track{{Name: "check"}}
		c := configOf(v)
		c.Scripts = []keepalived.Script{{Name: "check", Command: keepalived.Command{Args: []string{"check"}}, Interval: time.Second, Timeout: 2 * time.Second, Rise: 1, Fall: 1}}
		w.scripts["check"] = errors.New("exit status 1")
		_, stop := w.start(c)
		defer stop()
		time.Sleep(10 * time.Second)
		if got := w.said(); got != "INSTANCE \"V1\" FAULT 100\n" {
			t.Errorf("at the start: %q", got)
		}
		w.change(func() { w.scripts["check"] = nil })
		time.Sleep(6 * time.Second)
		if got := w.said(); got != "INSTANCE \"V1\" BACKUP 100\nINSTANCE \"V1\" MASTER 100\n" {
			t.Errorf("when it is good: %q", got)
		}
		w.since()
		w.change(func() { w.scripts["check"] = errors.New("exit status 1") })
		time.Sleep(2 * time.Second)
		if text := w.since(); !strings.Contains(text, "priority 0") || !strings.Contains(text, "remove 10.0.0.100/24") {
			t.Errorf("when it fails:\n%s", text)
		}
	})
}

// TestPutBack: an address that somebody deletes comes back; one that is not tracked
// does not.
func TestPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		v := one("V1", "eth0", 51, 100, "10.0.0.100/24", "10.0.0.101/24")
		v.Addresses[1].NoTrack = true
		_, stop := w.start(configOf(v))
		defer stop()
		time.Sleep(3700 * time.Millisecond)
		w.since()
		l := w.links["eth0"]
		w.change(func() { l.Addresses = l.Addresses[:1] })
		mustEqual(t, "after the deletion", w.lines(), "add 10.0.0.100/24 eth0", "announce 10.0.0.100")
		w.change(func() { l.Addresses = l.Addresses[:1] })
		mustEqual(t, "after another at once", w.lines())
		time.Sleep(1100 * time.Millisecond)
		if text := w.since(); !strings.Contains(text, "add 10.0.0.100/24 eth0") || strings.Contains(text, ".101") {
			t.Errorf("a second later:\n%s", text)
		}
		if got := w.said(); got != "INSTANCE \"V1\" BACKUP 100\nINSTANCE \"V1\" MASTER 100\n" {
			t.Errorf("FIFO: %q", got)
		}
	})
}

// TestSource: without an address of its own a router is broken, and VIPs are none.
func TestSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		v := one("V1", "eth2", 51, 100, "10.2.0.100/24")
		_, stop := w.start(configOf(v))
		defer stop()
		time.Sleep(5 * time.Second)
		w.change(func() { w.link("eth2", "10.2.0.100/24", "fe80::3/64") })
		time.Sleep(5 * time.Second)
		if got := w.said(); got != "INSTANCE \"V1\" FAULT 100\n" {
			t.Errorf("without an address: %q", got)
		}
		w.change(func() { w.links["eth2"].Addresses = []netip.Prefix{netip.MustParsePrefix("10.2.0.1/24")} })
		time.Sleep(4 * time.Second)
		if got := w.said(); got != "INSTANCE \"V1\" BACKUP 100\nINSTANCE \"V1\" MASTER 100\n" {
			t.Errorf("with an address: %q", got)
		}
		w.since()
		w.change(func() { delete(w.links, "eth2") })
		if got := w.said(); got != "INSTANCE \"V1\" FAULT 100\n" {
			t.Errorf("without the interface: %q", got)
		}
	})
}

// TestSweep: what a former process left goes before anything begins.
func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.link("eth0", "10.0.0.1/24", "10.0.0.100/24", "10.0.0.7/32")
		w.left = []keepalived.Address{{Prefix: netip.MustParsePrefix("10.0.0.7/32"), Interface: "eth0"}}
		v := one("V1", "eth0", 51, 100, "10.0.0.100/24")
		v.Routes = []keepalived.Route{{Words: []string{"10.9.0.0/16", "via", "10.0.0.7"}}}
		_, stop := w.start(configOf(v))
		defer stop()
		mustEqual(t, "at the start", w.lines(), "remove 10.0.0.7/32 eth0", "remove route 10.9.0.0/16 via 10.0.0.7", "remove 10.0.0.100/24 eth0")
	})
}

// TestRetry: an address that cannot be added is tried again, and the others are up.
func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		bad := netip.MustParseAddr("10.0.0.100")
		w.broken[bad] = errors.New("no room")
		_, stop := w.start(configOf(one("V1", "eth0", 51, 100, "10.0.0.100/24", "10.0.0.101/24")))
		defer stop()
		time.Sleep(10 * time.Second)
		if text := w.since(); !strings.Contains(text, "add 10.0.0.101/24") || strings.Contains(text, "add 10.0.0.100/24") {
			t.Errorf("with an address that cannot be added:\n%s", text)
		}
		w.change(func() { delete(w.broken, bad) })
		time.Sleep(2 * time.Second)
		if text := w.since(); !strings.Contains(text, "add 10.0.0.100/24") || !strings.Contains(text, "announce 10.0.0.100") || strings.Contains(text, "add 10.0.0.101") {
			t.Errorf("when it can:\n%s", text)
		}
		if n := strings.Count(w.log.String(), "no room"); n != 1 {
			t.Errorf("the log says so %d times", n)
		}
	})
}

func TestUnicast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		v := one("V1", "eth0", 51, 100, "10.0.0.100/24")
		v.Version, v.Interval = 3, 100*time.Millisecond
		v.Peers = []keepalived.Peer{{Address: netip.MustParseAddr("10.0.0.2")}, {Address: netip.MustParseAddr("10.0.0.3")}}
		_, stop := w.start(configOf(v))
		defer stop()
		time.Sleep(365 * time.Millisecond)
		mustEqual(t, "first", w.lines()[:2], "send vrid 51 priority 100 to 10.0.0.2", "send vrid 51 priority 100 to 10.0.0.3")
	})
}

// TestOwner: priority 255 with state MASTER does not wait, and no weight counts.
func TestOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		v := one("V1", "eth0", 51, vrrp.PriorityOwner, "10.0.0.1/24")
		v.Active = true
		_, stop := w.start(configOf(v))
		defer stop()
		if got := w.said(); got != "INSTANCE \"V1\" MASTER 255\n" {
			t.Errorf("FIFO: %q", got)
		}
	})
}

func TestStartupDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := configOf(one("V1", "eth0", 51, 100, "10.0.0.100/24"))
		c.Global.StartupDelay = 10 * time.Second
		c.Global.StartupScript = &keepalived.Command{Args: []string{"hello"}}
		c.Global.ShutdownScript = &keepalived.Command{Args: []string{"goodbye"}}
		_, stop := w.start(c)
		time.Sleep(9 * time.Second)
		mustEqual(t, "before the delay is over", w.lines(), "run hello")
		time.Sleep(5 * time.Second)
		if got := w.said(); got != "INSTANCE \"V1\" BACKUP 100\nINSTANCE \"V1\" MASTER 100\n" {
			t.Errorf("FIFO: %q", got)
		}
		stop()
		if got := w.lines(); got[len(got)-1] != "run goodbye" {
			t.Errorf("the last is %q", got[len(got)-1])
		}
	})
}

func TestMail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		v := one("V1", "eth0", 51, 100, "10.0.0.100/24")
		v.Notify.Email = true
		c := configOf(v)
		c.Global.Email = keepalived.Email{To: []string{"ops@example.org"}, Server: "127.0.0.1:25"}
		_, stop := w.start(c)
		time.Sleep(4 * time.Second)
		stop()
		want := "ops@example.org: [host] VRRP Instance V1 - Entering BACKUP state|ops@example.org: [host] VRRP Instance V1 - Entering MASTER state|ops@example.org: [host] VRRP Instance V1 - Stopping"
		var subjects []string
		for _, m := range w.mails {
			subject, _, _ := strings.Cut(m, "\n")
			subjects = append(subjects, subject)
		}
		if got := strings.Join(subjects, "|"); got != want {
			t.Errorf("mails %s", got)
		}
	})
}
