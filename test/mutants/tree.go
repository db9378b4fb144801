package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// tree is a copy of the project in a temporary folder.
type tree struct{ dir string }

// copyTree copies what git would know of: all files that are not ignored.
func copyTree(ctx context.Context, root string) (*tree, error) {
	list := exec.CommandContext(ctx, "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("list the tree: %w", err)
	}
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return nil, err
	}
	t := &tree{dir}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if err := t.take(root, name); err != nil && !errors.Is(err, os.ErrNotExist) { // deleted and not committed
			t.remove()
			return nil, fmt.Errorf("copy the tree: %w", err)
		}
	}
	return t, nil
}

func (t *tree) take(root, name string) error {
	from := filepath.Join(root, name)
	info, err := os.Lstat(from)
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	to := filepath.Join(t.dir, name)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, text, info.Mode().Perm())
}

func (t *tree) remove() { _ = os.RemoveAll(t.dir) }

// apply plants a fault, all of it or nothing, and returns what takes it out again.
func (t *tree) apply(m mutant) (undo func(), err error) {
	before := make(map[string][]byte)
	undo = func() {
		for path, text := range before {
			_ = os.WriteFile(path, text, 0o644)
		}
	}
	for _, c := range m.files {
		path := filepath.Join(t.dir, c.path)
		text, err := os.ReadFile(path)
		if err != nil {
			undo()
			return nil, fmt.Errorf("does not apply: %w", err)
		}
		after, err := c.patched(string(text))
		if err != nil {
			undo()
			return nil, fmt.Errorf("does not apply: %w", err)
		}
		before[path] = text
		if err := os.WriteFile(path, []byte(after), 0o644); err != nil {
			undo()
			return nil, err
		}
	}
	return undo, nil
}

// kind is how a check ended.
type kind string

const (
	passed  kind = "passed"
	failed  kind = "failed"
	broken  kind = "does not compile"
	endless kind = "does not end"
)

type verdict struct {
	kind
	where  string // what it says of the failure: seed, depth, test
	output string // its end
}

// check runs one command in the tree.
func (t *tree) check(ctx context.Context, command string, limit time.Duration) verdict {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	words := strings.Fields(command)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Dir = t.dir
	// One failure is enough; paths are left out so that the copies share the cache.
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly -trimpath -buildvcs=false -vet=off -failfast -ldflags=-w", "CGO_ENABLED=0", "GOWORK=off")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that what the check started ends with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.CombinedOutput()
	text := string(out)
	v := verdict{kind: passed, where: where(text), output: tail(text, 40)}
	switch {
	case ctx.Err() != nil, strings.Contains(text, "panic: test timed out"):
		v.kind = endless
	case strings.Contains(text, "[build failed]"), strings.Contains(text, "[setup failed]"), strings.Contains(text, "no tests to run"), strings.Contains(text, "no test files"):
		v.kind = broken
	case err != nil:
		v.kind = failed
	}
	return v
}

var (
	seedWord  = regexp.MustCompile(`\bseed[ =:]+(\d+)`)
	foundLine = regexp.MustCompile(`(?m)^FOUND (.+)$`) // of test/sim
	depthWord = regexp.MustCompile(`\bdepth[ =:]+(\d+)`)
	failLine  = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)`)
)

// where picks out of a failure at which seed or depth it was met, or in which test.
func where(text string) string {
	var parts []string
	if m := foundLine.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	if m := depthWord.FindStringSubmatch(text); m != nil {
		parts = append(parts, "depth "+m[1])
	}
	if m := seedWord.FindStringSubmatch(text); m != nil {
		parts = append(parts, "seed "+m[1])
	}
	if len(parts) == 0 {
		if all := failLine.FindAllStringSubmatch(text, -1); len(all) > 0 {
			best := all[0][1]
			for _, m := range all { // the subtest says more than the test
				if strings.HasPrefix(m[1], best+"/") {
					best = m[1]
					break
				}
			}
			parts = append(parts, best)
		}
	}
	return strings.Join(parts, ", ")
}

// tail is the end of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
