package vipagent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"holdfast/coordinator/lease"
)

// Names in the state directory.
const (
	lockName    = "agent.lock"
	sessionName = "session.json"
)

// stateVersion is the version of the session file's form.
const stateVersion = 1

// stateFile is what a restarted agent needs to go on where it stood (agent
// rule 6). It is valid on one boot of one host only.
type stateFile struct {
	Version int    `json:"version"`
	Host    string `json:"host"`
	BootID  string `json:"boot_id"`
	// Sessions has the session in use and, after it, the one that is to
	// replace it.
	Sessions []storedSession `json:"sessions"`
	// Rebinding: the entry that moves the grants from the first to the second
	// session may have been sent (agent rule 7).
	Rebinding bool `json:"rebinding,omitempty"`
	// Index is that of the view that Grants is from; Grants has what is held.
	Index  uint64  `json:"index"`
	Grants []grant `json:"grants"`
	// Floors (agent rules 3 and 8): the highest epoch released.
	SetFloors     map[string]uint64     `json:"set_floors"`
	AddressFloors map[netip.Addr]uint64 `json:"address_floors"`
}

type storedSession struct {
	ID       uint64     `json:"id"`
	Secret   []byte     `json:"secret"`
	TTL      int64      `json:"ttl_ms"`
	Deadline lease.Time `json:"deadline"` // CLOCK_BOOTTIME ns, proven by answers; 0 = none
}

func (s storedSession) session() (lease.Session, error) {
	out := lease.Session{ID: s.ID, TTL: time.Duration(s.TTL) * time.Millisecond}
	if s.ID == 0 || s.TTL <= 0 || len(s.Secret) != len(out.Secret) {
		return out, fmt.Errorf("session %d is not complete", s.ID)
	}
	copy(out.Secret[:], s.Secret)
	return out, nil
}

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

func (d *stateDir) close() error { return d.lock.Close() }

// load returns the session file; nil if there is none. A file that cannot be
// read is an error, and then nothing is adopted.
func (d *stateDir) load() (*stateFile, error) {
	b, err := os.ReadFile(filepath.Join(d.dir, sessionName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read session file: %w", err)
	}
	return decodeStateFile(b)
}

func decodeStateFile(b []byte) (*stateFile, error) {
	var f stateFile
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("read session file: %w", err)
	}
	if dec.More() {
		return nil, errors.New("read session file: more than one value")
	}
	if f.Version != stateVersion {
		return nil, fmt.Errorf("read session file: version %d, not %d", f.Version, stateVersion)
	}
	return &f, nil
}

// save replaces the session file as a whole. It does not sync: on a tmpfs there
// is no disk behind it, a rename is seen whole or not at all by whoever comes
// after this process, and what a crash of the host loses belongs to a boot that
// is over.
func (d *stateDir) save(f *stateFile) error {
	f.Version = stateVersion
	b, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode session file: %w", err)
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
