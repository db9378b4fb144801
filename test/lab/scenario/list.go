package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"holdfast/test/lab"
)

// All returns every scenario that takes a few seconds, in the order of a
// demonstration.
func All() []Scenario {
	return []Scenario{
		PowerOffLeader(), PowerOff(), AgentKilled(), AgentRestart(), KillAll(), Freeze(),
		Partition(), Heal(), CutOut(), CutIn(),
		LeaderKilled(), Move(), Drain(), Terminate(), Unhealthy(),
	}
}

// Campaign returns the scenarios that [All] does not show: one for each thing
// that has to be believed about a holder that is attacked.
func Campaign() []Scenario {
	return []Scenario{
		GuardianKilled(), VIPAgentKilled(), AgentFrozen(), LongFreeze(), NoFiles(), NoMemory(), SecondAgent(), SessionCopied(),
		NonTransitive(), FlushThenFreeze(), Replug(), ReplugThenKill(), AddressDeleted(),
		LeaderFrozen(), DiskStall(), DiskStallKill(), RollingRestart(), AllRestarted(), QuorumLost(), RandomLoss(),
	}
}

// ByName returns the named scenario of [All] and [Campaign].
func ByName(name string) (Scenario, bool) {
	for _, s := range append(All(), Campaign()...) {
		if s.Name == name {
			return s, true
		}
	}
	return Scenario{}, false
}

// PowerOff takes the holder's host away between two packets.
func PowerOff() Scenario {
	return Scenario{
		Name: "power-off", Title: "power-off of the holder's host", Promise: lapse,
		Prepare: func(ctx context.Context, s *Stage) error { return s.leadElsewhere(ctx) },
		Fault:   powerOff,
	}
}

// PowerOffLeader is PowerOff with the Raft leader on the same host.
func PowerOffLeader() Scenario {
	return Scenario{
		Name: "power-off-leader", Title: "power-off of the holder's host, Raft leader on it", Promise: lapse,
		Prepare: func(ctx context.Context, s *Stage) error { return s.Cluster.Lead(ctx, s.Holder) },
		Fault:   powerOff,
	}
}

func powerOff(_ context.Context, s *Stage) error {
	_, err := s.Holder.PowerOff()
	return err
}

// AgentKilled kills the holder's agent alone: its guardian starts it again.
func AgentKilled() Scenario {
	return Scenario{
		Name: "agent-killed", Title: "agent killed (-9) alone, guardian restarts it", Promise: unmoved,
		Fault: func(_ context.Context, s *Stage) error { return s.Cluster.Agent(s.Holder).KillChild() },
		Watch: 2 * time.Second,
	}
}

// AgentRestart kills the holder's agent with its guardian and starts them again a
// moment later.
func AgentRestart() Scenario {
	return Scenario{
		Name: "agent-restart", Title: "agent and guardian killed (-9), restarted within the TTL", Promise: unmoved,
		Fault: func(ctx context.Context, s *Stage) error {
			if err := s.Cluster.Agent(s.Holder).Kill(); err != nil {
				return err
			}
			s.Pause(ctx, s.TTL/10)
			s.say("agent on %s starts again", s.Holder.Name)
			_, err := s.Cluster.StartAgent(s.Holder)
			return err
		},
		Watch: 2 * time.Second,
	}
}

// KillAll kills the holder's agent with its guardian, and its coordinator; the host goes on.
func KillAll() Scenario {
	return Scenario{
		Name: "kill-all", Title: "agent and coordinator killed (-9), host goes on", Promise: lingering,
		Fault: func(_ context.Context, s *Stage) error { return s.killAll() },
	}
}

// Freeze stops the holder's agent where it stands and lets it go on later.
func Freeze() Scenario {
	return Scenario{
		Name: "freeze", Title: "agent frozen (SIGSTOP), thawed after the takeover", Promise: lingering,
		Fault: func(_ context.Context, s *Stage) error { return s.daemon().Freeze() },
		After: func(_ context.Context, s *Stage) error {
			s.say("agent on %s thaws", s.Holder.Name)
			return s.daemon().Thaw()
		},
		Watch: time.Second,
	}
}

// Partition cuts the trunk with the holder alone on its side.
func Partition() Scenario {
	return Scenario{
		Name: "partition", Title: "partition, holder alone on its side", Promise: lapse,
		Prepare: func(ctx context.Context, s *Stage) error { return s.moveTo(ctx, s.Cluster.Network.Hosts[0]) },
		Fault:   func(_ context.Context, s *Stage) error { return s.Cluster.Network.Partition() },
		Clients: majoritySide,
		Broken:  true,
	}
}

func majoritySide(s *Stage) []*lab.Host {
	var clients []*lab.Host
	for _, c := range s.Cluster.Network.Clients {
		if c.Segment == lab.SegmentB {
			clients = append(clients, c)
		}
	}
	return clients
}

// Heal joins the segments again after Partition.
func Heal() Scenario {
	return Scenario{
		Name: "heal", Title: "partition heals: answers on both sides after 1 s",
		Promise: func(time.Duration) Promise { return Promise{Grace: time.Second} },
		Prepare: func(ctx context.Context, s *Stage) error {
			if s.broken != "partition" {
				if err := s.moveTo(ctx, s.Cluster.Network.Hosts[0]); err != nil {
					return err
				}
				if err := s.Cluster.Network.Partition(); err != nil {
					return err
				}
			}
			// The holder is the one of the majority side, not the one that is cut off.
			if err := s.rest(ctx, s.Cluster.Network.Hosts[0], majoritySide(s)); err != nil {
				return err
			}
			name, err := s.answering(majoritySide(s), 100*time.Millisecond)
			s.Holder = s.Cluster.Network.Host(name)
			return err
		},
		Fault: func(_ context.Context, s *Stage) error { return s.Cluster.Network.Heal() },
		Watch: 2500 * time.Millisecond,
	}
}

// CutOut loses what the holder sends.
func CutOut() Scenario {
	return Scenario{
		Name: "cut-out", Title: "holder's outgoing packets lost", Promise: lapse,
		Fault: func(_ context.Context, s *Stage) error { return s.Cluster.Network.CutOut(s.Holder) },
	}
}

// CutIn loses what is sent to the holder.
func CutIn() Scenario {
	return Scenario{
		Name: "cut-in", Title: "holder's incoming packets lost", Promise: lapse,
		Fault: func(_ context.Context, s *Stage) error { return s.Cluster.Network.CutIn(s.Holder) },
	}
}

// LeaderKilled kills the Raft leader on another host than the holder's.
func LeaderKilled() Scenario {
	return Scenario{
		Name: "leader-killed", Title: "Raft leader killed, holder elsewhere", Promise: unmoved,
		Prepare: func(ctx context.Context, s *Stage) error { return s.leadElsewhere(ctx) },
		Fault: func(ctx context.Context, s *Stage) error {
			leader, err := s.Cluster.Leader(ctx)
			if err != nil {
				return err
			}
			if leader == s.Holder {
				return fmt.Errorf("the leader is on the holder's host %s", leader.Name)
			}
			return s.Cluster.Coordinator(leader).Kill()
		},
		Watch: 3 * time.Second,
	}
}

// Move moves the set by hand.
func Move() Scenario {
	return Scenario{
		Name: "move", Title: "coordctl move", Promise: planned,
		Fault: func(ctx context.Context, s *Stage) error {
			_, err := s.Cluster.MustCtl(ctx, "move", s.Set, "--to", s.other().Name)
			return err
		},
	}
}

// Drain empties the holder's host.
func Drain() Scenario {
	return Scenario{
		Name: "drain", Title: "coordctl drain of the holder", Promise: planned,
		Fault: func(ctx context.Context, s *Stage) error {
			_, err := s.Cluster.MustCtl(ctx, "drain", s.Holder.Name)
			return err
		},
	}
}

// Terminate stops the holder's agent as a package update would.
func Terminate() Scenario {
	return Scenario{
		Name: "sigterm", Title: "agent stopped (SIGTERM)", Promise: planned,
		Fault: func(ctx context.Context, s *Stage) error { return s.daemon().Stop(ctx) },
	}
}

// Unhealthy turns a health check of the holder bad. The address answers until
// the verdict, so the gap begins with it.
func Unhealthy() Scenario {
	return Scenario{
		Name: "unhealthy", Title: "health check turns bad", Promise: planned,
		Fault: func(_ context.Context, s *Stage) error { return os.WriteFile(MaintenanceFile(s.Holder), nil, 0o600) },
	}
}

// MaintenanceFile is the file whose presence fails the health check of a host.
func MaintenanceFile(h *lab.Host) string { return filepath.Join(h.Disk, "maintenance") }

// AgentLines is the health check that [Unhealthy] turns bad, for the host's
// vipagent.yaml.
func AgentLines(h *lab.Host) string {
	return fmt.Sprintf("checks:\n  - {name: maintenance, type: file, path: %s, absent: true, interval: 50ms}\n", MaintenanceFile(h))
}

// RandomLoss loses 30 % of the packets on the holder's link for 20 s.
func RandomLoss() Scenario {
	return Scenario{
		Name: "random-loss", Title: "30 % random loss on the holder's link, 20 s",
		Promise: func(time.Duration) Promise { return Promise{Gap: -1} },
		Fault: func(_ context.Context, s *Stage) error {
			return errors.Join(s.Cluster.Network.Lose(s.Holder, lab.Outgoing, 30), s.Cluster.Network.Lose(s.Holder, lab.Incoming, 30))
		},
		Watch: 20 * time.Second,
		Long:  true,
	}
}
