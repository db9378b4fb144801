package coordinator

import (
	"fmt"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/schedule"
	"holdfast/fsm"
	"holdfast/fsm/group"
)

// ListGroups describes the named broker groups, or all, and the brokers.
func (c *Coordinator) ListGroups(r *pb.ListGroupsRequest) (*pb.ListGroupsReply, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	reply := &pb.ListGroupsReply{Brokers: c.brokerStatus()}
	groups := c.state.Groups()
	if len(r.GetNames()) > 0 {
		groups = nil
		for _, name := range r.GetNames() {
			g, ok := c.state.Group(name)
			if !ok {
				return nil, noGroup(name)
			}
			groups = append(groups, g)
		}
	}
	for _, g := range groups {
		reply.Groups = append(reply.Groups, c.groupStatus(g))
	}
	return reply, nil
}

// brokerStatus lists the newest session of each broker. Called with the state locked.
func (c *Coordinator) brokerStatus() []*pb.BrokerStatus {
	now := c.Boottime()
	newest := make(map[string]*fsm.Session)
	for _, s := range c.state.Brokers() {
		newest[s.Broker.Name] = s
	}
	var out []*pb.BrokerStatus
	for _, name := range sortedKeys(newest) {
		s := newest[name]
		b := &pb.BrokerStatus{Broker: brokerToPB(s), TtlMs: s.TTL.Milliseconds(), Live: c.live(now, s.ID), RenewedMsAgo: -1}
		if age, ok := c.renewalAge(now, s.ID); ok {
			b.RenewedMsAgo = age.Milliseconds()
		}
		out = append(out, b)
	}
	return out
}

// groupStatus describes one group. Called with the state locked.
func (c *Coordinator) groupStatus(g *fsm.Group) *pb.GroupStatus {
	out := &pb.GroupStatus{Group: groupToPB(g), LeaseLeftMs: -1, ClaimAgeMs: -1, Verdict: "no-master"}
	now := c.Boottime()
	c.schedMu.Lock()
	ex, err := schedule.ExplainMaster(c.scheduleInput(c.state, c.seen), g.Name)
	c.schedMu.Unlock()
	if err == nil {
		out.Decision = ex.Decision
	}
	out.Replicas = c.replicaStatus(g)
	if g.Session == 0 {
		if out.Reason = out.Decision; c.state.Settings().Paused {
			out.Verdict = "paused"
		}
		return out
	}
	age, heard := c.renewalAge(now, g.Session)
	if s, ok := c.state.Session(g.Session); ok && heard {
		out.ClaimAgeMs = age.Milliseconds()
		out.LeaseLeftMs = max(0, (s.TTL - age).Milliseconds())
	}
	out.Verdict, out.Reason = "serving", ""
	r := g.Record
	switch {
	case !heard:
		out.Verdict, out.Reason = "lapsing", c.Name+" has not heard its master yet"
	case out.LeaseLeftMs == 0:
		out.Verdict, out.Reason = "lapsing", fmt.Sprintf("%s has had no new renewal from its master for %s", c.Name, age.Round(time.Millisecond))
	case !c.live(now, g.Session):
		out.Verdict, out.LeaseLeftMs = "lapsing", 0
		out.Reason = c.Name + " hears its master, which has no lease: too few coordinators hear it, or their answers do not reach it"
	case g.Deleting:
		out.Verdict, out.Reason = "deleting", out.Decision
	case r.Wanted != "":
		out.Verdict, out.Reason = "moving", out.Decision
	case r.Settings.Mode == group.Sync && len(r.InSync) < r.Settings.MinInSync:
		out.Verdict, out.Reason = "too-few", fmt.Sprintf("%d in sync, min_in_sync %d: writes wait for more", len(r.InSync), r.Settings.MinInSync)
	}
	return out
}

// replicaStatus describes the members of a group by name. Called with the state locked.
func (c *Coordinator) replicaStatus(g *fsm.Group) []*pb.ReplicaStatus {
	now := c.Boottime()
	newest := make(map[string]fsm.SessionID)
	for _, s := range c.state.Brokers() {
		newest[s.Broker.Name] = s.ID
	}
	var end uint64 // of the master's log
	known := false
	if said, _ := c.reported(now, g.Session, g.Name); said != nil {
		end, known = said.GetEnd(), true
	}
	var out []*pb.ReplicaStatus
	for _, m := range g.Record.Members {
		r := &pb.ReplicaStatus{
			Broker: m.ID, Priority: int32(m.Priority), InSync: g.Record.Holds(m.ID), Incarnation: m.Incarnation,
			ReportedMsAgo: -1, LagBytes: -1,
		}
		if id, open := newest[m.ID]; open {
			r.Live = c.live(now, id)
			if said, age := c.reported(now, id, g.Name); said != nil {
				r.Report, r.ReportedMsAgo = said, age.Milliseconds()
				if known {
					r.LagBytes = int64(max(end, said.GetEnd()) - said.GetEnd())
				}
			}
		}
		out = append(out, r)
	}
	return out
}

// judgeGroups adds what is wrong with groups and brokers.
func judgeGroups(s *pb.StatusReply, problem func(advice, format string, args ...any)) {
	for _, g := range s.Groups {
		name := g.Group.Name
		switch g.Verdict {
		case "no-master", "lapsing", "too-few":
			problem("see `coordctl broker show "+name+"`", "group %s: %s", name, g.Reason)
		}
		var lost, unknown uint64
		for _, r := range g.Replicas {
			if !r.Live {
				problem("start brokerd of "+r.Broker+", or check its network", "broker %s, a member of group %s, is not live", r.Broker, name)
			} else if r.GetReport().GetUnfit() != "" {
				problem("see `coordctl broker show "+name+"`", "broker %s cannot be master of group %s: %s", r.Broker, name, r.Report.Unfit)
			}
			if r.GetReport().GetRole() == "master" {
				lost, unknown = r.Report.LostRecords, r.Report.UnknownBytes
			}
		}
		if lost > 0 || unknown > 0 {
			problem("", "group %s has lost %d records, and up to %d bytes on replicas that are not back", name, lost, unknown)
		}
	}
}

// mastered counts groups for the summary, if there are any. Called with the state locked.
func (c *Coordinator) mastered() string {
	groups, masters := c.state.Groups(), 0
	for _, g := range groups {
		if g.Session != 0 {
			masters++
		}
	}
	if len(groups) == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d broker groups with a master, ", masters, len(groups))
}
