package health

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ScriptError says that a script ended badly.
type ScriptError struct {
	Status string // as os.ProcessState prints it, e.g. "exit status 2"
	Output string // the end of what it printed, one line
}

// Error joins status and output.
func (e *ScriptError) Error() string {
	if e.Output == "" {
		return e.Status
	}
	return e.Status + ": " + e.Output
}

// outputTail is how much of a script's output is kept, in bytes.
const outputTail = 512

// script runs a program as another user, without shell or capabilities.
type script struct {
	argv  []string
	name  string
	creds *syscall.Credential // nil = as this process's own user
	trust func(path string) error
}

// newScript looks up the user. The program itself is looked at in each run.
func newScript(c Check) (*script, error) {
	s := &script{argv: c.Command, name: c.Name, trust: func(path string) error { return checkTrusted(path, lstat) }}
	u, err := user.Lookup(c.User)
	if err != nil {
		id, numErr := strconv.ParseUint(c.User, 10, 32)
		if numErr != nil {
			return nil, fmt.Errorf("look up user of script: %w", err)
		}
		if u, err = user.LookupId(c.User); err != nil { // an id without a name
			s.own(uint32(id), uint32(id))
			return s, nil
		}
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return nil, fmt.Errorf("look up user of script: %w", err)
	}
	s.own(uint32(uid), uint32(gid))
	return s, nil
}

func (s *script) own(uid, gid uint32) {
	if int(uid) != os.Geteuid() {
		s.creds = &syscall.Credential{Uid: uid, Gid: gid}
	}
}

func (s *script) probe(ctx context.Context) (int, error) {
	if err := s.trust(s.argv[0]); err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go throwawayThread(func() { done <- s.exec(ctx) })
	return 0, <-done
}

// throwawayThread runs f on a thread that ends with it, because f gives up the
// thread's rights. The thread does nothing else meanwhile, and lives until f
// returns: a script is to be killed when its parent thread dies, which is to
// happen with the agent only. It is to be called in a goroutine of its own.
func throwawayThread(f func()) {
	runtime.LockOSThread() // never unlocked: that ends the thread
	if unix.Gettid() != unix.Getpid() {
		f()
		return
	}
	// The main thread cannot end, and what it may do is what the process is
	// seen to be able to do. Keep it busy, so that f gets another.
	done := make(chan struct{})
	go func() {
		defer close(done)
		throwawayThread(f)
	}()
	<-done
	runtime.UnlockOSThread()
}

// exec starts the script from the calling thread, and returns when the script
// and what it left in its process group are gone.
func (s *script) exec(ctx context.Context) error {
	if err := dropRights(s.creds == nil && os.Geteuid() == 0); err != nil {
		return fmt.Errorf("drop rights for script: %w", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("start script: %w", err)
	}
	defer null.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start script: %w", err)
	}
	defer read.Close()
	p, err := os.StartProcess(s.argv[0], s.argv, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", "HOLDFAST_CHECK=" + s.name},
		Files: []*os.File{null, write, write},
		Sys:   &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: s.creds},
	})
	write.Close()
	if err != nil {
		return fmt.Errorf("start script: %w", err)
	}
	var output tail
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		output.drain(read)
	}()
	state, err := waitGroup(ctx, p)
	if err != nil {
		return fmt.Errorf("wait for script: %w", err)
	}
	// Who has left the group and kept the pipe does not hold up the check.
	_ = read.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	<-drained
	if !state.Success() {
		return &ScriptError{Status: state.String(), Output: output.line()}
	}
	return nil
}

// waitGroup waits for the process, or kills it when ctx ends; then it kills what
// is left of its group. The leader is reaped last: until then its id, which is
// the group's, cannot be given to anybody else.
func waitGroup(ctx context.Context, p *os.Process) (*os.ProcessState, error) {
	kill := func() { _ = unix.Kill(-p.Pid, unix.SIGKILL) } // fails only if nobody is left
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(killed); kill() })
	awaitEnd(p.Pid)
	if !stop() {
		<-killed
	}
	kill()
	return p.Wait()
}

// dropRights takes from the calling thread, and so from the children that it
// starts, what a script must not have: capabilities that survive an exec, the
// way to new ones through set-uid programs, open files, and the agent's priority. asRoot
// also takes from user 0 that its programs have all capabilities.
func dropRights(asRoot bool) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	// Effective and permitted ones stay until the exec: setuid needs them.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("get capabilities: %w", err)
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("clear inheritable capabilities: %w", err)
	}
	if asRoot {
		const noRoot, noRootLocked = 1 << 0, 1 << 1 // SECBIT_NOROOT, SECBIT_NOROOT_LOCKED
		if err := unix.Prctl(unix.PR_SET_SECUREBITS, noRoot|noRootLocked, 0, 0, 0); err != nil {
			return fmt.Errorf("set securebits: %w", err)
		}
	}
	// Files that this process itself inherited without close-on-exec. Older
	// kernels (before 5.11) cannot; there a daemon's parent must be tidy.
	_ = unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC)
	// Best effort: a filter may forbid it, and a script is no danger for it.
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0)
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

// drain reads to the end, so that a writer never waits for a reader.
func (t *tail) drain(r *os.File) {
	chunk := make([]byte, 32<<10)
	for {
		n, err := r.Read(chunk)
		t.mu.Lock()
		t.buf = append(t.buf, chunk[:n]...)
		t.buf = append(t.buf[:0], t.buf[max(0, len(t.buf)-outputTail):]...)
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (t *tail) line() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return shorten(string(t.buf), outputTail)
}
