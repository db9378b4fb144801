package replica_test

import (
	"flag"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"holdfast/fsm/group"
)

var (
	runs   = flag.Int("runs", 400, "seeded runs of each kind of world")
	replay = flag.Uint64("seed", 0, "run this seed alone")
	length = flag.Int("length", 400, "moves of a run")
)

// weight makes what leads somewhere frequent, and faults rare, in a calm run more so.
func weight(m move, calm int) int {
	switch m.kind {
	case deliver, lead:
		return 60 * calm
	case syncLog, start, commit, grant, send, grow, fence, drain:
		return 24 * calm
	case view, write:
		return 12 * calm
	case life:
		return 6 * calm
	case lapse, reopen, lose, double, lateView, unclean, tick, rewind:
		return 4
	case stumble, wipe, configure, recall, join, leave, release:
		return 1
	}
	return 2
}

func syncOf(min int, p group.Policy) group.Settings {
	return group.Settings{Mode: group.Sync, MinInSync: min, Policy: p}
}

// worlds are those of the simulation.
func worlds() map[string]*settings {
	async := group.Settings{Mode: group.Async, MinInSync: 1, Policy: group.PolicyInSync}
	out := map[string]*settings{}
	with := func(name string, g group.Settings, change func(*settings)) {
		s := &settings{replicas: 3, group: g, other: g, mail: 6, batch: 2, window: 3, letters: true, lateViews: true, limit: map[kind]int{
			wipe: 0, stumble: 2, configure: 0, recall: 0, join: 0, leave: 0, unclean: 0, trim: 0, release: 1,
		}}
		change(s)
		out[name] = s
	}
	free := func(s *settings, of ...kind) {
		for _, k := range of {
			delete(s.limit, k)
		}
	}
	with("sync", syncOf(2, group.PolicyInSync), func(s *settings) {})
	with("two", syncOf(1, group.PolicyInSync), func(s *settings) { s.replicas = 2 })
	with("five", syncOf(3, group.PolicyInSync), func(s *settings) { s.replicas = 5; s.mail = 20 })
	with("set of one", syncOf(1, group.PolicyInSync), func(s *settings) { s.set = 1 })
	with("wipe", syncOf(1, group.PolicyInSync), func(s *settings) { free(s, wipe) })
	with("flush async", syncOf(1, group.PolicyInSync), func(s *settings) { s.flush = "async" })
	with("async", async, func(s *settings) { s.limit[power] = 0; s.limit[stumble] = 0 })
	with("unclean", syncOf(1, group.PolicyUnclean), func(s *settings) { free(s, unclean) })
	with("never", syncOf(2, group.PolicyNever), func(s *settings) {})
	with("read local", syncOf(2, group.PolicyInSync), func(s *settings) { s.group.ReadLocal = true; s.other = s.group })
	with("modes", syncOf(2, group.PolicyInSync), func(s *settings) {
		s.other = async
		free(s, configure)
		s.limit[power], s.limit[stumble] = 0, 0
	})
	with("minimum", syncOf(2, group.PolicyInSync), func(s *settings) { s.other = syncOf(1, group.PolicyInSync); free(s, configure, recall) })
	with("members", syncOf(1, group.PolicyInSync), func(s *settings) { s.spare = 1; s.mail = 8; free(s, join, leave, recall) })
	with("retention", syncOf(1, group.PolicyInSync), func(s *settings) { s.replicas = 3; free(s, trim, wipe, recall) })
	with("retention unclean", syncOf(1, group.PolicyUnclean), func(s *settings) { free(s, trim, unclean) })
	return out
}

// TestSimulation lets chance choose what happens, and judges after each move.
func TestSimulation(t *testing.T) {
	for _, name := range sorted(worlds()) {
		t.Run(name, func(t *testing.T) {
			s := worlds()[name]
			if *replay != 0 {
				simulate(t, s, *replay, &reached{})
				return
			}
			var all reached
			for n := range *runs {
				if simulate(t, s, uint64(n+1), &all); t.Failed() {
					return
				}
			}
			t.Logf("%+v", all)
			if all.Acked == 0 || all.Epochs < 2 || all.Cut == 0 {
				t.Errorf("too little was tried: %+v", all)
			}
		})
	}
}

func sorted[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// reached is what the runs came to.
type reached struct{ Acked, Read, Cut, Epochs, Moves int }

func simulate(t *testing.T, s *settings, seed uint64, all *reached) {
	chance := rand.New(rand.NewPCG(seed, 5))
	w := newWorld(s)
	calm := 1 << chance.IntN(5)
	var trace []move
	var moves []move
	for range *length * len(w.nodes) / 3 {
		moves = w.moves(moves[:0])
		total := 0
		for _, m := range moves {
			total += weight(m, calm)
		}
		at := chance.IntN(total)
		for _, m := range moves {
			if at -= weight(m, calm); at < 0 {
				trace = append(trace, m)
				w.do(m)
				break
			}
		}
		if w.trouble != "" {
			t.Errorf("seed %d, move %d: %s\nreplay with -run %s -seed %d -v\n%s", seed, len(trace), w.trouble, t.Name(), seed, story(trace))
			return
		}
	}
	if w.heal(); w.trouble != "" {
		t.Errorf("seed %d, after %d moves: %s\nreplay with -run %s -seed %d -v\n%s", seed, len(trace), w.trouble, t.Name(), seed, story(trace))
		return
	}
	if testing.Verbose() && *replay != 0 {
		t.Log(story(trace))
	}
	epochs := map[uint64]bool{}
	w.acked.each(func(v int) { epochs[w.written[v].epoch] = true })
	all.Acked += w.acked.len()
	all.Read += w.read.len()
	all.Cut += w.cut.len()
	all.Epochs = max(all.Epochs, len(epochs))
	all.Moves += len(trace)
}

func story(trace []move) string {
	var lines []string
	for _, m := range trace {
		lines = append(lines, m.String())
	}
	return strings.Join(lines, "\n")
}
