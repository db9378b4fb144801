package vipagent

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/vip"
)

// worldFence is the host's fence; like the kernel it outlives agents. What it
// holds is guarded by the world's lock.
type worldFence struct {
	guarded   map[netip.Addr]vip.Pass // Session 0 = shut
	deadlines map[uint64]lease.Time   // of sessions with a slot
	fails     map[string]error        // by call
	shut      int                     // calls of Guard that shut what was open
	report    func(session uint64) lease.FenceReport
}

// fenceOf is the fence as one agent reaches it.
type fenceOf struct {
	*worldFence
	agent *agent
}

func (w *world) fenced() *worldFence {
	w.fence = &worldFence{
		guarded: make(map[netip.Addr]vip.Pass), deadlines: make(map[uint64]lease.Time), fails: make(map[string]error),
	}
	return w.fence
}

// do changes the fence, unless the agent is dead or the call is to fail.
func (f *fenceOf) do(name string, about []netip.Addr, change func()) error {
	if f.agent.isDead() {
		return nil
	}
	f.agent.w.mu.Lock()
	if err := f.fails[name]; err != nil {
		f.agent.w.mu.Unlock()
		return err
	}
	change()
	f.agent.w.mu.Unlock()
	if len(about) > 0 {
		var words []string
		for _, a := range about {
			words = append(words, a.String())
		}
		f.agent.w.note("%s %s", name, strings.Join(words, " "))
		f.agent.hookAfter(name)
	}
	return nil
}

func (f *fenceOf) Guard(list []netip.Addr) error {
	return f.do("guard", list, func() {
		for _, a := range list {
			if f.guarded[a].Session != 0 {
				f.shut++
			}
			f.guarded[a] = vip.Pass{}
		}
	})
}

func (f *fenceOf) Open(passes []vip.Pass) error {
	var list []netip.Addr
	for _, p := range passes {
		list = append(list, p.Address)
	}
	return f.do("pass", list, func() {
		for _, p := range passes {
			if _, ok := f.guarded[p.Address]; !ok {
				f.agent.w.t.Errorf("%s is opened and not guarded", p.Address)
			}
			f.guarded[p.Address] = p
		}
	})
}

func (f *fenceOf) Forget(list []netip.Addr) error {
	return f.do("forget", list, func() {
		for _, a := range list {
			delete(f.guarded, a)
			for x := range f.agent.w.kernel {
				if x.IP() == a {
					f.agent.w.t.Errorf("%s is forgotten and up", a)
				}
			}
		}
	})
}

func (f *fenceOf) Guarded() ([]netip.Addr, error) {
	f.agent.w.mu.Lock()
	defer f.agent.w.mu.Unlock()
	return slices.SortedFunc(maps.Keys(f.guarded), netip.Addr.Compare), nil
}

func (f *fenceOf) Check() error { return f.do("check", nil, func() {}) }

func (f *fenceOf) Slot(session uint64) (func(lease.Time), error) {
	err := f.do("slot", nil, func() {
		if _, ok := f.deadlines[session]; !ok {
			f.deadlines[session] = 0
		}
	})
	return func(t lease.Time) {
		if f.agent.isDead() {
			return
		}
		f.agent.w.mu.Lock()
		defer f.agent.w.mu.Unlock()
		if _, ok := f.deadlines[session]; ok {
			f.deadlines[session] = t
		}
		if s := f.agent.Status(); s.Session == session && s.Deadline >= t {
			f.agent.w.t.Errorf("the kernel gets the deadline %d after the owner has it", t)
		}
	}, err
}

func (f *fenceOf) Keep(sessions []uint64) error {
	return f.do("keep", nil, func() {
		maps.DeleteFunc(f.deadlines, func(id uint64, _ lease.Time) bool { return !slices.Contains(sessions, id) })
	})
}

func (f *fenceOf) Deadline(session uint64) lease.Time {
	f.agent.w.mu.Lock()
	defer f.agent.w.mu.Unlock()
	return f.deadlines[session]
}

// answers says whether the host would answer for the address now.
func (w *world) answers(address string) bool {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	ip := netip.MustParseAddr(address)
	up := slices.ContainsFunc(slices.Collect(maps.Keys(w.kernel)), func(a vip.Address) bool { return a.IP() == ip })
	p, guarded := w.fence.guarded[ip]
	if !up || !guarded {
		return up
	}
	open := func(session uint64) bool { return w.fence.deadlines[session] > w.nowLocked() }
	return p.Session != 0 && open(p.Session) && (p.Also == 0 || open(p.Also))
}

// Raising and lowering go in one order, with the fence outside.
func TestFenceOrder(t *testing.T) {
	run(t, func(w *world) {
		w.fenced()
		a := w.ready()
		a.tell("a", 141, held("web", session1, 141, "10.0.0.5/24@7"))
		w.expect("guard 10.0.0.5", "add 10.0.0.5", "pass 10.0.0.5", "announce 10.0.0.5")
		if !w.answers("10.0.0.5") {
			t.Error("the host does not answer")
		}
		a.tell("a", 142, recalled(held("web", session1, 141, "10.0.0.5/24@7"), "moved"))
		w.expect("guard 10.0.0.5", "remove 10.0.0.5", "forget 10.0.0.5", "release 101: web/141 because moved")
		a.end()
	})
}

// A pause after any step of raising opens nothing once the lease has run out.
func TestFencePausedWhileRaising(t *testing.T) {
	for _, step := range []string{"guard", "add", "pass"} {
		t.Run(step, func(t *testing.T) {
			run(t, func(w *world) {
				w.fenced()
				a := w.ready()
				answered := false
				w.set(func() {
					w.silent = map[string]bool{"a": true, "b": true, "c": true}
					w.after[step] = func() {
						w.set(func() { w.skew += 2 * testTTL; delete(w.after, step) })
						ip := netip.MustParseAddr("10.0.0.5")
						w.set(func() {
							p := w.fence.guarded[ip]
							answered = p.Session != 0 && w.fence.deadlines[p.Session] > w.nowLocked()
						})
					}
				})
				a.tell("a", 141, held("web", session1, 141, "10.0.0.5/24@7"))
				if answered || w.answers("10.0.0.5") {
					t.Error("the host answers without a lease")
				}
				time.Sleep(100 * time.Millisecond)
				w.expectUp("")
				for _, e := range w.take() {
					if strings.HasPrefix(e, "announce") {
						t.Error("announced without a lease")
					}
				}
				a.end()
			})
		})
	}
}

// A killed agent's successor takes the fence over as it is: the host answers all
// the time, and the kernel's deadline is not moved back.
func TestFenceIsAdopted(t *testing.T) {
	run(t, func(w *world) {
		f := w.fenced()
		a := w.ready()
		a.tell("a", 141, held("web", session1, 141, "10.0.0.5/24@7"))
		time.Sleep(2 * testTTL)
		w.set(func() { f.guarded[netip.MustParseAddr("10.0.0.9")] = vip.Pass{} }) // left by somebody before
		before := f.deadlines[session1]
		a.kill()
		if !w.answers("10.0.0.5") {
			t.Error("the host does not answer without an agent")
		}
		time.Sleep(50 * time.Millisecond)
		w.take()
		b := w.start()
		w.set(func() {
			if f.deadlines[session1] < before {
				t.Error("the deadline moved back")
			}
		})
		if !w.answers("10.0.0.5") || f.shut > 0 {
			t.Error("the fence was shut for a moment")
		}
		b.tellAll(141, held("web", session1, 141, "10.0.0.5/24@7"))
		time.Sleep(testTTL)
		if !w.answers("10.0.0.5") || f.shut > 0 {
			t.Error("the host does not answer any more")
		}
		if got := w.take(); !slices.Contains(got, "forget 10.0.0.9") {
			t.Errorf("done: %v; an address that is gone needs no guard", got)
		}
		b.end()
	})
}

// Agent rule 7 in the kernel: from before Rebind is sent both deadlines count,
// and when it is seen committed the new one alone, with nothing lost in between.
func TestFenceFollowsRebind(t *testing.T) {
	run(t, func(w *world) {
		f := w.fenced()
		a := w.ready()
		a.tell("a", 141, held("web", session1, 141, "10.0.0.5/24@7"))
		w.block["rebind"] = make(chan struct{})
		w.set(func() { w.marked[session1] = map[string]bool{"c": true} })
		time.Sleep(400 * time.Millisecond)
		ip := netip.MustParseAddr("10.0.0.5")
		var order []string
		for _, e := range w.take() {
			if strings.HasPrefix(e, "pass") || strings.HasPrefix(e, "rebind") {
				order = append(order, e)
			}
		}
		if got := strings.Join(order, ", "); got != "pass 10.0.0.5, pass 10.0.0.5, rebind 101 142" {
			t.Errorf("done: %s", got)
		}
		w.set(func() {
			if p := f.guarded[ip]; p.Session != session1 || p.Also != 142 {
				t.Errorf("while rebinding: %+v", p)
			}
		})
		close(w.block["rebind"])
		w.set(func() { delete(w.secrets, session1) })
		a.tell("b", 170, held("web", 142, 141, "10.0.0.5/24@7"))
		if !w.answers("10.0.0.5") || f.shut > 0 {
			t.Error("the host does not answer")
		}
		w.set(func() {
			if p := f.guarded[ip]; p.Session != 142 || p.Also != 0 {
				t.Errorf("after it: %+v", p)
			}
			if _, ok := f.deadlines[session1]; ok {
				t.Error("the old session still has a deadline")
			}
		})
		a.end()
	})
}

// Closing a session zeroes its deadline before it is sent (agent rule 5).
func TestFenceIsShutBeforeClose(t *testing.T) {
	run(t, func(w *world) {
		f := w.fenced()
		a := w.ready()
		a.tell("a", 141, held("web", session1, 141, "10.0.0.5/24@7"))
		w.block["close"] = make(chan struct{})
		ended := make(chan error)
		go func() { ended <- a.end() }()
		synctest.Wait()
		w.set(func() {
			if len(f.deadlines) > 0 || len(f.guarded) > 0 {
				t.Errorf("when the close is sent: %v, %v", f.deadlines, f.guarded)
			}
		})
		close(w.block["close"])
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// What cannot be fenced is not held, and the quorum is told why.
func TestFenceThatFails(t *testing.T) {
	for name, plant := range map[string]func(*world){
		"self-check":   func(w *world) { w.fence.fails["open"] = errTest },
		"no slot":      func(w *world) { w.fence.fails["slot"] = errTest },
		"out of order": func(w *world) { w.fence.fails["check"] = errTest },
		"no guard":     func(w *world) { w.fence.fails["guard"] = errTest },
		"not opened":   func(w *world) { w.fence.fails["pass"] = errTest },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(w *world) {
				w.fenced()
				plant(w)
				a := w.start()
				a.tellAll(1)
				time.Sleep(4 * time.Second)
				w.take()
				a.tell("a", 141, held("web", session1, 141, "10.0.0.5/24@7"))
				for range 60 {
					time.Sleep(50 * time.Millisecond)
					if w.answers("10.0.0.5") {
						t.Fatal("the host answers")
					}
				}
				got := strings.Join(w.take(), "\n")
				if strings.Contains(got, "announce") || !strings.Contains(got, "release 101: web/141 [web +0 veto=true") {
					t.Errorf("done:\n%s", got)
				}
				w.set(func() { clear(w.fence.fails) })
				a.end()
			})
		})
	}
}

// A fence that is in order again may be held behind again.
func TestFenceIsPutRight(t *testing.T) {
	run(t, func(w *world) {
		f := w.fenced()
		a := w.ready()
		w.set(func() { f.fails["check"] = errTest })
		time.Sleep((checksFailing + 1) * time.Second)
		w.set(func() { delete(f.fails, "check") })
		time.Sleep(2 * time.Second)
		w.take()
		a.tell("a", 141, held("web", session1, 141, "10.0.0.5/24@7"))
		if !w.answers("10.0.0.5") {
			t.Errorf("not held: %v", w.take())
		}
		a.end()
	})
}

// Two processes never have one fence: it is opened under the lock, and let go of
// before the lock is.
func TestFenceIsOpenedUnderTheLock(t *testing.T) {
	run(t, func(w *world) {
		w.fenced()
		a := w.ready()
		opened := false
		e := Edges{Clock: a, Datagrams: a, Shield: func() (Shield, error) { opened = true; return Shield{}, nil }}
		if _, err := Open(w.config(), e); !errors.Is(err, ErrLocked) || opened {
			t.Errorf("a second agent: %v, the fence was opened: %t", err, opened)
		}
		a.end()
		if got := w.take(); !slices.Contains(got, "fence closed") {
			t.Errorf("done: %v", got)
		}
	})
}

// An adopted address that could not be guarded at first is guarded later.
func TestFenceGuardsLater(t *testing.T) {
	run(t, func(w *world) {
		f := w.fenced()
		a := w.ready()
		a.tell("a", 141, held("web", session1, 141, "10.0.0.5/24@7"))
		a.kill()
		w.set(func() {
			clear(f.guarded) // somebody took the fence away
			f.fails["guard"] = errTest
		})
		b := w.start()
		b.tellAll(1)
		time.Sleep(200 * time.Millisecond)
		w.set(func() { clear(f.fails) })
		time.Sleep(2 * time.Second)
		w.set(func() {
			if p := f.guarded[netip.MustParseAddr("10.0.0.5")]; p.Session != session1 {
				t.Errorf("guarded: %v", f.guarded)
			}
		})
		b.end()
	})
}

// However slow the process is between two steps, no deadline is later than the
// first datagram of its round plus the TTL (agent rule 1).
func TestDeadlinesAreAbsolute(t *testing.T) {
	run(t, func(w *world) {
		f := w.fenced()
		a := w.ready()
		w.set(func() { w.slow = time.Millisecond })
		for range 20 {
			time.Sleep(testTTL / 6)
			synctest.Wait()
			w.set(func() {
				var latest lease.Time
				for _, at := range w.firstAt {
					latest = max(latest, at)
				}
				if d := f.deadlines[session1]; d == 0 || d > latest.Add(testTTL) {
					t.Errorf("deadline %v behind the newest round, want at most %v", d.Sub(latest), testTTL)
				}
			})
		}
		w.set(func() { w.slow = 0 })
		a.end()
	})
}

// Nobody has a deadline before the kernel has it: an address would be raised, and
// announced, that does not answer.
func TestKernelHasTheDeadlineFirst(t *testing.T) {
	s := newSlot(lease.Session{ID: session1, TTL: testTTL})
	stored := false
	s.store = func(d lease.Time) {
		stored = true
		select {
		case <-s.ahead:
			t.Error("the watcher was told first")
		default:
		}
		if s.until() != 0 {
			t.Error("the owner has it first")
		}
	}
	s.publish(1, 2)
	if !stored || s.until() != 2 {
		t.Errorf("stored: %v, until %d", stored, s.until())
	}
}

// An address that cannot be removed stays guarded: once its deadline has passed it
// must not answer.
func TestGuardStaysWhileRemovalFails(t *testing.T) {
	run(t, func(w *world) {
		f := w.fenced()
		a := w.ready()
		web := held("web", session1, 141, "10.0.0.5/24@7")
		a.tell("a", 141, web)
		w.set(func() { w.fail["remove"] = func() error { return errTest } })
		a.tell("a", 142, recalled(web, "move"))
		time.Sleep(300 * time.Millisecond)
		ip := netip.MustParseAddr("10.0.0.5")
		w.set(func() {
			if p, guarded := f.guarded[ip]; !guarded || p.Session != 0 {
				t.Errorf("it is not shut any more: %v", f.guarded)
			}
			delete(w.fail, "remove")
		})
		time.Sleep(100 * time.Millisecond)
		w.set(func() {
			if len(f.guarded) > 0 {
				t.Errorf("still guarded: %v", f.guarded)
			}
		})
		a.end()
	})
}

// Nothing is added before the fence is known to be on every interface.
func TestFenceIsCheckedBeforeRaising(t *testing.T) {
	run(t, func(w *world) {
		f := w.fenced()
		a := w.ready()
		w.set(func() { f.fails["check"] = errTest })
		a.tell("a", 141, held("web", session1, 141, "10.0.0.5/24@7"))
		time.Sleep(100 * time.Millisecond)
		w.expectUp("")
		w.set(func() { delete(f.fails, "check") })
		time.Sleep(100 * time.Millisecond)
		w.expectUp("10.0.0.5")
		a.end()
	})
}

// A pause between two parts of an announcement ends it.
func TestPausedWhileAnnouncingAgain(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		var many []string
		for i := range chunk + 1 {
			many = append(many, fmt.Sprintf("10.0.0.%d/24@7", 10+i))
		}
		a.tell("a", 141, held("web", session1, 141, many...))
		time.Sleep(3 * time.Second) // until none is due
		w.take()
		w.set(func() {
			w.silent = map[string]bool{"a": true, "b": true, "c": true}
			w.after["announce"] = func() { w.set(func() { w.skew += 2 * testTTL; delete(w.after, "announce") }) }
		})
		a.Healed()
		time.Sleep(100 * time.Millisecond)
		announced := 0
		for _, e := range w.take() {
			if strings.HasPrefix(e, "announce") {
				announced++
			}
		}
		if announced != 1 {
			t.Errorf("%d announcements, want one: the lease ran out after it", announced)
		}
		a.end()
	})
}
