package sim

import (
	"flag"
	"fmt"
	"runtime/debug"
	"testing"
)

var (
	mostFlag = flag.Int("most", 3_000_000, "how many states of one configuration to visit at most")
	moreFlag = flag.Uint("more", 0, "larger bounds")
	onlyFlag = flag.String("config", "", "check this configuration alone")
)

// TestCheck visits all states of each configuration.
func TestCheck(t *testing.T) {
	debug.SetGCPercent(200)
	for _, b := range configurations(uint8(*moreFlag)) {
		if *onlyFlag != "" && b.name != *onlyFlag {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := check(b, *mostFlag)
			t.Log(r)
			if r.Failure != "" {
				fmt.Printf("FOUND config=%s depth=%d\n", r.Name, r.Depth)
				t.Errorf("%s\n%s", r.Failure, r.Trace)
			} else if !r.Complete {
				t.Errorf("%s is not complete", r.Name)
			} else if r.Missing != "" {
				t.Errorf("%s proves little: never committed: %s", r.Name, r.Missing)
			}
		})
	}
}

// TestOneSlot plants a fault in the fence, one deadline for all sessions, which is
// made up here and not shipped; the checker must see it.
func TestOneSlot(t *testing.T) {
	b := *ofSessions(0)[0]
	b.shared = true
	r := check(&b, *mostFlag)
	if r.Failure == "" {
		t.Errorf("nothing found: %v", r)
	}
	t.Logf("config=%s depth=%d: %s\n%s", r.Name, r.Depth, r.Failure, r.Trace)
}
