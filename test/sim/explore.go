package sim

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"holdfast/fsm"
)

// bounds are one configuration of the checker: what is there, and how often each thing
// may happen. Within them everything is tried.
type bounds struct {
	name     string
	about    string
	hosts    int     // that have a session
	active   int     // of those that do something; the others are there to be granted to
	voters   int     // of the first configuration
	sets     [][]int // addresses of each set
	ticks    int8
	hostRate [modelHosts]int64 // units in a tick: 1 is as slow, 3 as fast as may be
	nodeRate [modelNodes]int64
	budget   budget
	slowDisk bool // marks take time to get to the disk
	recalls  bool
	lag      bool // coordinators apply late
	bare     bool // hosts have no fence, and agents are in time
	slowTTL  bool // who joins has not yet written that it may promise anything
	silent   bool // agents do nothing more
	once     bool // rounds are not repeated
	wild     bool // commands come that must be refused
	disk     bool // session files outlive a reboot, after which the clock begins anew
	shared   bool // planted: the fence has one deadline for all sessions
	edits    []func(m *model) []fsm.Op
	changes  [][]int // voters of the configurations to come
	setup    func(m *model)
	must     string // commands that must have been committed somewhere, or nothing was proved
}

func (b *bounds) kernel() kernel { return kernel{bare: b.bare, shared: b.shared} }

// guard is how long before its deadline an agent takes its addresses down: where
// nothing but the agent does that, it must be no less.
func (b *bounds) guard() time.Duration {
	if b.bare {
		return 1
	}
	return 0
}

// role says in which configurations a coordinator is.
func (b *bounds) role(node int) byte {
	role := flags(node < b.voters)
	for i, voters := range b.changes {
		role |= flags(slices.Contains(voters, node)) << (i + 1)
	}
	return role
}

// Report says what a check has seen.
type Report struct {
	Name           string
	States, Moves  int
	Depth, Widest  int // the widest level is what has to be held in memory
	Complete       bool
	Missing        string // commands that were never committed although they should be
	Took           time.Duration
	Failure, Trace string
}

func (r Report) String() string {
	complete := "complete"
	if !r.Complete {
		complete = "NOT complete"
	}
	return fmt.Sprintf("%-28s %9d states %10d moves, depth %2d, at most %6d at one depth, %s, %.1f s", r.Name, r.States, r.Moves, r.Depth, r.Widest, complete, r.Took.Seconds())
}

// origin is how a state was reached first: on the shortest way.
type origin struct {
	from uint32
	nth  uint32 // of the moves of the state before
}

// explorer visits all states, breadth first.
type explorer struct {
	b       *bounds
	seeds   [2]maphash.Seed
	seen    map[[2]uint64]struct{}
	origins []origin
	scratch []byte
	done    map[string]bool // kinds of commands that were committed
	report  Report
}

// check visits every state within the bounds, at most so many, and stops at the first
// violation.
func check(b *bounds, most int) Report {
	x := &explorer{b: b, seen: make(map[[2]uint64]struct{}), done: make(map[string]bool), report: Report{Name: b.name}}
	x.seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	began := time.Now()
	x.run(most)
	x.report.States, x.report.Took = len(x.seen), time.Since(began)
	for _, kind := range strings.Fields(b.must) {
		if !x.done[kind] {
			x.report.Missing += kind + " "
		}
	}
	return x.report
}

func (x *explorer) fresh(m *model) bool {
	x.scratch = m.key(x.scratch[:0])
	k := [2]uint64{maphash.Bytes(x.seeds[0], x.scratch), maphash.Bytes(x.seeds[1], x.scratch)}
	if _, ok := x.seen[k]; ok {
		return false
	}
	x.seen[k] = struct{}{}
	return true
}

type visit struct {
	id uint32
	m  *model
}

func (x *explorer) run(most int) {
	first := begin(x.b)
	x.fresh(first)
	x.origins = append(x.origins, origin{})
	level := []visit{{0, first}}
	for len(level) > 0 {
		var next []visit
		for i, v := range level {
			level[i].m = nil
			nth := uint32(0)
			v.m.moves(func(_ move, n *model) {
				x.report.Moves++
				nth++
				if x.report.Failure != "" || n.failure == "" && !x.fresh(n) {
					return
				}
				x.note(v.m, n)
				x.origins = append(x.origins, origin{v.id, nth - 1})
				id := uint32(len(x.origins) - 1)
				if n.failure != "" {
					x.report.Failure = n.failure
					x.report.Depth++
					x.report.Trace = x.trace(id)
					return
				}
				next = append(next, visit{id, n})
			})
			if x.report.Failure != "" || len(x.seen) >= most {
				return
			}
		}
		if len(next) > 0 {
			x.report.Depth++
		}
		x.report.Widest = max(x.report.Widest, len(next))
		level = next
	}
	x.report.Complete = true
}

// note notes which commands a move has committed.
func (x *explorer) note(from, to *model) {
	for i := from.known; i < to.known; i++ {
		e := to.log[i]
		if e.config != nil {
			x.done["configuration"] = true
		}
		for j, op := range e.ops {
			if e.result.Ops[j].Refusal == nil {
				x.done[op.Kind()] = true
			}
		}
	}
}

// begin is the first state of the bounds.
func begin(b *bounds) *model {
	m := newModel(b)
	m.left = b.budget
	if b.setup != nil {
		b.setup(m)
	}
	m.judge()
	return m
}

// trace replays the way to a state and tells it.
func (x *explorer) trace(id uint32) string {
	var way []uint32
	for ; id != 0; id = x.origins[id].from {
		way = append(way, x.origins[id].nth)
	}
	var text strings.Builder
	m := begin(x.b)
	for i := len(way) - 1; i >= 0; i-- {
		nth := uint32(0)
		var then *model
		m.moves(func(v move, n *model) {
			if nth == way[i] {
				then = n
				fmt.Fprintf(&text, "%3d. t=%d %v", len(way)-i, m.now, v)
				for j := len(m.log); j < len(n.log); j++ {
					fmt.Fprintf(&text, "; entry %d: %s", j+1, n.log[j].describe())
				}
				fmt.Fprintln(&text)
			}
			nth++
		})
		m = then
	}
	fmt.Fprintf(&text, "     %s\n", m.failure)
	return text.String()
}

func (e *logged) describe() string {
	if e.config != nil {
		return fmt.Sprint("configuration ", e.config.Voters)
	}
	var out []string
	for i, op := range e.ops {
		word := fmt.Sprintf("%s %v", op.Kind(), short(op))
		if i < len(e.result.Ops) && e.result.Ops[i].Refusal != nil {
			word += " (refused)"
		}
		out = append(out, word)
	}
	return strings.Join(out, ", ")
}
