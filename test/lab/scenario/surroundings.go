package scenario

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/test/lab"
)

// NonTransitive cuts the holder off from one other host alone: both hear the
// third, and everybody hears the holder's clients.
func NonTransitive() Scenario {
	return Scenario{
		Name: "non-transitive", Title: "holder and one other host do not hear each other", Promise: unmoved,
		Fault: func(_ context.Context, s *Stage) error { return s.Cluster.Network.CutPair(s.Holder, s.other()) },
		Watch: 4 * time.Second,
	}
}

// FlushThenFreeze deletes every packet filter rule of the holder's host, as a
// firewall's script does, and then stops its agent.
func FlushThenFreeze() Scenario {
	return Scenario{
		Name: "nft-flush", Title: "nft flush ruleset on the holder, then the agent frozen", Promise: lingering,
		Fault: func(ctx context.Context, s *Stage) error {
			if err := s.Holder.FlushRuleset(); err != nil {
				return err
			}
			return s.agent().Freeze()
		},
		After: func(_ context.Context, s *Stage) error { return s.agent().Thaw() },
		Watch: time.Second,
	}
}

// Replug deletes the holder's interface and makes it again.
func Replug() Scenario {
	return Scenario{
		Name: "replug", Title: "holder's interface deleted and made again", Promise: survived,
		Fault: func(_ context.Context, s *Stage) error { return s.Holder.Replug() },
		Watch: 3 * time.Second,
	}
}

// ReplugThenKill kills the agent right after its interface was made again: what
// was attached to the old interface is not attached to the new one.
func ReplugThenKill() Scenario {
	return Scenario{
		Name: "replug-kill", Title: "interface made again, and all killed when it answers", Promise: survived,
		Fault: func(ctx context.Context, s *Stage) error {
			if err := s.Holder.Replug(); err != nil {
				return err
			}
			limited, cancel := context.WithTimeout(ctx, settleLimit(s.TTL))
			defer cancel()
			_ = lab.Poll(limited, time.Millisecond, func() error { // until somebody has it: the fence is closed on it or somebody else's
				if len(s.Recorder.Holders(s.VIPs[0])) == 0 {
					return errors.New("nobody has the address")
				}
				return nil
			})
			return s.agent().Kill()
		},
		Watch: 4 * time.Second,
	}
}

// AddressDeleted deletes the set's addresses by hand.
func AddressDeleted() Scenario {
	return Scenario{
		Name: "address-deleted", Title: "addresses deleted by hand",
		Promise: func(time.Duration) Promise { return Promise{Gap: 60 * time.Millisecond} },
		Fault: func(_ context.Context, s *Stage) (err error) {
			for _, vip := range s.VIPs {
				err = errors.Join(err, s.Holder.RemoveAddress(vip))
			}
			return err
		},
		Watch: time.Second,
	}
}

// LeaderFrozen stops the leading coordinator and lets it go on later.
func LeaderFrozen() Scenario {
	var leader *lab.Host
	return Scenario{
		Name: "leader-frozen", Title: "leading coordinator frozen (SIGSTOP), then thawed", Promise: unmoved,
		Fault: func(ctx context.Context, s *Stage) (err error) {
			if leader, err = s.Cluster.Leader(ctx); err != nil {
				return err
			}
			if err := s.Cluster.Coordinator(leader).Freeze(); err != nil {
				return err
			}
			s.Pause(ctx, 3*time.Second)
			return s.Cluster.Coordinator(leader).Thaw()
		},
		Watch: 2 * time.Second,
	}
}

// DiskStall lets the leading coordinator's disk hang, and go on later.
func DiskStall() Scenario {
	return Scenario{
		Name: "disk-stall", Title: "leading coordinator's disk hangs for 3 s", Promise: unmoved,
		Fault: func(ctx context.Context, s *Stage) error {
			leader, err := s.Cluster.Leader(ctx)
			if err != nil {
				return err
			}
			disk := s.Cluster.Disk(leader)
			if disk == nil {
				return fmt.Errorf("the disk of %s cannot hang (ClusterConfig.Disks)", leader.Name)
			}
			disk.Hang()
			defer disk.Free()
			done := s.load(ctx) // something must be written for the disk to hang on
			s.Pause(ctx, 3*time.Second)
			done()
			return nil
		},
		Watch: 2 * time.Second,
	}
}

// DiskStallKill is DiskStall with the end of the holder's agent while the disk
// hangs: the takeover must not wait for it.
func DiskStallKill() Scenario {
	return Scenario{
		Name: "disk-stall-kill", Title: "leader's disk hangs, and guardian and agent killed (-9)",
		// The leader that hangs steps down after its store timeout, and another one
		// is elected.
		Promise: func(ttl time.Duration) Promise {
			p := lingering(ttl)
			p.Gap += 2 * time.Second
			return p
		},
		Prepare: func(ctx context.Context, s *Stage) error { return s.leadElsewhere(ctx) },
		Fault: func(ctx context.Context, s *Stage) error {
			leader, err := s.Cluster.Leader(ctx)
			if err != nil {
				return err
			}
			disk := s.Cluster.Disk(leader)
			if disk == nil {
				return fmt.Errorf("the disk of %s cannot hang (ClusterConfig.Disks)", leader.Name)
			}
			disk.Hang()
			return s.agent().Kill()
		},
	}
}

// load writes to the log, by draining another host and taking it back, until
// the returned function is called.
func (s *Stage) load(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	other := s.other().Name
	group.Go(func() {
		for ctx.Err() == nil {
			// Without a leader for a moment either fails; that is what is tried.
			_, _ = s.Cluster.Ctl(ctx, "drain", other, "--timeout", "500ms")
			_, _ = s.Cluster.Ctl(ctx, "undrain", other, "--timeout", "500ms")
		}
	})
	return func() {
		cancel()
		group.Wait()
	}
}

// RollingRestart restarts the coordinators one after the other, as an update
// does, while changes are made.
func RollingRestart() Scenario {
	return Scenario{
		Name: "rolling-restart", Title: "coordinators restarted one after the other under load", Promise: unmoved, Long: true,
		Fault: func(ctx context.Context, s *Stage) error {
			defer s.load(ctx)()
			for _, h := range s.Cluster.Config().Coordinators {
				s.say("coordinator on %s restarts", h.Name)
				if err := s.Cluster.Coordinator(h).Stop(ctx); err != nil {
					return err
				}
				if _, err := s.Cluster.StartCoordinator(h); err != nil {
					return err
				}
				if err := s.Cluster.WaitReady(ctx); err != nil {
					return err
				}
			}
			return nil
		},
		Watch: time.Second,
	}
}

// AllRestarted kills every coordinator at one moment and starts them again.
func AllRestarted() Scenario {
	return Scenario{
		Name: "all-restarted", Title: "all coordinators killed (-9) and restarted at once",
		// Their memory of promises is gone: leases that lapse meanwhile come back
		// with the quorum.
		Promise: func(ttl time.Duration) Promise {
			p := survived(ttl)
			p.Gap = ttl + 3*time.Second
			return p
		},
		Fault: func(_ context.Context, s *Stage) (err error) {
			hosts := s.Cluster.Config().Coordinators
			for _, h := range hosts {
				err = errors.Join(err, s.Cluster.Coordinator(h).Signal(unix.SIGKILL))
			}
			for _, h := range hosts {
				<-s.Cluster.Coordinator(h).Done()
			}
			for _, h := range hosts {
				_, startErr := s.Cluster.StartCoordinator(h)
				err = errors.Join(err, startErr)
			}
			return err
		},
		Watch: 5 * time.Second,
	}
}
