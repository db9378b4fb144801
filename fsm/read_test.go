package fsm

import (
	"net/netip"
	"testing"
)

func TestReads(t *testing.T) {
	s := fullState(t)
	if got := s.SessionsOf("a"); len(got) != 2 || got[0].ID != 2 || got[1].ID != 4 {
		t.Errorf("sessions of a: %v", got)
	}
	if got := s.SessionsOf("nobody"); len(got) != 0 {
		t.Errorf("sessions of nobody: %v", got)
	}
	if set, ok := s.Set("web"); !ok || set.Name != "web" {
		t.Errorf("set web: %v, %v", set, ok)
	}
	if set, ok := s.Set("mail"); ok {
		t.Errorf("set mail: %v", set)
	}
	if row, ok := s.RetiringAddress(netip.MustParseAddr("10.0.0.11")); !ok || row.Session != 2 {
		t.Errorf("10.0.0.11: %v, %v", row, ok)
	}
	if row, ok := s.RetiringAddress(netip.MustParseAddr("10.0.0.10")); ok {
		t.Errorf("10.0.0.10: %v", row)
	}
	if got := s.GrantsOf(2); len(got) != 1 || got[0].Set != "web" || got[0].Recall == nil {
		t.Errorf("grants of session 2: %v", got)
	}
}
