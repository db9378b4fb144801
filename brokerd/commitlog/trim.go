package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// Retention says which records may go. They go by whole segments, oldest first; the one
// that grows stays.
type Retention struct {
	Floor    uint64 // nothing from here on goes, whatever else is said
	OlderMs  int64  // segments go of which all was stored before this time, in ms since 1970
	MaxBytes uint64 // segments go until the records take no more than this; 0 is no limit
	MinFree  uint64 // and until as much of the disk is free, if the log can tell
}

// Trim deletes what may go, and returns the offset of the oldest record then.
func (l *Log) Trim(r Retention) (uint64, error) {
	l.disk.Lock()
	defer l.disk.Unlock()
	for {
		seg, goes, err := l.oldest(r)
		if err != nil {
			return 0, fmt.Errorf("trim: %w", err)
		}
		if !goes {
			return l.First(), nil
		}
		if err := l.trimOldest(); err != nil {
			return 0, l.fail(fmt.Errorf("trim: %w", err))
		}
		l.mu.Lock()
		l.segments = slices.Clip(l.segments[1:])
		for _, q := range l.queues {
			if len(q.spans) > 0 && q.spans[0].seg == seg {
				q.spans = slices.Clip(q.spans[1:])
			}
		}
		l.mu.Unlock()
		seg.release()
	}
}

// trimOldest deletes the oldest segment's files. First it is written down that they go:
// files that are missing by themselves are damage.
func (l *Log) trimOldest() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.RLock()
	seg, next, synced := l.segments[0], l.segments[1], l.synced
	l.mu.RUnlock()
	if err := l.setSynced(next.base, synced, false); err != nil {
		return err
	}
	return l.removeSegment(seg.base)
}

// oldest returns the oldest segment, and whether it goes.
func (l *Log) oldest(r Retention) (*segment, bool, error) {
	low, err := l.lacks(r.MinFree)
	if err != nil {
		return nil, false, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.err != nil {
		return nil, false, l.err
	}
	if len(l.segments) < 2 || l.crippled {
		return nil, false, nil
	}
	next := l.segments[1]
	old := next.time < r.OlderMs
	large := r.MaxBytes > 0 && l.done.end-l.segments[0].base > r.MaxBytes
	return l.segments[0], next.base <= r.Floor && (old || large || low), nil
}

// lacks tells whether less of the disk is free.
func (l *Log) lacks(least uint64) (bool, error) {
	if l.opts.Space == nil || least == 0 {
		return false, nil
	}
	free, _, err := l.opts.Space()
	return free < least, err
}

// removeSegment deletes a segment and its index. It is durable when it returns, so that a
// crash never leaves a gap between segments.
func (l *Log) removeSegment(base uint64) error {
	if err := l.removeIndex(base); err != nil {
		return err
	}
	if err := l.fs.Remove(segmentName(base)); err != nil {
		return fmt.Errorf("remove %s: %w", segmentName(base), err)
	}
	if err := l.fs.SyncDir(); err != nil {
		return fmt.Errorf("sync directory: %w", fatal(err))
	}
	return nil
}

func (l *Log) removeIndex(base uint64) error {
	if err := l.fs.Remove(indexName(base)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", indexName(base), err)
	}
	return nil
}
