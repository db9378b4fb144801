package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"holdfast/coordinator/lease"
	"holdfast/fsm"
	"holdfast/vipagent/tenure"
)

// view is what one host has to know at one index.
type view = tenure.View

// world is one run of the simulator: one goroutine, one seed, no chance but its own.
type world struct {
	rng     *rand.Rand
	now     int64 // real time, ns
	queue   events
	params  lease.Params
	longest time.Duration // TTL in play
	wire    bool          // everything passes through its encoded form

	nodes  []*node
	riders []*rider
	net    network
	phase  phase
	calm   bool
	saved  fsm.RestoreSets

	history []*entry // all that is committed, by index
	head    *fsm.State
	truth   truth
	totals  Totals

	traced  bool
	out     io.Writer
	failure string
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

func (w *world) tracef(format string, args ...any) {
	if w.out != nil {
		fmt.Fprintf(w.out, "%12.6f  %s\n", float64(w.now)/1e9, fmt.Sprintf(format, args...))
	}
}

// fail ends the run with the first violation.
func (w *world) fail(format string, args ...any) {
	if w.failure != "" {
		return
	}
	w.failure = fmt.Sprintf("at %v: %s", time.Duration(w.now), fmt.Sprintf(format, args...))
	w.tracef("VIOLATION: %s", w.failure)
}

// newWorld makes the cluster of a seed.
func newWorld(seed uint64, out io.Writer) *world {
	w := &world{
		rng:    rand.New(rand.NewPCG(seed, 0x73696d756c617465)),
		params: lease.DefaultParams(), out: out, traced: out != nil, head: fsm.New(),
		wire: seed%16 == 5,
	}
	if w.chance(50) { // rates at which a missing margin shows
		w.params = lease.Params{Rho: 0.05, Margin: time.Millisecond}
	}
	ttls := []time.Duration{time.Second, 1500 * time.Millisecond, 2 * time.Second, 3 * time.Second, 5 * time.Second, 10 * time.Second}
	for i := range maxNodes {
		n := &node{w: w, id: i, name: nodeName(i), clock: w.newClock()}
		w.nodes = append(w.nodes, n)
	}
	for i := range 2 + w.rng.IntN(maxHosts-1) {
		ttl := ttls[w.rng.IntN(len(ttls))]
		w.longest = max(w.longest, ttl)
		w.riders = append(w.riders, &rider{
			host: &host{name: hostName(i), ttl: ttl}, w: w, id: i, link: maxNodes + i, clock: w.newClock(),
		})
	}
	w.calm = true
	first := &entry{index: 1, term: 1, config: &config{Configuration: lease.Configuration{Index: 1, Voters: []string{"c0", "c1", "c2"}}}}
	for i, n := range w.nodes {
		if i < 3 {
			n.disk.term = 1
			n.disk.append(first)
		}
		n.start(false)
	}
	w.commit(first)
	for _, r := range w.riders {
		r.boots()
	}
	return w
}

func (w *world) newClock() clock {
	ppm := int64(w.params.Rho * million)
	rates := [...]int64{-ppm, ppm, 0, w.rng.Int64N(2*ppm+1) - ppm}
	return clock{local: w.rng.Int64N(int64(1000 * time.Second)), ppm: rates[w.rng.IntN(len(rates))]}
}

// committed returns the entry that is committed at an index, nil if there is none.
func (w *world) committed(index uint64) *entry {
	if index == 0 || index > uint64(len(w.history)) {
		return nil
	}
	return w.history[index-1]
}

// commit takes in that an entry is committed, and what that brings about.
func (w *world) commit(e *entry) {
	if e.index != uint64(len(w.history))+1 {
		w.fail("entry %d is committed behind entry %d: the simulation's log is wrong", e.index, len(w.history))
		return
	}
	w.history = append(w.history, e)
	w.totals.Cluster.Entries++
	before := w.truth
	switch {
	case e.config != nil:
		w.head.SetConfiguration(e.index)
	case e.bytes != nil:
		// One that a newer program wrote must stop this one, and change nothing.
		newer := bytes.Replace(e.bytes, []byte(`"ops":[`), []byte(`"ops":[{"op":"of-a-newer-version"},`), 1)
		if _, err := w.head.Apply(e.index, newer); !errors.Is(err, fsm.ErrUnknownOp) {
			w.fail("an entry with an unknown command was applied: %v", err)
		}
		w.applied(e, func() (fsm.Result, error) { return w.head.Apply(e.index, e.bytes) })
	case len(e.command.Ops) > 0:
		w.applied(e, func() (fsm.Result, error) { return w.head.ApplyEntry(e.index, e.command) })
	}
	if len(e.command.Ops) > 0 {
		if _, err := w.head.ApplyEntry(e.index, e.command); err == nil {
			w.fail("entry %d was applied twice", e.index)
		}
	}
	e.after = w.head.Clone()
	for i, r := range w.riders {
		v := viewOf(e.after, r.name)
		if last := w.committed(e.index - 1); last != nil && sameView(last.views[i], v) {
			v = last.views[i]
		}
		e.views[i] = v
	}
	w.judge(e, &before)
}

func (w *world) applied(e *entry, apply func() (fsm.Result, error)) {
	res, err := apply()
	if err != nil {
		w.fail("apply entry %d: %v", e.index, err)
	}
	e.result = res
	if w.traced {
		for i, op := range res.Ops {
			w.tracef("entry %d: %s %+v: %v", e.index, e.command.Ops[i].Kind(), short(e.command.Ops[i]), op.Refusal)
		}
	}
	for _, op := range res.Ops {
		if op.Refusal != nil {
			w.totals.Cluster.Refused++
		}
	}
}

// short hides what nobody wants to read of an op.
func short(op fsm.Op) any {
	switch op := op.(type) {
	case fsm.OpenSession:
		return fmt.Sprint(op.Host, " ", op.TTL)
	case fsm.GrantSet:
		return fmt.Sprintf("%s to session %d", op.Set, op.Session)
	case fsm.PutSet:
		return fmt.Sprintf("%s %v", op.Set.Name, op.Set.Addresses)
	case fsm.RestoreSets:
		return len(op.Sets)
	}
	return op
}

// run runs until a real time, or to the first violation.
func (w *world) run(until int64) {
	for w.failure == "" && len(w.queue.heap) > 0 && w.queue.heap[0].at <= until {
		e := w.queue.pop()
		w.now = e.at
		w.totals.Events++
		e.do()
	}
	if w.failure == "" {
		w.now = until
	}
}

// Run simulates one seed for so much time and returns what happened, and the first
// violation, "" = none. If out is not nil it gets a trace.
func Run(seed uint64, d time.Duration, out io.Writer) (Totals, string) {
	w := newWorld(seed, out)
	w.settle()
	w.phases(int64(d))
	w.totals.Runs = 1
	w.totals.Simulated = time.Duration(w.now)
	return w.totals, w.failure
}

// settle lets a first leader be elected and the first sets be put.
func (w *world) settle() {
	w.run(2 * int64(time.Second))
	for i := range 1 + w.rng.IntN(3) {
		set := fsm.Set{Name: sets[i], Candidates: w.candidates(), Preempt: w.chance(50)}
		set.Addresses = []fsm.Address{{Prefix: prefixes[i]}}
		if w.chance(50) {
			set.Addresses = append(set.Addresses, fsm.Address{Prefix: prefixes[3+i]})
		}
		w.operate(fsm.PutSet{Set: set})
	}
	w.run(4 * int64(time.Second))
	w.saved = w.head.Saved("saved")
}

func (w *world) candidates() []fsm.Candidate {
	var out []fsm.Candidate
	for i, p := range w.rng.Perm(len(w.riders)) {
		out = append(out, fsm.Candidate{Host: hostName(i), Priority: 10 * (p + 1)})
	}
	return out
}
