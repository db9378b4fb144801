package brokers

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/test/lab/history"
)

var (
	seed    = flag.Uint64("seed", 0, "of the random campaign; 0: by chance")
	minutes = flag.Int("minutes", 0, "how long the random campaign lasts; 0: it is left out")
)

// stored are the times at which messages were acknowledged.
type stored []int64

// end has the client stop sending, waits until it has got what is missing, and judges what
// it saw.
func (s *stage) end(ctx context.Context, l *load) (history.Report, stored) {
	s.t.Helper()
	check(s.t, l.process.Signal(unix.SIGINT))
	select {
	case <-l.process.Done():
	case <-ctx.Done():
		s.t.Fatal("the client does not come to its end")
	}
	f, err := os.Open(l.history)
	check(s.t, err)
	defer f.Close()
	j, times := history.NewJudge(), stored{}
	check(s.t, history.Each(f, func(e history.Event) {
		j.Add(e)
		if e.Kind == history.Stored {
			times = append(times, e.At)
		}
	}))
	r := j.Report()
	s.t.Log(r)
	for _, v := range r.Violations {
		s.t.Errorf("%s: %s", v.Rule, v.Text)
	}
	return r, times
}

// gap is the longest time without an acknowledged message between two moments.
func (times stored) gap(from, to time.Time) time.Duration {
	last, longest := from.UnixNano(), int64(0)
	for _, at := range times {
		if at >= from.UnixNano() && at <= to.UnixNano() {
			longest, last = max(longest, at-last), at
		}
	}
	return time.Duration(max(longest, to.UnixNano()-last))
}

// TestFaults: every fault, one after the other, while clients send and receive. Nothing
// that was acknowledged is lost, and writes go on.
func TestFaults(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	s := newStage(ctx, t, "", "commitlog: {segment: 4MiB}\n", "--min-in-sync", "2")
	all := strikes()
	l := s.start(4*time.Minute, "-producers", "4", "-readers", "2", "-every", "2ms")
	type struck struct {
		strike
		from, to time.Time
	}
	var done []struck
	check(t, s.sends(ctx, l))
	for _, x := range all {
		from := s.strike(ctx, x)
		done = append(done, struck{x, from, time.Now()})
	}
	r, times := s.end(ctx, l)
	for _, x := range done {
		t.Logf("%-42s longest time without an acknowledgement %5d ms", x.name, times.gap(x.from, x.to).Milliseconds())
	}
	if r.Stored < 1000 {
		t.Errorf("%d messages stored", r.Stored)
	}
	s.same(ctx)
}

// sends waits until the client has had an acknowledgement.
func (s *stage) sends(ctx context.Context, l *load) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return poll(ctx, func() error {
		b, err := os.ReadFile(l.history)
		if err != nil {
			return err
		}
		if !strings.Contains(string(b), `"kind":"stored"`) {
			return fmt.Errorf("nothing is stored yet")
		}
		return nil
	})
}

// TestRandom is the campaign at length: faults by chance, with a seed.
func TestRandom(t *testing.T) {
	if *minutes == 0 {
		return // make broker-campaign
	}
	length := time.Duration(*minutes) * time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), length+10*time.Minute)
	defer cancel()
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("seed %d", *seed)
	chance := rand.New(rand.NewPCG(*seed, 0))
	s := newStage(ctx, t, "", "commitlog: {segment: 4MiB}\n", "--min-in-sync", "2")
	l := s.start(length+time.Hour, "-producers", "4", "-readers", "2", "-every", "5ms")
	all := strikes()
	began, steps := time.Now(), 0
	for ; time.Since(began) < length; steps++ {
		x := all[chance.IntN(len(all))]
		x.hold = time.Duration(chance.Int64N(int64(2 * x.hold)))
		s.strike(ctx, x)
	}
	s.end(ctx, l)
	t.Logf("%d faults in %v", steps, time.Since(began).Round(time.Second))
	s.same(ctx)
}
