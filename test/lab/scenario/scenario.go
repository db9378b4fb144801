// Package scenario breaks a running cluster in one way at a time and measures
// what a client sees: the rows of the demo, of the benchmark and of the
// end-to-end tests are the same code.
package scenario

import (
	"context"
	"time"

	"holdfast/test/lab"
)

// Promise is what a scenario is held to.
type Promise struct {
	// Gap is the longest time without an answer; 0: no probe is lost at all;
	// negative: nothing is promised.
	Gap time.Duration
	// Overlap is the longest time in which two hosts answer for the address or
	// claim it on the wire.
	Overlap time.Duration
	// Unfenced is the overlap on a host whose kernel has no fence with an
	// absolute deadline, where only the address's own lifetime ends it.
	Unfenced time.Duration
	// Table is the longest time in which the address stands in the tables of
	// two hosts. Behind a closed fence that is no overlap.
	Table time.Duration
	// Anywhere: the set may stay or move, both are as promised.
	Anywhere bool
	// Takeover says whether another host has the address in the end.
	Takeover bool
	// Grace is the time after the fault in which gaps do not count.
	Grace time.Duration
}

// Scenario is one fault of a holder.
type Scenario struct {
	Name    string
	Title   string
	Promise func(ttl time.Duration) Promise
	// Prepare brings the stage into the position that the fault needs; nil:
	// any position will do.
	Prepare func(context.Context, *Stage) error
	// Fault breaks something. Its start is the row's time zero.
	Fault func(context.Context, *Stage) error
	// After goes on when the cluster has come to rest after the fault, still
	// under measurement; nil: nothing.
	After func(context.Context, *Stage) error
	// Watch is how long a scenario without takeover is watched; with one it is
	// how long after the cluster has come to rest. 0: [shortWatch].
	Watch time.Duration
	// Clients are those that count: on the surviving side of a partition; nil:
	// all.
	Clients func(*Stage) []*lab.Host
	// Long ones take more than ten seconds.
	Long bool
	// Broken leaves the fault in place for the next scenario.
	Broken bool
}

// shortWatch is enough to see a late claim or a second takeover.
const shortWatch = 400 * time.Millisecond

// Times that the promises are made of.
const (
	// PowerOffSlack is what a takeover may take beyond the TTL: the promise's
	// margins, the fence, the commit and the announcement.
	PowerOffSlack = 250 * time.Millisecond
	// QuickProfile is the documented short TTL.
	QuickProfile = 500 * time.Millisecond
	// voluntary bounds the gap of every planned move.
	voluntary = 40 * time.Millisecond
	// janitor is how long the kernel may keep the address of an agent that does
	// not run any more beyond the takeover: lifetimes are whole seconds, up to
	// 4 s, and the kernel looks a little late.
	janitor = 4500 * time.Millisecond
	// unfenced is how long two hosts may answer where nothing but the lifetime
	// of a few addresses, 1 s, ends it.
	unfenced = 500 * time.Millisecond
)

// lapse is the promise of every fault that ends the lease by its time.
func lapse(ttl time.Duration) Promise {
	gap := ttl + PowerOffSlack
	if ttl == QuickProfile {
		gap = 700 * time.Millisecond
	}
	return Promise{Gap: gap, Takeover: true}
}

// lingering is lapse for a holder whose kernel goes on without its agent.
func lingering(ttl time.Duration) Promise {
	p := lapse(ttl)
	p.Unfenced, p.Table = unfenced, janitor
	return p
}

// survived is the promise of what should cost nothing and may cost the lease:
// the set stays or moves within the time of a lapse.
func survived(ttl time.Duration) Promise {
	p := lingering(ttl)
	p.Takeover, p.Anywhere = false, true
	return p
}

func planned(time.Duration) Promise { return Promise{Gap: voluntary, Takeover: true} }

func unmoved(time.Duration) Promise { return Promise{} }
