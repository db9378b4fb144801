package linux

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func TestBoottimeRises(t *testing.T) {
	last := Boottime()
	for range 10000 {
		now := Boottime()
		if now < last || last <= 0 {
			t.Fatalf("%d after %d", now, last)
		}
		last = now
	}
	// The kernel's own idea of it, in hundredths of seconds.
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	uptime, err := time.ParseDuration(strings.Fields(string(b))[0] + "s")
	if d := time.Duration(Boottime()) - uptime; err != nil || d < -20*time.Millisecond || d > 5*time.Second {
		t.Errorf("differs from /proc/uptime by %v (%v)", d, err)
	}
}

func TestBootID(t *testing.T) {
	a, err := BootID()
	b, _ := BootID()
	if err != nil || a != b || len(a) != 36 {
		t.Errorf("%q, then %q: %v", a, b, err)
	}
}

func TestSleepUntil(t *testing.T) {
	var worst time.Duration
	for i := range 20 {
		at := Boottime().Add(time.Duration(i) * time.Millisecond)
		if err := SleepUntil(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		late := Boottime().Sub(at)
		if late < 0 {
			t.Fatalf("woke %v early", -late)
		}
		worst = max(worst, late)
	}
	t.Logf("worst lateness of 20 sleeps: %v", worst)
	if err := SleepUntil(t.Context(), Boottime().Add(-time.Hour)); err != nil {
		t.Error(err)
	}
}

func TestSleepUntilEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- SleepUntil(ctx, Boottime().Add(time.Hour)) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := SleepUntil(ctx, Boottime().Add(time.Hour)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// A deadline of the context, while the sleep is under way.
	ctx, cancel = context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if err := SleepUntil(ctx, Boottime().Add(time.Hour)); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestSleepUntilLeaksNothing: neither descriptors nor a wake-up that reaches a
// later one.
func TestSleepUntilLeaksNothing(t *testing.T) {
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := count()
	for i := range 200 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Microsecond)
		_ = SleepUntil(ctx, Boottime().Add(time.Duration(200-i)*time.Microsecond))
		cancel()
	}
	if after := count(); after > before+2 {
		t.Errorf("%d descriptors, then %d", before, after)
	}
}
