package gossip

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

func TestHeaderGolden(t *testing.T) {
	for _, c := range []struct {
		name, from, want string
	}{
		{"agent/a", "10.0.0.1:7946", "01 07 6167656e742f61 04 0a000001 1f0a"},
		{"coordinator/b", "[2001:db8::1]:1", "01 0d 636f6f7264696e61746f722f62 10 20010db8000000000000000000000001 0001"},
	} {
		want, err := hex.DecodeString(strings.ReplaceAll(c.want, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		got := appendHeader(nil, c.name, netip.MustParseAddrPort(c.from))
		if !bytes.Equal(got, want) {
			t.Errorf("encode %s: %x, want %x", c.name, got, want)
		}
		name, from, payload, err := parseHeader(append(want, "xyz"...))
		if err != nil || name != c.name || from.String() != c.from || string(payload) != "xyz" {
			t.Errorf("decode %x: %q %v %q %v", want, name, from, payload, err)
		}
	}
}

// badDatagrams must be refused, and are the fuzzer's seeds.
var badDatagrams = map[string]string{
	"empty":               "",
	"version only":        "01",
	"other version":       "02 07 6167656e742f61 04 0a000001 1f0a",
	"name runs over":      "01 ff 6167656e742f61",
	"name ends the data":  "01 07 6167656e742f61",
	"no name":             "01 00 04 0a000001 1f0a",
	"name without role":   "01 01 61 04 0a000001 1f0a",
	"newline in name":     "01 07 6167656e742f0a 04 0a000001 1f0a",
	"address of 5 bytes":  "01 07 6167656e742f61 05 0a00000101 1f0a",
	"address cut":         "01 07 6167656e742f61 04 0a0000",
	"no port":             "01 07 6167656e742f61 04 0a000001",
	"port cut":            "01 07 6167656e742f61 04 0a000001 1f",
	"port 0":              "01 07 6167656e742f61 04 0a000001 0000",
	"unspecified address": "01 07 6167656e742f61 04 00000000 1f0a",
	"multicast address":   "01 07 6167656e742f61 04 e0000001 1f0a",
	"mapped address":      "01 07 6167656e742f61 10 00000000000000000000ffff0a000001 1f0a",
	"payload too long":    "01 07 6167656e742f61 04 0a000001 1f0a" + strings.Repeat("00", MaxDatagram+1),
}

func TestBadDatagramIsRefused(t *testing.T) {
	for name, s := range badDatagrams {
		b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if from, _, _, err := parseHeader(b); err == nil {
			t.Errorf("%s: accepted as from %q", name, from)
		}
	}
}

func FuzzHeader(f *testing.F) {
	for _, s := range badDatagrams {
		b, _ := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
		f.Add(b)
	}
	f.Add(append(appendHeader(nil, "agent/a", netip.MustParseAddrPort("10.0.0.1:7946")), 1, 2, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		name, from, payload, err := parseHeader(b)
		if err != nil {
			return
		}
		if again := append(appendHeader(nil, name, from), payload...); !bytes.Equal(again, b) {
			t.Errorf("%x became %x", b, again)
		}
	})
}

func TestMetaRoundTrip(t *testing.T) {
	long := strings.Repeat("x", maxMetaPart)
	for _, m := range []Meta{{}, {API: "[::1]:1", Raft: "b:2", Store: "c", Version: "d e"}, {long, long, long, long}} {
		b, err := m.encode()
		if err != nil || len(b) > 512 {
			t.Fatalf("%+v: %d bytes, %v", m, len(b), err)
		}
		if got, err := decodeMeta(b); err != nil || got != m {
			t.Errorf("%+v became %+v, %v", m, got, err)
		}
	}
	want := "\x01\x03a:1\x00\x01s\x02v1"
	if b, err := (Meta{API: "a:1", Store: "s", Version: "v1"}).encode(); string(b) != want || err != nil {
		t.Errorf("encoded %q, want %q (%v)", b, want, err)
	}
}

var badMetas = map[string]string{
	"empty":         "",
	"other version": "\x02\x00\x00\x00\x00",
	"three parts":   "\x01\x00\x00\x00",
	"part cut":      "\x01\x00\x00\x00\x05abc",
	"extra byte":    "\x01\x00\x00\x00\x00\x00",
	"escape":        "\x01\x01\x1b\x00\x00\x00",
	"not UTF-8":     "\x01\x01\xff\x00\x00\x00",
	"right-to-left": "\x01\x03\u202e\x00\x00\x00",
	"part too long": "\x01\x79" + strings.Repeat("x", 121) + "\x00\x00\x00",
}

func TestBadMetaIsRefused(t *testing.T) {
	for name, s := range badMetas {
		if m, err := decodeMeta([]byte(s)); err == nil {
			t.Errorf("%s: accepted as %+v", name, m)
		}
	}
}

func FuzzMeta(f *testing.F) {
	for _, s := range badMetas {
		f.Add([]byte(s))
	}
	f.Add([]byte("\x01\x03a:1\x00\x01s\x02v1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		if again, err := m.encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x became %x, %v", b, again, err)
		}
	})
}
