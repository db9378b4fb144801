package health

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Program is a program that a configuration of Keepalived names. It runs as its user,
// without a shell, in a process group of its own. Unlike the script of a [Check] it
// may be one that changes the system: as root it keeps root's rights.
type Program struct {
	Args []string // the first one is looked up in the search path if it has no slash
	User string   // a name or a number
	// Group is one too; "" = the user's.
	Group         string
	Supplementary bool // has the user's other groups as well
	// Output: what it prints is kept for the error. A program that leaves others
	// behind, which go on printing, must not have it.
	Output bool
}

// searchPath is where programs are looked for.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Path returns the program's file.
func (p Program) Path() (string, error) {
	if len(p.Args) == 0 || p.Args[0] == "" {
		return "", errors.New("no program is named")
	}
	name := p.Args[0]
	candidates := []string{name}
	if !strings.Contains(name, "/") {
		candidates = nil
		for _, dir := range filepath.SplitList(searchPath) {
			candidates = append(candidates, filepath.Join(dir, name))
		}
	}
	var missing error
	for _, path := range candidates {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			missing = errors.Join(missing, err)
		case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
			missing = errors.Join(missing, fmt.Errorf("%s is not an executable file", path))
		default:
			return path, nil
		}
	}
	if len(candidates) > 1 {
		return "", fmt.Errorf("find program %s: %w in %s", name, exec.ErrNotFound, searchPath)
	}
	return "", fmt.Errorf("find program: %w", missing)
}

// Trusted returns nil if nobody but root can change what the program's path means,
// else an [UntrustedError]. It matters where the program runs as root.
func (p Program) Trusted() error {
	path, err := p.Path()
	if err != nil {
		return err
	}
	return checkTrusted(path, lstat)
}

// Root tells whether the program runs as root.
func (p Program) Root() bool {
	c, err := p.credential()
	return err == nil && c.Uid == 0
}

// Own makes the program's user and group the owners of a file.
func (p Program) Own(path string) error {
	c, err := p.credential()
	if err != nil {
		return err
	}
	return os.Lchown(path, int(c.Uid), int(c.Gid))
}

// credential looks the user up.
func (p Program) credential() (*syscall.Credential, error) {
	u, err := user.Lookup(p.User)
	if err != nil {
		if u, err = user.LookupId(p.User); err != nil {
			return nil, fmt.Errorf("look up user %q: %w", p.User, err)
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("look up user %q: %w", p.User, err)
	}
	gid, err := groupNumber(p.Group, u.Gid)
	if err != nil {
		return nil, err
	}
	c := &syscall.Credential{Uid: uint32(uid), Gid: gid}
	if !p.Supplementary {
		return c, nil
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("look up groups of user %q: %w", p.User, err)
	}
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			c.Groups = append(c.Groups, uint32(n))
		}
	}
	return c, nil
}

// groupNumber looks a group up; "" is the given one.
func groupNumber(name, otherwise string) (uint32, error) {
	id := otherwise
	if name != "" {
		g, err := user.LookupGroup(name)
		if err != nil {
			if g, err = user.LookupGroupId(name); err != nil {
				return 0, fmt.Errorf("look up group %q: %w", name, err)
			}
		}
		id = g.Gid
	}
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("look up group %q: %w", id, err)
	}
	return uint32(n), nil
}

// Check returns nil if the program is there and its user too.
func (p Program) Check() error {
	if _, err := p.credential(); err != nil {
		return err
	}
	_, err := p.Path()
	return err
}

// termination is how long a program that is told to end may take before it is
// killed.
const termination = 2 * time.Second

// Run starts the program with further arguments and waits for it. When ctx ends
// first, the whole process group is told to end, and killed a while later. What else the
// program has started goes on when it has ended by itself. The error is a
// [ScriptError] if it ended badly.
func (p Program) Run(ctx context.Context, extra ...string) error {
	path, err := p.Path()
	if err != nil {
		return err
	}
	creds, err := p.credential()
	if err != nil {
		return err
	}
	cmd := &exec.Cmd{
		Path: path, Args: slices.Concat(p.Args, extra), Dir: "/",
		Env:         append(slices.DeleteFunc(os.Environ(), fromSupervisor), "PATH="+searchPath),
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	if int(creds.Uid) != os.Geteuid() || int(creds.Gid) != os.Getegid() || len(creds.Groups) > 0 {
		cmd.SysProcAttr.Credential = creds
	}
	var output tail
	drained, err := p.start(cmd, &output)
	if err != nil {
		return fmt.Errorf("start script: %w", err)
	}
	// Not with this process's own priority. Best effort: it may be gone already.
	_ = unix.SchedSetAttr(cmd.Process.Pid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0)
	_ = unix.Setpriority(unix.PRIO_PROCESS, cmd.Process.Pid, 0)
	late := endGroup(ctx, cmd.Process.Pid)
	awaitEnd(cmd.Process.Pid)
	timedOut := late()
	err = cmd.Wait() // reaped last: until then its id, the group's, is nobody else's
	drained()
	var bad *exec.ExitError
	switch {
	case timedOut:
		return &ScriptError{Status: "it took too long, and was ended", Output: output.line()}
	case errors.As(err, &bad):
		return &ScriptError{Status: bad.ProcessState.String(), Output: output.line()}
	case err != nil:
		return fmt.Errorf("wait for script: %w", err)
	}
	return nil
}

// fromSupervisor: what systemd told this process is not for its children.
func fromSupervisor(variable string) bool {
	name, _, _ := strings.Cut(variable, "=")
	return slices.Contains([]string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "PATH"}, name)
}

// start starts the program; drained waits for what it has printed.
func (p Program) start(cmd *exec.Cmd, output *tail) (drained func(), err error) {
	if !p.Output {
		return func() {}, cmd.Start()
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = write, write
	err = cmd.Start()
	write.Close()
	if err != nil {
		read.Close()
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		output.drain(read)
	}()
	return func() {
		// Who has kept the pipe does not hold up the caller.
		_ = read.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		<-done
		read.Close()
	}, nil
}

// awaitEnd returns when a child has ended, and leaves it to be reaped.
func awaitEnd(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// endGroup makes the end of ctx the end of a process group. The function that it
// returns stops that, and tells whether it came to it.
func endGroup(ctx context.Context, group int) (late func() bool) {
	over := make(chan struct{})
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = unix.Kill(-group, unix.SIGTERM)
		timer := time.NewTimer(termination)
		defer timer.Stop()
		select {
		case <-over: // the leader has gone; those that it has left have been told
		case <-timer.C:
		}
		_ = unix.Kill(-group, unix.SIGKILL)
	})
	return func() bool {
		close(over)
		if stop() {
			return false
		}
		<-ended
		return true
	}
}
