package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
)

// Verify reads the whole log up to what is durable, and checks each record, what each
// segment says of those before it, and each index. It returns the first damage, nil if
// there is none. progress is called behind each segment with how many bytes of how many
// are done; if it returns false, Verify ends with [ErrStopped]. The log can be used
// meanwhile.
func (l *Log) Verify(progress func(done, total uint64) bool) (*Damage, error) {
	l.mu.RLock()
	end := l.readable()
	segments := make([]*segment, len(l.segments))
	for i, s := range l.segments {
		segments[i] = s.hold()
	}
	known := l.damage
	l.mu.RUnlock()
	defer func() {
		for _, s := range segments {
			s.release()
		}
	}()
	var before *tracker
	for i, s := range segments {
		to := end
		if i+1 < len(segments) {
			to = min(end, segments[i+1].base)
		}
		c, d := l.verifySegment(s, before, to)
		if d != nil {
			_ = l.noteDamage(d)
			return d, nil
		}
		if i+1 < len(segments) {
			if err := l.verifyIndex(s, c); err != nil {
				return &Damage{indexName(s.base), 0, to, err}, nil
			}
		}
		before = c.tracker
		if first := segments[0].base; !progress(to-first, end-first) {
			return nil, fmt.Errorf("verify: %w", ErrStopped)
		}
	}
	return known, nil
}

// ErrStopped: whoever asked for it has it stopped.
var ErrStopped = errors.New("stopped")

// verifySegment reads a segment. before is what follows from the one before, nil for the
// first.
func (l *Log) verifySegment(s *segment, before *tracker, to uint64) (*content, *Damage) {
	p, _, err := readPreface(s.file)
	if err == nil && before != nil && string(before.preface().Append(nil)) != string(p.Append(nil)) {
		err = fmt.Errorf("preface does not follow from the segment before: %w", errFormat)
	}
	if err != nil {
		return nil, &Damage{s.name, 0, s.base, err}
	}
	c := s.load(p, to)
	if c.wrong != nil {
		return nil, &Damage{s.name, s.at(c.end), c.end, c.wrong}
	}
	return &c, nil
}

// verifyIndex compares an index file with the segment. One that is not there is no damage.
func (l *Log) verifyIndex(s *segment, c *content) error {
	f, _, err := openIndex(l.fs, s.base, c.end, c.link)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, want := sealContent(s.base, c)
	got, err := readAll(f, int64(len(want)))
	if err == nil && string(got) != string(want) {
		err = fmt.Errorf("index is not that of its segment: %w", errFormat)
	}
	return err
}
