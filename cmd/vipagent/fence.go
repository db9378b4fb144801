package main

import (
	"errors"
	"fmt"
	"log/slog"

	"holdfast/cmd/internal/daemon"
	"holdfast/vipagent"
	"holdfast/vipagent/linux"
)

// shield opens the fence that the configuration asks for; nil if that is none.
func shield(cfg daemon.Agent, k *linux.Kernel, log *slog.Logger) func() (vipagent.Shield, error) {
	if cfg.Fence == "none" {
		return nil
	}
	return func() (vipagent.Shield, error) {
		s, err := openFence(cfg, k, log)
		if err != nil {
			log.Error("no fence: this host will hold no VIP", "err", err)
		}
		return s, err
	}
}

func openFence(cfg daemon.Agent, k *linux.Kernel, log *slog.Logger) (vipagent.Shield, error) {
	var why error
	if cfg.Fence != "nft" {
		f, err := linux.OpenFence(k, linux.FenceConfig{Dir: cfg.BPFDir, Logger: log})
		switch {
		case err == nil:
			log.Info("fence in place", "kind", "ebpf", "interfaces", f.Interfaces())
			return vipagent.Shield{Fence: f, Deadlines: f, Close: f.Close}, nil
		case cfg.Fence == "ebpf" || !errors.Is(err, linux.ErrFenceUnavailable):
			return vipagent.Shield{}, fmt.Errorf("no fence (%s): %w", cfg.Fence, err)
		}
		why = err
	}
	f, err := linux.OpenNFT()
	if err != nil {
		return vipagent.Shield{}, fmt.Errorf("no fence (%s): %w", cfg.Fence, errors.Join(why, err))
	}
	log.Warn("weaker fence in place", "kind", "nft", "why", why)
	return vipagent.Shield{Fence: nftFence{f, log}, Deadlines: f, Close: f.Close}, nil
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
