package commitlog

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"

	"holdfast/brokerd/record"
)

const (
	segmentSuffix = ".log"
	indexSuffix   = ".index"
	nameDigits    = 20
)

func segmentName(base uint64) string { return fmt.Sprintf("%0*d%s", nameDigits, base, segmentSuffix) }

func indexName(base uint64) string { return fmt.Sprintf("%0*d%s", nameDigits, base, indexSuffix) }

// parseName returns the base offset in the name of a file of that kind.
func parseName(name, suffix string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != nameDigits {
		return 0, false
	}
	base, err := strconv.ParseUint(digits, 10, 63)
	return base, err == nil
}

// segment is a file of records [base, end), behind a preface. Only the last one grows.
type segment struct {
	name  string
	base  uint64
	size  int64 // of the preface
	time  int64 // newest store time before it
	file  File
	index File         // nil as long as the places are in memory
	users atomic.Int64 // who has the files open: the log, and each read
}

func newSegment(base uint64, size, newest int64, f File) *segment {
	s := &segment{name: segmentName(base), base: base, size: size, time: newest, file: f}
	s.users.Store(1)
	return s
}

// hold keeps the files open until release.
func (s *segment) hold() *segment {
	s.users.Add(1)
	return s
}

// release closes the files if nobody uses them any more.
func (s *segment) release() {
	if s.users.Add(-1) == 0 {
		_ = s.file.Close() // all that was written is synced, or is to vanish
		if s.index != nil {
			_ = s.index.Close()
		}
	}
}

// at returns the place of an offset in the file.
func (s *segment) at(offset uint64) int64 { return s.size + int64(offset-s.base) }

// walker reads the records of a segment one after the other.
type walker struct {
	file  io.ReaderAt
	limit int64  // the file ends here
	buf   []byte // what was read and not passed yet
	pos   int64  // of buf's first byte
	space []byte
}

const walkerChunk = 1 << 20

// walk begins at an offset of the segment, to go on until another.
func (s *segment) walk(from, to uint64) *walker {
	return &walker{file: s.file, limit: s.at(to), pos: s.at(from)}
}

// fill brings n bytes into buf, or as many as there are.
func (w *walker) fill(n int) error {
	if n <= len(w.buf) || w.pos+int64(len(w.buf)) >= w.limit {
		return nil
	}
	want := int(min(int64(max(n, walkerChunk)), w.limit-w.pos))
	if cap(w.space) < want {
		w.space = make([]byte, want)
	}
	// What is left lies in the same space, never behind its new place.
	b := w.space[:want]
	have := copy(b, w.buf)
	w.buf = b[:have]
	if err := readFull(w.file, b[have:], w.pos+int64(have)); err != nil {
		return err
	}
	w.buf = b
	return nil
}

// next returns the next record with its header; its bytes are valid until the next call.
// io.EOF says that the limit was reached, record.ErrShort or ErrInvalid that there is
// no record here; other errors are of the disk.
func (w *walker) next() (record.Header, []byte, error) {
	if w.pos == w.limit {
		return record.Header{}, nil, io.EOF
	}
	if err := w.fill(record.HeaderSize); err != nil {
		return record.Header{}, nil, err
	}
	if n, ok := record.SizeOf(w.buf); ok {
		if err := w.fill(n); err != nil {
			return record.Header{}, nil, err
		}
	}
	h, err := record.Parse(w.buf)
	if err != nil {
		return record.Header{}, nil, err
	}
	b := w.buf[:h.Length]
	w.buf = w.buf[h.Length:]
	w.pos += int64(h.Length)
	return h, b, nil
}

// place is where a record lies in its segment.
type place struct{ at, size uint32 } // at counts from the segment's base offset

// content is what a walk over a segment brought.
type content struct {
	*tracker
	places  map[queueKey][]place
	wrong   error // why the walk ended before its limit; nil if it did not
	records uint64
}

// load walks over a segment from its preface to an offset.
func (s *segment) load(p *Preface, to uint64) content {
	c := content{tracker: track(p), places: map[queueKey][]place{}}
	for w := s.walk(s.base, to); ; c.records++ {
		h, _, err := w.next()
		if errors.Is(err, io.EOF) {
			return c
		}
		if err == nil {
			err = c.take(&h)
		}
		if err != nil {
			c.wrong = err
			return c
		}
		if h.Kind == record.KindMessage {
			k := queueKey{string(h.Topic), h.Queue}
			c.places[k] = append(c.places[k], place{uint32(h.Offset - s.base), h.Length})
		}
	}
}
