package replica_test

import (
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"holdfast/brokerd/replica"
)

// golden are messages and their bytes, in hex without the zeros that fill numbers up.
func golden() []struct {
	message replica.Message
	bytes   string
} {
	log := replica.Log{Base: 3, End: 9, Starts: []replica.Start{{Epoch: 1, Offset: 3}, {Epoch: 4, Offset: 5}}}
	return []struct {
		message replica.Message
		bytes   string
	}{
		{replica.Append{Epoch: 4, Of: 1, From: 3, To: 5, Confirm: 7}, "0101 4 1 3 5 7"},
		{replica.Append{Epoch: 4, From: 5, To: 5, Confirm: 7}, "0101 4 0 5 5 7"},
		{replica.Contact{Epoch: 4, Number: replica.Number{Boot: 8, Count: 2}, Log: log, Cuts: []replica.Range{{Epoch: 2, From: 5, To: 6}}},
			"0102 4 8 2 3 9 2 1 1 3 4 5 2 5 6"},
		{replica.Contact{Epoch: 4, Number: replica.Number{Boot: 8, Count: 2}}, "0102 4 8 2 0 0 0 0"},
		{replica.Answer{Epoch: 4, Number: replica.Number{Boot: 8, Count: 2}, At: 5, Base: 3}, "0103 4 8 2 5 3 0"},
		{replica.Answer{Epoch: 4, Number: replica.Number{Boot: 8, Count: 2}, At: 3, Base: 3, Reset: true}, "0103 4 8 2 3 3 1"},
		{replica.Ack{Epoch: 4, Incarnation: 2, End: 9}, "0104 4 2 9"},
		{replica.Refusal{Epoch: 7}, "0105 7"},
	}
}

// unpack makes bytes of the short form of golden.
func unpack(t testing.TB, s string) []byte {
	t.Helper()
	f := strings.Fields(s)
	all := f[0]
	for _, n := range f[1:] {
		all += strings.Repeat("0", 16-len(n)) + n
	}
	b, err := hex.DecodeString(all)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMessages(t *testing.T) {
	for _, g := range golden() {
		b, err := replica.Marshal(g.message)
		if want := unpack(t, g.bytes); err != nil || string(b) != string(want) {
			t.Errorf("%+v: %x, %v, want %x", g.message, b, err, want)
		}
		m, err := replica.Unmarshal(unpack(t, g.bytes))
		if err != nil || !reflect.DeepEqual(m, g.message) {
			t.Errorf("%s: %+v, %v, want %+v", g.bytes, m, err, g.message)
		}
	}
}

func TestNoMessages(t *testing.T) {
	for name, s := range map[string]string{
		"other version":            "0205 7",
		"no kind":                  "0100 7",
		"unknown kind":             "0106 7",
		"no epoch":                 "0105 0",
		"a field too few":          "0104 4 2",
		"a field too many":         "0105 7 7",
		"backwards":                "0101 4 1 5 3 7",
		"records without an epoch": "0101 4 0 3 5 7",
		"an epoch without records": "0101 4 1 5 5 7",
		"records of a later epoch": "0101 4 5 3 5 7",
		"flag of two":              "0103 4 8 2 3 3 2",
		"a start too few":          "0102 4 8 2 3 9 2 0 1 3",
		"a cut too many":           "0102 4 8 2 3 9 1 0 1 3 2 5 6",
		"lists without an end":     "0102 4 8 2 3 9 1000000000000000 0 1 3",
		"sums that overflow":       "0102 4 8 2 3 9 8000000000000000 0",
		"log without an epoch":     "0102 4 8 2 3 9 0 0",
		"log from elsewhere":       "0102 4 8 2 3 9 1 0 1 4",
		"log of a later epoch":     "0102 4 8 2 3 9 1 0 5 3",
		"cut of nothing":           "0102 4 8 2 0 0 0 1 2 5 5",
	} {
		if m, err := replica.Unmarshal(unpack(t, s)); !errors.Is(err, replica.ErrMessage) && !errors.Is(err, replica.ErrLog) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	for _, b := range [][]byte{nil, {1}, {1, 5}, {1, 5, 0}, make([]byte, replica.MaxMessage+8)} {
		if m, err := replica.Unmarshal(b); !errors.Is(err, replica.ErrMessage) {
			t.Errorf("%d bytes: %+v, %v", len(b), m, err)
		}
	}
	for _, m := range []replica.Message{nil, replica.Refusal{}, replica.Append{Epoch: 1, From: 2, To: 1}, replica.Contact{Epoch: 1, Cuts: make([]replica.Range, replica.MaxList+1)}} {
		if b, err := replica.Marshal(m); err == nil {
			t.Errorf("%T: %x", m, b)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	for _, g := range golden() {
		f.Add(unpack(f, g.bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := replica.Unmarshal(b)
		if err != nil {
			return
		}
		again, err := replica.Marshal(m)
		if err != nil || string(again) != string(b) {
			t.Errorf("%x comes back as %x, %v", b, again, err)
		}
	})
}
