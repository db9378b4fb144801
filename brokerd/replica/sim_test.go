package replica_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"holdfast/brokerd/replica"
)

var (
	runs = flag.Int("runs", 1500, "seeded runs of each kind of world")
	seed = flag.Uint64("seed", 0, "run this seed alone, and show what happens")
)

// weight makes what leads somewhere frequent, and faults rare, in a
// calm run more so.
func weight(m move, calm int) int {
	switch m.kind {
	case "deliver", "lead":
		return 60 * calm
	case "sync", "start", "commit", "grant", "batch", "grow", "fence":
		return 24 * calm
	case "view", "write":
		return 12 * calm
	case "lapse", "lose", "double", "late view", "unclean", "recontact", "repeat":
		return 4
	}
	return 1
}

// kinds are the worlds of the simulation.
func kinds() map[string]settings {
	sync := func(min int, policy replica.Policy) replica.Settings {
		return replica.Settings{Mode: replica.Sync, MinInSync: min, Policy: policy}
	}
	async := replica.Settings{Mode: replica.Async, MinInSync: 1, Policy: replica.PolicyInSync}
	base := settings{replicas: 3, mail: 6, letters: true, oldViews: true}
	with := func(change func(*settings)) settings { s := base; change(&s); return s }
	return map[string]settings{
		"sync":        with(func(s *settings) { s.group = sync(2, replica.PolicyInSync); s.loseData = true }),
		"sync of two": with(func(s *settings) { s.replicas, s.group, s.loseData = 2, sync(1, replica.PolicyInSync), true }),
		"set of one":  with(func(s *settings) { s.group, s.set, s.loseData = sync(1, replica.PolicyInSync), 1, true }),
		"wipe": with(func(s *settings) {
			s.group, s.wipe, s.loseData = sync(1, replica.PolicyInSync), true, true
		}),
		"flush async": with(func(s *settings) {
			s.group, s.flushAsync, s.loseData = sync(1, replica.PolicyInSync), true, true
		}),
		"async":       with(func(s *settings) { s.group = async }),
		"unclean":     with(func(s *settings) { s.group = sync(1, replica.PolicyUnclean); s.set, s.loseData = 1, true }),
		"never":       with(func(s *settings) { s.group = sync(2, replica.PolicyNever); s.loseData = true }),
		"reconfigure": with(func(s *settings) { s.group, s.configure = sync(2, replica.PolicyInSync), true }),
	}
}

// TestSimulation lets chance choose what happens, and judges after each move.
func TestSimulation(t *testing.T) {
	for name, s := range kinds() {
		t.Run(name, func(t *testing.T) {
			reached := map[string]int{}
			if *seed != 0 {
				simulate(t, s, *seed, reached)
				return
			}
			for n := range *runs {
				if simulate(t, s, uint64(n+1), reached); t.Failed() {
					return
				}
			}
			t.Log(reached)
			if reached["acked"] == 0 || reached["epochs"] < 2 {
				t.Errorf("nothing was tried: %v", reached)
			}
		})
	}
}

func simulate(t *testing.T, s settings, seed uint64, reached map[string]int) {
	chance := rand.New(rand.NewPCG(seed, 5))
	w := newWorld(s)
	calm := 1 << chance.IntN(4)
	var trace []string
	for range 400 {
		moves := w.moves()
		total := 0
		for _, m := range moves {
			total += weight(m, calm)
		}
		at := chance.IntN(total)
		for _, m := range moves {
			if at -= weight(m, calm); at < 0 {
				trace = append(trace, fmt.Sprint(m))
				w.do(m)
				break
			}
		}
		if w.trouble != "" {
			t.Errorf("seed %d, move %d: %s\n%s", seed, len(trace), w.trouble, strings.Join(trace, "\n"))
			return
		}
	}
	reached["acked"] += len(w.acked)
	reached["cut"] += len(w.cut)
	reached["read"] += len(w.read)
	leads := uint64(0)
	for p := range w.written {
		leads = max(leads, p.epoch)
	}
	epochs := map[uint64]bool{}
	for p := range w.acked {
		epochs[p.epoch] = true
	}
	reached["epochs"] = max(reached["epochs"], len(epochs))
	if testing.Verbose() && *runs == 1 {
		t.Log(strings.Join(trace, "\n"))
	}
}
