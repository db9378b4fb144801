package pop

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
)

var (
	// ErrInvalid: bytes that no encoder of this package makes.
	ErrInvalid = errors.New("invalid encoding")
	// ErrConflict: a body that does not follow from the state. The replica's state or
	// log differs from the master's; the state is not to be used any more.
	ErrConflict = errors.New("change does not fit the state")
	// ErrTooMany: a position more than [Limits] allows.
	ErrTooMany = errors.New("too many consumer positions")
)

// MaxName is the length in bytes of the longest name of a consumer group, topic or broker
// group.
const MaxName = 255

// maxOffset bounds queue offsets, queues and times: what clients hold in an int64.
const maxOffset = math.MaxInt64

// Numbers are uvarints in their shortest form, nonces 8 bytes big endian, and a name is
// its length in one byte and as many bytes.

func appendName(dst []byte, s string) []byte { return append(append(dst, byte(len(s))), s...) }

// reader reads fields one after the other. After the first that is wrong all are zero, so
// that one check at the end is enough.
type reader struct {
	rest   []byte
	failed bool
}

// number reads a number of at most limit.
func (r *reader) number(limit uint64) uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || n != max(1, (bits.Len64(v)+6)/7) || v > limit {
		r.failed = true
	}
	if r.failed {
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// count reads how many things of at least so many bytes each follow.
func (r *reader) count(each int) int {
	return int(r.number(uint64(len(r.rest) / each)))
}

func (r *reader) nonce() uint64 {
	b := r.take(8)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func (r *reader) name() string {
	if len(r.rest) == 0 {
		r.failed = true
		return ""
	}
	n := int(r.rest[0])
	r.take(1)
	return string(r.take(n))
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.failed = true
	}
	if r.failed {
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// done tells whether all was read, and nothing was wrong.
func (r *reader) done() bool { return !r.failed && len(r.rest) == 0 }
