package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"holdfast/brokerd/record"
)

// errFormat: bytes that are not what they should be.
var errFormat = errors.New("bytes are invalid")

// Start says where the records of an epoch begin in a log.
type Start struct{ Epoch, Offset uint64 }

// Next is how many messages a queue has had, ever: the queue offset of its next one.
type Next struct {
	Topic string
	Queue uint32
	Next  uint64
}

// Preface is what a segment file begins with: all that is to be known of the log before
// it. So nobody has to read that, and it can be deleted. A log of another replica can be
// begun with it, see [Log.Install].
//
//	+-------+----------+--------+------+------+------+-------+--------+----------+ - - +------------+ - -
//	| magic | checksum | length | base | link | time | epoch | epochs | queues   | ... | queues     | ...
//	+-------+----------+--------+------+------+------+-------+--------+----------+ - - +------------+ - -
//	    4        4         4       8      4      8       8        4         4      16 each  1+n+4+8 each
//
// length is of all of it, the checksum CRC-32C over the length and all behind it. Epochs
// are pairs of epoch and offset, oldest first; queues are topic (a length before its
// bytes), queue and next, in that order. Numbers are big endian.
type Preface struct {
	Base    uint64 // offset of the segment's first record
	Link    uint32 // checksum of the last record before, 0 if there is none
	Time    int64  // newest store time before, in ms since 1970 (UTC)
	Epoch   uint64 // of the last record before, 0 if there is none
	History []Start
	Queues  []Next // of those that have had a message, by topic and queue
}

const (
	prefaceMagic = "HFS1"
	prefaceFixed = 4 + 4 + 4 + 8 + 4 + 8 + 8 + 4 + 4
	// prefaceLimit bounds what a reader makes because of a length that it cannot trust yet.
	prefaceLimit = 256 << 20
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli()) }

// Append appends the preface's bytes.
func (p *Preface) Append(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, prefaceMagic...)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0) // checksum and length
	dst = binary.BigEndian.AppendUint64(dst, p.Base)
	dst = binary.BigEndian.AppendUint32(dst, p.Link)
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.Time))
	dst = binary.BigEndian.AppendUint64(dst, p.Epoch)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(p.History)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(p.Queues)))
	for _, s := range p.History {
		dst = binary.BigEndian.AppendUint64(dst, s.Epoch)
		dst = binary.BigEndian.AppendUint64(dst, s.Offset)
	}
	for _, q := range p.Queues {
		dst = append(append(dst, byte(len(q.Topic))), q.Topic...)
		dst = binary.BigEndian.AppendUint32(dst, q.Queue)
		dst = binary.BigEndian.AppendUint64(dst, q.Next)
	}
	b := dst[at:]
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)))
	binary.BigEndian.PutUint32(b[4:], checksum(b[8:]))
	return dst
}

// prefaceSize returns how long the preface is that b begins with, if it says the truth.
func prefaceSize(b []byte) (int, error) {
	if len(b) < prefaceFixed || string(b[:4]) != prefaceMagic {
		return 0, fmt.Errorf("parse preface: no magic number: %w", errFormat)
	}
	n := binary.BigEndian.Uint32(b[8:])
	if n < prefaceFixed || n > prefaceLimit {
		return 0, fmt.Errorf("parse preface: length %d: %w", n, errFormat)
	}
	return int(n), nil
}

// ParsePreface reads the preface that b begins with.
func ParsePreface(b []byte) (*Preface, error) {
	size, err := prefaceSize(b)
	if err != nil {
		return nil, err
	}
	if size > len(b) {
		return nil, fmt.Errorf("parse preface: %d of %d bytes: %w", len(b), size, errFormat)
	}
	b = b[:size]
	if sum := checksum(b[8:]); sum != binary.BigEndian.Uint32(b[4:]) {
		return nil, fmt.Errorf("parse preface: checksum %08x, not %08x: %w", sum, binary.BigEndian.Uint32(b[4:]), errFormat)
	}
	r := reader{rest: b[12:]}
	p := &Preface{Base: r.number(8), Link: uint32(r.number(4)), Time: int64(r.number(8)), Epoch: r.number(8)}
	epochs, queues := int(r.number(4)), int(r.number(4))
	if !r.holds(epochs, 16) {
		return nil, fmt.Errorf("parse preface: %d epochs in %d bytes: %w", epochs, size, errFormat)
	}
	for range epochs {
		p.History = append(p.History, Start{r.number(8), r.number(8)})
	}
	if !r.holds(queues, 14) {
		return nil, fmt.Errorf("parse preface: %d queues in %d bytes: %w", queues, size, errFormat)
	}
	for range queues {
		topic := string(r.take(int(r.number(1))))
		p.Queues = append(p.Queues, Next{topic, uint32(r.number(4)), r.number(8)})
	}
	if r.failed || len(r.rest) > 0 {
		return nil, fmt.Errorf("parse preface: lengths do not add up: %w", errFormat)
	}
	if wrong := p.check(); wrong != "" {
		return nil, fmt.Errorf("parse preface: %s: %w", wrong, errFormat)
	}
	return p, nil
}

// check returns what cannot be.
func (p *Preface) check() string {
	if p.Base > math.MaxInt64 {
		return "base out of range"
	}
	last := Start{}
	for i, s := range p.History {
		if s.Epoch <= last.Epoch || i == 0 && s.Offset != 0 || i > 0 && s.Offset <= last.Offset || s.Offset >= p.Base {
			return fmt.Sprintf("epoch %d at %d after %d at %d", s.Epoch, s.Offset, last.Epoch, last.Offset)
		}
		last = s
	}
	switch {
	case last.Epoch != p.Epoch:
		return fmt.Sprintf("epoch %d, and a history up to %d", p.Epoch, last.Epoch)
	case p.Base == 0 && (p.Link != 0 || p.Time != 0 || len(p.Queues) > 0):
		return "something is before the first record"
	case p.Base > 0 && p.Epoch == 0:
		return "records without an epoch"
	}
	for i, q := range p.Queues {
		if len(q.Topic) == 0 || len(q.Topic) > record.MaxTopic || q.Queue > math.MaxInt32 || q.Next == 0 || q.Next > math.MaxInt64 {
			return fmt.Sprintf("queue %s/%d at %d", q.Topic, q.Queue, q.Next)
		}
		if i > 0 && q.key().compare(p.Queues[i-1].key()) <= 0 {
			return fmt.Sprintf("queue %s/%d out of order", q.Topic, q.Queue)
		}
	}
	return ""
}

// readPreface reads the one that a segment file begins with, and returns its size.
func readPreface(f File) (*Preface, int64, error) {
	size, err := f.Size()
	if err != nil {
		return nil, 0, err
	}
	head := make([]byte, prefaceFixed)
	if err := readFull(f, head, 0); err != nil {
		return nil, 0, fmt.Errorf("read preface: %w", err)
	}
	n, err := prefaceSize(head)
	if err != nil {
		return nil, 0, err
	}
	if int64(n) > size {
		return nil, 0, fmt.Errorf("parse preface: %d of %d bytes: %w", size, n, errFormat)
	}
	b := make([]byte, n)
	if err := readFull(f, b, 0); err != nil {
		return nil, 0, fmt.Errorf("read preface: %w", err)
	}
	p, err := ParsePreface(b)
	return p, int64(n), err
}

// reader reads fields one after the other. After the first that is not there all are
// empty, so that one check at the end is enough.
type reader struct {
	rest   []byte
	failed bool
}

// number reads one of up to 8 bytes.
func (r *reader) number(size int) (n uint64) {
	for _, c := range r.take(size) {
		n = n<<8 | uint64(c)
	}
	return n
}

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.failed = true
	}
	if r.failed || n == 0 {
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// holds tells whether n things of at least so many bytes each may follow.
func (r *reader) holds(n, each int) bool {
	if n > len(r.rest)/each {
		r.failed = true
	}
	return !r.failed
}
