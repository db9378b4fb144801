// Package faultfs is a directory in memory for tests of what lives on a disk: it knows what
// was synced, and crashes at any operation, losing any part of what was not.
//
// A disk writes whole sectors. Changes of names that were not synced may come to the disk
// or not, each by itself. A sync that fails loses what it should have written, while
// reads go on to show it, as Linux does.
package faultfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"

	"holdfast/brokerd/commitlog"
)

// Sector is what is written as a whole, or not at all.
const Sector = 512

// ErrCrashed is what every operation returns from a crash on.
var ErrCrashed = errors.New("crashed")

// Op is an operation that changes something, or makes it durable.
type Op struct {
	N    int    // they are counted from 1
	Kind string // create, write, truncate, sync, rename, remove, syncdir
	Name string
}

func (o Op) String() string { return fmt.Sprintf("%d: %s %s", o.N, o.Kind, o.Name) }

// FS is the directory.
type FS struct {
	mu      sync.Mutex
	names   map[string]*inode // as a process sees them
	durable map[string]*inode
	changes []rename // of names, not synced
	ops     int
	counts  map[string]int
	crashed bool
	options Options
}

// Options say what goes wrong.
type Options struct {
	// Fail is asked before each operation; if it returns an error, the operation fails with
	// it and has no effect. A sync that fails loses what it should have made durable.
	Fail func(Op) error
	// CrashAt is the number of the operation in which everything stops; 0 is none.
	CrashAt int
	// Capacity is how many bytes all files may have; 0 is no limit. A write that does not
	// fit is done in part.
	Capacity int64
	// ShortReads has each read bring a single byte to some hundred of what was asked for.
	ShortReads bool
}

// rename is a change of names: what had the name from has the name to then. Without from
// it is a new file, without to a removal.
type rename struct {
	from, to string
	node     *inode
}

type inode struct {
	data   []byte // as a process sees it
	synced []byte
	writes []write // not synced
}

type write struct {
	at       int64
	data     []byte
	truncate bool
}

// New returns an empty directory.
func New() *FS {
	return &FS{names: map[string]*inode{}, durable: map[string]*inode{}, counts: map[string]int{}}
}

// Set says anew what goes wrong.
func (f *FS) Set(o Options) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.options = o
}

// Ops returns how many operations there were.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Counts returns how many operations of each kind there were.
func (f *FS) Counts() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.counts)
}

// Crashed tells whether CrashAt was reached.
func (f *FS) Crashed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.crashed
}

// begin counts an operation. With ErrCrashed it has come to the point of no return: it may
// have an effect after the crash. mu is held.
func (f *FS) begin(kind, name string) error {
	if f.crashed {
		return ErrCrashed
	}
	f.ops++
	f.counts[kind]++
	op := Op{f.ops, kind, name}
	if f.options.CrashAt == f.ops {
		f.crashed = true
		return errCrashing
	}
	if f.options.Fail != nil {
		return f.options.Fail(op)
	}
	return nil
}

// errCrashing is ErrCrashed in the operation that it comes in.
var errCrashing = fmt.Errorf("now: %w", ErrCrashed)

// Open is [commitlog.FS].
func (f *FS) Open(name string, create bool) (commitlog.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return nil, ErrCrashed
	}
	node, ok := f.names[name]
	if !create {
		if !ok {
			return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
		}
		return &file{f, node, name}, nil
	}
	err := f.begin("create", name)
	if err != nil && !errors.Is(err, errCrashing) {
		return nil, err
	}
	if ok {
		node.change(write{truncate: true})
		return &file{f, node, name}, err
	}
	node = &inode{}
	f.rename(rename{to: name, node: node})
	return &file{f, node, name}, err
}

func (f *FS) rename(r rename) {
	f.changes = append(f.changes, r)
	r.apply(f.names)
}

func (r rename) apply(names map[string]*inode) {
	if r.from != "" {
		delete(names, r.from)
	}
	if r.to != "" {
		names[r.to] = r.node
	}
}

// List is [commitlog.FS].
func (f *FS) List() ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return nil, ErrCrashed
	}
	return slices.Sorted(maps.Keys(f.names)), nil
}

// Rename is [commitlog.FS].
func (f *FS) Rename(from, to string) error {
	return f.move("rename", from, to)
}

// Remove is [commitlog.FS].
func (f *FS) Remove(name string) error { return f.move("remove", name, "") }

func (f *FS) move(kind, from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	node, ok := f.names[from]
	if !ok && !f.crashed {
		return fmt.Errorf("%s %s: %w", kind, from, fs.ErrNotExist)
	}
	err := f.begin(kind, from)
	if err == nil || errors.Is(err, errCrashing) {
		f.rename(rename{from, to, node})
	}
	return err
}

// SyncDir is [commitlog.FS].
func (f *FS) SyncDir() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin("syncdir", ""); err != nil {
		return err
	}
	f.durable, f.changes = maps.Clone(f.names), nil
	return nil
}

// used returns how many bytes all files have. mu is held.
func (f *FS) used() (n int64) {
	for _, node := range f.names {
		n += int64(len(node.data))
	}
	return n
}

// file is an open file. Close does nothing, as nothing hangs on it.
type file struct {
	fs   *FS
	node *inode
	name string
}

func (f *file) Close() error { return nil }

func (f *file) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.crashed {
		return 0, ErrCrashed
	}
	return int64(len(f.node.data)), nil
}

func (f *file) ReadAt(b []byte, at int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	switch {
	case f.fs.crashed:
		return 0, ErrCrashed
	case at >= int64(len(f.node.data)):
		return 0, io.EOF
	case f.fs.options.ShortReads && len(b) > 1:
		b = b[:1+int(at*7919)%min(len(b)-1, 300)]
		return copy(b, f.node.data[at:]), nil
	}
	n := copy(b, f.node.data[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(b []byte, at int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	err := f.fs.begin("write", f.name)
	if err != nil && !errors.Is(err, errCrashing) {
		return 0, err
	}
	n := int64(len(b))
	if grows := at + n - int64(len(f.node.data)); f.fs.options.Capacity > 0 && grows > 0 {
		if lacks := f.fs.used() + grows - f.fs.options.Capacity; lacks > 0 {
			n, err = max(n-lacks, 0), syscall.ENOSPC
		}
	}
	if n > 0 {
		f.node.change(write{at: at, data: slices.Clone(b[:n])})
	}
	return int(n), err
}

func (f *file) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	err := f.fs.begin("truncate", f.name)
	if err == nil || errors.Is(err, errCrashing) {
		f.node.change(write{at: size, truncate: true})
	}
	return err
}

func (f *file) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	switch err := f.fs.begin("sync", f.name); {
	case errors.Is(err, ErrCrashed):
		return err
	case err != nil:
		f.node.writes = nil
		return err
	}
	for _, w := range f.node.writes {
		f.node.synced = w.apply(f.node.synced)
	}
	f.node.writes = nil
	return nil
}

func (n *inode) change(w write) {
	n.writes = append(n.writes, w)
	n.data = w.apply(n.data)
}

func (w write) apply(b []byte) []byte {
	if w.truncate {
		return resize(b, w.at)
	}
	b = resize(b, max(int64(len(b)), w.at+int64(len(w.data))))
	copy(b[w.at:], w.data)
	return b
}

func resize(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

// Loss says what a crash does to what was not synced.
type Loss func(r *rand.Rand, last bool) bool

// The losses.
func LoseAll(*rand.Rand, bool) bool { return true }

// LoseNothing is a process that ends while its host goes on.
func LoseNothing(*rand.Rand, bool) bool { return false }

// LoseLast loses the last change of each file, and of the names.
func LoseLast(_ *rand.Rand, last bool) bool { return last }

// KeepLast keeps the last change alone.
func KeepLast(_ *rand.Rand, last bool) bool { return !last }

// LoseSome tosses a coin for each sector and each name.
func LoseSome(r *rand.Rand, _ bool) bool { return r.IntN(2) == 0 }

// Crash returns what is there after a power loss, for a process to begin with.
func (f *FS) Crash(lose Loss, seed uint64) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := rand.New(rand.NewPCG(seed, 1))
	names := maps.Clone(f.durable)
	for i, c := range f.changes {
		if !lose(r, i == len(f.changes)-1) {
			c.apply(names)
		}
	}
	out := New()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		data := names[name].survive(lose, r)
		out.names[name] = &inode{data: data, synced: slices.Clone(data)}
	}
	out.durable = maps.Clone(out.names)
	return out
}

// survive returns what a crash leaves of a file.
func (n *inode) survive(lose Loss, r *rand.Rand) []byte {
	b := slices.Clone(n.synced)
	for i, w := range n.writes {
		last := i == len(n.writes)-1
		if w.truncate {
			if !lose(r, last) {
				b = w.apply(b)
			}
			continue
		}
		// The size is not of any sector.
		if end := w.at + int64(len(w.data)); end > int64(len(b)) && !lose(r, last) {
			b = resize(b, end)
		}
		for at := w.at; at < w.at+int64(len(w.data)); {
			to := min(at/Sector*Sector+Sector, w.at+int64(len(w.data)))
			if !lose(r, last) && at < int64(len(b)) {
				copy(b[at:], w.data[at-w.at:to-w.at])
			}
			at = to
		}
	}
	return b
}

// Clone returns a copy, with what is not synced, and without anything that goes wrong.
func (f *FS) Clone() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	copies := map[*inode]*inode{}
	of := func(n *inode) *inode {
		if n == nil {
			return nil
		}
		if copies[n] == nil {
			copies[n] = &inode{slices.Clone(n.data), slices.Clone(n.synced), slices.Clone(n.writes)}
		}
		return copies[n]
	}
	out := New()
	for name, n := range f.names {
		out.names[name] = of(n)
	}
	for name, n := range f.durable {
		out.durable[name] = of(n)
	}
	for _, c := range f.changes {
		out.changes = append(out.changes, rename{c.from, c.to, of(c.node)})
	}
	return out
}

// Bytes returns a file's content, nil if there is none.
func (f *FS) Bytes(name string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.names[name]; n != nil {
		return slices.Clone(n.data)
	}
	return nil
}

// Put gives a file a content, durably: damage, for instance. nil removes the file.
func (f *FS) Put(name string, b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b == nil {
		delete(f.names, name)
		delete(f.durable, name)
		return
	}
	n := &inode{data: slices.Clone(b), synced: slices.Clone(b)}
	f.names[name], f.durable[name] = n, n
}
