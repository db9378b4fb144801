package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Child returns the process id of the agent under its guardian; of the process
// itself where it has no child of its own program.
func (p *Process) Child() int {
	for _, pid := range children(p.PID()) {
		if sameProgram(pid, p.PID()) {
			return pid
		}
	}
	return p.PID()
}

// Guarded reports whether a guardian watches over the agent.
func (p *Process) Guarded() bool { return p.Child() != p.PID() }

// SignalChild sends a signal to the agent alone.
func (p *Process) SignalChild(s unix.Signal) error {
	if err := unix.Kill(p.Child(), s); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %s to the child of %s on %s: %w", unix.SignalName(s), p.Name, p.Host.Name, err)
	}
	return nil
}

// LimitChild sets a soft resource limit of the running agent (RLIMIT_NOFILE,
// RLIMIT_AS), and returns a function that sets it back.
func (p *Process) LimitChild(resource int, limit uint64) (back func() error, err error) {
	pid := p.Child()
	var old unix.Rlimit
	err = unix.Prlimit(pid, resource, nil, &old)
	if err == nil {
		err = unix.Prlimit(pid, resource, &unix.Rlimit{Cur: limit, Max: old.Max}, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("limit %s on %s: %w", p.Name, p.Host.Name, err)
	}
	return func() error {
		err := unix.Prlimit(pid, resource, &old, nil)
		if errors.Is(err, unix.ESRCH) {
			return nil // it did not outlive the limit
		}
		return err
	}, nil
}

// InState returns nil if the agent is in a state of proc(5): "T" is stopped.
func (p *Process) InState(state string) error {
	_, got, err := stat(p.Child())
	if err == nil && got != state {
		err = fmt.Errorf("%s on %s is in state %s, not %s", p.Name, p.Host.Name, got, state)
	}
	return err
}

// children returns the processes whose parent this one is.
func children(parent int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var list []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if of, state, err := stat(pid); err == nil && of == parent && state != "Z" {
			list = append(list, pid)
		}
	}
	return list
}

// stat returns a process's parent and state.
func stat(pid int) (parent int, state string, err error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, "", fmt.Errorf("look at process %d: %w", pid, err)
	}
	_, after, _ := strings.Cut(string(b), ") ") // the name, in brackets, may have anything in it
	fields := strings.Fields(after)
	if len(fields) < 2 {
		return 0, "", fmt.Errorf("look at process %d: %q", pid, b)
	}
	parent, err = strconv.Atoi(fields[1])
	return parent, fields[0], err
}

// sameProgram reports whether two processes run the same file: a health check's
// script is no agent.
func sameProgram(a, b int) bool {
	var files [2]unix.Stat_t
	for i, pid := range []int{a, b} {
		if err := unix.Stat(filepath.Join("/proc", strconv.Itoa(pid), "exe"), &files[i]); err != nil {
			return false
		}
	}
	return files[0].Ino == files[1].Ino && files[0].Dev == files[1].Dev
}
