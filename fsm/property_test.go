package fsm

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestProperties drives random entries, many of them stale, through a state and
// checks from outside, without the state's own check:
//
//   - an address is in one set at most, or retiring;
//   - a set's epochs only rise, over deletion and restored copies too;
//   - every holder's session is open;
//   - a grant passes on, and an address becomes free, only by the word of its
//     holder or the end of its session;
//   - epochs and versions of a broker group only rise, and its master is a member of the
//     in-sync set with an open session; a master is replaced only after its own word or
//     the end of its session;
//   - clones and restored copies go the same way as the original and do not
//     touch it.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{state: New(), epochs: make(map[string]Epoch), versions: make(map[string]uint64)}
		m.state.SetConfiguration(1)
		t.Repeat(map[string]func(*rapid.T){
			"entry":         m.entry,
			"configuration": func(*rapid.T) { m.state.SetConfiguration(m.state.Applied() + 1) },
			"restart": func(t *rapid.T) {
				restored, err := Restore(m.state.Snapshot())
				if err != nil {
					t.Fatal(err)
				}
				m.state = restored
			},
			"": m.invariants,
		})
	})
}

// model is the state under test and what must be remembered beside it.
type model struct {
	state  *State
	epochs map[string]Epoch // the highest epoch that each set ever had, and each group as "group NAME"
	// versions holds the highest version that each group's in-sync set ever had.
	versions map[string]uint64
}

// entry applies a random entry, mostly of ops that could be meant.
func (m *model) entry(t *rapid.T) {
	s := m.state
	e := Entry{Version: EntryVersion, Atomic: rapid.Bool().Draw(t, "atomic")}
	for range rapid.IntRange(1, 4).Draw(t, "ops") {
		op := m.op(t)
		if _, opens := op.(OpenSession); opens && slices.ContainsFunc(e.Ops, func(o Op) bool { return o.Kind() == "open" }) {
			continue
		}
		e.Ops = append(e.Ops, op)
	}
	data, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	index := s.Applied() + rapid.Uint64Range(1, 3).Draw(t, "gap")

	before, bytesBefore := s.Clone(), s.Snapshot()
	restored, err := Restore(bytesBefore)
	if err != nil {
		t.Fatal(err)
	}
	result, err := s.Apply(index, data)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before.Snapshot(), bytesBefore) {
		t.Fatalf("entry %s changed a clone made before", data)
	}
	if _, err := restored.Apply(index, data); err != nil || !bytes.Equal(restored.Snapshot(), s.Snapshot()) {
		t.Fatalf("entry %s: %v; the restored copy has gone another way:\n%s\n%s", data, err, show(restored), show(s))
	}
	other := before.Clone()
	if _, err := other.ApplyEntry(index, e); err != nil || !bytes.Equal(other.Snapshot(), s.Snapshot()) {
		t.Fatalf("entry %s: %v; the clone has gone another way", data, err)
	}
	if !bytes.Equal(before.Snapshot(), bytesBefore) {
		t.Fatalf("entry %s on a clone changed its original", data)
	}
	if e.Atomic && result.Err() != nil && len(result.Changes) > 0 {
		t.Fatalf("entry %s was refused and has changes", data)
	}
	m.licensed(t, before, e, result)
	m.mastersLicensed(t, before, e, result)
}

// op draws an op. Most of its arguments are taken from the state.
func (m *model) op(t *rapid.T) Op {
	s := m.state
	set := rapid.SampledFrom([]string{"s1", "s2", "s3"}).Draw(t, "set")
	host := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "host")
	sessions := []SessionID{99}
	for _, open := range s.Sessions() {
		sessions = append(sessions, open.ID)
	}
	session := rapid.SampledFrom(sessions).Draw(t, "session")
	epoch := m.epochs[set]
	if grant, ok := s.Grant(set); ok && rapid.Bool().Draw(t, "author") {
		session = grant.Session
	}
	switch rapid.IntRange(0, 27).Draw(t, "kind") {
	case 0, 1:
		return OpenSession{host, time.Second, [32]byte{1}, nil}
	case 2:
		return CloseSession{session, ""}
	case 3:
		return Expire{session, s.Configuration() - uint64(rapid.IntRange(0, 1).Draw(t, "stale")), ""}
	case 4:
		return Rebind{session, rapid.SampledFrom(sessions).Draw(t, "new")}
	case 5:
		return Release{set, session, epoch, ""}
	case 6, 7, 8:
		return GrantSet{set, session, ""}
	case 9:
		return RecallSet{set, epoch, rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "to"), ""}
	case 10:
		if rows := s.Retiring(); len(rows) > 0 {
			row := rapid.SampledFrom(rows).Draw(t, "row")
			return ConfirmRemoval{rapid.SampledFrom([]SessionID{row.Session, session}).Draw(t, "by"), row.Address, row.Claim}
		}
		return SetCondition{session, set, Condition{Veto: rapid.Bool().Draw(t, "veto")}}
	case 11:
		return DeleteSet{set, ""}
	case 12:
		return PreferHost{set, host, ""}
	case 13:
		return m.restore(t)
	case 14:
		return NoteStall{Session: session, Lasted: MinStall * time.Duration(rapid.IntRange(0, 30).Draw(t, "lasted"))}
	case 15:
		return NoteRouter{session, set, Router{State: rapid.SampledFrom([]string{"", "backup", "active"}).Draw(t, "state")}}
	}
	if rapid.Bool().Draw(t, "of a group") {
		return m.groupOp(t)
	}
	return PutSet{Set: m.set(t, set)}
}

// set draws a set of some of six addresses.
func (m *model) set(t *rapid.T, name string) Set {
	set := Set{Name: name, Candidates: []Candidate{{"a", 3}, {"b", 2}}}
	for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(1, 6), 1, 3, rapid.ID).Draw(t, "addresses") {
		addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		set.Addresses = append(set.Addresses, Address{Prefix: netip.PrefixFrom(addr, rapid.IntRange(24, 25).Draw(t, "bits"))})
	}
	return set
}

func (m *model) restore(t *rapid.T) Op {
	var op RestoreSets
	for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"s1", "s2", "s3"}), rapid.ID).Draw(t, "sets") {
		op.Sets = append(op.Sets, m.set(t, name))
	}
	return op
}

// invariants checks what must hold at any time.
func (m *model) invariants(t *rapid.T) {
	s := m.state
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	owner := make(map[netip.Addr]string)
	claim := func(address netip.Addr, by string) {
		if other, ok := owner[address]; ok {
			t.Fatalf("address %v has %s and %s", address, other, by)
		}
		owner[address] = by
	}
	for _, set := range s.Sets() {
		for _, a := range set.Addresses {
			claim(a.Addr(), "set "+set.Name)
		}
	}
	for _, row := range s.Retiring() {
		claim(row.Address, "a retiring row")
		if _, ok := s.Session(row.Session); !ok {
			t.Fatalf("%v retires for session %d, which is not open", row.Address, row.Session)
		}
	}
	for _, grant := range s.Grants() {
		session, ok := s.Session(grant.Session)
		if !ok || session.Host != grant.Host {
			t.Fatalf("set %s is granted to session %d, which is not open on %s", grant.Set, grant.Session, grant.Host)
		}
		if grant.Epoch < m.epochs[grant.Set] {
			t.Fatalf("set %s has epoch %d after %d", grant.Set, grant.Epoch, m.epochs[grant.Set])
		}
		m.epochs[grant.Set] = grant.Epoch
	}
	m.groupInvariants(t)
}

// licensed checks that what a holder had was taken from it only by its own word
// or by the end of its session.
func (m *model) licensed(t *rapid.T, before *State, e Entry, result Result) {
	successor := make(map[SessionID]SessionID) // rebound sessions
	said := make(map[string]bool)              // by holders, in ops that were applied
	for i, op := range e.Ops {
		if result.Ops[i].Refusal != nil {
			continue
		}
		switch op := op.(type) {
		case CloseSession:
			said[fmt.Sprint("end ", op.Session)] = true
		case Expire:
			said[fmt.Sprint("end ", op.Session)] = true
		case Rebind:
			successor[op.Old] = op.New
		case Release:
			said[fmt.Sprint("release ", op.Set, op.Session, op.Epoch)] = true
		case ConfirmRemoval:
			said[fmt.Sprint("down ", op.Address, op.Session)] = true
		}
	}
	// lineage is a session and those that took over from it.
	lineage := func(id SessionID) []SessionID {
		ids := []SessionID{id}
		for next, ok := successor[id]; ok && len(ids) < 9; next, ok = successor[next] {
			ids = append(ids, next)
		}
		return ids
	}
	by := func(id SessionID, word string, rest ...any) bool {
		return slices.ContainsFunc(lineage(id), func(id SessionID) bool {
			return said[fmt.Sprint("end ", id)] || said[fmt.Sprint(append([]any{word + " "}, append(rest, id)...)...)]
		})
	}
	now := mayBeUp(m.state)
	for address, id := range mayBeUp(before) {
		if holder, ok := now[address]; ok && slices.Contains(lineage(id), holder) {
			continue
		}
		if by(id, "down", address) {
			continue
		}
		free := false
		for _, grant := range before.GrantsOf(id) {
			for _, a := range before.sets[grant.Set].Addresses {
				if a.Addr() == address {
					free = slices.ContainsFunc(lineage(id), func(id SessionID) bool {
						return said[fmt.Sprint("release ", grant.Set, id, grant.Epoch)]
					})
				}
			}
		}
		if !free {
			t.Fatalf("address %v was session %d's, and nobody had said that it is down; entry %+v", address, id, e)
		}
	}
}

// mayBeUp tells which session may have an address up.
func mayBeUp(s *State) map[netip.Addr]SessionID {
	up := make(map[netip.Addr]SessionID)
	for _, grant := range s.Grants() {
		for _, a := range s.sets[grant.Set].Addresses {
			up[a.Addr()] = grant.Session
		}
	}
	for address, row := range maps.All(s.retiring) {
		up[address] = row.Session
	}
	return up
}
