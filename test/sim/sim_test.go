package sim

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"
)

var (
	seedFlag    = flag.Int64("seed", -1, "simulate this seed alone, with a trace if -v is given")
	runsFlag    = flag.Int("runs", 300, "how many seeds to simulate")
	minutesFlag = flag.Float64("minutes", 10, "simulated minutes of each seed")
	firstFlag   = flag.Uint64("first", 1, "the first seed")
)

const shards = 2

// TestSimulation runs seeds until one of them finds a violation.
func TestSimulation(t *testing.T) {
	minutes := time.Duration(*minutesFlag * float64(time.Minute))
	if *seedFlag >= 0 {
		simulateOne(t, uint64(*seedFlag), minutes)
		return
	}
	debug.SetGCPercent(400)
	var mu sync.Mutex
	var totals Totals
	began := time.Now()
	t.Run("seeds", func(t *testing.T) {
		for shard := range shards {
			t.Run(fmt.Sprint(shard), func(t *testing.T) {
				t.Parallel()
				for i := shard; i < *runsFlag && !t.Failed(); i += shards {
					seed := *firstFlag + uint64(i)
					one, failure := Run(seed, minutes, nil)
					mu.Lock()
					totals.Add(one)
					mu.Unlock()
					if failure != "" {
						fmt.Printf("FOUND seed=%d time=%v\n", seed, one.Simulated)
						t.Errorf("seed %d: %s\nreplay it: go test ./test/sim -run TestSimulation -seed %d -minutes %v -v", seed, failure, seed, *minutesFlag)
					}
				}
			})
		}
	})
	t.Logf("%s\n%v on %d cores", totals, time.Since(began).Round(time.Millisecond), runtime.GOMAXPROCS(0))
	if missing := totals.missing(); !t.Failed() && *runsFlag >= 100 && *minutesFlag >= 5 && missing != "" {
		t.Errorf("the runs were too quiet to prove anything: %s", missing)
	}
}

func simulateOne(t *testing.T, seed uint64, d time.Duration) {
	var out *os.File
	if testing.Verbose() {
		out = os.Stdout
	}
	var totals Totals
	var failure string
	if out != nil {
		totals, failure = Run(seed, d, out)
	} else {
		totals, failure = Run(seed, d, nil)
	}
	t.Log(totals)
	if failure != "" {
		fmt.Printf("FOUND seed=%d time=%v\n", seed, totals.Simulated)
		t.Errorf("seed %d: %s", seed, failure)
	}
}
