package fsm

import (
	"testing"
	"time"

	"holdfast/fsm/group"
)

// TestRunningBrokersOweNothing: the creation of a group counts as the return of its
// members whose brokers run, by their newest session; the others return when they start.
func TestRunningBrokersOweNothing(t *testing.T) {
	s := New()
	index := uint64(0)
	apply := func(op Op) {
		t.Helper()
		index++
		r, err := s.ApplyEntry(index, Entry{Version: EntryVersion, Ops: []Op{op}})
		if err != nil || r.Err() != nil {
			t.Fatalf("%s: %v, %v", op.Kind(), err, r.Err())
		}
	}
	open := func(broker string) {
		apply(OpenSession{"host", time.Second, [32]byte{1}, &Broker{broker, "10.0.0.1:8081", "10.0.0.1:7955"}})
	}
	open("b1")
	open("b2")
	open("b1") // a later process
	apply(PutGroup{Group: "g", Members: []GroupMember{{ID: "b1"}, {ID: "b2"}, {ID: "b3"}}, Settings: group.Settings{Mode: group.Sync, MinInSync: 2, Policy: group.PolicyInSync}})
	g, _ := s.Group("g")
	for id, want := range map[string]uint64{"b1": 3, "b2": 2, "b3": 0} {
		if m, _ := g.Record.Member(id); m.Boot != want || m.Incarnation != index {
			t.Errorf("%s: %+v, want boot %d", id, m, want)
		}
	}
}
