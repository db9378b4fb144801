package commitlog

import (
	"errors"
	"fmt"
	"slices"
)

// roll ends the last segment and begins a new one. All before the new one is durable when
// its file appears, so only the last segment of a log can be torn. disk is held.
func (l *Log) roll() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	old, end, synced := l.written()
	if synced < end {
		if err := old.file.Sync(); err != nil {
			return fmt.Errorf("sync %s: %w", old.name, fatal(err))
		}
	}
	l.mu.Lock()
	l.synced = end
	p := l.preface()
	l.mu.Unlock()
	next, err := beginSegment(l.fs, p)
	if err != nil {
		return err
	}
	index, s, err := l.sealActive(old)
	if err != nil {
		next.release()
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.segments = append(slices.Clip(l.segments), next)
	l.useIndex(old, index, s)
	return nil
}

// beginSegment makes the file of a segment.
func beginSegment(fs FS, p *Preface) (*segment, error) {
	b := p.Append(nil)
	f, err := create(fs, segmentName(p.Base), b)
	if err != nil {
		return nil, err
	}
	return newSegment(p.Base, int64(len(b)), p.Time, f), nil
}

// sealActive writes the index file of the segment that grew until now. If it cannot be
// written, the places stay in memory, and the next start tries again; its error is of a
// sync.
func (l *Log) sealActive(seg *segment) (File, *sealed, error) {
	l.mu.RLock()
	s := &sealed{base: seg.base, end: l.done.end, link: l.done.link}
	places := map[queueKey][]place{}
	for k, q := range l.queues {
		if n := len(q.spans); n > 0 && q.spans[n-1].seg == seg {
			sp := q.spans[n-1]
			s.queues = append(s.queues, sealedQueue{queueKey: k, first: sp.first, count: sp.count})
			places[k] = sp.mem
		}
	}
	l.mu.RUnlock()
	slices.SortFunc(s.queues, func(a, b sealedQueue) int { return a.compare(b.queueKey) })
	f, s, err := writeIndex(l.fs, s, func(i int) []place { return places[s.queues[i].queueKey] })
	if err != nil && !errors.As(err, new(syncError)) {
		return nil, nil, nil
	}
	return f, s, err
}

// writeIndex makes an index file, and returns what a reader finds in it.
func writeIndex(fs FS, s *sealed, places func(i int) []place) (File, *sealed, error) {
	b := appendIndex(nil, s, places)
	written, err := parseIndex(b, int64(len(b)))
	if err != nil {
		return nil, nil, err
	}
	f, err := create(fs, indexName(s.base), b)
	return f, written, err
}

// useIndex has the places of a segment read from its index file, if there is one. mu
// is held.
func (l *Log) useIndex(seg *segment, f File, s *sealed) {
	if f == nil {
		return
	}
	seg.index = f
	for _, sq := range s.queues {
		q := l.queues[sq.queueKey]
		if q == nil {
			continue
		}
		for i := range q.spans {
			if s := &q.spans[i]; s.seg == seg {
				s.at, s.sum, s.mem = sq.at, sq.places, nil
			}
		}
	}
}
