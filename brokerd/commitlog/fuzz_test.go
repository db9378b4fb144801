package commitlog_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"holdfast/brokerd/commitlog"
	"holdfast/brokerd/commitlog/faultfs"
	"holdfast/brokerd/record"
)

// FuzzOpen changes the files of a log that was closed: pieces are written over, files end
// elsewhere. A start says that there is damage, or everything is there.
func FuzzOpen(f *testing.F) {
	h := &history{fs: faultfs.New(), options: commitlog.Options{SegmentSize: 1100}}
	for _, step := range []func() error{
		h.open,
		func() error { return h.append(5, start(), message("a", 0, "one"), state("s")) },
		func() error { return h.fill(5, 4) },
		func() error { return h.l.Close() },
	} {
		if err := step(); err != nil {
			f.Fatal(err)
		}
	}
	names, err := h.fs.List()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(0), uint16(5), uint16(0xffff), []byte{1})
	f.Add(uint8(len(names)-2), uint16(200), uint16(500), make([]byte, 300))
	f.Add(uint8(1), uint16(80), uint16(90), []byte{0xff})
	f.Fuzz(func(t *testing.T, file uint8, at, size uint16, piece []byte) {
		name := names[int(file)%len(names)]
		b := h.fs.Bytes(name)
		before := bytes.Clone(b)
		if int(at) < len(b) {
			copy(b[at:], piece)
		}
		if int(size) < len(b) {
			b = b[:size]
		} else if size != 0xffff {
			b = append(b, piece...)
		}
		if bytes.Equal(b, before) || !sameSynced(name, b, before) {
			return
		}
		fs := h.fs.Clone()
		fs.Put(name, b)
		if err := checkFuzzed(fs, h.acked, name); err != nil {
			t.Fatalf("%s of %d bytes, changed at %d: %v", name, len(b), at, err)
		}
	})
}

// sameSynced keeps inputs away that forge the one file whose word is taken.
func sameSynced(name string, b, before []byte) bool {
	return name != "synced" || len(b) >= len(before) && (bytes.Equal(b[:36], before[:36]) || bytes.Equal(b[4096:4132], before[4096:4132]))
}

func checkFuzzed(fs *faultfs.FS, all []byte, file string) error {
	l, r, err := commitlog.Open(fs, commitlog.Options{SegmentSize: 1100})
	if err != nil {
		return err
	}
	got, err := stream(l, 0)
	if r.Damage == nil && err == nil && r.Torn.To == 0 && !bytes.Equal(unmarked(got), all) || !bytes.HasPrefix(all, unmarked(got)) {
		return errors.New("the log is another, and no damage")
	}
	if r.Torn.To > 0 && r.Torn.From < uint64(len(all)) {
		return errors.New("what was durable was cut off")
	}
	if r.Damage == nil && err == nil {
		return checkQueues(l, all, 0)
	}
	return nil
}

// FuzzTail puts bytes behind a log whose end is known: they are cut off, or said to be
// damage, unless they are records that follow.
func FuzzTail(f *testing.F) {
	fs := faultfs.New()
	h := &history{fs: fs}
	if err := h.open(); err != nil {
		f.Fatal(err)
	}
	if err := h.append(5, start(), message("a", 0, "one")); err != nil {
		f.Fatal(err)
	}
	hd := record.Header{Kind: record.KindMessage, Topic: []byte("a"), Epoch: 5, StoreTime: 5, Offset: uint64(len(h.acked)), QueueOffset: 1,
		Link: binary.BigEndian.Uint32(h.acked[record.HeaderSize+12:])}
	next, err := record.Append(nil, &hd, &record.Message{Body: []byte("two")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(next)
	f.Add(next[:len(next)-1])
	f.Add(make([]byte, 1000))
	f.Add(append(make([]byte, 700), next...))
	name := "00000000000000000000.log"
	f.Fuzz(func(t *testing.T, tail []byte) {
		fs := fs.Crash(faultfs.LoseNothing, 0)
		fs.Put(name, append(fs.Bytes(name), tail...))
		l, r, err := commitlog.Open(fs, commitlog.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := stream(l, 0)
		if err != nil && r.Damage == nil || !bytes.HasPrefix(unmarked(got), h.acked) || uint64(len(got)) != l.End() {
			t.Fatalf("%d bytes of %d, %v, %+v", len(got), l.End(), err, r)
		}
		if r.Damage == nil && r.Torn.To > 0 && string(fs.Bytes(r.Torn.File)) != string(tail[len(got)-len(h.acked):]) {
			t.Fatalf("cut off, and not kept: %+v", r)
		}
	})
}
