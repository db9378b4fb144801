package record_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"math"
	"reflect"
	"strings"
	"testing"

	"holdfast/brokerd/record"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// golden are records with their bytes, written by hand; checksum and mark's check are as
// another implementation of CRC-32C computes them.
func golden() []struct {
	name string
	h    record.Header
	m    *record.Message
	hex  string
} {
	return []struct {
		name string
		h    record.Header
		m    *record.Message
		hex  string
	}{
		{"first start", record.Header{Kind: record.KindStart, Epoch: 7, StoreTime: 1},
			nil, `00000000 00000000 48465231 00000000 00000040 00000000
				0000000000000000 0000000000000007 0000000000000001 01 00 0000 00000000 0000000000000000`},
		{"message with all", record.Header{Kind: record.KindMessage, Link: 0x01020304, Offset: 0x0102030405060708, Epoch: 1<<64 - 1,
			StoreTime: -2, Topic: []byte("t1"), Queue: math.MaxInt32, QueueOffset: math.MaxInt64},
			&record.Message{Flag: 5, SystemFlag: 1, BornTime: 9, BornHost: "h:1", ID: "01", Tag: "a", Keys: []string{"k", ""},
				Properties: []record.Property{{Key: "x", Value: "yz"}}, Body: []byte("hello")},
			`00000000 00000000 48465231 00000000 00000075 01020304
				0102030405060708 ffffffffffffffff fffffffffffffffe 02 02 0000 7fffffff 7fffffffffffffff
				7431 00000005 00000001 0000000000000009 03 683a31 02 3031 0001 61
				0002 0001 6b 0000 0001 0001 78 0002 797a 00000005 68656c6c6f`},
		{"empty message", record.Header{Kind: record.KindMessage, Offset: 64, Epoch: 1, Topic: []byte("t")},
			&record.Message{},
			`00000000 00000000 48465231 00000000 0000005d 00000000
				0000000000000040 0000000000000001 0000000000000000 02 01 0000 00000000 0000000000000000
				74 00000000 00000000 0000000000000000 00 00 0000 0000 0000 00000000`},
	}
}

// crc is CRC-32C bit by bit, as the polynomial says.
func crc(b []byte) uint32 {
	sum := ^uint32(0)
	for _, c := range b {
		sum ^= uint32(c)
		for range 8 {
			sum = sum>>1 ^ 0x82f63b78*(sum&1)
		}
	}
	return ^sum
}

// sealed returns b with length, checksum and mark's check as they must be.
func sealed(b []byte) []byte {
	b = bytes.Clone(b)
	binary.BigEndian.PutUint32(b[16:], uint32(len(b)))
	binary.BigEndian.PutUint32(b[12:], crc(b[16:]))
	binary.BigEndian.PutUint32(b[4:], crc(append(bytes.Clone(b[:4]), b[12:16]...)))
	return b
}

func TestGolden(t *testing.T) {
	for _, g := range golden() {
		t.Run(g.name, func(t *testing.T) {
			text := unhex(t, g.hex)
			want := sealed(text)
			if n := binary.BigEndian.Uint32(text[16:]); n != uint32(len(text)) {
				t.Errorf("golden length %d of %d bytes", n, len(text))
			}
			h := g.h
			got, err := record.Append([]byte("before"), &h, g.m)
			if err != nil || !bytes.Equal(got, append([]byte("before"), want...)) {
				t.Fatalf("written %x, %v, want %x", got, err, want)
			}
			if h.Length != uint32(len(want)) || h.Checksum != crc(want[16:]) || h.End() != h.Offset+uint64(len(want)) {
				t.Errorf("header says length %d, checksum %08x", h.Length, h.Checksum)
			}
			back, m, err := record.Decode(append(bytes.Clone(want), "behind"...))
			if err != nil || !reflect.DeepEqual(m, g.m) || !equal(back, h) {
				t.Errorf("read %+v, %+v, %v", back, m, err)
			}
			if n, ok := record.SizeOf(want); !ok || n != len(want) {
				t.Errorf("SizeOf says %d, %v", n, ok)
			}
			if n, ok := record.Mark(want); !ok || n != 0 {
				t.Errorf("mark %d, %v", n, ok)
			}
		})
	}
}

func equal(a, b record.Header) bool {
	same := bytes.Equal(a.Topic, b.Topic)
	a.Topic, b.Topic = nil, nil
	return same && reflect.DeepEqual(a, b)
}

// TestEveryBit: no bit of a record can turn but those of the mark, which is found out.
func TestEveryBit(t *testing.T) {
	for _, g := range golden() {
		b := sealed(unhex(t, g.hex))
		for bit := range len(b) * 8 {
			damaged := bytes.Clone(b)
			damaged[bit/8] ^= 1 << (bit % 8)
			_, _, err := record.Decode(damaged)
			if bit >= 64 {
				if !errors.Is(err, record.ErrInvalid) && !errors.Is(err, record.ErrShort) {
					t.Errorf("%s: bit %d: %v", g.name, bit, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: bit %d of the mark: %v", g.name, bit, err)
			}
			if _, ok := record.Mark(damaged); ok {
				t.Errorf("%s: mark with bit %d turned was taken", g.name, bit)
			}
		}
	}
}

// TestMarkBelongsToRecord: a mark does not go with another record.
func TestMarkBelongsToRecord(t *testing.T) {
	a, b := sealed(unhex(t, golden()[0].hex)), sealed(unhex(t, golden()[2].hex))
	for _, n := range []uint32{0, 1, 1 << 20, record.Unmarked} {
		record.SetMark(a, n)
		if got, ok := record.Mark(a); !ok || got != n {
			t.Errorf("mark %d read as %d, %v", n, got, ok)
		}
		if _, err := record.Parse(a); err != nil {
			t.Errorf("marked %d: %v", n, err)
		}
	}
	copy(b[:8], a[:8])
	if _, ok := record.Mark(b); ok {
		t.Error("the mark of one record was taken for another's")
	}
	if _, ok := record.Mark(a[:63]); ok {
		t.Error("the mark of a record that is cut short was taken")
	}
}

// TestCutShort: a record that is not all there is short, however much of it there is.
func TestCutShort(t *testing.T) {
	for _, g := range golden() {
		b := sealed(unhex(t, g.hex))
		for n := range b {
			if _, _, err := record.Decode(b[:n:n]); !errors.Is(err, record.ErrShort) {
				t.Errorf("%s: %d of %d bytes: %v", g.name, n, len(b), err)
			}
		}
	}
}

// TestRefused: bytes whose checksum is right, and which are no record all the same.
func TestRefused(t *testing.T) {
	start, message := unhex(t, golden()[0].hex), unhex(t, golden()[1].hex)
	put := func(b []byte, at int, text string) []byte {
		b = bytes.Clone(b)
		copy(b[at:], unhex(t, text))
		return b
	}
	tests := []struct {
		name string
		b    []byte
	}{
		{"start with a topic", put(append(bytes.Clone(start), 't'), 49, "01")},
		{"start with a body", append(bytes.Clone(start), 0)},
		{"start in a queue", put(start, 52, "00000001")},
		{"start with a queue offset", put(start, 56, "0000000000000001")},
		{"no epoch", put(start, 32, "0000000000000000")},
		{"kind 0", put(start, 48, "00")},
		{"kind 4", put(message, 48, "04")},
		{"state with a topic", put(message, 48, "03")},
		{"state in a queue", put(put(start, 48, "03"), 52, "00000001")},
		{"message without a topic", put(message, 49, "00")},
		{"topic longer than the record", put(message, 49, "ff")},
		{"reserved byte", put(message, 50, "0001")},
		{"offset negative", put(message, 24, "8000000000000000")},
		{"queue negative", put(message, 52, "80000000")},
		{"queue offset negative", put(message, 56, "8000000000000000")},
		{"no body", put(message[:64+2], 49, "02")},
		{"byte behind the body", append(bytes.Clone(message), 0)},
		{"body longer", put(message, 64+44, "00000006")},
		{"body shorter", put(message, 64+44, "00000004")},
		{"keys without end", put(message, 64+2+16+4+3+3, "ffff")},
		{"properties without end", put(message, 64+2+16+4+3+3+7, "ffff")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, m, err := record.Decode(sealed(tt.b))
			if !errors.Is(err, record.ErrInvalid) || m != nil || !reflect.DeepEqual(h, record.Header{}) {
				t.Errorf("read %+v, %+v, %v", h, m, err)
			}
		})
	}
	for _, n := range []uint32{0, 63, record.MaxSize + 1, 1<<32 - 1} {
		b := sealed(message)
		binary.BigEndian.PutUint32(b[16:], n)
		if _, err := record.Parse(b); !errors.Is(err, record.ErrInvalid) {
			t.Errorf("length %d: %v", n, err)
		}
		if _, ok := record.SizeOf(b); ok {
			t.Errorf("length %d is a size", n)
		}
	}
	if _, ok := record.SizeOf(put(message, 8, "48465230")); ok {
		t.Error("a size without the magic number")
	}
}

func TestLimits(t *testing.T) {
	long := strings.Repeat("x", 1<<16)
	tests := []struct {
		name  string
		topic string
		m     record.Message
		want  error
	}{
		{"topic", long[:255], record.Message{}, nil},
		{"topic too long", long[:256], record.Message{}, record.ErrTooLarge},
		{"born host", "t", record.Message{BornHost: long[:255]}, nil},
		{"born host too long", "t", record.Message{BornHost: long[:256]}, record.ErrTooLarge},
		{"id", "t", record.Message{ID: long[:255]}, nil},
		{"id too long", "t", record.Message{ID: long[:256]}, record.ErrTooLarge},
		{"tag", "t", record.Message{Tag: long[:65535]}, nil},
		{"tag too long", "t", record.Message{Tag: long}, record.ErrTooLarge},
		{"key", "t", record.Message{Keys: []string{long[:65535]}}, nil},
		{"key too long", "t", record.Message{Keys: []string{"", long}}, record.ErrTooLarge},
		{"keys", "t", record.Message{Keys: make([]string, 65535)}, nil},
		{"keys too many", "t", record.Message{Keys: make([]string, 65536)}, record.ErrTooLarge},
		{"property name too long", "t", record.Message{Properties: []record.Property{{Key: long}}}, record.ErrTooLarge},
		{"property value too long", "t", record.Message{Properties: []record.Property{{Value: long}}}, record.ErrTooLarge},
		{"properties", "t", record.Message{Properties: make([]record.Property, 65535)}, nil},
		{"properties too many", "t", record.Message{Properties: make([]record.Property, 65536)}, record.ErrTooLarge},
		{"body", "t", record.Message{Body: make([]byte, record.MaxSize-64-1-28)}, nil},
		{"body too long", "t", record.Message{Body: make([]byte, record.MaxSize-64-1-27)}, record.ErrTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := record.Header{Kind: record.KindMessage, Epoch: 1, Topic: []byte(tt.topic)}
			b, err := record.Append(nil, &h, &tt.m)
			if !errors.Is(err, tt.want) || err != nil && len(b) > 0 {
				t.Fatalf("%d bytes, %v, want %v", len(b), err, tt.want)
			}
			if err != nil {
				return
			}
			if _, m, err := record.Decode(b); err != nil || len(m.Body) != len(tt.m.Body) || len(m.Keys) != len(tt.m.Keys) || len(m.Properties) != len(tt.m.Properties) {
				t.Errorf("read back: %v", err)
			}
		})
	}
}

// TestNotWritten: what Parse refuses is not written either.
func TestNotWritten(t *testing.T) {
	valid := record.Header{Kind: record.KindMessage, Epoch: 1, Topic: []byte("t")}
	tests := []struct {
		name string
		h    func(*record.Header)
		m    *record.Message
	}{
		{"no epoch", func(h *record.Header) { h.Epoch = 0 }, &record.Message{}},
		{"no topic", func(h *record.Header) { h.Topic = nil }, &record.Message{}},
		{"no message", func(*record.Header) {}, nil},
		{"start with a message", func(h *record.Header) { h.Kind, h.Topic = record.KindStart, nil }, &record.Message{}},
		{"start with a topic", func(h *record.Header) { h.Kind = record.KindStart }, nil},
		{"start in a queue", func(h *record.Header) { h.Kind, h.Topic, h.Queue = record.KindStart, nil, 1 }, nil},
		{"unknown kind", func(h *record.Header) { h.Kind = 3 }, nil},
		{"offset", func(h *record.Header) { h.Offset = 1 << 63 }, &record.Message{}},
		{"queue", func(h *record.Header) { h.Queue = 1 << 31 }, &record.Message{}},
		{"queue offset", func(h *record.Header) { h.QueueOffset = 1 << 63 }, &record.Message{}},
	}
	for _, tt := range tests {
		h := valid
		tt.h(&h)
		if b, err := record.Append([]byte("x"), &h, tt.m); !errors.Is(err, record.ErrInvalid) || string(b) != "x" {
			t.Errorf("%s: %q, %v", tt.name, b, err)
		}
	}
}

// TestFitsLength: a record whose length alone is wrong is known.
func TestFitsLength(t *testing.T) {
	for _, g := range golden() {
		b := sealed(unhex(t, g.hex))
		whole := append(bytes.Clone(b), "behind"...)
		binary.BigEndian.PutUint32(whole[16:], 1<<20)
		for n := range len(whole) + 2 {
			if got, want := record.FitsLength(whole, n), n == len(b); got != want {
				t.Errorf("%s: %d of %d bytes fit: %v", g.name, n, len(b), got)
			}
		}
		whole[len(b)-1] ^= 1
		if record.FitsLength(whole, len(b)) {
			t.Errorf("%s: damaged elsewhere, and fits", g.name)
		}
	}
}

// TestForgotten: every field of a message makes a difference on the disk.
func TestForgotten(t *testing.T) {
	h := record.Header{Kind: record.KindMessage, Epoch: 1, Topic: []byte("t")}
	none, err := record.Append(nil, &h, &record.Message{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range reflect.TypeFor[record.Message]().NumField() {
		var m record.Message
		f := reflect.ValueOf(&m).Elem().Field(i)
		switch f.Interface().(type) {
		case uint32:
			f.SetUint(1)
		case int64:
			f.SetInt(1)
		case string:
			f.SetString("x")
		case []string:
			f.Set(reflect.ValueOf([]string{"x"}))
		case []byte:
			f.SetBytes([]byte("x"))
		case []record.Property:
			f.Set(reflect.ValueOf([]record.Property{{Key: "x", Value: "y"}}))
		default:
			t.Fatalf("field %s is of a type that this test does not know", reflect.TypeFor[record.Message]().Field(i).Name)
		}
		b, err := record.Append(nil, &h, &m)
		if err != nil || bytes.Equal(b, none) {
			t.Errorf("field %d: written like an empty message, %v", i, err)
		}
		if _, back, err := record.Decode(b); err != nil || !reflect.DeepEqual(back, &m) {
			t.Errorf("field %d: %+v is read as %+v, %v", i, m, back, err)
		}
	}
}

// checkDecoded: what is read is written again to the same bytes.
func checkDecoded(t *testing.T, b []byte) {
	parsed, parseErr := record.Parse(b)
	h, m, err := record.Decode(b)
	if err != nil {
		if !errors.Is(err, record.ErrInvalid) && !errors.Is(err, record.ErrShort) || m != nil {
			t.Fatalf("%x: %+v, %v", b, m, err)
		}
		return
	}
	if parseErr != nil || !equal(parsed, h) {
		t.Fatalf("%x: Parse says %+v, %v, Decode %+v", b, parsed, parseErr, h)
	}
	if n, ok := record.SizeOf(b); !ok || n != int(h.Length) {
		t.Fatalf("%x: size %d, %v", b, n, ok)
	}
	again := h
	written, err := write(&again, m, record.Body(b, &h))
	if err != nil || !bytes.Equal(written[8:], b[8:h.Length]) || !equal(again, h) {
		t.Fatalf("%x is %+v, %+v, and written %x, %v", b, h, m, written, err)
	}
}

// write writes a record of any kind.
func write(h *record.Header, m *record.Message, body []byte) ([]byte, error) {
	if h.Kind == record.KindState {
		return record.AppendState(nil, h, body)
	}
	return record.Append(nil, h, m)
}

// TestState: the body of state is any bytes, and stays out of all queues.
func TestState(t *testing.T) {
	const hex = `00000000 00000000 48465231 00000000 00000043 01020304
		0000000000000040 0000000000000007 0000000000000001 03 00 0000 00000000 0000000000000000 616263`
	h := record.Header{Link: 0x01020304, Offset: 64, Epoch: 7, StoreTime: 1}
	b, err := record.AppendState([]byte("x"), &h, []byte("abc"))
	if want := sealed(unhex(t, hex)); err != nil || !bytes.Equal(b[1:], want) || h.Kind != record.KindState || h.Length != 67 {
		t.Fatalf("written %x, %v, want %x", b, err, want)
	}
	got, m, err := record.Decode(append(b[1:], "behind"...))
	if err != nil || m != nil || !equal(got, h) || string(record.Body(b[1:], &got)) != "abc" {
		t.Errorf("read %+v, %+v, %v", got, m, err)
	}
	for name, h := range map[string]record.Header{
		"topic": {Epoch: 1, Topic: []byte("t")}, "queue": {Epoch: 1, Queue: 1}, "queue offset": {Epoch: 1, QueueOffset: 1}, "no epoch": {},
	} {
		if b, err := record.AppendState(nil, &h, nil); !errors.Is(err, record.ErrInvalid) || len(b) > 0 {
			t.Errorf("%s: %x, %v", name, b, err)
		}
	}
	h = record.Header{Epoch: 1}
	if _, err := record.AppendState(nil, &h, make([]byte, record.MaxSize-record.HeaderSize)); err != nil {
		t.Errorf("largest: %v", err)
	}
	if _, err := record.AppendState(nil, &h, make([]byte, record.MaxSize-record.HeaderSize+1)); !errors.Is(err, record.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, g := range golden() {
		b := sealed(unhex(f, g.hex))
		f.Add(b)
		f.Add(append(b, b...))
		f.Add(b[:len(b)-1])
	}
	if b, err := record.AppendState(nil, &record.Header{Epoch: 1}, []byte("abc")); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		checkDecoded(t, b)
		if len(b) < record.HeaderSize {
			return
		}
		// Past the checksum, too.
		checkDecoded(t, sealed(append(append(bytes.Clone(b[:8]), record.Magic...), b[12:]...)))
	})
}

// FuzzAppend: what can be written is read back the same.
func FuzzAppend(f *testing.F) {
	f.Add(uint64(0), uint64(1), int64(0), "t", uint32(0), uint64(0), "h", "i", "a", "k", "p", "v", []byte("body"))
	f.Add(uint64(1<<62), uint64(1<<63), int64(-1), strings.Repeat("t", 255), uint32(1<<31-1), uint64(1<<63-1), "", "", "", "", "", "", []byte(nil))
	f.Fuzz(func(t *testing.T, offset, epoch uint64, at int64, topic string, queue uint32, queueOffset uint64, host, id, tag, key, name, value string, body []byte) {
		h := record.Header{Kind: record.KindMessage, Link: crc32.ChecksumIEEE(body), Offset: offset, Epoch: epoch, StoreTime: at,
			Topic: []byte(topic), Queue: queue, QueueOffset: queueOffset}
		m := &record.Message{Flag: queue, SystemFlag: ^queue, BornTime: ^at, BornHost: host, ID: id, Tag: tag, Keys: []string{key, tag},
			Properties: []record.Property{{Key: name, Value: value}, {Key: key, Value: name}}, Body: body}
		b, err := record.Append(nil, &h, m)
		if err != nil {
			if len(b) > 0 {
				t.Fatalf("%d bytes with %v", len(b), err)
			}
			return
		}
		back, got, err := record.Decode(b)
		if len(body) == 0 {
			m.Body = nil
		}
		if err != nil || !equal(back, h) || !reflect.DeepEqual(got, m) {
			t.Fatalf("%+v, %+v is read as %+v, %+v, %v", h, m, back, got, err)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	h := record.Header{Kind: record.KindMessage, Epoch: 1, Topic: []byte("orders")}
	m := &record.Message{ID: "01AABBCCDDEEFF00112233445566778899", Body: make([]byte, 1024)}
	buf, err := record.Append(nil, &h, m)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = record.Append(buf[:0], &h, m)
	}
}

func BenchmarkParse(b *testing.B) {
	h := record.Header{Kind: record.KindMessage, Epoch: 1, Topic: []byte("orders")}
	buf, err := record.Append(nil, &h, &record.Message{Body: make([]byte, 1024)})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = record.Parse(buf)
	}
}
