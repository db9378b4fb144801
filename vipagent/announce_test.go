package vipagent

import (
	"strings"
	"testing"
	"time"
)

// swallowed is what the kernel's side says of frames that do not get out.
type swallowed struct{}

func (swallowed) Error() string   { return "dropped" }
func (swallowed) Swallowed() bool { return true }

// A host whose packets do not get out holds an address for nobody: it tries again
// quickly, and then lets another host have it.
func TestDumbHostGivesUp(t *testing.T) {
	run(t, func(w *world) {
		a := w.ready()
		dumb := true
		w.set(func() {
			w.fail["announce"] = func() error {
				if dumb {
					return swallowed{}
				}
				return nil
			}
		})
		a.tell("a", 41, held("web", session1, 41, "10.0.0.5/24@7"))
		w.expect("add 10.0.0.5")
		time.Sleep(time.Second)
		dumb = false
		time.Sleep(150 * time.Millisecond)
		w.expect("announce 10.0.0.5") // a short while is no reason
		dumb = true
		a.AddressesChanged()
		a.LinkUp("eth0")
		time.Sleep(3200 * time.Millisecond)
		events := strings.Join(w.take(), "\n")
		if !strings.Contains(events, "remove 10.0.0.5") || !strings.Contains(events, "release 101: web/41") || !strings.Contains(events, "packets do not leave this host") {
			t.Errorf("done:\n%s", events)
		}
		a.end()
	})
}
