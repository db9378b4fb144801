package coordinator

import (
	"context"
	"sync"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
	"holdfast/fsm"
)

// askLimit bounds one question to another coordinator. It only has to be longer
// than a round trip and two fsyncs: whoever misses it is asked again.
const askLimit = 300 * time.Millisecond

// askPatience is how much longer than a majority the others may take. One that
// cannot answer must not delay what it is not needed for: its answer is asked
// for again.
const askPatience = 20 * time.Millisecond

// endSessions tries to end sessions that have fallen silent: probe, fence,
// expire (leader rules 1 and 2 of lease/DESIGN.md). It returns, for each of
// them, after how long it may be looked at again if it is silent still.
func (c *Coordinator) endSessions(ctx context.Context, ids []uint64) (again map[uint64]time.Duration) {
	again = make(map[uint64]time.Duration, len(ids))
	for _, id := range ids {
		again[id] = retryEnding
	}
	cfg := c.Log.Configuration()
	lapsed := c.probeAll(ctx, cfg.Voters(), ids, again)
	if len(lapsed) == 0 {
		return again
	}
	proven := c.fenceAll(ctx, cfg, lapsed)
	if len(proven) == 0 {
		return again
	}
	ops := make([]fsm.Op, 0, len(proven))
	for _, id := range proven {
		ops = append(ops, fsm.Expire{
			Session: fsm.SessionID(id), Configuration: cfg.Index, Cause: "its renewals were not answered by a majority of coordinators",
		})
	}
	if _, err := c.propose(ctx, "coordinator/"+c.Name, ops...); err != nil {
		c.Logger.Warn("sessions fenced but not expired", "sessions", proven, "err", err)
	}
	return again
}

// retryEnding is the pause before a session that could have been ended is tried
// again, because of a fence refused or an answer lost.
const retryEnding = 20 * time.Millisecond

// minEnding is the shortest pause between two looks at a session.
const minEnding = 2 * time.Millisecond

// ask runs one question to each voter at the same time, this coordinator
// included, and hands each answer to got, one at a time, until got says enough
// or everybody has answered or the limit is over. With the answers of a majority
// only a little time is left for the others.
func ask[R any](ctx context.Context, voters []string, question func(ctx context.Context, name string) (R, error), got func(name string, r R) (enough bool)) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	type reply struct {
		name string
		r    R
		err  error
	}
	replies := make(chan reply, len(voters))
	var wg sync.WaitGroup
	for _, name := range voters {
		wg.Go(func() {
			r, err := question(ctx, name)
			replies <- reply{name, r, err}
		})
	}
	var patience <-chan time.Time
	answered := 0
	for range voters {
		select {
		case <-ctx.Done():
			return
		case <-patience:
			return
		case r := <-replies:
			if r.err != nil {
				continue
			}
			if got(r.name, r.r) {
				return
			}
			if answered++; answered == len(voters)/2+1 {
				patience = time.After(askPatience)
			}
		}
	}
}

// probeAll asks all voters and returns the sessions that a majority would
// agree to fence, or that somebody has marked already; for the others it sets again.
func (c *Coordinator) probeAll(ctx context.Context, voters []string, ids []uint64, again map[uint64]time.Duration) (lapsed []uint64) {
	tallies := make(map[uint64]*lease.Survey, len(ids))
	for _, id := range ids {
		tallies[id] = &lease.Survey{}
	}
	question := func(ctx context.Context, name string) (*pb.ProbeReply, error) {
		if name == c.Name {
			return c.Probe(ctx, &pb.ProbeRequest{Sessions: ids})
		}
		return c.Peers.Probe(ctx, name, &pb.ProbeRequest{Sessions: ids})
	}
	ask(ctx, voters, question, func(_ string, r *pb.ProbeReply) (enough bool) {
		for _, res := range r.Results {
			if t := tallies[res.Session]; t != nil {
				t.Add(lease.Probe{Lapsed: res.Lapsed, Marked: res.Marked, Remaining: time.Duration(res.RemainingNs)})
			}
		}
		for _, t := range tallies {
			if !t.Decided(len(voters)) {
				return false
			}
		}
		return true
	})
	for _, id := range ids {
		t := tallies[id]
		if t.Fence(len(voters)) {
			lapsed = append(lapsed, id)
		} else if left, known := t.Again(len(voters)); known {
			again[id] = max(left, minEnding)
		}
	}
	return lapsed
}

// fenceAll asks all voters to fence, and returns the sessions for which a
// majority of exactly this configuration has agreed.
func (c *Coordinator) fenceAll(ctx context.Context, cfg Configuration, ids []uint64) (proven []uint64) {
	leaseCfg := lease.Configuration{Index: cfg.Index, Previous: cfg.Previous, Voters: cfg.Voters()}
	tallies := make(map[uint64]*lease.Tally, len(ids))
	for _, id := range ids {
		tallies[id] = lease.NewTally(id)
	}
	question := func(ctx context.Context, name string) (*pb.FenceReply, error) {
		if name == c.Name {
			return c.Fence(ctx, &pb.FenceRequest{Sessions: ids})
		}
		return c.Peers.Fence(ctx, name, &pb.FenceRequest{Sessions: ids})
	}
	ask(ctx, leaseCfg.Voters, question, func(name string, r *pb.FenceReply) bool {
		for _, res := range r.Results {
			if t := tallies[res.Session]; t != nil && res.Agreed {
				t.Add(lease.Agreement{Session: res.Session, Coordinator: name, Configuration: res.Configuration})
			}
		}
		for _, t := range tallies {
			if !t.Proven(leaseCfg) {
				return false
			}
		}
		return true
	})
	for _, id := range ids {
		if tallies[id].Proven(leaseCfg) {
			proven = append(proven, id)
		}
	}
	return proven
}
