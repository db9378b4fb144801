package fsm

import "sort"

// Changes returns the rows of the audit ring with Index >= from, oldest first.
// Rows that the ring has dropped are missing without a sign: compare the first
// row's Index with from.
func (s *State) Changes(from uint64) []Change {
	first := sort.Search(len(s.audit), func(i int) bool { return s.audit[i].Index >= from })
	return s.audit[first:len(s.audit):len(s.audit)]
}

// remember appends rows to the audit ring. Rows that were handed out or are
// shared with a clone stay as they are: the ring drops its oldest rows by
// moving its start, and is copied when it has reached the end of its array.
func (s *State) remember(rows []Change) {
	if len(rows) == 0 {
		return
	}
	s.audit = append(s.audit, rows...)
	if over := len(s.audit) - AuditRing; over > 0 {
		s.audit = s.audit[over:]
	}
}
