package drill

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/test/lab"
)

// Outcome is what a random drill came to.
type Outcome struct {
	Seed       uint64         `json:"seed"`
	Steps      int            `json:"steps"`
	Blows      map[string]int `json:"faults"` // how often each fell
	Ran        time.Duration  `json:"ran_ns"`
	Longest    time.Duration  `json:"longest_gap_ns"` // in which no client had an answer
	Table      time.Duration  `json:"table_ns"`       // longest time in two tables
	NotCalm    int            `json:"not_calm"`       // how often the cluster did not come to rest in time
	Violations []Violation    `json:"violations"`
}

// Violation is an overlap by answers or by the wire.
type Violation struct {
	Address string        `json:"address"`
	At      lab.Time      `json:"window_from"`
	Answers time.Duration `json:"answers_ns"`
	Wire    time.Duration `json:"wire_ns"`
}

// String says it in one line.
func (v Violation) String() string {
	return fmt.Sprintf("%s: two hosts answered for %v and claimed it for %v", v.Address, v.Answers, v.Wire)
}

// random is a random drill that runs.
type random struct {
	*Ground
	history *History
	judge   *judge

	mu      sync.Mutex
	undos   []func() error
	outcome Outcome
}

// calmLimit bounds the wait for rest between two steps.
const calmLimit = 40 * time.Second

// Random breaks the cluster by the sequence of the seed until the time is over,
// ctx ends or two hosts have an address. Everything that happens is written to
// the history.
func (g *Ground) Random(ctx context.Context, seed uint64, length time.Duration, history *History) (Outcome, error) {
	r := &random{Ground: g, history: history, judge: newJudge(g, history)}
	r.outcome = Outcome{Seed: seed, Blows: make(map[string]int)}
	began := lab.Now()
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return r.judge.run(inner) })
	group.Go(func() error { return r.steps(inner, seed) })
	err := group.Wait()
	if errors.Is(err, errViolated) || errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	err = errors.Join(err, r.judge.finish())
	r.outcome.Ran = lab.Now().Sub(began)
	r.outcome.Violations, r.outcome.Longest, r.outcome.Table = r.judge.violations, r.judge.longest, r.judge.table
	history.event("end", "ran_s", r.outcome.Ran.Seconds(), "steps", r.outcome.Steps, "violations", r.outcome.Violations, "error", text(err))
	return r.outcome, errors.Join(err, history.err)
}

// errViolated ends the drill.
var errViolated = errors.New("two hosts had an address")

func (r *random) steps(ctx context.Context, seed uint64) error {
	sequence := NewSequence(seed, faultNames())
	for number := 1; ctx.Err() == nil; number++ {
		step := sequence.Next()
		r.outcome.Steps = number
		began := lab.Now()
		r.step(ctx, number, step)
		if err := r.mend(ctx); err != nil {
			return err
		}
		r.Stage.Pause(ctx, step.Pause)
		if step.Settle {
			r.settle(ctx, number)
		}
		r.verdict(number, began)
	}
	return ctx.Err()
}

// step lets the step's faults fall, each at its time, and waits for its end.
func (r *random) step(ctx context.Context, number int, step Step) {
	r.history.event("step", "step", number, "plan", step, "holders", r.holders())
	ctx, cancel := context.WithTimeout(ctx, step.Length)
	defer cancel()
	var blows sync.WaitGroup
	for _, b := range step.Blows {
		blows.Go(func() {
			r.Stage.Pause(ctx, b.After)
			r.strike(ctx, number, b)
		})
	}
	blows.Wait()
	<-ctx.Done()
}

func (r *random) strike(ctx context.Context, number int, b Blow) {
	f, err := faultByName(b.Fault)
	if err != nil {
		r.history.event("no-fault", "step", number, "fault", b.Fault, "error", err.Error())
		return
	}
	hosts := r.network.Hosts
	s := &strike{Ground: r.Ground, host: r.target(b), undo: r.later}
	s.other = hosts[b.Number/len(hosts)%len(hosts)]
	if s.other == s.host {
		s.other = hosts[(b.Number/len(hosts)+1)%len(hosts)]
	}
	began := lab.Now()
	if s.host.IsOff() {
		r.history.event("skip", "step", number, "fault", b.Fault, "host", s.host.Name, "why", "it is off")
		return
	}
	err = f.do(ctx, s)
	r.mu.Lock()
	r.outcome.Blows[b.Fault]++
	r.mu.Unlock()
	r.history.event("fault", "step", number, "fault", b.Fault, "host", s.host.Name, "target", b.Target, "at", began,
		"took_ms", lab.Now().Sub(began).Milliseconds(), "error", text(err))
	r.say("step %d: %s on %s", number, f.what, s.host.Name)
}

// target finds the host that a fault is for.
func (r *random) target(b Blow) *lab.Host {
	hosts := r.network.Hosts
	switch b.Target {
	case Holder:
		for _, name := range r.Stage.Recorder.Holders(r.Stage.VIPs[0]) {
			return r.network.Host(name)
		}
	case Leader:
		limited, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if h, err := r.Stage.Cluster.Leader(limited); err == nil {
			return h
		}
	}
	return hosts[b.Number%len(hosts)]
}

func (r *random) later(undo func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.undos = append(r.undos, undo)
}

// mend undoes everything, without waiting for the cluster.
func (r *random) mend(ctx context.Context) error {
	r.mu.Lock()
	undos := r.undos
	r.undos = nil
	r.mu.Unlock()
	var errs []error
	for _, undo := range undos {
		errs = append(errs, undo())
	}
	errs = append(errs, r.Stage.Cluster.Revive())
	err := errors.Join(errs...)
	r.history.event("mended", "holders", r.holders(), "error", text(err))
	if err != nil {
		return fmt.Errorf("mend the cluster: %w", err)
	}
	for _, h := range r.Stage.Cluster.Config().Agents {
		// Without a leader just now, it is for the next time.
		_, _ = r.Stage.Cluster.Ctl(ctx, "undrain", h.Name, "--timeout", "1s")
	}
	return nil
}

// settle gives the cluster time to come to rest. That it does not is told and
// counted: it is no overlap.
func (r *random) settle(ctx context.Context, number int) {
	began := lab.Now()
	limited, cancel := context.WithTimeout(ctx, calmLimit)
	defer cancel()
	err := r.Stage.Calm(limited)
	if err != nil && ctx.Err() == nil {
		r.outcome.NotCalm++
		r.say("step %d: not calm after %v: %v", number, calmLimit, err)
	}
	r.history.event("settled", "step", number, "took_ms", lab.Now().Sub(began).Milliseconds(), "holders", r.holders(), "error", text(err))
}

// verdict tells what was seen of each address since the step began.
func (r *random) verdict(number int, began lab.Time) {
	to := lab.Now().Add(-settled)
	from := max(began, to.Add(-kept))
	for _, a := range r.judged() {
		o := r.Stage.Recorder.Observe(a, from, to)
		overlap := o.Overlap()
		gaps := make(map[string]int64)
		for _, c := range r.network.Clients {
			gaps[c.Name] = o.LongestGap(c.Name).Length().Milliseconds()
		}
		r.history.event("verdict", "step", number, "address", a, "gap_ms", gaps, "answers_ns", overlap.Answers, "wire_ns", overlap.Wire,
			"table_ns", overlap.Kernel, "stall_ms", r.Stage.Recorder.Stall(from, to).Max.Milliseconds())
	}
}

// holders says who has each address, by the kernels' tables.
func (g *Ground) holders() map[string][]string {
	holders := make(map[string][]string)
	for _, a := range g.judged() {
		holders[a.String()] = g.Stage.Recorder.Holders(a)
	}
	return holders
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
