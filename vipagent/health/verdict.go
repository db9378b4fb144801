package health

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// State is what a check counts as.
type State int

// The states of a check. Unknown counts as bad.
const (
	Unknown State = iota
	Good
	Bad
)

// String names the state as status output shows it.
func (s State) String() string {
	switch s {
	case Good:
		return "good"
	case Bad:
		return "bad"
	}
	return "unknown"
}

// verdict turns the results of single runs into a state.
//
// The first run decides alone, whatever rise and fall are: the host is to be of
// use as soon as its services are, and rise and fall damp changes, of which this
// is none. (It is what keepalived does too.) A check that starts out as good or
// bad by configuration needs the usual number of results to change.
type verdict struct {
	state  State
	run    int    // results in a row against state
	weight int    // of the last good run of a read_weight check
	reason string // of the run that made it bad
}

func newVerdict(initial string) verdict {
	switch initial {
	case InitialGood:
		return verdict{state: Good}
	case InitialBad:
		return verdict{state: Bad, reason: "bad until proven good"}
	}
	return verdict{reason: "no result yet"}
}

// step takes the result of one run. The reason stays that of the run that
// changed the state: one that differs with each run would be a change each time.
func (v *verdict) step(c Check, weight int, err error) {
	if err == nil && v.state != Unknown {
		v.weight = weight // also while a bad one rises
	}
	next := Good
	if err != nil {
		next = Bad
	}
	if next == v.state {
		v.run = 0
		return
	}
	v.run++
	needed := c.Rise
	if next == Bad {
		needed = c.Fall
	}
	if v.state != Unknown && v.run < needed {
		return
	}
	*v = verdict{state: next, weight: weight}
	if err != nil {
		v.reason = shorten(err.Error(), 160)
	}
}

// condition is what one check in state v adds to the condition of a set.
func (v *verdict) condition(c Check) Condition {
	out := Condition{Pending: v.state == Unknown}
	good := v.state == Good
	if !good {
		out.Reason = c.Name + ": " + v.reason
	}
	switch {
	case c.ReadWeight:
		if good {
			out.Weight = v.weight
		}
	case c.Weight > 0 && good, c.Weight < 0 && !good:
		out.Weight = c.Weight
	case c.Weight == 0:
		out.Veto = !good
	}
	return out
}

// combine adds up what the checks say of one set, in the order of the checks.
func combine(parts []Condition) Condition {
	var out Condition
	var reasons []string
	for _, p := range parts {
		out.Weight += p.Weight
		out.Veto = out.Veto || p.Veto
		out.Pending = out.Pending || p.Pending
		if p.Reason != "" {
			reasons = append(reasons, p.Reason)
		}
	}
	out.Reason = shorten(strings.Join(reasons, "; "), 400)
	return out
}

// concerns tells whether the check has a say in the set.
func (c Check) concerns(set string) bool {
	return len(c.Sets) == 0 || slices.Contains(c.Sets, set)
}

// shorten makes text fit for one line of status: printable, at most limit bytes.
func shorten(text string, limit int) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	}), " ")
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit-3], "") + "..."
}

// budget is a timeout in time that this process was running. A process that is
// paused or starved sees its clock jump; of a jump only a little is spent, so
// that a run is not blamed for what it was not allowed to do.
type budget struct {
	left  time.Duration
	slice time.Duration // between two calls of spend
	last  time.Time
	// paused is set once a jump has been seen.
	paused bool
}

func newBudget(timeout time.Duration, now time.Time) *budget {
	return &budget{left: timeout, slice: max(timeout/10, time.Millisecond), last: now}
}

// minPause is the shortest jump that counts as a pause rather than as ordinary
// lateness of a timer.
const minPause = 50 * time.Millisecond

// spend is called about once per slice, and at the end; it tells whether the
// time is over.
func (b *budget) spend(now time.Time) bool {
	d := now.Sub(b.last)
	b.last = now
	if limit := 2 * b.slice; d > limit {
		b.paused = b.paused || d-b.slice > minPause
		d = limit
	}
	b.left -= d
	return b.left <= 0
}

// timeoutError says that a run's budget is spent.
type timeoutError struct{ after time.Duration }

func (e timeoutError) Error() string { return fmt.Sprintf("no result after %s", e.after) }
