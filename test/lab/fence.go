package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"holdfast/vipagent/linux"
)

// Fence reads from the host's kernel what it holds of the fence, as `vipagent
// fence show` prints it: the agent need not run, or may be frozen.
func (c *Cluster) Fence(ctx context.Context, h *Host) (linux.FenceTable, error) {
	var t linux.FenceTable
	out, talk, code, err := h.Run(ctx, Command{Path: c.config.Agent, Args: []string{"fence", "show", "-o", "json"}})
	if err != nil {
		return t, err
	}
	if code != 0 {
		return t, fmt.Errorf("fence of %s: exit code %d: %s", h.Name, code, strings.TrimSpace(string(talk)))
	}
	if err := json.Unmarshal(out, &t); err != nil {
		return t, fmt.Errorf("fence of %s: %w", h.Name, err)
	}
	return t, nil
}

// Weak reports whether some agent's host has no fence with an absolute deadline,
// and why.
func (c *Cluster) Weak(ctx context.Context) (why string) {
	for _, h := range c.config.Agents {
		t, err := c.Fence(ctx, h)
		if err != nil {
			return err.Error()
		}
		if t.Kind != "ebpf" {
			return fmt.Sprintf("the fence of %s is %s", h.Name, t.Kind)
		}
	}
	return ""
}
