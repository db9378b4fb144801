package coordinator

import (
	"fmt"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/fsm"
	"holdfast/fsm/group"
)

// groupToPB, groupSettingsFromPB and their like are the only translation between the
// replicated form of broker groups and the wire's.
func groupToPB(g *fsm.Group) *pb.Group {
	r := g.Record
	out := &pb.Group{
		Name: g.Name, Created: g.Created, Settings: groupSettingsToPB(r.Settings), Next: groupSettingsToPB(r.Next),
		InSync: r.InSync, Version: r.Version, Master: r.Master, Session: uint64(g.Session), Epoch: r.Epoch,
		Last: r.Last, Wanted: r.Wanted, Deleting: g.Deleting,
	}
	for _, m := range r.Members {
		out.Members = append(out.Members, &pb.Member{Id: m.ID, Priority: int32(m.Priority), Incarnation: m.Incarnation, Boot: m.Boot})
	}
	return out
}

func groupSettingsToPB(s group.Settings) *pb.GroupSettings {
	return &pb.GroupSettings{Mode: string(s.Mode), MinInSync: int32(s.MinInSync), Policy: string(s.Policy), ReadLocal: s.ReadLocal}
}

func groupSettingsFromPB(s *pb.GroupSettings) group.Settings {
	return group.Settings{
		Mode: group.Mode(s.GetMode()), MinInSync: int(s.GetMinInSync()), Policy: group.Policy(s.GetPolicy()), ReadLocal: s.GetReadLocal(),
	}
}

// brokerToPB translates a broker's session.
func brokerToPB(s *fsm.Session) *pb.Broker {
	return &pb.Broker{Name: s.Broker.Name, Client: s.Broker.Client, Replication: s.Broker.Replication, Session: uint64(s.ID), Host: s.Host}
}

func topicToPB(t *fsm.Topic) *pb.Topic {
	return &pb.Topic{Name: t.Name, Queues: int32(t.Queues), Revision: t.Revision}
}

// invalid makes the refusal of a request that makes no sense in any state.
func invalid(format string, args ...any) error {
	return &fsm.Refusal{Code: fsm.CodeInvalid, Message: fmt.Sprintf(format, args...)}
}
