package fsm

import (
	"bytes"
	"reflect"
	"testing"
)

// seedEntries gives the fuzzers an entry per op, the golden one and some that
// are wrong.
func seedEntries(f *testing.F) [][]byte {
	var seeds [][]byte
	for _, op := range everyOp() {
		data, err := Entry{Version: EntryVersion, At: 1, Actor: "a", Ops: []Op{op}}.Encode()
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, data)
	}
	all, err := goldenEntry().Encode()
	if err != nil {
		f.Fatal(err)
	}
	return append(seeds, all,
		[]byte(`{"version":1,"ops":[{"op":"rebind","old":2,"new":4}]}`),
		[]byte(`{"version":1,"atomic":true,"ops":[{"op":"delete","set":"web"},{"op":"confirm","session":2,"address":"10.0.0.11","claim":5}]}`),
		[]byte(`{"version":2}`), []byte(`null`), []byte(`{"version":1,"ops":[{"op":"put","set":{"addresses":[{"prefix":"::ffff:1.2.3.4/120"}]}}]}`))
}

// FuzzDecodeEntry: no bytes make the decoder panic, and what it accepts comes
// back equal from its own encoding.
func FuzzDecodeEntry(f *testing.F) {
	for _, seed := range seedEntries(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := DecodeEntry(data)
		if err != nil {
			return
		}
		encoded, err := e.Encode()
		if err != nil {
			t.Fatalf("%q was read and cannot be written: %v", data, err)
		}
		again, err := DecodeEntry(encoded)
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Fatalf("%q is %+v; written and read again %v, %+v", data, e, err, again)
		}
	})
}

// FuzzApply: no entry brings the state out of its invariants, and a restored
// copy follows.
func FuzzApply(f *testing.F) {
	seeds := seedEntries(f)
	for i, seed := range seeds {
		f.Add(seed, seeds[(i+1)%len(seeds)])
	}
	full := fullState(f)
	f.Fuzz(func(t *testing.T, one, two []byte) {
		s := full.Clone()
		for _, data := range [][]byte{one, two} {
			copied, err := Restore(s.Snapshot())
			if err != nil {
				t.Fatalf("restore: %v", err)
			}
			index := s.Applied() + 1
			if _, err := s.Apply(index, data); err != nil {
				return
			}
			if err := s.check(); err != nil {
				t.Fatalf("after %q: %v", data, err)
			}
			if _, err := copied.Apply(index, data); err != nil || !bytes.Equal(copied.Snapshot(), s.Snapshot()) {
				t.Fatalf("after %q: %v; the restored copy differs", data, err)
			}
		}
	})
}

// FuzzRestore: no bytes make Restore panic, and what it accepts is a state in
// order. The bytes are tried as a snapshot and as a body with a right header.
func FuzzRestore(f *testing.F) {
	full := fullState(f).Snapshot()
	f.Add(full)
	f.Add(full[bodyOffset:])
	f.Add(full[:100])
	f.Add(New().Snapshot()[bodyOffset:])
	entry, err := goldenEntry().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, snapshot := range [][]byte{data, frame(data)} {
			s, err := Restore(snapshot)
			if err != nil {
				continue
			}
			first := s.Snapshot()
			again, err := Restore(first)
			if err != nil || !bytes.Equal(again.Snapshot(), first) {
				t.Fatalf("%q restores, and its snapshot does not: %v", snapshot, err)
			}
			if _, err := s.Apply(s.Applied()+1, entry); err == nil {
				if err := s.check(); err != nil {
					t.Fatalf("%q and an entry: %v", snapshot, err)
				}
			}
		}
	})
}
