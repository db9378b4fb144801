package pop

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func goldenChanges() []change {
	k := Key{"g", "t", 300}
	return []change{
		{Key: k, First: 1, Next: 9, Until: 1000, Nonce: 0x0102030405060708, Claims: []claim{{5, 1}, {200, 2}},
			Done: []uint64{3, 4}, Delays: []delay{{2, 0x11, 0x22, 1 << 40}}},
		{Key: Key{Group: "g"}, Drop: true},
		{Key: Key{Topic: "t"}, Drop: true},
		{Key: k, Next: 7},
	}
}

const goldenBody = `01 04
 01 01 67 01 74 ac02 01 09 02 e807 0102030405060708 05 01 c801 02 02 03 04 01 02 0000000000000011 0000000000000022 808080808020
 02 01 67 00
 02 00 01 74
 01 01 67 01 74 ac02 00 07 00 00 00`

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBodyGolden(t *testing.T) {
	want := unhex(t, goldenBody)
	if got := appendBody(goldenChanges()); !bytes.Equal(got, want) {
		t.Errorf("body is\n%x, want\n%x", got, want)
	}
	if got, err := parseBody(want); err != nil || !reflect.DeepEqual(got, goldenChanges()) {
		t.Errorf("%+v, %v", got, err)
	}
	for n := range want {
		if _, err := parseBody(want[:n]); !errors.Is(err, ErrInvalid) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

func TestBodyRefuses(t *testing.T) {
	for name, s := range map[string]string{
		"version":          "02 01 02 01 67 00",
		"nothing":          "01 00",
		"kind":             "01 01 03 01 67 00",
		"bytes behind":     "01 01 02 01 67 00 00",
		"drop of all":      "01 01 02 00 00",
		"no group":         "01 01 01 00 01 74 00 00 00 00 00 00",
		"no topic":         "01 01 01 01 67 00 00 00 00 00 00 00",
		"long number":      "01 01 01 01 67 01 74 8000 00 00 00 00 00",
		"count":            "01 ffffffff0f 02 01 67 00",
		"claims beyond":    "01 01 01 01 67 01 74 00 00 00 ffff03 00 00",
		"number too large": "01 01 01 01 67 01 74 00 00 ffffffffffffffffff01 00 00 00",
		"queue too large":  "01 01 01 01 67 01 74 8080808008 00 00 00 00 00",
	} {
		if c, err := parseBody(unhex(t, s)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

func goldenState(t testing.TB) *State {
	s := New(DefaultLimits())
	changes := []change{
		{Key: Key{"g", "t", 1}, Until: 1000, Nonce: 7, Claims: []claim{{5, 1}, {200, 1}}},
		{Key: Key{"g", "s", 2}, Next: 9},
		{Key: Key{"f", "t", 0}},
	}
	if err := s.Apply(appendBody(changes)); err != nil {
		t.Fatal(err)
	}
	return s
}

const goldenSnapshot = `01 03
 01 66 01 74 00 00 00
 01 67 01 73 02 09 00
 01 67 01 74 01 c901 02 05 0000000000000007 e807 01 c801 0000000000000007 e807 01`

func TestSnapshotGolden(t *testing.T) {
	want := unhex(t, goldenSnapshot)
	if got := goldenState(t).AppendSnapshot(nil); !bytes.Equal(got, want) {
		t.Errorf("snapshot is\n%x, want\n%x", got, want)
	}
	s, err := Restore(DefaultLimits(), want)
	if err != nil || !bytes.Equal(s.AppendSnapshot(nil), want) || s.InFlight("g") != 2 || s.positions != 3 {
		t.Errorf("%+v, %v", s, err)
	}
	for n := range want {
		if _, err := Restore(DefaultLimits(), want[:n]); !errors.Is(err, ErrInvalid) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	for name, bad := range map[string]string{
		"version":          "02 00",
		"bytes behind":     "01 00 00",
		"position twice":   "01 02 01 66 01 74 00 00 00 01 66 01 74 00 00 00",
		"out of order":     "01 02 01 66 01 74 01 00 00 01 66 01 74 00 00 00",
		"flight above":     "01 01 01 66 01 74 00 05 01 05 0000000000000007 00 01",
		"flight twice":     "01 01 01 66 01 74 00 09 02 05 0000000000000007 00 01 05 0000000000000007 00 01",
		"attempt 0":        "01 01 01 66 01 74 00 09 01 05 0000000000000007 00 00",
		"count beyond all": "01 ffffffff0f",
	} {
		if _, err := Restore(DefaultLimits(), unhex(t, bad)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHandle(t *testing.T) {
	long := strings.Repeat("n", MaxName)
	for _, h := range []Handle{
		{"b", Key{"g", "t", 0}, 0, 0},
		{long, Key{long, long, 1<<31 - 1}, 1<<63 - 1, 1<<64 - 1},
	} {
		text := h.String()
		if got, err := ParseHandle(text); err != nil || got != h {
			t.Errorf("%.40s: %+v, %v", text, got, err)
		}
		for i := range text {
			c := byte('A')
			if text[i] == c {
				c = 'B'
			}
			if got, err := ParseHandle(text[:i] + string(c) + text[i+1:]); !errors.Is(err, ErrInvalid) {
				t.Errorf("%q with %c at %d: %+v, %v", text, c, i, got, err)
			}
			if _, err := ParseHandle(text[:i]); !errors.Is(err, ErrInvalid) {
				t.Errorf("%q cut at %d: %v", text, i, err)
			}
		}
	}
	if got := (Handle{"b", Key{"g", "t", 0}, 5, 6}).String(); got != "AQFiAWcBdAAFAAAAAAAAAAbUiEhT" {
		t.Errorf("golden handle is %q", got)
	}
	if _, err := ParseHandle(strings.Repeat("A", 4<<20)); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

// FuzzBody: no bytes make the decoder panic, what it accepts is the one form of what it
// says, and a state that takes it can be restored.
func FuzzBody(f *testing.F) {
	f.Add(unhex(f, goldenBody))
	for _, c := range goldenChanges() {
		f.Add(appendBody([]change{c}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		changes, err := parseBody(b)
		if err != nil {
			return
		}
		if again := appendBody(changes); !bytes.Equal(again, b) {
			t.Fatalf("%x was read as %+v, which is %x", b, changes, again)
		}
		s := goldenState(t)
		if s.Apply(b) != nil {
			return
		}
		snapshot := s.AppendSnapshot(nil)
		r, err := Restore(DefaultLimits(), snapshot)
		if err != nil || !bytes.Equal(r.AppendSnapshot(nil), snapshot) {
			t.Fatalf("%x leads to a state that cannot be restored: %v", b, err)
		}
	})
}

// FuzzSnapshot: no bytes make it panic, and what is accepted is the one form of its state.
func FuzzSnapshot(f *testing.F) {
	f.Add(unhex(f, goldenSnapshot))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Restore(DefaultLimits(), b)
		if err == nil && !bytes.Equal(s.AppendSnapshot(nil), b) {
			t.Fatalf("%x is read as %x", b, s.AppendSnapshot(nil))
		}
	})
}

// FuzzHandle: like the others. The checksum is made right, so that more is reached.
func FuzzHandle(f *testing.F) {
	f.Add("AQFiAWcBdAAFAAAAAAAAAAbUiEhT")
	f.Fuzz(func(t *testing.T, text string) {
		if h, err := ParseHandle(text); err == nil && h.String() != text {
			t.Fatalf("%q is read as %+v, which is %q", text, h, h)
		}
	})
}

// FuzzTags: no expression panics.
func FuzzTags(f *testing.F) {
	f.Add("a || b", "a")
	f.Fuzz(func(t *testing.T, e, tag string) {
		if filter, err := ParseTags(e); err == nil && filter.Match(tag) && filter.tags != nil && !strings.Contains(e, tag) {
			t.Fatalf("%q takes %q", e, tag)
		}
	})
}
