package commitlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/brokerd/record"
)

// Flush says what has to have happened to a record before it is acknowledged or read.
type Flush uint8

// The ways.
const (
	FlushSync  Flush = iota // it is durable
	FlushAsync              // it is written; it becomes durable a little later
)

// Options are those of a log. The zero value of each means its default.
type Options struct {
	Flush Flush
	// FlushInterval is how long a written record may stay without a sync with
	// FlushAsync, 500 ms by default.
	FlushInterval time.Duration
	// SegmentSize is when a new segment file is begun, in bytes: 256 MiB by default, at
	// most 1 GiB.
	SegmentSize int64
	// MaxPending is how many bytes may wait for a commit, 64 MiB by default.
	MaxPending int
	// Space tells how many bytes are free, [Dir.Space] for instance; nil if nobody knows.
	Space func() (free, total uint64, err error)
	// MinFree is how many bytes must be free for messages to be taken.
	MinFree uint64
}

func (o Options) withDefaults() Options {
	set := func(v *int64, standard, least, most int64) {
		if *v == 0 {
			*v = standard
		}
		*v = min(max(*v, least), most)
	}
	pending := int64(o.MaxPending)
	set(&pending, 64<<20, record.MaxSize, 1<<30)
	set(&o.SegmentSize, 256<<20, 1, 1<<30)
	set((*int64)(&o.FlushInterval), int64(500*time.Millisecond), int64(time.Millisecond), int64(time.Hour))
	o.MaxPending = int(pending)
	return o
}

// Why a log does not do what it is asked.
var (
	ErrClosed   = errors.New("log is closed")
	ErrBusy     = errors.New("too much waits for a commit")
	ErrEpoch    = errors.New("epoch is not the log's")
	ErrCut      = errors.New("cut off before it was committed")
	ErrTrimmed  = errors.New("deleted by retention")
	ErrBeyond   = errors.New("behind the end of the log")
	ErrBoundary = errors.New("not where a record begins")
	ErrDamaged  = errors.New("log is damaged")
	ErrFailed   = errors.New("log has failed and takes nothing any more")
)

// Damage is where a log cannot be read.
type Damage struct {
	File   string
	At     int64  // place in the file
	Offset uint64 // all records before it can be read
	Err    error
}

func (d *Damage) Error() string {
	return fmt.Sprintf("%s is damaged at byte %d, offset %d of the log: %v", d.File, d.At, d.Offset, d.Err)
}

// Is makes it an [ErrDamaged].
func (d *Damage) Is(target error) bool { return target == ErrDamaged }

// Unwrap returns what was found.
func (d *Damage) Unwrap() error { return d.Err }

// Log is an open log. Its methods may be called concurrently.
type Log struct {
	fs   FS
	opts Options

	// Locks are taken in this order. Who holds none of the first two changes no file.
	disk    sync.Mutex // commit, cut, trim, install
	syncing sync.Mutex // sync of the last segment, which may run beside a commit
	mu      sync.RWMutex
	slots   slots

	wake    chan struct{} // something waits for a commit
	stopped chan struct{} // closed as soon as err is set

	// All below is under mu.
	head     cursor  // behind what was appended
	pending  *Batch  // appended, and not taken by a commit yet
	spare    []space // for the next batches
	done     cursor  // behind what is written
	synced   uint64  // end of what is durable
	history  []Start
	queues   map[queueKey]*queue
	segments []*segment // oldest first; empty only if nothing can be read
	beyond   []uint64   // base offsets of segments behind damage
	damage   *Damage    // first place that is known not to be readable
	crippled bool       // the end of the log is behind damage: nothing can be appended
	low      bool       // less is free than messages need
	progress chan struct{}
	err      error // why the log takes nothing any more
}

// queue is one queue's index.
type queue struct {
	queueKey
	head  uint64 // queue offset of the next message that is appended
	next  uint64 // of the next one that is written
	spans []span // by segment, oldest first
}

// space is what a batch leaves for another.
type space struct {
	buf     []byte
	records []pendingRecord
}

// span is what one segment has of a queue.
type span struct {
	seg   *segment
	first uint64 // queue offset
	count uint32
	at    int64   // place in the index file
	sum   uint32  // CRC-32C of the places there
	read  bool    // they were read once and had it
	mem   []place // in the file's stead, as long as there is none
}

// first returns the queue offset of the oldest message that is there.
func (q *queue) first() uint64 {
	if len(q.spans) > 0 {
		return q.spans[0].first
	}
	return q.next
}

// queue returns the index of a queue, which it makes if need be. mu is held.
func (l *Log) queue(topic []byte, number uint32) *queue {
	if q, ok := l.queues[queueKey{string(topic), number}]; ok {
		return q
	}
	q := &queue{queueKey: queueKey{string(topic), number}}
	l.queues[q.queueKey] = q
	return q
}

// active returns the segment that grows. mu is held.
func (l *Log) active() *segment { return l.segments[len(l.segments)-1] }

// readable returns the end of what may be read. mu is held.
func (l *Log) readable() uint64 {
	if l.opts.Flush == FlushAsync {
		return l.done.end
	}
	return min(l.synced, l.done.end)
}

// preface returns the one of a segment that begins behind what is written. mu is held.
func (l *Log) preface() *Preface {
	t := tracker{cursor: l.done, history: l.history, next: make(map[queueKey]uint64, len(l.queues))}
	for k, q := range l.queues {
		t.next[k] = q.next
	}
	return t.preface()
}

// End returns the offset that the next record gets.
func (l *Log) End() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.head.end
}

// Durable returns the end of what counts as durable under the flush mode: what is
// acknowledged, and can be read.
func (l *Log) Durable() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.readable()
}

// Synced returns the end of what survives a power loss.
func (l *Log) Synced() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.synced
}

// First returns the offset of the oldest record that is there.
func (l *Log) First() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.segments) == 0 {
		return l.done.end
	}
	return l.segments[0].base
}

// History returns the epochs of what is written, oldest first, also those of which
// no record is left.
func (l *Log) History() []Start {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Clone(l.history)
}

// Damage returns the first place that is known not to be readable, nil if there is none.
func (l *Log) Damage() *Damage {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.damage
}

// Err returns why the log takes nothing any more, nil if it does.
func (l *Log) Err() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.err
}

// Failed is closed when the log takes nothing any more.
func (l *Log) Failed() <-chan struct{} { return l.stopped }

// Wait waits until [Log.Durable] is past an offset.
func (l *Log) Wait(ctx context.Context, offset uint64) error {
	for {
		l.mu.Lock()
		end, err := l.readable(), l.err
		if l.progress == nil {
			l.progress = make(chan struct{})
		}
		progress := l.progress
		l.mu.Unlock()
		switch {
		case end > offset:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tell wakes all who wait for progress. mu is held.
func (l *Log) tell() {
	if l.progress != nil {
		close(l.progress)
		l.progress = nil
	}
}

// fail stops the log for good: what is on the disk is not known any more. It returns
// the reason.
func (l *Log) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stop(fmt.Errorf("%w: %w", ErrFailed, err))
}

// stop makes the log refuse everything but reads. mu is held.
func (l *Log) stop(err error) error {
	if l.err == nil {
		l.err = err
		close(l.stopped)
		l.drop(err)
		l.tell()
	}
	return l.err
}

// drop takes back what was appended and is not written, and refuses it. mu is held.
func (l *Log) drop(err error) {
	if l.pending != nil {
		l.pending.end(err)
		l.pending = nil
	}
	l.head = l.done
	for _, q := range l.queues {
		q.head = q.next
	}
}
