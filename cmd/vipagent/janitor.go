package main

import (
	"errors"
	"fmt"

	"holdfast/cmd/internal/daemon"
	"holdfast/coordinator/lease"
	"holdfast/vipagent/linux"
	"holdfast/vipagent/vip"
)

// janitor takes down, for an agent that does not run, the addresses that its fence no
// longer lets pass. The fence keeps packets from and to others away already; this is
// for clients on this host, which reach an address as long as it is there.
func janitor(cfg daemon.Agent) func() (int, error) {
	if cfg.Fence == "none" {
		return func() (int, error) { return 0, nil } // there is no deadline to go by
	}
	return func() (done int, err error) {
		k, err := linux.Open(linux.Config{})
		if err != nil {
			return 0, fmt.Errorf("open kernel: %w", err)
		}
		defer func() { err = errors.Join(err, k.Close()) }()
		up, err := k.Addresses()
		if err != nil {
			return 0, err
		}
		t, err := showFence(k, cfg.BPFDir)
		if errors.Is(err, linux.ErrNoFence) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		over := lapsed(t, up, linux.Boottime())
		if len(over) == 0 {
			return 0, nil
		}
		if err := k.Remove(over); err != nil {
			return 0, err
		}
		return len(over), nil
	}
}

// lapsed returns the addresses of ours that the fence does not let pass any more: it
// guards them, and they are closed, or a deadline of theirs is past. What it does
// not guard is nobody's business here.
func lapsed(t linux.FenceTable, up []vip.Actual, now lease.Time) []vip.Address {
	deadlines := make(map[uint64]lease.Time)
	for _, s := range t.Sessions {
		deadlines[s.Session] = s.Deadline
	}
	var out []vip.Address
	for _, a := range up {
		for _, g := range t.Addresses {
			passes := g.Open && now < deadlines[g.Session] && (g.Also == 0 || now < deadlines[g.Also])
			if a.Ours && g.Address == a.IP() && !passes {
				out = append(out, a.Address)
			}
		}
	}
	return out
}
