package commitlog

import (
	"errors"
	"fmt"
	"io"
	"syscall"
)

// FS is the directory of one log. Nobody else changes what is in it.
type FS interface {
	// Open opens a file to read and write it. create makes a new, empty one, also in
	// place of one that is there.
	Open(name string, create bool) (File, error)
	// List returns the names of all files.
	List() ([]string, error)
	// Rename gives a file another name, that of a file which is there too.
	Rename(from, to string) error
	// Remove removes a file's name; who has it open can go on.
	Remove(name string) error
	// SyncDir makes all changes of names durable.
	SyncDir() error
}

// File is an open file. Reads and writes may be concurrent.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	// Sync makes the content and the size durable. One that failed is never tried again:
	// the kernel may have marked as clean what it could not write.
	Sync() error
	Size() (int64, error)
}

// ErrFull: the disk is full, or fuller than messages may make it. What was refused with it
// is in no log.
var ErrFull = errors.New("disk is full")

// full tells whether an error is that of a full disk, or of a quota.
func full(err error) bool {
	return errors.Is(err, ErrFull) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// tmp is what the names of unfinished files end with. Recovery removes them.
const tmp = ".tmp"

// create makes a file that is there as a whole or, after a crash, not at all: it is
// durable, under its name, when create returns. The file is returned open.
func create(fs FS, name string, parts ...[]byte) (f File, err error) {
	if f, err = fs.Open(name+tmp, true); err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = fs.Remove(name + tmp) // what is left is removed at the next start
			f, err = nil, fmt.Errorf("create %s: %w", name, err)
		}
	}()
	at := int64(0)
	for _, p := range parts {
		if _, err = f.WriteAt(p, at); err != nil {
			return f, err
		}
		at += int64(len(p))
	}
	if err = f.Sync(); err != nil {
		return f, fatal(err)
	}
	if err = fs.Rename(name+tmp, name); err != nil {
		return f, err
	}
	if err = fs.SyncDir(); err != nil {
		return f, fatal(err)
	}
	return f, nil
}

// readAll reads a whole file of at most limit bytes.
func readAll(f File, limit int64) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("%d bytes, at most %d: %w", size, limit, errFormat)
	}
	b := make([]byte, size)
	return b, readFull(f, b, 0)
}

// readFull fills b, whatever little a single read brings.
func readFull(f io.ReaderAt, b []byte, at int64) error {
	for n := 0; n < len(b); {
		m, err := f.ReadAt(b[n:], at+int64(n))
		n += m
		switch {
		case n == len(b):
		case errors.Is(err, io.EOF) || err == nil && m == 0:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
	return nil
}

// syncError is that of a sync which failed: what is on the disk is not known any more.
type syncError struct{ err error }

func (e syncError) Error() string { return e.err.Error() }
func (e syncError) Unwrap() error { return e.err }

func fatal(err error) error { return syncError{err} }
