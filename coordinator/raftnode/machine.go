package raftnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// castagnoli is the checksum of everything that this package writes.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A snapshot begins with a header, all big endian:
//
//	0  "HFRN"
//	4  u32 version = 1
//	8  u64 applied: last entry that the Machine took in
//	16 u64 configuration: last configuration entry among them
//	24 u64 previous: the configuration entry before that one
//	32 u32 CRC-32C of the bytes before
//	36 what Machine.Snapshot returned
const (
	snapshotMagic      = "HFRN"
	snapshotVersion    = 1
	snapshotHeaderSize = 36
)

type snapshotHeader struct{ applied, configuration, previous uint64 }

func (h snapshotHeader) marshal() []byte {
	b := make([]byte, 0, snapshotHeaderSize)
	b = append(b, snapshotMagic...)
	b = binary.BigEndian.AppendUint32(b, snapshotVersion)
	b = binary.BigEndian.AppendUint64(b, h.applied)
	b = binary.BigEndian.AppendUint64(b, h.configuration)
	b = binary.BigEndian.AppendUint64(b, h.previous)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func parseSnapshotHeader(b []byte) (snapshotHeader, error) {
	if len(b) < snapshotHeaderSize {
		return snapshotHeader{}, fmt.Errorf("parse snapshot header: %d bytes, want %d", len(b), snapshotHeaderSize)
	}
	if string(b[:4]) != snapshotMagic {
		return snapshotHeader{}, errors.New("parse snapshot header: not a snapshot of this program")
	}
	if v := binary.BigEndian.Uint32(b[4:]); v != snapshotVersion {
		return snapshotHeader{}, fmt.Errorf("parse snapshot header: unknown version %d", v)
	}
	if crc32.Checksum(b[:32], castagnoli) != binary.BigEndian.Uint32(b[32:]) {
		return snapshotHeader{}, errors.New("parse snapshot header: checksum mismatch")
	}
	return snapshotHeader{
		applied:       binary.BigEndian.Uint64(b[8:]),
		configuration: binary.BigEndian.Uint64(b[16:]),
		previous:      binary.BigEndian.Uint64(b[24:]),
	}, nil
}

// applyFailure travels through a future to Propose.
type applyFailure struct{ err error }

// machine is the raft.FSM around a Machine. Raft calls it from one goroutine at
// a time. It outlives a raft.Raft: a new one over the same log begins behind the
// last snapshot, and what the Machine has already is passed over.
type machine struct {
	inner   Machine
	fail    func(error)             // stops the node
	removed func(index uint64) bool // does this configuration take this node out?

	mu      sync.Mutex
	header  snapshotHeader
	failure error
	applied atomic.Uint64 // header.applied, for readers
}

var _ raft.ConfigurationStore = (*machine)(nil)

// Apply implements raft.FSM.
func (m *machine) Apply(l *raft.Log) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failure != nil {
		return applyFailure{m.failure}
	}
	if l.Index <= m.header.applied {
		return nil
	}
	result, err := m.inner.Apply(l.Index, l.Data)
	if err != nil {
		return applyFailure{m.stop(fmt.Errorf("apply entry %d: %w", l.Index, err))}
	}
	m.advance(l.Index)
	return result
}

// StoreConfiguration implements raft.ConfigurationStore: a committed
// configuration entry, in its place among the commands.
func (m *machine) StoreConfiguration(index uint64, _ raft.Configuration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failure != nil || index <= m.header.applied {
		return
	}
	m.inner.Configured(index)
	m.header.previous, m.header.configuration = m.header.configuration, index
	m.advance(index)
	if m.removed != nil && m.removed(index) {
		m.stop(ErrRemoved)
	}
}

// Snapshot implements raft.FSM.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failure != nil {
		return nil, m.failure
	}
	data, err := m.inner.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("snapshot machine: %w", err)
	}
	return &machineSnapshot{m.header.marshal(), data, m.header.applied, m.inner.Persisted}, nil
}

// Restore implements raft.FSM. A snapshot that the Machine refuses stops the
// node: an older one would hide the fault.
func (m *machine) Restore(r io.ReadCloser) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failure != nil {
		return m.failure
	}
	h, err := parseSnapshotHeader(data)
	if err != nil {
		return m.stop(fmt.Errorf("restore snapshot: %w", err))
	}
	if err := m.inner.Restore(data[snapshotHeaderSize:]); err != nil {
		return m.stop(fmt.Errorf("restore snapshot: %w", err))
	}
	m.header = h
	m.applied.Store(h.applied)
	m.inner.Persisted(h.applied) // Raft has it on disk before it restores
	return nil
}

func (m *machine) advance(index uint64) {
	m.header.applied = index
	m.applied.Store(index)
}

func (m *machine) stop(err error) error {
	m.failure = err
	m.fail(err)
	return err
}

type machineSnapshot struct {
	header, data []byte
	applied      uint64
	persisted    func(applied uint64)
}

func (s *machineSnapshot) Persist(sink raft.SnapshotSink) error {
	for _, b := range [][]byte{s.header, s.data} {
		if _, err := sink.Write(b); err != nil {
			return fmt.Errorf("write snapshot: %w", err)
		}
	}
	if err := sink.Close(); err != nil { // syncs and renames
		return fmt.Errorf("write snapshot: %w", err)
	}
	s.persisted(s.applied)
	return nil
}

func (s *machineSnapshot) Release() {}
