package brokerd

import (
	"cmp"
	"fmt"
	"slices"

	"holdfast/brokerd/service"
	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/fsm/group"
)

// standing is what a view says of this broker's own group.
type standing struct {
	index   uint64
	exists  bool
	created uint64 // Raft index: the group's identity
	record  group.Group
	session uint64 // of the grant, 0 = none
}

func standingOf(v *pb.View, name string) standing {
	s := standing{index: v.GetIndex()}
	for _, g := range v.GetBrokers().GetGroups() {
		if g.GetName() == name {
			s.exists, s.created, s.session, s.record = true, g.GetCreated(), g.GetSession(), recordOf(g)
		}
	}
	return s
}

// recordOf reads a group's record from the wire.
func recordOf(g *pb.Group) group.Group {
	settings := func(s *pb.GroupSettings) group.Settings {
		return group.Settings{
			Mode: group.Mode(s.GetMode()), MinInSync: int(s.GetMinInSync()), Policy: group.Policy(s.GetPolicy()), ReadLocal: s.GetReadLocal(),
		}
	}
	r := group.Group{
		Settings: settings(g.GetSettings()), Next: settings(g.GetNext()), InSync: g.GetInSync(), Version: g.GetVersion(),
		Master: g.GetMaster(), Epoch: g.GetEpoch(), Last: g.GetLast(), Wanted: g.GetWanted(),
	}
	for _, m := range g.GetMembers() {
		r.Members = append(r.Members, group.Member{
			ID: m.GetId(), Priority: int(m.GetPriority()), Incarnation: m.GetIncarnation(), Boot: m.GetBoot(),
		})
	}
	return r
}

// replicasOf returns where the members of a group take replication. Of several sessions
// of one name the last one counts.
func replicasOf(v *pb.View, g group.Group) map[string]string {
	out := make(map[string]string)
	for _, b := range v.GetBrokers().GetBrokers() {
		if _, ok := g.Member(b.GetName()); ok {
			out[b.GetName()] = b.GetReplication()
		}
	}
	return out
}

// clusterOf is a view as the endpoints for clients know it.
func clusterOf(v *pb.View) *service.View {
	out := &service.View{Index: v.GetIndex()}
	addresses := make(map[string]string)
	for _, b := range v.GetBrokers().GetBrokers() {
		addresses[b.GetName()] = b.GetClient()
	}
	for name, address := range addresses {
		out.Brokers = append(out.Brokers, service.Broker{Name: name, Address: address})
	}
	slices.SortFunc(out.Brokers, func(a, b service.Broker) int { return cmp.Compare(a.Name, b.Name) })
	for _, g := range v.GetBrokers().GetGroups() {
		x := service.Group{Name: g.GetName(), Grant: service.Grant{Master: g.GetMaster(), Epoch: g.GetEpoch()}}
		for _, m := range g.GetMembers() {
			x.Members = append(x.Members, m.GetId())
		}
		out.Groups = append(out.Groups, x)
	}
	slices.SortFunc(out.Groups, func(a, b service.Group) int { return cmp.Compare(a.Name, b.Name) })
	for _, t := range v.GetBrokers().GetTopics() {
		topic := service.Topic{Name: t.GetName()}
		for _, g := range out.Groups {
			topic.Queues = append(topic.Queues, service.Queues{Group: g.Name, Count: uint32(t.GetQueues())})
		}
		out.Topics = append(out.Topics, topic)
	}
	slices.SortFunc(out.Topics, func(a, b service.Topic) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// view takes in a view of one coordinator. It may be older than what is known.
func (o *owner) view(v *pb.View) error {
	o.keeper.renewer.Told(v.GetCoordinator(), v.GetConfiguration())
	if gone(o.session, v) {
		o.log.Warn("session ended by the quorum", "session", o.session.id)
		o.keeper.drop(o.session)
		o.session = nil
		o.keeper.open(o.ctx)
	}
	s := standingOf(v, o.config.Group)
	if v.GetIndex() < o.seen.index {
		return nil
	}
	if s.exists && o.disk.beside.Created != s.created {
		if o.disk.beside.Created != 0 {
			return fmt.Errorf("%w: group %s was deleted and made anew: give this broker an empty directory, or remove the old log yourself", ErrForeign, o.config.Group)
		}
		o.disk.beside.Created = s.created
		if err := o.disk.write(); err != nil {
			return err
		}
	}
	o.seen = s
	o.cluster.put(clusterOf(v))
	if o.session != nil {
		o.cluster.session.Store(o.session.id)
	}
	if s.exists {
		o.peers = replicasOf(v, s.record)
		delete(o.peers, o.config.Name)
		o.edges.Peers.SetPeers(o.peers)
	}
	if err := o.look(s); err != nil {
		return err
	}
	return o.part(s)
}

// part takes members out of the in-sync set whose sessions have ended: the quorum has made
// sure that they do not run, and writes need not wait until they count as slow. Where the
// set would become too small for writes they stay: one of them may have to be the next
// master.
func (o *owner) part(s standing) error {
	if o.replica == nil || o.replica.Leads() == 0 || o.replica.Leads() != s.record.Epoch {
		return nil
	}
	left, need := len(s.record.InSync), 1
	if s.record.Settings.Mode == group.Sync {
		need = s.record.Settings.MinInSync
	}
	for _, id := range s.record.InSync {
		if _, there := o.peers[id]; there || id == o.config.Name || left <= need {
			continue
		}
		left--
		if err := o.perform(o.replica.Remove(id), nil, nil); err != nil {
			return err
		}
	}
	return nil
}
