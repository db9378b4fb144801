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

// endSessions tries to end sessions that have fallen silent: probe, fence,
// expire (leader rules 1 and 2 of lease/DESIGN.md). It returns after how long the ones
// that could not be ended should be looked at again.
func (c *Coordinator) endSessions(ctx context.Context, ids []uint64) (again time.Duration) {
	cfg := c.Log.Configuration()
	voters := cfg.Voters()
	lapsed, again := c.probeAll(ctx, voters, ids)
	if len(lapsed) == 0 {
		return again
	}
	proven := c.fenceAll(ctx, cfg, lapsed)
	if len(proven) == 0 {
		return 20 * time.Millisecond
	}
	ops := make([]fsm.Op, 0, len(proven))
	for _, id := range proven {
		ops = append(ops, fsm.Expire{
			Session: fsm.SessionID(id), Configuration: cfg.Index, Cause: "no renewal reached a majority of coordinators",
		})
	}
	if _, err := c.propose(ctx, "coordinator/"+c.Name, ops...); err != nil {
		c.Logger.Warn("sessions fenced but not expired", "sessions", proven, "err", err)
		return 20 * time.Millisecond
	}
	return again
}

// ask runs one question to each voter at the same time, this coordinator
// included, and hands each answer to got, one at a time, until got says enough
// or everybody has answered or the limit is over.
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
	for range voters {
		select {
		case <-ctx.Done():
			return
		case r := <-replies:
			if r.err == nil && got(r.name, r.r) {
				return
			}
		}
	}
}

// probeAll asks all voters and returns the sessions that a majority would
// agree to fence, or that somebody has marked already, so that marks left by a
// dead leader do not linger. A holder that still reaches a majority of
// coordinators is known to one of any majority, and so is never fenced.
func (c *Coordinator) probeAll(ctx context.Context, voters []string, ids []uint64) (lapsed []uint64, again time.Duration) {
	type tally struct {
		lapsed, marked int
		remaining      time.Duration
	}
	tallies := make(map[uint64]*tally, len(ids))
	for _, id := range ids {
		tallies[id] = &tally{}
	}
	majority := len(voters)/2 + 1
	question := func(ctx context.Context, name string) (*pb.ProbeReply, error) {
		if name == c.Name {
			return c.Probe(ctx, &pb.ProbeRequest{Sessions: ids})
		}
		return c.Peers.Probe(ctx, name, &pb.ProbeRequest{Sessions: ids})
	}
	ask(ctx, voters, question, func(_ string, r *pb.ProbeReply) bool {
		for _, res := range r.Results {
			t := tallies[res.Session]
			if t == nil {
				continue
			}
			if res.Marked {
				t.marked++
			}
			if res.Lapsed {
				t.lapsed++
			} else {
				t.remaining = max(t.remaining, time.Duration(res.RemainingNs))
			}
		}
		for _, t := range tallies {
			if t.lapsed < majority {
				return false
			}
		}
		return true
	})
	again = time.Second
	for _, id := range ids {
		t := tallies[id]
		if t.lapsed >= majority || t.marked > 0 {
			lapsed = append(lapsed, id)
			continue
		}
		again = min(again, max(t.remaining, 5*time.Millisecond))
	}
	return lapsed, again
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
