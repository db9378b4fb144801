package commitlog

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"

	"holdfast/brokerd/record"
)

// Read appends whole records from an offset on to dst: all of one epoch, at most max bytes
// but at least one record. Nothing is appended at the end of what is durable. Each record
// is checked.
func (l *Log) Read(dst []byte, offset uint64, max int) ([]byte, error) {
	seg, end, err := l.locate(offset)
	if err != nil || seg == nil {
		return dst, err
	}
	defer seg.release()
	b := slices.Grow(dst, int(min(uint64(max), end-offset)))
	b = b[:len(dst)+int(min(uint64(max), end-offset))]
	if err := readFull(seg.file, b[len(dst):], seg.at(offset)); err != nil {
		return dst, l.diagnose(seg, offset, err)
	}
	at := len(dst)
	for c := (cursor{end: offset}); at < len(b); {
		h, err := record.Parse(b[at:])
		switch {
		case errors.Is(err, record.ErrShort) && at > len(dst):
			return b[:at], nil
		case errors.Is(err, record.ErrShort):
			return l.readOne(dst, seg, offset, end)
		case err == nil && (h.Offset != c.end || c.epoch != 0 && h.Link != c.link):
			err = fmt.Errorf("offset %d, link %08x: %w", h.Offset, h.Link, ErrNext)
		}
		if err != nil && at > len(dst) {
			return b[:at], nil // whoever reads on is told
		}
		if err != nil {
			return dst, l.diagnose(seg, offset, err)
		}
		c.pass(&h)
		at += int(h.Length)
	}
	return b, nil
}

// locate returns the segment of an offset, to be released, and up to where it may be
// read: its end, that of the epoch, or that of what is durable. It is nil at the end.
func (l *Log) locate(offset uint64) (*segment, uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	end := l.readable()
	switch {
	case offset > end:
		return nil, 0, fmt.Errorf("read at %d of %d: %w", offset, end, ErrBeyond)
	case offset == end && l.crippled:
		return nil, 0, l.damage
	case offset == end:
		return nil, 0, nil
	case offset < l.segments[0].base:
		return nil, 0, fmt.Errorf("read at %d before %d: %w", offset, l.segments[0].base, ErrTrimmed)
	}
	i := l.segmentOf(offset)
	if i+1 < len(l.segments) {
		end = min(end, l.segments[i+1].base)
	}
	j := sort.Search(len(l.history), func(j int) bool { return l.history[j].Offset > offset })
	if j < len(l.history) {
		end = min(end, l.history[j].Offset)
	}
	return l.segments[i].hold(), end, nil
}

// segmentOf returns the index of the segment that an offset belongs to, which must not be
// before the first. mu is held.
func (l *Log) segmentOf(offset uint64) int {
	return sort.Search(len(l.segments), func(i int) bool { return l.segments[i].base > offset }) - 1
}

// readOne reads a record that is larger than the reader asked for.
func (l *Log) readOne(dst []byte, seg *segment, offset, end uint64) ([]byte, error) {
	head := make([]byte, record.HeaderSize)
	if end-offset < record.HeaderSize {
		return dst, l.diagnose(seg, offset, record.ErrShort)
	}
	if err := readFull(seg.file, head, seg.at(offset)); err != nil {
		return dst, l.diagnose(seg, offset, err)
	}
	n, ok := record.SizeOf(head)
	if !ok || uint64(n) > end-offset {
		return dst, l.diagnose(seg, offset, record.ErrInvalid)
	}
	b := slices.Grow(dst, n)[:len(dst)+n]
	if err := readFull(seg.file, b[len(dst):], seg.at(offset)); err != nil {
		return dst, l.diagnose(seg, offset, err)
	}
	h, err := record.Parse(b[len(dst):])
	if err == nil && h.Offset != offset {
		err = ErrNext
	}
	if err != nil {
		return dst, l.diagnose(seg, offset, err)
	}
	return b, nil
}

// diagnose tells a damaged segment from an offset at which no record begins: it walks over
// the segment. found is what reading at the offset brought.
func (l *Log) diagnose(seg *segment, offset uint64, found error) error {
	p, _, err := readPreface(seg.file)
	if err != nil {
		return l.noteDamage(&Damage{seg.name, 0, seg.base, err})
	}
	c := cursor{p.Base, p.Link, p.Epoch, p.Time}
	w := seg.walk(seg.base, offset)
	for c.end < offset {
		h, _, err := w.next()
		if errors.Is(err, record.ErrShort) || errors.Is(err, io.EOF) {
			return fmt.Errorf("offset %d: %w", offset, ErrBoundary)
		}
		if err == nil {
			err = c.admit(&h)
		}
		if err != nil {
			return l.noteDamage(&Damage{seg.name, seg.at(c.end), c.end, err})
		}
		c.pass(&h)
	}
	return l.noteDamage(&Damage{seg.name, seg.at(offset), offset, found})
}

// noteDamage keeps the first damage that was found, and returns what it was given.
func (l *Log) noteDamage(d *Damage) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.damage == nil || d.Offset < l.damage.Offset {
		l.damage = d
	}
	return d
}
