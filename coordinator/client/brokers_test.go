package client

import (
	"context"
	"errors"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/fsm/group"
)

// fakeBrokers answers a broker's calls.
type fakeBrokers struct {
	pb.UnimplementedBrokersServer
	reports atomic.Int32
	grow    func(*pb.GrowInSyncRequest) error
}

func (f *fakeBrokers) Report(context.Context, *pb.ReportRequest) (*pb.ReportReply, error) {
	f.reports.Add(1)
	return &pb.ReportReply{}, nil
}

func (f *fakeBrokers) GrowInSync(_ context.Context, r *pb.GrowInSyncRequest) (*pb.GrowInSyncReply, error) {
	return &pb.GrowInSyncReply{Index: 8}, f.grow(r)
}

// TestGroups: a group's record comes out of a view as it went in; no field is forgotten.
func TestGroups(t *testing.T) {
	v := &pb.View{Index: 40, Brokers: &pb.BrokerView{Groups: []*pb.Group{
		{
			Name: "orders", Created: 5,
			Settings: &pb.GroupSettings{Mode: "sync", MinInSync: 2, Policy: "in-sync"},
			Next:     &pb.GroupSettings{Mode: "async", MinInSync: 1, Policy: "never", ReadLocal: true},
			Members:  []*pb.Member{{Id: "b1", Priority: 2, Incarnation: 5}, {Id: "b2", Priority: 1, Incarnation: 9, Boot: 77}},
			InSync:   []string{"b1"}, Version: 9, Master: "b1", Session: 3, Epoch: 7, Last: "b1", Wanted: "b1",
		},
		{Name: "audit", Deleting: true},
	}}}
	got := Groups(v)
	want := Group{Name: "orders", Created: 5, Session: 3, Recalled: true, Record: group.Group{
		Settings: group.Settings{Mode: group.Sync, MinInSync: 2, Policy: group.PolicyInSync},
		Next:     group.Settings{Mode: group.Async, MinInSync: 1, Policy: group.PolicyNever, ReadLocal: true},
		Members:  []group.Member{{ID: "b1", Priority: 2, Incarnation: 5}, {ID: "b2", Priority: 1, Incarnation: 9, Boot: 77}},
		InSync:   []string{"b1"}, Version: 9, Master: "b1", Epoch: 7, Last: "b1", Wanted: "b1",
	}}
	if len(got) != 2 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("groups %+v, not %+v", got, want)
	}
	for i, record := 0, reflect.ValueOf(got[0].Record); i < record.NumField(); i++ {
		if record.Field(i).IsZero() {
			t.Errorf("%s of the record is lost", record.Type().Field(i).Name)
		}
	}
	if got[1].Recalled {
		t.Error("a group without a master asks nobody to release")
	}
	if Groups(&pb.View{}) == nil || len(Groups(&pb.View{})) != 0 {
		t.Error("groups of a host's view")
	}
}

func TestBrokersWatchAndReport(t *testing.T) {
	var fakes []*fakeBrokers
	var cs []*fakeCoordinator
	for _, name := range []string{"a", "b"} {
		f := &fakeBrokers{grow: func(*pb.GrowInSyncRequest) error { return status.Error(codes.Aborted, "not the current version") }}
		c := startCoordinatorWith(t, name, "127.0.0.1:0", f)
		fakes, cs = append(fakes, f), append(cs, c)
	}
	s := startSessionsAs(t, SessionsConfig{Broker: "b1"}, cs...)
	connected(t, s, cs...)
	if got := cs[0].watched.Load(); got == nil || got.Broker != "b1" || got.Host != "" {
		t.Errorf("watched %v", got)
	}
	if took := s.Report(t.Context(), &pb.ReportRequest{Session: 1}); took != 2 || fakes[0].reports.Load() != 1 || fakes[1].reports.Load() != 1 {
		t.Errorf("%d took the report", took)
	}
	_, err := s.GrowInSync(t.Context(), &pb.GrowInSyncRequest{Session: 1, Group: "orders"})
	if refused := new(RefusedError); !errors.As(err, &refused) || refused.Code != codes.Aborted {
		t.Errorf("grow: %v", err)
	}
	cs[1].server.Stop()
	begun := time.Now()
	if took := s.Report(t.Context(), &pb.ReportRequest{Session: 1}); took != 1 || time.Since(begun) > 2*tryLimit {
		t.Errorf("%d took the report in %v, of which one is gone", took, time.Since(begun))
	}
}
