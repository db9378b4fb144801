package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A program may guard another copy of itself, its child. To the lab both are one
// process, but for what names a part: a signal to all of it reaches both at once,
// [Process.Signal] and [Process.Stop] speak to the first, as systemd would.

// Child returns the process id of the agent under its guardian; of the process
// itself where it guards none.
func (p *Process) Child() int {
	if children := p.children(); len(children) > 0 {
		return children[0]
	}
	return p.PID()
}

// childPatience is how long a guardian may take to start its child again.
const childPatience = time.Second

// SignalChild sends a signal to the agent alone. A guardian whose child has just ended
// is not taken for the agent: the next child gets the signal.
func (p *Process) SignalChild(s unix.Signal) error {
	pid := p.Child()
	for late := Now().Add(childPatience); pid == p.PID() && p.guards.Load(); pid = p.Child() {
		if !p.Running() || Now() > late {
			return fmt.Errorf("send %s to the child of %s on %s: it has none", unix.SignalName(s), p.Name, p.Host.Name)
		}
		sleepUntil(Now().Add(5 * time.Millisecond))
	}
	if err := unix.Kill(pid, s); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %s to the child of %s on %s: %w", unix.SignalName(s), p.Name, p.Host.Name, err)
	}
	return nil
}

// KillGuardian ends the guardian with SIGKILL and nothing else. It returns a
// function that ends the orphan.
func (p *Process) KillGuardian() (killOrphan func() error, err error) {
	children := p.children()
	if len(children) != 1 {
		return nil, fmt.Errorf("%s on %s guards %d children, not 1", p.Name, p.Host.Name, len(children))
	}
	err = p.signal(unix.SIGKILL)
	<-p.done
	return func() error { return killPID(children[0]) }, err
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
	if got, _ := stat(p.Child()); got != state {
		return fmt.Errorf("%s on %s is in state %q, not %q", p.Name, p.Host.Name, got, state)
	}
	return nil
}

// KillChild ends the child that the process guards with SIGKILL, and nothing else.
func (p *Process) KillChild() error {
	children := p.children()
	if len(children) != 1 {
		return fmt.Errorf("%s on %s guards %d children, not 1", p.Name, p.Host.Name, len(children))
	}
	if err := unix.Kill(children[0], unix.SIGKILL); err != nil {
		return fmt.Errorf("kill child of %s on %s: %w", p.Name, p.Host.Name, err)
	}
	return nil
}

// Children returns the process ids of the children that the process guards.
func (p *Process) Children() []int { return p.children() }

// children are those that run the same program: others are its tools. A process
// that has been forked and still runs in its parent's memory is none yet: Go forks
// one that ends at once to learn whether the kernel has process descriptors.
func (p *Process) children() []int {
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.PID()))
	if err != nil {
		return nil
	}
	var found []int
	for _, pid := range pids() {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err == nil && exe == program && parentOf(pid) == p.PID() && ownMemory(pid, p.PID()) {
			found = append(found, pid)
		}
	}
	if len(found) > 0 {
		p.guards.Store(true)
	}
	return found
}

// ownMemory says whether a process has left its parent's memory, by kcmp(2); false
// if it is gone.
func ownMemory(pid, parent int) bool {
	const kcmpVM = 1 // KCMP_VM of linux/kcmp.h
	order, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(pid), uintptr(parent), kcmpVM, 0, 0, 0)
	return errno == unix.ENOSYS || errno == 0 && order != 0
}

// signalAll sends s to the process and to the child that it guards. A guardian
// goes first: it cannot start again what it does not see end.
func (p *Process) signalAll(s unix.Signal) error {
	if !p.Running() {
		return nil
	}
	children := p.children()
	err := p.signal(s)
	for _, pid := range children {
		if e := unix.Kill(pid, s); e != nil && !errors.Is(e, unix.ESRCH) {
			err = errors.Join(err, fmt.Errorf("send %s to the child of %s on %s: %w", unix.SignalName(s), p.Name, p.Host.Name, e))
		}
	}
	return err
}

// pids lists the processes of the lab.
func pids() []int {
	names, _ := filepath.Glob("/proc/[0-9]*") // fails for a bad pattern alone
	var list []int
	for _, name := range names {
		if pid, err := strconv.Atoi(filepath.Base(name)); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

// parentOf returns 0 for a process that is gone.
func parentOf(pid int) int {
	state, parent := stat(pid)
	if state == "" {
		return 0
	}
	return parent
}

// stat returns a process's state, "" if it is gone, and its parent.
func stat(pid int) (state string, parent int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	text := string(b)
	text = text[strings.LastIndexByte(text, ')')+1:] // after the name, which may have any character
	if _, err := fmt.Sscan(text, &state, &parent); err != nil {
		return "", 0
	}
	return state, parent
}

// bornIn lists the processes that live in a mount namespace, named like
// "mnt:[4026531841]", but for the lab itself: a host's thread may happen to be
// its first one, by which the kernel names the whole.
func bornIn(mounts string) []int {
	var found []int
	for _, pid := range pids() {
		if pid == os.Getpid() {
			continue
		}
		ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
		if state, _ := stat(pid); err == nil && ns == mounts && state != "Z" && state != "X" {
			found = append(found, pid)
		}
	}
	return found
}

// killPID ends a process that the lab has not started itself, and waits until it
// has ended.
func killPID(pid int) error {
	if err := unix.Kill(pid, unix.SIGKILL); errors.Is(err, unix.ESRCH) {
		return nil
	} else if err != nil {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	for {
		if state, _ := stat(pid); state == "" || state == "Z" || state == "X" {
			return nil
		}
		time.Sleep(100 * time.Microsecond)
	}
}
