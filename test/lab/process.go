package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Command is a program to run on a host.
type Command struct {
	Name string // names the log file: <host>-<name>.log
	Path string
	Args []string
	Env  []string // added to the lab's own environment
	// Stdout takes the standard output instead of the log file. The caller may
	// close it once the process is started.
	Stdout *os.File

	files []*os.File // more files for it, from descriptor 3 on
}

// Process is a running program on a host, with all that it starts: a vipagent is
// a guardian and, under it, the agent proper. What is done to a process is done
// to all of it at once, but for [Process.Signal] and [Process.Stop], which speak
// to its first process as systemd would, and for what names a part.
type Process struct {
	Name string
	Host *Host
	Log  string // file with its standard output and error; restarts append

	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and was waited for

	guards atomic.Bool // a child of it was seen
}

// Start starts a program in the host's namespaces.
func (h *Host) Start(c Command) (*Process, error) {
	p := &Process{
		Name: c.Name,
		Host: h,
		Log:  filepath.Join(h.network.Dir, h.Name+"-"+c.Name+".log"),
		cmd:  exec.Command(c.Path, c.Args...),
		done: make(chan struct{}),
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer log.Close() // the process has its own copy
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if c.Stdout != nil {
		p.cmd.Stdout = c.Stdout
	}
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.ExtraFiles = c.files
	p.cmd.Dir = h.Disk
	if err := h.ns.do(p.cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", c.Name, h.Name, err)
	}
	h.mu.Lock()
	h.processes = append(h.processes, p)
	h.mu.Unlock()
	go p.wait()
	return p, nil
}

func (p *Process) wait() {
	_ = p.cmd.Wait() // how it ended is in ProcessState
	p.Host.mu.Lock()
	p.Host.processes = slices.DeleteFunc(p.Host.processes, func(q *Process) bool { return q == p })
	p.Host.mu.Unlock()
	close(p.done)
}

// Run runs a short program in the host's namespaces and returns its output and
// exit code. err is set only when the program could not be run to its end.
func (h *Host) Run(ctx context.Context, c Command) (stdout, stderr []byte, code int, err error) {
	var out, talk bytes.Buffer
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Stdout, cmd.Stderr = &out, &talk
	cmd.Env = append(os.Environ(), c.Env...)
	if err := h.ns.do(cmd.Start); err != nil {
		return nil, nil, 0, fmt.Errorf("start %s on %s: %w", c.Path, h.Name, err)
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("run %s on %s: %w", filepath.Base(c.Path), h.Name, err)
	}
	return out.Bytes(), talk.Bytes(), cmd.ProcessState.ExitCode(), err
}

// PID returns the process id inside the lab.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running reports whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// ExitCode returns the exit code of a process that has ended; -1 when a signal
// ended it.
func (p *Process) ExitCode() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// CPU returns the processor time that an ended process used.
func (p *Process) CPU() time.Duration {
	<-p.done
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

// ticksPerSecond is the unit of the times in /proc/PID/stat on every Linux that Go runs on.
const ticksPerSecond = 100

// CPUNow returns the processor time that a running process has used so far.
func (p *Process) CPUNow() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(b), ") ") // behind the name
	const utime = 14 - 3
	fields := strings.Fields(after)
	if len(fields) < utime+2 {
		return 0
	}
	var ticks int64
	for _, f := range fields[utime : utime+2] {
		n, _ := strconv.ParseInt(f, 10, 64) // the kernel writes numbers
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond
}

// Memory returns the most memory that a running process has had so far, in bytes.
func (p *Process) Memory() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(b), "VmHWM:")
	var kib int64
	_, _ = fmt.Sscan(after, &kib)
	return kib << 10
}

// signal sends s; a process that has ended is no error.
func (p *Process) signal(s unix.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to %s on %s: %w", unix.SignalName(s), p.Name, p.Host.Name, err)
	}
	return nil
}

// Signal sends a signal to the first process, as kill(1) would: where there is a
// guardian, to the guardian alone.
func (p *Process) Signal(s unix.Signal) error { return p.signal(s) }

// Freeze stops the process, all of it, where it stands (SIGSTOP).
func (p *Process) Freeze() error { return p.signalAll(unix.SIGSTOP) }

// Thaw lets a frozen process go on (SIGCONT).
func (p *Process) Thaw() error { return p.signalAll(unix.SIGCONT) }

// Kill ends the process, all of it, with SIGKILL and waits for its end.
func (p *Process) Kill() error {
	children := p.children() // known by their parent only as long as it lives
	err := p.signalAll(unix.SIGKILL)
	<-p.done
	for _, pid := range children {
		err = errors.Join(err, killPID(pid))
	}
	return err
}

// Stop ends the process with SIGTERM and waits. When ctx ends first the
// process is killed and the error says so.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.signal(unix.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("%s on %s did not end on SIGTERM: %w", p.Name, p.Host.Name, ctx.Err()), p.Kill())
	}
}
