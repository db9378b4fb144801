package vipagent

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
)

// sentTo takes the renewals that were sent to a coordinator since the last time.
func (w *world) sentTo(name string) []lease.Renewal {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.renewals[name]
	delete(w.renewals, name)
	return sent
}

func (w *world) silence(names ...string) {
	w.set(func() {
		w.silent = make(map[string]bool)
		for _, name := range names {
			w.silent[name] = true
		}
	})
}

func TestRenewalsSayWhetherThereIsALease(t *testing.T) {
	run(t, func(w *world) {
		a := w.start()
		a.tellAll(1)
		time.Sleep(10 * time.Millisecond)
		first := w.sentTo("a")
		if len(first) == 0 || first[0].Proven {
			t.Fatalf("first renewals %+v: the first has no lease yet", first)
		}
		time.Sleep(10 * time.Millisecond)
		if all := append(first, w.sentTo("a")...); !all[len(all)-1].Proven {
			t.Errorf("renewals %+v: it should say at once that it has a lease", all)
		}
		w.silence("b", "c")
		time.Sleep(900 * time.Millisecond)
		for _, r := range w.sentTo("a") {
			if !r.Proven {
				t.Error("it has a lease still, and says that it has none")
			}
		}
		time.Sleep(600 * time.Millisecond)
		w.sentTo("a")
		time.Sleep(600 * time.Millisecond)
		for _, r := range w.sentTo("a") {
			if r.Proven {
				t.Error("it has lapsed and says that it has a lease")
			}
		}
		w.silence()
		time.Sleep(200 * time.Millisecond)
		again := w.sentTo("a")
		a.kill()
		if len(again) == 0 || !again[len(again)-1].Proven {
			t.Errorf("renewals %+v: it has a lease again", again)
		}
		w.sentTo("a")
		b := w.start() // adopts the session with its deadline
		b.tellAll(2)
		time.Sleep(5 * time.Millisecond)
		if first := w.sentTo("a"); len(first) == 0 || !first[0].Proven {
			t.Errorf("first renewals %+v of an adopted session with a lease", first)
		}
		b.end()
	})
}

// conf is a view that tells a configuration.
func (a *agent) conf(coordinator string, index uint64, voters ...string) {
	v := &pb.View{Coordinator: coordinator, Index: a.w.index, Configuration: &pb.Configuration{Index: index}}
	a.w.set(func() {
		for id := range a.w.secrets {
			v.Sessions = append(v.Sessions, id)
		}
	})
	for _, name := range voters {
		v.Configuration.Members = append(v.Configuration.Members, &pb.Coordinator{Name: name, Voter: true})
	}
	a.views <- v
	synctest.Wait()
}

func TestRemovedCoordinatorsAreForgotten(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		expect := func(what string, want ...string) {
			t.Helper()
			for _, name := range []string{"a", "b", "c", "d", "e", "x", "y", "z"} {
				w.sentTo(name)
			}
			time.Sleep(400 * time.Millisecond)
			var got []string
			for _, name := range []string{"a", "b", "c", "d", "e", "x", "y", "z"} {
				if len(w.sentTo(name)) > 0 {
					got = append(got, name)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: renewals go to %v, want %v", what, got, want)
			}
		}
		expect("at first", "a", "b", "c")
		// c is replaced by d, b by e. Each of those that go tells what it knew last.
		w.set(func() { w.configs = map[string]uint64{"a": 9, "b": 3, "c": 3} })
		a.conf("a", 9, "a", "b", "d")
		expect("only one knows of it", "a", "b", "c", "d")
		w.set(func() { w.configs = map[string]uint64{"a": 9, "b": 9, "d": 9} })
		a.conf("b", 9, "a", "b", "d")
		a.conf("d", 9, "a", "b", "d")
		expect("c has gone", "a", "b", "d")
		w.set(func() { w.configs = map[string]uint64{"a": 12, "b": 9, "d": 12, "e": 12} })
		for _, name := range []string{"a", "d", "e"} {
			a.conf(name, 12, "a", "d", "e")
		}
		expect("b has gone too", "a", "d", "e")
		a.conf("c", 3, "a", "b", "c") // a connection to what was removed comes back
		expect("c speaks", "a", "d", "e")
		// Another cluster takes their place, with an index of its own.
		w.silence("a", "d", "e")
		time.Sleep(2 * time.Second)
		w.set(func() { w.configs = map[string]uint64{"x": 2, "y": 2, "z": 2} })
		for _, name := range []string{"x", "y", "z"} {
			a.conf(name, 2, "x", "y", "z")
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if s := a.Status(); s.Deadline <= w.now() {
			t.Errorf("no lease from the coordinators that are there now: %+v", s)
		}
		a.end()
	})
}

func TestConfigurationThatOnlyOneGoesByRemovesNobody(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		// A leader that is cut off from the others has appended the removal of c.
		w.set(func() { w.configs = map[string]uint64{"a": 9, "b": 3, "c": 3} })
		a.conf("a", 9, "a", "b")
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if s := a.Status(); s.Deadline <= w.now() {
			t.Errorf("b and c go by what they had, and there is no lease: %+v", s)
		}
		a.end()
	})
}

func TestSessionsThatNeverHadALeaseAreOpenedLessOften(t *testing.T) {
	run(t, func(w *world) {
		w.silence("b", "c")
		a := w.start()
		index := uint64(1)
		a.tellAll(index)
		var waits []time.Duration
		for range 7 {
			ended := w.now()
			for { // until there is a session again
				synctest.Wait()
				open := 0
				w.set(func() { open = len(w.secrets) })
				if open > 0 {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			waits = append(waits, w.now().Sub(ended).Round(100*time.Millisecond))
			time.Sleep(time.Second)
			index = w.next + 1
			w.set(func() { clear(w.secrets) })
			a.tell("a", index)
		}
		ms := time.Millisecond
		if want := []time.Duration{0, 500 * ms, 1000 * ms, 1500 * ms, 2000 * ms, 2000 * ms, 2000 * ms}; !slices.Equal(waits, want) {
			t.Errorf("pauses before sessions %v, want %v", waits, want)
		}
		w.silence()
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		if s := a.Status(); s.Deadline <= w.now() {
			t.Fatalf("no lease: %+v", s)
		}
		w.set(func() { clear(w.secrets) })
		a.tell("a", w.next+1)
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if s := a.Status(); s.Deadline <= w.now() {
			t.Errorf("a session that had a lease is not replaced at once: %+v", s)
		}
		a.end()
	})
}
