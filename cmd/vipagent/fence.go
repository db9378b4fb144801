package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"holdfast/cmd/internal/daemon"
	"holdfast/coordinator/lease"
	"holdfast/vipagent"
	"holdfast/vipagent/linux"
)

// shield opens the fence that the configuration asks for, and takes away what
// there is of another kind or form: nobody would renew its deadlines. Without one
// this host holds nothing, which is told with each renewal.
func shield(cfg daemon.Agent, k *linux.Kernel, log *slog.Logger) func() (vipagent.Shield, error) {
	return func() (vipagent.Shield, error) {
		s, kind, err := openFence(cfg, k, log)
		if err == nil {
			var guard func([]netip.Addr) error
			if s.Fence != nil {
				guard = s.Fence.Guard
			}
			if err = k.ClearFences(cfg.BPFDir, kind.String(), guard); err != nil && s.Close != nil {
				s.Close()
			}
		}
		if err != nil {
			log.Error("no fence: this host will hold no VIP", "err", err)
			return vipagent.Shield{Report: fixed(lease.FenceRefused)}, err
		}
		return s, nil
	}
}

func openFence(cfg daemon.Agent, k *linux.Kernel, log *slog.Logger) (s vipagent.Shield, kind lease.FenceKind, err error) {
	var why error
	switch cfg.Fence {
	case "none":
		return vipagent.Shield{Report: fixed(lease.FenceNone)}, lease.FenceNone, nil
	case "nft":
	default:
		f, err := linux.OpenFence(k, linux.FenceConfig{Dir: cfg.BPFDir, Logger: log})
		switch {
		case err == nil:
			log.Info("fence in place", "kind", "ebpf", "interfaces", f.Interfaces())
			return guarding(lease.FenceEBPF, f, log), lease.FenceEBPF, nil
		case cfg.Fence == "ebpf" || !errors.Is(err, linux.ErrFenceUnavailable):
			return s, 0, fmt.Errorf("no fence (%s): %w", cfg.Fence, err)
		}
		why = err
	}
	f, err := linux.OpenNFT()
	if err != nil {
		return s, 0, fmt.Errorf("no fence (%s): %w", cfg.Fence, errors.Join(why, err))
	}
	log.Warn("weaker fence in place", "kind", "nft", "why", why)
	return guarding(lease.FenceNFT, f, log), lease.FenceNFT, nil
}

func fixed(kind lease.FenceKind) func(uint64) lease.FenceReport {
	return func(uint64) lease.FenceReport { return lease.FenceReport{Kind: kind} }
}

// guard is either fence.
type guard interface {
	vipagent.Fence
	vipagent.Deadlines
	Close()
	Show() (linux.FenceTable, error)
}

func guarding(kind lease.FenceKind, f guard, log *slog.Logger) vipagent.Shield {
	w := &watchedFence{guard: f, kind: kind, log: log}
	w.count()
	return vipagent.Shield{Fence: w, Deadlines: f, Close: f.Close, Report: w.report}
}

// watchedFence tells people what is with the fence: the log what others have done
// to it, and the coordinators what it holds.
type watchedFence struct {
	guard
	kind       lease.FenceKind
	log        *slog.Logger
	counted    lease.Time // when count was last called; by the agent's owner alone
	refused    atomic.Uint64
	interfaces atomic.Uint32
}

// countEvery is how often all of the fence is read for what the coordinators are
// told: with a thousand addresses it takes some milliseconds.
const countEvery = 5 * time.Second

// Check is for [vipagent.Fence]. A fence that was rebuilt is in order again.
func (w *watchedFence) Check() error {
	err := w.guard.Check()
	if errors.Is(err, linux.ErrRebuilt) {
		w.log.Warn("packets may have passed the fence", "err", err)
		err = nil
	}
	if linux.Boottime().Sub(w.counted) >= countEvery {
		w.count()
	}
	return err
}

func (w *watchedFence) count() {
	w.counted = linux.Boottime()
	t, err := w.Show()
	if err != nil {
		w.log.Warn("packets that the fence refused are not counted", "err", err)
		return
	}
	var refused uint64
	for _, a := range t.Addresses {
		refused += a.RefusedIn + a.RefusedOut
	}
	w.refused.Store(refused)
	w.interfaces.Store(uint32(len(t.Interfaces)))
}

// report waits for nothing.
func (w *watchedFence) report(session uint64) lease.FenceReport {
	return lease.FenceReport{
		Kind: w.kind, Interfaces: uint16(min(w.interfaces.Load(), 1<<16-1)), Dropped: w.refused.Load(),
		Left: w.Deadline(session).Sub(linux.Boottime()),
	}
}
