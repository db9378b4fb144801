package scenario

import (
	"testing"
	"time"

	"holdfast/test/lab"
)

var _ System = (*lab.Keepalived)(nil)

// The faults of the comparison have names of their own, and leave nothing behind
// for the next one.
func TestCompared(t *testing.T) {
	seen := make(map[string]bool)
	for _, sc := range Compared(3 * time.Second) {
		if seen[sc.Name] || sc.Name == "" || sc.Title == "" {
			t.Errorf("%q, %q: no name of its own", sc.Name, sc.Title)
		}
		seen[sc.Name] = true
		if sc.Broken {
			t.Errorf("%s leaves its fault in place", sc.Name)
		}
		if sc.Name == "random-loss" && sc.Watch != 3*time.Second {
			t.Errorf("%s lasts %v", sc.Name, sc.Watch)
		}
	}
	if !seen["power-off"] || !seen["kill-all"] {
		t.Errorf("faults %v", seen)
	}
}
