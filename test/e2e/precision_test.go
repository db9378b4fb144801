package e2e

import (
	"context"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"holdfast/test/lab"
	"holdfast/test/lab/scenario"
)

// precisionVariable says how many precision runs there are; `make precision`
// sets it.
const precisionVariable = "HOLDFAST_PRECISION"

// stampError is how far a packet's stamp may be off: the kernel stamps it in
// one clock and holds the deadline in another.
const stampError = 50 * time.Microsecond

// No packet claims an address later than the deadline that the kernel holds,
// whenever its holder is frozen or killed: by IPv4, IPv6, ARP and neighbour
// discovery, each asked for every 2 ms.
func TestPrecision(t *testing.T) {
	runs := 4
	if n, err := strconv.Atoi(os.Getenv(precisionVariable)); err == nil {
		runs = n
	}
	n, _ := ownNetwork(t, lab.Standard())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Duration(runs)*5*time.Second)
	t.Cleanup(cancel)
	s, err := startStage(n, lab.ClusterConfig{TTL: scenario.QuickProfile})
	check(t, err)
	t.Cleanup(func() { check(t, s.Recorder.Close()) })
	asker, err := n.Clients[1].Ask(lab.ProbeEvery, s.VIPs...)
	check(t, err)
	t.Cleanup(func() { check(t, asker.Close()) })
	if s.Weak {
		runs = 0 // the weaker fence promises nothing to the millisecond
	}
	last := make(map[lab.ClaimKind][]time.Duration)
	for i := range runs {
		signal := []string{scenario.BySTOP, scenario.ByKILL}[i%2]
		l, err := s.Precision(ctx, signal)
		check(t, err)
		s.Recorder.Forget(lab.Now().Add(-time.Second))
		if late, kind := l.Latest(); late > stampError || l.Overlap.Max() > 2*stampError {
			t.Errorf("run %d, %s of %s, %v left: the last %s came %v after the deadline, overlap %+v", i+1, signal, l.Holder, l.Phase, kind, late, l.Overlap)
		}
		for _, kind := range scenario.Kinds() {
			late, seen := l.Last[kind]
			if !seen {
				t.Errorf("run %d: no %s was heard", i+1, kind)
			}
			last[kind] = append(last[kind], late)
		}
		if (i+1)%20 == 0 {
			t.Logf("%d runs", i+1)
		}
	}
	for _, kind := range scenario.Kinds() {
		if list := last[kind]; len(list) > 0 {
			slices.Sort(list)
			t.Logf("%-24s %d runs; last packet against the deadline: earliest %v, median %v, latest %v", kind, len(list), list[0], list[len(list)/2], list[len(list)-1])
		}
	}
}
