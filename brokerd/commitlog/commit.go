package commitlog

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/brokerd/record"
)

const (
	// keepBuffer is how large a buffer may be to be used again.
	keepBuffer = 8 << 20
	// noteDelay is after how long without a commit the synced end gets a sync of its own.
	noteDelay = 20 * time.Millisecond
	// spaceInterval is how often the free space is asked for.
	spaceInterval = time.Second
)

// Run commits what is appended, and with FlushAsync syncs it, until the context ends or
// the log fails. What was appended before the context ended is committed. It must not
// run twice at a time.
func (l *Log) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.runCommits(ctx) })
	g.Go(func() error { return l.runSyncs(ctx) })
	return g.Wait()
}

func (l *Log) runCommits(ctx context.Context) error {
	idle := time.NewTimer(noteDelay)
	defer idle.Stop()
	for {
		select {
		case <-l.wake:
			runtime.Gosched() // whom the last commit has let go may append before this one
			if err := l.Commit(); err != nil && l.Err() != nil {
				return err
			}
			idle.Reset(noteDelay)
		case <-idle.C:
			// Under load the marks of later records say what was durable.
			if err := l.slots.sync(); err != nil {
				return l.fail(err)
			}
		case <-l.stopped:
			return l.Err()
		case <-ctx.Done():
			if err := l.Commit(); err != nil && l.Err() != nil {
				return err
			}
			return nil
		}
	}
}

func (l *Log) runSyncs(ctx context.Context) error {
	flush, space := time.NewTicker(l.opts.FlushInterval), time.NewTicker(spaceInterval)
	defer flush.Stop()
	defer space.Stop()
	for {
		select {
		case <-flush.C:
			if l.opts.Flush == FlushAsync {
				if err := l.flush(); err != nil {
					return err
				}
			}
		case <-space.C:
			if err := l.CheckSpace(); err != nil {
				return err
			}
		case <-l.stopped:
			return l.Err()
		case <-ctx.Done():
			return nil
		}
	}
}

// CheckSpace asks how much is free, and has messages refused with [ErrFull] if it is less
// than MinFree. Run calls it every second.
func (l *Log) CheckSpace() error {
	if l.opts.Space == nil {
		return nil
	}
	free, _, err := l.opts.Space()
	if err != nil {
		return fmt.Errorf("check space: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.low = free < l.opts.MinFree
	return nil
}

// Low tells whether messages are refused with [ErrFull] for want of space.
func (l *Log) Low() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.low
}

// Commit writes what was appended, and with FlushSync syncs it. On a full disk it takes
// all that was appended back, refuses it and returns [ErrFull]; the log goes on. Any other
// error stops the log for good.
func (l *Log) Commit() error {
	l.disk.Lock()
	defer l.disk.Unlock()
	l.mu.Lock()
	if l.err != nil {
		defer l.mu.Unlock()
		return l.err
	}
	b := l.pending
	l.pending = nil
	l.mu.Unlock()
	if b == nil {
		return nil
	}
	err := l.write(b)
	switch {
	case err == nil:
		l.publish(b)
		return nil
	case full(err) && !errors.As(err, new(syncError)):
		err = fmt.Errorf("commit %d bytes: %w: %w", len(b.buf), ErrFull, err)
		l.mu.Lock()
		defer l.mu.Unlock()
		b.end(err)
		l.drop(err)
		return err
	}
	err = l.fail(fmt.Errorf("commit: %w", err))
	b.end(err)
	return err
}

// write brings a batch to the disk. disk is held.
func (l *Log) write(b *Batch) error {
	if len(b.records) == 0 {
		return nil
	}
	seg, from, synced := l.written()
	if at := seg.at(from); from > seg.base && at+int64(len(b.buf)) > l.opts.SegmentSize {
		if err := l.roll(); err != nil {
			return err
		}
		seg, from, synced = l.written()
	}
	setMarks(b, from-synced)
	if _, err := seg.file.WriteAt(b.buf, seg.at(from)); err != nil {
		return l.unwrite(seg, from, fmt.Errorf("write %s: %w", seg.name, err))
	}
	if l.opts.Flush == FlushSync {
		if err := seg.file.Sync(); err != nil {
			return fmt.Errorf("sync %s: %w", seg.name, fatal(err))
		}
		return l.slots.note(b.last.end)
	}
	return nil
}

// written returns where the next write goes, and up to where all is durable.
func (l *Log) written() (seg *segment, end, synced uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.active(), l.done.end, l.synced
}

// setMarks notes in each record how much before it is not durable yet.
func setMarks(b *Batch, unsynced uint64) {
	at := uint64(0)
	for _, r := range b.records {
		record.SetMark(b.buf[at:], uint32(min(unsynced+at, record.Unmarked)))
		at += uint64(r.size)
	}
}

// unwrite takes back a write that failed for want of space. That it is gone is durable
// before anybody is told that it was refused.
func (l *Log) unwrite(seg *segment, from uint64, err error) error {
	if !full(err) {
		return err
	}
	if err := seg.file.Truncate(seg.at(from)); err != nil {
		return fmt.Errorf("truncate %s: %w", seg.name, fatal(err))
	}
	if err := seg.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", seg.name, fatal(err))
	}
	return err
}

// publish makes a written batch readable, and acknowledges it. disk is held.
func (l *Log) publish(b *Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seg, at := l.active(), l.done.end
	for _, r := range b.records {
		if r.queue != nil {
			r.queue.extend(seg, place{uint32(at - seg.base), r.size})
		}
		at += uint64(r.size)
	}
	l.history = append(l.history, b.epochs...)
	l.done = b.last
	if cap(b.buf) <= keepBuffer && len(l.spare) < 2 { // one is written while one fills
		l.spare = append(l.spare, space{b.buf[:0], b.records[:0]})
	}
	b.buf, b.records, b.epochs = nil, nil, nil
	if l.opts.Flush == FlushSync {
		l.synced = l.done.end
	}
	b.end(nil)
	l.tell()
}

// extend adds a message to a queue.
func (q *queue) extend(seg *segment, p place) {
	if n := len(q.spans); n == 0 || q.spans[n-1].seg != seg {
		q.spans = append(q.spans, span{seg: seg, first: q.next})
	}
	s := &q.spans[len(q.spans)-1]
	s.mem = append(s.mem, p)
	s.count++
	q.next++
}

// Sync commits what was appended and makes all durable, whatever the flush mode.
func (l *Log) Sync() error {
	if err := l.Commit(); err != nil {
		return err
	}
	return l.flush()
}

// flush makes durable what is written. It may run beside a commit.
func (l *Log) flush() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.RLock()
	to, err := l.done.end, l.err
	if err != nil || l.synced >= to || l.crippled {
		l.mu.RUnlock()
		return err
	}
	seg := l.active().hold()
	l.mu.RUnlock()
	defer seg.release()
	if err := seg.file.Sync(); err != nil {
		return l.fail(fmt.Errorf("sync %s: %w", seg.name, fatal(err)))
	}
	l.mu.Lock()
	l.synced = max(l.synced, to)
	l.tell()
	l.mu.Unlock()
	if err := l.slots.note(to); err != nil {
		return l.fail(err)
	}
	return nil
}

// Close commits and syncs what was appended, notes that nothing is behind it, and closes
// the files. Run must have returned.
func (l *Log) Close() error {
	err := l.Sync()
	l.disk.Lock()
	defer l.disk.Unlock()
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.err, ErrClosed) {
		return nil
	}
	if err == nil && !l.crippled {
		err = l.setSynced(l.segments[0].base, l.synced, true)
	}
	_ = l.stop(ErrClosed)
	for _, s := range l.segments {
		s.release()
	}
	if l.slots.file != nil {
		_ = l.slots.file.Close() // what it says is synced
	}
	if err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}
