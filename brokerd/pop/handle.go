package pop

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// Handle is a receipt: it names a delivery of a message to a consumer group, and the
// broker group that has it, so that any broker can pass it on.
type Handle struct {
	BrokerGroup string // 1 to [MaxName] bytes
	Key
	Offset uint64
	Nonce  uint64
}

// As text a handle is base64 (RFC 4648, for URLs, unpadded) of
//
//	+---------+--------------+----------------+-------+-------+--------+-------+--------+
//	| version | broker group | consumer group | topic | queue | offset | nonce | check  |
//	+---------+--------------+----------------+-------+-------+--------+-------+--------+
//
// with a CRC-32C of all before it as check: it finds handles that were cut or mangled.
// It is no protection against forgery.
const handleVersion = 1

// MaxHandle is the length of the longest handle as text.
const MaxHandle = (1 + 3*(1+MaxName) + 5 + 10 + 8 + 4) * 4 / 3

func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// String returns the handle as text.
func (h Handle) String() string {
	b := make([]byte, 1, 64)
	b[0] = handleVersion
	b = appendName(appendName(appendName(b, h.BrokerGroup), h.Group), h.Topic)
	b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(h.Queue)), h.Offset)
	b = binary.BigEndian.AppendUint64(b, h.Nonce)
	b = binary.BigEndian.AppendUint32(b, castagnoli(b))
	return base64.RawURLEncoding.EncodeToString(b)
}

// ParseHandle reads a handle's text.
func ParseHandle(text string) (Handle, error) {
	if len(text) > MaxHandle {
		return Handle{}, fmt.Errorf("parse receipt handle: %d bytes: %w", len(text), ErrInvalid)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < 4 {
		return Handle{}, fmt.Errorf("parse receipt handle: not base64: %w", ErrInvalid)
	}
	b, check := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if castagnoli(b) != check {
		return Handle{}, fmt.Errorf("parse receipt handle: checksum: %w", ErrInvalid)
	}
	r := &reader{rest: b}
	version := r.byte()
	h := Handle{BrokerGroup: r.name(), Key: Key{Group: r.name(), Topic: r.name(), Queue: uint32(r.number(math.MaxInt32))}}
	h.Offset, h.Nonce = r.number(maxOffset), r.nonce()
	if !r.done() || version != handleVersion || h.BrokerGroup == "" || h.check() != "" {
		return Handle{}, fmt.Errorf("parse receipt handle: version %d: %w", version, ErrInvalid)
	}
	return h, nil
}
