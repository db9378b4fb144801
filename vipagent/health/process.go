package health

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// processProbe looks for a live process, and watches the one it has found.
type processProbe struct {
	comm, exe, pidfile string
	proc               string // "/proc"
	found              chan int
}

func newProcess(c Check) *processProbe {
	return &processProbe{comm: c.Comm, exe: c.Exe, pidfile: c.Pidfile, proc: "/proc", found: make(chan int)}
}

func (p *processProbe) probe(context.Context) (int, error) {
	pid, err := p.find()
	if err != nil {
		return 0, err
	}
	select {
	case p.found <- pid: // nobody takes it while another is watched
	default:
	}
	return 0, nil
}

// watch reports the death of the process that was found last.
func (p *processProbe) watch(ctx context.Context, changed func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case pid := <-p.found:
			if waitDeath(ctx, pid) {
				changed()
			}
		}
	}
}

// waitDeath returns true when the process is dead, false if ctx ends first or
// the kernel cannot say (then the next run of the check will see it).
func waitDeath(ctx context.Context, pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return true
	} else if err != nil {
		return false
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return false
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	dead := false
	err = conn.Read(func(fd uintptr) bool { // called at first, and when the fd is readable
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		dead = err == nil && n > 0
		return dead
	})
	return err == nil && dead
}

// find returns the id of a live process that matches.
func (p *processProbe) find() (int, error) {
	if p.pidfile != "" {
		return p.fromPidfile()
	}
	pids, err := listProcesses(p.proc)
	if err != nil {
		return 0, err
	}
	denied := 0
	for _, pid := range pids {
		name := strconv.Itoa(pid)
		ok, err := p.matches(name)
		if errors.Is(err, os.ErrPermission) {
			denied++
		}
		if ok && p.alive(name) {
			return pid, nil
		}
	}
	if denied > 0 {
		return 0, fmt.Errorf("no process %s%s (but %d may not be looked at)", p.comm, p.exe, denied)
	}
	return 0, fmt.Errorf("no process %s%s", p.comm, p.exe)
}

// listProcesses returns the ids of all processes, in no order.
func listProcesses(proc string) ([]int, error) {
	dir, err := os.Open(proc)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func (p *processProbe) matches(pid string) (bool, error) {
	if p.comm != "" {
		comm, err := os.ReadFile(p.proc + "/" + pid + "/comm")
		return strings.TrimSuffix(string(comm), "\n") == p.comm, err
	}
	exe, err := os.Readlink(p.proc + "/" + pid + "/exe")
	return strings.TrimSuffix(exe, " (deleted)") == p.exe, err // deleted: replaced by an upgrade
}

// alive tells whether the process runs, rather than waiting to be reaped.
func (p *processProbe) alive(pid string) bool {
	stat, err := os.ReadFile(p.proc + "/" + pid + "/stat")
	if err != nil {
		return false
	}
	// pid (comm) state ...; comm may have any characters, also ")"
	i := strings.LastIndexByte(string(stat), ')')
	if i < 0 || i+2 >= len(stat) {
		return false
	}
	state := stat[i+2]
	return state != 'Z' && state != 'X'
}

func (p *processProbe) fromPidfile() (int, error) {
	text, err := readRegular(p.pidfile, 64)
	if err != nil {
		return 0, fmt.Errorf("read pidfile: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("%s has no process id", p.pidfile)
	}
	if !p.alive(strconv.Itoa(pid)) {
		return 0, fmt.Errorf("process %d of %s is not there", pid, p.pidfile)
	}
	return pid, nil
}
