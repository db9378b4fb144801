package brokers

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/test/lab"
)

// groups asks the quorum.
func (s *stage) groups(ctx context.Context) (*pb.ListGroupsReply, error) {
	text, err := s.cluster.MustCtl(ctx, "broker", "status", "-o", "json")
	if err != nil {
		return nil, err
	}
	r := &pb.ListGroupsReply{}
	return r, protojson.Unmarshal([]byte(text), r)
}

func (s *stage) knowsBrokers(ctx context.Context) error {
	r, err := s.groups(ctx)
	if err != nil {
		return err
	}
	if len(r.GetBrokers()) < len(s.cluster.Network.Hosts) {
		return fmt.Errorf("%d brokers", len(r.GetBrokers()))
	}
	return nil
}

// group is how the group stands.
func (s *stage) group(ctx context.Context) (*pb.GroupStatus, error) {
	r, err := s.groups(ctx)
	if err != nil {
		return nil, err
	}
	for _, g := range r.GetGroups() {
		if g.GetGroup().GetName() == groupName {
			return g, nil
		}
	}
	return nil, fmt.Errorf("no group %s", groupName)
}

// rest waits until the group serves and all its members are in sync. Meanwhile it does
// what a supervisor does: a broker that has ended is started again.
func (s *stage) rest(ctx context.Context) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	check(s.t, lab.Poll(ctx, 100*time.Millisecond, func() error {
		if err := s.supervise(); err != nil {
			return err
		}
		g, err := s.group(ctx)
		if err != nil {
			return err
		}
		if g.GetVerdict() != "serving" || len(g.GetGroup().GetInSync()) < len(s.cluster.Network.Hosts) {
			return fmt.Errorf("group is %s (%s), in sync %v", g.GetVerdict(), g.GetReason(), g.GetGroup().GetInSync())
		}
		return nil
	}))
}

func (s *stage) supervise() error {
	for _, h := range s.cluster.Network.Hosts {
		if p, _ := s.cluster.Broker(h); !p.Running() {
			if _, err := s.cluster.StartBroker(h); err != nil {
				return err
			}
		}
	}
	return nil
}

// master is the host of the group's master.
func (s *stage) master(ctx context.Context) *lab.Host {
	s.t.Helper()
	var found *lab.Host
	check(s.t, lab.Poll(ctx, 50*time.Millisecond, func() error {
		g, err := s.group(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(s.cluster.Network.Hosts, func(h *lab.Host) bool { return h.Name == g.GetGroup().GetMaster() })
		if i < 0 {
			return fmt.Errorf("no master: %s", g.GetReason())
		}
		found = s.cluster.Network.Hosts[i]
		return nil
	}))
	return found
}

// slave is the host of a member that is not master.
func (s *stage) slave(ctx context.Context) *lab.Host {
	s.t.Helper()
	m := s.master(ctx)
	for _, h := range s.cluster.Network.Hosts {
		if h != m {
			return h
		}
	}
	return nil
}

// lead makes a host's broker master.
func (s *stage) lead(ctx context.Context, h *lab.Host) {
	s.t.Helper()
	if s.master(ctx) == h {
		return
	}
	_, err := s.cluster.MustCtl(ctx, "broker", "switchover", groupName, "--to", h.Name)
	check(s.t, err)
}
