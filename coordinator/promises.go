package coordinator

import (
	"context"
	"fmt"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
	"holdfast/fsm"
)

// HandleDatagram answers one renewal. It needs no leader and no disk; what
// cannot be answered is dropped, as a lost datagram would be. from is the
// sender's gossip name.
func (c *Coordinator) HandleDatagram(from string, datagram []byte) {
	now := c.Boottime() // after receipt: coordinator rule 1
	r, err := lease.ParseRenewal(datagram)
	if err != nil {
		c.Logger.Debug("datagram dropped", "from", from, "err", err)
		return
	}
	answer, err := c.renew(now, r)
	if err == nil && answer != nil {
		err = c.Datagrams.Send(from, answer)
	}
	if err != nil {
		c.Logger.Debug("renewal not answered", "from", from, "session", r.Session, "err", err)
	}
}

// renew returns the answer's datagram, or nil for none. It holds the state's
// read lock until the promise is made, so that the session's end is applied
// either before (no answer) or after it (the promise was lawful).
func (c *Coordinator) renew(now lease.Time, r lease.UnverifiedRenewal) ([]byte, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s, open := c.state.Session(fsm.SessionID(r.Session))
	if !open {
		return nil, nil // coordinator rule 3
	}
	renewal, err := r.Verify(&s.Secret)
	if err != nil {
		return nil, err
	}
	c.voterMu.Lock()
	defer c.voterMu.Unlock()
	wasProven, _ := c.voter.Proven(now, renewal.Session)
	answer, verdict := c.voter.Renew(now, leaseSession(s), renewal)
	if !verdict.Send() {
		return nil, fmt.Errorf("dropped: %s", verdict)
	}
	c.noteFence(now, renewal)
	if proven, _ := c.voter.Proven(now, renewal.Session); proven && !wasProven {
		c.wake() // a host came alive: the scheduler may want to use it
	}
	return answer.Marshal(&s.Secret)
}

// leaseSession is the part of a session that the lease knows.
func leaseSession(s *fsm.Session) lease.Session {
	return lease.Session{ID: uint64(s.ID), TTL: s.TTL, Secret: s.Secret}
}

// openSessions returns those of ids that are open in the applied state. No
// other session is fenced here: it was never promised anything, and its end
// may have been applied, which is when its mark is deleted.
func (c *Coordinator) openSessions(ids []uint64) map[uint64]lease.Session {
	c.mu.RLock()
	defer c.mu.RUnlock()
	open := make(map[uint64]lease.Session, len(ids))
	for _, id := range ids {
		if s, ok := c.state.Session(fsm.SessionID(id)); ok {
			open[id] = leaseSession(s)
		}
	}
	return open
}

// maxAsked bounds the sessions of one question.
const maxAsked = 10_000

func checkAsked(sessions []uint64) error {
	if len(sessions) > maxAsked {
		return &fsm.Refusal{Code: fsm.CodeInvalid, Message: fmt.Sprintf("%d sessions in one question, at most %d", len(sessions), maxAsked)}
	}
	return nil
}

// Probe tells for each session whether this coordinator would agree to fence
// it now. It marks nothing.
func (c *Coordinator) Probe(_ context.Context, r *pb.ProbeRequest) (*pb.ProbeReply, error) {
	if err := checkAsked(r.Sessions); err != nil {
		return nil, err
	}
	open := c.openSessions(r.Sessions)
	now := c.Boottime()
	reply := &pb.ProbeReply{}
	c.voterMu.Lock()
	defer c.voterMu.Unlock()
	for _, id := range r.Sessions {
		s, ok := open[id]
		if !ok {
			continue // not opened yet here, or ended: no evidence
		}
		p := c.voter.Probe(now, s)
		reply.Results = append(reply.Results, &pb.ProbeResult{
			Session: id, Lapsed: p.Lapsed, Marked: p.Marked, RemainingNs: int64(p.Remaining),
		})
	}
	return reply, nil
}

// Fence agrees to the end of the sessions whose promise here has lapsed. The
// marks are on disk before the agreements are given.
func (c *Coordinator) Fence(_ context.Context, r *pb.FenceRequest) (*pb.FenceReply, error) {
	if err := checkAsked(r.Sessions); err != nil {
		return nil, err
	}
	reply := &pb.FenceReply{Coordinator: c.Name}
	results := make(map[uint64]*pb.FenceResult, len(r.Sessions))
	var pending []uint64
	open := c.openSessions(r.Sessions)
	c.voterMu.Lock()
	for _, id := range r.Sessions {
		res := &pb.FenceResult{Session: id}
		results[id] = res
		reply.Results = append(reply.Results, res)
		s, ok := open[id]
		if !ok {
			res.Refusal = "not open here"
			continue
		}
		out := c.voter.Fence(c.Boottime(), s)
		if out.Verdict == lease.FencePending {
			pending = append(pending, id)
			continue
		}
		setFenceResult(res, out)
	}
	c.voterMu.Unlock()
	if len(pending) == 0 {
		return reply, nil
	}
	if err := c.Store.Mark(pending...); err != nil {
		// Whether the marks reached the disk is unknown: the sessions stay
		// pending, neither answered nor agreed, until a restart reads the disk.
		return nil, fmt.Errorf("store fence marks: %w", err)
	}
	c.voterMu.Lock()
	defer c.voterMu.Unlock()
	for _, id := range pending {
		setFenceResult(results[id], c.voter.MarkDurable(c.Boottime(), open[id]))
	}
	return reply, nil
}

func setFenceResult(res *pb.FenceResult, out lease.FenceOutcome) {
	if out.Verdict == lease.FenceAgreed {
		res.Agreed, res.Configuration = true, out.Agreement.Configuration
		return
	}
	res.Refusal = fmt.Sprintf("%s, ask again in %s", out.Verdict, out.Remaining.Round(time.Millisecond))
}

// silence tells for how long the session may still be silent before this
// coordinator has evidence that its holder may not act any more: no renewal
// that was sent under a lease has come for one promise, and the session has
// been within hearing, and could have won a lease, for as long. A holder that only
// this coordinator hears is silent too. A follower's table is as good as a
// leader's, so an election restarts nothing; a restart does, because
// firstSeen does.
func (c *Coordinator) silence(now lease.Time, s *fsm.Session) (left time.Duration) {
	c.voterMu.Lock()
	defer c.voterMu.Unlock()
	_, left = c.voter.Proven(now, uint64(s.ID))
	seen, ok := c.firstSeen[s.ID]
	if !ok {
		seen = now
	}
	heard := seen.Add(c.Params.Promise(s.TTL)).Sub(now)
	return max(left, heard, 0)
}

// live reports whether the session has a lease as far as this coordinator
// knows: within one promise it has answered a renewal that was sent under one. A
// host that is heard here and has no lease can hold nothing, so to give it
// something would only take that from everybody.
func (c *Coordinator) live(now lease.Time, id fsm.SessionID) bool {
	c.voterMu.Lock()
	defer c.voterMu.Unlock()
	proven, _ := c.voter.Proven(now, uint64(id))
	return proven
}
