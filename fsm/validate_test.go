package fsm

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestValidateSet has what testdata/sets.txt cannot say: limits, and values
// that have no text.
func TestValidateSet(t *testing.T) {
	addresses := func(n int) (out []Address) {
		for i := range n {
			addr := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
			out = append(out, Address{Prefix: netip.PrefixFrom(addr, 32)})
		}
		return out
	}
	candidates := func(n int) (out []Candidate) {
		for i := range n {
			out = append(out, Candidate{fmt.Sprintf("host-%d", i), 1})
		}
		return out
	}
	for _, test := range []struct {
		name  string
		edit  func(*Set)
		field string // "" = a good set
	}{
		{"plain", func(*Set) {}, ""},
		{"longest name", func(s *Set) { s.Name = strings.Repeat("a", 63) }, ""},
		{"longer name", func(s *Set) { s.Name = strings.Repeat("a", 64) }, "name"},
		{"no name", func(s *Set) { s.Name = "" }, "name"},
		{"name with a dash first", func(s *Set) { s.Name = "-a" }, "name"},
		{"name in UTF-8", func(s *Set) { s.Name = "wéb" }, "name"},
		{"most addresses", func(s *Set) { s.Addresses = addresses(MaxAddresses) }, ""},
		{"more addresses", func(s *Set) { s.Addresses = addresses(MaxAddresses + 1) }, "addresses"},
		{"zero prefix", func(s *Set) { s.Addresses = []Address{{}} }, "addresses[0].prefix"},
		{"prefix too long", func(s *Set) { s.Addresses[0].Prefix = netip.PrefixFrom(s.Addresses[0].Addr(), 33) }, "addresses[0].prefix"},
		{"IPv4 in IPv6", func(s *Set) {
			s.Addresses[0].Prefix = netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.0.1"), 120)
		}, "addresses[0].prefix"},
		{"longest interface", func(s *Set) { s.Addresses[0].Interface = strings.Repeat("e", 15) }, ""},
		{"longer interface", func(s *Set) { s.Addresses[0].Interface = strings.Repeat("e", 16) }, "addresses[0].interface"},
		{"interface of dots", func(s *Set) { s.Addresses[0].Interface = ".." }, "addresses[0].interface"},
		{"interface with a space", func(s *Set) { s.Addresses[0].Interface = "a b" }, "addresses[0].interface"},
		{"interface of bytes", func(s *Set) { s.Addresses[0].Interface = "eth\xff" }, "addresses[0].interface"},
		{"most candidates", func(s *Set) { s.Candidates = candidates(MaxCandidates) }, ""},
		{"more candidates", func(s *Set) { s.Candidates = candidates(MaxCandidates + 1) }, "candidates"},
		{"longest delay", func(s *Set) { s.PreemptDelay = time.Hour }, ""},
		{"negative delay", func(s *Set) { s.PreemptDelay = -1 }, "preempt_delay"},
	} {
		set := Set{Name: "web", Addresses: addresses(1), Candidates: candidates(1)}
		test.edit(&set)
		err := ValidateSet(set)
		if test.field == "" {
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		if wrong, ok := errors.AsType[*FieldError](err); !ok || wrong.Field != test.field {
			t.Errorf("%s: %v, not an error in %s", test.name, err, test.field)
		}
	}
}

func TestOpenSessionRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		op   OpenSession
		good bool
	}{
		{"shortest TTL", OpenSession{"a", MinTTL, [32]byte{1}, nil}, true},
		{"longest TTL", OpenSession{"a", MaxTTL, [32]byte{31: 1}, nil}, true},
		{"shorter TTL", OpenSession{"a", MinTTL - 1, [32]byte{1}, nil}, false},
		{"longer TTL", OpenSession{"a", MaxTTL + 1, [32]byte{1}, nil}, false},
		{"no secret", OpenSession{"a", MinTTL, [32]byte{}, nil}, false},
		{"no host", OpenSession{"", MinTTL, [32]byte{1}, nil}, false},
	} {
		result, err := New().ApplyEntry(1, Entry{Version: EntryVersion, Ops: []Op{test.op}})
		if err != nil || (result.Err() == nil) != test.good {
			t.Errorf("%s: %v, %v", test.name, err, result.Err())
		}
	}
}

// TestMostConditions: an agent cannot fill the state.
func TestMostConditions(t *testing.T) {
	s := New()
	full := &Session{ID: 1, Host: "a", TTL: MinTTL, Conditions: make(map[string]Condition)}
	for i := range MaxConditions {
		full.Conditions[fmt.Sprint("set-", i)] = Condition{Veto: true}
	}
	s.sessions[1], s.hosts["a"], s.applied = full, []SessionID{1}, 1
	note := func(set string, weight int) Op { return SetCondition{1, set, Condition{Weight: weight}} }
	// One that is there may change, and go, and make room.
	ops := []Op{note("more", 1), note("set-0", 1), note("set-0", 0), note("more", 1), note("most", 1)}
	result, err := s.ApplyEntry(2, Entry{Version: EntryVersion, Ops: ops})
	if err != nil {
		t.Fatal(err)
	}
	for i, op := range result.Ops {
		if refused := op.Refusal != nil; refused != (i == 0 || i == 4) {
			t.Errorf("op %d: %v", i, op.Refusal)
		}
	}
	if session, _ := s.Session(1); len(session.Conditions) != MaxConditions {
		t.Errorf("%d conditions", len(session.Conditions))
	}
}

func TestEndpoints(t *testing.T) {
	for text, ok := range map[string]bool{
		"10.0.0.1:8081": true, "broker-1:8081": true, "b1.example.net:65535": true, "b1.example.net.:1": true, "[2001:db8::1]:8081": true,
		"": false, ":8081": false, "10.0.0.1": false, "10.0.0.1:0": false, "10.0.0.1:65536": false, "10.0.0.1:http": false, "10.0.0.1:+1": false,
		"0.0.0.0:8081": false, "[::]:8081": false, "2001:db8::1:8081": false, "[2001:db8::1:8081": false, "[10.0.0.1]:8081": false,
		"a b:8081": false, "a/b:8081": false, "a..b:8081": false, ".:8081": false,
	} {
		if got := validEndpoint(text); got != ok {
			t.Errorf("%q: %v", text, got)
		}
	}
}
