package commitlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"syscall"
	"testing"

	"holdfast/brokerd/commitlog"
	"holdfast/brokerd/commitlog/faultfs"
	"holdfast/brokerd/record"
)

// history is what a workload has done to a log, as somebody knows who was told.
type history struct {
	fs      *faultfs.FS
	options commitlog.Options
	l       *commitlog.Log

	acked    []byte // what was acknowledged, from offset 0, without marks
	appended []byte // acked, and what may be there as well
	least    uint64 // the log may end here or later, at least at acked if it is not cut
	trimmed  uint64 // the log may begin here or earlier
	state    commitlog.State
	stored   commitlog.State // may be there in the place of state
}

// unmarked sets all marks to nothing: they are a replica's own.
func unmarked(b []byte) []byte {
	b = bytes.Clone(b)
	for rest := b; len(rest) > 0; {
		n, ok := record.SizeOf(rest)
		if !ok || n > len(rest) {
			break
		}
		clear(rest[:8])
		rest = rest[n:]
	}
	return b
}

// stream reads the log from an offset on.
func stream(l *commitlog.Log, from uint64) ([]byte, error) {
	var all []byte
	for {
		b, err := l.Read(nil, from+uint64(len(all)), 500)
		if err != nil || len(b) == 0 {
			return all, err
		}
		all = append(all, b...)
	}
}

func (h *history) open() (err error) {
	h.l, _, err = commitlog.Open(h.fs, h.options)
	return err
}

func (h *history) append(epoch uint64, entries ...commitlog.Entry) error {
	b, err := h.l.Append(epoch, 5, entries)
	if err != nil {
		return err
	}
	// What a record's bytes will be is known from its header.
	for _, e := range entries {
		var raw []byte
		if e.Header.Kind == record.KindState {
			raw, err = record.AppendState(nil, &e.Header, e.State)
		} else {
			raw, err = record.Append(nil, &e.Header, e.Message)
		}
		if err != nil {
			return err
		}
		h.appended = append(h.appended, unmarked(raw)...)
	}
	err = h.l.Commit()
	select {
	case <-b.Done():
	default:
		return fmt.Errorf("batch without an end: %w", err)
	}
	switch {
	case err != b.Err():
		return fmt.Errorf("commit says %v, the batch %w", err, b.Err())
	case errors.Is(err, commitlog.ErrFull):
		h.appended = bytes.Clone(h.acked)
		return nil
	case err != nil:
		return err
	}
	h.acked = bytes.Clone(h.appended)
	h.settle()
	return nil
}

// settle notes what has to be there from now on.
func (h *history) settle() {
	h.least = uint64(len(h.acked))
	if h.options.Flush == commitlog.FlushAsync {
		h.least = h.l.Synced()
	}
}

func (h *history) sync() error {
	err := h.l.Sync()
	if err == nil {
		h.settle()
	}
	return err
}

func (h *history) cut(offset uint64) error {
	h.least = min(offset, h.l.Synced())
	if _, err := h.l.Cut(offset); err != nil {
		return err
	}
	h.acked = bytes.Clone(h.acked[:offset])
	h.appended = bytes.Clone(h.acked)
	h.settle()
	return nil
}

func (h *history) trim() error {
	h.trimmed = math.MaxUint64
	first, err := h.l.Trim(commitlog.Retention{Floor: math.MaxUint64, MaxBytes: 1500})
	if err == nil {
		h.trimmed = first
	}
	return err
}

func (h *history) store(s commitlog.State) error {
	h.stored = s
	err := commitlog.WriteState(h.fs, s)
	if err == nil {
		h.state = s
	}
	return err
}

// work is a workload that does all there is to be done. It ends at the first error.
func (h *history) work() error {
	steps := []func() error{
		h.open,
		func() error { return h.append(5, start()) },
		func() error { return h.store(commitlog.State{Epoch: 5}) },
		func() error { return h.append(5, message("a", 0, "one"), message("b", 1, "two"), state("x")) },
		func() error { return h.fill(5, 6) },
		func() error { return h.cut(h.boundary(0.4)) },
		func() error { return h.append(6, start(), message("c", 0, "new")) },
		func() error { return h.cut(h.boundary(0.99)) },
		func() error { return h.fill(h.epoch(), 6) },
		h.trim,
		func() error {
			return h.store(commitlog.State{Epoch: 9, Incarnation: 3, Owes: true, Extra: []byte("e")})
		},
		h.sync,
		func() error { return h.fill(h.epoch(), 2) },
		func() error { return h.l.Close() },
		h.open,
		func() error { return h.fill(h.epoch(), 2) },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

func (h *history) epoch() uint64 {
	e := h.l.History()
	return e[len(e)-1].Epoch
}

// fill appends batches that are longer than a sector.
func (h *history) fill(epoch uint64, n int) error {
	for i := range n {
		body := bytes.Repeat([]byte{byte('a' + i)}, 100+i*97)
		if err := h.append(epoch, message("a", 0, string(body)), message("b", uint32(i%2), string(body[:50])), state(string(body[:20]))); err != nil {
			return err
		}
	}
	return nil
}

// boundary returns a record's offset at about that part of the log.
func (h *history) boundary(part float64) uint64 {
	at := 0
	for {
		n, ok := record.SizeOf(h.acked[at:])
		if !ok || float64(at+n) > part*float64(len(h.acked)) {
			return uint64(at)
		}
		at += n
	}
}

// check says whether a log, as it was recovered, can be what the history leaves.
func (h *history) check(l *commitlog.Log, r commitlog.Recovery) error {
	if r.Damage != nil {
		return r.Damage
	}
	first, end := l.First(), l.End()
	if first > h.trimmed || end < h.least || end > uint64(len(h.appended)) && end > uint64(len(h.acked)) {
		return fmt.Errorf("log of [%d, %d), trimmed up to %d, acknowledged %d to %d", first, end, h.trimmed, h.least, len(h.appended))
	}
	got, err := stream(l, first)
	if err != nil {
		return err
	}
	got = unmarked(got)
	longest := h.appended
	if len(h.acked) > len(longest) {
		longest = h.acked
	}
	if want := longest[first:]; !bytes.HasPrefix(want, got) || uint64(len(got)) != end-first {
		return fmt.Errorf("log of [%d, %d) is not what was appended: %d bytes", first, end, len(got))
	}
	if d, err := l.Verify(ignore); err != nil || d != nil {
		return fmt.Errorf("verify: %v, %w", d, err)
	}
	return checkQueues(l, longest[:end], first)
}

func ignore(done, total uint64) bool { return true }

// checkQueues says whether the queues are what follows from the records.
func checkQueues(l *commitlog.Log, records []byte, first uint64) error {
	type key struct {
		topic string
		queue uint32
	}
	queues := map[key][]record.Header{}
	for rest := records; len(rest) > 0; {
		n, _ := record.SizeOf(rest)
		h, err := record.Parse(rest)
		if err != nil {
			return err
		}
		if h.Kind == record.KindMessage {
			k := key{string(h.Topic), h.Queue}
			queues[k] = append(queues[k], h)
		}
		rest = rest[n:]
	}
	for k, all := range queues {
		i := slices.IndexFunc(all, func(h record.Header) bool { return h.Offset >= first })
		if i < 0 {
			i = len(all)
		}
		low, high, err := l.Bounds(k.topic, k.queue, math.MaxUint64)
		if err != nil || low != uint64(i) || high != uint64(len(all)) {
			return fmt.Errorf("queue %v is [%d, %d), %w, want [%d, %d)", k, low, high, err, i, len(all))
		}
		got, err := l.ReadQueue(commitlog.QueueRead{Topic: k.topic, Queue: k.queue, Offset: low, Max: 1000, Bytes: 1 << 30, Below: math.MaxUint64})
		if err != nil || len(got) != len(all)-i {
			return fmt.Errorf("queue %v: %d messages of %d, %w", k, len(got), len(all)-i, err)
		}
		for j, b := range got {
			if h, err := record.Parse(b); err != nil || h.Offset != all[i+j].Offset || h.QueueOffset != uint64(i+j) || h.Checksum != all[i+j].Checksum {
				return fmt.Errorf("queue %v: %+v, %w at %d", k, h, err, i+j)
			}
		}
	}
	return nil
}

// goOn says whether a recovered log can be used.
func goOn(l *commitlog.Log) error {
	epoch := uint64(1)
	if e := l.History(); len(e) > 0 {
		epoch = e[len(e)-1].Epoch + 1
	}
	from := l.End()
	for _, entries := range [][]commitlog.Entry{{start(), message("a", 0, "on")}, {message("b", 1, string(make([]byte, 900)))}, {message("a", 0, "and on")}} {
		b, err := l.Append(epoch, 5, entries)
		if err != nil {
			return err
		}
		if err := l.Commit(); err != nil {
			return err
		}
		if err := b.Err(); err != nil {
			return err
		}
	}
	if got, err := stream(l, from); err != nil || uint64(len(got)) != l.End()-from {
		return fmt.Errorf("%d bytes of [%d, %d): %w", len(got), from, l.End(), err)
	}
	return nil
}

func (h *history) checkState(fs *faultfs.FS) error {
	s, found, err := commitlog.ReadState(fs)
	if err != nil {
		return err
	}
	if fmt.Sprint(s) != fmt.Sprint(h.state) && fmt.Sprint(s) != fmt.Sprint(h.stored) || !found && h.state.Epoch > 0 {
		return fmt.Errorf("state %+v, %v, stored %+v or %+v", s, found, h.state, h.stored)
	}
	return nil
}

var losses = []struct {
	name  string
	lose  faultfs.Loss
	times int
}{
	{"none but the process", nil, 1}, {"all", faultfs.LoseAll, 1}, {"nothing", faultfs.LoseNothing, 1}, {"last", faultfs.LoseLast, 1}, {"but last", faultfs.KeepLast, 1}, {"some", faultfs.LoseSome, 4},
}

func optionsToTest() []commitlog.Options {
	return []commitlog.Options{
		{SegmentSize: 1100},
		{SegmentSize: 100_000},
		{SegmentSize: 1100, Flush: commitlog.FlushAsync},
	}
}

// TestCrash crashes in every operation of a workload, and in every operation of the
// recovery from that, and loses what was not synced in several ways.
func TestCrash(t *testing.T) {
	for _, o := range optionsToTest() {
		whole := &history{fs: faultfs.New(), options: o, least: 0}
		if err := whole.work(); err != nil {
			t.Fatal(err)
		}
		n := whole.fs.Ops()
		t.Logf("%d operations", n)
		for at := 1; at <= n; at++ {
			h := &history{fs: faultfs.New(), options: o}
			h.fs.Set(faultfs.Options{CrashAt: at})
			if err := h.work(); err == nil || !h.fs.Crashed() {
				t.Fatalf("no crash at %d: %v", at, err)
			}
			for _, loss := range losses {
				for seed := range loss.times {
					if err := h.recover(crash(h.fs, loss.lose, uint64(seed+at*100)), loss.lose); err != nil {
						t.Fatalf("%+v, crash at %d, lost %s (%d): %v", o, at, loss.name, seed, err)
					}
				}
			}
		}
	}
}

// crash returns what is there after a loss; if that is nil the host goes on, and what it
// knows to be not synced stays so.
func crash(fs *faultfs.FS, lose faultfs.Loss, seed uint64) *faultfs.FS {
	if lose == nil {
		return fs.Clone()
	}
	return fs.Crash(lose, seed)
}

// recover recovers, crashing in every operation of that, and then without a crash.
func (h *history) recover(fs *faultfs.FS, lose faultfs.Loss) error {
	for at := 1; ; at++ {
		again := fs.Clone()
		again.Set(faultfs.Options{CrashAt: at, ShortReads: at%2 == 0})
		if _, _, err := commitlog.Open(again, h.options); err == nil {
			break
		} else if !errors.Is(err, faultfs.ErrCrashed) {
			return err
		}
		if err := h.recoverOnce(crash(again, lose, uint64(at))); err != nil {
			return fmt.Errorf("crash at %d of the recovery: %w", at, err)
		}
	}
	return h.recoverOnce(fs)
}

func (h *history) recoverOnce(fs *faultfs.FS) error {
	l, r, err := commitlog.Open(fs, h.options)
	if err != nil {
		return err
	}
	if err := h.check(l, r); err != nil {
		return err
	}
	if err := h.checkState(fs); err != nil {
		return err
	}
	if err := goOn(l); err != nil {
		return fmt.Errorf("go on: %w", err)
	}
	if err := l.Sync(); err != nil {
		return err
	}
	// All that was acknowledged since is durable, and a state that was read once.
	end := l.End()
	state, _, _ := commitlog.ReadState(fs)
	fs = fs.Crash(faultfs.LoseAll, 0)
	if l, r, err = commitlog.Open(fs, h.options); err != nil || r.Damage != nil || l.End() != end {
		return fmt.Errorf("after another crash: %+v, end %d of %d, %w", r, l.End(), end, err)
	}
	if again, _, err := commitlog.ReadState(fs); err != nil || fmt.Sprint(again) != fmt.Sprint(state) {
		return fmt.Errorf("after another crash: state %+v, %w, was %+v", again, err, state)
	}
	return nil
}

// TestErrors has every operation fail once, in several ways. The process ends then, the
// host may, and what was acknowledged is there.
func TestErrors(t *testing.T) {
	for _, o := range optionsToTest() {
		whole := &history{fs: faultfs.New(), options: o}
		if err := whole.work(); err != nil {
			t.Fatal(err)
		}
		for at := 1; at <= whole.fs.Ops(); at++ {
			for _, fault := range []error{syscall.EIO, syscall.ENOSPC} {
				h := &history{fs: faultfs.New(), options: o}
				var failed faultfs.Op
				h.fs.Set(faultfs.Options{Fail: func(op faultfs.Op) error {
					if op.N == at {
						failed = op
						return fault
					}
					return nil
				}})
				_ = h.work() // it may well fail
				h.fs.Set(faultfs.Options{})
				if failed.Kind == "sync" && h.l != nil && h.l.Err() == nil && failed.Name != "replica.tmp" {
					t.Errorf("failed %v: the log goes on", failed)
				}
				if err := h.recoverOnce(h.fs); err != nil {
					t.Fatalf("segments of %d, failed %v with %v: %v", o.SegmentSize, failed, fault, err)
				}
			}
		}
	}
}
