package commitlog_test

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"holdfast/brokerd/commitlog"
	"holdfast/brokerd/commitlog/faultfs"
	"holdfast/brokerd/record"
)

func open(t testing.TB, fs commitlog.FS, o commitlog.Options) (*commitlog.Log, commitlog.Recovery) {
	t.Helper()
	l, r, err := commitlog.Open(fs, o)
	if err != nil {
		t.Fatal(err)
	}
	return l, r
}

// start is the entry that begins an epoch.
func start() commitlog.Entry {
	return commitlog.Entry{Header: record.Header{Kind: record.KindStart}}
}

func state(body string) commitlog.Entry {
	return commitlog.Entry{Header: record.Header{Kind: record.KindState}, State: []byte(body)}
}

func message(topic string, queue uint32, body string) commitlog.Entry {
	return commitlog.Entry{
		Header:  record.Header{Kind: record.KindMessage, Topic: []byte(topic), Queue: queue},
		Message: &record.Message{Body: []byte(body)},
	}
}

// commit appends and commits.
func commit(t testing.TB, l *commitlog.Log, epoch uint64, entries ...commitlog.Entry) {
	t.Helper()
	b, err := l.Append(epoch, 1, entries)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Commit(); err != nil {
		t.Fatal(err)
	}
	<-b.Done()
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
}

// readAll reads all records from an offset on.
func readAll(t testing.TB, l *commitlog.Log, from uint64, chunk int) []byte {
	t.Helper()
	var all []byte
	for {
		b, err := l.Read(nil, from, chunk)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) == 0 {
			return all
		}
		first, err := record.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		for rest := b; len(rest) > 0; {
			h, err := record.Parse(rest)
			if err != nil || h.Epoch != first.Epoch {
				t.Fatalf("read %+v, %v in one piece with epoch %d", h, err, first.Epoch)
			}
			rest = rest[h.Length:]
		}
		all = append(all, b...)
		from += uint64(len(b))
	}
}

// bodies reads a queue from its begin.
func bodies(t testing.TB, l *commitlog.Log, topic string, queue uint32) []string {
	t.Helper()
	first, next, err := l.Bounds(topic, queue, math.MaxUint64)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for first < next {
		got, err := l.ReadQueue(commitlog.QueueRead{Topic: topic, Queue: queue, Offset: first, Max: 3, Bytes: 1 << 20, Below: math.MaxUint64})
		if err != nil || len(got) == 0 {
			t.Fatalf("%d messages at %d of %d: %v", len(got), first, next, err)
		}
		for _, b := range got {
			h, m, err := record.Decode(b)
			if err != nil || h.QueueOffset != first || string(h.Topic) != topic || h.Queue != queue {
				t.Fatalf("%+v, %v at %d", h, err, first)
			}
			out = append(out, string(m.Body))
			first++
		}
	}
	return out
}

// TestReadBack: what was appended is read back, as a stream and by queue, also after a
// start; a follower that is sent the stream has the same.
func TestReadBack(t *testing.T) {
	for _, flush := range []commitlog.Flush{commitlog.FlushSync, commitlog.FlushAsync} {
		fs, o := faultfs.New(), commitlog.Options{Flush: flush, SegmentSize: 2000}
		l, r := open(t, fs, o)
		if !r.New || !r.Lost() || l.End() != 0 {
			t.Fatalf("new log: %+v, end %d", r, l.End())
		}
		want := map[uint32][]string{}
		commit(t, l, 7, start())
		for i := range 50 {
			body := fmt.Sprint("body", i)
			commit(t, l, 7, message("t", uint32(i%3), body), state("s"))
			want[uint32(i%3)] = append(want[uint32(i%3)], body)
		}
		commit(t, l, 9, start(), message("t", 0, "last"))
		want[0] = append(want[0], "last")
		all := readAll(t, l, 0, 300)
		check := func(l *commitlog.Log) {
			t.Helper()
			for _, chunk := range []int{1, 100, 1000, 1 << 20} {
				if got := readAll(t, l, 0, chunk); !bytes.Equal(got, all) || uint64(len(all)) != l.End() {
					t.Errorf("read %d bytes of %d by %d", len(got), len(all), chunk)
				}
			}
			for q, w := range want {
				if got := bodies(t, l, "t", q); fmt.Sprint(got) != fmt.Sprint(w) {
					t.Errorf("queue %d: %q, want %q", q, got, w)
				}
			}
			if h := l.History(); len(h) != 2 || h[0] != (commitlog.Start{Epoch: 7}) || h[1].Epoch != 9 {
				t.Errorf("history %v", h)
			}
		}
		check(l)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l, r = open(t, fs, o)
		if r.New || !r.Clean || r.Lost() || r.Rewrote > 0 || r.Torn.To > 0 {
			t.Errorf("after a clean stop: %+v", r)
		}
		check(l)

		follower, _ := open(t, faultfs.New(), commitlog.Options{SegmentSize: 3000})
		for follower.End() < l.End() {
			b, err := l.Read(nil, follower.End(), 700)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := follower.AppendRaw(b); err != nil {
				t.Fatal(err)
			}
			if err := follower.Commit(); err != nil {
				t.Fatal(err)
			}
		}
		for q, w := range want {
			if got := bodies(t, follower, "t", q); fmt.Sprint(got) != fmt.Sprint(w) {
				t.Errorf("follower's queue %d: %q, want %q", q, got, w)
			}
		}
	}
}
