package scenario

import (
	"context"
	"time"

	"holdfast/test/lab"
)

// Compared returns the faults under which systems are compared, in the order
// of the table. A frozen daemon stays frozen for the given time, and random
// loss lasts as long.
func Compared(frozen time.Duration) []Scenario {
	loss := RandomLoss()
	loss.Title, loss.Watch = "30 % random loss on the holder's link", frozen
	partition := Partition()
	partition.Broken = false
	kill := KillAll()
	kill.Title = "daemon killed (-9), all of it; host goes on"
	return []Scenario{
		PowerOff(), kill, FreezeFor(frozen), Terminate(), partition, CutOut(), CutIn(), loss,
		Unhealthy(), FreezeCut(frozen), OwnerReturns(),
	}
}

// FreezeFor stops the holder's daemon where it stands for a fixed time, whether
// or not another host takes over.
func FreezeFor(length time.Duration) Scenario {
	return Scenario{
		Name: "freeze-long", Title: "daemon frozen (SIGSTOP), then thawed", Promise: lingering,
		Fault: func(_ context.Context, s *Stage) error { return s.daemon().Freeze() },
		After: thawAfter(length),
		Watch: thawed,
	}
}

// FreezeCut is FreezeFor with the holder alone on its side of a partition,
// which is still in force when the daemon goes on.
func FreezeCut(length time.Duration) Scenario {
	return Scenario{
		Name: "freeze-cut", Title: "daemon frozen and its host alone, then thawed", Promise: lingering,
		Prepare: Partition().Prepare,
		Fault: func(_ context.Context, s *Stage) error {
			if err := s.daemon().Freeze(); err != nil {
				return err
			}
			return s.Cluster.Network.Partition()
		},
		After:   thawAfter(length),
		Watch:   thawed,
		Clients: majoritySide,
	}
}

// thawed is long enough to see a daemon that takes the address back after it
// was frozen.
const thawed = 2 * time.Second

// thawAfter lets the holder's daemon go on at least so long after the cluster
// came to rest, or did not.
func thawAfter(length time.Duration) func(context.Context, *Stage) error {
	return func(ctx context.Context, s *Stage) error {
		s.Pause(ctx, length-s.since())
		s.say("daemon on %s thaws", s.Holder.Name)
		return s.daemon().Thaw()
	}
}

// OwnerReturns switches the first holder on again after another host has taken
// over.
func OwnerReturns() Scenario {
	return Scenario{
		Name: "owner-returns", Title: "former holder returns", Promise: unmoved,
		Prepare: func(ctx context.Context, s *Stage) error {
			if err := powerOff(ctx, s); err != nil {
				return err
			}
			clients := s.Cluster.Network.Clients
			if err := s.rest(ctx, s.Holder, clients); err != nil {
				return err
			}
			name, err := s.answering(clients, 100*time.Millisecond)
			s.Holder = s.Cluster.Network.Host(name)
			return err
		},
		Fault: func(ctx context.Context, s *Stage) error { return s.system().Repair(ctx) },
		Watch: 5 * time.Second,
	}
}

// since returns how long ago the fault began.
func (s *Stage) since() time.Duration { return lab.Now().Sub(s.began) }
