package commitlog

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"holdfast/brokerd/record"
)

// An index file says where the messages of each queue lie in one segment, which will not
// grow any more. All of it follows from the segment; it is made anew if it is damaged.
//
//	+-------+----------+--------+------+-----+------+--------+---------+ - - +------------+ - -
//	| magic | checksum | length | base | end | link | queues | queue   | ... | places     | ...
//	+-------+----------+--------+------+-----+------+--------+---------+ - - +------------+ - -
//	    4        4         4       8      8      4      4     1+n+4+8+4+4      8 each
//
// length is of all before the places, the checksum CRC-32C over the length and all of
// that. A queue is topic (a length before its bytes), queue, queue offset of its first
// message here, how many there are, and the CRC-32C of their places, which lie one behind
// the other in the queues' order. A place is position (from the base offset) and size of
// a record, 4 bytes each. Numbers are big endian.
//
// A queue's places are checked when they are used for the first time; and a record says
// itself of which queue it is and what its number there is.
const (
	indexMagic = "HFI1"
	indexFixed = 4 + 4 + 4 + 8 + 8 + 4 + 4
	indexQueue = 1 + 1 + 4 + 8 + 4 + 4 // with the shortest topic
	placeSize  = 8
)

// sealed is the part of an index file before the places.
type sealed struct {
	base, end uint64
	link      uint32 // checksum of the segment's last record
	queues    []sealedQueue
}

// sealedQueue is one queue in an index file.
type sealedQueue struct {
	queueKey
	first  uint64 // queue offset
	count  uint32
	places uint32 // CRC-32C
	at     int64  // where the places lie in the file
}

// appendIndex appends an index file's bytes for queues in order; places are those of the
// queues, one by one.
func appendIndex(dst []byte, s *sealed, places func(i int) []place) []byte {
	at := len(dst)
	dst = append(dst, indexMagic...)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0) // checksum and length
	dst = binary.BigEndian.AppendUint64(dst, s.base)
	dst = binary.BigEndian.AppendUint64(dst, s.end)
	dst = binary.BigEndian.AppendUint32(dst, s.link)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s.queues)))
	sums := make([]int, len(s.queues))
	for i, q := range s.queues {
		dst = append(append(dst, byte(len(q.topic))), q.topic...)
		dst = binary.BigEndian.AppendUint32(dst, q.queue)
		dst = binary.BigEndian.AppendUint64(dst, q.first)
		dst = binary.BigEndian.AppendUint32(dst, q.count)
		sums[i] = len(dst)
		dst = append(dst, 0, 0, 0, 0)
	}
	length := len(dst) - at
	for i := range s.queues {
		begin := len(dst)
		for _, p := range places(i) {
			dst = binary.BigEndian.AppendUint32(dst, p.at)
			dst = binary.BigEndian.AppendUint32(dst, p.size)
		}
		binary.BigEndian.PutUint32(dst[sums[i]:], checksum(dst[begin:]))
	}
	head := dst[at : at+length]
	binary.BigEndian.PutUint32(head[8:], uint32(length))
	binary.BigEndian.PutUint32(head[4:], checksum(head[8:]))
	return dst
}

// parseIndex reads what is before the places. b is that, or begins with it; size is
// the whole file's.
func parseIndex(b []byte, size int64) (*sealed, error) {
	if len(b) < indexFixed || string(b[:4]) != indexMagic {
		return nil, fmt.Errorf("parse index: no magic number: %w", errFormat)
	}
	length := binary.BigEndian.Uint32(b[8:])
	if length < indexFixed || int64(length) > int64(len(b)) {
		return nil, fmt.Errorf("parse index: length %d of %d bytes: %w", length, len(b), errFormat)
	}
	b = b[:length]
	if checksum(b[8:]) != binary.BigEndian.Uint32(b[4:]) {
		return nil, fmt.Errorf("parse index: checksum: %w", errFormat)
	}
	r := reader{rest: b[12:]}
	s := &sealed{base: r.number(8), end: r.number(8), link: uint32(r.number(4))}
	n := int(r.number(4))
	if !r.holds(n, indexQueue) {
		return nil, fmt.Errorf("parse index: %d queues in %d bytes: %w", n, length, errFormat)
	}
	s.queues = make([]sealedQueue, 0, n)
	at := int64(length)
	for i := range n {
		q := sealedQueue{queueKey: queueKey{topic: string(r.take(int(r.number(1))))}, at: at}
		q.queue, q.first, q.count, q.places = uint32(r.number(4)), r.number(8), uint32(r.number(4)), uint32(r.number(4))
		at += int64(q.count) * placeSize
		if q.count == 0 || q.first > math.MaxInt64-uint64(q.count) || i > 0 && q.compare(s.queues[i-1].queueKey) <= 0 {
			return nil, fmt.Errorf("parse index: queue %s/%d: %w", q.topic, q.queue, errFormat)
		}
		s.queues = append(s.queues, q)
	}
	if r.failed || len(r.rest) > 0 || at != size || s.end < s.base {
		return nil, fmt.Errorf("parse index: lengths do not add up: %w", errFormat)
	}
	return s, nil
}

// openIndex opens the index file of a segment that ends at an offset with a link. An error
// of errFormat says that it is not there, or not to be used.
func openIndex(fs FS, base, end uint64, link uint32) (File, *sealed, error) {
	f, err := fs.Open(indexName(base), false)
	if err != nil {
		return nil, nil, fmt.Errorf("open index: %w", err)
	}
	s, err := readIndex(f)
	if err == nil && (s.base != base || s.end != end || s.link != link) {
		err = fmt.Errorf("index of [%d, %d) for [%d, %d): %w", s.base, s.end, base, end, errFormat)
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, s, nil
}

func readIndex(f File) (*sealed, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	head := make([]byte, indexFixed)
	if err := readFull(f, head, 0); err != nil {
		return nil, err
	}
	length := int64(binary.BigEndian.Uint32(head[8:]))
	if length < indexFixed || length > size {
		return nil, fmt.Errorf("read index: length %d of %d bytes: %w", length, size, errFormat)
	}
	b := make([]byte, length)
	if err := readFull(f, b, 0); err != nil {
		return nil, err
	}
	return parseIndex(b, size)
}

// readPlaces reads n places of a queue from the i-th on.
func readPlaces(f File, at int64, i, n int) ([]place, error) {
	b := make([]byte, n*placeSize)
	if err := readFull(f, b, at+int64(i)*placeSize); err != nil {
		return nil, err
	}
	return parsePlaces(b), nil
}

// checkPlaces reads all n places of a queue and compares their checksum.
func checkPlaces(f File, at int64, n int, sum uint32) error {
	b := make([]byte, n*placeSize)
	if err := readFull(f, b, at); err != nil {
		return err
	}
	if checksum(b) != sum {
		return fmt.Errorf("checksum of places at %d: %w", at, errFormat)
	}
	return nil
}

func parsePlaces(b []byte) []place {
	out := make([]place, len(b)/placeSize)
	for i := range out {
		out[i] = place{binary.BigEndian.Uint32(b[i*placeSize:]), binary.BigEndian.Uint32(b[i*placeSize+4:])}
	}
	return out
}

// sealContent returns the index of a segment, from what a walk over it brought.
func sealContent(base uint64, c *content) (*sealed, []byte) {
	s := &sealed{base: base, end: c.end, link: c.link}
	for k, places := range c.places {
		s.queues = append(s.queues, sealedQueue{queueKey: k, first: c.next[k] - uint64(len(places)), count: uint32(len(places))})
	}
	slices.SortFunc(s.queues, func(a, b sealedQueue) int { return a.compare(b.queueKey) })
	return s, appendIndex(nil, s, func(i int) []place { return c.places[s.queues[i].queueKey] })
}

// fits tells whether a record is the one that an index says is there.
func (k queueKey) fits(h *record.Header, number uint64) bool {
	return h.Kind == record.KindMessage && string(h.Topic) == k.topic && h.Queue == k.queue && h.QueueOffset == number
}
