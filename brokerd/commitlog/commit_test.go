package commitlog_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/brokerd/commitlog"
	"holdfast/brokerd/commitlog/faultfs"
	"holdfast/brokerd/record"
)

// TestOneSync: a commit costs one sync, however much is in it; what was appended while it
// ran is in the next.
func TestOneSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := faultfs.New()
		l, _ := open(t, fs, commitlog.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan error)
		go func() { stopped <- l.Run(ctx) }()
		append1 := func(e commitlog.Entry) *commitlog.Batch {
			b, err := l.Append(1, 1, []commitlog.Entry{e})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		if err := append1(start()).Wait(ctx); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(time.Second) // the note of the synced end, which has a sync when nothing goes on
		before := fs.Counts()["sync"]
		// The disk takes its time.
		fs.Set(faultfs.Options{Fail: func(op faultfs.Op) error {
			if op.Kind == "sync" {
				time.Sleep(10 * time.Millisecond)
			}
			return nil
		}})
		began := time.Now()
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				for range 10 {
					if err := append1(message("t", uint32(i), "body")).Wait(ctx); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if n, took := fs.Counts()["sync"]-before, time.Since(began); n > 21 || took > 210*time.Millisecond { // two groups that take turns
			t.Errorf("640 records in %d syncs and %v", n, took)
		}
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		for i := range uint32(64) {
			if n := len(bodies2(t, fs, i)); n != 10 {
				t.Fatalf("queue %d has %d messages", i, n)
			}
		}
	})
}

func bodies2(t *testing.T, fs *faultfs.FS, queue uint32) []string {
	l, _ := open(t, fs.Clone(), commitlog.Options{})
	return bodies(t, l, "t", queue)
}

// TestNothingBeforeTheSync: what is not synced is not acknowledged and cannot be read.
func TestNothingBeforeTheSync(t *testing.T) {
	fs := faultfs.New()
	l, _ := open(t, fs, commitlog.Options{})
	commit(t, l, 1, start())
	end := l.End()
	b, err := l.Append(1, 1, []commitlog.Entry{message("t", 0, "body")})
	if err != nil {
		t.Fatal(err)
	}
	looks := 0
	fs.Set(faultfs.Options{Fail: func(op faultfs.Op) error {
		if op.Kind == "syncdir" {
			return nil
		}
		looks++
		if l.Durable() != end || l.Synced() != end {
			t.Errorf("%v: durable up to %d", op, l.Durable())
		}
		if got, err := l.ReadQueue(commitlog.QueueRead{Topic: "t", Max: 1, Bytes: 1, Below: math.MaxUint64}); len(got) != 0 || err != nil {
			t.Errorf("%v: read %d messages, %v", op, len(got), err)
		}
		select {
		case <-b.Done():
			t.Errorf("%v: acknowledged", op)
		default:
		}
		return nil
	}})
	// The file system's lock is held while it asks, so reads of files would wait: there are none.
	if err := l.Commit(); err != nil || looks != 3 || b.Err() != nil || l.Durable() != l.End() {
		t.Errorf("commit: %v, %v, %d operations", err, b.Err(), looks)
	}
}

// TestSyncFailsOnce: a log whose sync failed takes nothing any more.
func TestSyncFailsOnce(t *testing.T) {
	for _, flush := range []commitlog.Flush{commitlog.FlushSync, commitlog.FlushAsync} {
		fs := faultfs.New()
		l, _ := open(t, fs, commitlog.Options{Flush: flush})
		commit(t, l, 1, start())
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		syncs := 0
		fs.Set(faultfs.Options{Fail: func(op faultfs.Op) error {
			if op.Kind == "sync" {
				if syncs++; syncs == 1 {
					return syscall.EIO
				}
			}
			return nil
		}})
		b, err := l.Append(1, 1, []commitlog.Entry{message("t", 0, "body")})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Sync(); !errors.Is(err, commitlog.ErrFailed) || !errors.Is(err, syscall.EIO) {
			t.Errorf("sync: %v", err)
		}
		<-b.Done()
		if flush == commitlog.FlushSync && !errors.Is(b.Err(), commitlog.ErrFailed) {
			t.Errorf("batch: %v", b.Err())
		}
		<-l.Failed()
		if _, err := l.Append(1, 1, []commitlog.Entry{state("")}); !errors.Is(err, commitlog.ErrFailed) {
			t.Errorf("append: %v", err)
		}
		if err := l.Wait(t.Context(), l.End()); !errors.Is(err, commitlog.ErrFailed) {
			t.Errorf("wait: %v", err)
		}
		if _, err := l.Cut(0); !errors.Is(err, commitlog.ErrFailed) {
			t.Errorf("cut: %v", err)
		}
		if err := l.Run(t.Context()); !errors.Is(err, commitlog.ErrFailed) {
			t.Errorf("run: %v", err)
		}
		if got, err := l.Read(nil, 0, 64); len(got) != 64 || err != nil {
			t.Errorf("read: %d bytes, %v", len(got), err)
		}
		if err := l.Close(); !errors.Is(err, commitlog.ErrFailed) {
			t.Errorf("close: %v", err)
		}
		if syncs != 1 {
			t.Errorf("%d syncs", syncs)
		}
	}
}

// TestAsync: what is written is acknowledged, and durable a little later; after an unclean
// stop the log says that it may have lost some.
func TestAsync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, o := faultfs.New(), commitlog.Options{Flush: commitlog.FlushAsync, FlushInterval: 100 * time.Millisecond}
		l, _ := open(t, fs, o)
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan error)
		go func() { stopped <- l.Run(ctx) }()
		synced := l.Synced()
		b, err := l.Append(1, 1, []commitlog.Entry{start(), message("t", 0, "body")})
		if err != nil || b.Wait(ctx) != nil {
			t.Fatal(err, b.Err())
		}
		if l.Durable() != l.End() || l.Synced() != synced {
			t.Errorf("end %d, durable %d, synced %d", l.End(), l.Durable(), l.Synced())
		}
		if lost, r := open(t, fs.Crash(faultfs.LoseAll, 0), o); lost.End() != 0 || !r.Async || r.Clean || !r.Lost() {
			t.Errorf("after a crash: end %d, %+v", lost.End(), r)
		}
		time.Sleep(101 * time.Millisecond)
		synctest.Wait()
		if l.Synced() != l.End() {
			t.Errorf("end %d, synced %d", l.End(), l.Synced())
		}
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if again, r := open(t, fs.Crash(faultfs.LoseAll, 0), o); again.End() != l.End() || !r.Clean || r.Lost() {
			t.Errorf("after a clean stop: end %d, %+v", again.End(), r)
		}
	})
}

// TestFull: a full disk refuses what does not fit; that is gone, also after a crash. Reads
// go on, and so does the log as soon as there is space.
func TestFull(t *testing.T) {
	for _, o := range []commitlog.Options{{}, {SegmentSize: 3000}, {Flush: commitlog.FlushAsync}} {
		fs := faultfs.New()
		l, _ := open(t, fs, o)
		commit(t, l, 1, start())
		fs.Set(faultfs.Options{Capacity: 4124 + 5000})
		taken := 0
		var refused error
		for refused == nil {
			b, err := l.Append(1, 1, []commitlog.Entry{message("t", 0, "short"), message("t", 0, fmt.Sprint(taken, strings.Repeat("x", 300))), message("t", 0, strings.Repeat("y", 300))})
			if err != nil {
				t.Fatal(err)
			}
			if refused = l.Commit(); refused != b.Err() {
				t.Fatalf("commit says %v, the batch %v", refused, b.Err())
			}
			if refused == nil {
				taken += 3
			}
		}
		if !errors.Is(refused, commitlog.ErrFull) || l.Err() != nil || taken < 4 {
			t.Fatalf("refused after %d messages: %v", taken, refused)
		}
		check := func(l *commitlog.Log) {
			t.Helper()
			if n := len(bodies(t, l, "t", 0)); n != taken || l.End() != uint64(len(readAll(t, l, 0, 1000))) {
				t.Errorf("%d messages of %d, end %d", n, taken, l.End())
			}
		}
		check(l)
		crashed, r := open(t, fs.Crash(faultfs.LoseNothing, 0), o)
		if check(crashed); r.Torn.To > 0 {
			t.Errorf("of what was refused something is left: %+v", r)
		}
		if o.Flush == commitlog.FlushSync {
			for seed := range uint64(64) {
				crashed, _ = open(t, fs.Crash(faultfs.LoseSome, seed), o)
				check(crashed)
			}
		}
		fs.Set(faultfs.Options{})
		commit(t, l, 1, message("t", 0, "fits now"))
		taken++
		check(l)
	}
}

// TestFullRefusesAll: what was appended behind a batch that is refused is refused with it,
// and its offsets are given to others.
func TestFullRefusesAll(t *testing.T) {
	fs := faultfs.New()
	l, _ := open(t, fs, commitlog.Options{})
	commit(t, l, 1, start())
	var second *commitlog.Batch
	fs.Set(faultfs.Options{Fail: func(op faultfs.Op) error {
		if op.Kind == "write" && second == nil {
			var err error
			if second, err = l.Append(1, 1, []commitlog.Entry{message("t", 0, "second")}); err != nil {
				t.Error(err)
			}
			return syscall.ENOSPC
		}
		return nil
	}})
	first, err := l.Append(1, 1, []commitlog.Entry{message("t", 0, "first")})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Commit(); !errors.Is(err, commitlog.ErrFull) {
		t.Fatal(err)
	}
	for _, b := range []*commitlog.Batch{first, second} {
		<-b.Done()
		if !errors.Is(b.Err(), commitlog.ErrFull) {
			t.Errorf("batch: %v", b.Err())
		}
	}
	commit(t, l, 1, message("t", 0, "third"))
	if got := bodies(t, l, "t", 0); fmt.Sprint(got) != "[third]" {
		t.Errorf("queue has %q", got)
	}
}

// TestLowSpace: with little space left messages are refused, and consumers go on.
func TestLowSpace(t *testing.T) {
	free := uint64(99)
	l, _ := open(t, faultfs.New(), commitlog.Options{MinFree: 100, Space: func() (uint64, uint64, error) { return free, 1000, nil }})
	commit(t, l, 1, start(), message("t", 0, "before anybody asked"))
	if err := l.CheckSpace(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(1, 1, []commitlog.Entry{state("s"), message("t", 0, "body")}); !errors.Is(err, commitlog.ErrFull) {
		t.Errorf("append: %v", err)
	}
	commit(t, l, 1, state("s"))
	free = 100
	if err := l.CheckSpace(); err != nil {
		t.Fatal(err)
	}
	commit(t, l, 1, message("t", 0, "body"))
}

// TestAppendRefused: all or nothing, and nothing stays behind of what was refused.
func TestAppendRefused(t *testing.T) {
	l, _ := open(t, faultfs.New(), commitlog.Options{})
	commit(t, l, 5, start(), message("t", 0, "zero"))
	end := l.End()
	for name, tt := range map[string]struct {
		epoch   uint64
		entries []commitlog.Entry
		want    error
	}{
		"older epoch":           {4, []commitlog.Entry{message("t", 0, "x")}, commitlog.ErrEpoch},
		"epoch without a start": {6, []commitlog.Entry{message("t", 0, "x")}, commitlog.ErrEpoch},
		"second start":          {5, []commitlog.Entry{message("t", 0, "x"), start()}, commitlog.ErrEpoch},
		"too large":             {5, []commitlog.Entry{message("t", 0, "x"), message("t", 1, string(make([]byte, record.MaxSize)))}, record.ErrTooLarge},
		"no topic":              {5, []commitlog.Entry{state("s"), message("", 0, "x")}, record.ErrInvalid},
		"no kind":               {5, []commitlog.Entry{message("t", 0, "x"), {}}, record.ErrInvalid},
	} {
		if _, err := l.Append(tt.epoch, 1, tt.entries); !errors.Is(err, tt.want) || l.End() != end {
			t.Errorf("%s: %v, end %d", name, err, l.End())
		}
	}
	e := []commitlog.Entry{message("t", 0, "one"), message("t", 0, "two")}
	b, err := l.Append(5, -7, e)
	if err != nil {
		t.Fatal(err)
	}
	if h := e[1].Header; h.QueueOffset != 2 || h.Offset != e[0].Header.End() || e[0].Header.Offset != end || h.StoreTime != 1 || h.Epoch != 5 {
		t.Errorf("header %+v", h)
	}
	if err := l.Commit(); err != nil || b.Err() != nil {
		t.Fatal(err, b.Err())
	}
	if got := bodies(t, l, "t", 0); fmt.Sprint(got) != "[zero one two]" {
		t.Errorf("queue has %q", got)
	}
}

// TestBusy: what waits for a commit is bounded.
func TestBusy(t *testing.T) {
	l, _ := open(t, faultfs.New(), commitlog.Options{MaxPending: 1})
	for err := error(nil); err == nil; {
		e := message("t", 0, string(make([]byte, 1<<20)))
		if l.End() == 0 {
			e = start()
		}
		if _, err = l.Append(1, 1, []commitlog.Entry{e}); err != nil && !errors.Is(err, commitlog.ErrBusy) || l.End() > record.MaxSize+2<<20 {
			t.Fatalf("end %d: %v", l.End(), err)
		}
	}
	if err := l.Commit(); err != nil {
		t.Fatal(err)
	}
	commit(t, l, 1, state(""))
}

// TestRaw: a follower takes what follows on its log, and nothing else.
func TestRaw(t *testing.T) {
	master, _ := open(t, faultfs.New(), commitlog.Options{})
	commit(t, master, 3, start(), message("t", 0, "zero"), message("t", 0, "one"), state("s"))
	commit(t, master, 4, start(), message("t", 1, "x"))
	all := readAll(t, master, 0, 1<<20)
	var cuts []int
	for at := 0; at < len(all); {
		cuts = append(cuts, at)
		n, _ := record.SizeOf(all[at:])
		at += n
	}
	// other is a record that is valid, but for its place.
	other := func(h record.Header) []byte {
		h.Kind, h.Topic = record.KindMessage, []byte("t")
		b, err := record.Append(nil, &h, &record.Message{})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	at3 := uint64(cuts[3])
	h, err := record.Parse(all[cuts[2]:])
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		from int
		b    []byte
		want error
	}{
		"second record first":    {0, all[cuts[1]:], commitlog.ErrNext},
		"again":                  {3, all[cuts[2]:], commitlog.ErrNext},
		"hole":                   {2, all[cuts[3]:], commitlog.ErrNext},
		"half a record":          {0, all[:cuts[2]-1], record.ErrShort},
		"garbage behind":         {0, append(all[:cuts[2]:cuts[2]], make([]byte, 64)...), record.ErrInvalid},
		"epoch without a start":  {4, all[cuts[5]:], commitlog.ErrNext},
		"other link":             {3, other(record.Header{Offset: at3, Epoch: 3, StoreTime: 1, QueueOffset: 2, Link: 1}), commitlog.ErrNext},
		"other queue offset":     {3, other(record.Header{Offset: at3, Epoch: 3, StoreTime: 1, QueueOffset: 3, Link: h.Checksum}), commitlog.ErrNext},
		"queue offset again":     {3, other(record.Header{Offset: at3, Epoch: 3, StoreTime: 1, QueueOffset: 1, Link: h.Checksum}), commitlog.ErrNext},
		"older epoch":            {3, other(record.Header{Offset: at3, Epoch: 2, StoreTime: 1, QueueOffset: 2, Link: h.Checksum}), commitlog.ErrNext},
		"newer epoch":            {3, other(record.Header{Offset: at3, Epoch: 4, StoreTime: 1, QueueOffset: 2, Link: h.Checksum}), commitlog.ErrNext},
		"earlier than the last":  {3, other(record.Header{Offset: at3, Epoch: 3, StoreTime: 0, QueueOffset: 2, Link: h.Checksum}), commitlog.ErrNext},
		"another message, right": {3, other(record.Header{Offset: at3, Epoch: 3, StoreTime: 9, QueueOffset: 2, Link: h.Checksum}), nil},
	} {
		l, _ := open(t, faultfs.New(), commitlog.Options{})
		if _, err := l.AppendRaw(all[:cuts[tt.from]]); err != nil {
			t.Fatal(err)
		}
		if _, err := l.AppendRaw(tt.b); !errors.Is(err, tt.want) || err != nil && l.End() != uint64(cuts[tt.from]) {
			t.Errorf("%s: %v, end %d", name, err, l.End())
		}
		if tt.want == nil {
			continue
		}
		if _, err := l.AppendRaw(all[cuts[tt.from]:]); err != nil || l.Commit() != nil {
			t.Errorf("%s: what is right is refused then: %v", name, err)
		}
		if got := readAll(t, l, 0, 1000); string(unmarked(got)) != string(unmarked(all)) {
			t.Errorf("%s: the log is another then", name)
		}
	}
}

// TestWait: who waits for the log to grow is woken when that is durable.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := open(t, faultfs.New(), commitlog.Options{})
		commit(t, l, 1, start())
		woken := make(chan error, 1)
		go func() { woken <- l.Wait(t.Context(), 64) }()
		synctest.Wait()
		if _, err := l.Append(1, 1, []commitlog.Entry{state("")}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case err := <-woken:
			t.Fatalf("woken before the commit: %v", err)
		default:
		}
		if err := l.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := <-woken; err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { woken <- l.Wait(ctx, 1<<20) }()
		synctest.Wait()
		cancel()
		if err := <-woken; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		go func() { woken <- l.Wait(t.Context(), 1<<20) }()
		synctest.Wait()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := <-woken; !errors.Is(err, commitlog.ErrClosed) {
			t.Error(err)
		}
	})
}

// runLog runs a log until stop is called.
func runLog(t *testing.T, l *commitlog.Log) (stopped chan error, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	stopped = make(chan error, 1)
	go func() { stopped <- l.Run(ctx) }()
	return stopped, cancel
}
