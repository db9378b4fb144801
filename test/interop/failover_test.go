package interop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/test/lab"
)

// end is a way in which an Active router ends.
type end struct {
	name string
	do   func(context.Context, *site) error
}

func ends() []end {
	return []end{
		{"kill", func(_ context.Context, s *site) error { s.up[0] = false; return s.routers[0].Kill() }},
		{"stop", func(ctx context.Context, s *site) error { return s.stop(ctx, 0) }},
		{"power cut", func(_ context.Context, s *site) error { return s.off(0) }},
	}
}

// reset makes host 0 one without a router and without its addresses: a killed
// router leaves them behind.
func (s *site) reset() error {
	if !s.host(0).IsOff() {
		if err := s.off(0); err != nil {
			return err
		}
	}
	return s.host(0).PowerOn()
}

// failover is one takeover after an end.
type failover struct {
	// wire is from the last packet by which the old router claims the address (its
	// farewell, if there is one) to the first of the new one.
	wire time.Duration
	// answers is from the old host's last answer to a client to the new one's first.
	answers time.Duration
}

// measureFailover starts a pair, ends the Active router in a way and measures.
func measureFailover(ctx context.Context, s *site, e end) (f failover, err error) {
	if err := s.start(0); err != nil {
		return f, err
	}
	if err := awaitSettled(ctx, s, 0, s.setting.down(0)); err != nil {
		return f, err
	}
	began := lab.Now()
	if err := e.do(ctx, s); err != nil {
		return f, err
	}
	within, cancel := context.WithTimeout(ctx, s.setting.down(1)+slack)
	defer cancel()
	err = lab.Poll(within, 10*time.Millisecond, func() (err error) {
		f, err = s.failover(began)
		return err
	})
	return f, err
}

// calmFailover measures until the machine did not stand still meanwhile; a few
// times that fails, the last value counts whatever it is.
func calmFailover(ctx context.Context, s *site, e end) (f failover, err error) {
	const most, standstill = 5, 20 * time.Millisecond
	for range most {
		if err := s.reset(); err != nil {
			return f, err
		}
		began := lab.Now()
		f, err = measureFailover(ctx, s, e)
		stall := s.recorder.Stall(began, lab.Now()).Max
		if stall < standstill {
			break
		}
		s.t.Logf("again, as the machine stood still for %.1f ms: %+v, %v", ms(stall), f, err)
	}
	return f, errors.Join(err, s.reset())
}

// awaitSettled waits until a host has all that a holder has.
func awaitSettled(ctx context.Context, s *site, holder int, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within+slack)
	defer cancel()
	return lab.Poll(ctx, 10*time.Millisecond, func() error { return s.settled(holder) })
}

// failover measures the takeover of host 1 after a time.
func (s *site) failover(began lab.Time) (failover, error) {
	now := lab.Now()
	from := began.Add(-2 * s.setting.interval)
	var f failover
	tenures := lab.Tenures(s.tap.Adverts(from, now))
	for _, change := range lab.Takeovers(tenures, s.setting.virtual()[0]) {
		if change.New.Host == s.host(1).Name {
			f.wire = change.Length()
		}
	}
	var old, first lab.Time
	for _, a := range s.observe(s.setting.addresses()[0], from, now).Answers {
		switch {
		case a.Host == s.host(0).Name:
			old = max(old, a.Accepted)
		case a.Accepted > began && first == 0:
			first = a.Accepted
		}
	}
	f.answers = first.Sub(old)
	if f.wire == 0 || old == 0 || first == 0 {
		return f, fmt.Errorf("no takeover seen: %+v, advertisements %+v", f, tenures)
	}
	return f, nil
}

// TestFailover compares takeovers of a pair of vipagent with those of a pair of
// Keepalived in the same minute, turn by turn: medians must agree within 5 % or
// 10 ms.
func TestFailover(t *testing.T) {
	turns := 5
	settings := []struct {
		name string
		s    setting
	}{{"v3 100 ms", version3()}}
	if long() {
		turns = 11
		settings = append(settings, struct {
			name string
			s    setting
		}{"v2 1 s", version2()})
	}
	for _, e := range ends() {
		for _, on := range settings {
			t.Run(on.name+"/"+e.name, func(t *testing.T) { compareFailovers(t, on.s, e, turns) })
		}
	}
}

// compareFailovers lets the pairs take turns on networks of their own.
func compareFailovers(t *testing.T, s setting, e end, turns int) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	pairs := []program{keepalived(), holdfast()}
	if controlOnly() {
		pairs[1] = keepalived()
	}
	var wire, answers [2][]time.Duration
	var sites [2]*site
	for i, p := range pairs {
		sites[i] = newSite(t, s, [2]program{p, p}, 2*time.Millisecond)
		check(t, sites[i].start(1))
	}
	for range turns {
		for i, site := range sites {
			f, err := calmFailover(ctx, site, e)
			check(t, err)
			wire[i], answers[i] = append(wire[i], f.wire), append(answers[i], f.answers)
		}
	}
	for _, what := range []struct {
		name  string
		times [2][]time.Duration
	}{{"by advertisements", wire}, {"by answers", answers}} {
		theirs, ours := median(what.times[0]), median(what.times[1])
		t.Logf("%s: %s %s, %s %s", what.name, pairs[0].name, timesText(what.times[0]), pairs[1].name, timesText(what.times[1]))
		if limit := theirs + max(theirs/20, 10*time.Millisecond); ours > limit {
			t.Errorf("%s: median of %.1f ms, Keepalived's is %.1f ms", what.name, ms(ours), ms(theirs))
		}
	}
}

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}

func timesText(times []time.Duration) string {
	var words []string
	for _, d := range slices.Sorted(slices.Values(times)) {
		words = append(words, fmt.Sprintf("%.1f", ms(d)))
	}
	return fmt.Sprintf("median %.1f ms (%s)", ms(median(times)), strings.Join(words, " "))
}
