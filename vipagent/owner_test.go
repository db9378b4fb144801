package vipagent

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
	"holdfast/vipagent/tenure"
	"holdfast/vipagent/vip"
)

const session1 = 101 // the first session that a world opens

func TestOpensSweepsAndRenews(t *testing.T) {
	run(t, func(w *world) {
		// Left behind by a former run; the other address is somebody else's.
		mine := vip.Address{Prefix: netip.MustParsePrefix("10.0.0.9/32"), Interface: "eth0"}
		other := vip.Address{Prefix: netip.MustParsePrefix("10.0.0.1/24"), Interface: "eth0"}
		w.kernel[mine] = vip.Actual{Address: mine, Ours: true}
		w.kernel[other] = vip.Actual{Address: other}
		a := w.start()
		w.expect("remove 10.0.0.9", "open h")
		w.expectUp("10.0.0.1")
		if s := a.Status(); s.Deadline != 0 {
			t.Errorf("a lease without an answer: deadline %d", s.Deadline)
		}
		a.tell("a", 1)
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if s := a.Status(); s.Session != session1 || s.Deadline <= w.now() {
			t.Errorf("no lease although a majority answers: %+v", s)
		}
		if err := a.end(); err != nil {
			t.Error(err)
		}
		w.expect("close 101")
	})
}

func TestGrantIsRaisedAndAnnounced(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7", "10.0.0.6/24@7"))
		w.expect("add 10.0.0.5 10.0.0.6", "announce 10.0.0.5 10.0.0.6")
		w.expectUp("10.0.0.5 10.0.0.6")
		time.Sleep(1100 * time.Millisecond)
		w.expect("announce 10.0.0.5 10.0.0.6") // once more after a second
		time.Sleep(time.Minute)
		w.expect("announce 10.0.0.5 10.0.0.6") // the refresh period
		if s := a.Status(); len(s.Holds) != 1 || s.Holds[0] != (Holding{"web", session1, 41, 2}) {
			t.Errorf("status %+v", s)
		}
		if !w.log.has("msg=raised set=web epoch=41 addresses=2 took=0s") {
			t.Errorf("log: %q", w.log.lines)
		}
		a.end()
		w.expect("remove 10.0.0.5 10.0.0.6", "close 101")
		w.expectUp("")
	})
}

func TestGrantOfAnotherSessionIsNotRaised(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 41, held("web", 77, 41, "10.0.0.5/24@7"))
		w.expect()
		a.end()
	})
}

func TestNoLeaseNothingRaised(t *testing.T) {
	run(t, func(w *world) {
		w.silent = map[string]bool{"a": true, "b": true}
		a := w.start()
		a.tellAll(1)
		w.take()
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
		time.Sleep(300 * time.Millisecond)
		w.expect() // one coordinator of three is no majority
		w.set(func() { w.silent["b"] = false })
		time.Sleep(200 * time.Millisecond)
		w.expect("add 10.0.0.5", "announce 10.0.0.5")
		a.end()
	})
}

func TestRecallLowersThenReleases(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7", "10.0.0.6/24@44"))
		w.take()
		a.tell("a", 50, recalled(held("web", session1, 41, "10.0.0.5/24@7", "10.0.0.6/24@44"), "move to i"))
		w.expect("remove 10.0.0.5 10.0.0.6", "release 101: web/41 because move to i")
		var f tenure.File
		if err := json.Unmarshal([]byte(w.files["release"]), &f); err != nil {
			t.Fatal(err)
		}
		if f.SetFloors.Of("web") != 41 || f.AddressFloors.Of(netip.MustParseAddr("10.0.0.5")) != 41 || f.AddressFloors.Of(netip.MustParseAddr("10.0.0.6")) != 44 {
			t.Errorf("floors at the release: %v %v", f.SetFloors, f.AddressFloors)
		}
		if len(f.Grants) != 0 {
			t.Errorf("the session file still has %v at the release", f.Grants)
		}
		a.end()
	})
}

func TestSetsRecalledTogetherAreReleasedTogether(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		db, web := held("db", session1, 42, "10.0.0.7/24@8"), held("web", session1, 41, "10.0.0.5/24@7")
		a.tell("a", 42, db, web)
		w.take()
		a.tell("b", 50, recalled(db, "drain"), recalled(web, "drain"))
		w.expect("remove 10.0.0.5 10.0.0.7", "release 101: db/42 web/41 because drain")
		a.end()
	})
}

func TestReleasedGrantStaysDown(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		web := held("web", session1, 41, "10.0.0.5/24@7")
		a.tell("a", 41, web)
		a.tell("a", 50, recalled(web, "move"))
		w.take()
		a.tell("b", 45, held("web", session1, 41, "10.0.0.5/24@7")) // late
		a.tell("b", 51)
		w.expect()
		a.tell("c", 60, held("web", session1, 60, "10.0.0.5/24@7")) // a new grant
		w.expect("add 10.0.0.5", "announce 10.0.0.5")
		a.end()
	})
}

// An address joined the set just before the set was released, and the agent
// sees that only afterwards: the address itself has no floor.
func TestLateViewWithNewAddressStaysDown(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
		a.SetConditions(map[string]Condition{"web": {Veto: true, Reason: "nginx down"}})
		w.take()
		a.SetConditions(nil)
		synctest.Wait()
		w.take()
		a.tell("b", 44, held("web", session1, 41, "10.0.0.5/24@7", "10.0.0.8/24@44"))
		w.expect()
		a.end()
	})
}

func TestDeadlineLowersWhileCallsHang(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		db, web := held("db", session1, 42, "10.0.0.7/24@8"), held("web", session1, 41, "10.0.0.5/24@7")
		a.tell("a", 42, db, web)
		for _, name := range []string{"release", "report", "open", "close"} {
			w.block[name] = make(chan struct{})
		}
		a.tell("a", 50, recalled(db, "move"), web)
		w.take()
		w.expectUp("10.0.0.5")
		w.set(func() { w.silent = map[string]bool{"a": true, "b": true} })
		time.Sleep(latency)
		synctest.Wait()
		left := a.Status().Deadline.Sub(w.now())
		guard := guardFor(testTTL, 1)
		time.Sleep(left - guard - time.Millisecond)
		w.expectUp("10.0.0.5")
		time.Sleep(time.Millisecond)
		w.expectUp("")
		if w.now() >= a.Status().Deadline {
			t.Error("lowered after the deadline")
		}
		w.expect("remove 10.0.0.5")
		if !w.log.has("session lapsed") || a.Status().Lapses != 1 {
			t.Errorf("lapse not told: %+v", a.Status())
		}
		for _, c := range w.block {
			close(c)
		}
		a.end()
	})
}

func TestLapsedSessionGoesOn(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
		w.set(func() { w.silent = map[string]bool{"a": true, "b": true} })
		time.Sleep(3 * time.Second)
		w.expect("add 10.0.0.5", "announce 10.0.0.5", "remove 10.0.0.5")
		// Nobody has fenced it, so the grant is still good.
		w.set(func() { w.silent = map[string]bool{} })
		time.Sleep(200 * time.Millisecond)
		if w.up() != "10.0.0.5" || a.Status().Session != session1 {
			t.Errorf("up %q under session %d", w.up(), a.Status().Session)
		}
		a.end()
	})
}

// After a lapse indexes may have gone back: the cluster was rebuilt from a copy.
func TestLapsedSessionTakesOlderViews(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 500)
		w.set(func() { w.silent = map[string]bool{"a": true, "b": true} })
		time.Sleep(2 * time.Second)
		w.set(func() { w.silent = map[string]bool{} })
		a.tell("b", 400, held("web", session1, 390, "10.0.0.5/24@7"))
		time.Sleep(200 * time.Millisecond)
		w.expectUp("10.0.0.5")
		a.end()
	})
}

// A coordinator that the others have left behind may be the last to send a view while
// there is no lease. Nobody sends the newer one again, as nothing has changed: so they
// are asked.
func TestOlderViewsAreAskedAbout(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
		w.set(func() { w.silent = map[string]bool{"a": true, "b": true} })
		time.Sleep(2 * time.Second)
		a.tell("c", 40)
		w.set(func() { w.silent = map[string]bool{} })
		time.Sleep(time.Second)
		asked := slices.Contains(w.take(), "redial c") // not for its silence: it was never heard
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
		time.Sleep(200 * time.Millisecond)
		if !asked || w.up() != "10.0.0.5" {
			t.Errorf("up %q, asked %v", w.up(), asked)
		}
		// And with a lease an older one is not taken.
		a.tell("c", 40)
		time.Sleep(200 * time.Millisecond)
		w.expectUp("10.0.0.5")
		a.end()
	})
}

func TestEndedSessionIsReplaced(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 141, held("web", session1, 141, "10.0.0.5/24@7"))
		time.Sleep(retryOpen)
		w.take()
		w.set(func() { delete(w.secrets, session1) })
		a.tell("b", 99) // from before the session was opened: proves nothing
		w.expect()
		a.tell("b", 150)
		w.expect("remove 10.0.0.5", "open h")
		time.Sleep(50 * time.Millisecond)
		a.tell("b", 160, held("web", 151, 160, "10.0.0.5/24@7"))
		w.expect("add 10.0.0.5", "announce 10.0.0.5")
		a.end()
	})
}

func TestFencedSessionIsRebound(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 141, held("web", session1, 141, "10.0.0.5/24@7"))
		w.take()
		w.block["rebind"] = make(chan struct{})
		w.set(func() { w.marked[session1] = map[string]bool{"c": true} })
		time.Sleep(400 * time.Millisecond)
		w.expect("open h", "rebind 101 142")
		var f tenure.File
		if err := json.Unmarshal([]byte(w.files["rebind"]), &f); err != nil {
			t.Fatal(err)
		}
		if !f.Rebinding || len(f.Sessions) != 2 || f.Sessions[0].Deadline == 0 || f.Sessions[1].Deadline == 0 {
			t.Errorf("session file at the rebind: %+v", f)
		}
		close(w.block["rebind"])
		w.expectUp("10.0.0.5")
		w.set(func() { delete(w.secrets, session1) })
		a.tell("b", 170, held("web", 142, 141, "10.0.0.5/24@7"))
		time.Sleep(2 * time.Second)
		// The second announcement of the takeover; it was never taken down.
		w.expect("report 142: [db +0 veto=false ] [web +0 veto=false ]", "announce 10.0.0.5")
		if s := a.Status(); s.Session != 142 || len(s.Holds) != 1 || s.Holds[0].Session != 142 {
			t.Errorf("status %+v", s)
		}
		a.end()
	})
}

// From before Rebind is sent until it is seen committed, either session may
// hold the grant, so either deadline ends it.
func TestRebindingNeedsBothDeadlines(t *testing.T) {
	for name, lost := range map[string]uint64{"new session unanswered": 142, "old session unanswered": session1} {
		t.Run(name, func(t *testing.T) {
			run(t, func(w *world) {
				a := w.ready()
				a.tell("a", 141, held("web", session1, 141, "10.0.0.5/24@7"))
				w.block["rebind"] = make(chan struct{})
				w.set(func() { w.marked[session1] = map[string]bool{"c": true} })
				time.Sleep(400 * time.Millisecond)
				w.take()
				w.set(func() { w.mute[lost] = true })
				time.Sleep(testTTL)
				w.expectUp("")
				if got := strings.Join(w.take(), " "); !strings.HasPrefix(got, "announce 10.0.0.5 remove 10.0.0.5") && !strings.Contains(got, "remove 10.0.0.5") {
					t.Errorf("done: %s", got)
				}
				close(w.block["rebind"])
				a.end()
			})
		})
	}
}

func TestFencedAndLapsedSessionIsDropped(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 141, held("web", session1, 141, "10.0.0.5/24@7"))
		w.take()
		w.set(func() { w.marked[session1] = map[string]bool{"a": true, "b": true}; w.fails["open"] = errTest })
		time.Sleep(1500 * time.Millisecond)
		w.set(func() { delete(w.fails, "open") })
		time.Sleep(200 * time.Millisecond)
		var seen []string
		for _, e := range w.take() {
			if strings.HasPrefix(e, "remove") || strings.HasPrefix(e, "close") || strings.HasPrefix(e, "rebind") {
				seen = append(seen, e)
			}
		}
		if got := strings.Join(seen, ", "); got != "remove 10.0.0.5, close 101" {
			t.Errorf("done: %s; a lapsed session is closed and never rebound", got)
		}
		if strings.Contains(w.files["close"], `"id":101`) {
			t.Error("the session file still had the session when its close was sent")
		}
		if a.Status().Session != 142 {
			t.Errorf("status %+v", a.Status())
		}
		a.end()
	})
}

func TestNoReleaseWithoutReadBack(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		web := held("web", session1, 41, "10.0.0.5/24@7")
		a.tell("a", 41, web)
		w.take()
		removed := false
		w.set(func() {
			w.after["remove"] = func() { removed = true }
			w.fail["addresses"] = func() error {
				if removed {
					return errTest // it is gone, but who can tell
				}
				return nil
			}
		})
		a.tell("a", 50, recalled(web, "move"))
		time.Sleep(300 * time.Millisecond)
		for _, e := range w.take() {
			if strings.HasPrefix(e, "release") {
				t.Error("released although reading back failed")
			}
		}
		w.set(func() { delete(w.fail, "addresses") })
		time.Sleep(50 * time.Millisecond)
		w.expect("release 101: web/41 because move")
		a.end()
	})
}

func TestNoReleaseWhileRemovalFails(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		web := held("web", session1, 41, "10.0.0.5/24@7")
		a.tell("a", 41, web)
		w.take()
		w.set(func() { w.fail["remove"] = func() error { return errTest } })
		a.tell("a", 50, recalled(web, "move"))
		time.Sleep(300 * time.Millisecond)
		w.expect()
		w.set(func() { delete(w.fail, "remove") })
		time.Sleep(50 * time.Millisecond)
		w.expect("remove 10.0.0.5", "release 101: web/41 because move")
		a.end()
	})
}

func TestAddressesAreLoweredEvenIfTheyCannotBeRead(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
		w.set(func() {
			w.fail["addresses"] = func() error { return errTest }
			w.silent = map[string]bool{"a": true, "b": true}
		})
		time.Sleep(testTTL)
		w.expectUp("")
		w.set(func() { delete(w.fail, "addresses") })
		a.end()
	})
}

func TestNoReleaseWithoutSessionFile(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		web := held("web", session1, 41, "10.0.0.5/24@7")
		a.tell("a", 41, web)
		w.take()
		blocked := filepath.Join(w.dir, sessionName+".new")
		if err := os.MkdirAll(filepath.Join(blocked, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
		a.tell("a", 50, recalled(web, "move"))
		time.Sleep(100 * time.Millisecond)
		w.expect("remove 10.0.0.5")
		if err := os.RemoveAll(blocked); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		w.expect("release 101: web/41 because move")
		a.end()
	})
}

func TestFailedReleaseIsRepeated(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		web := held("web", session1, 41, "10.0.0.5/24@7")
		a.tell("a", 41, web)
		w.take()
		w.set(func() { w.fails["release"] = errTest })
		a.tell("a", 50, recalled(web, "move"))
		time.Sleep(60 * time.Millisecond)
		w.expect("remove 10.0.0.5", "release 101: web/41 because move", "release 101: web/41 because move")
		w.set(func() { w.fails["release"] = refusal{} })
		time.Sleep(time.Second)
		w.expect("release 101: web/41 because move") // final
		a.end()
	})
}

func TestVetoLowersAndReleasesInOneRequest(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		web := held("web", session1, 41, "10.0.0.5/24@7")
		a.tell("a", 41, web)
		w.take()
		a.SetConditions(map[string]Condition{"web": {Veto: true, Reason: "nginx down"}})
		w.expect("remove 10.0.0.5", "release 101: web/41 [web +0 veto=true nginx down] because nginx down")
		a.tell("a", 50)
		a.SetConditions(map[string]Condition{})
		w.expect("report 101: [web +0 veto=false ]")
		a.end()
	})
}

func TestWeightsAreReportedOnce(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.SetConditions(map[string]Condition{"": {Weight: -20, Reason: "slow disk"}, "web": {Weight: -15, Reason: "slow disk"}})
		w.expect("report 101: [db -20 veto=false slow disk] [web -15 veto=false slow disk]")
		time.Sleep(time.Minute)
		w.expect()
		a.SetConditions(map[string]Condition{"": {Weight: -20, Reason: "slower disk"}, "web": {Weight: 5, Pending: true}})
		w.expect("report 101: [db -20 veto=false slower disk]")
		a.end()
	})
}

func TestConditionsAreReportedBeforeTheFirstRenewal(t *testing.T) {
	run(t, func(w *world) {
		w.set(func() { w.fails["open"] = errTest })
		a := w.start()
		a.tellAll(1)
		a.SetConditions(map[string]Condition{"web": {Veto: true, Reason: "nginx down"}})
		w.take()
		w.set(func() { delete(w.fails, "open"); w.block["report"] = make(chan struct{}) })
		time.Sleep(150 * time.Millisecond)
		w.expect("open h", "report 101: [web +0 veto=true nginx down]")
		if len(w.renewals["a"]) != 0 {
			t.Error("renewed before the condition was reported")
		}
		close(w.block["report"])
		time.Sleep(50 * time.Millisecond)
		w.expect()
		if len(w.renewals["a"]) == 0 {
			t.Error("not renewed")
		}
		a.end()
	})
}

func TestSessionWaitsForFirstChecks(t *testing.T) {
	run(t, func(w *world) {
		w.set(func() { w.block["open"] = make(chan struct{}); close(w.block["open"]) })
		w.set(func() { w.fail["addresses"] = func() error { return errTest } })
		a := w.start()
		a.SetConditions(map[string]Condition{"web": {Pending: true}})
		w.set(func() { delete(w.fail, "addresses") })
		time.Sleep(pendingPatience - 100*time.Millisecond)
		w.expect()
		time.Sleep(200 * time.Millisecond)
		w.expect("open h")
		a.end()
	})
}

func TestRetiringAddress(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 141, held("web", session1, 141, "10.0.0.5/24@7", "10.0.0.6/24@7"))
		w.take()
		a.show(&pb.View{Coordinator: "a", Index: 150, Held: []*pb.Held{held("web", session1, 141, "10.0.0.5/24@7")},
			Retiring: []*pb.Retiring{{Address: "10.0.0.6", Claim: 7, Session: session1, Set: "web"}}})
		w.expect("remove 10.0.0.6", "confirm 101: 10.0.0.6@7")
		if !strings.Contains(w.files["confirm"], `"10.0.0.6":150`) {
			t.Errorf("floor at the confirmation: %s", w.files["confirm"])
		}
		// It comes back into the same grant with a new claim.
		a.tell("a", 160, held("web", session1, 141, "10.0.0.5/24@7", "10.0.0.6/24@160"))
		w.expect("add 10.0.0.6", "announce 10.0.0.6")
		a.end()
	})
}

// A set was deleted before its grant was ever seen here. After a restart a late
// view may still show the grant.
func TestRetiringAddressOfUnseenGrantStaysDown(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.show(&pb.View{Coordinator: "a", Index: 150,
			Retiring: []*pb.Retiring{{Address: "10.0.0.6", Claim: 7, Session: session1, Set: "web"}}})
		w.expect("confirm 101: 10.0.0.6@7")
		a.kill()
		var f tenure.File
		raw, _ := os.ReadFile(filepath.Join(w.dir, sessionName))
		if err := json.Unmarshal(raw, &f); err != nil {
			t.Fatal(err)
		}
		f.Index = 0
		raw, _ = json.Marshal(f)
		if err := os.WriteFile(filepath.Join(w.dir, sessionName), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		b := w.start()
		b.tell("b", 145, held("web", session1, 141, "10.0.0.6/24@7"))
		time.Sleep(50 * time.Millisecond)
		w.expectUp("")
		b.end()
	})
}

func TestMissingInterface(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24%eth9@7"))
		w.expect("release 101: web/41 [web +0 veto=true interface eth9 is missing] because interface eth9 is missing")
		a.tell("a", 50)
		w.take()
		w.set(func() { w.links["eth9"] = true })
		a.LinkUp("eth9")
		w.expect("report 101: [web +0 veto=false ]")
		a.tell("a", 60, held("web", session1, 60, "10.0.0.5/24%eth9@7"))
		w.expect("add 10.0.0.5", "announce 10.0.0.5")
		// And it goes away while the set is held.
		w.set(func() { delete(w.links, "eth9"); clear(w.kernel) })
		a.AddressesChanged()
		w.expect("release 101: web/60 [web +0 veto=true interface eth9 is missing] because interface eth9 is missing")
		a.end()
	})
}

func TestInterfaceNotAllowedOrNotFound(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready(func(c *Config) { c.Interfaces = []string{"eth1"} })
		a.tell("a", 41, held("db", session1, 41, "10.9.9.9/24@7"), held("web", session1, 41, "10.0.0.5/24@7"))
		got := strings.Join(w.take(), "\n")
		if !strings.Contains(got, "[db +0 veto=true no interface has an address in a subnet that holds 10.9.9.9: give") ||
			!strings.Contains(got, "[web +0 veto=true interface eth0 must not carry VIPs on this host]") {
			t.Errorf("done: %s", got)
		}
		a.end()
	})
}

func TestRemovedByOthersIsRestored(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
		time.Sleep(5 * time.Second)
		w.take()
		w.set(func() { clear(w.kernel) })
		a.AddressesChanged()
		w.expect("add 10.0.0.5", "announce 10.0.0.5") // at once
		w.set(func() { clear(w.kernel) })
		time.Sleep(200 * time.Millisecond) // nobody tells, but the next refresh fails
		w.expectUp("10.0.0.5")
		if n := a.Status().Restored; n != 2 {
			t.Errorf("restored %d, want 2", n)
		}
		a.end()
	})
}

func TestJanitorIsRefreshedWhileTheLeaseLasts(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
		w.take()
		time.Sleep(testTTL)
		n := 0
		for _, e := range w.take() {
			if e == "refresh 10.0.0.5" {
				n++
			}
		}
		if n < 5 || n > 7 {
			t.Errorf("%d refreshes in a TTL, want one for each renewal", n)
		}
		w.set(func() { w.silent = map[string]bool{"a": true, "b": true} })
		time.Sleep(testTTL + 100*time.Millisecond)
		w.take()
		time.Sleep(5 * time.Second)
		if got := w.take(); len(got) != 0 {
			t.Errorf("done without a lease: %q", got)
		}
		a.end()
	})
}

func TestAnnouncements(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7", "10.1.0.6/24%eth1@7"))
		time.Sleep(5 * time.Second)
		w.take()
		a.LinkUp("eth1")
		w.expect("announce 10.1.0.6")
		time.Sleep(2 * time.Second)
		a.Healed()
		w.expect("announce 10.0.0.5 10.1.0.6")
		time.Sleep(2 * time.Second)
		for range 20 { // a host that keeps claiming it
			a.Claimed(netip.MustParseAddr("10.0.0.5"), "aa:bb:cc:dd:ee:ff")
			a.Claimed(netip.MustParseAddr("10.0.0.99"), "aa:bb:cc:dd:ee:ff") // not ours
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		w.expect("announce 10.0.0.5", "announce 10.0.0.5", "announce 10.0.0.5")
		w.set(func() { w.silent["c"] = true })
		time.Sleep(3 * time.Second)
		w.expect()
		w.set(func() { w.silent["c"] = false })
		time.Sleep(200 * time.Millisecond)
		w.expect("redial c", "announce 10.0.0.5 10.1.0.6")
		a.end()
	})
}

func TestPausedBetweenCheckAndAdd(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		w.set(func() {
			w.fail["add"] = func() error {
				w.set(func() { w.skew += 2 * time.Second }) // the host was suspended
				return nil
			}
		})
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
		got := w.take()
		if len(got) < 2 || got[0] != "add 10.0.0.5" || got[1] != "remove 10.0.0.5" {
			t.Errorf("done: %q; want the address taken down at once, before it is announced", got)
		}
		w.set(func() { delete(w.fail, "add") })
		a.end()
	})
}

func TestPauseIsLoggedAndLowers(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
		w.take()
		w.set(func() { w.skew += 3 * time.Second; w.silent = map[string]bool{"a": true, "b": true, "c": true} })
		time.Sleep(200 * time.Millisecond) // the next round
		w.expectUp("")
		if !w.log.has("this process stood still") {
			t.Errorf("log: %q", w.log.lines)
		}
		a.end()
	})
}

func TestBlockedLogHoldsNothingUp(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
		hold := make(chan struct{})
		w.log.mu.Lock()
		w.log.hold = hold
		w.log.mu.Unlock()
		for i := range 2000 {
			a.SetConditions(map[string]Condition{"web": {Weight: i}})
			if i%2 == 0 {
				w.set(func() { w.fails["report"] = errTest })
			}
			time.Sleep(60 * time.Millisecond)
		}
		w.set(func() { w.silent = map[string]bool{"a": true, "b": true} })
		time.Sleep(testTTL)
		w.expectUp("")
		if a.Status().Dropped == 0 {
			t.Error("no line dropped, so the log never blocked")
		}
		w.log.mu.Lock()
		w.log.hold = nil
		w.log.mu.Unlock()
		close(hold)
		a.end()
	})
}

func TestStopWithAddressThatStays(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
		w.take()
		w.set(func() { w.fail["remove"] = func() error { return errTest } })
		if err := a.end(); !errors.Is(err, ErrStillUp) {
			t.Errorf("error %v, want ErrStillUp", err)
		}
		for _, e := range w.take() {
			if strings.HasPrefix(e, "close") {
				t.Error("closed the session although an address is up")
			}
		}
	})
}

func TestStopIsBounded(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
		w.take()
		w.block["close"] = make(chan struct{})
		began := time.Now()
		if err := a.end(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > closeWithin+100*time.Millisecond {
			t.Errorf("stopping took %v", took)
		}
		w.expect("remove 10.0.0.5", "close 101")
		if w.files["close"] != "" {
			t.Error("the session file was there when the close was sent")
		}
	})
}

func TestSecondAgentIsRefused(t *testing.T) {
	run(t, func(w *world) {
		a := w.start()
		_, err := Open(w.config(), a.edges)
		if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "pid") {
			t.Errorf("error %v, want ErrLocked with the pid", err)
		}
		a.end()
		b := w.start() // freed at the end
		b.end()
	})
}

func TestRoundsAreStampedBeforeTheyLeave(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		for range 20 {
			time.Sleep(testTTL / 6)
			synctest.Wait()
			w.set(func() {
				newest := lease.Time(0)
				for _, at := range w.firstAt {
					newest = max(newest, at)
				}
				if d := a.Status().Deadline; d > newest.Add(testTTL) {
					t.Errorf("deadline %d is later than the newest send time %d and the ttl", d, newest)
				}
			})
		}
		a.end()
	})
}

func TestEachCoordinatorIsToldItsOwnConfiguration(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		w.set(func() { w.configs["b"] = 9; clear(w.renewals) })
		a.tell("b", 20)
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		w.set(func() {
			for name, index := range map[string]uint64{"a": 3, "b": 9, "c": 3} {
				rs := w.renewals[name]
				if len(rs) == 0 || rs[len(rs)-1].Configuration != index {
					t.Errorf("renewals to %s: %+v, want configuration %d", name, rs, index)
				}
			}
		})
		a.end()
	})
}

func TestUnreadableViewIsIgnored(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
		w.take()
		a.tell("a", 50, held("web", session1, 41, "10.0.0.999/24@7"))
		w.expect()
		a.tell("b", 50, held("web", session1, 41, "10.0.0.5/24@7"))
		w.expectUp("10.0.0.5")
		a.end()
	})
}

func TestInterfacesThatCannotBeRead(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		w.set(func() { w.fail["interfaces"] = func() error { return errTest } })
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
		time.Sleep(100 * time.Millisecond)
		w.expect() // neither raised nor given up
		w.set(func() { delete(w.fail, "interfaces") })
		time.Sleep(50 * time.Millisecond)
		w.expect("add 10.0.0.5", "announce 10.0.0.5")
		a.end()
	})
}

func TestSetThatCannotBeRaisedIsGivenUp(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		w.set(func() { w.fail["add"] = func() error { return errTest } })
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
		time.Sleep(addPatience - 50*time.Millisecond)
		w.expect() // tried, not announced, not given up yet
		time.Sleep(100 * time.Millisecond)
		if got := strings.Join(w.take(), "\n"); !strings.Contains(got, "release 101: web/41 [web +0 veto=true 10.0.0.5/24 on eth0 cannot be added: planted]") {
			t.Errorf("done: %s", got)
		}
		a.tell("a", 50)
		w.set(func() { delete(w.fail, "add") })
		time.Sleep(obstacleFirst + time.Second)
		w.expect("report 101: [web +0 veto=false ]")
		a.end()
	})
}

// More than one kernel call can take, so that the deadline is looked at in between.
func TestManyAddresses(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		var many []string
		for i := range 300 {
			many = append(many, netip.AddrFrom4([4]byte{10, 0, 0, byte(i % 250)}).String()+"/24%eth0@7")
			if i >= 250 {
				many[i] = netip.AddrFrom4([4]byte{10, 0, 1, byte(i % 250)}).String() + "/24%eth0@7"
			}
		}
		pieces := 0
		w.set(func() {
			w.after["add"] = func() {
				if pieces++; pieces == 3 {
					w.set(func() { w.skew += 2 * time.Second })
				}
			}
			w.silent = map[string]bool{"a": true, "b": true}
		})
		a.tell("a", 41, held("web", session1, 41, many...))
		time.Sleep(100 * time.Millisecond)
		w.expectUp("")
		if pieces != 3 {
			t.Errorf("%d pieces were added, although the time was over after 3", pieces)
		}
		w.set(func() { w.after = make(map[string]func()); w.silent = map[string]bool{} })
		time.Sleep(200 * time.Millisecond)
		if n := len(strings.Fields(w.up())); n != 300 {
			t.Errorf("%d up", n)
		}
		a.end()
		w.expectUp("")
	})
}

func TestNothingIsOpenedBeforeTheSweep(t *testing.T) {
	run(t, func(w *world) {
		w.fail["addresses"] = func() error { return errTest }
		a := w.start()
		a.tellAll(1)
		time.Sleep(3 * time.Second)
		w.expect()
		w.set(func() { delete(w.fail, "addresses") })
		time.Sleep(50 * time.Millisecond)
		w.expect("open h")
		a.end()
	})
}

func TestNoConfirmationWhileRemovalFails(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 141, held("web", session1, 141, "10.0.0.5/24@7", "10.0.0.6/24@7"))
		w.take()
		w.set(func() { w.fail["remove"] = func() error { return errTest } })
		a.show(&pb.View{Coordinator: "a", Index: 150, Held: []*pb.Held{held("web", session1, 141, "10.0.0.5/24@7")},
			Retiring: []*pb.Retiring{{Address: "10.0.0.6", Claim: 7, Session: session1, Set: "web"}}})
		time.Sleep(500 * time.Millisecond)
		w.expect()
		w.set(func() { delete(w.fail, "remove") })
		time.Sleep(50 * time.Millisecond)
		w.expect("remove 10.0.0.6", "confirm 101: 10.0.0.6@7")
		a.end()
	})
}

// An agent that is heard and hears no majority must not go on renewing: nobody
// could take over from it.
func TestDeafAgentBeginsNoRounds(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		w.set(func() { w.silent = map[string]bool{"b": true, "c": true}; clear(w.renewals) })
		time.Sleep(2 * time.Second)
		rounds := make(map[lease.Round]int)
		w.set(func() {
			for _, r := range w.renewals["b"] {
				rounds[r.Round]++
			}
		})
		if len(rounds) != 1 {
			t.Errorf("rounds begun, and how often sent: %v", rounds)
		}
		w.set(func() { w.silent = nil })
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if s := a.Status(); s.Deadline.Sub(w.now()) < testTTL/2 {
			t.Errorf("not renewed after the answers came again: %+v at %v", s, w.now())
		}
		a.end()
	})
}

// A follower answers only when it has applied the session's opening.
func TestNewSessionIsRenewedQuickly(t *testing.T) {
	run(t, func(w *world) {
		w.silent = map[string]bool{"b": true, "c": true}
		a := w.start()
		a.tellAll(1)
		time.Sleep(30 * time.Millisecond)
		w.set(func() { w.silent = map[string]bool{} })
		time.Sleep(25 * time.Millisecond)
		synctest.Wait()
		if s := a.Status(); s.Deadline <= w.now() {
			t.Errorf("no lease 25 ms after a majority began to answer: %+v", s)
		}
		w.set(func() { w.silent = map[string]bool{"a": true, "b": true, "c": true}; clear(w.renewals) })
		time.Sleep(3 * time.Second)
		w.set(func() {
			if n := len(w.renewals["a"]); n < 27 || n > 33 {
				t.Errorf("%d renewals in three TTLs, want 18 in the first one and 6 in each of the others", n)
			}
		})
		a.end()
	})
}

// swallowed is what the kernel's side says of frames that do not get out.
type swallowed struct{}

func (swallowed) Error() string   { return "dropped" }
func (swallowed) Swallowed() bool { return true }

// A host whose packets do not get out holds an address for nobody: it tries again
// quickly, and then lets another host have it.
func TestDumbHostGivesUp(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		dumb := true
		w.set(func() {
			w.fail["announce"] = func() error {
				if dumb {
					return swallowed{}
				}
				return nil
			}
		})
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
		w.expect("add 10.0.0.5")
		time.Sleep(time.Second)
		dumb = false
		time.Sleep(150 * time.Millisecond)
		w.expect("announce 10.0.0.5") // a short while is no reason
		dumb = true
		a.AddressesChanged()
		a.LinkUp("eth0")
		time.Sleep(3200 * time.Millisecond)
		events := strings.Join(w.take(), "\n")
		if !strings.Contains(events, "remove 10.0.0.5") || !strings.Contains(events, "release 101: web/41") || !strings.Contains(events, "packets do not leave this host") {
			t.Errorf("done:\n%s", events)
		}
		a.end()
	})
}
