package fsm

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"holdfast/fsm/group"
)

// everyOp holds each op once, with every field set.
func everyOp() []Op {
	set := Set{
		Name: "web",
		Addresses: []Address{
			{Prefix: netip.MustParsePrefix("10.0.0.10/24"), Interface: "eth1", Claim: 3},
			{Prefix: netip.MustParsePrefix("2001:db8::10/64"), Interface: "eth1", Claim: 3},
		},
		Candidates:   []Candidate{{"a", 100}, {"b", 50}},
		Preempt:      true,
		PreemptDelay: 5 * time.Second,
		SyncGroup:    "front",
		Spread:       "rack",
		AntiAffinity: "power",
		Paused:       true,
		Prefer:       "b",
		VRRP: &VRRP{ID: 51, Version: 2, Priority: 120, Interval: time.Second, Interface: "eth1", IPv6: true, NoPreempt: true,
			Password: "secret", Peers: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, PlainChecksum: true, Mode: VRRPObserve},
		Revision: 4,
	}
	settings := group.Settings{Mode: group.Async, MinInSync: 1, Policy: group.PolicyNever, ReadLocal: true}
	return []Op{
		OpenSession{"a", time.Second, [32]byte{0x5e, 0xc7, 31: 0xff}, &Broker{"b1", "10.0.0.1:8081", "10.0.0.1:7962"}},
		CloseSession{7, "SIGTERM"},
		Expire{7, 1, "lease lapsed"},
		Rebind{7, 9},
		Release{"web", 7, 12, "recalled"},
		GrantSet{"web", 7, "highest priority"},
		RecallSet{"web", 12, "b", "moved by alice"},
		ConfirmRemoval{7, netip.MustParseAddr("10.0.0.11"), 3},
		SetCondition{7, "web", Condition{Weight: -20, Veto: true, Reason: "disk is <full> & \"slow\""}},
		PutSet{set, "apply"},
		DeleteSet{"web", "apply"},
		PreferHost{"web", "b", "move"},
		PauseSet{"web", true, "maintenance"},
		DrainHost{"a", true, "new kernel"},
		RestoreSets{[]Set{set}, map[string]string{"a": "new kernel", "c": "gone"}, true, "undo"},
		NoteStall{7, 2800 * time.Millisecond, 400 * time.Millisecond, 2},
		NoteRouter{7, "web", Router{"backup", netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), 110}},
		PutGroup{"orders", []GroupMember{{"b1", 2}, {"b2", 1}}, settings, "put"},
		DeleteGroup{"orders", "gone"},
		ConfigureGroup{"orders", settings, "mode"},
		GrantGroup{"orders", 7, true, true, "nobody else"},
		ReleaseGroup{"orders", 7, 12, "SIGTERM"},
		RecallGroup{"orders", 12, "b2", "switchover"},
		GrowInSync{"orders", 7, group.Grow{Epoch: 12, Version: 10, Member: "b2", Incarnation: 4}},
		ShrinkInSync{"orders", 7, group.Shrink{Epoch: 12, Version: 10, Member: "b2"}},
		ReturnReplica{"orders", 7, 4, 99, "disk replaced"},
		PutTopic{"Orders", 8, true, "first send"},
		DeleteTopic{"Orders", "gone"},
	}
}

// fullState is a state with something in every table.
func fullState(t testing.TB) *State {
	t.Helper()
	s := New()
	s.SetConfiguration(1)
	for i, line := range []string{
		"open a", "open b ttl=500ms", "open a ttl=2s",
		"put web 10.0.0.10/24,10.0.0.11/24%eth1,2001:db8::10/64 hosts=a:100,b:50 preempt delay=5s group=front spread=rack apart=power paused because apply",
		"put db 10.0.0.20/24 hosts=a:100,b:50",
		"grant web session=2 because highest priority",
		"grant db session=3",
		"put web 10.0.0.10/24,2001:db8::10/64 hosts=a:100,b:50 preempt delay=5s group=front spread=rack apart=power",
		"recall web epoch=7 to=b because moved by alice",
		"prefer web b",
		"condition web session=2 weight=-20 veto because disk is <full>",
		"condition db session=2 weight=3",
		"drain a because new kernel",
		"pause everything because maintenance",
		"open c broker=b1",
		"open d broker=b2",
		"put-group orders b1:2,b2:1 mode=async because apply",
		"grant-group orders session=16",
		"put-topic Orders 8",
	} {
		op, err := parseOp(line, nil)
		if err != nil {
			t.Fatal(err)
		}
		e := Entry{Version: EntryVersion, At: 1_700_000_000_000_000_000 + int64(i), Actor: "alice", Ops: []Op{op}}
		result, err := s.ApplyEntry(uint64(i+2), e)
		if err != nil || result.Err() != nil {
			t.Fatalf("%s: %v, %v", line, err, result.Err())
		}
	}
	return s
}

// largeState has 50 sets with 20 addresses each, all held, 500 sessions and a
// full audit ring.
func largeState(t testing.TB) *State {
	t.Helper()
	s := New()
	s.SetConfiguration(1)
	apply := func(ops ...Op) {
		t.Helper()
		result, err := s.ApplyEntry(s.Applied()+1, Entry{Version: EntryVersion, Actor: "test", Ops: ops})
		if err != nil || result.Err() != nil {
			t.Fatalf("%v, %v", err, result.Err())
		}
	}
	for i := range 500 {
		apply(OpenSession{fmt.Sprintf("host-%03d", i), time.Second, [32]byte{1}, nil})
	}
	sessions := s.Sessions()
	for i := range 50 {
		set := Set{Name: fmt.Sprintf("set-%02d", i)}
		for j := range 20 {
			addr := netip.AddrFrom4([4]byte{10, 1, byte(i), byte(j + 10)})
			set.Addresses = append(set.Addresses, Address{Prefix: netip.PrefixFrom(addr, 16)})
		}
		for j := range 3 {
			set.Candidates = append(set.Candidates, Candidate{sessions[(i+j)%len(sessions)].Host, 100 - j})
		}
		apply(PutSet{Set: set, Cause: "apply"})
		apply(GrantSet{set.Name, sessions[i].ID, "highest priority of the eligible hosts"})
	}
	for range AuditRing {
		apply(PauseSet{Paused: !s.Settings().Paused, Cause: "fill the ring"})
	}
	return s
}
