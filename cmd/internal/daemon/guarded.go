package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
)

const (
	// guardedVariable is set where no guardian is to be started: in its child.
	guardedVariable = "HOLDFAST_GUARDED"
	// readyVariable has the number of the descriptor that the child writes to when
	// it takes signals.
	readyVariable = "HOLDFAST_READY_FD"
	readyFD       = 3 // the first of exec.Cmd.ExtraFiles
	// finalCode is added to the exit code of a child that must not be started
	// again, see [ending.final].
	finalCode = 100
	// exitFinal is ExitError for what another start cannot cure.
	exitFinal = finalCode + ExitError
)

// Final marks an error that another start would not cure, so that a guardian
// does not try.
func Final(err error) error { return finalError{err} }

type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

func isFinal(err error) bool {
	var f finalError
	return errors.As(err, &f)
}

// lineage is what this process is to a guardian.
type lineage struct {
	guarded bool
	ready   *os.File // to be written to when it takes signals; nil: nobody waits
}

// lineageOf reads the process's environment and takes out of it what no program
// that it starts may inherit.
func lineageOf(program string) lineage {
	l := lineage{guarded: os.Getenv(guardedVariable) != ""}
	if l.guarded && os.Getenv(readyVariable) == fmt.Sprint(readyFD) {
		syscall.CloseOnExec(readyFD)
		l.ready = os.NewFile(readyFD, "ready")
		// The kernel named it after /proc/self/exe; an operator looks for the program.
		_ = os.WriteFile("/proc/self/comm", []byte(program), 0)
	}
	_ = os.Unsetenv(guardedVariable)
	_ = os.Unsetenv(readyVariable)
	return l
}

// takesSignals tells the guardian that signals reach this process from now on.
func (l lineage) takesSignals() {
	if l.ready != nil {
		_, _ = l.ready.Write([]byte{1}) // the guardian may be gone
		_ = l.ready.Close()
	}
}

// exitCode is how this process has to say that it ends with code.
func (l lineage) exitCode(code int) int {
	switch {
	case l.ready == nil && code == exitFinal:
		return ExitError
	case l.ready != nil && code == ExitUsage:
		return finalCode + ExitUsage
	}
	return code
}

// SurviveClosedPipes makes a write to a closed stdout or stderr an error like any
// other: a log that nobody reads any more must not end a daemon. Other than an
// ignored signal, this is not inherited by programs that it starts.
func SurviveClosedPipes() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}

// guard runs this very program again as a child and guards it.
func guard(log *slog.Logger, args []string, s Streams, j *janitor) int {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGABRT)
	defer signal.Stop(signals)
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGCHLD)
	defer signal.Stop(changes)
	debug.FreeOSMemory() // what reading the configuration took: from now on nothing is needed
	g := &guardian{log: log, signals: signals, changes: changes, janitor: j, start: func() (*child, error) { return startChild(args, s) }}
	return g.run()
}

// startChild runs the program that this process runs, which need not be what the
// file is now: a crash must not turn into an upgrade, nor fail because a package
// manager is at work. A new version comes with a restart of the guardian.
//
// The child has a process group of its own, so that a terminal's Ctrl-C reaches
// it once, and only through the guardian.
func startChild(args []string, s Streams) (*child, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{os.Args[0]}, args...)
	cmd.Env = childEnvironment(os.Environ(), os.Getpid())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, s.Out, s.Err
	cmd.ExtraFiles = []*os.File{write}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	_ = write.Close()
	if err != nil {
		_ = read.Close()
		return nil, fmt.Errorf("start: %w", err)
	}
	ready, ended := make(chan struct{}), make(chan ending, 1)
	go func() {
		defer read.Close()
		if n, _ := read.Read(make([]byte, 1)); n == 1 { // without a word it has died
			close(ready)
		}
	}()
	go func() {
		_ = cmd.Wait() // how it ended is in the state
		end := ending{code: cmd.ProcessState.ExitCode()}
		if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			end.signal = ws.Signal()
		}
		ended <- end
	}()
	pid := cmd.Process.Pid
	return &child{pid: pid, ready: ready, ended: ended, signal: cmd.Process.Signal, stopped: func() bool { return isStopped(pid) }}, nil
}

// isStopped says whether a process stands still by a signal (proc(5)).
func isStopped(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, ok := bytes.Cut(b[max(bytes.LastIndexByte(b, ')'), 0):], []byte(") ")) // behind a name that may have any character
	return ok && len(state) > 0 && state[0] == 'T'
}

// childEnvironment is the guardian's own, but for what names a process: systemd
// takes the watchdog's word from the guardian's pid, which the child has not. If
// the watchdog is for somebody else it stays so.
func childEnvironment(environ []string, pid int) []string {
	own := slices.Contains(environ, fmt.Sprintf("WATCHDOG_PID=%d", pid))
	foreign := !own && slices.ContainsFunc(environ, func(v string) bool { return strings.HasPrefix(v, "WATCHDOG_PID=") })
	out := slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == guardedVariable || name == readyVariable || name == "WATCHDOG_PID" && own || name == "WATCHDOG_USEC" && foreign
	})
	return append(out, guardedVariable+"=1", fmt.Sprintf("%s=%d", readyVariable, readyFD))
}
