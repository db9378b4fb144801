package commitlog

import (
	"errors"
	"fmt"
	"slices"
	"sort"

	"holdfast/brokerd/record"
)

// QueueRead asks for messages of a queue.
type QueueRead struct {
	Topic  string
	Queue  uint32
	Offset uint64 // queue offset of the first
	Max    int    // messages, at most
	Bytes  int    // at most, but for the first message
	Below  uint64 // only records that end at or before this offset of the log
}

// readRun is the largest piece that is read at once.
const readRun = 1 << 20

// ReadQueue returns messages of a queue in their order, each a whole, checked record: none
// at the end of the queue, or of a queue that has had no message.
func (l *Log) ReadQueue(r QueueRead) ([][]byte, error) {
	var out [][]byte
	for r.Max > 0 && r.Bytes > 0 {
		got, last, err := l.readSpan(&r, len(out) == 0)
		if err != nil && len(out) == 0 {
			return nil, err
		}
		if err != nil || len(got) == 0 {
			return out, nil // whoever reads on is told of the error
		}
		for _, b := range got {
			r.Bytes -= len(b)
		}
		out = append(out, got...)
		r.Offset += uint64(len(got))
		r.Max -= len(got)
		if last {
			break
		}
	}
	return out, nil
}

// readSpan reads messages that are in one segment: at least one, if there is any and none
// was read before. last says that there is no more to be read behind these.
func (l *Log) readSpan(r *QueueRead, first bool) (got [][]byte, last bool, err error) {
	for range 2 {
		f, s, err := l.lookup(r)
		if err != nil || f == nil {
			return nil, true, err
		}
		got, last, err = l.readFound(f, s, r, first)
		if errors.Is(err, errFormat) && f.index != nil {
			// The index lies; what it is made from does not.
			if err = l.reindex(f.seg); err == nil {
				f.release()
				continue
			}
		}
		f.release()
		return got, last, err
	}
	return nil, true, fmt.Errorf("read %s/%d at %d: index lies again: %w", r.Topic, r.Queue, r.Offset, errFormat)
}

// found is where messages of a queue lie in one segment.
type found struct {
	queueKey
	seg    *segment
	index  File   // where the places are from; nil if from memory
	number uint64 // queue offset of the first
	places []place
}

func (f *found) release() { f.seg.release() }

// lookup finds the span of a queue that a queue offset is in. If the places are in memory
// they are in found already.
func (l *Log) lookup(r *QueueRead) (*found, span, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	q := l.queues[queueKey{r.Topic, r.Queue}]
	if q == nil || r.Offset >= q.next {
		return nil, span{}, nil
	}
	if first := q.first(); r.Offset < first {
		return nil, span{}, fmt.Errorf("read %s/%d at %d, the first is %d: %w", r.Topic, r.Queue, r.Offset, first, ErrTrimmed)
	}
	r.Below = min(r.Below, l.readable())
	s := q.spans[sort.Search(len(q.spans), func(i int) bool { return q.spans[i].first > r.Offset })-1]
	f := &found{queueKey: q.queueKey, seg: s.seg.hold(), number: r.Offset}
	if s.mem != nil {
		i := int(r.Offset - s.first)
		f.places = slices.Clone(s.mem[i:min(i+r.Max, len(s.mem))])
	} else {
		f.index = s.seg.index
	}
	return f, s, nil
}

// placesOf brings the places that are in an index file.
func (l *Log) placesOf(f *found, s *span, r *QueueRead) (err error) {
	if f.index == nil {
		return nil
	}
	if err = l.trust(f.queueKey, s, f.index); err == nil {
		i := int(r.Offset - s.first)
		f.places, err = readPlaces(f.index, s.at, i, min(r.Max, int(s.count)-i))
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", indexName(f.seg.base), err)
	}
	return nil
}

// trust checks the places of a queue in an index file, once.
func (l *Log) trust(k queueKey, s *span, index File) error {
	if s.read {
		return nil
	}
	if err := checkPlaces(index, s.at, int(s.count), s.sum); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if q := l.queues[k]; q != nil {
		for i := range q.spans {
			if t := &q.spans[i]; t.seg == s.seg {
				t.read = true
			}
		}
	}
	return nil
}

// readable drops the places of messages that are not asked for.
func (f *found) readable(r *QueueRead, first bool) (last bool) {
	bytes := 0
	for i, p := range f.places {
		end := f.seg.base + uint64(p.at) + uint64(p.size)
		if bytes += int(p.size); end > r.Below || bytes > r.Bytes && !(first && i == 0) {
			f.places = f.places[:i]
			return true
		}
	}
	return false
}

// readFound reads messages and checks each against what the index says.
func (l *Log) readFound(f *found, s span, r *QueueRead, first bool) ([][]byte, bool, error) {
	if err := l.placesOf(f, &s, r); err != nil {
		return nil, false, err
	}
	last := f.readable(r, first)
	got, err := l.readPlaced(f)
	return got, last, err
}

// readPlaced reads messages whose places are known.
func (l *Log) readPlaced(f *found) ([][]byte, error) {
	out := make([][]byte, 0, len(f.places))
	for i := 0; i < len(f.places); {
		// Neighbours are read at once.
		n, size := 1, int(f.places[i].size)
		for i+n < len(f.places) && f.places[i+n].at == f.places[i].at+uint32(size) && size < readRun {
			size += int(f.places[i+n].size)
			n++
		}
		if size > readRun+record.MaxSize {
			return nil, fmt.Errorf("record of %d bytes: %w", size, errFormat)
		}
		b := make([]byte, size)
		offset := f.seg.base + uint64(f.places[i].at)
		if err := readFull(f.seg.file, b, f.seg.at(offset)); err != nil {
			return nil, l.explain(f, offset, err)
		}
		for _, p := range f.places[i : i+n] {
			h, err := record.Parse(b[:p.size])
			if err == nil && !(f.fits(&h, f.number+uint64(len(out))) && h.Length == p.size) {
				err = ErrNext
			}
			if err != nil {
				return nil, l.explain(f, f.seg.base+uint64(p.at), err)
			}
			out = append(out, b[:p.size:p.size])
			b = b[p.size:]
		}
		i += n
	}
	return out, nil
}

// explain tells a lying index from a damaged record.
func (l *Log) explain(f *found, offset uint64, err error) error {
	if d := l.Damage(); d != nil && d.File == f.seg.name && d.Offset <= offset {
		return d
	}
	if f.index != nil {
		return fmt.Errorf("place %d of %s: %w", offset, indexName(f.seg.base), errFormat)
	}
	return l.diagnose(f.seg, offset, err)
}

// reindex makes the index of a sealed segment anew, in memory: its file has turned out to
// lie, and the next start writes it again. If the segment itself is damaged, it says where.
func (l *Log) reindex(seg *segment) error {
	p, _, err := readPreface(seg.file)
	if err != nil {
		return l.noteDamage(&Damage{seg.name, 0, seg.base, err})
	}
	size, err := seg.file.Size()
	if err != nil {
		return fmt.Errorf("read %s: %w", seg.name, err)
	}
	c := seg.load(p, seg.base+uint64(size-seg.size))
	if c.wrong != nil {
		return l.noteDamage(&Damage{seg.name, seg.at(c.end), c.end, c.wrong})
	}
	// Should the segment have been cut and sealed anew meanwhile, a start makes its index again.
	if err := l.removeIndex(seg.base); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, places := range c.places {
		q := l.queues[k]
		if q == nil {
			continue
		}
		for i := range q.spans {
			if s := &q.spans[i]; s.seg == seg && s.mem == nil && int(s.count) == len(places) {
				s.mem = places
			}
		}
	}
	return nil
}

// Bounds returns the queue offsets of a queue's oldest message and behind its newest one,
// of those that end at or before an offset of the log and may be read. A queue that has
// had no message has 0 and 0.
func (l *Log) Bounds(topic string, queue uint32, below uint64) (first, next uint64, err error) {
	k := queueKey{topic, queue}
	for range 2 {
		l.mu.RLock()
		below = min(below, l.readable())
		q := l.queues[k]
		if q == nil {
			l.mu.RUnlock()
			return 0, 0, nil
		}
		first = q.first()
		i := sort.Search(len(q.spans), func(i int) bool { return q.spans[i].seg.base >= below }) - 1
		if i < 0 {
			l.mu.RUnlock()
			return first, first, nil // all that it has had is deleted, or cannot be read yet
		}
		s, seg, index := q.spans[i], q.spans[i].seg.hold(), q.spans[i].seg.index
		l.mu.RUnlock()
		n, err := l.countBelow(k, &s, index, below)
		if errors.Is(err, errFormat) {
			err = l.reindex(seg)
			seg.release()
			if err == nil {
				continue
			}
			return 0, 0, err
		}
		seg.release()
		if err != nil {
			return 0, 0, fmt.Errorf("read %s: %w", indexName(seg.base), err)
		}
		return first, s.first + uint64(n), nil
	}
	return 0, 0, fmt.Errorf("bounds of %s/%d: index lies again: %w", topic, queue, errFormat)
}

// countBelow returns how many messages of a span end at or before an offset of the log.
func (l *Log) countBelow(k queueKey, s *span, index File, below uint64) (n int, err error) {
	ends := func(p place) uint64 { return s.seg.base + uint64(p.at) + uint64(p.size) }
	if s.mem != nil {
		return sort.Search(len(s.mem), func(i int) bool { return ends(s.mem[i]) > below }), nil
	}
	if err := l.trust(k, s, index); err != nil {
		return 0, err
	}
	n = sort.Search(int(s.count), func(i int) bool {
		p, e := readPlaces(index, s.at, i, 1)
		if e != nil {
			err = e
			return true
		}
		return ends(p[0]) > below
	})
	return n, err
}
