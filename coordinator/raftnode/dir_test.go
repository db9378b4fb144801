package raftnode

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// openIn opens a node that no test runs.
func openIn(t testing.TB, dir string) (*Node, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	n, err := Open(Config{Name: "a", Dir: dir, Listener: l, Machine: &record{}})
	if err == nil {
		t.Cleanup(func() { n.Close() })
	}
	return n, err
}

func TestDataDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	n, err := openIn(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v %v", fi.Mode(), err)
	}
	for _, name := range []string{lockFile, identityFile, logFile, leaseFile} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, fi, err)
		}
	}
	if n.HasState() || len(n.StoreID()) != 32 {
		t.Errorf("new node: state %v, id %q", n.HasState(), n.StoreID())
	}
	if _, err := openIn(t, dir); !errors.Is(err, ErrLocked) {
		t.Errorf("second Open: %v", err)
	}
	n.Close()
	again, err := openIn(t, dir)
	if err != nil || again.StoreID() != n.StoreID() {
		t.Errorf("reopened: %v, id %s, was %s", err, again.StoreID(), n.StoreID())
	}
}

// TestOpenInOtherProcess is the other process of TestLockedByOtherProcess.
func TestOpenInOtherProcess(t *testing.T) {
	dir := os.Getenv("RAFTNODE_TEST_DIR")
	if dir == "" {
		return
	}
	_, err := openIn(t, dir)
	fmt.Printf("locked=%v %v\n", errors.Is(err, ErrLocked), err)
}

func TestLockedByOtherProcess(t *testing.T) {
	dir := t.TempDir()
	if _, err := openIn(t, dir); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestOpenInOtherProcess$")
	cmd.Env = append(os.Environ(), "RAFTNODE_TEST_DIR="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "locked=true") || !strings.Contains(string(out), dir) {
		t.Errorf("other process: %v\n%s", err, out)
	}
}

func TestUnusableDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := openIn(t, filepath.Join(file, "data"))
	var path *fs.PathError
	if !errors.As(err, &path) || !strings.Contains(err.Error(), file) {
		t.Errorf("directory below a file: %v", err)
	}
}

// used makes a data directory with a log of a few entries and two snapshots,
// the newer of which is all that has the first entries.
func used(t *testing.T) string {
	c := newCluster(t, 1, func(cfg *Config) { cfg.SnapshotThreshold = 4 })
	for i := range 40 {
		c.propose(fmt.Sprintf("entry %d", i))
		if i == 10 || i == 30 {
			if err := c.members[0].Snapshot(limit(t)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.members[0].stop(); err != nil {
		t.Fatal(err)
	}
	return c.members[0].dir
}

func TestDamage(t *testing.T) {
	original := used(t)
	used := func(t *testing.T) string {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(original)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	newest := func(dir string) string {
		all, err := filepath.Glob(filepath.Join(dir, snapshotDir, "*-*-*"))
		if err != nil || len(all) != 2 {
			t.Fatalf("snapshots: %v %v", all, err)
		}
		return all[1]
	}
	patch := func(name string, change func([]byte) []byte) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, change(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bolt := func(dir string) string { return filepath.Join(dir, logFile) }
	tests := []struct {
		name   string
		damage func(dir string)
		file   string // named in the error
	}{
		{"log: header overwritten", func(dir string) {
			patch(bolt(dir), func(b []byte) []byte { clear(b[:8192]); return b })
		}, logFile},
		{"log: empty file", func(dir string) { patch(bolt(dir), func(b []byte) []byte { return nil }) }, logFile},
		{"log: cut short", func(dir string) {
			patch(bolt(dir), func(b []byte) []byte { return b[:12288] })
		}, logFile},
		{"log: pages zeroed", func(dir string) {
			patch(bolt(dir), func(b []byte) []byte { clear(b[8192:]); return b })
		}, logFile},
		{"log: one bit of an entry", func(dir string) {
			patch(bolt(dir), func(b []byte) []byte {
				s := strings.ReplaceAll(string(b), "entry 35", "entry 55")
				if s == string(b) {
					t.Fatal("entry not found")
				}
				return []byte(s)
			})
		}, logFile},
		{"log: missing", func(dir string) { os.Remove(bolt(dir)) }, logFile},
		{"snapshot: data changed", func(dir string) {
			patch(newest(dir)+"/state.bin", func(b []byte) []byte { b[50]++; return b })
		}, snapshotDir},
		{"snapshot: data cut short", func(dir string) {
			patch(newest(dir)+"/state.bin", func(b []byte) []byte { return b[:20] })
		}, snapshotDir},
		{"snapshot: meta gone", func(dir string) { os.Remove(newest(dir) + "/meta.json") }, snapshotDir},
		{"snapshots: missing", func(dir string) { os.RemoveAll(filepath.Join(dir, snapshotDir)) }, snapshotDir},
		{"leases: missing", func(dir string) { os.Remove(filepath.Join(dir, leaseFile)) }, leaseFile},
		{"identity: missing", func(dir string) { os.Remove(filepath.Join(dir, identityFile)) }, identityFile},
		{"identity: no id", func(dir string) {
			patch(filepath.Join(dir, identityFile), func([]byte) []byte { return []byte("zz") })
		}, identityFile},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := used(t)
			tt.damage(dir)
			_, err := openIn(t, dir)
			var damaged *DamagedError
			if !errors.As(err, &damaged) || !strings.HasPrefix(damaged.File, filepath.Join(dir, tt.file)) {
				t.Fatalf("Open: %v", err)
			}
			t.Log(err)
			if _, err := openIn(t, dir); errors.Is(err, ErrLocked) {
				t.Error("the directory stayed locked")
			}
		})
	}

	t.Run("a directory half made", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(bolt(dir), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openIn(t, dir); err != nil {
			t.Error(err)
		}
	})
	t.Run("an older snapshot is no loss", func(t *testing.T) {
		dir := used(t)
		all, _ := filepath.Glob(filepath.Join(dir, snapshotDir, "*-*-*"))
		os.Remove(all[0] + "/meta.json")
		if _, err := openIn(t, dir); err != nil {
			t.Error(err)
		}
	})
}
