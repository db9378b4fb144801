package fsm

import (
	"time"

	"pgregory.net/rapid"

	"holdfast/fsm/group"
)

// groupOp draws an op of broker groups, mostly one that could be meant.
func (m *model) groupOp(t *rapid.T) Op {
	s := m.state
	name := rapid.SampledFrom([]string{"g1", "g2"}).Draw(t, "group")
	broker := rapid.SampledFrom([]string{"b1", "b2", "b3"}).Draw(t, "broker")
	g, ok := s.Group(name)
	if !ok {
		g = &Group{Name: name}
	}
	r := g.Record
	var sessions []SessionID
	for _, open := range s.Brokers() {
		sessions = append(sessions, open.ID)
	}
	session := rapid.SampledFrom(append(sessions, 99)).Draw(t, "session")
	if g.Session != 0 && rapid.Bool().Draw(t, "master's") {
		session = g.Session
	}
	member, _ := r.Member(broker)
	late := uint64(rapid.IntRange(0, 4).Draw(t, "late") / 4) // one in five
	settings := group.Settings{Mode: group.Sync, MinInSync: rapid.IntRange(1, 3).Draw(t, "min"),
		Policy: rapid.SampledFrom([]group.Policy{group.PolicyInSync, group.PolicyUnclean, group.PolicyNever}).Draw(t, "policy")}
	switch rapid.IntRange(0, 12).Draw(t, "group kind") {
	case 0, 1:
		return OpenSession{"h" + broker, time.Second, [32]byte{1}, &Broker{broker, "10.0.0.1:8081", "10.0.0.1:7962"}}
	case 2, 3, 4:
		return GrantGroup{Group: name, Session: session, Unclean: rapid.Bool().Draw(t, "unclean"), Operator: rapid.Bool().Draw(t, "operator")}
	case 5:
		return ReleaseGroup{name, session, Epoch(r.Epoch - late), ""}
	case 6:
		return RecallGroup{name, Epoch(r.Epoch - late), broker, ""}
	case 7:
		return GrowInSync{name, session, group.Grow{Epoch: r.Epoch, Version: r.Version - late, Member: broker, Incarnation: member.Incarnation}}
	case 8:
		return ShrinkInSync{name, session, group.Shrink{Epoch: r.Epoch, Version: r.Version - late, Member: broker}}
	case 9:
		return ReturnReplica{name, session, member.Incarnation - late, 1 + uint64(session), ""}
	case 10:
		return ConfigureGroup{name, settings, ""}
	case 11:
		if rapid.Bool().Draw(t, "delete") {
			return DeleteGroup{name, ""}
		}
		return PutTopic{"T", rapid.IntRange(1, 4).Draw(t, "queues"), rapid.Bool().Draw(t, "ensure"), ""}
	}
	op := PutGroup{Group: name, Settings: settings}
	for _, id := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"b1", "b2", "b3"}), 1, 3, rapid.ID).Draw(t, "members") {
		op.Members = append(op.Members, GroupMember{id, 1})
	}
	return op
}

// groupInvariants checks what must hold of groups at any time.
func (m *model) groupInvariants(t *rapid.T) {
	s := m.state
	for _, g := range s.Groups() {
		r, key := g.Record, "group "+g.Name
		if r.Version < m.versions[g.Name] {
			t.Fatalf("group %s has version %d after %d", g.Name, r.Version, m.versions[g.Name])
		}
		m.versions[g.Name] = r.Version
		for _, id := range r.InSync {
			if _, ok := r.Member(id); !ok {
				t.Fatalf("group %s: %s is in sync and no member", g.Name, id)
			}
		}
		if g.Session == 0 {
			continue
		}
		if session, ok := s.Session(g.Session); !ok || session.Broker == nil || session.Broker.Name != r.Master || !r.Holds(r.Master) {
			t.Fatalf("group %s: session %d is not open of a master in the set: %+v", g.Name, g.Session, r)
		}
		if epoch := Epoch(r.Epoch); epoch < m.epochs[key] {
			t.Fatalf("group %s has epoch %d after %d", g.Name, epoch, m.epochs[key])
		}
		m.epochs[key] = Epoch(r.Epoch)
	}
}

// mastersLicensed checks that a grant of a group ended only by its broker's word or with
// its session.
func (m *model) mastersLicensed(t *rapid.T, before *State, e Entry, result Result) {
	for _, g := range before.Groups() {
		if now, ok := m.state.Group(g.Name); g.Session == 0 || ok && now.Record.Epoch == g.Record.Epoch && now.Session == g.Session {
			continue
		}
		said := func(id SessionID) bool {
			session, ok := before.Session(id)
			return ok && session.Broker != nil && session.Broker.Name == g.Record.Master
		}
		applied := false
		for i, op := range e.Ops {
			if result.Ops[i].Refusal != nil {
				continue
			}
			switch op := op.(type) {
			case CloseSession:
				applied = applied || op.Session == g.Session
			case Expire:
				applied = applied || op.Session == g.Session
			case ReleaseGroup:
				applied = applied || op.Group == g.Name && said(op.Session) && op.Epoch == Epoch(g.Record.Epoch)
			case ReturnReplica:
				applied = applied || op.Group == g.Name && said(op.Session)
			}
		}
		if !applied {
			t.Fatalf("group %s: the grant %d of %s has ended, and its master never said so; entry %+v", g.Name, g.Record.Epoch, g.Record.Master, e)
		}
	}
}
