package commitlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"holdfast/brokerd/commitlog"
	"holdfast/brokerd/commitlog/faultfs"
	"holdfast/brokerd/record"
)

// filled returns a log of several segments and two epochs, and its records.
func filled(t *testing.T) (*history, []byte) {
	t.Helper()
	h := &history{fs: faultfs.New(), options: commitlog.Options{SegmentSize: 1100}}
	for _, step := range []func() error{
		h.open,
		func() error { return h.append(5, start(), message("a", 0, "one")) },
		func() error { return h.fill(5, 4) },
		func() error { return h.append(7, start(), message("c", 0, "only here")) },
		func() error { return h.fill(7, 4) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return h, h.acked
}

// boundaries are the offsets at which records begin, and the end.
func boundaries(b []byte) []uint64 {
	out := []uint64{0}
	for at := 0; at < len(b); {
		n, _ := record.SizeOf(b[at:])
		at += n
		out = append(out, uint64(at))
	}
	return out
}

// TestCut cuts at each record: what is left is as if the rest had never been, and the
// rest is in the files that the cut names.
func TestCut(t *testing.T) {
	_, all := filled(t)
	for _, at := range boundaries(all) {
		h, _ := filled(t)
		kept, err := h.l.Cut(at)
		if err != nil {
			t.Fatalf("cut at %d: %v", at, err)
		}
		left := readAll(t, h.l, 0, 1000)
		if h.l.End() != at || !bytes.Equal(unmarked(left), all[:at]) {
			t.Fatalf("cut at %d: %d bytes are left", at, len(left))
		}
		cut := make([]byte, len(all))
		for _, k := range kept {
			b := h.fs.Bytes(k.File)
			if strings.HasPrefix(k.File, "cut-segment") {
				p, err := commitlog.ParsePreface(b)
				if err != nil || p.Base != k.From {
					t.Fatalf("%+v: %v", k, err)
				}
				b = b[len(p.Append(nil)):]
			}
			if uint64(len(b)) != k.To-k.From {
				t.Errorf("%+v has %d bytes", k, len(b))
			}
			copy(cut[k.From:], b)
		}
		cut = cut[at:]
		if !bytes.Equal(unmarked(cut), all[at:]) {
			t.Fatalf("cut at %d: %d bytes are kept of %d", at, len(cut), len(all)-int(at))
		}
		if err := checkQueues(h.l, left, 0); err != nil {
			t.Fatalf("cut at %d: %v", at, err)
		}
		// The same records follow again as a follower gets them.
		if _, err := h.l.AppendRaw(all[at:]); err != nil {
			t.Fatalf("cut at %d: %v", at, err)
		}
		if err := h.l.Commit(); err != nil {
			t.Fatal(err)
		}
		l, r := open(t, h.fs.Crash(faultfs.LoseAll, 0), h.options)
		if got := readAll(t, l, 0, 1000); !bytes.Equal(unmarked(got), all) || r.Damage != nil {
			t.Fatalf("cut at %d: %d bytes after a crash, %+v", at, len(got), r)
		}
		if err := checkQueues(l, readAll(t, l, 0, 1000), 0); err != nil {
			t.Fatalf("cut at %d: %v", at, err)
		}
	}
}

func TestCutRefused(t *testing.T) {
	h, all := filled(t)
	at := boundaries(all)
	for _, offset := range []uint64{1, at[1] + 1, at[3] - 1, uint64(len(all)) - 1} {
		if _, err := h.l.Cut(offset); !errors.Is(err, commitlog.ErrBoundary) {
			t.Errorf("cut at %d: %v", offset, err)
		}
	}
	if _, err := h.l.Cut(uint64(len(all)) + 1); !errors.Is(err, commitlog.ErrBeyond) {
		t.Errorf("cut behind the end: %v", err)
	}
	first, err := h.l.Trim(commitlog.Retention{Floor: at[6], MaxBytes: 1})
	if err != nil || first == 0 {
		t.Fatal(first, err)
	}
	if _, err := h.l.Cut(0); !errors.Is(err, commitlog.ErrTrimmed) {
		t.Errorf("cut before the begin: %v", err)
	}
	b, err := h.l.Append(7, 1, []commitlog.Entry{message("a", 0, "waits")})
	if err != nil {
		t.Fatal(err)
	}
	if kept, err := h.l.Cut(uint64(len(all))); err != nil || len(kept) > 0 {
		t.Errorf("cut at the end: %v, %v", kept, err)
	}
	if <-b.Done(); !errors.Is(b.Err(), commitlog.ErrCut) {
		t.Errorf("batch: %v", b.Err())
	}
	if h.l.Err() != nil {
		t.Error(h.l.Err())
	}
}

// TestInstall: a replica begins its log where another's oldest segment does.
func TestInstall(t *testing.T) {
	h, all := filled(t)
	first, err := h.l.Trim(commitlog.Retention{Floor: uint64(len(all)) / 2, MaxBytes: 1})
	if err != nil || first == 0 {
		t.Fatal(first, err)
	}
	p, err := h.l.Preface()
	if err != nil {
		t.Fatal(err)
	}
	wire, err := commitlog.ParsePreface(p.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	old, _ := filled(t)
	if err := old.l.Install(wire); err != nil {
		t.Fatal(err)
	}
	if old.l.End() != first || old.l.First() != first || old.l.Durable() != first {
		t.Errorf("begins at %d and ends at %d, not at %d", old.l.First(), old.l.End(), first)
	}
	if _, err := old.l.AppendRaw(readAll(t, h.l, first, 500)); err != nil {
		t.Fatal(err)
	}
	if err := old.l.Commit(); err != nil {
		t.Fatal(err)
	}
	l, r := open(t, old.fs.Crash(faultfs.LoseAll, 0), old.options)
	if r.Damage != nil || r.New || fmt.Sprint(l.History()) != fmt.Sprint(h.l.History()) {
		t.Errorf("%+v, history %v", r, l.History())
	}
	if got := readAll(t, l, first, 1000); !bytes.Equal(unmarked(got), all[first:]) {
		t.Errorf("%d bytes", len(got))
	}
	if err := old.l.Install(&commitlog.Preface{Base: 7}); err == nil {
		t.Error("a preface that cannot be was installed")
	}
}

// TestInstallCrash crashes in each operation of it: the log can be read, and says that it
// has nothing where that is so.
func TestInstallCrash(t *testing.T) {
	h, all := filled(t)
	if _, err := h.l.Trim(commitlog.Retention{Floor: uint64(len(all)) / 2, MaxBytes: 1}); err != nil {
		t.Fatal(err)
	}
	p, err := h.l.Preface()
	if err != nil {
		t.Fatal(err)
	}
	for at := 1; ; at++ {
		old, _ := filled(t)
		old.fs.Set(faultfs.Options{CrashAt: old.fs.Ops() + at})
		if err := old.l.Install(p); err == nil {
			break
		}
		for _, loss := range losses {
			for seed := range loss.times {
				l, r := open(t, crash(old.fs, loss.lose, uint64(seed)), old.options)
				got := readAll(t, l, l.First(), 1000)
				if r.Damage != nil || uint64(len(got)) != l.End()-l.First() || !bytes.HasPrefix(all[l.First():], unmarked(got)) {
					t.Fatalf("crash at %d, lost %s: %+v, [%d, %d)", at, loss.name, r, l.First(), l.End())
				}
				if l.End() == 0 && !r.New {
					t.Errorf("crash at %d, lost %s: empty, and does not say so", at, loss.name)
				}
				if err := goOn(l); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestTrim: by age, size and space; never past the floor, and never the last segment.
func TestTrim(t *testing.T) {
	build := func(free *uint64) (*commitlog.Log, []uint64) {
		o := commitlog.Options{SegmentSize: 500, Space: func() (uint64, uint64, error) { return *free, 1 << 30, nil }}
		l, _ := open(t, faultfs.New(), o)
		commit(t, l, 1, start())
		var bases []uint64
		for i := range 10 {
			bases = append(bases, l.End())
			b, err := l.Append(1, int64(1000*(i+1)), []commitlog.Entry{message("t", 0, strings.Repeat("x", 400))})
			if err != nil || l.Commit() != nil || b.Err() != nil {
				t.Fatal(err)
			}
		}
		bases[0] = 0
		return l, bases
	}
	const all = math.MaxUint64
	for name, tt := range map[string]struct {
		r    commitlog.Retention
		free uint64
		want func([]uint64) uint64
	}{
		"nothing said":      {commitlog.Retention{Floor: all}, 100, func(b []uint64) uint64 { return 0 }},
		"age":               {commitlog.Retention{Floor: all, OlderMs: 3500}, 100, func(b []uint64) uint64 { return b[3] }},
		"age of all":        {commitlog.Retention{Floor: all, OlderMs: 1 << 40}, 100, func(b []uint64) uint64 { return b[9] }},
		"age and floor":     {commitlog.Retention{Floor: 1000, OlderMs: 1 << 40}, 100, func(b []uint64) uint64 { return b[1] }},
		"no floor":          {commitlog.Retention{OlderMs: 1 << 40}, 100, func(b []uint64) uint64 { return 0 }},
		"size":              {commitlog.Retention{Floor: all, MaxBytes: 1600}, 100, func(b []uint64) uint64 { return b[7] }},
		"size of one":       {commitlog.Retention{Floor: all, MaxBytes: 1}, 100, func(b []uint64) uint64 { return b[9] }},
		"space":             {commitlog.Retention{Floor: all, MinFree: 101}, 100, func(b []uint64) uint64 { return b[9] }},
		"space is there":    {commitlog.Retention{Floor: all, MinFree: 100}, 100, func(b []uint64) uint64 { return 0 }},
		"floor at a border": {commitlog.Retention{Floor: 1075, MaxBytes: 1}, 100, func(b []uint64) uint64 { return b[2] }},
	} {
		l, bases := build(&tt.free)
		first, err := l.Trim(tt.r)
		if err != nil || first != tt.want(bases) || l.First() != first {
			t.Errorf("%s: trimmed up to %d of %v, %v", name, first, bases, err)
			continue
		}
		low, high, err := l.Bounds("t", 0, math.MaxUint64)
		if err != nil || high != 10 || low > 0 && first == 0 || low == 0 && first > 0 {
			t.Errorf("%s: queue is [%d, %d), %v", name, low, high, err)
		}
		read := commitlog.QueueRead{Topic: "t", Offset: low, Max: 100, Bytes: 1 << 20, Below: math.MaxUint64}
		if got, err := l.ReadQueue(read); err != nil || len(got) != int(high-low) {
			t.Errorf("%s: %d messages, %v", name, len(got), err)
		}
		if low > 0 {
			read.Offset--
			if _, err := l.ReadQueue(read); !errors.Is(err, commitlog.ErrTrimmed) {
				t.Errorf("%s: read before: %v", name, err)
			}
			if _, err := l.Read(nil, 0, 100); !errors.Is(err, commitlog.ErrTrimmed) {
				t.Errorf("%s: read before: %v", name, err)
			}
		}
	}
}

// TestBelow: a reader sees nothing that ends behind the offset that it names, however much
// is there.
func TestBelow(t *testing.T) {
	h, all := filled(t)
	for _, below := range boundaries(all) {
		want := 0
		for rest := all[:below]; len(rest) > 0; {
			r, err := record.Parse(rest)
			if err != nil {
				t.Fatal(err)
			}
			if string(r.Topic) == "a" {
				want++
			}
			rest = rest[r.Length:]
		}
		for _, b := range []uint64{below, below + 1} {
			_, next, err := h.l.Bounds("a", 0, b)
			got, rerr := h.l.ReadQueue(commitlog.QueueRead{Topic: "a", Max: 100, Bytes: 1 << 20, Below: b})
			if err != nil || rerr != nil || next != uint64(want) || len(got) != want {
				t.Errorf("below %d: next %d and %d messages of %d, %v, %v", b, next, len(got), want, err, rerr)
			}
		}
	}
	for n, want := range []int{1: 1, 700: 3, 100_000: 9} {
		if want == 0 {
			continue
		}
		if got, err := h.l.ReadQueue(commitlog.QueueRead{Topic: "a", Max: 100, Bytes: n, Below: math.MaxUint64}); err != nil || len(got) != want {
			t.Errorf("%d bytes: %d messages, %v", n, len(got), err)
		}
	}
}

// TestStaleIndex: the index of what a segment had before a cut is not taken for that of
// what it has now.
func TestStaleIndex(t *testing.T) {
	h, _ := filled(t)
	names, err := h.fs.List()
	if err != nil {
		t.Fatal(err)
	}
	old := map[string][]byte{}
	for _, n := range names {
		if strings.HasSuffix(n, ".index") {
			old[n] = h.fs.Bytes(n)
		}
	}
	if err := h.cut(64); err != nil {
		t.Fatal(err)
	}
	for n := range old {
		if h.fs.Bytes(n) != nil {
			t.Errorf("%s is still there", n)
		}
	}
	// As much again, in the other order.
	if err := h.append(5, message("b", 0, "one")); err != nil {
		t.Fatal(err)
	}
	for h.l.End() < 6000 {
		if err := h.fill(5, 4); err != nil {
			t.Fatal(err)
		}
	}
	for n, b := range old {
		if h.fs.Bytes(n) == nil || len(h.fs.Bytes(n)) != len(b) {
			delete(old, n) // of a segment that begins or ends elsewhere now
		} else {
			h.fs.Put(n, b)
		}
	}
	if len(old) == 0 {
		t.Fatal("no segment is where one was, and the test finds nothing")
	}
	l, r := open(t, h.fs, h.options)
	if r.Damage != nil {
		t.Fatal(r.Damage)
	}
	if err := checkQueues(l, readAll(t, l, 0, 1000), 0); err != nil {
		t.Error(err)
	}
	for n, b := range old {
		if bytes.Equal(h.fs.Bytes(n), b) {
			t.Errorf("%s was not made anew", n)
		}
	}
}

// TestDisk does on a real disk, with all at once, what the others do one by one.
func TestDisk(t *testing.T) {
	path := t.TempDir() + "/log"
	dir, err := commitlog.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := commitlog.OpenDir(path); !errors.Is(err, commitlog.ErrLocked) {
		t.Errorf("a second process has it too: %v", err)
	}
	if free, total, err := dir.Space(); err != nil || free == 0 || total < free {
		t.Errorf("space: %d of %d, %v", free, total, err)
	}
	o := commitlog.Options{SegmentSize: 20_000, Flush: commitlog.FlushAsync, Space: dir.Space, MinFree: 1}
	l, _ := open(t, dir, o)
	stopped, stop := runLog(t, l)
	if b, err := l.Append(1, 1, []commitlog.Entry{start()}); err != nil || b.Wait(t.Context()) != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range uint32(4) {
		wg.Go(func() {
			for n := range 200 {
				b, err := l.Append(1, 1, []commitlog.Entry{message("t", i, fmt.Sprint(n, strings.Repeat("x", 200)))})
				if err == nil {
					err = b.Wait(t.Context())
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
		wg.Go(func() {
			for at := uint64(0); at < 200; {
				low, _, err := l.Bounds("t", i, math.MaxUint64)
				if err != nil {
					t.Error(err)
					return
				}
				at = max(at, low)
				got, err := l.ReadQueue(commitlog.QueueRead{Topic: "t", Queue: i, Offset: at, Max: 10, Bytes: 1 << 20, Below: math.MaxUint64})
				if errors.Is(err, commitlog.ErrTrimmed) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if at += uint64(len(got)); len(got) == 0 {
					if err := l.Wait(t.Context(), l.Durable()-1); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Go(func() {
		for l.End() < 150_000 {
			if _, err := l.Trim(commitlog.Retention{Floor: math.MaxUint64, MaxBytes: 60_000}); err != nil {
				t.Error(err)
			}
			if d, err := l.Verify(ignore); err != nil || d != nil {
				t.Error(d, err)
			}
		}
	})
	wg.Wait()
	stop()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := dir.Close(); err != nil {
		t.Error(err)
	}
	if dir, err = commitlog.OpenDir(path); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	again, r := open(t, dir, o)
	if r.Lost() || !r.Clean || again.End() != l.End() {
		t.Errorf("%+v, end %d of %d", r, again.End(), l.End())
	}
	for i := range uint32(4) {
		low, high, err := again.Bounds("t", i, math.MaxUint64)
		if err != nil || high != 200 || low == 0 {
			t.Errorf("queue %d is [%d, %d), %v", i, low, high, err)
		}
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
