package raftnode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// The lease file is small and is replaced as a whole at each change: written
// aside, synced, renamed, directory synced. So it is never half written, and
// any byte that is wrong or missing is damage. All big endian:
//
//	0  "HFLEASES"
//	8  u32 version = 1
//	12 u32 n, number of marks
//	16 i64 longest TTL, nanoseconds
//	24 n times u64: marked sessions, rising
//	   u32 CRC-32C of the bytes before
const (
	leaseFile       = "leases"
	leaseMagic      = "HFLEASES"
	leaseVersion    = 1
	leaseHeaderSize = 24
)

// LeaseStore keeps what a coordinator must not forget about leases: the
// sessions that it has marked as fenced, and the longest TTL that it ever
// promised. Each change is on disk when the call returns. Safe for concurrent
// use.
type LeaseStore struct {
	dir string

	mu      sync.Mutex // held during the sync: changes are serial
	longest time.Duration
	marks   map[uint64]struct{}
	failure error
}

// OpenLeaseStore opens the lease file of a data directory whose lock is held by
// Open. A file that is missing from a used directory, damaged or cut short
// gives a *DamagedError: lost marks would be unsafe.
func OpenLeaseStore(dir string) (*LeaseStore, error) {
	s := &LeaseStore{dir: dir, marks: make(map[uint64]struct{})}
	name := filepath.Join(dir, leaseFile)
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		// The identity file is written last when a directory is made.
		if _, err := os.Stat(filepath.Join(dir, identityFile)); err == nil {
			return nil, &DamagedError{File: name, Offset: -1, Reason: "missing from a data directory that has been used"}
		}
		if err := s.write(0, nil); err != nil {
			return nil, fmt.Errorf("create lease store: %w", err)
		}
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open lease store: %w", err)
	}
	longest, marks, damage := parseLeases(data)
	if damage != nil {
		damage.File = name
		return nil, damage
	}
	s.longest = longest
	for _, id := range marks {
		s.marks[id] = struct{}{}
	}
	return s, nil
}

// Marks returns the marked sessions in rising order.
func (s *LeaseStore) Marks() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sorted(s.marks)
}

// Mark adds marks, with one sync for all. After an error the store is of no
// more use: what is on disk is unknown until it is opened again.
func (s *LeaseStore) Mark(sessions ...uint64) error {
	return s.change("mark sessions", func(marks map[uint64]struct{}) {
		for _, id := range sessions {
			marks[id] = struct{}{}
		}
	})
}

// Unmark deletes marks; unknown ones are no error. Errors as for Mark.
func (s *LeaseStore) Unmark(sessions ...uint64) error {
	return s.change("unmark sessions", func(marks map[uint64]struct{}) {
		for _, id := range sessions {
			delete(marks, id)
		}
	})
}

// LongestTTL is the longest TTL ever stored, 0 if none.
func (s *LeaseStore) LongestTTL() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.longest
}

// SetLongestTTL stores a longer TTL; it never lowers it. Errors as for Mark.
func (s *LeaseStore) SetLongestTTL(ttl time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		return s.failure
	}
	if ttl <= s.longest {
		return nil
	}
	if err := s.write(ttl, sorted(s.marks)); err != nil {
		s.failure = fmt.Errorf("store longest ttl: %w", err)
		return s.failure
	}
	s.longest = ttl
	return nil
}

func (s *LeaseStore) change(verb string, apply func(map[uint64]struct{})) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		return s.failure
	}
	next := make(map[uint64]struct{}, len(s.marks)+1)
	for id := range s.marks {
		next[id] = struct{}{}
	}
	apply(next)
	list := sorted(next)
	if slices.Equal(list, sorted(s.marks)) {
		return nil
	}
	if err := s.write(s.longest, list); err != nil {
		s.failure = fmt.Errorf("%s: %w", verb, err)
		return s.failure
	}
	s.marks = next
	return nil
}

func (s *LeaseStore) write(longest time.Duration, marks []uint64) error {
	return replaceFile(filepath.Join(s.dir, leaseFile), marshalLeases(longest, marks))
}

func marshalLeases(longest time.Duration, marks []uint64) []byte {
	b := make([]byte, 0, leaseHeaderSize+8*len(marks)+4)
	b = append(b, leaseMagic...)
	b = binary.BigEndian.AppendUint32(b, leaseVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(len(marks)))
	b = binary.BigEndian.AppendUint64(b, uint64(longest))
	for _, id := range marks {
		b = binary.BigEndian.AppendUint64(b, id)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func parseLeases(b []byte) (time.Duration, []uint64, *DamagedError) {
	damage := func(offset int, format string, args ...any) (time.Duration, []uint64, *DamagedError) {
		return 0, nil, &DamagedError{Offset: int64(offset), Reason: fmt.Sprintf(format, args...)}
	}
	if len(b) < leaseHeaderSize+4 {
		return damage(len(b), "cut short: %d bytes, the header has %d", len(b), leaseHeaderSize)
	}
	if !bytes.HasPrefix(b, []byte(leaseMagic)) {
		return damage(0, "not a lease file")
	}
	if v := binary.BigEndian.Uint32(b[8:]); v != leaseVersion {
		return damage(8, "unknown version %d", v)
	}
	n := uint64(binary.BigEndian.Uint32(b[12:]))
	end := leaseHeaderSize + 8*n
	if want := end + 4; uint64(len(b)) != want {
		return damage(min(len(b), int(want)), "%d bytes, want %d for %d marks", len(b), want, n)
	}
	if crc32.Checksum(b[:end], castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return damage(int(end), "checksum mismatch")
	}
	longest := time.Duration(binary.BigEndian.Uint64(b[16:]))
	if longest < 0 {
		return damage(16, "negative ttl")
	}
	marks := make([]uint64, n)
	for i := range marks {
		at := leaseHeaderSize + 8*i
		marks[i] = binary.BigEndian.Uint64(b[at:])
		if i > 0 && marks[i] <= marks[i-1] {
			return damage(at, "marks out of order")
		}
	}
	return longest, marks, nil
}

func sorted(set map[uint64]struct{}) []uint64 {
	out := make([]uint64, 0, len(set))
	for id := range set {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}
