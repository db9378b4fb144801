package commitlog

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// Cut cuts the log off at an offset, at which a record must begin. What is cut is kept in
// files of its own. It also is how damage at or behind the offset is cut off, by somebody
// who knows that this replica owes a return then.
//
// A crash leaves the log as it was, or cut, or cut at the end of a segment in between:
// its records are whole in any case. What waited for a commit is refused with [ErrCut].
func (l *Log) Cut(offset uint64) ([]Kept, error) {
	l.disk.Lock()
	defer l.disk.Unlock()
	l.syncing.Lock()
	defer l.syncing.Unlock()
	kept, err := l.cut(offset)
	if err == nil {
		return kept, nil
	}
	if errors.As(err, new(cutError)) {
		return kept, fmt.Errorf("cut at %d: %w", offset, err)
	}
	return kept, l.fail(fmt.Errorf("cut at %d: %w", offset, err))
}

// cutError is one after which the log is as it was.
type cutError struct{ err error }

func (e cutError) Error() string { return e.err.Error() }
func (e cutError) Unwrap() error { return e.err }

func (l *Log) cut(offset uint64) ([]Kept, error) {
	l.mu.Lock()
	i, err := l.cutPoint(offset)
	if err != nil {
		l.mu.Unlock()
		return nil, cutError{err}
	}
	l.drop(ErrCut)
	segments, beyond := l.segments, l.beyond
	l.mu.Unlock()

	seg := segments[i]
	p, _, err := readPreface(seg.file)
	if err != nil {
		return nil, cutError{l.noteDamage(&Damage{seg.name, 0, seg.base, err})}
	}
	c := seg.load(p, offset)
	switch {
	case c.end == offset:
	case errors.Is(c.wrong, io.EOF) || c.wrong == nil:
		return nil, cutError{ErrBoundary}
	default:
		return nil, cutError{fmt.Errorf("%w: %w", ErrBoundary, c.wrong)}
	}
	var kept []Kept
	size, err := seg.file.Size()
	if err != nil {
		return nil, cutError{err}
	}
	if end := seg.base + uint64(max(size-seg.size, 0)); offset < end {
		k, err := l.keep(seg, offset, end, "cut")
		if err != nil && !errors.As(err, new(syncError)) {
			return nil, cutError{err}
		}
		if err != nil {
			return nil, err
		}
		kept = append(kept, k)
	}
	// From here on nothing above the offset is known to have been durable, so that a start
	// in the middle of this takes a shorter log for what it is.
	if err := l.setSynced(segments[0].base, min(offset, l.Synced()), false); err != nil {
		return kept, err
	}
	later := slices.Clone(beyond)
	for _, s := range slices.Backward(segments[i+1:]) {
		later = slices.Insert(later, 0, s.base)
	}
	slices.Sort(later)
	for _, base := range slices.Backward(later) {
		k, err := l.keepSegment(base)
		if err != nil {
			return kept, err
		}
		kept = append(kept, k)
	}
	if err := l.truncate(seg, offset); err != nil {
		return kept, err
	}
	l.mu.Lock()
	l.shorten(i, &c)
	l.mu.Unlock()
	return kept, l.setSynced(segments[0].base, offset, false)
}

// cutPoint returns the index of the segment that a cut goes through. mu is held.
func (l *Log) cutPoint(offset uint64) (int, error) {
	switch {
	case l.err != nil:
		return 0, l.err
	case offset > l.done.end:
		return 0, ErrBeyond
	case len(l.segments) == 0 || offset < l.segments[0].base:
		return 0, ErrTrimmed
	}
	return l.segmentOf(offset), nil
}

// keepSegment gives a whole segment file the name of one that was cut off.
func (l *Log) keepSegment(base uint64) (Kept, error) {
	if err := l.removeIndex(base); err != nil {
		return Kept{}, err
	}
	names, err := l.fs.List()
	if err != nil {
		return Kept{}, fmt.Errorf("list files: %w", err)
	}
	k := Kept{From: base, File: keptName("cut-segment", base, names)}
	if f, err := l.fs.Open(segmentName(base), false); err == nil {
		if _, size, err := readPreface(f); err == nil {
			if total, err := f.Size(); err == nil {
				k.To = base + uint64(total-size)
			}
		}
		_ = f.Close()
	}
	if err := l.fs.Rename(segmentName(base), k.File); err != nil {
		return Kept{}, fmt.Errorf("rename %s: %w", segmentName(base), err)
	}
	// One by one, last first: a crash never leaves a gap.
	if err := l.fs.SyncDir(); err != nil {
		return Kept{}, fmt.Errorf("sync directory: %w", fatal(err))
	}
	return k, nil
}

// truncate ends a segment at an offset.
func (l *Log) truncate(seg *segment, offset uint64) error {
	if err := l.removeIndex(seg.base); err != nil {
		return err
	}
	if err := l.fs.SyncDir(); err != nil {
		return fmt.Errorf("sync directory: %w", fatal(err))
	}
	if err := seg.file.Truncate(seg.at(offset)); err != nil {
		return fmt.Errorf("truncate %s: %w", seg.name, err)
	}
	if err := seg.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", seg.name, fatal(err))
	}
	return nil
}

// shorten makes the i-th segment the last one, of which a walk up to the new end brought
// the content. mu is held.
func (l *Log) shorten(i int, c *content) {
	seg := l.segments[i]
	for _, s := range l.segments[i+1:] {
		s.release()
	}
	l.segments = slices.Clip(l.segments[:i+1])
	for k, q := range l.queues {
		q.spans = slices.DeleteFunc(q.spans, func(s span) bool { return s.seg.base >= seg.base })
		if _, ok := c.next[k]; !ok {
			delete(l.queues, k)
		}
	}
	l.beyond, l.damage, l.crippled = nil, nil, false
	l.adopt(seg, c)
	l.tell()
}

// Install drops the whole log and begins one of another replica, at the place that its
// preface tells of ([Log.Preface]). The caller has written down before that this replica
// owes a return. A crash leaves some of the old log, an empty one, or the new one.
func (l *Log) Install(p *Preface) error {
	if wrong := p.check(); wrong != "" {
		return fmt.Errorf("install: %s: %w", wrong, errFormat)
	}
	l.disk.Lock()
	defer l.disk.Unlock()
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	if l.err != nil {
		defer l.mu.Unlock()
		return l.err
	}
	l.drop(ErrCut)
	bases := slices.Clone(l.beyond)
	for _, s := range l.segments {
		bases = append(bases, s.base)
	}
	l.mu.Unlock()
	if err := l.install(p, bases); err != nil {
		return l.fail(fmt.Errorf("install: %w", err))
	}
	return nil
}

func (l *Log) install(p *Preface, bases []uint64) error {
	if err := l.setSynced(p.Base, 0, false); err != nil {
		return err
	}
	slices.Sort(bases)
	for _, base := range slices.Backward(bases) {
		if err := l.removeSegment(base); err != nil {
			return err
		}
	}
	seg, err := beginSegment(l.fs, p)
	if err != nil {
		return err
	}
	l.mu.Lock()
	for _, s := range l.segments {
		s.release()
	}
	l.segments, l.queues = []*segment{seg}, map[queueKey]*queue{}
	l.beyond, l.damage, l.crippled = nil, nil, false
	l.adopt(seg, &content{tracker: track(p)})
	l.tell()
	l.mu.Unlock()
	return l.setSynced(p.Base, p.Base, false)
}

// Preface returns that of the oldest segment: what another replica has to know to begin
// its log there.
func (l *Log) Preface() (*Preface, error) {
	l.mu.RLock()
	if len(l.segments) == 0 {
		defer l.mu.RUnlock()
		return nil, l.damage
	}
	seg := l.segments[0].hold()
	l.mu.RUnlock()
	defer seg.release()
	p, _, err := readPreface(seg.file)
	if err != nil {
		return nil, l.noteDamage(&Damage{seg.name, 0, seg.base, err})
	}
	return p, nil
}
