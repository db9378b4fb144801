package coordinator

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/schedule"
	"holdfast/fsm"
)

// openBroker opens a session of a broker on a host of its own, and renews it once.
func (q *quorum) openBroker(name string) *holder {
	q.t.Helper()
	h := q.openAs("host-"+name, &pb.Broker{Name: name, Client: name + ":8081", Replication: name + ":7962"})
	h.renew()
	synctest.Wait()
	return h
}

// threeBrokers has the group "orders" with members b1 to b3, in which b1 has the highest
// priority, and nobody's sessions but b1 to b3's.
func threeBrokers(t *testing.T, scenario func(t *testing.T, q *quorum, b []*holder)) {
	inBubble(t, func(t *testing.T, q *quorum) {
		b := []*holder{q.openBroker("b1"), q.openBroker("b2"), q.openBroker("b3")}
		q.putGroup(&pb.PutGroupRequest{Group: "orders", Settings: &pb.GroupSettings{Mode: "sync", MinInSync: 2, Policy: "in-sync"},
			Members: []*pb.Member{{Id: "b1", Priority: 2}, {Id: "b2", Priority: 1}, {Id: "b3", Priority: 1}}})
		scenario(t, q, b)
	})
}

func (q *quorum) putGroup(r *pb.PutGroupRequest) {
	q.t.Helper()
	if _, err := q.node().PutGroup(q.ctx, "test", r); err != nil {
		q.t.Fatal(err)
	}
	synctest.Wait()
}

// group returns a group as its status at the leader shows it.
func (q *quorum) group(name string) *pb.GroupStatus {
	q.t.Helper()
	r, err := q.node().ListGroups(&pb.ListGroupsRequest{Names: []string{name}})
	if err != nil {
		q.t.Fatal(err)
	}
	return r.Groups[0]
}

func (q *quorum) wantMaster(name, master string) *pb.Group {
	q.t.Helper()
	s := q.group(name)
	if s.Group.Master != master {
		q.t.Fatalf("master of %s is %q, want %q: %s", name, s.Group.Master, master, s.Decision)
	}
	return s.Group
}

// release is what a broker does that has been asked to.
func (h *holder) release(g *pb.Group, unfit string) {
	h.q.t.Helper()
	_, err := h.q.node().ReleaseGroup(h.q.ctx, &pb.ReleaseGroupRequest{Session: h.id, Group: g.Name, Epoch: g.Epoch, Unfit: unfit})
	if err != nil {
		h.q.t.Fatal(err)
	}
	synctest.Wait()
}

// report tells all coordinators where a log ends.
func (h *holder) report(lastEpoch, end uint64) {
	h.q.t.Helper()
	for _, n := range h.q.nodes {
		if _, err := n.Report(h.q.ctx, &pb.ReportRequest{Session: h.id, Groups: []*pb.GroupReport{{Group: "orders", LastEpoch: lastEpoch, End: end}}}); err != nil {
			h.q.t.Fatal(err)
		}
	}
}

func wantCode(t *testing.T, err error, code fsm.Code, text string) {
	t.Helper()
	var r *fsm.Refusal
	if !errors.As(err, &r) || r.Code != code || !strings.Contains(r.Message, text) {
		t.Fatalf("error %v, want %s: %s", err, code, text)
	}
}

func TestSilentMasterIsReplacedInOneEntry(t *testing.T) {
	threeBrokers(t, func(t *testing.T, q *quorum, b []*holder) {
		q.wantMaster("orders", "b1")
		b[1].report(3, 100)
		b[2].report(3, 200) // of equal priority, and its log ends later
		q.renewFor(1500*time.Millisecond, b[1], b[2])
		if g := q.wantMaster("orders", "b3"); !slices.Equal(g.InSync, []string{"b2", "b3"}) {
			t.Fatalf("in-sync set %v: the new master would wait for the old one", g.InSync)
		}
		expire, grants := q.changesOf("expire"), q.changesOf("grant-group")
		if len(expire) == 0 || grants[len(grants)-1].Index != expire[0].Index {
			t.Fatalf("expire %v and next grant %v are not one entry", expire, grants)
		}
	})
}

func TestPriorityTakesNoMasterAway(t *testing.T) {
	threeBrokers(t, func(t *testing.T, q *quorum, b []*holder) {
		q.renewFor(1500*time.Millisecond, b[1], b[2])
		q.wantMaster("orders", "b2")
		again := q.openBroker("b1")
		q.renewFor(3*time.Second, again, b[1], b[2])
		q.wantMaster("orders", "b2")
	})
}

func TestSwitchover(t *testing.T) {
	threeBrokers(t, func(t *testing.T, q *quorum, b []*holder) {
		r, err := q.node().Switchover(q.ctx, "alice", &pb.SwitchoverRequest{Group: "orders", To: "b3"})
		if err != nil || r.From != "b1" || r.To != "b3" {
			t.Fatalf("%v, %v", r, err)
		}
		q.pass(50 * time.Millisecond)
		g := q.wantMaster("orders", "b1")
		if g.Wanted != "b3" || q.group("orders").Verdict != "moving" {
			t.Fatalf("not recalled: %v", g)
		}
		b[0].release(g, "")
		q.wantMaster("orders", "b3")
		released, grants := q.changesOf("release-group"), q.changesOf("grant-group")
		if released[0].Index != grants[len(grants)-1].Index {
			t.Fatalf("release %v and next grant %v are not one entry", released, grants)
		}
		// Without a name it is whom the scheduler would take.
		if r, err = q.node().Switchover(q.ctx, "alice", &pb.SwitchoverRequest{Group: "orders"}); err != nil || r.To != "b1" {
			t.Fatalf("%v, %v", r, err)
		}
	})
}

func TestSwitchoverRefused(t *testing.T) {
	threeBrokers(t, func(t *testing.T, q *quorum, b []*holder) {
		ask := func(r *pb.SwitchoverRequest) error { _, err := q.node().Switchover(q.ctx, "alice", r); return err }
		wantCode(t, ask(&pb.SwitchoverRequest{Group: "nothere", To: "b2"}), fsm.CodeNotFound, "coordctl broker status")
		wantCode(t, ask(&pb.SwitchoverRequest{Group: "orders", To: "b9"}), fsm.CodeConflict, "b9 is no member of orders")
		g := q.wantMaster("orders", "b1")
		if _, err := q.node().ShrinkInSync(q.ctx, &pb.ShrinkInSyncRequest{Session: b[0].id, Group: "orders", Epoch: g.Epoch, Version: g.Version, Member: "b3"}); err != nil {
			t.Fatal(err)
		}
		wantCode(t, ask(&pb.SwitchoverRequest{Group: "orders", To: "b3", Unclean: true}), fsm.CodeConflict, "not in the in-sync set")
		q.renewFor(1500*time.Millisecond, b[0])
		wantCode(t, ask(&pb.SwitchoverRequest{Group: "orders", To: "b2"}), fsm.CodeConflict, "does not renew a lease")
		wantCode(t, ask(&pb.SwitchoverRequest{Group: "orders"}), fsm.CodeConflict, "no other member of orders can be master now")
		if _, err := q.node().Pause(q.ctx, "alice", &pb.PauseRequest{Paused: true}); err != nil {
			t.Fatal(err)
		}
		wantCode(t, ask(&pb.SwitchoverRequest{Group: "orders", To: "b1"}), fsm.CodeConflict, "paused")
	})
}

func TestOtherSettingsAreANewGrantOfTheSameMaster(t *testing.T) {
	threeBrokers(t, func(t *testing.T, q *quorum, b []*holder) {
		before := q.wantMaster("orders", "b1")
		if _, err := q.node().ConfigureGroup(q.ctx, "alice", &pb.ConfigureGroupRequest{Group: "orders", Mode: proto.String("async")}); err != nil {
			t.Fatal(err)
		}
		g := q.wantMaster("orders", "b1")
		if g.Wanted != "b1" || g.Settings.Mode != "sync" || g.Next.Mode != "async" || g.Next.MinInSync != 2 {
			t.Fatalf("group %v", g)
		}
		b[0].release(g, "")
		if g = q.wantMaster("orders", "b1"); g.Settings.Mode != "async" || g.Epoch <= before.Epoch || g.Wanted != "" {
			t.Fatalf("group %v", g)
		}
		_, err := q.node().ConfigureGroup(q.ctx, "alice", &pb.ConfigureGroupRequest{Group: "orders", MinInSync: proto.Int32(4)})
		wantCode(t, err, fsm.CodeInvalid, "min_in_sync")
	})
}

func TestUnfitMasterIsNotChosenAgain(t *testing.T) {
	threeBrokers(t, func(t *testing.T, q *quorum, b []*holder) {
		b[0].release(q.wantMaster("orders", "b1"), "its disk is full")
		b[1].release(q.wantMaster("orders", "b2"), "its disk is full")
		b[2].release(q.wantMaster("orders", "b3"), "its disk is full")
		s := q.group("orders")
		if s.Group.Master != "" || s.Verdict != "no-master" || !strings.Contains(s.Reason, "b2 is unfit: its disk is full") {
			t.Fatalf("group %v", s)
		}
		b[1].report(1, 1) // it is fit again, by its next report
		synctest.Wait()
		q.wantMaster("orders", "b2")
	})
}

func TestReturnOfTheMasterCarriesTheNextGrant(t *testing.T) {
	threeBrokers(t, func(t *testing.T, q *quorum, b []*holder) {
		g := q.wantMaster("orders", "b1")
		again := q.openBroker("b1") // the process that begins after it, with an empty disk
		r := &pb.ReturnReplicaRequest{Session: again.id, Group: "orders", Incarnation: g.Members[0].Incarnation, Boot: 9, Cause: "disk replaced"}
		reply, err := q.node().ReturnReplica(q.ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		g = q.wantMaster("orders", "b2")
		if g.Epoch != reply.Index || len(g.InSync) != 2 || g.Members[0].Incarnation != reply.Index || g.Members[0].Boot != 9 {
			t.Fatalf("group %v after return at %d", g, reply.Index)
		}
		_, err = q.node().ReturnReplica(q.ctx, r)
		wantCode(t, err, fsm.CodeStale, "incarnation")
		grow := &pb.GrowInSyncRequest{Session: b[1].id, Group: "orders", Epoch: g.Epoch, Version: g.Version, Member: "b1", Incarnation: reply.Index}
		if _, err := q.node().GrowInSync(q.ctx, grow); err != nil {
			t.Fatal(err)
		}
		_, err = q.node().GrowInSync(q.ctx, grow)
		wantCode(t, err, fsm.CodeStale, "version")
	})
}

func TestUncleanPolicyWaits(t *testing.T) {
	threeBrokers(t, func(t *testing.T, q *quorum, b []*holder) {
		if _, err := q.node().ConfigureGroup(q.ctx, "alice", &pb.ConfigureGroupRequest{Group: "orders", Policy: proto.String("unclean"), MinInSync: proto.Int32(1)}); err != nil {
			t.Fatal(err)
		}
		b[0].release(q.wantMaster("orders", "b1"), "")
		for _, member := range []string{"b2", "b3"} {
			g := q.wantMaster("orders", "b1")
			if _, err := q.node().ShrinkInSync(q.ctx, &pb.ShrinkInSyncRequest{Session: b[0].id, Group: "orders", Epoch: g.Epoch, Version: g.Version, Member: member}); err != nil {
				t.Fatal(err)
			}
		}
		b[2].report(7, 10) // no higher priority than b2, but a later log
		q.renewFor(1500*time.Millisecond, b[1], b[2])
		if s := q.group("orders"); s.Group.Master != "" || !strings.Contains(s.Decision, "b3 becomes master if none comes within") {
			t.Fatalf("group %v", s)
		}
		q.renewFor(schedule.UncleanAfter, b[1], b[2])
		if g := q.wantMaster("orders", "b3"); len(g.InSync) != 1 {
			t.Fatalf("in-sync set %v", g.InSync)
		}
	})
}

func TestUncleanSwitchover(t *testing.T) {
	threeBrokers(t, func(t *testing.T, q *quorum, b []*holder) {
		for _, h := range b {
			g := q.group("orders").Group
			for _, m := range g.Members {
				if "host-"+m.Id == h.host {
					if _, err := q.node().ReturnReplica(q.ctx, &pb.ReturnReplicaRequest{Session: h.id, Group: "orders", Incarnation: m.Incarnation, Boot: h.id}); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if s := q.group("orders"); s.Group.Master != "" || !strings.Contains(s.Reason, "the in-sync set is empty") {
			t.Fatalf("group %v", s)
		}
		_, err := q.node().Switchover(q.ctx, "alice", &pb.SwitchoverRequest{Group: "orders", To: "b2"})
		wantCode(t, err, fsm.CodeConflict, "--unclean")
		if _, err := q.node().Switchover(q.ctx, "alice", &pb.SwitchoverRequest{Group: "orders", To: "b2", Unclean: true}); err != nil {
			t.Fatal(err)
		}
		q.wantMaster("orders", "b2")
	})
}

func TestBrokerIsNoAgent(t *testing.T) {
	threeBrokers(t, func(t *testing.T, q *quorum, b []*holder) {
		q.put(&pb.VIPSet{Name: "web", Addresses: []*pb.Address{{Prefix: "10.0.0.50/24"}}, Candidates: []*pb.Candidate{{Host: "host-b1", Priority: 1}}})
		q.renewFor(500*time.Millisecond, b...)
		if got := q.holderOf("web"); got != "" {
			t.Fatalf("%s holds a VIP set by its broker's session", got)
		}
		s := q.node().Status(q.ctx)
		if len(s.Agents) != 1 || s.Agents[0].Session != 0 || len(s.Brokers) != 3 || len(s.Groups) != 1 {
			t.Fatalf("status: agents %v, brokers %v", s.Agents, s.Brokers)
		}
		if v := q.node().View("host-b1"); len(v.Sessions) != 0 || v.Brokers != nil {
			t.Fatalf("the host's view has the broker's sessions: %v", v)
		}
		_, err := q.node().Report(q.ctx, &pb.ReportRequest{Session: 99})
		wantCode(t, err, fsm.CodeNotFound, "not open here of a broker")
	})
}

func TestBrokerView(t *testing.T) {
	threeBrokers(t, func(t *testing.T, q *quorum, b []*holder) {
		views := make(chan *pb.View, 16)
		ctx, cancel := context.WithCancel(q.ctx)
		defer cancel()
		go q.nodes["c2"].Watch(ctx, &pb.WatchRequest{Broker: "b1"}, func(v *pb.View) error { views <- v; return nil })
		v := <-views
		if len(v.Sessions) != 1 || v.Sessions[0] != b[0].id || len(v.Brokers.Brokers) != 3 || v.Brokers.Brokers[1].Client != "b2:8081" {
			t.Fatalf("view %v", v)
		}
		if g := v.Brokers.Groups[0]; g.Master != "b1" || g.Session != b[0].id || v.Index < g.Epoch || g.Created == 0 {
			t.Fatalf("view %v", v)
		}
		for range 2 { // the second is no news
			r, err := q.node().EnsureTopic(q.ctx, &pb.EnsureTopicRequest{Session: b[1].id, Topic: "Orders", Queues: 8})
			if err != nil || r.Queues != 8 {
				t.Fatalf("%v, %v", r, err)
			}
		}
		if v = <-views; len(v.Brokers.Topics) != 1 || v.Brokers.Topics[0].Queues != 8 {
			t.Fatalf("view %v", v)
		}
		b[0].report(1, 1) // nothing that a broker has to know
		synctest.Wait()
		if len(views) > 0 {
			t.Fatalf("%d views more: %v", len(views), <-views)
		}
	})
}

func TestDeletedGroupGoesWhenItIsReleased(t *testing.T) {
	threeBrokers(t, func(t *testing.T, q *quorum, b []*holder) {
		r, err := q.node().DeleteGroup(q.ctx, "alice", &pb.DeleteGroupRequest{Group: "orders"})
		if err != nil || r.Master != "b1" {
			t.Fatalf("%v, %v", r, err)
		}
		q.renewFor(300*time.Millisecond, b...)
		g := q.wantMaster("orders", "b1")
		if !g.Deleting || q.group("orders").Verdict != "deleting" {
			t.Fatalf("group %v", g)
		}
		b[0].release(g, "")
		if r, _ := q.node().ListGroups(&pb.ListGroupsRequest{}); len(r.Groups) != 0 {
			t.Fatalf("groups %v", r.Groups)
		}
	})
}

func TestReplicaStatus(t *testing.T) {
	threeBrokers(t, func(t *testing.T, q *quorum, b []*holder) {
		b[0].report(5, 1000)
		b[1].report(5, 900)
		q.renewFor(300*time.Millisecond, b[0], b[1])
		s := q.group("orders")
		if s.Verdict != "serving" || s.LeaseLeftMs <= 0 {
			t.Fatalf("group %v", s)
		}
		one, two, three := s.Replicas[0], s.Replicas[1], s.Replicas[2]
		if one.LagBytes != 0 || two.LagBytes != 100 || two.ReportedMsAgo < 300 || three.LagBytes != -1 || three.Report != nil {
			t.Fatalf("replicas %v", s.Replicas)
		}
		// A report ends with its session.
		q.renewFor(1500*time.Millisecond, b[0])
		if two = q.group("orders").Replicas[1]; two.Report != nil || two.Live {
			t.Fatalf("replica %v", two)
		}
		if st := q.node().Status(q.ctx); st.Verdict != "degraded" || !strings.Contains(strings.Join(st.Problems, "\n"), "broker b2, a member of group orders, is not live") {
			t.Fatalf("status %s: %v", st.Verdict, st.Problems)
		}
	})
}
