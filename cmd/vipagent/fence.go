package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"holdfast/cmd/internal/daemon"
	"holdfast/vipagent"
	"holdfast/vipagent/linux"
)

// shield opens the fence that the configuration asks for, and takes away what
// there is of another kind or form: nobody would renew its deadlines.
func shield(cfg daemon.Agent, k *linux.Kernel, log *slog.Logger) func() (vipagent.Shield, error) {
	return func() (vipagent.Shield, error) {
		s, kind, err := openFence(cfg, k, log)
		if err == nil {
			var guard func([]netip.Addr) error
			if s.Fence != nil {
				guard = s.Fence.Guard
			}
			if err = k.ClearFences(cfg.BPFDir, kind, guard); err != nil && s.Close != nil {
				s.Close()
			}
		}
		if err != nil {
			log.Error("no fence: this host will hold no VIP", "err", err)
			return vipagent.Shield{}, err
		}
		return s, nil
	}
}

func openFence(cfg daemon.Agent, k *linux.Kernel, log *slog.Logger) (s vipagent.Shield, kind string, err error) {
	var why error
	switch cfg.Fence {
	case "none":
		return vipagent.Shield{}, "none", nil
	case "nft":
	default:
		f, err := linux.OpenFence(k, linux.FenceConfig{Dir: cfg.BPFDir, Logger: log})
		switch {
		case err == nil:
			log.Info("fence in place", "kind", "ebpf", "interfaces", f.Interfaces())
			return vipagent.Shield{Fence: f, Deadlines: f, Close: f.Close}, "ebpf", nil
		case cfg.Fence == "ebpf" || !errors.Is(err, linux.ErrFenceUnavailable):
			return vipagent.Shield{}, "", fmt.Errorf("no fence (%s): %w", cfg.Fence, err)
		}
		why = err
	}
	f, err := linux.OpenNFT()
	if err != nil {
		return vipagent.Shield{}, "", fmt.Errorf("no fence (%s): %w", cfg.Fence, errors.Join(why, err))
	}
	log.Warn("weaker fence in place", "kind", "nft", "why", why)
	return vipagent.Shield{Fence: nftFence{f, log}, Deadlines: f, Close: f.Close}, "nft", nil
}

// nftFence tells the log what others have done to the fence; to the agent it is
// in order again.
type nftFence struct {
	*linux.NFTFence
	log *slog.Logger
}

func (f nftFence) Check() error {
	err := f.NFTFence.Check()
	if errors.Is(err, linux.ErrRebuilt) {
		f.log.Warn("packets may have passed the fence", "err", err)
		return nil
	}
	return err
}
