package vipagent

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/coordinator/lease"
)

// stood takes the stalls that were reported since the last time.
func (w *world) stood() []string {
	return slices.DeleteFunc(w.take(), func(s string) bool { return !strings.HasPrefix(s, "stall") })
}

// pause lets the host stand still.
func (w *world) pause(d time.Duration) { w.set(func() { w.skew += d }) }

func TestStallIsReportedUnderTheNextLease(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		w.set(func() { w.silent = map[string]bool{"a": true, "b": true, "c": true} })
		w.pause(2800*time.Millisecond - testTTL/6) // and the rest of a round
		time.Sleep(700 * time.Millisecond)
		if got := w.stood(); len(got) > 0 {
			t.Errorf("without a lease: %q", got)
		}
		w.set(func() { w.silent = nil })
		time.Sleep(500 * time.Millisecond)
		got := w.stood()
		if len(got) != 1 || !strings.HasPrefix(got[0], "stall 101: 2.") || !strings.HasSuffix(got[0], "ago, 0 more") {
			t.Errorf("reported %q", got)
		}
		a.end()
	})
}

func TestStallsAreCoalesced(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		stand := func(d time.Duration) {
			w.pause(d)
			time.Sleep(200 * time.Millisecond)
		}
		stand(300 * time.Millisecond)
		if got := w.stood(); len(got) > 0 {
			t.Errorf("too short to be told: %q", got)
		}
		stand(700 * time.Millisecond)
		if got := w.stood(); len(got) != 1 {
			t.Errorf("the first: %q", got)
		}
		for range 10 {
			stand(600 * time.Millisecond)
		}
		stand(800 * time.Millisecond)
		if got := w.stood(); len(got) > 0 {
			t.Errorf("within 10 s: %q", got)
		}
		time.Sleep(stallEvery)
		got := w.stood()
		if len(got) != 1 || !strings.HasSuffix(got[0], "10 more") || strings.HasPrefix(got[0], "stall 101: 6") {
			t.Errorf("after 10 s: %q", got)
		}
		time.Sleep(2 * stallEvery)
		if got := w.stood(); len(got) > 0 {
			t.Errorf("told twice: %q", got)
		}
		a.end()
	})
}

func TestStallThatIsRefused(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		w.set(func() { w.fails["stall"] = errTest })
		w.pause(800 * time.Millisecond)
		time.Sleep(20 * time.Second)
		if got := w.stood(); len(got) < 15 {
			t.Errorf("a report that gets no answer was tried %d times", len(got))
		}
		w.set(func() { w.fails["stall"] = refusal{} })
		time.Sleep(20 * time.Second)
		if got := w.stood(); len(got) != stallTries {
			t.Errorf("a report that is refused was tried %d times: %q", len(got), got)
		}
		if !w.log.has("stall not reported") {
			t.Error("that it was given up is not in the log")
		}
		a.end()
	})
}

func TestStallOfAnotherSession(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		w.set(func() { w.silent = map[string]bool{"a": true, "b": true, "c": true} })
		w.pause(15 * time.Second)
		time.Sleep(200 * time.Millisecond)
		w.set(func() { w.silent = nil; clear(w.secrets) }) // the quorum has ended it
		a.tellAll(200)
		time.Sleep(2 * time.Second)
		a.tellAll(201)
		time.Sleep(2 * time.Second)
		got := w.stood()
		if len(got) != 1 || !strings.HasPrefix(got[0], "stall 201: 1") {
			t.Errorf("reported %q", got)
		}
		a.end()
	})
}

func TestRenewalsCarryTheFence(t *testing.T) {
	run(t, func(w *world) {
		dropped := uint64(0)
		w.fenced().report = func(session uint64) lease.FenceReport {
			dropped++ // on the renewer's goroutine, once a round
			return lease.FenceReport{Kind: lease.FenceEBPF, Interfaces: 2, Left: time.Duration(session), Dropped: dropped}
		}
		a := w.ready()
		time.Sleep(time.Second)
		synctest.Wait()
		sent := w.sentTo("a")
		last := sent[len(sent)-1].Fence
		if last.Kind != lease.FenceEBPF || last.Interfaces != 2 || last.Left != session1 || last.Dropped < 6 {
			t.Errorf("the last of %d renewals says %+v", len(sent), last)
		}
		if other := w.sentTo("b"); other[len(other)-1].Fence != last {
			t.Errorf("b was told %+v, a %+v", other[len(other)-1].Fence, last)
		}
		a.end()
	})
	run(t, func(w *world) {
		a := w.ready()
		if sent := w.sentTo("a"); sent[0].Fence != (lease.FenceReport{}) {
			t.Errorf("without a fence to tell of: %+v", sent[0])
		}
		a.end()
	})
}
