package test

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// A step of the wall clock must not lengthen a lease or shorten a promise. Nobody
// can step the clock of one namespace, so this is shown in the source: in the
// packages that compute, store or keep a deadline nobody reads the wall clock,
// but where it is only told to people. time.Now has a monotonic part too; what
// compares two of its values is listed with what it is for.

// onLeasePath are the packages between a renewal and what the kernel holds.
func onLeasePath() []string {
	return []string{"coordinator", "coordinator/lease", "vipagent", "vipagent/linux", "vipagent/tenure", "vipagent/vip"}
}

// wallClock are the places that may read it, with what they do with it.
func wallClock() map[string]string {
	return map[string]string{
		"coordinator/leading.go time.Now":    "when an entry was proposed, for the audit ring",
		"coordinator/status.go time.Now":     "when a status was made, for its reader",
		"vipagent/journal.go time.Now":       "the time of a log line",
		"vipagent/linux/claims.go time.Now":  "how often foreign claims are told, monotonic",
		"vipagent/linux/reach.go time.Now":   "deadline of a socket and length of a health check, monotonic",
		"vipagent/linux/reach.go time.Since": "length of a health check, monotonic",
	}
}

// checkClock returns who reads the wall clock and is not listed.
func checkClock(files []source) (bad []string) {
	for _, s := range files {
		if s.isTest() || !slices.Contains(onLeasePath(), s.pkg()) {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			x, name := selector(n)
			reads := x == "time" && slices.Contains([]string{"Now", "Since", "Until"}, name) ||
				x == "unix" && (strings.HasPrefix(name, "CLOCK_REALTIME") || name == "Gettimeofday" || name == "CLOCK_TAI") ||
				x == "syscall" && name == "Gettimeofday"
			if _, listed := wallClock()[fmt.Sprintf("%s %s.%s", s.name, x, name)]; reads && !listed {
				bad = append(bad, s.at(n, "%s.%s on the lease's path: a step of the wall clock must not matter", x, name))
			}
			return true
		})
	}
	return bad
}

func TestNoWallClockOnLeasePath(t *testing.T) {
	files := tree(t)
	for _, finding := range checkClock(files) {
		t.Error(finding)
	}
	for place := range wallClock() {
		name, call, _ := strings.Cut(place, " ")
		there := slices.ContainsFunc(files, func(s source) bool { return s.name == name && uses(s, call) })
		if !there {
			t.Errorf("%s reads no clock any more: take it out of the list", place)
		}
	}
}

// uses reports whether the file has the selector.
func uses(s source, call string) (found bool) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		x, name := selector(n)
		found = found || x+"."+name == call
		return true
	})
	return found
}

// Each way of reading it is found.
func TestClockRuleBites(t *testing.T) {
	for _, text := range []string{
		"package tenure\nimport \"time\"\nvar t = time.Now()\n",
		"package tenure\nimport \"time\"\nfunc f(d time.Time) any { return time.Until(d) }\n",
		"package tenure\nimport \"golang.org/x/sys/unix\"\nvar c = unix.CLOCK_REALTIME\n",
		"package tenure\nimport \"syscall\"\nvar f = syscall.Gettimeofday\n",
	} {
		s, err := parse("vipagent/tenure/x.go", text)
		if err != nil {
			t.Fatal(err)
		}
		if found := checkClock([]source{s}); len(found) != 1 {
			t.Errorf("%q: found %q", text, found)
		}
	}
}
