package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// Every record begins alike; numbers are big endian:
//
//	 0      4       8       12         16       20     24       32      40
//	+------+-------+-------+----------+--------+------+--------+-------+------------+
//	| mark | check | magic | checksum | length | link | offset | epoch | store time |
//	+------+-------+-------+----------+--------+------+--------+-------+------------+
//	   4      4       4        4          4       4       8        8         8
//
//	 48     49             50     52      56             64
//	+------+--------------+------+-------+--------------+ - - - +-------------+
//	| kind | topic length | zero | queue | queue offset | topic | kind's body |
//	+------+--------------+------+-------+--------------+ - - - +-------------+
//	   1         1           2       4         8
//
// length is of all of it, the mark too. The checksum is CRC-32C (Castagnoli) over the
// length and all behind it; link is the checksum of the record before, 0 in the first.
// The mark is a replica's own, see [SetMark]; all else is the same on every replica.
//
// The start of an epoch (kind 1) has no topic and no body: queue and queue offset are 0.
// A message (kind 2) has a topic of 1 to 255 bytes; its body is drawn at [Message].
// State (kind 3) is like a start, with a body: what it means is known to others.
const (
	magic = "HFR1"

	checkAt       = 4
	magicAt       = 8
	checksumAt    = 12
	lengthAt      = 16
	linkAt        = 20
	offsetAt      = 24
	epochAt       = 32
	timeAt        = 40
	kindAt        = 48
	topicLengthAt = 49
	zeroAt        = 50
	queueAt       = 52
	queueOffsetAt = 56

	// HeaderSize is the size in bytes of what all records have before their topic; a
	// start of an epoch is no longer.
	HeaderSize = 64
	// MaxSize is the size in bytes of the largest record. It bounds what a reader has
	// to hold in memory because of a length that it cannot trust yet.
	MaxSize = 16 << 20
	// MaxTopic is the length of the longest topic in bytes.
	MaxTopic = math.MaxUint8
)

// Magic is in every record, MagicAt bytes behind its begin: what a search for records
// behind damage looks for.
const (
	Magic   = magic
	MagicAt = magicAt
)

var (
	// ErrShort: the bytes end before the record does, if its length is true.
	ErrShort = errors.New("record is cut short")
	// ErrInvalid: not a record, or one that was damaged.
	ErrInvalid = errors.New("record is invalid")
	// ErrTooLarge: a field, or the whole record, is larger than the format allows.
	ErrTooLarge = errors.New("record is too large")
)

// Kind says what a record is.
type Kind uint8

// The kinds.
const (
	KindStart   Kind = 1 // the first record of an epoch
	KindMessage Kind = 2
	KindState   Kind = 3 // what consumers did; in no queue, its body is another package's
)

// Header is what all records have. The zero values of Topic, Queue and QueueOffset are
// those of a start and of state.
type Header struct {
	Kind      Kind
	Length    uint32 // of the whole record in bytes
	Checksum  uint32
	Link      uint32 // checksum of the record before, 0 if there is none
	Offset    uint64 // of the record's first byte in the log
	Epoch     uint64 // of the master that appended it, above 0
	StoreTime int64  // when that was, in ms since 1970 (UTC)

	Topic       []byte // of a message; of a parsed record it lies in the record's bytes
	Queue       uint32 // at most 2^31-1, as RocketMQ's clients have it
	QueueOffset uint64 // how many messages the queue had before; at most 2^63-1
}

// End returns the offset of the record's end, which is that of the next one.
func (h *Header) End() uint64 { return h.Offset + uint64(h.Length) }

// check returns what is wrong with the fields, but for lengths.
func (h *Header) check() string {
	switch {
	case h.Epoch == 0:
		return "no epoch"
	case h.Offset > math.MaxInt64:
		return "offset out of range"
	case h.Kind != KindMessage && (len(h.Topic) > 0 || h.Queue != 0 || h.QueueOffset != 0):
		return "start of an epoch, or state, in a queue"
	case h.Kind == KindMessage && len(h.Topic) == 0:
		return "message without a topic"
	case h.Kind < KindStart || h.Kind > KindState:
		return fmt.Sprintf("unknown kind %d", h.Kind)
	case h.Queue > math.MaxInt32 || h.QueueOffset > math.MaxInt64:
		return "queue or queue offset out of range"
	}
	return ""
}

// table is that of CRC-32C, which processors compute by themselves.
func table() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// Append appends a start, or a message, to dst and sets the header's Length and Checksum.
// A start has no message. The mark is that of [SetMark] with 0. If it fails, dst is
// returned as it was.
func Append(dst []byte, h *Header, m *Message) ([]byte, error) {
	if h.Kind == KindState || (m != nil) != (h.Kind == KindMessage) {
		return dst, fmt.Errorf("append record: kind %d and its body do not fit: %w", h.Kind, ErrInvalid)
	}
	if m == nil {
		return h.put(dst, 0, nil)
	}
	n, err := m.size()
	if err != nil {
		return dst, fmt.Errorf("append record: %w", err)
	}
	return h.put(dst, n, m.append)
}

// AppendState is [Append] for state, whose body may be any bytes. A header that is all
// right but for its kind becomes one of state.
func AppendState(dst []byte, h *Header, body []byte) ([]byte, error) {
	h.Kind = KindState
	return h.put(dst, len(body), func(dst []byte) []byte { return append(dst, body...) })
}

// put appends a record whose body has n bytes.
func (h *Header) put(dst []byte, n int, body func([]byte) []byte) ([]byte, error) {
	if wrong := h.check(); wrong != "" {
		return dst, fmt.Errorf("append record: %s: %w", wrong, ErrInvalid)
	}
	if len(h.Topic) > MaxTopic {
		return dst, fmt.Errorf("append record: topic of %d bytes: %w", len(h.Topic), ErrTooLarge)
	}
	size := HeaderSize + len(h.Topic) + n
	if size > MaxSize {
		return dst, fmt.Errorf("append record: %d bytes, at most %d: %w", size, MaxSize, ErrTooLarge)
	}
	h.Length = uint32(size)
	at := len(dst)
	dst = h.append(dst)
	if body != nil {
		dst = body(dst)
	}
	b := dst[at:]
	h.Checksum = crc32.Checksum(b[lengthAt:], table())
	binary.BigEndian.PutUint32(b[checksumAt:], h.Checksum)
	SetMark(b, 0)
	return dst, nil
}

// Body returns what is behind the topic in the record that b begins with and whose header
// is h: of state, all that it says.
func Body(b []byte, h *Header) []byte {
	return b[HeaderSize+len(h.Topic) : h.Length : h.Length]
}

func (h *Header) append(dst []byte) []byte {
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0) // mark and check
	dst = append(dst, magic...)
	dst = append(dst, 0, 0, 0, 0) // checksum
	dst = binary.BigEndian.AppendUint32(dst, h.Length)
	dst = binary.BigEndian.AppendUint32(dst, h.Link)
	dst = binary.BigEndian.AppendUint64(dst, h.Offset)
	dst = binary.BigEndian.AppendUint64(dst, h.Epoch)
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.StoreTime))
	dst = append(dst, byte(h.Kind), byte(len(h.Topic)), 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, h.Queue)
	dst = binary.BigEndian.AppendUint64(dst, h.QueueOffset)
	return append(dst, h.Topic...)
}

// Parse reads the header of the record that b begins with, and checks the whole record's
// checksum. What is behind the record is not looked at. The body of a message is
// looked at by [Decode] alone.
func Parse(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, fmt.Errorf("parse record: %d bytes: %w", len(b), ErrShort)
	}
	if string(b[magicAt:magicAt+len(magic)]) != magic {
		return Header{}, fmt.Errorf("parse record: no magic number: %w", ErrInvalid)
	}
	length := binary.BigEndian.Uint32(b[lengthAt:])
	switch {
	case length < HeaderSize || length > MaxSize:
		return Header{}, fmt.Errorf("parse record: length %d: %w", length, ErrInvalid)
	case uint64(length) > uint64(len(b)):
		return Header{}, fmt.Errorf("parse record: %d of %d bytes: %w", len(b), length, ErrShort)
	}
	b = b[:length]
	h := Header{
		Length:      length,
		Checksum:    binary.BigEndian.Uint32(b[checksumAt:]),
		Link:        binary.BigEndian.Uint32(b[linkAt:]),
		Offset:      binary.BigEndian.Uint64(b[offsetAt:]),
		Epoch:       binary.BigEndian.Uint64(b[epochAt:]),
		StoreTime:   int64(binary.BigEndian.Uint64(b[timeAt:])),
		Kind:        Kind(b[kindAt]),
		Queue:       binary.BigEndian.Uint32(b[queueAt:]),
		QueueOffset: binary.BigEndian.Uint64(b[queueOffsetAt:]),
	}
	if sum := crc32.Checksum(b[lengthAt:], table()); sum != h.Checksum {
		return Header{}, fmt.Errorf("parse record: checksum %08x, not %08x: %w", sum, h.Checksum, ErrInvalid)
	}
	topic := int(b[topicLengthAt])
	switch {
	case HeaderSize+topic > len(b):
		return Header{}, fmt.Errorf("parse record: topic of %d bytes in %d: %w", topic, len(b), ErrInvalid)
	case h.Kind == KindStart && len(b) != HeaderSize:
		return Header{}, fmt.Errorf("parse record: start of an epoch of %d bytes: %w", len(b), ErrInvalid)
	case b[zeroAt] != 0 || b[zeroAt+1] != 0:
		return Header{}, fmt.Errorf("parse record: reserved bytes are set: %w", ErrInvalid)
	}
	h.Topic = b[HeaderSize : HeaderSize+topic : HeaderSize+topic]
	if wrong := h.check(); wrong != "" {
		return Header{}, fmt.Errorf("parse record: %s: %w", wrong, ErrInvalid)
	}
	return h, nil
}

// FitsLength tells whether the checksum of the record that b begins with would be right if
// it were n bytes long: what is wrong with it is its length then.
func FitsLength(b []byte, n int) bool {
	if len(b) < n || n < HeaderSize || n > MaxSize {
		return false
	}
	sum := crc32.Checksum(binary.BigEndian.AppendUint32(nil, uint32(n)), table())
	return crc32.Update(sum, table(), b[lengthAt+4:n]) == binary.BigEndian.Uint32(b[checksumAt:])
}

// SizeOf returns the length that the record at the begin of b claims, unchecked but for
// its bounds; b has at least [HeaderSize] bytes. It tells a reader how much to read.
func SizeOf(b []byte) (int, bool) {
	if len(b) < HeaderSize || string(b[magicAt:magicAt+len(magic)]) != magic {
		return 0, false
	}
	n := binary.BigEndian.Uint32(b[lengthAt:])
	return int(n), n >= HeaderSize && n <= MaxSize
}
