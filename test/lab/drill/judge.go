package drill

import (
	"context"
	"net/netip"
	"time"

	"holdfast/test/lab"
)

// judge looks at everything that was recorded, all the time, in windows that
// overlap: what reaches from one into the next is seen in the next.
type judge struct {
	*Ground
	history *History

	from       lab.Time
	violations []Violation
	longest    time.Duration
	table      time.Duration
	dark       map[netip.Addr]lab.Time // since when nobody has answered
}

// Times of the judge.
const (
	judgeEvery = 500 * time.Millisecond
	// settled is how old a packet is when all threads have surely recorded it.
	settled = 400 * time.Millisecond
	// lookBack is how much of the window before is looked at again.
	lookBack = 2 * time.Second
	// kept is how much of the recording is kept, to tell what a violation was.
	kept = 30 * time.Second
	// fine is how far two stamps of one moment may be apart.
	fine = 100 * time.Microsecond
	// unfenced is what a host without a fence of absolute deadlines is allowed.
	unfenced = 500 * time.Millisecond
)

func newJudge(g *Ground, history *History) *judge {
	return &judge{Ground: g, history: history, from: lab.Now(), dark: make(map[netip.Addr]lab.Time)}
}

// judged are the addresses that are judged.
func (g *Ground) judged() []netip.Addr {
	return append(append([]netip.Addr{}, g.Stage.VIPs...), g.Stage.Also...)
}

// run judges until ctx ends or a violation is found.
func (j *judge) run(ctx context.Context) error {
	tick := time.NewTicker(judgeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if j.look(lab.Now().Add(-settled)) {
			return errViolated
		}
	}
}

// finish judges what is left.
func (j *judge) finish() error {
	j.Stage.Pause(context.Background(), settled)
	j.look(lab.Now())
	return nil
}

// look judges up to a time and reports whether there was a violation.
func (j *judge) look(to lab.Time) bool {
	from := j.from.Add(-lookBack)
	violated := false
	for _, a := range j.judged() {
		o := j.Stage.Recorder.Observe(a, from, to)
		overlap := o.Overlap()
		j.table = max(j.table, overlap.Kernel)
		j.gap(a, o)
		allowed := fine
		if j.Weak != "" {
			allowed = unfenced
		}
		if overlap.Max() <= allowed {
			continue
		}
		violated = true
		v := Violation{Address: a.String(), At: from, Answers: overlap.Answers, Wire: overlap.Wire}
		j.violations = append(j.violations, v)
		whole := j.Stage.Recorder.Observe(a, to.Add(-kept), to)
		j.history.event("violation", "violation", v, "packets", whole.Stretches, "claims", whole.Claims, "tables", whole.Holds, "off", whole.Offs)
		j.say("VIOLATION: %s", v)
	}
	j.from = to
	j.Stage.Recorder.Forget(to.Add(-kept))
	return violated
}

// gap follows the longest time in which no client had an answer.
func (j *judge) gap(a netip.Addr, o lab.Observations) {
	since, known := j.dark[a]
	if !known {
		since = o.From
	}
	for _, answer := range o.Answers {
		j.longest = max(j.longest, answer.Received.Sub(since))
		since = max(since, answer.Received)
	}
	j.dark[a] = since
}
