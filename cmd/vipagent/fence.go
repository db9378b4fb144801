package main

import (
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
	f, err := linux.OpenFence(k, linux.FenceConfig{Dir: cfg.BPFDir, Logger: log})
	if err != nil {
		return vipagent.Shield{}, fmt.Errorf("no fence (%s): %w", cfg.Fence, err)
	}
	log.Info("fence in place", "kind", "ebpf", "interfaces", f.Interfaces())
	return vipagent.Shield{Fence: f, Deadlines: f, Close: f.Close}, nil
}
