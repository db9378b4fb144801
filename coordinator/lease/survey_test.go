package lease_test

import (
	"testing"
	"time"

	"holdfast/coordinator/lease"
)

// Leader rule 1: what the probes of one session say together.
func TestLeaderRule1Survey(t *testing.T) {
	lapsed := lease.Probe{Lapsed: true}
	marked := lease.Probe{Lapsed: true, Marked: true}
	markedRuns := lease.Probe{Marked: true, Remaining: time.Second} // its configuration wait
	runs := func(ms int) lease.Probe { return lease.Probe{Remaining: time.Duration(ms) * time.Millisecond} }
	for name, c := range map[string]struct {
		voters         int
		probes         []lease.Probe
		fence, decided bool
		again          time.Duration // 0 = cannot be told
	}{
		"nobody has answered":           {3, nil, false, false, 0},
		"one has lapsed":                {3, []lease.Probe{lapsed}, false, false, 0},
		"a majority has lapsed":         {3, []lease.Probe{lapsed, lapsed}, true, true, 0},
		"a majority runs":               {3, []lease.Probe{runs(30), runs(10)}, false, true, 30 * time.Millisecond},
		"one runs":                      {3, []lease.Probe{lapsed, runs(10)}, false, false, 10 * time.Millisecond},
		"all but one run":               {3, []lease.Probe{runs(30), lapsed, runs(10)}, false, true, 10 * time.Millisecond},
		"one has marked it":             {3, []lease.Probe{marked}, true, false, 0},
		"one has marked it, two run":    {3, []lease.Probe{marked, runs(30), runs(10)}, true, false, 10 * time.Millisecond},
		"marked, and its wait runs":     {3, []lease.Probe{markedRuns, runs(10)}, true, false, time.Second},
		"two of four are no majority":   {4, []lease.Probe{lapsed, lapsed}, false, false, 0},
		"two of four that run are none": {4, []lease.Probe{runs(10), runs(20)}, false, true, 0},
		"three of five":                 {5, []lease.Probe{lapsed, lapsed, lapsed}, true, true, 0},
		"two of five":                   {5, []lease.Probe{lapsed, lapsed, runs(20), runs(10)}, false, false, 10 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			s := &lease.Survey{}
			for _, p := range c.probes {
				s.Add(p)
			}
			if got := s.Fence(c.voters); got != c.fence {
				t.Errorf("fence: %v, want %v", got, c.fence)
			}
			if got := s.Decided(c.voters); got != c.decided {
				t.Errorf("decided: %v, want %v", got, c.decided)
			}
			if again, ok := s.Again(c.voters); again != c.again || ok != (c.again != 0) {
				t.Errorf("again after %v, %v, want %v", again, ok, c.again)
			}
		})
	}
}
