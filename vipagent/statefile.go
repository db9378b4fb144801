package vipagent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"holdfast/vipagent/tenure"
)

// Names in the state directory.
const (
	lockName    = "agent.lock"
	sessionName = "session.json"
)

// stateDir is the state directory under its lock.
type stateDir struct {
	dir   string
	lock  *os.File
	tmpfs bool
}

// tmpfsMagic is the type of a tmpfs (statfs(2)).
const tmpfsMagic = 0x01021994

// openStateDir makes the directory and takes the lock, which the kernel frees
// when this process is dead and not before (agent rule 6). The descriptor is
// closed on exec, so that no child keeps it.
func openStateDir(dir string) (*stateDir, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner, _ := io.ReadAll(io.LimitReader(f, 64))
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w (pid %s): two agents on one host would both hold its addresses",
				path, ErrLocked, strings.TrimSpace(string(owner)))
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := f.Truncate(0); err == nil { // the pid is for the message above only
		_, _ = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	var fs syscall.Statfs_t
	tmpfs := syscall.Statfs(dir, &fs) == nil && fs.Type == tmpfsMagic
	return &stateDir{dir, f, tmpfs}, nil
}

// Exclude keeps agents from running with the state directory until release is
// called. The error wraps [ErrLocked] if one runs.
func Exclude(dir string) (release func() error, err error) {
	d, err := openStateDir(dir)
	if err != nil {
		return nil, err
	}
	return d.close, nil
}

func (d *stateDir) close() error { return d.lock.Close() }

// load returns the session file; nil if there is none. A file that cannot be
// read is an error, and then nothing is adopted.
func (d *stateDir) load() (*tenure.File, error) {
	b, err := os.ReadFile(filepath.Join(d.dir, sessionName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read session file: %w", err)
	}
	return tenure.DecodeFile(b)
}

// save replaces the session file as a whole. It does not sync: on a tmpfs there
// is no disk behind it, a rename is seen whole or not at all by whoever comes
// after this process, and what a crash of the host loses belongs to a boot that
// is over.
func (d *stateDir) save(f *tenure.File) error {
	b, err := f.Encode()
	if err != nil {
		return err
	}
	path := filepath.Join(d.dir, sessionName)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return fmt.Errorf("write session file: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("replace session file: %w", err)
	}
	return nil
}

// remove deletes the session file.
func (d *stateDir) remove() error {
	err := os.Remove(filepath.Join(d.dir, sessionName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete session file: %w", err)
	}
	return nil
}
