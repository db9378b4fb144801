package vipagent

import (
	"context"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
)

const (
	// stallEvery is the shortest time between two reports of stalls; what comes
	// between is told with the next.
	stallEvery = 10 * time.Second
	// stallTold is how long a stall must be to be reported, if half a TTL is not
	// shorter.
	stallTold = 500 * time.Millisecond
	// stallTries is how often a report may be refused: a session that has ended is
	// followed by another, but older coordinators do not know the call.
	stallTries = 5
)

// stall is a time in which this process did not run.
type stall struct {
	lasted time.Duration
	ended  lease.Time
	more   int // shorter ones that it stands for
}

// with returns the longer of two, standing for both.
func (s stall) with(other stall) stall {
	switch {
	case s.lasted == 0:
		return other
	case other.lasted == 0:
		return s
	case other.lasted > s.lasted:
		s, other = other, s
	}
	s.more += other.more + 1
	return s
}

// stalls is what is to be reported of them. It belongs to the owner.
type stalls struct {
	waiting stall // lasted 0: nothing
	busy    bool
	refused int
	at      lease.Time // not before then
}

// add takes in a stall that is worth a report.
func (s *stalls) add(x stall, ttl time.Duration) {
	if x.lasted >= min(stallTold, ttl/2) {
		s.waiting = s.waiting.with(x)
	}
}

// sendStall tells the quorum that this process did not run for a time. That is for
// people who read the events, so it waits until there is a lease again: the
// session of before may have ended meanwhile.
func (o *owner) sendStall(now lease.Time) {
	s := &o.stalls
	if s.waiting.lasted == 0 || s.busy || !o.book.Alive(o.book.Current().ID, o.moment(now)) {
		return
	}
	if now < s.at {
		o.wakeBy(s.at)
		return
	}
	told := s.waiting
	s.waiting, s.busy = stall{}, true
	r := &pb.ReportStallRequest{
		Session: o.book.Current().ID, LastedMs: told.lasted.Milliseconds(), EndedMsAgo: now.Sub(told.ended).Milliseconds(), More: int32(told.more),
	}
	o.call(callLimit, func(ctx context.Context) func() {
		_, err := o.edges.Grants.ReportStall(ctx, r)
		return func() { o.stallTold(told, err) }
	})
}

func (o *owner) stallTold(told stall, err error) {
	s := &o.stalls
	s.busy = false
	if err == nil {
		s.refused, s.at = 0, o.now().Add(stallEvery)
		return
	}
	if refused(err) {
		s.refused++
	}
	s.at = o.now().Add(lookEvery)
	if s.refused >= stallTries {
		s.refused = 0
		o.journal.warn("stall not reported", "for", told.lasted.Round(time.Millisecond), "err", err)
		return
	}
	s.waiting = told.with(s.waiting)
}
