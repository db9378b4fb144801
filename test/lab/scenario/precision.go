package scenario

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"holdfast/coordinator/lease"
	"holdfast/test/lab"
)

// How a precision run ends the holder's agent.
const (
	BySTOP = "SIGSTOP"
	ByKILL = "SIGKILL"
)

// Lateness is what one precision run gave.
type Lateness struct {
	Signal   string
	Holder   string
	Phase    time.Duration // left of the lease when the signal came
	Deadline lab.Time      // the kernel's own
	// Last is, for each kind of packet, how long after the deadline the last one
	// claimed an address; negative: before it.
	Last map[lab.ClaimKind]time.Duration
	// Overlap is by answers and by the wire in the whole run, the old holder's
	// return included.
	Overlap lab.Overlap
	// Refused is how many packets that claim an address the kernel refused.
	Refused uint64
}

// Latest returns the largest of Last.
func (l Lateness) Latest() (latest time.Duration, kind lab.ClaimKind) {
	latest = -1 << 62
	for k, d := range l.Last {
		if d > latest {
			latest, kind = d, k
		}
	}
	return latest, kind
}

// Kinds are the packets by which a holder says that it has an address; in a
// precision run each is provoked all the time.
func Kinds() []lab.ClaimKind {
	return []lab.ClaimKind{lab.IPv4Packet, lab.IPv6Packet, lab.ARPReply, lab.Advertisement}
}

// Precision ends the holder's guardian and agent by a signal, at a random moment,
// reads the deadline that the kernel holds, and looks which packet was the last
// to claim an address. Somebody must ask for the addresses all the time, see
// [lab.Host.Ask].
func (s *Stage) Precision(ctx context.Context, signal string) (Lateness, error) {
	if err := s.Calm(ctx); err != nil {
		return Lateness{}, fmt.Errorf("precision: %w", err)
	}
	l := Lateness{Signal: signal, Holder: s.Holder.Name, Last: make(map[lab.ClaimKind]time.Duration)}
	s.Pause(ctx, rand.N(s.TTL/2))
	began := lab.Now()
	end := s.agent().Freeze
	if signal == ByKILL {
		end = s.agent().Kill
	}
	if err := end(); err != nil {
		return l, err
	}
	struck := lab.Now()
	var err error
	if l.Deadline, l.Refused, err = s.deadline(ctx); err != nil {
		return l, err
	}
	l.Phase = l.Deadline.Sub(struck)
	s.Pause(ctx, l.Deadline.Sub(lab.Now())+s.TTL/2) // the others have taken over by then
	if err := s.Cluster.Revive(); err != nil {
		return l, err
	}
	if err := s.Calm(ctx); err != nil {
		return l, fmt.Errorf("precision: after %s: %w", signal, err)
	}
	return s.late(ctx, l, began), nil
}

// late reads the packets of a run. What came after the old holder's return is
// judged by the overlap; it may have the address again by then.
func (s *Stage) late(ctx context.Context, l Lateness, began lab.Time) Lateness {
	s.Pause(ctx, 50*time.Millisecond)
	ended := lab.Now()
	for _, vip := range s.VIPs {
		whole := s.Recorder.Observe(vip, began, ended)
		l.Overlap = worse(l.Overlap, whole.Overlap())
		tail := s.Recorder.Observe(vip, began, l.Deadline.Add(s.TTL/2))
		for kind, at := range tail.LastClaims(l.Holder) {
			if late, seen := l.Last[kind]; !seen || at.Sub(l.Deadline) > late {
				l.Last[kind] = at.Sub(l.Deadline)
			}
		}
	}
	return l
}

// deadline reads from the holder's kernel until when packets of the set's
// addresses pass, and how many were refused.
func (s *Stage) deadline(ctx context.Context) (at lab.Time, refused uint64, err error) {
	table, err := s.Cluster.Fence(ctx, s.Holder)
	if err != nil {
		return 0, 0, err
	}
	deadlines := make(map[uint64]lease.Time)
	for _, session := range table.Sessions {
		deadlines[session.Session] = session.Deadline
	}
	passes := make(map[netip.Addr]lab.Time)
	for _, a := range table.Addresses {
		refused += a.RefusedOut
		if !a.Open {
			continue
		}
		until := deadlines[a.Session]
		if a.Also != 0 {
			until = min(until, deadlines[a.Also])
		}
		passes[a.Address] = lab.Time(until)
	}
	for _, vip := range s.VIPs {
		if passes[vip] == 0 {
			return 0, 0, fmt.Errorf("the kernel of %s does not let %s pass: %+v", s.Holder.Name, vip, table)
		}
		at = max(at, passes[vip])
	}
	return at, refused, nil
}
