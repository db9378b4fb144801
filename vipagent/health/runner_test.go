package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeProbe answers as its function says.
type fakeProbe func(ctx context.Context) (int, error)

func (f fakeProbe) probe(ctx context.Context) (int, error) { return f(ctx) }

// switchProbe is bad as long as it has an error.
type switchProbe struct {
	mu   sync.Mutex
	err  error
	runs int
}

func (s *switchProbe) probe(context.Context) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs++
	return 0, s.err
}

func (s *switchProbe) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *switchProbe) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs
}

// bench runs a Runner in a bubble and records the changes.
type bench struct {
	runner  *Runner
	mu      sync.Mutex
	changes []string
	start   time.Time
}

func (b *bench) onChange(set string, c Condition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changes = append(b.changes, fmt.Sprintf("%s %s=%s", time.Since(b.start), set, describe(c)))
}

func describe(c Condition) string {
	text := fmt.Sprint(c.Weight)
	if c.Veto {
		text = "veto"
	}
	if c.Pending {
		text += "?"
	}
	return text
}

func (b *bench) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.changes
	b.changes = nil
	return out
}

// startBench runs until the test ends.
func startBench(t *testing.T, checks []Check, probes ...probe) *bench {
	for i := range checks {
		checks[i] = checks[i].WithDefaults()
	}
	b := &bench{runner: newRunner(checks, probes, slog.New(slog.DiscardHandler)), start: time.Now()}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.runner.Run(ctx, b.onChange) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	return b
}

// pass lets d go by in the bubble, and all work that is then due be done.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web, disk := &switchProbe{}, &switchProbe{}
		b := startBench(t, []Check{
			{Name: "web", Type: TCP, Interval: time.Second, Fall: 3, Rise: 2, Sets: []string{"front"}},
			{Name: "disk", Type: File, Interval: 2 * time.Second, Weight: -10},
		}, web, disk)
		if got := b.runner.Condition("front"); !got.Veto || !got.Pending {
			t.Errorf("before the first run: %+v", got)
		}
		want := func(what string, changes ...string) {
			t.Helper()
			if got := b.take(); !slices.Equal(got, changes) {
				t.Errorf("%s: changes %q, want %q", what, got, changes)
			}
		}
		pass(time.Millisecond)
		if got := describe(b.runner.Condition("front")) + describe(b.runner.Condition("other")); got != "00" {
			t.Errorf("conditions after the first runs: %s", got)
		}
		b.take() // their order is open
		web.set(errors.New("refused"))
		disk.set(errors.New("full"))
		pass(10 * time.Second)
		// web fails at 1, 2 and 3 s, disk at 2 s.
		want("bad", "2s =-10", "2s front=-10", "3s front=veto")
		if got := b.runner.Condition("front").Reason; got != "web: refused; disk: full" {
			t.Errorf("reason %q", got)
		}
		web.set(nil)
		pass(3 * time.Second) // 11, 12 s
		want("good", "12s front=-10")
		st := b.runner.Statuses()
		if st[0].State != Good || st[0].Since.Sub(b.start) != 12*time.Second || st[1].State != Bad || st[1].Result != "full" {
			t.Errorf("statuses %+v", st)
		}
		pass(time.Hour)
		want("nothing new")
	})
}

// TestTimeout: a run that does not end is told to, and counts as bad; one that
// cannot end is left behind, and no other is started meanwhile.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		obeys := fakeProbe(func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() })
		release, started := make(chan struct{}), 0
		hangs := fakeProbe(func(context.Context) (int, error) { started++; <-release; return 0, nil })
		b := startBench(t, []Check{
			{Name: "obeys", Type: TCP, Interval: time.Second, Timeout: 300 * time.Millisecond, Sets: []string{"a"}},
			{Name: "hangs", Type: File, Interval: time.Second, Timeout: 300 * time.Millisecond, Sets: []string{"b"}},
		}, obeys, hangs)
		pass(10 * time.Second)
		got := b.take()
		if want := []string{"300ms a=veto", "800ms b=veto"}; !slices.Equal(got, want) {
			t.Errorf("changes %q, want %q", got, want)
		}
		if r := b.runner.Condition("a").Reason; r != "obeys: no result after 300ms" {
			t.Errorf("reason %q", r)
		}
		if started != 1 {
			t.Errorf("%d runs of a check that hangs, want 1", started)
		}
		close(release)
		pass(2 * time.Second)
		if got := b.runner.Condition("b"); got != (Condition{}) {
			t.Errorf("after it came back: %+v", got)
		}
	})
}

// TestIntervals: the next run starts one interval after the start of the last,
// or at once if that took longer; missed ones are not made up for.
func TestIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var starts []time.Duration
		slow := fakeProbe(func(ctx context.Context) (int, error) {
			starts = append(starts, time.Since(start))
			if len(starts) == 2 {
				<-time.After(2500 * time.Millisecond)
			}
			return 0, nil
		})
		startBench(t, []Check{{Name: "slow", Type: TCP, Interval: time.Second, Timeout: 5 * time.Second}}, slow)
		pass(6 * time.Second)
		want := []time.Duration{0, time.Second, 3500 * time.Millisecond, 4500 * time.Millisecond, 5500 * time.Millisecond}
		if !slices.Equal(starts, want) {
			t.Errorf("runs at %v, want %v", starts, want)
		}
	})
}

// TestLinkChanged: news from the kernel are acted on at once, by the checks that
// they concern.
func TestLinkChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link, other := &switchProbe{}, &switchProbe{}
		b := startBench(t, []Check{
			{Name: "link", Type: Interface, Interface: "eth0", Interval: time.Minute},
			{Name: "other", Type: Interface, Interface: "eth1", Interval: time.Minute},
		}, link, other)
		pass(time.Second)
		link.set(errors.New("no carrier"))
		b.take()
		b.runner.LinkChanged("eth0")
		synctest.Wait()
		if got := b.take(); !slices.Equal(got, []string{"1s =veto"}) {
			t.Errorf("changes %q", got)
		}
		if link.count() != 2 || other.count() != 1 {
			t.Errorf("runs %d and %d, want 2 and 1", link.count(), other.count())
		}
		b.runner.LinkChanged("")
		synctest.Wait()
		if link.count() != 3 || other.count() != 2 {
			t.Errorf("runs %d and %d, want 3 and 2", link.count(), other.count())
		}
	})
}

func TestNewRefuses(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for _, tt := range []struct {
		check Check
		want  string
	}{
		{Check{Name: "c", Type: Gateway, Address: "192.0.2.1"}, "set up check c: gateway checks are not possible here"},
		{Check{Name: "c", Type: Script, Command: []string{"/bin/true"}, User: "no-such-user-here"}, "look up user of script: user: unknown user no-such-user-here"},
		{Check{Name: "c", Type: TCP}, "set up checks: checks[0].address: "},
	} {
		_, err := New([]Check{tt.check}, log, Deps{})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("New(%+v) = %v, want %q", tt.check, err, tt.want)
		}
	}
}
