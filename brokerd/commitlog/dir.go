package commitlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrLocked: another process has the directory open.
var ErrLocked = errors.New("in use by another process")

// Dir is a directory on a disk, locked for this process.
type Dir struct {
	path string
	dir  *os.File
}

// OpenDir opens a directory, which it makes if it is not there, and locks it until Close
// or the end of the process.
func OpenDir(path string) (*Dir, error) {
	if err := os.Mkdir(path, 0o700); err == nil {
		if err := syncParent(path); err != nil {
			return nil, fmt.Errorf("make directory %s: %w", path, err)
		}
	} else if !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = dir.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("lock directory %s: %w", path, err)
	}
	return &Dir{path, dir}, nil
}

func syncParent(path string) error {
	parent, err := os.Open(filepath.Dir(filepath.Clean(path)))
	if err != nil {
		return err
	}
	defer func() { _ = parent.Close() }()
	return parent.Sync()
}

// Close unlocks the directory.
func (d *Dir) Close() error { return d.dir.Close() }

// Open is [FS.Open].
func (d *Dir) Open(name string, create bool) (File, error) {
	flag := os.O_RDWR
	if create {
		flag |= os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(filepath.Join(d.path, name), flag, 0o600)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

// List is [FS.List].
func (d *Dir) List() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Rename is [FS.Rename].
func (d *Dir) Rename(from, to string) error {
	return os.Rename(filepath.Join(d.path, from), filepath.Join(d.path, to))
}

// Remove is [FS.Remove].
func (d *Dir) Remove(name string) error { return os.Remove(filepath.Join(d.path, name)) }

// SyncDir is [FS.SyncDir].
func (d *Dir) SyncDir() error { return d.dir.Sync() }

// Space returns how many bytes of the file system a process like this one may still use,
// and how large it is.
func (d *Dir) Space() (free, total uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(d.dir.Fd()), &s); err != nil {
		return 0, 0, fmt.Errorf("ask for space of %s: %w", d.path, err)
	}
	return s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), nil
}

type diskFile struct{ *os.File }

// Sync leaves out times that nobody needs to read the file back (fdatasync).
func (f diskFile) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			if err != nil {
				return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
			}
			return nil
		}
	}
}

func (f diskFile) Size() (int64, error) {
	s, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return s.Size(), nil
}
