package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The messages on the wire. All numbers are big-endian uint64, but for the first two
// bytes:
//
//	| version 1 | kind 1 | fields 8 each, in the order of the struct |
//
//	1 Append   epoch of from to confirm           (the records follow it outside)
//	2 Contact  epoch boot count base end starts cuts, then starts times: epoch offset,
//	           then cuts times: epoch from to
//	3 Answer   epoch boot count at base reset     (reset is 0 or 1)
//	4 Ack      epoch incarnation end
//	5 Refusal  epoch
//
// Bytes too many are an error, and so is what no replica can have said.
const (
	codecVersion = 1

	kindAppend  = 1
	kindContact = 2
	kindAnswer  = 3
	kindAck     = 4
	kindRefusal = 5
)

// MaxList is the most epochs and the most cuts of a Contact.
const MaxList = 1 << 16

// MaxMessage is the longest encoded message.
const MaxMessage = 2 + 8*(7+2*MaxList+3*MaxList)

// ErrMessage is returned for bytes that are no message, and a message that is none.
var ErrMessage = errors.New("no message of a replica")

// Marshal returns a message's bytes. A message with a list that is too long is an error.
func Marshal(m Message) ([]byte, error) {
	var kind byte
	var n []uint64
	switch m := m.(type) {
	case Append:
		kind, n = kindAppend, []uint64{m.Epoch, m.Of, m.From, m.To, m.Confirm}
	case Contact:
		kind, n = kindContact, []uint64{m.Epoch, m.Number.Boot, m.Number.Count, m.Log.Base, m.Log.End, uint64(len(m.Log.Starts)), uint64(len(m.Cuts))}
		for _, s := range m.Log.Starts {
			n = append(n, s.Epoch, s.Offset)
		}
		for _, c := range m.Cuts {
			n = append(n, c.Epoch, c.From, c.To)
		}
	case Answer:
		kind, n = kindAnswer, []uint64{m.Epoch, m.Number.Boot, m.Number.Count, m.At, m.Base, 0}
		if m.Reset {
			n[5] = 1
		}
	case Ack:
		kind, n = kindAck, []uint64{m.Epoch, m.Incarnation, m.End}
	case Refusal:
		kind, n = kindRefusal, []uint64{m.Epoch}
	}
	if err := check(m); err != nil {
		return nil, fmt.Errorf("marshal %T: %w", m, err)
	}
	out := make([]byte, 2, 2+8*len(n))
	out[0], out[1] = codecVersion, kind
	for _, v := range n {
		out = binary.BigEndian.AppendUint64(out, v)
	}
	return out, nil
}

// Unmarshal reads a message that is all of b.
func Unmarshal(b []byte) (Message, error) {
	if len(b) < 2 || (len(b)-2)%8 != 0 || len(b) > MaxMessage {
		return nil, fmt.Errorf("unmarshal message of %d bytes: %w", len(b), ErrMessage)
	}
	if b[0] != codecVersion {
		return nil, fmt.Errorf("unmarshal message of version %d: %w", b[0], ErrMessage)
	}
	f := fields{rest: b[2:]}
	var m Message
	switch b[1] {
	case kindAppend:
		m = Append{f.next(), f.next(), f.next(), f.next(), f.next()}
	case kindContact:
		m = f.contact()
	case kindAnswer:
		a := Answer{Epoch: f.next(), Number: Number{f.next(), f.next()}, At: f.next(), Base: f.next()}
		a.Reset = f.flag()
		m = a
	case kindAck:
		m = Ack{f.next(), f.next(), f.next()}
	case kindRefusal:
		m = Refusal{f.next()}
	default:
		return nil, fmt.Errorf("unmarshal message of kind %d: %w", b[1], ErrMessage)
	}
	if f.bad || len(f.rest) != 0 {
		return nil, fmt.Errorf("unmarshal %T of %d bytes: %w", m, len(b), ErrMessage)
	}
	if err := check(m); err != nil {
		return nil, fmt.Errorf("unmarshal %T: %w", m, err)
	}
	return m, nil
}

// fields reads numbers; bad stays set once one was missing or not what it must be.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) next() uint64 {
	if len(f.rest) < 8 {
		f.bad = true
		return 0
	}
	v := binary.BigEndian.Uint64(f.rest)
	f.rest = f.rest[8:]
	return v
}

func (f *fields) flag() bool {
	v := f.next()
	f.bad = f.bad || v > 1
	return v == 1
}

// contact reads a Contact. Its lists are all that follows, so nothing is allocated that
// did not come.
func (f *fields) contact() Contact {
	m := Contact{Epoch: f.next(), Number: Number{f.next(), f.next()}, Log: Log{Base: f.next(), End: f.next()}}
	starts, cuts := f.next(), f.next()
	if f.bad || starts > MaxList || cuts > MaxList || int(8*(2*starts+3*cuts)) != len(f.rest) {
		f.bad = true
		return m
	}
	for range starts {
		m.Log.Starts = append(m.Log.Starts, Start{f.next(), f.next()})
	}
	for range cuts {
		m.Cuts = append(m.Cuts, Range{f.next(), f.next(), f.next()})
	}
	return m
}

// check says whether a replica can have said this.
func check(m Message) error {
	if m == nil || m.epoch() == 0 {
		return fmt.Errorf("check epoch: %w", ErrMessage)
	}
	switch m := m.(type) {
	case Append:
		if m.From > m.To || (m.Of == 0) != (m.From == m.To) || m.Of > m.Epoch {
			return fmt.Errorf("check records [%d, %d) of epoch %d under %d: %w", m.From, m.To, m.Of, m.Epoch, ErrMessage)
		}
	case Contact:
		if len(m.Log.Starts) > MaxList || len(m.Cuts) > MaxList || m.Log.Last() > m.Epoch {
			return fmt.Errorf("check %d epochs up to %d under %d, %d cuts: %w", len(m.Log.Starts), m.Log.Last(), m.Epoch, len(m.Cuts), ErrMessage)
		}
		for _, c := range m.Cuts {
			if c.Epoch == 0 || c.From >= c.To {
				return fmt.Errorf("check cut %v: %w", c, ErrMessage)
			}
		}
		return m.Log.Check()
	}
	return nil
}
