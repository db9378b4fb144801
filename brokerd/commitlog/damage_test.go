package commitlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"holdfast/brokerd/commitlog"
	"holdfast/brokerd/commitlog/faultfs"
	"holdfast/brokerd/record"
)

// damaged are logs that were written and acknowledged to their end, and how they ended.
func damaged(t *testing.T) []struct {
	name string
	fs   *faultfs.FS
	all  []byte
} {
	t.Helper()
	build := func() (*history, *faultfs.FS) {
		h := &history{fs: faultfs.New(), options: commitlog.Options{SegmentSize: 1100}}
		for _, step := range []func() error{
			h.open,
			func() error { return h.append(5, start(), message("a", 0, "one")) },
			func() error { return h.fill(5, 3) },
			func() error { return h.store(commitlog.State{Epoch: 5, Extra: []byte("e")}) },
			func() error { return h.append(7, start(), message("a", 1, "first"), state("xyz")) },
			func() error { return h.append(7, message("b", 0, "second"), message("b", 0, "third")) },
		} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		return h, h.fs
	}
	h, fs := build()
	killed, powerless := fs.Crash(faultfs.LoseNothing, 0), fs.Crash(faultfs.LoseAll, 0)
	if err := h.l.Close(); err != nil {
		t.Fatal(err)
	}
	return []struct {
		name string
		fs   *faultfs.FS
		all  []byte
	}{
		{"closed", fs, h.acked}, {"killed", killed, h.acked}, {"power loss", powerless, h.acked},
	}
}

// checkDamaged opens a log of which one file was changed. All that was acknowledged is
// there, or it is said where it is not; a log never ends early in silence.
func checkDamaged(fs *faultfs.FS, all []byte, file string) error {
	o := commitlog.Options{SegmentSize: 1100}
	l, r, err := commitlog.Open(fs, o)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	end := len(all)
	switch {
	case r.Damage != nil && (r.Damage.File != file || r.Damage.Offset > uint64(len(all)) || r.Damage != l.Damage()):
		return fmt.Errorf("wrong place: %v", r.Damage)
	case r.Damage != nil:
		end = int(l.End())
		if _, err := l.Append(9, 1, []commitlog.Entry{start()}); !errors.Is(err, commitlog.ErrDamaged) {
			return fmt.Errorf("append to a damaged log: %v", err)
		}
		if _, err := l.Read(nil, uint64(end), 100); !errors.Is(err, commitlog.ErrDamaged) {
			return fmt.Errorf("read at the damage: %v", err)
		}
	case l.End() != uint64(len(all)):
		return fmt.Errorf("ends at %d of %d, and no damage", l.End(), len(all))
	}
	got, err := stream(l, 0)
	if err != nil && r.Damage == nil && !isDamage(err, file) {
		return fmt.Errorf("read: %w", err)
	}
	if got = unmarked(got); !bytes.HasPrefix(all, got) || err == nil && len(got) != end {
		return fmt.Errorf("%d bytes of %d read, which differ", len(got), end)
	}
	damage, verr := l.Verify(ignore)
	if verr != nil || r.Damage == nil && err != nil && damage == nil || damage != nil && !isDamage(damage, file) {
		return fmt.Errorf("verify: %v, %w, read %v", damage, verr, err)
	}
	if r.Damage == nil && err == nil {
		// What is not damaged goes on. An index may be found to lie.
		if err := checkQueues(l, all, 0); err != nil {
			return err
		}
		return goOn(l)
	}
	return repair(l, fs, o, all, len(got))
}

// repair cuts the damage off, and goes on.
func repair(l *commitlog.Log, fs *faultfs.FS, o commitlog.Options, all []byte, to int) error {
	if _, err := l.Preface(); err != nil {
		if err := l.Install(&commitlog.Preface{}); err != nil {
			return fmt.Errorf("install: %w", err)
		}
		to = 0
	} else if _, err := l.Cut(uint64(to)); err != nil {
		return fmt.Errorf("cut at %d: %w", to, err)
	}
	if err := goOn(l); err != nil {
		return err
	}
	end := l.End()
	l, r, err := commitlog.Open(fs.Crash(faultfs.LoseAll, 0), o)
	if err != nil || r.Damage != nil || l.End() != end {
		return fmt.Errorf("after the cut: %+v, %w", r, err)
	}
	got, err := stream(l, 0)
	if err != nil || !bytes.HasPrefix(unmarked(got), all[:to]) || uint64(len(got)) != end {
		return fmt.Errorf("after the cut: %d bytes, %w", len(got), err)
	}
	return checkQueues(l, got, 0)
}

func isDamage(err error, file string) bool {
	var d *commitlog.Damage
	return errors.As(err, &d) && d.File == file
}

// TestEveryBit turns bits everywhere.
func TestEveryBit(t *testing.T) {
	for _, d := range damaged(t) {
		names, err := d.fs.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			whole := d.fs.Bytes(name)
			for i := range whole {
				for _, bit := range []int{i % 8, (i + 3) % 8} {
					b := bytes.Clone(whole)
					b[i] ^= 1 << bit
					fs := d.fs.Clone()
					fs.Put(name, b)
					if err := checkBit(fs, d.all, name); err != nil {
						t.Fatalf("%s: bit %d of byte %d of %s: %v", d.name, bit, i, name, err)
					}
				}
			}
		}
	}
}

func checkBit(fs *faultfs.FS, all []byte, name string) error {
	_, _, err := commitlog.ReadState(fs)
	if name == "replica" {
		if err == nil || !strings.Contains(err.Error(), name) {
			return fmt.Errorf("read state: %v", err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	return checkDamaged(fs, all, name)
}

// TestCutShort: files that end early, or are not there.
func TestCutShort(t *testing.T) {
	for _, d := range damaged(t) {
		names, err := d.fs.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			whole := d.fs.Bytes(name)
			for n := range len(whole) + 1 {
				fs := d.fs.Clone()
				fs.Put(name, whole[:n])
				if n == len(whole) {
					fs.Put(name, nil)
				}
				if name == "replica" {
					continue
				}
				if last := names[len(names)-3]; name == last && d.name == "power loss" {
					continue // that is what a torn write looks like, or a crash in the roll
				}
				if err := checkDamaged(fs, d.all, name); err != nil && !(n == len(whole) && strings.Contains(err.Error(), "wrong place")) {
					t.Fatalf("%s: %d of %d bytes of %s: %v", d.name, n, len(whole), name, err)
				}
			}
		}
	}
}

// TestZeroedSector: a sector that lost its content below the end that was durable.
func TestZeroedSector(t *testing.T) {
	for _, d := range damaged(t) {
		if d.name == "power loss" {
			continue // the last batch cannot be told from one that never came to its end
		}
		names, _ := d.fs.List()
		for _, name := range names {
			if !strings.HasSuffix(name, ".log") {
				continue
			}
			whole := d.fs.Bytes(name)
			for at := 0; at < len(whole); at += faultfs.Sector {
				b := bytes.Clone(whole)
				clear(b[at:min(at+faultfs.Sector, len(b))])
				fs := d.fs.Clone()
				fs.Put(name, b)
				if err := checkDamaged(fs, d.all, name); err != nil {
					t.Fatalf("%s: sector at %d of %s: %v", d.name, at, name, err)
				}
			}
		}
	}
}

// TestMarksTell: damage in a write that was acknowledged is told from a torn one by the
// marks of what was written later, though the file of the synced end says nothing of both.
func TestMarksTell(t *testing.T) {
	h := &history{fs: faultfs.New(), options: commitlog.Options{SegmentSize: 1 << 20}}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{
		func() error { return h.append(1, start()) },
		func() error { return h.append(1, message("a", 0, string(bytes.Repeat([]byte{1}, 2000)))) },
		func() error { return h.append(1, message("a", 0, "later")) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	fs := h.fs.Crash(faultfs.LoseAll, 0)
	names, _ := fs.List()
	b := fs.Bytes(names[0])
	clear(b[512:1024])
	fs.Put(names[0], b)
	_, r, err := commitlog.Open(fs, h.options)
	if err != nil || r.Damage == nil || r.Damage.Offset != record.HeaderSize {
		t.Fatalf("recovery %+v, %v", r, err)
	}
	if !strings.Contains(r.Damage.Error(), "was written when this was durable") {
		t.Errorf("told by something else: %v", r.Damage)
	}
}
