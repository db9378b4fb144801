package brokers

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/test/lab"
)

// strike is one fault, and how long it stays. The repair of the whole cluster ends it.
type strike struct {
	name string
	hold time.Duration
	do   func(ctx context.Context, s *stage) error
}

// strikes are the faults that a group has to stand.
func strikes() []strike {
	broker := func(s *stage, h *lab.Host) *lab.Process { p, _ := s.cluster.Broker(h); return p }
	disk := func(s *stage, h *lab.Host) *lab.Disk { _, d := s.cluster.Broker(h); return d }
	return []strike{
		{"master killed (-9)", 3 * time.Second, func(ctx context.Context, s *stage) error { return broker(s, s.master(ctx)).Kill() }},
		{"master frozen for longer than its lease", 4 * time.Second, func(ctx context.Context, s *stage) error { return broker(s, s.master(ctx)).Freeze() }},
		{"slave killed (-9)", 3 * time.Second, func(ctx context.Context, s *stage) error { return broker(s, s.slave(ctx)).Kill() }},
		{"slave frozen", 3 * time.Second, func(ctx context.Context, s *stage) error { return broker(s, s.slave(ctx)).Freeze() }},
		{"master's host powered off", 4 * time.Second, func(ctx context.Context, s *stage) error {
			_, err := s.master(ctx).PowerOff()
			return err
		}},
		{"master partitioned", 4 * time.Second, func(ctx context.Context, s *stage) error {
			s.lead(ctx, s.cluster.Network.Hosts[0]) // alone on its segment
			return s.cluster.Network.Partition()
		}},
		{"master's outgoing packets lost", 4 * time.Second, func(ctx context.Context, s *stage) error { return s.cluster.Network.CutOut(s.master(ctx)) }},
		{"master's incoming packets lost", 4 * time.Second, func(ctx context.Context, s *stage) error { return s.cluster.Network.CutIn(s.master(ctx)) }},
		{"master's disk hangs", 8 * time.Second, func(ctx context.Context, s *stage) error { disk(s, s.master(ctx)).Hang(); return nil }},
		{"slave's disk hangs", 3 * time.Second, func(ctx context.Context, s *stage) error { disk(s, s.slave(ctx)).Hang(); return nil }},
		{"master stopped (SIGTERM)", time.Second, func(ctx context.Context, s *stage) error { return broker(s, s.master(ctx)).Stop(ctx) }},
		{"slave replaced by an empty disk", time.Second, func(ctx context.Context, s *stage) error { return s.replace(ctx, s.slave(ctx)) }},
		{"master replaced by an empty disk", time.Second, func(ctx context.Context, s *stage) error { return s.replace(ctx, s.master(ctx)) }},
		{"planned switchover", time.Second, func(ctx context.Context, s *stage) error { s.lead(ctx, s.slave(ctx)); return nil }},
		{"Raft leader killed", 2 * time.Second, func(ctx context.Context, s *stage) error {
			h, err := s.cluster.Leader(ctx)
			if err != nil {
				return err
			}
			return s.cluster.Coordinator(h).Kill()
		}},
	}
}

// replace kills a broker and takes its disk away; the repair starts it with an empty one.
func (s *stage) replace(ctx context.Context, h *lab.Host) error {
	p, _ := s.cluster.Broker(h)
	err := errors.Join(p.Signal(unix.SIGKILL))
	select {
	case <-p.Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	return errors.Join(err, os.RemoveAll(s.cluster.BrokerDir(h)))
}

// strike does it, lets it stay, repairs everything and waits until all members are in
// sync again. It returns when the fault began.
func (s *stage) strike(ctx context.Context, x strike) (began time.Time) {
	s.t.Helper()
	began = time.Now()
	if err := x.do(ctx, s); err != nil {
		s.t.Fatalf("%s: %v", x.name, err)
	}
	check(s.t, lab.Wait(ctx, x.hold))
	if err := s.cluster.Revive(); err != nil {
		s.t.Fatalf("after %s: %v", x.name, err)
	}
	s.rest(ctx)
	return began
}
