package schedule

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast/fsm"
	"holdfast/fsm/group"
)

// TestMastersProperties drives random clusters of brokers and checks each decision from
// outside: what is decided is applied as it is, a master is live, fit and, unless the
// policy is unclean and nobody of the set is there, in sync; no grant is taken away; and
// a decision that was carried out leaves nothing to decide.
func TestMastersProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		brokers := []string{"b1", "b2", "b3"}
		do := func(op fsm.Op) {
			// Refusals are as good as anything: the state is random.
			_, err := w.state.ApplyEntry(w.state.Applied()+1, fsm.Entry{Version: fsm.EntryVersion, Ops: []fsm.Op{op}})
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, broker := range brokers {
			do(openBroker(broker))
		}
		do(randomGroup(t, brokers))
		for range rapid.IntRange(5, 40).Draw(t, "steps") {
			do(randomGroupOp(t, w, brokers))
			if broker := rapid.SampledFrom(brokers).Draw(t, "broker"); rapid.Bool().Draw(t, "silent") {
				w.silent[broker] = !w.silent[broker]
			}
			w.reports["g "+rapid.SampledFrom(brokers).Draw(t, "reporter")] = Replica{
				Epoch: uint64(rapid.IntRange(0, 2).Draw(t, "epoch")), End: uint64(rapid.IntRange(0, 2).Draw(t, "end")),
				Unfit: rapid.SampledFrom([]string{"", "", "", "full"}).Draw(t, "unfit"),
			}
			w.now += time.Duration(rapid.IntRange(0, 6).Draw(t, "passes")) * time.Second
			checkMasters(t, w)
		}
	})
}

func randomGroupOp(t *rapid.T, w *world, brokers []string) fsm.Op {
	broker := rapid.SampledFrom(brokers).Draw(t, "broker of the op")
	var session fsm.SessionID
	if open := w.brokers(broker); len(open) > 0 {
		session = open[len(open)-1].ID
	}
	g, ok := w.state.Group("g")
	if !ok {
		g = &fsm.Group{Name: "g"}
	}
	r := g.Record
	switch rapid.IntRange(0, 10).Draw(t, "op") {
	case 0:
		return openBroker(broker)
	case 1, 2:
		return fsm.CloseSession{Session: session}
	case 3:
		return fsm.ReleaseGroup{Group: "g", Session: g.Session, Epoch: fsm.Epoch(r.Epoch)}
	case 4, 5:
		return fsm.ShrinkInSync{Group: "g", Session: g.Session, Shrink: group.Shrink{Epoch: r.Epoch, Version: r.Version, Member: broker}}
	case 6:
		m, _ := r.Member(broker)
		return fsm.ReturnReplica{Group: "g", Session: session, Incarnation: m.Incarnation, Boot: uint64(session)}
	case 7:
		return fsm.RecallGroup{Group: "g", Epoch: fsm.Epoch(r.Epoch), To: broker}
	case 8:
		return fsm.ConfigureGroup{Group: "g", Settings: randomGroup(t, brokers).Settings}
	case 9:
		return fsm.PauseSet{Paused: rapid.IntRange(0, 3).Draw(t, "paused") == 0}
	}
	return randomGroup(t, brokers)
}

func openBroker(name string) fsm.Op {
	return fsm.OpenSession{Host: name, TTL: time.Second, Secret: [32]byte{1},
		Broker: &fsm.Broker{Name: name, Client: name + ":8081", Replication: name + ":7962"}}
}

func randomGroup(t *rapid.T, brokers []string) fsm.PutGroup {
	op := fsm.PutGroup{Group: "g", Settings: group.Settings{Mode: group.Sync, MinInSync: 1,
		Policy: rapid.SampledFrom([]group.Policy{group.PolicyInSync, group.PolicyUnclean, group.PolicyNever}).Draw(t, "policy")}}
	for i, id := range brokers {
		op.Members = append(op.Members, fsm.GroupMember{ID: id, Priority: i % 2})
	}
	return op
}

func checkMasters(t *rapid.T, w *world) {
	before, _ := w.state.Group("g")
	d := Decide(w.input())
	if len(d.Masters) == 0 {
		return
	}
	m, r := d.Masters[0], before.Record
	session, open := w.state.Session(m.Session)
	inSync := func() string {
		for _, s := range w.state.Brokers() {
			if r.Holds(s.Broker.Name) {
				return s.Broker.Name
			}
		}
		return ""
	}()
	switch {
	case before.Session != 0:
		t.Fatalf("%+v, and %s is master", m, r.Master)
	case w.state.Settings().Paused:
		t.Fatalf("%+v, and the scheduler is paused", m)
	case !open || session.Broker.Name != m.Broker || w.silent[m.Broker]:
		t.Fatalf("%+v is not of a live session of it", m)
	case w.reports["g "+m.Broker].Unfit != "":
		t.Fatalf("%+v is unfit", m)
	case !r.Holds(m.Broker) && (!m.Unclean || r.Settings.Policy != group.PolicyUnclean || inSync != ""):
		t.Fatalf("%+v is not in the set %v, of which %q is there; policy %s", m, r.InSync, inSync, r.Settings.Policy)
	case m.Reason == "":
		t.Fatalf("%+v without a reason", m)
	}
	if e, err := ExplainMaster(w.input(), "g"); err != nil || e.Next != m.Broker {
		t.Fatalf("%+v is decided, and explained is %+v, %v", m, e, err)
	}
	if err := w.apply(d.Ops()...); err != nil {
		t.Fatalf("%+v: %v", m, err)
	}
	if again := Decide(w.input()); len(again.Masters) > 0 {
		t.Fatalf("%+v was carried out, and then %+v", m, again.Masters)
	}
	if g, _ := w.state.Group("g"); fmt.Sprint(g.Session, g.Record.Master) != fmt.Sprint(m.Session, m.Broker) {
		t.Fatalf("%+v was carried out, and master is %s", m, g.Record.Master)
	}
}
