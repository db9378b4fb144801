package fsm

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// TestRestoreSetsRefuses: a copy comes from a file, so it may contradict itself
// in ways that no saved state does.
func TestRestoreSetsRefuses(t *testing.T) {
	set := func(name, prefix string) Set {
		return Set{Name: name, Addresses: []Address{{Prefix: netip.MustParsePrefix(prefix)}}, Candidates: []Candidate{{"a", 1}}}
	}
	for _, test := range []struct {
		name string
		op   RestoreSets
		code Code
		want string
	}{
		{"set twice", RestoreSets{Sets: []Set{set("web", "10.0.0.1/24"), set("web", "10.0.0.1/24")}}, CodeInvalid, `set "web" comes twice`},
		// web gives the address up; db takes it, and then ntp may not.
		{"address twice", RestoreSets{Sets: []Set{set("db", "10.0.0.10/24"), set("web", "10.0.0.1/24"), set("ntp", "10.0.0.10/24"), set("zoo", "10.0.0.10/24")}},
			CodeConflict, "10.0.0.10 belongs to set db"},
		{"address twice, last", RestoreSets{Sets: []Set{set("db", "10.0.0.10/24"), set("web", "10.0.0.1/24"), set("zoo", "10.0.0.10/24")}},
			CodeConflict, "10.0.0.10 belongs to set db"},
		{"bad set", RestoreSets{Sets: []Set{set("web", "127.0.0.1/8")}}, CodeInvalid, "loopback"},
		{"bad host", RestoreSets{Drained: map[string]string{"a/b": ""}}, CodeInvalid, `"a/b" is no host name`},
	} {
		s := fullState(t)
		for _, session := range s.Sessions() {
			s.ApplyEntry(s.Applied()+1, Entry{Version: EntryVersion, Ops: []Op{CloseSession{Session: session.ID}}})
		}
		before := show(s)
		result, err := s.ApplyEntry(s.Applied()+1, Entry{Version: EntryVersion, Ops: []Op{test.op}})
		if err != nil {
			t.Fatal(err)
		}
		refusal, ok := errors.AsType[*Refusal](result.Err())
		if !ok || refusal.Code != test.code || !strings.Contains(refusal.Message, test.want) {
			t.Errorf("%s: %v, not %s: %s", test.name, result.Err(), test.code, test.want)
		}
		_, after, _ := strings.Cut(show(s), "\n")
		if _, was, _ := strings.Cut(before, "\n"); after != was {
			t.Errorf("%s: refused, and yet\n%s\nbecame\n%s", test.name, was, after)
		}
	}
}
