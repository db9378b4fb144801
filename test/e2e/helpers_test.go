package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/test/lab"
)

// logSays returns nil if the process's log has one of the words.
func logSays(p *lab.Process, words ...string) error {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return err
	}
	text := strings.ToLower(string(b))
	for _, w := range words {
		if strings.Contains(text, w) {
			return nil
		}
	}
	return fmt.Errorf("the log of %s on %s says nothing of %q", p.Name, p.Host.Name, words)
}

// leadElsewhere makes sure that the coordinator of the host does not lead.
func leadElsewhere(ctx context.Context, t *testing.T, c *lab.Cluster, h *lab.Host) {
	t.Helper()
	for _, other := range c.Config().Coordinators {
		if other != h {
			check(t, c.Lead(ctx, other))
			return
		}
	}
}

// moveAside takes the data directory of a host's coordinator away and returns a
// function that puts it back.
func moveAside(t *testing.T, h *lab.Host) (back func()) {
	t.Helper()
	dir := filepath.Join(h.Disk, "coordinator")
	check(t, os.Rename(dir, dir+".aside"))
	return func() {
		t.Helper()
		check(t, os.RemoveAll(dir))
		check(t, os.Rename(dir+".aside", dir))
	}
}
