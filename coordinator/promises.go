package coordinator

import (
	"context"
	"fmt"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
	"holdfast/coordinator/ledger"
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
	c.voterMu.Lock()
	defer c.voterMu.Unlock()
	out, err := c.ledger.Renew(now, c.state, r)
	switch {
	case err != nil:
		return nil, err
	case out.Secret == nil:
		return nil, nil // coordinator rule 3
	case !out.Send:
		return nil, fmt.Errorf("dropped: %s", out.Verdict)
	}
	c.noteFence(now, fsm.SessionID(r.Session), out.Fence)
	if out.Revived {
		c.wake() // a host came alive: the scheduler may want to use it
	}
	return out.Answer.Marshal(out.Secret)
}

// openSessions returns those of ids that are open in the applied state: no other
// session is fenced here.
func (c *Coordinator) openSessions(ids []uint64) map[uint64]lease.Session {
	c.mu.RLock()
	defer c.mu.RUnlock()
	open := make(map[uint64]lease.Session, len(ids))
	for _, id := range ids {
		if s, ok := ledger.Open(c.state, id); ok {
			open[id] = s
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
		p := c.ledger.Probe(now, s)
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
		out := c.ledger.Fence(c.Boottime(), s)
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
		setFenceResult(results[id], c.ledger.MarkDurable(c.Boottime(), open[id]))
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

// live reports whether the session has a lease as far as this coordinator knows.
func (c *Coordinator) live(now lease.Time, id fsm.SessionID) bool {
	c.voterMu.Lock()
	defer c.voterMu.Unlock()
	return c.ledger.Live(now, id)
}
