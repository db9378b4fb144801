package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/test/lab"
	"holdfast/vipagent/fault"
)

// Wake is how long after the kernel's deadline an agent that has stopped itself
// goes on with the call that it had prepared.
const Wake = 500 * time.Millisecond

// Stopped is what one stop between a check and an act gave.
type Stopped struct {
	Point    string
	Pass     int
	Host     string
	Left     time.Duration // of the lease when it stopped
	Deadline lab.Time
	Claims   map[lab.ClaimKind]int // packets of the host that claim an address after the deadline
	Overlap  time.Duration         // by answers and by the wire
}

// Silent reports whether the host sent nothing after its deadline.
func (f Stopped) Silent() bool { return len(f.Claims) == 0 }

// StopAt lets an agent stop itself at the pass of a place in its code, right
// before the system call that follows, and go on half a second after the
// deadline that the kernel holds for it. The cluster's agents must be built with
// fault points. What an address meets on its way up is tried on the host that is
// about to get it; all else on the holder.
func (s *Stage) StopAt(ctx context.Context, point string, pass int) (Stopped, error) {
	if err := s.Calm(ctx); err != nil {
		return Stopped{}, fmt.Errorf("stop at %s: %w", point, err)
	}
	host, move := s.Holder, false
	switch point {
	case fault.Guard, fault.Add, fault.Open, fault.Announce:
		host, move = s.other(), true
	case fault.Close, fault.Remove, fault.Send:
		move = true
	}
	f := Stopped{Point: point, Pass: pass, Host: host.Name, Claims: make(map[lab.ClaimKind]int)}
	err := s.stopAt(ctx, host, move, &f)
	// An order that was not met must not stop the agent later.
	if rmErr := os.Remove(host.FaultPointFile()); rmErr != nil && !errors.Is(rmErr, os.ErrNotExist) {
		err = errors.Join(err, rmErr)
	}
	return f, errors.Join(err, s.Repair(ctx))
}

func (s *Stage) stopAt(ctx context.Context, host *lab.Host, move bool, f *Stopped) error {
	began := lab.Now()
	if err := os.WriteFile(host.FaultPointFile(), fmt.Appendf(nil, "%s %d\n", f.Point, f.Pass), 0o600); err != nil {
		return fmt.Errorf("stop at %s: %w", f.Point, err)
	}
	if move {
		if _, err := s.Cluster.MustCtl(ctx, "move", s.Set, "--to", s.other().Name); err != nil {
			return err
		}
	}
	agent := s.Cluster.Agent(host)
	if err := s.stopped(ctx, agent, f.Point); err != nil {
		return err
	}
	stop := lab.Now()
	var err error
	if f.Deadline, err = s.ends(ctx, host, stop); err != nil {
		return err
	}
	f.Left = f.Deadline.Sub(stop)
	s.Pause(ctx, f.Deadline.Add(Wake).Sub(lab.Now()))
	woken := lab.Now()
	if err := agent.SignalChild(unix.SIGCONT); err != nil {
		return err
	}
	s.Pause(ctx, Wake)
	s.countClaims(ctx, f, began, woken.Add(Wake))
	return nil
}

// stopped waits until the agent stands still.
func (s *Stage) stopped(ctx context.Context, agent *lab.Process, point string) error {
	limited, cancel := context.WithTimeout(ctx, 4*s.TTL+2*time.Second)
	defer cancel()
	if err := lab.Poll(limited, time.Millisecond, func() error { return agent.InState("T") }); err != nil {
		return fmt.Errorf("stop at %s: the agent goes on: %w", point, err)
	}
	return nil
}

// ends returns when the kernel of the host lets nothing pass any more: the latest
// deadline that it holds. A session without one has not been proven before the
// stop, and cannot be after it.
func (s *Stage) ends(ctx context.Context, host *lab.Host, stop lab.Time) (lab.Time, error) {
	table, err := s.Cluster.Fence(ctx, host)
	if err != nil {
		return 0, err
	}
	latest := stop
	for _, session := range table.Sessions {
		latest = max(latest, lab.Time(session.Deadline))
	}
	return latest, nil
}

// countClaims counts the host's packets after its deadline.
func (s *Stage) countClaims(ctx context.Context, f *Stopped, began, ended lab.Time) {
	s.Pause(ctx, 50*time.Millisecond)
	for _, vip := range s.VIPs {
		whole := s.Recorder.Observe(vip, began, ended)
		f.Overlap = max(f.Overlap, whole.Overlap().Max())
		after := s.Recorder.Observe(vip, f.Deadline, ended)
		for _, c := range after.Claims {
			if c.Host == f.Host && c.At > f.Deadline {
				f.Claims[c.Kind]++
			}
		}
		for _, p := range after.Stretches {
			if p.Host == f.Host && p.To > f.Deadline {
				f.Claims[p.Kind] += p.Count
			}
		}
	}
}

// Passes is how often a place is passed at each occasion, as far as a campaign
// tries it.
func Passes(point string) int {
	if slices.Contains([]string{fault.Store, fault.Announce, fault.Advertise, fault.Refresh}, point) {
		return 5
	}
	return 1
}
