package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"holdfast/cmd/internal/daemon"
)

// The fence is not removed while an agent runs: its lock says so.
func TestFenceRemoveUnderAnAgent(t *testing.T) {
	dir := t.TempDir()
	lock, err := os.Create(filepath.Join(dir, "agent.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	var talk strings.Builder
	code := fenceCommand([]string{"remove", "--state-dir", dir, "--bpf-dir", t.TempDir()}, io.Discard, &talk)
	if code != daemon.ExitError || !strings.Contains(talk.String(), "another agent is running") {
		t.Errorf("exit %d: %s", code, talk.String())
	}
}
