package fsm

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"testing"
	"time"
)

// golden compares bytes with a file, or writes the file with -rewrite.
func golden(t *testing.T, file string, got []byte) []byte {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: the format has changed; logs and snapshots of older programs hold\n%s\nand this one writes\n%s", file, want, got)
	}
	return want
}

// goldenEntry has every op, which makes no sense but is well-formed.
func goldenEntry() Entry {
	return Entry{Version: EntryVersion, At: 1_700_000_000_000_000_000, Actor: "alice", Atomic: true, Ops: everyOp()}
}

func TestEntryGolden(t *testing.T) {
	data, err := goldenEntry().Encode()
	if err != nil {
		t.Fatal(err)
	}
	// One op per line, so that a change of the format can be read.
	lines := bytes.ReplaceAll(data, []byte(`{"op":`), []byte("\n"+`{"op":`))
	want := golden(t, "testdata/entry.golden", append(lines, '\n'))
	e, err := DecodeEntry(want)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(e, goldenEntry()) {
		t.Errorf("the golden file reads as\n%+v\nnot\n%+v", e, goldenEntry())
	}
}

// TestEntryBeforeGroups: the log may hold entries of a program that knew no brokers.
func TestEntryBeforeGroups(t *testing.T) {
	data, err := os.ReadFile("testdata/entry.before-groups.golden")
	if err != nil {
		t.Fatal(err)
	}
	e, err := DecodeEntry(data)
	if err != nil {
		t.Fatal(err)
	}
	if open, ok := e.Ops[0].(OpenSession); !ok || open.Broker != nil {
		t.Errorf("read %+v", e.Ops[0])
	}
}

// TestEveryOpIsThere guards the tests above: a new op or field has to come into
// everyOp, and so into the golden file.
func TestEveryOpIsThere(t *testing.T) {
	kinds := make(map[string]bool)
	for _, op := range everyOp() {
		if kinds[op.Kind()] {
			t.Errorf("op %s comes twice", op.Kind())
		}
		kinds[op.Kind()] = true
		if path := zeroField(reflect.ValueOf(op), op.Kind()); path != "" {
			t.Errorf("%s is zero", path)
		}
	}
	for kind := range decoders {
		if !kinds[kind] {
			t.Errorf("op %s is missing", kind)
		}
	}
}

// zeroField returns the path of a field that is zero, "" if none is.
func zeroField(v reflect.Value, path string) string {
	if v.IsZero() {
		return path
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				if p := zeroField(v.Field(i), path+"."+f.Name); p != "" {
					return p
				}
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if p := zeroField(v.Index(i), path+"[]"); p != "" {
				return p
			}
		}
	}
	return ""
}

func TestEncodeRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		e    Entry
		want error
	}{
		{"no version", Entry{Ops: []Op{Rebind{1, 2}}}, ErrVersion},
		{"newer version", Entry{Version: EntryVersion + 1, Ops: []Op{Rebind{1, 2}}}, ErrVersion},
		{"no ops", Entry{Version: EntryVersion}, ErrMalformed},
		{"nil op", Entry{Version: EntryVersion, Ops: []Op{nil}}, ErrMalformed},
		{"two sessions", Entry{Version: EntryVersion, Ops: []Op{OpenSession{}, OpenSession{}}}, ErrMalformed},
		{"op of another package", Entry{Version: EntryVersion, Ops: []Op{foreignOp{}}}, ErrUnknownOp},
	} {
		if _, err := test.e.Encode(); !errors.Is(err, test.want) {
			t.Errorf("%s: encode: %v, not %v", test.name, err, test.want)
		}
		if test.name == "op of another package" {
			continue // nobody can write one; here it only shows that Encode looks
		}
		s := New()
		if _, err := s.ApplyEntry(1, test.e); !errors.Is(err, test.want) || s.Applied() != 0 {
			t.Errorf("%s: apply: %v, not %v; applied %d", test.name, err, test.want, s.Applied())
		}
	}
}

type foreignOp struct{ Rebind }

func (foreignOp) Kind() string { return "foreign" }

// TestTextFitsTheSnapshot: a text that JSON cannot carry, or too long a one, is
// cut when it comes in, or the state and its restored copy would differ.
func TestTextFitsTheSnapshot(t *testing.T) {
	s := New()
	long := bytes.Repeat([]byte("ä"), 1000)
	ops := []Op{
		OpenSession{"a", time.Second, [32]byte{1}, nil},
		SetCondition{1, "web", Condition{Veto: true, Reason: "\xff\xfe" + string(long)}},
		DrainHost{"a", true, string(long) + "\xff"},
		CloseSession{1, "\xff" + string(long[1:])},
	}
	if _, err := s.ApplyEntry(1, Entry{Version: EntryVersion, Actor: "\xff", Ops: ops}); err != nil {
		t.Fatal(err)
	}
	for _, c := range s.Changes(0) {
		if len(c.Cause) > maxCause || c.Actor != "\uFFFD" {
			t.Errorf("%d bytes of cause, actor %q", len(c.Cause), c.Actor)
		}
	}
	restored, err := Restore(s.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(restored.Changes(0), s.Changes(0)) {
		t.Error("the restored audit ring is another")
	}
	if cause, _ := restored.Drained("a"); cause == "" || len(cause) > maxCause {
		t.Errorf("drain cause has %d bytes", len(cause))
	}
}

// TestDifferencesSeesEveryField: a field of Set that differences overlooks could
// never be edited.
func TestDifferencesSeesEveryField(t *testing.T) {
	ignored := map[string]bool{"Name": true, "Revision": true}
	for i := range reflect.TypeFor[Set]().NumField() {
		field := reflect.TypeFor[Set]().Field(i)
		old := everyOp()[9].(PutSet).Set
		next := old
		reflect.ValueOf(&next).Elem().Field(i).SetZero()
		if got := differences(&old, &next); (got == "") != ignored[field.Name] {
			t.Errorf("%s: difference %q", field.Name, got)
		}
	}
}
