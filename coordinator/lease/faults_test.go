package lease_test

import (
	"flag"
	"testing"

	"holdfast/coordinator/lease"
)

var (
	seedFlag = flag.Uint64("seed", 0, "run only this seed of the simulation, with its trace")
	runsFlag = flag.Uint64("runs", 2500, "runs of the simulation")
)

// fault is a planted mistake in what surrounds the real types: in when a clock is
// read, in what reaches the disk, in what is counted for what.
type fault struct {
	fromReceipt, largest, openLeases, adoptedValid, roundsAgain   bool
	noQuiet, shortQuiet, oneOfThree, noFence, promiseIgnored      bool
	markInMemory, markNotSticky, markDeletedEarly                 bool
	noRate, halfRate, clockBeforeReceipt, closedAnswered          bool
	answersTogether, agreementsTogether, anyConfiguration, behind bool
	noWait, ownLongestOnly, repeatCounts, unprovenIsLapsed        bool
}

// faults are the mistakes that the simulation must find; a fault that it does not
// find means that the simulation has gone blind.
var faults = []struct {
	name string
	fault
}{
	{"counting from receipt", fault{fromReceipt: true}},
	{"largest instead of majority-th send time", fault{largest: true}},
	{"a repeated round counts from when it was repeated", fault{repeatCounts: true}},
	{"opening a session gives a lease", fault{openLeases: true}},
	{"an adopted session is taken for valid", fault{adoptedValid: true}},
	{"round numbers start again", fault{roundsAgain: true}},
	{"no quiet time", fault{noQuiet: true}},
	{"quiet time too short", fault{shortQuiet: true}},
	{"fence by one of three", fault{oneOfThree: true}},
	{"expire without fence", fault{noFence: true}},
	{"fence before the promise has lapsed", fault{promiseIgnored: true}},
	{"fence because the last renewal was not proven", fault{unprovenIsLapsed: true}},
	{"mark in memory only", fault{markInMemory: true}},
	{"mark not sticky", fault{markNotSticky: true}},
	{"mark deleted from disk before a snapshot has the end", fault{markDeletedEarly: true}},
	{"no rate margin", fault{noRate: true}},
	{"rate margin of L(1+rho) only", fault{halfRate: true}},
	{"coordinator's clock read before receipt", fault{clockBeforeReceipt: true}},
	{"answers for a session that is not open", fault{closedAnswered: true}},
	{"answers of several configurations counted together", fault{answersTogether: true}},
	{"agreements of several configurations counted together", fault{agreementsTogether: true}},
	{"answers for another configuration than its own", fault{anyConfiguration: true}},
	{"answers before the previous configuration is applied", fault{behind: true}},
	{"no wait after a configuration change", fault{noWait: true}},
	{"configuration wait of the own longest TTL only", fault{ownLongestOnly: true}},
}

func runSeed(t *testing.T, seed uint64, f fault) (*sim, string) {
	s := newSim(seed, f)
	if *seedFlag != 0 {
		s.trace = func(line string) { t.Log(line) }
	}
	return s, s.run()
}

// TestSimulation finds no violation, and shows that the runs were worth something.
func TestSimulation(t *testing.T) {
	if *seedFlag != 0 {
		if _, failure := runSeed(t, *seedFlag, fault{}); failure != "" {
			t.Errorf("seed %d: %s", *seedFlag, failure)
		}
		return
	}
	var sum stats
	for seed := uint64(1); seed <= *runsFlag; seed++ {
		s, failure := runSeed(t, seed, fault{})
		if failure != "" {
			t.Fatalf("seed %d: %s\nreplay: go test ./coordinator/lease -run TestSimulation -v -seed %d", seed, failure, seed)
		}
		sum.add(s.stats)
	}
	t.Logf("%d runs: %+v", *runsFlag, sum)
	for i, n := range sum.verdicts[:lease.DropSession] {
		if n == 0 {
			t.Errorf("no renewal was ever %q", lease.Verdict(i))
		}
	}
	for i, n := range sum.fences[:lease.RefusedUnknown] {
		if n == 0 {
			t.Errorf("no fence was ever %q", lease.FenceVerdict(i))
		}
	}
	for name, n := range map[string]int{"proven": sum.proven, "expired": sum.expired, "adopted": sum.adopted,
		"reconfigured": sum.reconfigured, "cut back": sum.cuts} {
		if n < int(*runsFlag)/5 {
			t.Errorf("%s only %d times in %d runs", name, n, *runsFlag)
		}
	}
}

func (s *stats) add(o stats) {
	s.proven += o.proven
	s.expired += o.expired
	s.reconfigured += o.reconfigured
	s.cuts += o.cuts
	s.adopted += o.adopted
	s.late += o.late
	for i, n := range o.verdicts {
		s.verdicts[i] += n
	}
	for i, n := range o.fences {
		s.fences[i] += n
	}
}

// TestSimulationFindsFaults plants each fault and must see it found.
func TestSimulationFindsFaults(t *testing.T) {
	const limit = 20_000
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			if *seedFlag != 0 {
				_, failure := runSeed(t, *seedFlag, f.fault)
				t.Logf("seed %d: %q", *seedFlag, failure)
				return
			}
			for seed := uint64(1); seed <= limit; seed++ {
				if _, failure := runSeed(t, seed, f.fault); failure != "" {
					t.Logf("seed %d: %s", seed, failure)
					return
				}
			}
			t.Errorf("not found in %d runs", limit)
		})
	}
}
