package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/vipagent/keepalived"
)

// plainPID is keepalived's own file, so that one of them finds the other.
const plainPID = "/run/keepalived.pid"

// pidFiles are files with this process's number.
type pidFiles []string

// pidFiles writes the files, unless one names a keepalived or vipagent that runs.
func (p *plain) pidFiles() (pidFiles, error) {
	first := cmp.Or(p.options["pid"], plainPID)
	if text, err := os.ReadFile(first); err == nil {
		pid := strings.TrimSpace(string(text))
		comm, err := os.ReadFile("/proc/" + pid + "/comm")
		if name := strings.TrimSpace(string(comm)); err == nil && pid != strconv.Itoa(os.Getpid()) && (name == "keepalived" || name == "vipagent") {
			return nil, fmt.Errorf("%s says that %s runs already (process %s)", first, name, pid)
		}
	}
	var written pidFiles
	for _, path := range []string{first, p.options["vrrp_pid"]} {
		if path == "" {
			continue
		}
		if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
			p.log.Warn("cannot write the process number", "error", err)
			continue
		}
		written = append(written, path)
	}
	return written, nil
}

func (f pidFiles) remove() {
	for _, path := range f {
		_ = os.Remove(path) // a file that is gone already is fine
	}
}

// namespaceDone says in the environment that the namespace has been entered.
const namespaceDone = "HOLDFAST_NETNS"

// enterNamespace runs this program again in a named network namespace: all of its
// threads have to be there from the start.
func enterNamespace(name string) error {
	if name == "" || os.Getenv(namespaceDone) == name {
		return nil
	}
	f, err := os.Open("/run/netns/" + name)
	if err != nil {
		return err
	}
	defer f.Close()
	runtime.LockOSThread()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter: %w", err)
	}
	return unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), namespaceDone+"="+name))
}

// defaultUmask is Keepalived's: FIFOs and dumps are their user's alone.
const defaultUmask = 0o177

// plainUmask is the umask that the options ask for.
func plainUmask(g given) (os.FileMode, error) {
	text := g["umask"]
	if text == "" {
		return defaultUmask, nil
	}
	mask, err := strconv.ParseUint(text, 0, 9)
	return os.FileMode(mask), err
}

// setNice sets the nice value of all threads, and so of those that they will start.
func setNice(n int) error {
	return eachThread(func(tid int) error {
		return os.NewSyscallError("setpriority", unix.Setpriority(unix.PRIO_PROCESS, tid, n))
	})
}

// eachThread does something to all threads. One that has ended meanwhile is no error.
func eachThread(f func(tid int) error) error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		if err := f(tid); !errors.Is(err, unix.ESRCH) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// raisePriority does what vrrp_priority, vrrp_rt_priority and vrrp_no_swap ask for.
// Scripts do not inherit it.
func raisePriority(g keepalived.Global, log *slog.Logger) {
	var errs []error
	if g.Priority != 0 {
		errs = append(errs, setNice(g.Priority))
	}
	if g.NoSwap {
		errs = append(errs, os.NewSyscallError("mlockall", unix.Mlockall(unix.MCL_CURRENT|unix.MCL_FUTURE)))
	}
	if g.RealtimePriority > 0 {
		errs = append(errs, realtime(g.RealtimePriority))
	}
	if err := errors.Join(errs...); err != nil {
		log.Warn("cannot have the priority that the configuration asks for", "error", err)
	}
}

// realtime makes all threads, and those that they will start, real-time ones; what is
// executed is an ordinary process again.
func realtime(priority int) error {
	return eachThread(func(tid int) error {
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: uint32(priority)}
		return os.NewSyscallError("sched_setattr", unix.SchedSetAttr(tid, &attr, 0))
	})
}

// logWriter writes the log in a goroutine of its own, so that a reader who does not
// read cannot hold up what the log is about. What does not fit is counted and lost.
type logWriter struct {
	out   io.Writer
	lines chan []byte
	done  chan struct{}
	mu    sync.Mutex
	lost  int
}

// logLines is how many lines may wait.
const logLines = 4096

func newLogWriter(out io.Writer) *logWriter {
	w := &logWriter{out: out, lines: make(chan []byte, logLines), done: make(chan struct{})}
	go w.run()
	return w
}

func (w *logWriter) run() {
	defer close(w.done)
	for line := range w.lines {
		w.mu.Lock()
		lost := w.lost
		w.lost = 0
		w.mu.Unlock()
		if lost > 0 {
			fmt.Fprintf(w.out, "%d lines of the log are lost: nobody read it\n", lost)
		}
		_, _ = w.out.Write(line) // there is nowhere to say that the log cannot be written
	}
}

// Write takes a line, and never waits.
func (w *logWriter) Write(line []byte) (int, error) {
	select {
	case w.lines <- bytes.Clone(line):
	default:
		w.mu.Lock()
		w.lost++
		w.mu.Unlock()
	}
	return len(line), nil
}

// Close writes what waits, for a second at most.
func (w *logWriter) Close() {
	close(w.lines)
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-w.done:
	case <-timer.C:
	}
}
