package lease

import (
	"slices"
	"time"
)

// Survey counts what the voters say of one session before anybody is asked to fence
// it (leader rule 1).
type Survey struct {
	lapsed, marked int
	running        []time.Duration // what is left of promises that have not lapsed
}

// Add counts one voter's word.
func (s *Survey) Add(p Probe) {
	if p.Marked {
		s.marked++
	}
	if p.Lapsed {
		s.lapsed++
		return
	}
	s.running = append(s.running, p.Remaining)
}

// Decided says whether the answers that are still out can change anything. Of a
// session that somebody has marked everybody is heard.
func (s *Survey) Decided(voters int) bool {
	majority := voters/2 + 1
	return s.lapsed >= majority || len(s.running) > voters-majority && s.marked == 0
}

// Fence says whether the session is to be fenced: a majority would agree, or
// somebody has marked it already, so that marks left by a dead leader do not
// linger. A holder that still reaches a majority of coordinators is known to one
// of any majority, and so is never fenced.
func (s *Survey) Fence(voters int) bool {
	return s.lapsed >= voters/2+1 || s.marked > 0
}

// Again says after how long enough promises will have lapsed; false if too few
// have answered to tell.
func (s *Survey) Again(voters int) (time.Duration, bool) {
	majority := voters/2 + 1
	if s.lapsed >= majority || s.lapsed+len(s.running) < majority {
		return 0, false
	}
	running := slices.Sorted(slices.Values(s.running))
	return running[majority-s.lapsed-1], true
}
