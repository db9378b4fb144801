package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/fsm"
)

// ErrWiped: this coordinator's name is a member already, but its data
// directory is new. It has forgotten its votes and its fence marks, so it must
// not come back under the old identity.
var ErrWiped = errors.New("this coordinator's name is already a member, but its data directory is empty")

// Identity says who this coordinator is. Asked by a founder, it agrees to one
// founder only: two founders that share a member cannot both succeed. A founder
// may ask again for other members: it makes one look at a time, and what counts
// is the one in which all agree.
func (c *Coordinator) Identity(_ context.Context, r *pb.IdentityRequest) (*pb.IdentityReply, error) {
	reply := c.identity()
	if r.GetFounder() == "" || reply.HasState {
		return reply, nil
	}
	asked := r.GetFounder()
	c.founder.CompareAndSwap(nil, &asked)
	reply.Founder = *c.founder.Load()
	reply.Founds = reply.Founder == asked && slices.Contains(r.GetMembers(), c.Name)
	return reply, nil
}

func (c *Coordinator) identity() *pb.IdentityReply {
	info := c.Log.Info()
	now := c.Boottime()
	c.voterMu.Lock()
	quiet := c.ledger.QuietUntil().Sub(now) > 0
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
			sure, err := c.checkWiped(ctx)
			if sure || err != nil {
				return nil, err
			}
			why = "a cluster exists, but none of its members answers"
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
	slices.SortFunc(servers, func(a, b Server) int { return strings.Compare(a.Name, b.Name) })
	names := make([]string, len(servers))
	for i, s := range servers {
		names[i] = s.Name
	}
	// Nobody is asked to agree before all have said that they have no state:
	// who has agreed no longer suspects that its own disk was lost.
	if state, why := c.lookForState(ctx, names); state != foundNow {
		return nil, state, why
	}
	switch {
	case len(servers) < expect:
		return nil, foundLater, fmt.Sprintf("%d of %d coordinators seen: %v", len(servers), expect, names)
	case len(servers) > expect:
		return nil, foundLater, fmt.Sprintf("%d coordinators without state seen, but bootstrap_expect is %d: %v; stop the surplus ones, they can join later", len(servers), expect, names)
	case names[0] != c.Name:
		return nil, foundLater, names[0] + " founds the cluster"
	}
	if why := c.askToFound(ctx, names); why != "" {
		return nil, foundLater, why
	}
	return servers, foundNow, ""
}

// lookForState asks whether any of the named coordinators has Raft state; it
// returns foundNow if all have answered and none has.
func (c *Coordinator) lookForState(ctx context.Context, names []string) (state founding, why string) {
	silent := slices.Clone(names)
	state = foundNow
	ask(ctx, names, c.askIdentity(&pb.IdentityRequest{}), func(name string, r *pb.IdentityReply) (enough bool) {
		silent = slices.DeleteFunc(silent, func(n string) bool { return n == name })
		if r.HasState {
			state = foundElsewhere
		}
		return r.HasState
	})
	if state == foundNow && len(silent) > 0 {
		return foundLater, fmt.Sprintf("no answer yet from %v", silent)
	}
	return state, ""
}

// askToFound asks the named coordinators to be founded by this one, and
// returns why that cannot be yet, "" if all agree.
func (c *Coordinator) askToFound(ctx context.Context, names []string) (why string) {
	agreed := 0
	req := &pb.IdentityRequest{Founder: c.Name + "/" + c.StoreID, Members: names}
	ask(ctx, names, c.askIdentity(req), func(name string, r *pb.IdentityReply) (enough bool) {
		switch {
		case r.Founds:
			agreed++
		case r.Founder != "":
			why = fmt.Sprintf("%s has agreed to be founded by %s; if that one is gone for good, restart %s", name, r.Founder, name)
		}
		return false
	})
	if agreed == len(names) {
		return ""
	}
	if why == "" {
		why = "not all have agreed to be founded yet"
	}
	return why
}

// askIdentity is a question for ask.
func (c *Coordinator) askIdentity(r *pb.IdentityRequest) func(context.Context, string) (*pb.IdentityReply, error) {
	return func(ctx context.Context, name string) (*pb.IdentityReply, error) {
		if name == c.Name {
			return c.Identity(ctx, r)
		}
		return c.Peers.Identity(ctx, name, r)
	}
}

// checkWiped makes sure that this coordinator, which has no Raft state while a
// cluster exists, is not a member that has lost its disk. sure is false if no
// coordinator that knows has answered.
func (c *Coordinator) checkWiped(ctx context.Context) (sure bool, err error) {
	// A member that has agreed to be founded has no state until its founder
	// reaches it, and nothing that it could have forgotten.
	if c.founder.Load() != nil {
		return true, nil
	}
	var names []string
	for _, e := range c.Datagrams.Coordinators() {
		if e.Name != c.Name {
			names = append(names, e.Name)
		}
	}
	ask(ctx, names, c.askIdentity(&pb.IdentityRequest{}), func(_ string, r *pb.IdentityReply) (enough bool) {
		if !r.HasState || len(r.Configuration.GetMembers()) == 0 {
			return false
		}
		sure = true
		for _, m := range r.Configuration.Members {
			if m.Name == c.Name && m.Voter {
				err = fmt.Errorf("%w; run `coordctl members remove %s` and start it again, it then joins as a new member", ErrWiped, c.Name)
				return true
			}
		}
		return false // an older configuration may lack what a newer one has
	})
	return sure, err
}

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

// joinLimit bounds how long a joining coordinator may take to catch up within
// one call; it asks again.
const joinLimit = 10 * time.Second

// Join lets a coordinator in: first as a nonvoter, and as a voter once it has
// caught up. Members change one at a time, but nobody waits for one that does
// not catch up.
func (c *Coordinator) Join(ctx context.Context, r *pb.JoinRequest) (*pb.JoinReply, error) {
	ctx, cancel := context.WithTimeout(ctx, joinLimit)
	defer cancel()
	voter, err := c.admit(ctx, r)
	if err != nil || voter {
		return &pb.JoinReply{}, err
	}
	goal := c.Log.Info().Applied
	for {
		reply, err := c.Peers.Identity(ctx, r.Name, &pb.IdentityRequest{})
		if err == nil && reply.Store != r.Store {
			return nil, &fsm.Refusal{Code: fsm.CodeConflict, Message: fmt.Sprintf("%s answers with another data directory than the one that asked to join", r.Name)}
		}
		if err == nil && reply.AppliedIndex >= goal {
			break
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s has not caught up to index %d yet: %w", r.Name, goal, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return &pb.JoinReply{}, c.changeMembers(func() error {
		if s, ok := c.Log.Configuration().server(r.Name); !ok || s.RaftAddress != r.RaftAddress {
			return &fsm.Refusal{Code: fsm.CodeConflict, Message: r.Name + " was removed while it caught up"}
		}
		return c.Members.Promote(ctx, r.Name)
	})
}

// admit makes the caller a nonvoter, unless it is a member already.
func (c *Coordinator) admit(ctx context.Context, r *pb.JoinRequest) (voter bool, err error) {
	err = c.changeMembers(func() error {
		s, ok := c.Log.Configuration().server(r.Name)
		voter = ok && s.Voter
		if voter || ok && s.RaftAddress == r.RaftAddress {
			return nil
		}
		c.Logger.Info("member joins", "name", r.Name, "raft", r.RaftAddress)
		return c.Members.AddNonvoter(ctx, r.Name, r.RaftAddress)
	})
	return voter, err
}

// changeMembers runs one change of the members on the leader, never two at
// once.
func (c *Coordinator) changeMembers(change func() error) error {
	if !c.leading.Load() {
		return c.notLeader()
	}
	if !c.member.TryLock() {
		return &fsm.Refusal{Code: fsm.CodeConflict, Message: "another change of members is under way; try again"}
	}
	defer c.member.Unlock()
	if err := change(); err != nil {
		return fmt.Errorf("change members: %w", err)
	}
	return nil
}

// RemoveMember takes a coordinator out of the quorum. It refuses what would
// leave no majority of answering voters.
func (c *Coordinator) RemoveMember(ctx context.Context, r *pb.RemoveMemberRequest) (*pb.RemoveMemberReply, error) {
	err := c.changeMembers(func() error {
		cfg := c.Log.Configuration()
		if _, ok := cfg.server(r.Name); !ok {
			return &fsm.Refusal{Code: fsm.CodeNotFound, Message: fmt.Sprintf("%s is no member; `coordctl members` shows who is", r.Name)}
		}
		var others []string
		for _, name := range cfg.Voters() {
			if name != r.Name {
				others = append(others, name)
			}
		}
		if answering := c.answering(ctx, others); answering <= len(others)/2 {
			return &fsm.Refusal{Code: fsm.CodeConflict, Message: fmt.Sprintf(
				"without %s only %d of %d voters would answer: no quorum; bring them back first", r.Name, answering, len(others))}
		}
		return c.Members.Remove(ctx, r.Name)
	})
	if err != nil {
		return nil, err
	}
	return &pb.RemoveMemberReply{Index: c.Log.Configuration().Index}, nil
}

// answering counts the coordinators that answer now.
func (c *Coordinator) answering(ctx context.Context, names []string) (n int) {
	ask(ctx, names, c.askIdentity(&pb.IdentityRequest{}), func(string, *pb.IdentityReply) bool { n++; return false })
	return n
}
