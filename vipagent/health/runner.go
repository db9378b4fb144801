package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Deps is what checks need from the rest of the agent.
type Deps struct {
	// Reach returns nil if the on-link address answers ARP or neighbour
	// solicitation through the interface ("" = whichever has its subnet) before
	// ctx ends. Only gateway checks need it.
	Reach func(ctx context.Context, address netip.Addr, iface string) error
}

// Status is how one check is doing.
type Status struct {
	Name, Type string
	State      State
	Since      time.Time     // when it got into State
	Last       time.Time     // end of the last run that counted, zero before the first
	Took       time.Duration // of that run
	Result     string        // "" = good, else what was wrong with that run
}

// probe does one run of a check: nil is good, an error says why it is bad. The
// weight is that of a read_weight check. A run ends soon after ctx does.
type probe interface {
	probe(ctx context.Context) (weight int, err error)
}

// watcher is a probe that also hears of changes by itself; watch calls changed
// at each, and returns when ctx ends.
type watcher interface {
	watch(ctx context.Context, changed func())
}

// Runner runs checks and says what they mean for each set.
type Runner struct {
	log    *slog.Logger
	checks []*running

	mu         sync.Mutex
	conditions map[string]Condition // by set; "" = any set that no check names
}

// running is one check in a Runner. The fields below mu's are guarded by the
// Runner's lock.
type running struct {
	Check
	probe probe
	poke  chan struct{} // capacity 1: run now
	stuck chan result   // of a run that was left behind; only loop uses it

	verdict verdict
	status  Status
}

// New prepares the checks, as [Validate] accepts them, with defaults filled in.
// It starts nothing. The error has everything that is wrong.
func New(checks []Check, log *slog.Logger, deps Deps) (*Runner, error) {
	var errs []error
	for _, p := range Validate(checks) {
		errs = append(errs, p)
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("set up checks: %w", errors.Join(errs...))
	}
	probes := make([]probe, len(checks))
	filled := make([]Check, len(checks))
	for i, c := range checks {
		filled[i] = c.WithDefaults()
		p, err := newProbe(filled[i], deps)
		if err != nil {
			errs = append(errs, fmt.Errorf("set up check %s: %w", c.Name, err))
		}
		probes[i] = p
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return newRunner(filled, probes, log), nil
}

func newProbe(c Check, deps Deps) (probe, error) {
	switch c.Type {
	case Script:
		return newScript(c)
	case Process:
		return newProcess(c), nil
	case File:
		return fileProbe{c}, nil
	case Interface:
		return interfaceProbe{c.Interface}, nil
	case TCP:
		return tcpProbe{c.Address}, nil
	case HTTP:
		return newHTTP(c), nil
	case Gateway:
		if deps.Reach == nil {
			return nil, errors.New("gateway checks are not possible here")
		}
		address, err := netip.ParseAddr(c.Address)
		return gatewayProbe{reach: deps.Reach, address: address, iface: c.Interface}, err
	}
	return nil, fmt.Errorf("unknown type %q", c.Type)
}

func newRunner(checks []Check, probes []probe, log *slog.Logger) *Runner {
	r := &Runner{log: log, conditions: map[string]Condition{"": {}}}
	for i, c := range checks {
		v := newVerdict(c.Initial)
		r.checks = append(r.checks, &running{
			Check: c, probe: probes[i], poke: make(chan struct{}, 1), verdict: v,
			status: Status{Name: c.Name, Type: c.Type, State: v.state},
		})
		for _, set := range c.Sets {
			r.conditions[set] = Condition{}
		}
	}
	for set := range r.conditions {
		r.conditions[set] = r.combined(set)
	}
	return r
}

// combined computes the condition of a set from the verdicts.
func (r *Runner) combined(set string) Condition {
	var parts []Condition
	for _, c := range r.checks {
		if c.concerns(set) {
			parts = append(parts, c.verdict.condition(c.Check))
		}
	}
	return combine(parts)
}

// Condition returns what the checks say of a set, any set, right now.
func (r *Runner) Condition(set string) Condition {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok := r.conditions[set]; ok {
		return c
	}
	return r.conditions[""]
}

// Statuses returns how each check is doing, in the order of the configuration.
func (r *Runner) Statuses() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Status, len(r.checks))
	for i, c := range r.checks {
		out[i] = c.status
	}
	return out
}

// LinkChanged makes the interface checks of the interface ("" = of all) run at
// once. It never blocks, and may be called at any time.
func (r *Runner) LinkChanged(iface string) {
	for _, c := range r.checks {
		if c.Type == Interface && (iface == "" || iface == c.Interface) {
			c.again()
		}
	}
}

func (c *running) again() {
	select {
	case c.poke <- struct{}{}:
	default:
	}
}

// report is the result of one run that counts.
type report struct {
	check  *running
	weight int
	err    error
	took   time.Duration
}

// Run runs all checks at their intervals until ctx ends, and then returns nil.
// It calls onChange, from one goroutine, when the condition of a set that checks
// name, or of all others (set ""), is another than before; the conditions at the
// start are those of [Runner.Condition].
func (r *Runner) Run(ctx context.Context, onChange func(set string, c Condition)) error {
	reports := make(chan report)
	var tasks sync.WaitGroup
	for _, c := range r.checks {
		tasks.Go(func() { c.loop(ctx, reports) })
		if w, ok := c.probe.(watcher); ok {
			tasks.Go(func() { w.watch(ctx, c.again) })
		}
	}
	defer tasks.Wait()
	r.mu.Lock()
	now := time.Now()
	for _, c := range r.checks {
		c.status.Since = now
	}
	r.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return nil
		case rep := <-reports:
			for _, change := range r.apply(rep) {
				onChange(change.set, change.condition)
			}
		}
	}
}

type change struct {
	set       string
	condition Condition
}

// apply takes one report and returns the sets whose condition it changes, by
// name.
func (r *Runner) apply(rep report) []change {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, now := rep.check, time.Now()
	c.verdict.step(c.Check, rep.weight, rep.err)
	c.status.Last, c.status.Took, c.status.Result = now, rep.took, ""
	if rep.err != nil {
		c.status.Result = shorten(rep.err.Error(), 160)
	}
	if c.status.State != c.verdict.state {
		c.status.State, c.status.Since = c.verdict.state, now
		r.log.Info("check changed", "check", c.Name, "state", c.verdict.state.String(), "reason", c.verdict.reason)
	}
	var changes []change
	for set, old := range r.conditions {
		if next := r.combined(set); next != old {
			r.conditions[set] = next
			changes = append(changes, change{set, next})
		}
	}
	slices.SortFunc(changes, func(a, b change) int {
		if a.set < b.set {
			return -1
		}
		return 1
	})
	return changes
}

// maxVoid is how many runs in a row may be void before a failure counts in
// spite of the pauses.
const maxVoid = 3

// loop runs one check: at each interval, and when poked. Intervals that were
// missed are not made up for.
func (c *running) loop(ctx context.Context, reports chan<- report) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	void := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-c.poke:
		}
		start := time.Now()
		weight, err, paused := c.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && paused && void < maxVoid {
			void++
			timer.Reset(0)
			continue
		}
		void = 0
		select {
		case reports <- report{check: c, weight: weight, err: err, took: time.Since(start)}:
		case <-ctx.Done():
			return
		}
		timer.Reset(max(0, c.Interval-time.Since(start)))
	}
}

// lastWords is how long a run that was told to end may take to do so before it
// is left behind.
const lastWords = 500 * time.Millisecond

// result is what a probe returned.
type result struct {
	weight int
	err    error
}

// once does one run within the check's timeout. paused says that this process
// did not run all the while, so that a failure may be its own.
func (c *running) once(ctx context.Context) (weight int, err error, paused bool) {
	if c.stuck != nil {
		select {
		case <-c.stuck:
			c.stuck = nil
		default:
			return 0, errors.New("an earlier run hangs"), false
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan result, 1)
	go func() {
		weight, err := c.probe.probe(ctx)
		done <- result{weight, err}
	}()
	b := newBudget(c.Timeout, time.Now())
	ticker := time.NewTicker(b.slice)
	defer ticker.Stop()
	for {
		select {
		case res := <-done:
			b.spend(time.Now())
			return res.weight, res.err, b.paused
		case <-ticker.C:
			if !b.spend(time.Now()) {
				continue
			}
		case <-ctx.Done():
		}
		cancel()
		return 0, c.abandoned(done), b.paused
	}
}

// abandoned waits for a run that has been told to end. One that hangs in the
// kernel (a dead file server) is left behind, and until it ends there is no other.
func (c *running) abandoned(done chan result) error {
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	late := timeoutError{after: c.Timeout}
	select {
	case res := <-done:
		var said *ScriptError
		if errors.As(res.err, &said) && said.Output != "" {
			return fmt.Errorf("%w; its last words: %s", late, said.Output)
		}
	case <-timer.C:
		c.stuck = done
	}
	return late
}
