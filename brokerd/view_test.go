package brokerd

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/brokerd/service"
	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/fsm/group"
)

func aView() *pb.View {
	return &pb.View{Index: 9, Sessions: []uint64{4}, Brokers: &pb.BrokerView{
		Groups: []*pb.Group{
			{Name: "orders", Created: 3, Master: "b2", Session: 5, Epoch: 7, Last: "b2", Version: 6, Wanted: "b1", InSync: []string{"b1", "b2"},
				Settings: &pb.GroupSettings{Mode: "sync", MinInSync: 2, Policy: "in-sync"}, Next: &pb.GroupSettings{Mode: "async", MinInSync: 1, Policy: "never", ReadLocal: true},
				Members: []*pb.Member{{Id: "b1", Priority: 9, Incarnation: 3, Boot: 4}, {Id: "b2", Incarnation: 3}}},
			{Name: "bills"},
		},
		Topics:  []*pb.Topic{{Name: "t2", Queues: 4}, {Name: "t1", Queues: 1}},
		Brokers: []*pb.Broker{{Name: "b2", Client: "old:1", Replication: "old:2", Session: 4}, {Name: "b1", Client: "h1:1", Replication: "h1:2", Session: 5}, {Name: "b2", Client: "h2:1", Replication: "h2:2", Session: 6}, {Name: "x", Client: "h3:1"}},
	}}
}

func TestStanding(t *testing.T) {
	s := standingOf(aView(), "orders")
	want := group.Group{
		Settings: group.Settings{Mode: group.Sync, MinInSync: 2, Policy: group.PolicyInSync}, Next: group.Settings{Mode: group.Async, MinInSync: 1, Policy: group.PolicyNever, ReadLocal: true},
		Members: []group.Member{{ID: "b1", Priority: 9, Incarnation: 3, Boot: 4}, {ID: "b2", Incarnation: 3}},
		InSync:  []string{"b1", "b2"}, Version: 6, Master: "b2", Epoch: 7, Last: "b2", Wanted: "b1",
	}
	if !s.exists || s.created != 3 || s.session != 5 || s.index != 9 || !reflect.DeepEqual(s.record, want) {
		t.Errorf("%+v", s)
	}
	if got := replicasOf(aView(), s.record); !reflect.DeepEqual(got, map[string]string{"b1": "h1:2", "b2": "h2:2"}) {
		t.Errorf("replicas %v: the last session of a name counts, and members alone", got)
	}
	if standingOf(aView(), "none").exists {
		t.Error("a group that is not there exists")
	}
}

func TestClusterOfAView(t *testing.T) {
	v := clusterOf(aView())
	if g, ok := v.Group("orders"); !ok || g.Grant != (service.Grant{Master: "b2", Epoch: 7}) || len(g.Members) != 2 {
		t.Errorf("group %+v", g)
	}
	if b, ok := v.Broker("b2"); !ok || b.Address != "h2:1" {
		t.Errorf("broker %+v", b)
	}
	if topic, ok := v.Topic("t2"); !ok || topic.In("bills") != 4 || topic.In("orders") != 4 || len(topic.All()) != 8 {
		t.Errorf("topic %+v", topic)
	}
}

// TestGone: a view that is older than the session says nothing of it.
func TestGone(t *testing.T) {
	for _, tt := range []struct {
		index, session uint64
		want           bool
	}{{9, 4, false}, {9, 5, true}, {4, 5, false}, {5, 5, true}} {
		if got := gone(&held{id: tt.session}, &pb.View{Index: tt.index, Sessions: []uint64{4}}); got != tt.want {
			t.Errorf("session %d in a view of %d: gone is %t", tt.session, tt.index, got)
		}
	}
	if gone(nil, aView()) {
		t.Error("no session is gone")
	}
}

// topics makes topics at once, or refuses.
type topics struct {
	Groups
	made func(string)
}

func (x topics) EnsureTopic(_ context.Context, r *pb.EnsureTopicRequest) (*pb.EnsureTopicReply, error) {
	if x.made == nil {
		return nil, errors.New("refused")
	}
	x.made(r.GetTopic())
	return &pb.EnsureTopicReply{}, nil
}

func TestEnsure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(Config{Topics: 4}, Edges{Groups: topics{}}, nil)
		c.put(clusterOf(aView()))
		if err := c.Ensure(t.Context(), "t1"); err != nil {
			t.Errorf("a topic that is there: %v", err)
		}
		if err := c.Ensure(t.Context(), "new"); !errors.Is(err, service.ErrNoTopic) {
			t.Errorf("without a session: %v", err)
		}
		c.session.Store(4)
		if err := c.Ensure(t.Context(), "new"); !errors.Is(err, service.ErrNoTopic) {
			t.Errorf("refused: %v", err)
		}
		c.groups = topics{made: func(name string) {
			go func() {
				time.Sleep(time.Second)
				v := aView()
				v.Index++
				v.Brokers.Topics = append(v.Brokers.Topics, &pb.Topic{Name: name, Queues: 1})
				c.put(clusterOf(v))
			}()
		}}
		began := time.Now()
		if err := c.Ensure(t.Context(), "new"); err != nil || time.Since(began) != time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.Wait(ctx, 99); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a view that does not come: %v", err)
		}
	})
}

// TestDo: a request that is given up before the owner has begun it is refused for certain;
// afterwards its outcome is unknown.
func TestDo(t *testing.T) {
	b := &Broker{config: Config{Logger: slog.New(slog.DiscardHandler)}, tasks: make(chan func(*owner), 1), running: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	begun := false
	if err := b.do(ctx, func(*owner, func(error)) error { begun = true; return nil }); !errors.Is(err, service.ErrBusy) {
		t.Errorf("never begun: %v", err)
	}
	select {
	case f := <-b.tasks:
		f(&owner{Broker: b})
	default:
	}
	if begun {
		t.Error("it was begun though it was given up")
	}
	ended := make(chan error, 1)
	go func() { ended <- b.do(t.Context(), func(*owner, func(error)) error { return nil }) }()
	(<-b.tasks)(&owner{Broker: b}) // without a replica: refused
	if err := <-ended; !errors.Is(err, service.ErrNotMaster) {
		t.Errorf("without a replica: %v", err)
	}
}
