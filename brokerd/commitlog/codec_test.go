package commitlog

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sealedAt returns b with the checksum of all from 8 on at 4, bit by bit.
func sealedAt(b []byte) []byte {
	sum := ^uint32(0)
	for _, c := range b[8:] {
		sum ^= uint32(c)
		for range 8 {
			sum = sum>>1 ^ 0x82f63b78*(sum&1)
		}
	}
	binary.BigEndian.PutUint32(b[4:], ^sum)
	return b
}

// The golden bytes are written by hand.
const (
	goldenEmptyPreface = `48465331 00000000 00000030 0000000000000000 00000000 0000000000000000 0000000000000000 00000000 00000000`
	goldenPreface      = `48465331 00000000 0000006d 0000000000001000 01020304 fffffffffffffffe 0000000000000009 00000002 00000002
		0000000000000007 0000000000000000 0000000000000009 0000000000000040
		01 61 00000000 0000000000000005 02 6162 7fffffff 7fffffffffffffff`
	goldenSlot  = `48464531 00000000 0000000000000003 0000000000000010 0000000000000123 00000003`
	goldenState = `48465232 00000000 0000001f 0000000000000005 0000000000000006 01 6869`
	goldenIndex = `48464931 00000000 00000050 0000000000001000 0000000000002000 01020304 00000002
		01 61 00000000 0000000000000005 00000002 253a9298
		01 62 00000007 0000000000000000 00000001 5f1cf475
		00000040 00000063 00000100 00000064 000000a3 0000005d`
)

func prefaceValue() *Preface {
	return &Preface{Base: 4096, Link: 0x01020304, Time: -2, Epoch: 9, History: []Start{{7, 0}, {9, 64}},
		Queues: []Next{{"a", 0, 5}, {"ab", math.MaxInt32, math.MaxInt64}}}
}

func indexValue() (*sealed, [][]place) {
	return &sealed{base: 4096, end: 8192, link: 0x01020304, queues: []sealedQueue{
			{queueKey: queueKey{"a", 0}, first: 5, count: 2}, {queueKey: queueKey{"b", 7}, count: 1},
		}}, [][]place{
			{{0x40, 0x63}, {0x100, 0x64}}, {{0xa3, 0x5d}},
		}
}

func TestGolden(t *testing.T) {
	check := func(name string, got []byte, want string) {
		t.Helper()
		if w := sealedAt(unhex(t, want)); !bytes.Equal(got, w) {
			t.Errorf("%s is written\n%x, want\n%x", name, got, w)
		}
	}
	check("empty preface", (&Preface{}).Append(nil), goldenEmptyPreface)
	check("preface", prefaceValue().Append(nil), goldenPreface)
	s := slot{number: 3, first: 16, end: 0x123, async: true, clean: true}
	check("slot", s.append(nil), goldenSlot)
	st := State{Epoch: 5, Incarnation: 6, Owes: true, Extra: []byte("hi")}
	check("state", st.append(nil), goldenState)

	if p, err := ParsePreface(append(sealedAt(unhex(t, goldenPreface)), "behind"...)); err != nil || !reflect.DeepEqual(p, prefaceValue()) {
		t.Errorf("preface is read %+v, %v", p, err)
	}
	if p, err := ParsePreface(sealedAt(unhex(t, goldenEmptyPreface))); err != nil || !reflect.DeepEqual(p, &Preface{}) {
		t.Errorf("empty preface is read %+v, %v", p, err)
	}
	if got, err := parseSlot(sealedAt(unhex(t, goldenSlot))); err != nil || got != s {
		t.Errorf("slot is read %+v, %v", got, err)
	}
	if got, err := parseState(sealedAt(unhex(t, goldenState))); err != nil || !reflect.DeepEqual(got, st) {
		t.Errorf("state is read %+v, %v", got, err)
	}
}

// TestGoldenIndex: an index's own checksum is of its head alone.
func TestGoldenIndex(t *testing.T) {
	want := unhex(t, goldenIndex)
	head := sealedAt(bytes.Clone(want[:0x50]))
	copy(want, head)
	v, places := indexValue()
	got := appendIndex(nil, v, func(i int) []place { return places[i] })
	if !bytes.Equal(got, want) {
		t.Fatalf("written\n%x, want\n%x", got, want)
	}
	s, err := parseIndex(want, int64(len(want)))
	if err != nil || s.base != 4096 || s.end != 8192 || s.link != 0x01020304 || len(s.queues) != 2 {
		t.Fatalf("read %+v, %v", s, err)
	}
	for i, q := range s.queues {
		b := want[q.at:][:q.count*placeSize]
		if q.queueKey != v.queues[i].queueKey || q.first != v.queues[i].first || !reflect.DeepEqual(parsePlaces(b), places[i]) || checksum(b) != q.places {
			t.Errorf("queue %+v has %v", q, parsePlaces(b))
		}
	}
}

// TestPrefaceRefused: bytes whose checksum is right, and which are no preface all the same.
func TestPrefaceRefused(t *testing.T) {
	for name, change := range map[string]func(*Preface){
		"history begins late":        func(p *Preface) { p.History[0].Offset = 1 },
		"history falls":              func(p *Preface) { p.History[1].Offset = 0 },
		"epoch twice":                func(p *Preface) { p.History[1].Epoch = 7 },
		"epoch 0":                    func(p *Preface) { p.History[0].Epoch = 0 },
		"epoch behind the base":      func(p *Preface) { p.History[1].Offset = 4096 },
		"last epoch is another":      func(p *Preface) { p.Epoch = 7 },
		"no epoch":                   func(p *Preface) { p.Epoch, p.History = 0, nil },
		"base out of range":          func(p *Preface) { p.Base = 1 << 63 },
		"something before the first": func(p *Preface) { p.Base, p.Epoch, p.History = 0, 0, nil },
		"queue without a topic":      func(p *Preface) { p.Queues[0].Topic = "" },
		"queue out of range":         func(p *Preface) { p.Queues[0].Queue = 1 << 31 },
		"queue without a message":    func(p *Preface) { p.Queues[0].Next = 0 },
		"queue offset out of range":  func(p *Preface) { p.Queues[0].Next = 1 << 63 },
		"queues out of order":        func(p *Preface) { p.Queues[0], p.Queues[1] = p.Queues[1], p.Queues[0] },
		"queue twice":                func(p *Preface) { p.Queues[1] = p.Queues[0] },
	} {
		p := prefaceValue()
		change(p)
		if got, err := ParsePreface(p.Append(nil)); !errors.Is(err, errFormat) || got != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	b := prefaceValue().Append(nil)
	for n := range len(b) {
		if _, err := ParsePreface(b[:n]); !errors.Is(err, errFormat) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, change := range []struct {
		at    int
		value uint32
	}{{36, 1 << 31}, {40, 1 << 31}, {36, 3}, {40, 1}, {40, 3}, {8, uint32(len(b)) - 1}} {
		c := bytes.Clone(b)
		binary.BigEndian.PutUint32(c[change.at:], change.value)
		if _, err := ParsePreface(sealedAt(c)); !errors.Is(err, errFormat) {
			t.Errorf("%d at %d: %v", change.value, change.at, err)
		}
	}
}

func FuzzPreface(f *testing.F) {
	f.Add(prefaceValue().Append(nil))
	f.Add((&Preface{}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		try := func(b []byte) {
			p, err := ParsePreface(b)
			if err != nil {
				if !errors.Is(err, errFormat) || p != nil {
					t.Fatalf("%+v, %v", p, err)
				}
				return
			}
			if again := p.Append(nil); !bytes.Equal(again, b[:len(again)]) {
				t.Fatalf("%x is written again %x", b, again)
			}
		}
		try(b)
		if len(b) >= prefaceFixed { // past the checksum
			b = bytes.Clone(b)
			copy(b, prefaceMagic)
			binary.BigEndian.PutUint32(b[8:], uint32(len(b)))
			binary.BigEndian.PutUint32(b[4:], checksum(b[8:]))
			try(b)
		}
	})
}

func FuzzIndex(f *testing.F) {
	v, places := indexValue()
	f.Add(appendIndex(nil, v, func(i int) []place { return places[i] }), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, length uint16) {
		try := func(b []byte) {
			s, err := parseIndex(b, int64(len(b)))
			if err != nil {
				if !errors.Is(err, errFormat) || s != nil {
					t.Fatalf("%+v, %v", s, err)
				}
				return
			}
			for _, q := range s.queues {
				if q.at < indexFixed || q.at+int64(q.count)*placeSize > int64(len(b)) {
					t.Fatalf("places of %+v in %d bytes", q, len(b))
				}
			}
		}
		try(b)
		if n := int(length); n >= indexFixed && n <= len(b) {
			b = bytes.Clone(b)
			copy(b, indexMagic)
			binary.BigEndian.PutUint32(b[8:], uint32(n))
			binary.BigEndian.PutUint32(b[4:], checksum(b[8:n]))
			try(b)
		}
	})
}

func FuzzSmall(f *testing.F) {
	f.Add(slot{number: 3, end: 7, async: true, clean: true}.append(nil))
	f.Add((&State{Epoch: 5, Incarnation: 6, Owes: true, Extra: []byte("hi")}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		try := func(b []byte) {
			if s, err := parseSlot(b); err == nil && !bytes.Equal(s.append(nil), b) {
				t.Fatalf("%x is slot %+v", b, s)
			}
			if s, err := parseState(b); err == nil && !bytes.Equal(s.append(nil), b) {
				t.Fatalf("%x is state %+v", b, s)
			}
		}
		try(b)
		if len(b) >= 12 {
			b = sealedAt(bytes.Clone(b))
			try(b)
			binary.BigEndian.PutUint32(b[8:], uint32(len(b)))
			try(sealedAt(b))
		}
	})
}
