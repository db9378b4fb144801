package coordinator

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
	"holdfast/fsm"
)

// statusSchema is the version of StatusReply's meaning.
const statusSchema = 1

// Status is what this coordinator knows, put beside what the others say of
// themselves. Every claim carries its age; nothing in it is changed afterwards.
func (c *Coordinator) Status(ctx context.Context) *pb.StatusReply {
	info := c.Log.Info()
	s := &pb.StatusReply{
		Schema: statusSchema, AnsweredBy: c.Name, Leader: info.Leader, Term: info.Term,
		AppliedIndex: info.Applied, AtUnixNs: time.Now().UnixNano(), Configuration: c.configuration(),
	}
	c.coordinatorStatus(ctx, s, info)

	c.mu.RLock()
	defer c.mu.RUnlock()
	now := c.Boottime()
	s.Paused = c.state.Settings().Paused
	for _, set := range c.state.Sets() {
		s.Vips = append(s.Vips, c.vipStatus(set))
	}
	s.Agents = c.agentStatus(now)
	for _, g := range c.state.Groups() {
		s.Groups = append(s.Groups, c.groupStatus(g))
	}
	s.Brokers = c.brokerStatus()
	for _, r := range c.state.Retiring() {
		s.Retiring = append(s.Retiring, retiringToPB(r))
	}
	rows := c.state.Changes(0)
	for _, ch := range rows[max(0, len(rows)-5):] {
		s.Events = append(s.Events, eventToPB(ch))
	}
	judge(s)
	return s
}

// coordinatorStatus asks all members what they say of themselves and derives
// from their answers whether there is a quorum.
func (c *Coordinator) coordinatorStatus(ctx context.Context, s *pb.StatusReply, info LogInfo) {
	cfg := c.Log.Configuration()
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	replies := make([]*pb.IdentityReply, len(cfg.Servers))
	var wg sync.WaitGroup
	for i, server := range cfg.Servers {
		wg.Go(func() {
			if server.Name == c.Name {
				replies[i] = c.identity()
				return
			}
			// An error leaves nil: unreachable from here.
			replies[i], _ = c.Peers.Identity(ctx, server.Name, &pb.IdentityRequest{})
		})
	}
	wg.Wait()
	var leaderApplied uint64
	var agree, voters int
	var leaderSpeaks bool
	for i, r := range replies {
		if cfg.Servers[i].Voter {
			voters++
		}
		if r == nil || info.Leader == "" || r.Leader != info.Leader {
			continue
		}
		if cfg.Servers[i].Voter {
			agree++
		}
		if r.Name == info.Leader && r.Role == "leader" {
			leaderSpeaks, leaderApplied = true, r.AppliedIndex
		}
	}
	s.Quorum = leaderSpeaks && agree > voters/2
	for i, server := range cfg.Servers {
		st := &pb.CoordinatorStatus{
			Name: server.Name, Voter: server.Voter, ApiAddress: c.endpoint(server.Name).API,
			Role: "unreachable", LastContactMs: -1,
		}
		if r := replies[i]; r != nil {
			st.Reachable, st.Role, st.AppliedIndex, st.Follows = true, r.Role, r.AppliedIndex, r.Leader
			st.Version, st.Quiet, st.LastContactMs = r.Version, r.Quiet, r.LastContactMs
			if !server.Voter {
				st.Role = "nonvoter"
			}
			if leaderApplied > r.AppliedIndex {
				st.TrailsLeaderBy = leaderApplied - r.AppliedIndex
			}
		}
		s.Coordinators = append(s.Coordinators, st)
	}
}

// agentStatus lists every host that has a session or is named as a candidate.
// Called with the state locked.
func (c *Coordinator) agentStatus(now lease.Time) []*pb.AgentStatus {
	hosts := make(map[string]bool)
	for _, s := range c.state.Sessions() {
		if s.Broker == nil {
			hosts[s.Host] = true
		}
	}
	for _, set := range c.state.Sets() {
		for _, cand := range set.Candidates {
			hosts[cand.Host] = true
		}
	}
	names := make([]string, 0, len(hosts))
	for h := range hosts {
		names = append(names, h)
	}
	slices.Sort(names)
	out := make([]*pb.AgentStatus, 0, len(names))
	for _, host := range names {
		a := &pb.AgentStatus{Host: host, RenewedMsAgo: -1}
		_, a.Drained = c.state.Drained(host)
		if sessions := c.state.SessionsOf(host); len(sessions) > 0 {
			s := sessions[len(sessions)-1]
			a.Session, a.TtlMs = uint64(s.ID), s.TTL.Milliseconds()
			a.Live = c.live(now, s.ID)
			if age, ok := c.renewalAge(now, s.ID); ok {
				a.RenewedMsAgo = age.Milliseconds()
			}
			c.showFence(now, s.ID, a)
			for _, name := range sortedKeys(s.Conditions) {
				cond := s.Conditions[name]
				a.Conditions = append(a.Conditions, &pb.Condition{Set: name, Weight: int32(cond.Weight), Veto: cond.Veto, Reason: cond.Reason})
			}
			for _, name := range sortedKeys(s.Routers) {
				a.Routers = append(a.Routers, routerToPB(name, s.Routers[name]))
			}
		}
		for _, g := range c.state.Grants() {
			if g.Host == host {
				a.Holds = append(a.Holds, g.Set)
			}
		}
		out = append(out, a)
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// renewalAge is how long ago this coordinator answered the session.
func (c *Coordinator) renewalAge(now lease.Time, id fsm.SessionID) (time.Duration, bool) {
	c.voterMu.Lock()
	defer c.voterMu.Unlock()
	at, ok := c.ledger.LastRenewal(uint64(id))
	return now.Sub(at), ok
}

// vipStatus describes one set. Called with the state locked.
func (c *Coordinator) vipStatus(set *fsm.Set) *pb.VIPStatus {
	v := &pb.VIPStatus{Set: setToPB(set), LeaseLeftMs: -1, ClaimAgeMs: -1, Verdict: "free"}
	g, held := c.state.Grant(set.Name)
	if !held {
		v.Reason = "no host holds it"
		if set.Paused || c.state.Settings().Paused {
			v.Verdict, v.Reason = "paused", "paused: nobody is given it"
		}
		return v
	}
	v.Holder, v.Session, v.Epoch, v.Recall = g.Host, uint64(g.Session), uint64(g.Epoch), recallToPB(g.Recall)
	v.Verdict = "held"
	if s, ok := c.state.Session(g.Session); ok && set.VRRP != nil && set.VRRP.Mode != fsm.VRRPOff {
		if r, ok := s.Routers[set.Name]; ok {
			if v.Router = routerToPB(set.Name, r); r.State != "active" {
				v.Reason = "its addresses are not up there: " + r.String()
			}
		}
	}
	now := c.Boottime()
	age, heard := c.renewalAge(now, g.Session)
	if s, ok := c.state.Session(g.Session); ok && heard {
		v.ClaimAgeMs = age.Milliseconds()
		v.LeaseLeftMs = max(0, (s.TTL - age).Milliseconds())
	}
	switch {
	case g.Recall != nil:
		v.Verdict, v.Reason = "moving", g.Recall.Cause
	case !heard:
		v.Verdict, v.Reason = "lapsing", c.Name+" has not heard its holder yet"
	case v.LeaseLeftMs == 0:
		v.Verdict, v.Reason = "lapsing", fmt.Sprintf("%s has had no new renewal from its holder for %s", c.Name, age.Round(time.Millisecond))
	case !c.live(now, g.Session):
		v.Verdict, v.LeaseLeftMs = "lapsing", 0
		v.Reason = c.Name + " hears its holder, which has no lease: too few coordinators hear it, or their answers do not reach it"
	}
	return v
}

// judge sets the verdict, the problems and what to do next.
func judge(s *pb.StatusReply) {
	problem := func(advice, format string, args ...any) {
		s.Problems = append(s.Problems, fmt.Sprintf(format, args...))
		if advice != "" && !slices.Contains(s.Advice, advice) {
			s.Advice = append(s.Advice, advice)
		}
	}
	// What an operator has chosen is worth a line, and no alarm.
	weak := 0
	choice := func(format string, args ...any) {
		problem("", format, args...)
		weak++
	}
	var voters, up int
	for _, co := range s.Coordinators {
		if co.Voter {
			voters++
		}
		if co.Reachable {
			if co.Voter {
				up++
			}
			continue
		}
		problem("start or reconnect the coordinator on "+co.Name, "coordinator %s does not answer", co.Name)
	}
	for _, v := range s.Vips {
		switch v.Verdict {
		case "free":
			problem("see `coordctl explain "+v.Set.Name+"`", "nobody holds %s", v.Set.Name)
		case "lapsing":
			problem("see `coordctl explain "+v.Set.Name+"`", "%s: %s", v.Set.Name, v.Reason)
		}
	}
	for _, a := range s.Agents {
		switch {
		case a.Session == 0:
			problem("start vipagent on "+a.Host, "%s is a candidate, but its agent has no session", a.Host)
		case !a.Live && a.RenewedMsAgo >= 0 && a.RenewedMsAgo < a.TtlMs:
			problem("check the way from the coordinators to "+a.Host+" (UDP)", "the agent on %s is heard but has no lease: it does not hear a majority of coordinators", a.Host)
		case !a.Live:
			problem("check vipagent on "+a.Host+" and its network", "the agent on %s is silent", a.Host)
		}
		switch a.Fence {
		case "refused":
			problem("see the log of vipagent on "+a.Host, "the agent on %s holds nothing: the self-check of its fence has failed", a.Host)
		case "nft":
			choice("the agent on %s has the weaker fence, nft: frozen and thawed again it may answer for a moment", a.Host)
		case "none":
			choice("the agent on %s has no fence: frozen it keeps its addresses until their lifetime ends", a.Host)
		}
	}
	judgeGroups(s, problem)
	switch {
	case !s.Quorum:
		s.Verdict = "no-quorum"
		s.Problems = append([]string{fmt.Sprintf("no quorum: %d of %d coordinators answer and agree on no leader; nothing can be granted or changed, and leases end at their deadlines", up, voters)}, s.Problems...)
	case len(s.Problems) > weak:
		s.Verdict = "degraded"
	default:
		s.Verdict = "ok"
	}
	if s.Quorum && voters > 1 && up-1 <= voters/2 && up < voters {
		s.Advice = append([]string{"one more coordinator lost means no quorum"}, s.Advice...)
	}
}

// Summary is the state of this coordinator in one line, for the service
// manager. It asks nobody.
func (c *Coordinator) Summary() (leader, line string) {
	info := c.Log.Info()
	c.mu.RLock()
	defer c.mu.RUnlock()
	if info.Leader == "" {
		return "", fmt.Sprintf("%s, no leader; nothing can be granted", info.Role)
	}
	return info.Leader, fmt.Sprintf("%s, leader %s, index %d; %d of %d VIP sets held, %s%d sessions",
		info.Role, info.Leader, info.Applied, len(c.state.Grants()), len(c.state.Sets()), c.mastered(), len(c.state.Sessions()))
}
