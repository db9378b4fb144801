package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestSnapshotGolden(t *testing.T) {
	s := fullState(t)
	want := golden(t, "testdata/snapshot.golden", s.Snapshot())
	restored, err := Restore(want)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(restored, s) {
		t.Errorf("the golden file reads as\n%s\nnot\n%s", show(restored), show(s))
	}
	if !bytes.Equal(restored.Snapshot(), want) {
		t.Error("the restored state writes other bytes")
	}
}

// TestSnapshotHasEveryTable guards the test above: a new field of State has to
// be non-zero in fullState, and so come into the golden file.
func TestSnapshotHasEveryTable(t *testing.T) {
	v := reflect.ValueOf(fullState(t)).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.IsZero() || f.Kind() == reflect.Map && f.Len() == 0 {
			t.Errorf("%s is empty", v.Type().Field(i).Name)
		}
	}
}

// TestSnapshotBeforeGroups: a program that knew no broker groups left this.
func TestSnapshotBeforeGroups(t *testing.T) {
	data, err := os.ReadFile("testdata/snapshot.before-groups.golden")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Restore(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Groups())+len(s.Topics())+len(s.Brokers()) > 0 || len(s.Sets()) == 0 || len(s.Sessions()) == 0 {
		t.Errorf("restored\n%s", show(s))
	}
	body := data[bodyOffset:]
	if again := s.Snapshot()[bodyOffset:]; !bytes.Equal(again, body) {
		t.Errorf("a state without groups is written as\n%s\nnot\n%s", again, body)
	}
}

func TestSnapshotOfNothing(t *testing.T) {
	restored, err := Restore(New().Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(restored, New()) {
		t.Errorf("restored %+v", restored)
	}
}

// TestRestoreCutShort cuts a snapshot at every length; the error names the end.
func TestRestoreCutShort(t *testing.T) {
	data := fullState(t).Snapshot()
	for n := range len(data) {
		_, err := Restore(data[:n])
		if corrupt, ok := errors.AsType[*CorruptError](err); !ok || corrupt.Offset != n || !strings.Contains(err.Error(), "cut short") {
			t.Fatalf("%d of %d bytes: %v", n, len(data), err)
		}
	}
	_, err := Restore(append(data, "more"...))
	if corrupt, ok := errors.AsType[*CorruptError](err); !ok || corrupt.Offset != len(data) {
		t.Errorf("four bytes too many: %v", err)
	}
}

// TestRestoreDamaged flips each bit.
func TestRestoreDamaged(t *testing.T) {
	data := fullState(t).Snapshot()
	for i := range data {
		for bit := range 8 {
			data[i] ^= 1 << bit
			_, err := Restore(data)
			corrupt, ok := errors.AsType[*CorruptError](err)
			if !ok {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
			where := 0
			switch {
			case i >= crcOffset:
				where = crcOffset
			case i >= lengthOffset:
				// A length that is not the body's names where the body ends.
				where = min(len(data), bodyOffset+int(min(binary.BigEndian.Uint64(data[lengthOffset:]), 1<<40)))
			case i >= versionOffset:
				where = versionOffset
			}
			if corrupt.Offset != where {
				t.Fatalf("bit %d of byte %d: %v, not at %d", bit, i, err, where)
			}
			data[i] ^= 1 << bit
		}
	}
}

// TestRestoreContradiction gives bodies with a right checksum and a wrong sense.
func TestRestoreContradiction(t *testing.T) {
	whole := string(fullState(t).Snapshot()[bodyOffset:])
	for _, test := range []struct {
		name, old, new, want string
	}{
		{"unknown field", `"applied":20`, `"applied":20,"leader":"a"`, `unknown field "leader"`},
		{"wrong type", `"applied":20`, `"applied":"x"`, "cannot unmarshal"},
		{"broken", `"applied":20`, `"applied":`, "invalid character"},
		{"bytes behind", `]}` + "\x00", `]}{}`, "bytes behind"},
		{"future configuration", `"configuration":1`, `"configuration":21`, "the configuration has index 21"},
		{"session twice", `"id":4`, `"id":2`, "a session comes twice"},
		{"session 0", `"id":4`, `"id":0`, "id 0"},
		{"future session", `"id":4`, `"id":44`, "a session has index 44"},
		{"condition twice", `{"set":"db","weight":3}`, `{"set":"web","weight":3}`, "session 2 has two conditions for one set"},
		{"short secret", `"secret":"01`, `"secret":"`, "a secret has 64 digits"},
		{"set twice", `"sets":[{"name":"db"`, `"sets":[{"name":"web"`, "read sets: web comes twice"},
		{"null set", `"sets":[`, `"sets":[null,`, "an empty row"},
		{"address twice", `10.0.0.20/24`, `10.0.0.10/24`, "address 10.0.0.10 is in set db and in set web"},
		{"address retiring", `10.0.0.20/24`, `10.0.0.11/24`, "address 10.0.0.11 is in set db and retiring"},
		{"no address", `"10.0.0.20/24"`, `""`, "has an address that is none"},
		{"future claim", `"prefix":"10.0.0.20/24","claim":6`, `"prefix":"10.0.0.20/24","claim":66`, "the claim of 10.0.0.20 has index 66"},
		{"future revision", `"revision":6`, `"revision":66`, "set db has index 66"},
		{"granted and gone", `"grants":[{"set":"db"`, `"grants":[{"set":"mail"`, "mail is granted and does not exist"},
		{"holder not open", `"grants":[{"set":"db","session":3`, `"grants":[{"set":"db","session":13`, "session 13 is not open"},
		{"holder of another host", `"grants":[{"set":"db","session":3`, `"grants":[{"set":"db","session":2`, "session 2 is of host a, not b"},
		{"future epoch", `"host":"b","epoch":8}`, `"host":"b","epoch":88}`, "the grant of db has index 88"},
		{"retiring without holder", `"address":"10.0.0.11","claim":5,"session":2`, `"address":"10.0.0.11","claim":5,"session":12`, "session 12 is not open"},
		{"future retiring claim", `"address":"10.0.0.11","claim":5`, `"address":"10.0.0.11","claim":55`, "index 55"},
		{"no retiring address", `"address":"10.0.0.11"`, `"address":""`, "a retiring address that is none"},
		{"drained twice", `"drained":[`, `"drained":[{"host":"a"},`, `host "a" is drained twice`},
		{"group twice", `"groups":[`, `"groups":[{"name":"orders","created":18,"record":{"settings":{"mode":"sync","min_in_sync":1,"policy":"never"},"next":{"mode":"sync","min_in_sync":1,"policy":"never"},"members":[{"id":"b1","priority":1,"incarnation":1}],"in_sync":["b1"],"version":18}},`, "read groups: orders comes twice"},
		{"members in disorder", `"members":[{"id":"b1"`, `"members":[{"id":"b3"`, "members are none or not in order"},
		{"future incarnation", `"priority":2,"incarnation":18`, `"priority":2,"incarnation":81`, "the incarnation of b1 has index 81"},
		{"in-sync set in disorder", `"in_sync":["b1","b2"]`, `"in_sync":["b2","b1"]`, "in-sync set is not in order"},
		{"in sync and no member", `"in_sync":["b1","b2"]`, `"in_sync":["b1","b3"]`, "b3 is in the in-sync set and no member"},
		{"master out of sync", `"in_sync":["b1","b2"]`, `"in_sync":["b2"]`, "master b1 is not in the in-sync set"},
		{"future version", `"version":18`, `"version":81`, "has index 81"},
		{"epoch without master", `"master":"b1",`, ``, "are not one grant"},
		{"future epoch of a group", `"master":"b1","epoch":19`, `"master":"b1","epoch":91`, "has index 91"},
		{"master without session", `"session":16}]`, `"session":116}]`, "session 116 is not open"},
		{"session of another broker", `"session":16}]`, `"session":17}]`, "session 17 is not of its master b1"},
		{"session of an agent", `"session":16}]`, `"session":2}]`, "session 2 is not of its master b1"},
		{"set held by a broker", `"grants":[{"set":"db","session":3,"host":"b"`, `"grants":[{"set":"db","session":16,"host":"c"`, "session 16 is of a broker"},
		{"topic twice", `"topics":[`, `"topics":[{"name":"Orders","queues":8,"revision":20},`, "read topics: Orders comes twice"},
		{"topic without queues", `"queues":8`, `"queues":0`, "topic Orders has 0 queues"},
		{"future topic", `"queues":8,"revision":20`, `"queues":8,"revision":22`, "topic Orders has index 22"},
		{"audit in disorder", `{"index":3,`, `{"index":13,`, "change 4 comes behind change 13"},
		{"audit of the future", `{"index":20,`, `{"index":21,`, "the last change has index 21"},
	} {
		body := whole + "\x00"
		if strings.Count(body, test.old) < 1 {
			t.Errorf("%s: no %s in %s", test.name, test.old, whole)
			continue
		}
		body = strings.TrimSuffix(strings.Replace(body, test.old, test.new, 1), "\x00")
		s, err := Restore(frame([]byte(body)))
		if corrupt, ok := errors.AsType[*CorruptError](err); !ok || corrupt.Offset < bodyOffset || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, not %q", test.name, err, test.want)
		}
		if s != nil {
			t.Errorf("%s: half a state", test.name)
		}
	}
}

func TestRestoreRingTooLong(t *testing.T) {
	s := New()
	s.applied = 1
	s.audit = make([]Change, AuditRing+1)
	if _, err := Restore(s.Snapshot()); err == nil || !strings.Contains(err.Error(), "1001 changes in a ring of 1000") {
		t.Errorf("restored: %v", err)
	}
}

// TestReadsStayAsTheyWere: what was read is not touched by what is applied
// later, also when the audit ring wraps.
func TestReadsStayAsTheyWere(t *testing.T) {
	s := fullState(t)
	for len(s.Changes(0)) < AuditRing {
		e := Entry{Version: EntryVersion, Ops: []Op{PauseSet{Paused: !s.Settings().Paused}}}
		if _, err := s.ApplyEntry(s.Applied()+1, e); err != nil {
			t.Fatal(err)
		}
	}
	before := show(s)
	copied := s.Clone()
	changes := s.Changes(0)
	kept := slices.Clone(changes)
	for _, state := range []*State{s, copied.Clone(), s.Clone()} {
		for range AuditRing + 10 {
			e := Entry{Version: EntryVersion, Ops: []Op{PauseSet{Paused: !state.Settings().Paused}, PreferHost{Set: "db", Host: "a"}, CloseSession{Session: 2}}}
			if _, err := state.ApplyEntry(state.Applied()+1, e); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !reflect.DeepEqual(changes, kept) {
		t.Error("rows that were handed out have changed")
	}
	if got := show(copied); got != before {
		t.Errorf("the clone has changed from\n%s\nto\n%s", before, got)
	}
	if len(s.Changes(0)) != AuditRing {
		t.Errorf("%d rows", len(s.Changes(0)))
	}
}

// TestClonesPart: two clones that go different ways do not write to a common
// array.
func TestClonesPart(t *testing.T) {
	for sessions := range 9 {
		s := New()
		open := func(s *State, index uint64) {
			t.Helper()
			e := Entry{Version: EntryVersion, Ops: []Op{OpenSession{"a", MinTTL, [32]byte{1}, nil}}}
			if result, err := s.ApplyEntry(index, e); err != nil || result.Err() != nil {
				t.Fatal(err, result.Err())
			}
		}
		for i := range sessions {
			open(s, uint64(i+1))
		}
		one, two := s.Clone(), s.Clone()
		open(one, 20)
		open(two, 30)
		for index, clone := range map[uint64]*State{20: one, 30: two} {
			if err := clone.check(); err != nil {
				t.Errorf("%d sessions and number %d: %v", sessions, index, err)
			}
			if rows := clone.Changes(20); len(rows) != 1 || rows[0].Index != index {
				t.Errorf("%d sessions and number %d: changes %v", sessions, index, rows)
			}
		}
	}
}

func BenchmarkClone(b *testing.B) {
	s := largeState(b)
	b.ReportAllocs()
	for b.Loop() {
		s.Clone()
	}
}

// BenchmarkPreview is what a leader does per decision: clone, apply, look.
func BenchmarkPreview(b *testing.B) {
	s := largeState(b)
	e := Entry{Version: EntryVersion, Ops: []Op{
		Release{"set-00", 2, Epoch(s.grants["set-00"].Epoch), "going down"},
		GrantSet{"set-00", 3, "highest priority of the eligible hosts"},
	}}
	b.ReportAllocs()
	for b.Loop() {
		if result, err := s.Clone().ApplyEntry(s.Applied()+1, e); err != nil || result.Err() != nil {
			b.Fatal(err, result.Err())
		}
	}
}

// BenchmarkTakeover expires a session that holds everything, and grants all of
// it anew, from bytes.
func BenchmarkTakeover(b *testing.B) {
	s := largeState(b)
	ops := []Op{}
	for _, grant := range s.Grants() {
		ops = append(ops, Release{grant.Set, grant.Session, grant.Epoch, "drained"}, GrantSet{grant.Set, grant.Session, "next"})
	}
	data, err := Entry{Version: EntryVersion, Ops: ops}.Encode()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if result, err := s.Clone().Apply(s.Applied()+1, data); err != nil || result.Err() != nil {
			b.Fatal(err, result.Err())
		}
	}
}

func BenchmarkSnapshot(b *testing.B) {
	s := largeState(b)
	b.SetBytes(int64(len(s.Snapshot())))
	for b.Loop() {
		s.Snapshot()
	}
}

func BenchmarkRestore(b *testing.B) {
	data := largeState(b).Snapshot()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Restore(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSessions(b *testing.B) {
	s := largeState(b)
	for b.Loop() {
		s.Sessions()
	}
}
