package record

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Message is what a producer sent, beside its topic and queue. Behind the topic it is
//
//	+------+-------------+-----------+------------+----+-----+------+------+-----+------------+------+
//	| flag | system flag | born time | born host  | id | tag | keys | ...  | ... | properties | body |
//	+------+-------------+-----------+------------+----+-----+------+------+-----+------------+------+
//	   4         4            8         1 + n      1+n  2+n     2   2+n each         2  2+n, 2+n   4+n
//
// where each n is a length before the bytes themselves, and keys and properties begin
// with how many there are. The body ends the record.
type Message struct {
	Flag       uint32 // the producer's own, of remoting clients
	SystemFlag uint32 // RocketMQ's sysFlag: compressed, transaction's state, ...
	BornTime   int64  // when the producer made it, in ms since 1970 (UTC), by its own clock
	BornHost   string // the producer's address, at most 255 bytes
	ID         string // made by the producer (UNIQ_KEY), at most 255 bytes
	Tag        string // at most 65,535 bytes, like all that follow but for the body
	Keys       []string
	Properties []Property // in the producer's order
	Body       []byte     // of a decoded message it lies in the record's bytes
}

// Property is a name and its value.
type Property struct{ Key, Value string }

// fixedSize is that of a message of which all is empty.
const fixedSize = 4 + 4 + 8 + 1 + 1 + 2 + 2 + 2 + 4

// size returns how many bytes the message takes, and whether each field fits.
func (m *Message) size() (int, error) {
	if len(m.BornHost) > math.MaxUint8 || len(m.ID) > math.MaxUint8 {
		return 0, fmt.Errorf("born host of %d and id of %d bytes: %w", len(m.BornHost), len(m.ID), ErrTooLarge)
	}
	if len(m.Keys) > math.MaxUint16 || len(m.Properties) > math.MaxUint16 {
		return 0, fmt.Errorf("%d keys, %d properties: %w", len(m.Keys), len(m.Properties), ErrTooLarge)
	}
	n := fixedSize + len(m.BornHost) + len(m.ID) + len(m.Tag) + len(m.Body)
	longest := len(m.Tag)
	for _, k := range m.Keys {
		n += 2 + len(k)
		longest = max(longest, len(k))
	}
	for _, p := range m.Properties {
		n += 4 + len(p.Key) + len(p.Value)
		longest = max(longest, len(p.Key), len(p.Value))
	}
	if longest > math.MaxUint16 {
		return 0, fmt.Errorf("tag, key or property of %d bytes: %w", longest, ErrTooLarge)
	}
	return n, nil
}

func (m *Message) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, m.Flag)
	dst = binary.BigEndian.AppendUint32(dst, m.SystemFlag)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.BornTime))
	dst = append(append(dst, byte(len(m.BornHost))), m.BornHost...)
	dst = append(append(dst, byte(len(m.ID))), m.ID...)
	dst = appendText(dst, m.Tag)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(m.Keys)))
	for _, k := range m.Keys {
		dst = appendText(dst, k)
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(m.Properties)))
	for _, p := range m.Properties {
		dst = appendText(appendText(dst, p.Key), p.Value)
	}
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(m.Body))), m.Body...)
}

func appendText(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

// Decode reads the record that b begins with, like [Parse], and its message if it is one.
// The body must be as long as it says, to the byte.
func Decode(b []byte) (Header, *Message, error) {
	h, err := Parse(b)
	if err != nil || h.Kind != KindMessage {
		return h, nil, err
	}
	d := reader{rest: b[HeaderSize+len(h.Topic) : h.Length]}
	m := &Message{
		Flag:       uint32(d.number(4)),
		SystemFlag: uint32(d.number(4)),
		BornTime:   int64(d.number(8)),
		BornHost:   string(d.bytes(1)),
		ID:         string(d.bytes(1)),
		Tag:        string(d.bytes(2)),
	}
	// A count is compared with what is there before anything of its size is made.
	if n := int(d.number(2)); d.holds(n, 2) {
		m.Keys = make([]string, 0, n)
		for range n {
			m.Keys = append(m.Keys, string(d.bytes(2)))
		}
	}
	if n := int(d.number(2)); d.holds(n, 4) {
		m.Properties = make([]Property, 0, n)
		for range n {
			m.Properties = append(m.Properties, Property{string(d.bytes(2)), string(d.bytes(2))})
		}
	}
	m.Body = d.bytes(4)
	if d.failed || len(d.rest) > 0 {
		return Header{}, nil, fmt.Errorf("decode message: lengths do not add up: %w", ErrInvalid)
	}
	return h, m, nil
}

// reader reads fields one after the other. After the first that is not there all are
// empty, so that one check at the end is enough.
type reader struct {
	rest   []byte
	failed bool
}

// number reads one of 1, 2, 4 or 8 bytes.
func (r *reader) number(size int) (n uint64) {
	for _, c := range r.take(size) {
		n = n<<8 | uint64(c)
	}
	return n
}

// bytes reads a length of that size, and as many bytes; nil if there are none.
func (r *reader) bytes(size int) []byte {
	return r.take(int(r.number(size)))
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

// holds tells whether n things of at least so many bytes each may follow; there are
// none to be made if n is 0.
func (r *reader) holds(n, each int) bool {
	if n*each > len(r.rest) {
		r.failed = true
	}
	return !r.failed && n > 0
}
