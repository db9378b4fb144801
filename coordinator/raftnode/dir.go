package raftnode

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Files of a data directory. The identity is written last when a directory is
// made: where it exists, everything else must exist, too.
const (
	lockFile     = "lock"
	identityFile = "store"
	logFile      = "raft.db"
	snapshotDir  = "snapshots"
)

// dataDir is a data directory whose lock this process holds.
type dataDir struct {
	path string
	id   string // "" while the directory is being made
	lock *os.File
}

// openDir makes the directory if need be, locks it and reads its identity.
func openDir(path string) (*dataDir, error) {
	if path == "" {
		return nil, errors.New("open data directory: no path given")
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return nil, fmt.Errorf("restrict data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	// The lock goes with the process, however it ends.
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("lock data directory %s: %w", path, err)
	}
	d := &dataDir{path: path, lock: lock}
	if err := d.readIdentity(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *dataDir) close() { d.lock.Close() }

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

func (d *dataDir) readIdentity() error {
	data, err := os.ReadFile(d.file(identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read identity: %w", err)
	}
	id := strings.TrimSpace(string(data))
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != 16 {
		return &DamagedError{File: d.file(identityFile), Offset: 0, Reason: "want 32 hex digits"}
	}
	d.id = id
	return nil
}

// finish gives a new directory its identity, after everything else is on disk.
func (d *dataDir) finish() error {
	if d.id != "" {
		return nil
	}
	var raw [16]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return fmt.Errorf("make identity: %w", err)
	}
	id := hex.EncodeToString(raw[:])
	if err := replaceFile(d.file(identityFile), []byte(id+"\n")); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	d.id = id
	return nil
}

// expect reports a file that has vanished from a used directory.
func (d *dataDir) expect(name string) error {
	if d.id == "" {
		return nil
	}
	if _, err := os.Stat(d.file(name)); errors.Is(err, fs.ErrNotExist) {
		return &DamagedError{File: d.file(name), Offset: -1, Reason: "missing from a data directory that has been used"}
	} else if err != nil {
		return fmt.Errorf("look for %s: %w", name, err)
	}
	return nil
}

// replaceFile puts data in the place of the named file, durably and at once.
func replaceFile(name string, data []byte) error {
	tmp := name + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
