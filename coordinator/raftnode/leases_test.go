package raftnode

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestLeaseStore(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenLeaseStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	check := func(marks []uint64, longest time.Duration) {
		t.Helper()
		again, err := OpenLeaseStore(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []*LeaseStore{s, again} {
			if got := s.Marks(); !slices.Equal(got, marks) || s.LongestTTL() != longest {
				t.Errorf("marks %v, ttl %v; want %v, %v", got, s.LongestTTL(), marks, longest)
			}
		}
	}
	check(nil, 0)
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(s.Mark(7, 3, 7))
	check([]uint64{3, 7}, 0)
	do(s.SetLongestTTL(time.Second))
	do(s.SetLongestTTL(500 * time.Millisecond))
	check([]uint64{3, 7}, time.Second)
	do(s.Mark(1<<63, 5))
	do(s.Unmark(7, 99))
	check([]uint64{3, 5, 1 << 63}, time.Second)
	do(s.Unmark(3, 5, 1<<63))
	check(nil, time.Second)

	var all sync.WaitGroup
	for i := range uint64(8) {
		all.Go(func() {
			if err := s.Mark(i); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	check([]uint64{0, 1, 2, 3, 4, 5, 6, 7}, time.Second)
}

// TestLeaseStoreFails: after a failed write nobody knows what is on disk.
func TestLeaseStoreFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := OpenLeaseStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Mark(1); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := s.Mark(2); err == nil {
		t.Error("Mark without a directory")
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{s.Mark(3), s.Unmark(1), s.SetLongestTTL(time.Second)} {
		if err == nil {
			t.Error("the store went on after a failed write")
		}
	}
	if got := s.Marks(); !slices.Equal(got, []uint64{1}) {
		t.Errorf("marks %v", got)
	}
}

// TestLeaseFileDamage changes every bit and cuts at every length.
func TestLeaseFileDamage(t *testing.T) {
	good := marshalLeases(time.Second, []uint64{1, 2, 70})
	dir := t.TempDir()
	name := filepath.Join(dir, leaseFile)
	try := func(what string, at int, data []byte) {
		t.Helper()
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := OpenLeaseStore(dir)
		var damaged *DamagedError
		if !errors.As(err, &damaged) || damaged.File != name || damaged.Offset < 0 || damaged.Offset > int64(len(data)) {
			t.Fatalf("%s at %d: %v", what, at, err)
		}
	}
	for i := range good {
		try("cut", i, good[:i])
		for bit := range 8 {
			bad := slices.Clone(good)
			bad[i] ^= 1 << bit
			try("bit flipped", i, bad)
		}
	}
	try("longer", len(good), append(slices.Clone(good), 0))
	if err := os.WriteFile(name, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := OpenLeaseStore(dir); err != nil || !slices.Equal(s.Marks(), []uint64{1, 2, 70}) {
		t.Errorf("the undamaged file: %v", err)
	}
}

func FuzzParseLeases(f *testing.F) {
	f.Add(marshalLeases(0, nil))
	f.Add(marshalLeases(time.Second, []uint64{1, 2, 70}))
	f.Add([]byte(leaseMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		longest, marks, damage := parseLeases(b)
		if damage == nil && !slices.Equal(marshalLeases(longest, marks), b) {
			t.Errorf("%x parsed, but is written as %x", b, marshalLeases(longest, marks))
		}
	})
}
