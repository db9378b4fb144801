package vipagent

import (
	"context"
	"sync/atomic"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/fault"
)

// slot is one session as the goroutines of the agent share it. Each session has
// a slot of its own, with a deadline of its own (agent rule 4).
type slot struct {
	lease.Session
	// deadline is absolute, CLOCK_BOOTTIME; 0 = never proven. Only the renewer
	// writes it, and only what answers have proven.
	deadline atomic.Int64
	fenced   atomic.Bool // some coordinator has marked it
	retired  atomic.Bool // never acts again, whatever is still answered
	// store sets the deadline in the kernel.
	store func(lease.Time)
	// ahead is told when a lapsed deadline lies ahead again.
	ahead chan struct{}
}

func newSlot(s lease.Session) *slot {
	return &slot{Session: s, ahead: make(chan struct{}, 1), store: func(lease.Time) {}}
}

// until returns the deadline, 0 if there is none.
func (s *slot) until() lease.Time {
	if s.retired.Load() {
		return 0
	}
	return lease.Time(s.deadline.Load())
}

// slots are those of the sessions in use, by id.
type slots map[uint64]*slot

// Lease is for [tenure.Leases].
func (s slots) Lease(session uint64) (deadline lease.Time, fenced bool) {
	if x := s[session]; x != nil {
		return x.until(), x.fenced.Load()
	}
	return 0, false
}

// publish makes a proven deadline known, to the kernel before anybody else: it
// is the first thing that is done with it.
func (s *slot) publish(now, deadline lease.Time) {
	if s.retired.Load() {
		return
	}
	fault.Point(fault.Store)
	s.store(deadline)
	before := s.deadline.Swap(int64(deadline))
	if lease.Time(before) <= now.Add(guardMax(s.TTL)) {
		select {
		case s.ahead <- struct{}{}:
		default:
		}
	}
}

// watch sleeps until the session's deadline less the guard, and calls lapsed
// each time it is reached without having moved on.
func (s *slot) watch(ctx context.Context, clock Clock, guard *atomic.Int64, lapsed func()) {
	for {
		limit := s.until() - lease.Time(guard.Load())
		if clock.Now() < limit {
			if clock.SleepUntil(ctx, limit) != nil {
				return
			}
			if s.until()-lease.Time(guard.Load()) > limit {
				continue
			}
		}
		lapsed()
		select {
		case <-s.ahead:
		case <-ctx.Done():
			return
		}
	}
}
