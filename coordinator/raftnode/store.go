package raftnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// snapshotsKept is how many snapshots stay on disk: one to fall back on.
const snapshotsKept = 2

// stores are the open files of a data directory.
type stores struct {
	dir       *dataDir
	bolt      *raftboltdb.BoltStore
	log       raft.LogStore // bolt with checksums
	snapshots *raft.FileSnapshotStore
}

func openStores(cfg Config) (_ *stores, err error) {
	dir, err := openDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &stores{dir: dir}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	for _, name := range []string{logFile, leaseFile, snapshotDir} {
		if err := dir.expect(name); err != nil {
			return nil, err
		}
	}
	if s.bolt, err = openBolt(dir.file(logFile), dir.id != ""); err != nil {
		return nil, err
	}
	var inner raft.LogStore = s.bolt
	if cfg.wrapStore != nil {
		inner = cfg.wrapStore(inner)
	}
	s.log = &checkedLog{LogStore: inner, file: dir.file(logFile)}
	s.snapshots, err = raft.NewFileSnapshotStoreWithLogger(dir.path, snapshotsKept, newHCLogger(cfg.Logger, "snapshots"))
	if err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	if dir.id != "" {
		return s, nil
	}
	if has, err := raft.HasExistingState(s.log, s.bolt, s.snapshots); err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	} else if has {
		return nil, &DamagedError{File: dir.file(identityFile), Offset: -1, Reason: "missing from a data directory that has been used"}
	}
	if _, err := OpenLeaseStore(dir.path); err != nil {
		return nil, err
	}
	return s, dir.finish()
}

func (s *stores) close() {
	if s.bolt != nil {
		s.bolt.Close()
	}
	s.dir.close()
}

// openBolt opens the bolt file. bbolt trusts what it maps: it panics on pages
// that make no sense, and a file that is too short faults. So the file is walked
// read-only first, with both turned into errors. An empty one it takes for new.
func openBolt(name string, used bool) (store *raftboltdb.BoltStore, err error) {
	if fi, err := os.Stat(name); err == nil && fi.Size() == 0 && used {
		return nil, &DamagedError{File: name, Offset: 0, Reason: "empty"}
	} else if err == nil && fi.Size() > 0 {
		if err := guard(name, func() error { return walkBolt(name) }); err != nil {
			return nil, err
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open log store: %w", err)
	}
	err = guard(name, func() error {
		store, err = raftboltdb.New(raftboltdb.Options{
			Path: name,
			// A mapping that need not grow never stops the readers.
			BoltOptions: &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType, InitialMmapSize: 64 << 20},
		})
		return err
	})
	return store, err
}

func walkBolt(name string) error {
	db, err := bbolt.Open(name, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		fi, err := os.Stat(name)
		if err != nil {
			return err
		}
		if fi.Size() < tx.Size() {
			return &DamagedError{File: name, Offset: fi.Size(), Reason: fmt.Sprintf("cut short: its header speaks of %d bytes", tx.Size())}
		}
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(_, v []byte) error {
				_ = crc32.ChecksumIEEE(v) // touches every byte
				return nil
			})
		})
	})
}

// guard runs f and names the file in whatever goes wrong.
func guard(name string, f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = &DamagedError{File: name, Offset: -1, Reason: fmt.Sprint(r)}
		}
	}()
	err = f()
	var damaged *DamagedError
	var path *fs.PathError
	switch {
	case err == nil, errors.As(err, &damaged):
		return err
	case errors.As(err, &path), errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("open log store %s: %w", name, err)
	default:
		return &DamagedError{File: name, Offset: -1, Reason: err.Error()}
	}
}

// checkedLog adds a checksum to each entry's data: bbolt has none for what it
// stores, and a flipped bit in a grant must not be applied.
type checkedLog struct {
	raft.LogStore
	file string
}

func entrySum(l *raft.Log, data []byte) uint32 {
	var head [17]byte
	binary.BigEndian.PutUint64(head[:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	sum := crc32.Checksum(head[:], castagnoli)
	sum = crc32.Update(sum, castagnoli, data)
	return crc32.Update(sum, castagnoli, l.Extensions)
}

func (c *checkedLog) GetLog(index uint64, l *raft.Log) error {
	if err := c.LogStore.GetLog(index, l); err != nil {
		return err
	}
	n := len(l.Data) - 4
	if n < 0 || l.Index != index || entrySum(l, l.Data[:n]) != binary.BigEndian.Uint32(l.Data[n:]) {
		return &DamagedError{File: c.file, Offset: -1, Reason: fmt.Sprintf("checksum mismatch in entry %d", index)}
	}
	l.Data = l.Data[:n:n]
	return nil
}

func (c *checkedLog) StoreLog(l *raft.Log) error { return c.StoreLogs([]*raft.Log{l}) }

func (c *checkedLog) StoreLogs(logs []*raft.Log) error { return c.LogStore.StoreLogs(sealed(logs)) }

func sealed(logs []*raft.Log) []*raft.Log {
	out := make([]*raft.Log, len(logs))
	for i, l := range logs {
		cp := *l
		cp.Data = make([]byte, 0, len(l.Data)+4)
		cp.Data = append(cp.Data, l.Data...)
		cp.Data = binary.BigEndian.AppendUint32(cp.Data, entrySum(l, l.Data))
		out[i] = &cp
	}
	return out
}

// scan reads all that a Raft instance will read at its start, reports what is
// damaged or missing (where hashicorp/raft would panic, or begin with an empty
// state), and tells configurations what it found.
func (s *stores) scan(c *configurations) error {
	c.reset()
	snapshot, err := s.scanSnapshots(c)
	if err != nil {
		return err
	}
	first, err := s.log.FirstIndex()
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	last, err := s.log.LastIndex()
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	if err := s.lostSnapshot(max(snapshot, last), first > snapshot+1 || last+snapshot == 0); err != nil {
		return err
	}
	for i := snapshot + 1; i <= last; i++ {
		var l raft.Log
		if err := s.log.GetLog(i, &l); errors.Is(err, raft.ErrLogNotFound) {
			return &DamagedError{File: s.dir.file(logFile), Offset: -1,
				Reason: fmt.Sprintf("entry %d is missing (the log goes from %d to %d, the newest good snapshot to %d)", i, first, last, snapshot)}
		} else if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		c.scanned(&l)
	}
	c.publish()
	return nil
}

// scanSnapshots finds the newest snapshot that can be read, as Raft will, and
// returns its index.
func (s *stores) scanSnapshots(c *configurations) (uint64, error) {
	list, err := s.snapshots.List()
	if err != nil {
		return 0, fmt.Errorf("list snapshots: %w", err)
	}
	for _, meta := range list {
		_, r, err := s.snapshots.Open(meta.ID)
		if err != nil {
			continue
		}
		head := readHead(r)
		r.Close()
		cfg := snapshotConfiguration(meta.ConfigurationIndex, meta.Configuration, head)
		c.mu.Lock()
		c.snapshot, c.list = meta.Index, []Configuration{cfg}
		c.mu.Unlock()
		return meta.Index, nil
	}
	return 0, nil
}

// lostSnapshot reports an unreadable snapshot that reaches further than
// anything readable: this node has acknowledged what is in it. With needed
// false an older one is no loss.
func (s *stores) lostSnapshot(known uint64, needed bool) error {
	entries, err := os.ReadDir(s.dir.file(snapshotDir))
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	for _, e := range entries {
		part := strings.Split(e.Name(), "-") // term-index-milliseconds
		if !e.IsDir() || len(part) != 3 || strings.HasSuffix(e.Name(), ".tmp") {
			continue
		}
		index, err := strconv.ParseUint(part[1], 10, 64)
		if err != nil {
			continue
		}
		_, r, err := s.snapshots.Open(e.Name())
		if err == nil {
			r.Close()
			continue
		}
		if index > known || needed {
			return &DamagedError{File: s.dir.file(snapshotDir + "/" + e.Name()), Offset: -1, Reason: "snapshot cannot be read: " + err.Error()}
		}
	}
	return nil
}

// logStore is the log of one Raft instance. A leader's write that takes longer
// than the limit fails, so that the leader steps down: it would go on sending
// heartbeats for as long as its disk hangs. See instance.breakDown for what
// happens with the write. A follower's write waits: until it returns the
// follower acknowledges nothing and votes for nobody.
type logStore struct {
	raft.LogStore // a checkedLog
	in            *instance
}

// GetLog stops the node if the entry is damaged; Raft would panic.
func (s *logStore) GetLog(index uint64, l *raft.Log) error {
	err := s.LogStore.GetLog(index, l)
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		s.in.giveUp(fmt.Errorf("read log: %w", err))
	}
	return err
}

func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

func (s *logStore) StoreLogs(logs []*raft.Log) error {
	if err := s.write(logs); err != nil {
		return err
	}
	s.in.node.configurations.stored(logs)
	return nil
}

func (s *logStore) write(logs []*raft.Log) error {
	if !s.in.leads() {
		err := s.LogStore.StoreLogs(logs)
		if err != nil {
			s.in.giveUp(fmt.Errorf("write log: %w", err))
		}
		return err
	}
	// The write may outlive this call, and the entries' owners.
	logs = copied(logs)
	w := &lateWrite{done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.err = s.LogStore.StoreLogs(logs)
	}()
	limit := time.NewTimer(s.in.node.cfg.StoreTimeout)
	defer limit.Stop()
	select {
	case <-w.done:
		if w.err != nil {
			// Not giveUp: the leader must answer its callers on the way down.
			s.in.node.fail(fmt.Errorf("write log: %w", w.err))
			s.in.breakDown(w.err, nil)
		}
		return w.err
	case <-limit.C:
		err := fmt.Errorf("write log: no answer from the disk within %v", s.in.node.cfg.StoreTimeout)
		s.in.breakDown(err, w)
		return err
	}
}

func copied(logs []*raft.Log) []*raft.Log {
	out := make([]*raft.Log, len(logs))
	for i, l := range logs {
		cp := *l
		cp.Data = append([]byte(nil), l.Data...)
		out[i] = &cp
	}
	return out
}

func (s *logStore) DeleteRange(first, last uint64) error {
	if err := s.LogStore.DeleteRange(first, last); err != nil {
		s.in.giveUp(fmt.Errorf("shorten log: %w", err))
		return err
	}
	s.in.node.configurations.deleted(first, last)
	return nil
}

// stableStore keeps term and vote. Raft panics when it cannot store its term.
type stableStore struct {
	raft.StableStore
	in *instance
}

func (s *stableStore) Set(key, value []byte) error {
	err := s.StableStore.Set(key, value)
	if err != nil {
		s.in.giveUp(fmt.Errorf("write vote: %w", err))
	}
	return err
}

func (s *stableStore) SetUint64(key []byte, value uint64) error {
	err := s.StableStore.SetUint64(key, value)
	if err != nil {
		s.in.giveUp(fmt.Errorf("write term: %w", err))
	}
	return err
}

// giveUp stops the node and ends the calling goroutine, which is one of Raft's
// and would panic or go on with a state that is not on disk.
func (in *instance) giveUp(err error) {
	in.node.fail(err)
	runtime.Goexit()
}
