package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/test/lab"
)

// strike is one fault as it falls: on a host, and where it is between two, on
// another one.
type strike struct {
	*Ground
	host, other *lab.Host
	undo        func(func() error) // adds what must be undone besides [lab.Cluster.Revive]
}

func (s *strike) agent() *lab.Process       { return s.Stage.Cluster.Agent(s.host) }
func (s *strike) coordinator() *lab.Process { return s.Stage.Cluster.Coordinator(s.host) }

// withCoordinator does something to the host's coordinator, if it has one.
func (s *strike) withCoordinator(f func(*lab.Process) error) error {
	if p := s.coordinator(); p != nil {
		return f(p)
	}
	return nil
}

// fault is one way of breaking a host.
type fault struct {
	name string
	what string
	do   func(context.Context, *strike) error
}

// faults are in the order in which sequences number them: to add one anywhere
// but at the end changes what a seed stands for.
func faults() []fault {
	return append(append(processFaults(), hostFaults()...), coordinatorFaults()...)
}

func processFaults() []fault {
	return []fault{
		{"kill-all", "guardian, agent and coordinator killed (-9)", func(_ context.Context, s *strike) error {
			return errors.Join(s.agent().Kill(), s.withCoordinator((*lab.Process).Kill))
		}},
		{"kill-vipagent", "guardian and agent killed (-9)", func(_ context.Context, s *strike) error { return s.agent().Kill() }},
		{"kill-agent", "agent alone killed (-9)", func(_ context.Context, s *strike) error { return s.agent().SignalChild(unix.SIGKILL) }},
		{"kill-guardian", "guardian alone killed (-9)", func(_ context.Context, s *strike) error {
			killOrphan, err := s.agent().KillGuardian()
			if err == nil {
				s.undo(killOrphan)
			}
			return err
		}},
		{"freeze-vipagent", "guardian and agent frozen (SIGSTOP)", func(_ context.Context, s *strike) error { return s.agent().Freeze() }},
		{"freeze-agent", "agent alone frozen (SIGSTOP)", func(_ context.Context, s *strike) error { return s.agent().SignalChild(unix.SIGSTOP) }},
		{"freeze-all", "guardian, agent and coordinator frozen (SIGSTOP)", func(_ context.Context, s *strike) error {
			return errors.Join(s.agent().Freeze(), s.withCoordinator((*lab.Process).Freeze))
		}},
		{"stutter", "agent frozen and thawed for random moments", stutter},
		{"stop-agent", "agent stopped (SIGTERM)", func(ctx context.Context, s *strike) error {
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			return s.agent().Stop(ctx)
		}},
		{"no-files", "agent out of file descriptors", func(_ context.Context, s *strike) error { return s.limit(unix.RLIMIT_NOFILE) }},
		{"no-memory", "agent out of memory", func(_ context.Context, s *strike) error { return s.limit(unix.RLIMIT_AS) }},
		{"second-agent", "second agent started", func(_ context.Context, s *strike) error {
			second, err := s.Stage.Cluster.SecondAgent(s.host)
			if err == nil {
				s.undo(second.Kill)
			}
			return err
		}},
	}
}

// stutter freezes the agent again and again around the time that a renewal
// takes, half a TTL in all.
func stutter(ctx context.Context, s *strike) error {
	p := s.agent()
	for i := range 20 {
		if err := p.SignalChild(unix.SIGSTOP); err != nil {
			return err
		}
		s.Stage.Pause(ctx, time.Duration(1+i*7%13)*s.Stage.TTL/100)
		if err := p.SignalChild(unix.SIGCONT); err != nil {
			return err
		}
		s.Stage.Pause(ctx, time.Duration(1+i*5%11)*s.Stage.TTL/100)
	}
	return nil
}

func (s *strike) limit(resource int) error {
	back, err := s.agent().LimitChild(resource, 1)
	if err == nil {
		s.undo(back)
	}
	return err
}

func hostFaults() []fault {
	return []fault{
		{"power-off", "host without power", func(_ context.Context, s *strike) error {
			_, err := s.host.PowerOff()
			return err
		}},
		{"carrier", "cable out", func(_ context.Context, s *strike) error { return s.host.SetCarrier(false) }},
		{"partition", "segments apart", func(_ context.Context, s *strike) error { return s.network.Partition() }},
		{"cut-out", "host's outgoing packets lost", func(_ context.Context, s *strike) error { return s.network.CutOut(s.host) }},
		{"cut-in", "host's incoming packets lost", func(_ context.Context, s *strike) error { return s.network.CutIn(s.host) }},
		{"cut-pair", "host and another one do not hear each other", func(_ context.Context, s *strike) error { return s.network.CutPair(s.host, s.other) }},
		{"loss", "40 % of the host's packets lost", func(_ context.Context, s *strike) error {
			return errors.Join(s.network.Lose(s.host, lab.Outgoing, 40), s.network.Lose(s.host, lab.Incoming, 40))
		}},
		{"nft-flush", "nft flush ruleset", func(_ context.Context, s *strike) error { return s.host.FlushRuleset() }},
		{"replug", "interface deleted and made again", func(_ context.Context, s *strike) error { return s.host.Replug() }},
		{"delete-address", "addresses deleted by hand", func(_ context.Context, s *strike) error {
			for _, vip := range s.Stage.VIPs {
				if slices.Contains(s.Stage.Recorder.Holders(vip), s.host.Name) {
					_ = s.host.RemoveAddress(vip) // it may be gone by now
				}
			}
			return nil
		}},
	}
}

func coordinatorFaults() []fault {
	return []fault{
		{"kill-coordinator", "coordinator killed (-9)", func(_ context.Context, s *strike) error { return s.withCoordinator((*lab.Process).Kill) }},
		{"freeze-coordinator", "coordinator frozen (SIGSTOP)", func(_ context.Context, s *strike) error { return s.withCoordinator((*lab.Process).Freeze) }},
		{"hang-disk", "coordinator's disk hangs", func(_ context.Context, s *strike) error {
			if d := s.Stage.Cluster.Disk(s.host); d != nil {
				d.Hang()
			}
			return nil
		}},
		{"restart-coordinator", "coordinator killed (-9) and started again", func(_ context.Context, s *strike) error { return s.restart(s.host) }},
		{"restart-all", "all coordinators killed (-9) and started again", func(_ context.Context, s *strike) error {
			return s.restart(s.Stage.Cluster.Config().Coordinators...)
		}},
		{"move", "coordctl move", func(ctx context.Context, s *strike) error {
			return s.ctl(ctx, "move", s.Stage.Set, "--to", s.host.Name)
		}},
		{"copy-session", "files of the host's agent on another host, whose agent starts with them", func(_ context.Context, s *strike) error {
			if s.other.IsOff() {
				return nil
			}
			err := s.Stage.Cluster.Agent(s.other).Kill()
			if err == nil {
				err = s.host.CopyFiles("/run/holdfast", s.other)
			}
			if err == nil {
				_, err = s.Stage.Cluster.StartAgent(s.other)
			}
			return err
		}},
		{"drain", "coordctl drain", func(ctx context.Context, s *strike) error {
			return s.ctl(ctx, "drain", s.host.Name)
		}},
	}
}

// restart kills coordinators at one moment and starts them again.
func (s *strike) restart(hosts ...*lab.Host) error {
	hosts = slices.DeleteFunc(slices.Clone(hosts), func(h *lab.Host) bool { return h.IsOff() || s.Stage.Cluster.Coordinator(h) == nil })
	var errs []error
	for _, h := range hosts {
		errs = append(errs, s.Stage.Cluster.Coordinator(h).Signal(unix.SIGKILL))
	}
	for _, h := range hosts {
		<-s.Stage.Cluster.Coordinator(h).Done()
		_, err := s.Stage.Cluster.StartCoordinator(h)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ctl asks for a change; that it is refused, or that nobody leads, is no fault
// of the drill.
func (s *strike) ctl(ctx context.Context, args ...string) error {
	_, err := s.Stage.Cluster.Ctl(ctx, append(args, "--timeout", "1s")...)
	return err
}

// Faults lists the faults of random sequences: name and meaning.
func Faults() []Pair {
	var list []Pair
	for _, f := range faults() {
		list = append(list, Pair{f.name, f.what})
	}
	return list
}

func faultNames() []string {
	var names []string
	for _, f := range faults() {
		names = append(names, f.name)
	}
	return names
}

func faultByName(name string) (fault, error) {
	for _, f := range faults() {
		if f.name == name {
			return f, nil
		}
	}
	return fault{}, fmt.Errorf("no fault %q", name)
}
