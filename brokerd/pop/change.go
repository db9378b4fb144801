package pop

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
)

// Key names a position: how far a consumer group is in a queue.
type Key struct {
	Group, Topic string // 1 to [MaxName] bytes each
	Queue        uint32 // at most 2^31-1
}

func (k Key) check() string {
	switch {
	case k.Group == "" || len(k.Group) > MaxName:
		return "consumer group's name"
	case k.Topic == "" || len(k.Topic) > MaxName:
		return "topic's name"
	case k.Queue > math.MaxInt32:
		return "queue"
	}
	return ""
}

// A body is what one state record does, as a whole. The bytes are
//
//	+---------+-------+--------------------- - -
//	| version | count | position or drop, each
//	+---------+-------+--------------------- - -
//	     1      number
//
//	+---+-------+-------+-------+-------+------+-------+- - - - - - - - - - - - - - - -+
//	| 1 | group | topic | queue | first | next | count | until, nonce, claims         |
//	+---+-------+-------+-------+-------+------+-------+- - - - - - - - - - - - - - - -+
//	+-------+- - - - - - - +-------+- - - - - - - - - - - - - - - - - -+
//	| count | done offsets | count | offset, nonce, new nonce, until   |
//	+-------+- - - - - - - +-------+- - - - - - - - - - - - - - - - - -+
//
//	+---+-------+-------+
//	| 2 | group | topic |
//	+---+-------+-------+
//
// where until and nonce of claims are there if there are any, and a claim is an offset and
// an attempt.
const (
	bodyVersion  = 1
	kindPosition = 1
	kindDrop     = 2

	minPosition = 1 + 2 + 2 + 1 + 1 + 1 + 3
	minDrop     = 1 + 1 + 1
)

// change is what a body does to one position, in the order of the fields, or to all
// positions of a group or a topic.
type change struct {
	Key
	Drop bool // forget the positions of the group (if not empty) and topic (if not empty)

	First  uint64   // what is below it has been deleted from the queue
	Done   []uint64 // offsets in flight that are settled
	Until  int64    // when claims become visible again, in ms since 1970
	Nonce  uint64   // of all claims
	Claims []claim
	Delays []delay
	Next   uint64 // nothing below it will be delivered for the first time; 0: as it is
}

// claim gives a message to a consumer: the next one, or one in flight again.
type claim struct {
	Offset  uint64
	Attempt uint32 // 1 for the first delivery
}

// delay moves the time at which a message in flight becomes visible.
type delay struct {
	Offset          uint64
	Nonce, NewNonce uint64 // equal if the receipt handle stays good
	Until           int64
}

func (c *change) append(dst []byte) []byte {
	if c.Drop {
		return appendName(appendName(append(dst, kindDrop), c.Group), c.Topic)
	}
	dst = appendName(appendName(append(dst, kindPosition), c.Group), c.Topic)
	dst = binary.AppendUvarint(dst, uint64(c.Queue))
	dst = binary.AppendUvarint(dst, c.First)
	dst = binary.AppendUvarint(dst, c.Next)
	dst = binary.AppendUvarint(dst, uint64(len(c.Claims)))
	if len(c.Claims) > 0 {
		dst = binary.AppendUvarint(dst, uint64(c.Until))
		dst = binary.BigEndian.AppendUint64(dst, c.Nonce)
	}
	for _, k := range c.Claims {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, k.Offset), uint64(k.Attempt))
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.Done)))
	for _, o := range c.Done {
		dst = binary.AppendUvarint(dst, o)
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.Delays)))
	for _, d := range c.Delays {
		dst = binary.AppendUvarint(dst, d.Offset)
		dst = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, d.Nonce), d.NewNonce)
		dst = binary.AppendUvarint(dst, uint64(d.Until))
	}
	return dst
}

// appendBody encodes changes; nil if there are none.
func appendBody(changes []change) []byte {
	if len(changes) == 0 {
		return nil
	}
	dst := binary.AppendUvarint([]byte{bodyVersion}, uint64(len(changes)))
	for i := range changes {
		dst = changes[i].append(dst)
	}
	return dst
}

func parseBody(b []byte) ([]change, error) {
	r := &reader{rest: b}
	if v := r.byte(); v != bodyVersion {
		return nil, fmt.Errorf("parse consumer state record: version %d: %w", v, ErrInvalid)
	}
	n := r.count(min(minPosition, minDrop))
	changes := make([]change, 0, min(n, 64))
	for range n {
		c := r.change()
		if r.failed {
			break
		}
		changes = append(changes, c)
	}
	if !r.done() || len(changes) == 0 {
		return nil, fmt.Errorf("parse consumer state record of %d bytes: %w", len(b), ErrInvalid)
	}
	return changes, nil
}

func (r *reader) change() (c change) {
	switch r.byte() {
	case kindDrop:
		c = change{Key: Key{Group: r.name(), Topic: r.name()}, Drop: true}
		r.failed = r.failed || c.Group == "" && c.Topic == ""
		return c
	case kindPosition:
	default:
		r.failed = true
		return c
	}
	c.Key = Key{Group: r.name(), Topic: r.name(), Queue: uint32(r.number(math.MaxInt32))}
	r.failed = r.failed || c.check() != ""
	c.First, c.Next = r.number(maxOffset), r.number(maxOffset)
	if n := r.count(2); n > 0 {
		c.Until, c.Nonce = int64(r.number(maxOffset)), r.nonce()
		c.Claims = make([]claim, 0, n)
		for range n {
			c.Claims = append(c.Claims, claim{r.number(maxOffset - 1), uint32(r.number(math.MaxUint32))})
		}
	}
	if n := r.count(1); n > 0 {
		c.Done = make([]uint64, 0, n)
		for range n {
			c.Done = append(c.Done, r.number(maxOffset))
		}
	}
	if n := r.count(18); n > 0 {
		c.Delays = make([]delay, 0, n)
		for range n {
			c.Delays = append(c.Delays, delay{r.number(maxOffset), r.nonce(), r.nonce(), int64(r.number(maxOffset))})
		}
	}
	return c
}

func (k Key) compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Group, o.Group), cmp.Compare(k.Topic, o.Topic), cmp.Compare(k.Queue, o.Queue))
}
