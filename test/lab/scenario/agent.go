package scenario

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/test/lab"
)

// VIPAgentKilled kills guardian and agent at one moment; the host's coordinator
// goes on.
func VIPAgentKilled() Scenario {
	return Scenario{
		Name: "vipagent-killed", Title: "guardian and agent killed (-9)", Promise: lingering,
		Fault: func(_ context.Context, s *Stage) error { return s.agent().Kill() },
	}
}

// GuardianKilled kills the guardian alone; the agent goes on without it.
func GuardianKilled() Scenario {
	return Scenario{
		Name: "guardian-killed", Title: "guardian alone killed (-9)", Promise: unmoved,
		Fault: func(_ context.Context, s *Stage) error {
			killOrphan, err := s.agent().KillGuardian()
			if err != nil {
				return err
			}
			s.later(killOrphan)
			return nil
		},
		Watch: 2 * time.Second,
	}
}

// AgentFrozen stops the agent proper; its guardian goes on.
func AgentFrozen() Scenario {
	return Scenario{
		Name: "agent-frozen", Title: "agent alone frozen (SIGSTOP), thawed after the takeover", Promise: lingering,
		Fault: func(_ context.Context, s *Stage) error { return s.agent().SignalChild(unix.SIGSTOP) },
		After: func(_ context.Context, s *Stage) error { return s.agent().SignalChild(unix.SIGCONT) },
		Watch: time.Second,
	}
}

// LongFreeze stops guardian and agent for 15 s: longer than every lifetime and
// every promise. Thawed they must not send one packet for the address.
func LongFreeze() Scenario {
	sc := FreezeFor(15 * time.Second)
	sc.Name, sc.Title = "freeze-15s", "guardian and agent frozen (SIGSTOP) for 15 s"
	sc.Watch, sc.Long = 3*time.Second, true
	return sc
}

// agent is the vipagent of the holder.
func (s *Stage) agent() *lab.Process { return s.Cluster.Agent(s.Holder) }

// NoFiles takes the agent's file descriptors away: it can open none.
func NoFiles() Scenario {
	return limited("no-files", "agent out of file descriptors", unix.RLIMIT_NOFILE)
}

// NoMemory lets the agent's address space grow no more.
func NoMemory() Scenario { return limited("no-memory", "agent out of memory", unix.RLIMIT_AS) }

// limited runs the agent for four TTLs with nothing left of a resource.
func limited(name, title string, resource int) Scenario {
	return Scenario{
		Name: name, Title: title, Promise: survived,
		Fault: func(ctx context.Context, s *Stage) error {
			back, err := s.agent().LimitChild(resource, 1)
			if err != nil {
				return err
			}
			s.later(back)
			s.Pause(ctx, 4*s.TTL)
			return back()
		},
		Watch: 2 * time.Second,
	}
}

// SecondAgent starts another agent on the holder's host, with its configuration.
func SecondAgent() Scenario {
	return Scenario{
		Name: "second-agent", Title: "second agent started on the holder's host", Promise: unmoved,
		Fault: func(ctx context.Context, s *Stage) error {
			second, err := s.Cluster.SecondAgent(s.Holder)
			if err != nil {
				return err
			}
			s.later(second.Kill)
			s.Pause(ctx, 2*time.Second)
			return nil
		},
	}
}

// SessionCopied gives another host's agent the holder's session file, as an
// image of the holder's disk would, and starts it.
func SessionCopied() Scenario {
	return Scenario{
		Name: "session-copied", Title: "holder's session file on another host", Promise: unmoved,
		Fault: func(_ context.Context, s *Stage) error {
			other := s.other()
			if err := s.Cluster.Agent(other).Kill(); err != nil {
				return err
			}
			if err := s.Holder.CopyFiles("/run/holdfast", other); err != nil {
				return err
			}
			_, err := s.Cluster.StartAgent(other)
			return err
		},
		Watch: 3 * time.Second,
	}
}
