package brokerd

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"holdfast/brokerd/commitlog"
)

func snap(offset uint64, state string) *snapshot { return &snapshot{offset, []byte(state)} }

// TestSnapshotFile: golden bytes, every byte damaged, and every shorter length.
func TestSnapshotFile(t *testing.T) {
	b := snap(0x0102030405060708, "state").append(nil)
	if got := hex.EncodeToString(b[:4]) + hex.EncodeToString(b[8:]); got != "48465031000000050102030405060708"+hex.EncodeToString([]byte("state")) {
		t.Errorf("bytes %s", got)
	}
	s, err := parseSnapshot(b)
	if err != nil || s.offset != 0x0102030405060708 || string(s.state) != "state" {
		t.Errorf("%+v %v", s, err)
	}
	damaged(t, b, func(b []byte) error { _, err := parseSnapshot(b); return err })
}

func TestParcel(t *testing.T) {
	p := &commitlog.Preface{Base: 640, Epoch: 3, History: []commitlog.Start{{Epoch: 3}}}
	b := appendParcel(p, snap(700, "state"))
	got, err := parseParcel(b, 640)
	if err != nil || got.preface.Base != 640 || got.snapshot.offset != 700 || !bytes.Equal(got.snapshot.state, []byte("state")) {
		t.Fatalf("%+v %v", got, err)
	}
	damaged(t, b, func(b []byte) error { _, err := parseParcel(b, 640); return err })
	if _, err := parseParcel(b, 641); !errors.Is(err, errParcel) {
		t.Errorf("of another place: %v", err)
	}
	if _, err := parseParcel(appendParcel(p, snap(639, "")), 640); !errors.Is(err, errParcel) {
		t.Errorf("with a snapshot that the log does not reach: %v", err)
	}
}

// damaged turns each bit and cuts at each length: all must be refused.
func damaged(t *testing.T, b []byte, parse func([]byte) error) {
	t.Helper()
	for i := range b {
		for bit := range 8 {
			c := bytes.Clone(b)
			c[i] ^= 1 << bit
			if parse(c) == nil {
				t.Errorf("bit %d of byte %d turned: taken", bit, i)
			}
		}
		if parse(b[:i]) == nil {
			t.Errorf("cut at %d: taken", i)
		}
	}
	if parse(append(bytes.Clone(b), 0)) == nil {
		t.Error("a byte more: taken")
	}
}

func FuzzParcel(f *testing.F) {
	f.Add(appendParcel(&commitlog.Preface{Base: 640, Epoch: 3, History: []commitlog.Start{{Epoch: 3}}}, snap(700, "state")), uint64(640))
	f.Fuzz(func(t *testing.T, b []byte, base uint64) {
		if p, err := parseParcel(b, base); err == nil && (p.preface.Base != base || p.snapshot.offset < base) {
			t.Errorf("taken: %+v", p)
		}
	})
}

func FuzzSnapshot(f *testing.F) {
	f.Add(snap(7, "state").append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseSnapshot(b); err == nil && !bytes.Equal(s.append(nil), b) {
			t.Errorf("taken, and written otherwise: %+v", s)
		}
	})
}
