package main

import (
	"errors"
	"fmt"
	"log/slog"

	"holdfast/cmd/internal/daemon"
	"holdfast/coordinator/lease"
	"holdfast/vipagent"
	"holdfast/vipagent/linux"
)

// fence is what an agent needs of a fence, whichever it is.
type fence interface {
	vipagent.Fence
	vipagent.Deadlines
}

// held is the fence that this process has.
type held struct {
	fence        // nil: none
	kind  string // as in the configuration
	unfit string // why no VIP may be held; "" = they may
	close func()
}

// openFence opens the fence that the configuration asks for. What cannot be had
// is no error: the agent then holds nothing and says why.
func openFence(cfg daemon.Agent, k *linux.Kernel, log *slog.Logger) held {
	if cfg.Fence == "none" {
		return held{kind: "none"}
	}
	var why error
	if cfg.Fence != "nft" {
		f, err := linux.OpenFence(k, linux.FenceConfig{Dir: cfg.BPFDir, Logger: log})
		switch {
		case err == nil:
			log.Info("fence in place", "kind", "ebpf", "interfaces", f.Interfaces())
			return held{fence: f, kind: "ebpf", close: f.Close}
		case cfg.Fence == "ebpf" || !errors.Is(err, linux.ErrFenceUnavailable):
			return refuse(cfg.Fence, err, log)
		}
		why = err
	}
	return refuse(cfg.Fence, why, log)
}

func refuse(kind string, err error, log *slog.Logger) held {
	log.Error("no fence: this host will hold no VIP", "err", err)
	return held{kind: kind, unfit: fmt.Sprintf("no fence (%s): %v", kind, err)}
}

// deadline reads back from the kernel until when a session's packets pass.
func (h held) deadline(session uint64) lease.Time {
	if h.fence == nil {
		return 0
	}
	return h.Deadline(session)
}
