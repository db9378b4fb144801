//go:build faultpoints

package fault

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// fileEnv names a file that says where to stop: a place and how many passes from
// now on, such as "add 1". It is read at each pass and deleted when it is obeyed.
const fileEnv = "HOLDFAST_FAULTPOINT"

type state struct {
	mu     sync.Mutex
	order  string
	passes int
}

var at state

// Point stops this process with SIGSTOP if the file says so.
func Point(name string) {
	path := os.Getenv(fileEnv)
	if path == "" {
		return
	}
	b, err := os.ReadFile(path)
	if err != nil || !at.reached(strings.TrimSpace(string(b)), name) {
		return
	}
	_ = os.Remove(path)
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGSTOP)
}

// reached counts the passes of the ordered place since the order came.
func (s *state) reached(order, name string) bool {
	place, count, _ := strings.Cut(order, " ")
	if place != name {
		return false
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.order != order {
		s.order, s.passes = order, 0
	}
	s.passes++
	if s.passes < n {
		return false
	}
	s.order = ""
	return true
}
