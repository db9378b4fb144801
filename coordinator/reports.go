package coordinator

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
	"holdfast/coordinator/schedule"
	"holdfast/fsm"
)

// reports is what brokers have told this coordinator of their replicas: memory of this
// coordinator alone, guarded by voterMu. Status shows it, and among members that may be
// master it decides which one is. Nothing that must be true depends on it.
type reports map[fsm.SessionID]*brokerReport

// brokerReport is the newest report of one session.
type brokerReport struct {
	at     lease.Time
	groups map[string]*pb.GroupReport // never changed once they are here
}

// maxReportText bounds each text in a report.
const maxReportText = 512

// Report takes in how a broker's replicas stand.
func (c *Coordinator) Report(_ context.Context, r *pb.ReportRequest) (*pb.ReportReply, error) {
	if len(r.GetGroups()) > fsm.MaxGroups {
		return nil, invalid("%d groups in one report, at most %d", len(r.GetGroups()), fsm.MaxGroups)
	}
	now := c.Boottime()
	report := &brokerReport{at: now, groups: make(map[string]*pb.GroupReport, len(r.GetGroups()))}
	c.mu.RLock()
	defer c.mu.RUnlock()
	s, open := c.state.Session(fsm.SessionID(r.GetSession()))
	if !open || s.Broker == nil {
		return nil, &fsm.Refusal{Code: fsm.CodeNotFound, Message: fmt.Sprintf("session %d is not open here of a broker", r.GetSession())}
	}
	for _, g := range r.GetGroups() {
		if _, ok := c.state.Group(g.GetGroup()); !ok {
			continue // deleted meanwhile, or not known here yet
		}
		g = proto.CloneOf(g)
		g.Role, g.Unfit = shortText(g.GetRole()), shortText(g.GetUnfit())
		report.groups[g.GetGroup()] = g
	}
	c.voterMu.Lock()
	old := c.reports[s.ID]
	c.reports[s.ID] = report
	c.voterMu.Unlock()
	if fitness(old) != fitness(report) {
		c.wake() // somebody can be master, or cannot any more
	}
	return &pb.ReportReply{}, nil
}

// fitness is what a report says of who can be master.
func fitness(r *brokerReport) string {
	if r == nil {
		return ""
	}
	var b strings.Builder
	for _, name := range sortedKeys(r.groups) {
		if why := r.groups[name].GetUnfit(); why != "" {
			fmt.Fprintf(&b, "%s: %s\n", name, why)
		}
	}
	return b.String()
}

func shortText(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxReportText)], "?")
}

// noteUnfit notes that a broker has said, as it released a group, that it cannot be
// master. Its next report may say otherwise.
func (c *Coordinator) noteUnfit(id fsm.SessionID, name, why string) {
	c.voterMu.Lock()
	defer c.voterMu.Unlock()
	next := &brokerReport{at: c.Boottime(), groups: make(map[string]*pb.GroupReport)}
	if old := c.reports[id]; old != nil {
		next.at = old.at
		for group, said := range old.groups {
			next.groups[group] = said
		}
	}
	said := &pb.GroupReport{Group: name}
	if old := next.groups[name]; old != nil {
		said = proto.CloneOf(old)
	}
	said.Unfit = shortText(why)
	next.groups[name] = said
	c.reports[id] = next
}

// reported returns what a session's broker last said of a group, and how long ago.
func (c *Coordinator) reported(now lease.Time, id fsm.SessionID, name string) (said *pb.GroupReport, age time.Duration) {
	c.voterMu.Lock()
	defer c.voterMu.Unlock()
	r := c.reports[id]
	if r == nil || r.groups[name] == nil {
		return nil, 0
	}
	return r.groups[name], now.Sub(r.at)
}

// replica is what the scheduler knows of a broker's replica, from its newest session in
// the given state.
func (c *Coordinator) replica(st *fsm.State) func(name, broker string) schedule.Replica {
	newest := make(map[string]fsm.SessionID)
	for _, s := range st.Brokers() {
		newest[s.Broker.Name] = s.ID
	}
	now := c.Boottime()
	return func(name, broker string) schedule.Replica {
		said, _ := c.reported(now, newest[broker], name)
		return schedule.Replica{Epoch: said.GetLastEpoch(), End: said.GetEnd(), Unfit: said.GetUnfit()}
	}
}
