package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/fsm"
)

// ErrWiped: this coordinator's name is a member already, but its data
// directory is new. It has forgotten its votes and its fence marks, so it must
// not come back under the old identity.
var ErrWiped = errors.New("this coordinator's name is already a member, but its data directory is empty")

// Identity says who this coordinator is. Asked by a founder, it agrees to one
// founding only: two foundings that share a member cannot both succeed.
func (c *Coordinator) Identity(_ context.Context, r *pb.IdentityRequest) (*pb.IdentityReply, error) {
	reply := c.identity()
	if r.GetFounder() == "" || reply.HasState {
		return reply, nil
	}
	asked := fmt.Sprint(r.GetFounder(), r.GetMembers())
	c.founder.CompareAndSwap(nil, &asked)
	reply.Founds = *c.founder.Load() == asked && slices.Contains(r.GetMembers(), c.Name)
	return reply, nil
}

func (c *Coordinator) identity() *pb.IdentityReply {
	info := c.Log.Info()
	now := c.Boottime()
	c.voterMu.Lock()
	quiet := c.voter.QuietUntil().Sub(now) > 0
	c.voterMu.Unlock()
	return &pb.IdentityReply{
		Name: c.Name, Store: c.StoreID, HasState: info.HasState, Leader: info.Leader, Configuration: c.configuration(),
		Role: info.Role, AppliedIndex: info.Applied, LastIndex: info.Last,
		LastContactMs: info.LastContact.Milliseconds(), Version: c.Version, Quiet: quiet,
	}
}

// Found decides how a coordinator without Raft state begins. It returns the
// servers to bootstrap with, if this one is the founder, or nil if it is to be
// contacted: by the founder, or, after a Join, by the leader of a cluster that
// exists. expect is how many coordinators found a cluster together.
//
// Only the coordinator with the lowest name founds, only when it sees exactly
// expect of them, none has state, and all agree to this very founding.
func (c *Coordinator) Found(ctx context.Context, expect int) ([]Server, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var told string
	for {
		servers, state, why := c.tryFound(ctx, expect)
		if state == foundNow {
			return servers, nil
		}
		if state == foundElsewhere {
			return nil, c.checkWiped(ctx)
		}
		if why != told {
			c.Logger.Info("waiting to found a cluster or to join one", "because", why)
			told = why
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

type founding int

const (
	foundLater     founding = iota // look again
	foundNow                       // bootstrap with these servers
	foundElsewhere                 // a cluster exists
)

func (c *Coordinator) tryFound(ctx context.Context, expect int) ([]Server, founding, string) {
	if c.Log.Info().HasState {
		return nil, foundElsewhere, ""
	}
	var servers []Server
	for _, e := range c.Datagrams.Coordinators() {
		if e.Alive {
			servers = append(servers, Server{Name: e.Name, RaftAddress: e.Raft, Voter: true})
		}
	}
	slices.SortFunc(servers, func(a, b Server) int { return compareNames(a.Name, b.Name) })
	names := make([]string, len(servers))
	for i, s := range servers {
		names[i] = s.Name
	}
	founder := ""
	if len(servers) == expect && names[0] == c.Name {
		founder = c.Name
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	agreed := 0
	for _, name := range names {
		var r *pb.IdentityReply
		var err error
		req := &pb.IdentityRequest{Founder: founder, Members: names}
		if name == c.Name {
			r, err = c.Identity(ctx, req)
		} else {
			r, err = c.Peers.Identity(ctx, name, req)
		}
		if err != nil {
			return nil, foundLater, name + " does not answer yet"
		}
		if r.HasState {
			return nil, foundElsewhere, ""
		}
		if r.Founds {
			agreed++
		}
	}
	switch {
	case len(servers) < expect:
		return nil, foundLater, fmt.Sprintf("%d of %d coordinators seen: %v", len(servers), expect, names)
	case len(servers) > expect:
		return nil, foundLater, fmt.Sprintf("%d coordinators without state seen, but bootstrap_expect is %d: %v; stop the surplus ones, they can join later", len(servers), expect, names)
	case founder == "":
		return nil, foundLater, names[0] + " founds the cluster"
	case agreed < expect:
		return nil, foundLater, "not all agree to this founding yet"
	}
	return servers, foundNow, ""
}

func compareNames(a, b string) int {
	if a < b {
		return -1
	}
	if a > b {
		return 1
	}
	return 0
}

// checkWiped refuses to come back with an empty data directory under a name
// that is a member.
func (c *Coordinator) checkWiped(ctx context.Context) error {
	if c.Log.Info().HasState {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	for _, e := range c.Datagrams.Coordinators() {
		if e.Name == c.Name {
			continue
		}
		r, err := c.Peers.Identity(ctx, e.Name, &pb.IdentityRequest{})
		if err != nil || !r.HasState || c.Log.Info().HasState {
			continue
		}
		for _, m := range r.Configuration.GetMembers() {
			// A member that has just been founded has no state either, until the
			// founder reaches it; then the cluster has never applied anything
			// that it could have forgotten.
			if m.Name == c.Name && r.AppliedIndex > foundingEntries {
				return fmt.Errorf("%w; run `coordctl members remove %s` and start it again, it then joins as a new member", ErrWiped, c.Name)
			}
		}
	}
	return nil
}

// foundingEntries is how many entries a cluster can have committed before its
// first session or set: its configuration and the first leaders' no-ops.
const foundingEntries = 20

// KeepJoined asks to be let in until this coordinator is a member.
func (c *Coordinator) KeepJoined(ctx context.Context, raftAddress string) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		if s, ok := c.Log.Configuration().server(c.Name); ok && s.Voter {
			return nil
		}
		for _, e := range c.Datagrams.Coordinators() {
			if e.Name == c.Name || !e.Alive {
				continue
			}
			callCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
			_, err := c.Peers.Join(callCtx, e.Name, &pb.JoinRequest{Name: c.Name, RaftAddress: raftAddress, Store: c.StoreID})
			cancel()
			if err == nil {
				break
			}
			c.Logger.Info("not a member yet", "asked", e.Name, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Join lets a coordinator in: first as a nonvoter, and as a voter once it has
// caught up. One at a time.
func (c *Coordinator) Join(ctx context.Context, r *pb.JoinRequest) (*pb.JoinReply, error) {
	if !c.leading.Load() {
		return nil, c.notLeader()
	}
	if !c.member.TryLock() {
		return nil, &fsm.Refusal{Code: fsm.CodeConflict, Message: "another change of members is under way; try again"}
	}
	defer c.member.Unlock()
	cfg := c.Log.Configuration()
	if s, ok := cfg.server(r.Name); !ok || (s.RaftAddress != r.RaftAddress && !s.Voter) {
		c.Logger.Info("member joins", "name", r.Name, "raft", r.RaftAddress)
		if err := c.Members.AddNonvoter(ctx, r.Name, r.RaftAddress); err != nil {
			return nil, fmt.Errorf("add %s: %w", r.Name, err)
		}
	} else if s.Voter {
		return &pb.JoinReply{}, nil
	}
	goal := c.Log.Info().Last
	for {
		reply, err := c.Peers.Identity(ctx, r.Name, &pb.IdentityRequest{})
		if err == nil && reply.AppliedIndex >= goal {
			break
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s has not caught up to index %d yet: %w", r.Name, goal, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	if err := c.Members.Promote(ctx, r.Name); err != nil {
		return nil, fmt.Errorf("promote %s: %w", r.Name, err)
	}
	return &pb.JoinReply{}, nil
}

// RemoveMember takes a coordinator out of the quorum. It refuses what would
// leave no majority of answering voters.
func (c *Coordinator) RemoveMember(ctx context.Context, r *pb.RemoveMemberRequest) (*pb.RemoveMemberReply, error) {
	if !c.leading.Load() {
		return nil, c.notLeader()
	}
	if !c.member.TryLock() {
		return nil, &fsm.Refusal{Code: fsm.CodeConflict, Message: "another change of members is under way; try again"}
	}
	defer c.member.Unlock()
	cfg := c.Log.Configuration()
	if _, ok := cfg.server(r.Name); !ok {
		return nil, &fsm.Refusal{Code: fsm.CodeNotFound, Message: fmt.Sprintf("%s is no member; `coordctl members` shows who is", r.Name)}
	}
	left, answering := 0, 0
	for _, s := range cfg.Servers {
		if s.Name == r.Name || !s.Voter {
			continue
		}
		left++
		callCtx, cancel := context.WithTimeout(ctx, askLimit)
		if s.Name == c.Name {
			answering++
		} else if _, err := c.Peers.Identity(callCtx, s.Name, &pb.IdentityRequest{}); err == nil {
			answering++
		}
		cancel()
	}
	if answering <= left/2 {
		return nil, &fsm.Refusal{Code: fsm.CodeConflict, Message: fmt.Sprintf("without %s only %d of %d voters would answer: no quorum; bring them back first", r.Name, answering, left)}
	}
	if err := c.Members.Remove(ctx, r.Name); err != nil {
		return nil, fmt.Errorf("remove %s: %w", r.Name, err)
	}
	return &pb.RemoveMemberReply{Index: c.Log.Configuration().Index}, nil
}
