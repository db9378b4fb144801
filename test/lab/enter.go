package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// stageVariable tells a re-executed program how far it has come.
const (
	stageVariable = "HOLDFAST_LAB_STAGE"
	stageInit     = "init"
	stageInside   = "inside"
)

// Directories inside the lab. Both are on the lab's own tmpfs.
const (
	root        = "/run/lab"
	outsideProc = root + "/outside-proc" // the proc file system of the caller's PID namespace
)

// ErrForbidden is returned by [Enter] when the kernel does not let this user
// create namespaces. The error's text says what to do.
var ErrForbidden = errors.New("this machine does not let an ordinary user create namespaces")

// Enter puts the program into namespaces of its own. It is called first thing
// in main or TestMain, before flags are parsed or goroutines are started.
//
// It returns nil inside. Outside it does not return unless entering failed: it
// runs the same program with the same arguments inside and exits with its exit
// code. Not being root it uses a user namespace; as root it does without, so
// that what needs real root can be tested.
func Enter() error {
	switch os.Getenv(stageVariable) {
	case stageInside:
		return os.Unsetenv(stageVariable)
	case stageDisk, stageTime:
		return Become()
	case stageInit:
		code, err := runInit()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}
	code, err := runInside()
	if err != nil {
		return err
	}
	os.Exit(code)
	return nil
}

// Become makes another program of this process if the lab has started it for
// that; then it does not return unless it failed. A program that reads files or
// arguments before it calls [Enter] calls Become before that.
func Become() error {
	switch os.Getenv(stageVariable) {
	case stageDisk:
		return becomeOnDisk()
	case stageTime:
		return becomeInTime()
	}
	return nil
}

// runInside runs the program again in new namespaces, as their first process,
// and waits for it.
func runInside() (int, error) {
	flags := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC)
	if os.Geteuid() == 0 {
		code, err := runStage(stageInit, &syscall.SysProcAttr{Cloneflags: flags})
		if err == nil || !errors.Is(err, unix.EPERM) {
			return code, err
		}
		// Root without CAP_SYS_ADMIN, as in a container: try like everybody else.
	}
	code, err := runStage(stageInit, &syscall.SysProcAttr{
		Cloneflags:  flags | unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	})
	if err != nil {
		return 0, forbidden(err, readSysctl)
	}
	return code, nil
}

// runStage starts this program again for a stage, passes signals on and
// returns its exit code. The child dies with the calling thread.
func runStage(stage string, attr *syscall.SysProcAttr) (int, error) {
	runtime.LockOSThread() // Pdeathsig fires when the *thread* that started the child ends
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(withoutStage(os.Environ()), stageVariable+"="+stage)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	attr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr = attr
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start the program in new namespaces: %w", err)
	}
	go forward(signals, cmd.Process)
	pid := cmd.Process.Pid
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil) // as PID 1 it also reaps what others left
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, fmt.Errorf("wait for the program: %w", err)
		case got != pid:
			continue
		case status.Signaled():
			return 128 + int(status.Signal()), nil
		}
		return status.ExitStatus(), nil
	}
}

// forward passes signals to the child. SIGINT is left out: a terminal sends it
// to the whole process group, so the child has had it already.
func forward(signals <-chan os.Signal, child *os.Process) {
	for s := range signals {
		if s != syscall.SIGINT {
			_ = child.Signal(s)
		}
	}
}

// runInit is the first process inside: it mounts what the lab needs, starts
// the program proper and reaps orphans. When it ends the kernel kills the rest.
func runInit() (int, error) {
	if err := mountLab(); err != nil {
		return 1, forbidden(err, readSysctl)
	}
	return runStage(stageInside, &syscall.SysProcAttr{})
}

func mountLab() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount tmpfs on /run: %w", err)
	}
	for _, dir := range []string{outsideProc, "/run/holdfast"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	if err := unix.Mount("/proc", outsideProc, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("keep the outer /proc: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}

// InUserNamespace reports whether the program is root only in a user namespace
// of its own.
func InUserNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(b)), " ") != "0 0 4294967295"
}

func withoutStage(env []string) []string {
	kept := make([]string, 0, len(env))
	for _, v := range env {
		if !strings.HasPrefix(v, stageVariable+"=") {
			kept = append(kept, v)
		}
	}
	return kept
}

// forbidden explains a refused namespace or mount. read returns the content of
// a file under /proc/sys, or "" when there is none.
func forbidden(err error, read func(string) string) error {
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	var advice []string
	if read("kernel/apparmor_restrict_unprivileged_userns") == "1" {
		advice = append(advice, "AppArmor restricts user namespaces (Ubuntu): sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0")
	}
	if read("kernel/unprivileged_userns_clone") == "0" {
		advice = append(advice, "user namespaces are off for ordinary users (Debian): sudo sysctl -w kernel.unprivileged_userns_clone=1")
	}
	if read("user/max_user_namespaces") == "0" {
		advice = append(advice, "the number of user namespaces is limited to none: sudo sysctl -w user.max_user_namespaces=15000")
	}
	if len(advice) == 0 {
		advice = append(advice, "in a container, start it with --privileged (or --cap-add SYS_ADMIN,NET_ADMIN,NET_RAW and no seccomp filter)")
	}
	advice = append(advice, "or run the same command as root")
	return fmt.Errorf("%w: %w\n  - %s", ErrForbidden, err, strings.Join(advice, "\n  - "))
}

func readSysctl(name string) string {
	b, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
