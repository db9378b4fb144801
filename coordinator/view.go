package coordinator

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/fsm"
)

// Watch calls send with the view of one host or broker, at once if it is newer than
// from, and then each time it changes, until ctx ends or send fails.
func (c *Coordinator) Watch(ctx context.Context, r *pb.WatchRequest, send func(*pb.View) error) error {
	var last *pb.View
	for {
		change := c.change()
		view := c.view(r)
		if view.Index >= r.FromIndex && !sameView(last, view) {
			if err := send(view); err != nil {
				return err
			}
			last = view
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-change:
		}
	}
}

func (c *Coordinator) view(r *pb.WatchRequest) *pb.View {
	if r.Broker != "" {
		return c.BrokerView(r.Broker)
	}
	return c.View(r.Host)
}

// sameView compares what a host has to know; index and term alone are no news.
func sameView(a, b *pb.View) bool {
	if a == nil {
		return false
	}
	index, term := b.Index, b.Term
	b.Index, b.Term = a.Index, a.Term
	same := proto.Equal(a, b)
	b.Index, b.Term = index, term
	return same
}

// View is what one host has to know, from this coordinator's applied state.
func (c *Coordinator) View(host string) *pb.View {
	v := c.newView()
	c.mu.RLock()
	defer c.mu.RUnlock()
	v.Index = c.state.Applied()
	_, v.Drained = c.state.Drained(host)
	own := make(map[fsm.SessionID]bool)
	for _, s := range c.state.SessionsOf(host) {
		own[s.ID] = true
		v.Sessions = append(v.Sessions, uint64(s.ID))
	}
	for _, set := range c.state.Sets() {
		if slices.ContainsFunc(set.Candidates, func(cand fsm.Candidate) bool { return cand.Host == host }) {
			v.CandidateOf = append(v.CandidateOf, set.Name)
			if set.VRRP != nil && set.VRRP.Mode != fsm.VRRPOff {
				v.Shared = append(v.Shared, &pb.Shared{Set: setToPB(set), Sources: c.sources(set.Name)})
			}
		}
		g, held := c.state.Grant(set.Name)
		if !held || !own[g.Session] {
			continue
		}
		v.Held = append(v.Held, &pb.Held{
			Set: setToPB(set), Session: uint64(g.Session), Epoch: uint64(g.Epoch), Recall: recallToPB(g.Recall),
		})
	}
	for _, r := range c.state.Retiring() {
		if own[r.Session] {
			v.Retiring = append(v.Retiring, retiringToPB(r))
		}
	}
	return v
}

// newView is what every view tells: who tells it, who leads, and who is a coordinator.
func (c *Coordinator) newView() *pb.View {
	info := c.Log.Info()
	v := &pb.View{
		Coordinator: c.Name, Term: info.Term, Leader: info.Leader, Configuration: c.configuration(),
	}
	if info.Leader != "" {
		v.LeaderApi = c.endpoint(info.Leader).API
	}
	return v
}

// BrokerView is what a broker has to know: its own sessions, all groups and topics, and
// where the other brokers are. It is the same for all brokers but for the sessions.
func (c *Coordinator) BrokerView(name string) *pb.View {
	v := c.newView()
	v.Brokers = &pb.BrokerView{}
	c.mu.RLock()
	defer c.mu.RUnlock()
	v.Index = c.state.Applied()
	for _, s := range c.state.Brokers() {
		if s.Broker.Name == name {
			v.Sessions = append(v.Sessions, uint64(s.ID))
		}
		v.Brokers.Brokers = append(v.Brokers.Brokers, brokerToPB(s))
	}
	for _, g := range c.state.Groups() {
		v.Brokers.Groups = append(v.Brokers.Groups, groupToPB(g))
	}
	for _, t := range c.state.Topics() {
		v.Brokers.Topics = append(v.Brokers.Topics, topicToPB(t))
	}
	return v
}

// sources lists where advertisements for a set come from that are of our hosts.
// Called with the state locked.
func (c *Coordinator) sources(set string) []string {
	var out []string
	for _, s := range c.state.Sessions() {
		// Where another program on the host is Active, its advertisements come from
		// the same address.
		if r, ok := s.Routers[set]; ok && r.Source.IsValid() && r.Source != r.Active {
			out = append(out, r.Source.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// configuration returns the latest configuration in this coordinator's log,
// with the addresses where its members were last known to be.
func (c *Coordinator) configuration() *pb.Configuration {
	cfg := c.Log.Configuration()
	out := &pb.Configuration{Index: cfg.Index}
	known := c.Datagrams.Coordinators()
	for _, s := range cfg.Servers {
		m := &pb.Coordinator{Name: s.Name, RaftAddress: s.RaftAddress, Voter: s.Voter}
		for _, e := range known {
			if e.Name == s.Name {
				m.ApiAddress, m.GossipAddress = e.API, e.Gossip
			}
		}
		out.Members = append(out.Members, m)
	}
	return out
}
