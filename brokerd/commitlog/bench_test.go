package commitlog_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"holdfast/brokerd/commitlog"
	"holdfast/brokerd/record"
)

// benchDir is a directory on a real disk: HOLDFAST_BENCH_DIR, or one for this test.
func benchDir(b *testing.B) *commitlog.Dir {
	b.Helper()
	path, err := os.MkdirTemp(os.Getenv("HOLDFAST_BENCH_DIR"), "commitlog")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(path) })
	dir, err := commitlog.OpenDir(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = dir.Close() })
	return dir
}

// running opens a log and runs it until the benchmark ends.
func running(b *testing.B, dir *commitlog.Dir, o commitlog.Options) *commitlog.Log {
	b.Helper()
	l, _ := open(b, dir, o)
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- l.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			b.Error(err)
		}
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	})
	return l
}

// BenchmarkAppend appends messages with bodies of 1 KiB, each waited for.
func BenchmarkAppend(b *testing.B) {
	for _, flush := range []commitlog.Flush{commitlog.FlushSync, commitlog.FlushAsync} {
		for _, appenders := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", []string{"sync", "async"}[flush], appenders), func(b *testing.B) {
				l := running(b, benchDir(b), commitlog.Options{Flush: flush})
				if batch, err := l.Append(1, 1, []commitlog.Entry{start()}); err != nil || batch.Wait(context.Background()) != nil {
					b.Fatal(err)
				}
				body := make([]byte, 1024)
				b.ReportAllocs()
				b.ResetTimer()
				var wg sync.WaitGroup
				for i := range appenders {
					n := b.N / appenders
					if i < b.N%appenders {
						n++
					}
					wg.Go(func() { appendMany(b, l, uint32(i), n, body) })
				}
				wg.Wait()
				b.StopTimer()
				b.SetBytes(int64(l.End()) / int64(b.N))
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

func appendMany(b *testing.B, l *commitlog.Log, queue uint32, n int, body []byte) {
	entries := []commitlog.Entry{{
		Header:  record.Header{Kind: record.KindMessage, Topic: []byte("orders"), Queue: queue},
		Message: &record.Message{ID: "01AABBCCDDEEFF00112233445566778899", Body: body},
	}}
	for range n {
		batch, err := l.Append(1, 1, entries)
		if err == nil {
			err = batch.Wait(context.Background())
		}
		if err != nil {
			b.Error(err)
			return
		}
	}
}

// BenchmarkAppendBatches appends 64 messages with each call, many calls at a time: what the
// log itself can do.
func BenchmarkAppendBatches(b *testing.B) {
	l := running(b, benchDir(b), commitlog.Options{Flush: commitlog.FlushAsync})
	if batch, err := l.Append(1, 1, []commitlog.Entry{start()}); err != nil || batch.Wait(context.Background()) != nil {
		b.Fatal(err)
	}
	entries := make([]commitlog.Entry, 64)
	for i := range entries {
		entries[i] = message("orders", uint32(i%4), string(make([]byte, 1024)))
	}
	b.ReportAllocs()
	b.SetBytes(64 * 1100)
	b.ResetTimer()
	var wait []*commitlog.Batch
	for range b.N {
		batch, err := l.Append(1, 1, entries)
		for errors.Is(err, commitlog.ErrBusy) {
			if err = wait[0].Wait(context.Background()); err == nil {
				wait = wait[1:]
				batch, err = l.Append(1, 1, entries)
			}
		}
		if err != nil {
			b.Fatal(err)
		}
		if len(wait) == 0 || wait[len(wait)-1] != batch {
			wait = append(wait, batch)
		}
	}
	for _, batch := range wait {
		if err := batch.Wait(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*64/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkSync is what the disk itself does: a write of 1 KiB at the end of a file, and a
// sync.
func BenchmarkSync(b *testing.B) {
	f, err := benchDir(b).Open("file", true)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 1100)
	for i := range b.N {
		if _, err := f.WriteAt(buf, int64(i*len(buf))); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "syncs/s")
}

// BenchmarkOpen opens a log of HOLDFAST_BENCH_BYTES bytes (256 MiB if not set) in messages
// of 1 KiB, after a clean stop.
func BenchmarkOpen(b *testing.B) {
	size := uint64(256 << 20)
	if s := os.Getenv("HOLDFAST_BENCH_BYTES"); s != "" {
		n, err := strconv.ParseUint(s, 10, 63)
		if err != nil {
			b.Fatal(err)
		}
		size = n
	}
	dir, o := benchDir(b), commitlog.Options{Flush: commitlog.FlushAsync}
	l, _ := open(b, dir, o)
	entries := []commitlog.Entry{start()}
	for l.End() < size {
		if _, err := l.Append(1, time.Now().UnixMilli(), entries); err != nil {
			b.Fatal(err)
		}
		if err := l.Commit(); err != nil {
			b.Fatal(err)
		}
		if len(entries) == 1 {
			entries = make([]commitlog.Entry, 1000)
			for i := range entries {
				entries[i] = message("orders", uint32(i%8), string(make([]byte, 1024)))
			}
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	b.ReportAllocs()
	for range b.N {
		l, r := open(b, dir, o)
		if r.Damage != nil || l.End() < size {
			b.Fatalf("%+v, end %d", r, l.End())
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReadQueue reads 32 messages of a queue at a time.
func BenchmarkReadQueue(b *testing.B) {
	l := running(b, benchDir(b), commitlog.Options{SegmentSize: 16 << 20, Flush: commitlog.FlushAsync})
	entries := []commitlog.Entry{start()}
	for range 64 * 64 {
		entries = append(entries, message("orders", uint32(len(entries)%4), string(make([]byte, 1024))))
	}
	const queues = 4
	epoch := uint64(1)
	for l.End() < 64<<20 {
		batch, err := l.Append(epoch, 1, entries)
		if err != nil || batch.Wait(context.Background()) != nil {
			b.Fatal(err)
		}
		entries = entries[:0:0]
		for i := range 4096 {
			entries = append(entries, message("orders", uint32(i%queues), string(make([]byte, 1024))))
		}
	}
	_, next, err := l.Bounds("orders", 0, 1<<62)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(32 * 1100)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		got, err := l.ReadQueue(commitlog.QueueRead{Topic: "orders", Offset: uint64(i*32) % (next - 32), Max: 32, Bytes: 1 << 20, Below: 1 << 62})
		if err != nil || len(got) != 32 {
			b.Fatal(len(got), err)
		}
	}
}
