package vipagent

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/tenure"
)

// editFile changes the session file between two agents.
func (w *world) editFile(f func(*tenure.File)) {
	w.t.Helper()
	path := filepath.Join(w.dir, sessionName)
	raw, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	var file tenure.File
	if err := json.Unmarshal(raw, &file); err != nil {
		w.t.Fatal(err)
	}
	f(&file)
	if raw, err = json.Marshal(&file); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func TestKilledAndRestartedWithinTTL(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		web := held("web", session1, 41, "10.0.0.5/24@7", "10.0.0.6/24@7")
		a.tell("a", 41, web)
		w.take()
		a.kill()
		time.Sleep(300 * time.Millisecond)
		b := w.start()
		w.expect() // no view yet: untouched
		w.expectUp("10.0.0.5 10.0.0.6")
		if s := b.Status(); s.Session != session1 || s.Restored != 0 {
			t.Errorf("status %+v", s)
		}
		b.tell("c", 40) // from before the grant
		b.tell("a", 41, web)
		time.Sleep(3 * time.Second)
		w.expect("report 101: [db +0 veto=false ] [web +0 veto=false ]")
		w.expectUp("10.0.0.5 10.0.0.6")
		b.end()
		w.expect("remove 10.0.0.5 10.0.0.6", "close 101")
	})
}

// Health checks have no result at the start. What was adopted stays up until
// they have one, but not for longer than their first results may take.
func TestAdoptedWhileChecksArePending(t *testing.T) {
	pending := map[string]Condition{"": {Veto: true, Pending: true, Reason: "nginx: no result yet"}}
	adopt := func(w *world) *agent {
		a := w.ready()
		web := held("web", session1, 41, "10.0.0.5/24@7")
		a.tell("a", 41, web)
		w.take()
		a.kill()
		time.Sleep(300 * time.Millisecond)
		b := w.start()
		b.SetConditions(pending)
		b.tell("a", 41, web)
		w.expect()
		w.expectUp("10.0.0.5")
		return b
	}
	t.Run("good", func(t *testing.T) {
		run(t, func(w *world) {
			b := adopt(w)
			b.SetConditions(map[string]Condition{"": {}})
			time.Sleep(3 * time.Second)
			w.take()
			w.expectUp("10.0.0.5")
			b.end()
		})
	})
	t.Run("bad", func(t *testing.T) {
		run(t, func(w *world) {
			b := adopt(w)
			b.SetConditions(map[string]Condition{"": {Veto: true, Reason: "nginx down"}})
			w.expectUp("")
			b.end()
		})
	})
	t.Run("never decided", func(t *testing.T) {
		run(t, func(w *world) {
			b := adopt(w)
			time.Sleep(pendingPatience - 10*time.Millisecond)
			w.expectUp("10.0.0.5")
			time.Sleep(20 * time.Millisecond)
			w.expectUp("")
			b.end()
		})
	})
}

func TestAdoptedWithoutCoordinatorsEndsAtItsDeadline(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
		w.take()
		deadline := a.Status().Deadline
		a.kill()
		w.set(func() { w.silent = map[string]bool{"a": true, "b": true, "c": true} })
		time.Sleep(300 * time.Millisecond)
		b := w.start()
		time.Sleep(deadline.Sub(w.now()) - guardFor(testTTL, 1) - time.Millisecond)
		w.expectUp("10.0.0.5")
		time.Sleep(time.Millisecond)
		w.expect("remove 10.0.0.5")
		b.end()
	})
}

func TestNotAdopted(t *testing.T) {
	for name, c := range map[string]struct {
		wait   time.Duration
		change func(*tenure.File)
		closes bool
	}{
		"rebooted":         {change: func(f *tenure.File) { f.BootID = "boot-0" }},
		"of another host":  {change: func(f *tenure.File) { f.Host = "other" }},
		"lapsed":           {wait: 1200 * time.Millisecond, closes: true},
		"no deadline":      {change: func(f *tenure.File) { f.Sessions[0].Deadline = 0 }, closes: true},
		"deadline too far": {change: func(f *tenure.File) { f.Sessions[0].Deadline += lease.Time(time.Hour) }, closes: true},
		"no session":       {change: func(f *tenure.File) { f.Sessions = nil }},
		"secret cut":       {change: func(f *tenure.File) { f.Sessions[0].Secret = f.Sessions[0].Secret[:31] }, closes: true},
		"rebinding, lapsed": {change: func(f *tenure.File) {
			f.Rebinding = true
			f.Sessions = append(f.Sessions, f.Sessions[0])
			f.Sessions[1].Deadline = 1
		}, closes: true},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(w *world) {
				a := w.ready()
				a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
				a.kill()
				w.take()
				time.Sleep(c.wait)
				if c.change != nil {
					w.editFile(c.change)
				}
				b := w.start()
				got := w.take()
				if len(got) == 0 || got[0] != "remove 10.0.0.5" {
					t.Errorf("done: %q, want the address swept first", got)
				}
				if closed := slices.Contains(got, "close 101"); closed != c.closes {
					t.Errorf("done: %q, closed %v, want %v", got, closed, c.closes)
				}
				b.end()
			})
		})
	}
}

// A session that is not adopted is not closed before what it left behind is down:
// closing it would free that for others.
func TestNothingIsClosedBeforeTheSweepWorked(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
		a.kill()
		w.take()
		time.Sleep(1200 * time.Millisecond) // it has lapsed
		w.set(func() { w.fail["remove"] = func() error { return errTest } })
		b := w.start()
		b.tellAll(42)
		time.Sleep(500 * time.Millisecond)
		w.expect()
		w.expectUp("10.0.0.5")
		w.set(func() { delete(w.fail, "remove") })
		time.Sleep(50 * time.Millisecond)
		if got := w.take(); len(got) < 2 || got[0] != "remove 10.0.0.5" || !slices.Contains(got, "close 101") {
			t.Errorf("done: %q", got)
		}
		b.end()
	})
}

func TestUnusableSessionFile(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "cut": `{"version":1,"host":"h"`, "other version": `{"version":2}`, "unknown key": `{"version":1,"x":1}`,
		"two values": `{"version":1}{}`, "no object": `7`, "bad address": `{"version":1,"address_floors":{"x":1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(w *world) {
				if err := os.WriteFile(filepath.Join(w.dir, sessionName), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				a := w.start()
				w.expect("open h")
				if !w.log.has("session file not usable") {
					t.Errorf("log: %q", w.log.lines)
				}
				a.end()
			})
		})
	}
}

// Killed between the floor and the release: nobody else will send it.
func TestReleaseThatWasNotSentIsSentAfterRestart(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		web := held("web", session1, 41, "10.0.0.5/24@7")
		a.tell("a", 41, web)
		w.block["release"] = make(chan struct{})
		a.SetConditions(map[string]Condition{"web": {Veto: true, Reason: "nginx down"}})
		w.take()
		a.kill()
		close(w.block["release"])
		b := w.start()
		b.tell("b", 45, held("web", session1, 41, "10.0.0.5/24@7"))
		got := w.take()
		if !slices.Contains(got, "release 101: web/41 because released before") || strings.Contains(strings.Join(got, " "), "add") {
			t.Errorf("done: %q", got)
		}
		w.expectUp("")
		b.end()
	})
}

func TestRestartWhileRebinding(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		web := held("web", session1, 141, "10.0.0.5/24@7")
		a.tell("a", 141, web)
		w.block["rebind"] = make(chan struct{})
		w.set(func() { w.marked[session1] = map[string]bool{"c": true} })
		time.Sleep(400 * time.Millisecond)
		w.take()
		a.kill()
		b := w.start()
		b.tellAll(160, web)
		time.Sleep(100 * time.Millisecond)
		w.expectUp("10.0.0.5")
		w.set(func() { w.mute[142] = true }) // the new session's deadline counts here too
		time.Sleep(testTTL)
		w.expectUp("")
		close(w.block["rebind"])
		b.end()
	})
}

func TestRoundsOfTwoProcessesDiffer(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.kill()
		var first map[lease.Round]lease.Time
		w.set(func() { first = maps.Clone(w.firstAt); clear(w.firstAt) })
		b := w.start()
		b.tellAll(1)
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		w.set(func() {
			if len(w.firstAt) == 0 {
				t.Error("not renewed")
			}
			for r := range w.firstAt {
				for old := range first {
					if r.Process <= old.Process {
						t.Errorf("round %+v after %+v", r, old)
					}
				}
			}
		})
		b.end()
	})
}

func TestNewTTLReplacesTheSession(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		web := held("web", session1, 41, "10.0.0.5/24@7")
		a.tell("a", 41, web)
		w.take()
		a.kill()
		b := w.start(func(c *Config) { c.TTL = 2 * testTTL })
		b.tellAll(42, web)
		time.Sleep(400 * time.Millisecond)
		got := strings.Join(w.take(), ", ")
		if !strings.Contains(got, "rebind 101 102") || strings.Contains(got, "remove") {
			t.Errorf("done: %s", got)
		}
		b.end()
	})
}

// Here the old session is not fenced, so that it is not dropped when it lapses.
func TestReplacingNeedsTheOldDeadlineToo(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		web := held("web", session1, 41, "10.0.0.5/24@7")
		a.tell("a", 41, web)
		a.kill()
		w.block["rebind"] = make(chan struct{})
		b := w.start(func(c *Config) { c.TTL = 2 * testTTL })
		b.tellAll(42, web)
		time.Sleep(400 * time.Millisecond)
		w.expectUp("10.0.0.5")
		w.set(func() { w.mute[session1] = true })
		time.Sleep(testTTL)
		w.expectUp("")
		w.set(func() { delete(w.secrets, session1) })
		b.tell("b", 150, held("web", 102, 41, "10.0.0.5/24@7")) // it was committed
		w.expectUp("10.0.0.5")
		close(w.block["rebind"])
		b.end()
	})
}

// Without the kernel's word nothing is known to be down, not even what was
// never seen up.
func TestNothingIsReleasedUnread(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		a.tell("a", 41)
		w.take()
		a.kill()
		w.set(func() { w.fail["addresses"] = func() error { return errTest } })
		b := w.start()
		b.tell("b", 45, recalled(held("web", session1, 44, "10.0.0.5/24@7"), "move"))
		time.Sleep(300 * time.Millisecond)
		for _, e := range w.take() {
			if strings.HasPrefix(e, "release") {
				t.Errorf("%s although the addresses cannot be read", e)
			}
		}
		w.set(func() { delete(w.fail, "addresses") })
		time.Sleep(50 * time.Millisecond)
		if got := w.take(); !slices.Contains(got, "release 101: web/44 because move") {
			t.Errorf("done: %q", got)
		}
		b.end()
	})
}

func TestLockIsNotFreedBeforeTheEnd(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		w.block["close"] = make(chan struct{})
		a.stop()
		time.Sleep(closeWithin / 2)
		if b, err := Open(w.config(), a.edges); err == nil {
			b.Close()
			t.Error("a second agent started while the first was still closing its session")
		}
		<-a.done
	})
}

func FuzzSessionFile(f *testing.F) {
	f.Add([]byte(`{"version":1,"host":"h","boot_id":"b","sessions":[{"id":1,"secret":"AAAA","ttl_ms":1,"deadline":1}],"index":1,"grants":[{"set":"s","session":1,"epoch":1,"addresses":[{"prefix":"10.0.0.1/24","claim":1}]}],"set_floors":{"a":1},"address_floors":{"10.0.0.1":1}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := tenure.DecodeFile(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(file)
		if err != nil {
			t.Fatalf("decoded but not encoded: %v", err)
		}
		if _, err := tenure.DecodeFile(again); err != nil {
			t.Fatalf("encoded but not decoded: %v", err)
		}
		for _, s := range file.Sessions {
			_, _ = s.Session()
		}
	})
}
