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
		f, err := l.find(&r)
		if err != nil || f == nil {
			return out, err
		}
		got, err := l.readFound(f)
		if errors.Is(err, errFormat) && f.index != nil {
			// The index lies; what it is made from does not.
			if err = l.reindex(f.seg); err == nil {
				f.release()
				continue
			}
		}
		f.release()
		if err != nil {
			if len(out) > 0 {
				return out, nil // whoever reads on is told
			}
			return nil, err
		}
		for _, b := range got {
			r.Bytes -= len(b)
		}
		out = append(out, got...)
		r.Offset += uint64(len(got))
		r.Max -= len(got)
		if f.last {
			break
		}
	}
	return out, nil
}

// found is where messages of a queue lie in one segment.
type found struct {
	queueKey
	seg    *segment
	index  File   // where the places are from; nil if from memory
	number uint64 // queue offset of the first
	places []place
	last   bool // there is no more to be read behind these
}

func (f *found) release() { f.seg.release() }

// find looks up where the messages lie that are in the same segment as the first.
func (l *Log) find(r *QueueRead) (*found, error) {
	f, s, i, err := l.lookup(r)
	if f == nil || err != nil {
		return nil, err
	}
	n := min(r.Max, int(s.count)-i)
	if f.index != nil {
		f.places, err = readPlaces(f.index, s.at, i, n)
		if err != nil {
			f.release()
			return nil, fmt.Errorf("read %s: %w", indexName(f.seg.base), err)
		}
	}
	bytes, readable := 0, 0
	for j, p := range f.places {
		end := f.seg.base + uint64(p.at) + uint64(p.size)
		if bytes += int(p.size); end > r.Below || j > 0 && bytes > r.Bytes {
			f.last = true
			break
		}
		readable++
	}
	if f.places = f.places[:readable]; readable == 0 {
		f.release()
		return nil, nil
	}
	return f, nil
}

// lookup finds the span of a queue that a queue offset is in, and its number there. If the
// places are in memory they are in found already.
func (l *Log) lookup(r *QueueRead) (*found, span, int, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	q := l.queues[queueKey{r.Topic, r.Queue}]
	if q == nil || r.Offset >= q.next {
		return nil, span{}, 0, nil
	}
	if first := q.first(); r.Offset < first {
		return nil, span{}, 0, fmt.Errorf("read %s/%d at %d, the first is %d: %w", r.Topic, r.Queue, r.Offset, first, ErrTrimmed)
	}
	r.Below = min(r.Below, l.readable())
	s := q.spans[sort.Search(len(q.spans), func(i int) bool { return q.spans[i].first > r.Offset })-1]
	i := int(r.Offset - s.first)
	f := &found{queueKey: q.queueKey, seg: s.seg.hold(), number: r.Offset}
	if s.mem != nil {
		f.places = slices.Clone(s.mem[i:min(i+r.Max, len(s.mem))])
	} else {
		f.index = s.seg.index
	}
	return f, s, i, nil
}

// readFound reads messages and checks each against what the index says.
func (l *Log) readFound(f *found) ([][]byte, error) {
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
	if err := l.fs.Remove(indexName(seg.base)); err != nil {
		return fmt.Errorf("remove index: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, places := range c.places {
		q := l.queues[k]
		if q == nil {
			continue
		}
		for i := range q.spans {
			if s := &q.spans[i]; s.seg == seg && s.first == c.next[k]-uint64(len(places)) {
				s.mem, s.count = places, uint32(len(places))
			}
		}
	}
	return nil
}

// Bounds returns the queue offsets of a queue's oldest message and behind its newest one,
// of those that end at or before an offset of the log and may be read. A queue that has
// had no message has 0 and 0.
func (l *Log) Bounds(topic string, queue uint32, below uint64) (first, next uint64, err error) {
	l.mu.RLock()
	q := l.queues[queueKey{topic, queue}]
	below = min(below, l.readable())
	if q == nil {
		l.mu.RUnlock()
		return 0, 0, nil
	}
	first, next = q.first(), q.next
	i := sort.Search(len(q.spans), func(i int) bool { return q.spans[i].seg.base >= below }) - 1
	if i < 0 {
		l.mu.RUnlock()
		if len(q.spans) > 0 {
			next = first
		}
		return first, next, nil
	}
	s := q.spans[i]
	seg, index, mem := s.seg.hold(), s.seg.index, s.mem
	l.mu.RUnlock()
	defer seg.release()
	n := sort.Search(int(s.count), func(j int) bool {
		p := place{}
		if mem != nil {
			p = mem[j]
		} else if got, e := readPlaces(index, s.at, j, 1); e != nil {
			err = fmt.Errorf("read %s: %w", indexName(seg.base), e)
		} else {
			p = got[0]
		}
		return seg.base+uint64(p.at)+uint64(p.size) > below
	})
	return first, s.first + uint64(n), err
}
