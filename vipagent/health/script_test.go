package health

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// shell returns a check that runs text in /bin/sh as the named user. Whether
// the shell is trusted is another test's business: in a user namespace the
// host's root is nobody.
func shell(t *testing.T, userName, text string) *script {
	t.Helper()
	s, err := newScript(Check{Name: "c", Command: []string{"/bin/sh", "-c", text}, User: userName})
	if err != nil {
		t.Fatal(err)
	}
	s.trust = func(string) error { return nil }
	return s
}

func self() string { return strconv.Itoa(os.Geteuid()) }

// otherUser is nobody where this process may become another user, else itself.
func otherUser(t *testing.T) string {
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/true")
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	if cmd.Run() == nil {
		return "nobody"
	}
	return self()
}

// run runs a script and returns what it said; it must end badly.
func run(t *testing.T, s *script) *ScriptError {
	t.Helper()
	_, err := s.probe(t.Context())
	var said *ScriptError
	if !errors.As(err, &said) {
		t.Fatalf("probe() = %v, want a ScriptError", err)
	}
	return said
}

func TestScriptResult(t *testing.T) {
	if _, err := shell(t, self(), "echo fine").probe(t.Context()); err != nil {
		t.Errorf("exit 0: %v", err)
	}
	for text, want := range map[string]string{
		"echo one; echo two >&2; exit 3": "exit status 3: one two",
		"kill -9 $$":                     "signal: killed",
		"read x || exit 4":               "exit status 4",
	} {
		if got := run(t, shell(t, self(), text)).Error(); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	s := shell(t, self(), "")
	s.argv = []string{"/no/such/program"}
	if _, err := s.probe(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing program: %v", err)
	}
}

// TestScriptSurroundings: a script gets nothing from the agent but its name.
func TestScriptSurroundings(t *testing.T) {
	t.Setenv("SECRET", "do not leak")
	open, err := syscall.Dup(0) // stays open across an exec, unlike what Go opens
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(open)
	said := run(t, shell(t, otherUser(t), "pwd; env; ls /proc/self/fd | tr '\\n' ,; exit 1")).Output
	fields := strings.Fields(said)
	slices.Sort(fields)
	want := []string{"/", "0,1,2,3,", "HOLDFAST_CHECK=c", "LANG=C", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PWD=/"}
	if !slices.Equal(fields, want) {
		t.Errorf("directory, environment and open files:\n%q, want\n%q", fields, want)
	}
}

// TestScriptRights: whatever the agent may do, a script may not.
func TestScriptRights(t *testing.T) {
	const ask = "grep -E '^(Uid|Groups|NoNewPrivs|Cap(Inh|Prm|Eff|Amb)):' /proc/self/status; exit 1"
	for _, name := range []string{otherUser(t), self()} {
		said := strings.Join(strings.Fields(run(t, shell(t, name, ask)).Output), " ")
		uid := name
		if u, err := user.Lookup(name); err == nil {
			uid = u.Uid
		}
		if !strings.Contains(said, "Uid: "+strings.Repeat(uid+" ", 4)) {
			t.Errorf("user %s: %s", name, said)
		}
		const none = "0000000000000000"
		for _, want := range []string{"CapInh: " + none, "CapPrm: " + none, "CapEff: " + none, "CapAmb: " + none, "NoNewPrivs: 1"} {
			if !strings.Contains(said, want) {
				t.Errorf("user %s: %s; want %s", name, said, want)
			}
		}
		if name != self() && !strings.Contains(said, "Groups: NoNewPrivs") && !strings.Contains(said, "Groups: Cap") {
			t.Errorf("user %s has supplementary groups: %s", name, said)
		}
	}
	// The rights were given up by a thread of its own, not by this process.
	status, err := os.ReadFile("/proc/self/status")
	if err != nil || !strings.Contains(string(status), "NoNewPrivs:\t0") {
		t.Errorf("this process lost its rights: %v\n%s", err, status)
	}
}

// TestScriptAmbientRights: capabilities that a unit file gives an agent of
// another user than root would survive the start of a script.
func TestScriptAmbientRights(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Dir = "/"
	cmd.Env = []string{helperEnv + "=rights"}
	cmd.SysProcAttr = namespaces(0) // where an ordinary user has capabilities
	cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN}
	if os.Geteuid() == 0 && otherUser(t) != self() {
		// The program is in a directory that nobody else can enter; its open
		// file is another way to it.
		f, err := os.Open(exe)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.Path, cmd.ExtraFiles = "/proc/self/fd/3", []*os.File{f}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	out, err := cmd.CombinedOutput()
	said := strings.Join(strings.Fields(string(out)), " ")
	const none = "0000000000000000"
	if err != nil || !strings.Contains(said, "before: 0000000000001000") {
		t.Fatalf("the helper has not the capability: %v\n%s", err, said)
	}
	for _, want := range []string{"CapInh: " + none, "CapPrm: " + none, "CapEff: " + none, "CapAmb: " + none} {
		if !strings.Contains(said, want) {
			t.Errorf("%s; want %s", said, want)
		}
	}
}

// helperRights is the other process of TestScriptAmbientRights.
func helperRights() error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	_, amb, _ := strings.Cut(string(status), "CapAmb:")
	fmt.Println("before:", strings.Fields(amb)[0])
	s, err := newScript(Check{Name: "c", User: self(), Command: []string{"/bin/sh", "-c", "grep -E '^Cap(Inh|Prm|Eff|Amb):' /proc/self/status; exit 1"}})
	if err != nil {
		return err
	}
	s.trust = func(string) error { return nil }
	_, err = s.probe(context.Background())
	fmt.Println(err)
	return nil
}

// groupAlive returns the live processes of a process group.
func groupAlive(pgid int) []string {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var alive []string
	for _, path := range stats {
		text, _ := os.ReadFile(path)
		_, rest, ok := strings.Cut(string(text), ") ")
		f := strings.Fields(rest)
		if ok && len(f) > 2 && f[0] != "Z" && f[0] != "X" && f[2] == strconv.Itoa(pgid) {
			alive = append(alive, strings.SplitN(string(text), ")", 2)[0])
		}
	}
	return alive
}

// eventually waits for a condition that the kernel brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// TestScriptGroup: whether a script hangs or leaves children behind, nothing of
// its group outlives the run.
func TestScriptGroup(t *testing.T) {
	t.Run("hangs", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := shell(t, otherUser(t), "trap '' TERM INT; echo $$; sleep 1000 & sleep 1000 | sleep 1000").probe(ctx)
		var said *ScriptError
		if !errors.As(err, &said) || said.Status != "signal: killed" {
			t.Fatalf("probe() = %v", err)
		}
		wantGone(t, said)
	})
	t.Run("leaves a child", func(t *testing.T) {
		wantGone(t, run(t, shell(t, otherUser(t), "echo $$; sleep 1000 & exit 1")))
	})
}

func wantGone(t *testing.T, said *ScriptError) {
	t.Helper()
	pgid, err := strconv.Atoi(said.Output)
	if err != nil {
		t.Fatalf("output %q", said.Output)
	}
	eventually(t, "the end of the group", func() bool { return len(groupAlive(pgid)) == 0 })
}

// TestScriptLeavesGroup: a child that has left the group and holds the output
// does not hold up the check.
func TestScriptLeavesGroup(t *testing.T) {
	start := time.Now()
	said := run(t, shell(t, self(), `d=$(mktemp -d); setsid sh -c "echo \$\$; touch $d/x; exec sleep 1000" &
		while [ ! -e $d/x ]; do sleep 0.01; done; rm -r $d; exit 1`))
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %s", d)
	}
	if pid, err := strconv.Atoi(regexp.MustCompile(`^\d+`).FindString(said.Output)); err == nil {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	} else {
		t.Errorf("the child did not say its id: %q", said.Output)
	}
}

func TestScriptLongOutput(t *testing.T) {
	said := run(t, shell(t, self(), "head -c 100000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 1"))
	if len(said.Output) > outputTail || !strings.HasSuffix(said.Output, "xxx the end") {
		t.Errorf("%d bytes: %q", len(said.Output), said.Output)
	}
}

// TestScriptDiesWithAgent: the kernel ends a script whose agent was killed.
func TestScriptDiesWithAgent(t *testing.T) {
	h := startHelper(t, "script")
	pgid, err := strconv.Atoi(h.line(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(groupAlive(pgid)) == 0 {
		t.Fatal("the script does not run")
	}
	if err := h.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the script", func() bool { return len(groupAlive(pgid)) == 0 })
}

// helperScript is the other process of TestScriptDiesWithAgent.
func helperScript() error {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("holdfast-test-%d", os.Getpid()))
	s, err := newScript(Check{Name: "c", User: self(), Command: []string{"/bin/sh", "-c", "echo $$ > " + path + ".new; mv " + path + ".new " + path + "; exec sleep 1000"}})
	if err != nil {
		return err
	}
	s.trust = func(string) error { return nil }
	go func() {
		for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
			if text, err := os.ReadFile(path); err == nil {
				os.Remove(path)
				fmt.Print(string(text))
				return
			}
		}
	}()
	_, err = s.probe(context.Background())
	return err
}

// TestTrusted walks made-up file trees.
func TestTrusted(t *testing.T) {
	dir, file := fs.ModeDir|0o755, fs.FileMode(0o755)
	base := func() map[string]node {
		return map[string]node{
			"/": {mode: dir}, "/usr": {mode: dir}, "/usr/bin": {mode: dir}, "/usr/bin/sh": {mode: file},
			"/bin": {mode: fs.ModeSymlink | 0o777, link: "usr/bin"}, "/usr/sh": {mode: fs.ModeSymlink | 0o777, link: "../bin/./sh"},
			"/abs": {mode: fs.ModeSymlink | 0o777, link: "/usr/bin/sh"}, "/loop": {mode: fs.ModeSymlink | 0o777, link: "loop"},
			"/home": {mode: dir}, "/home/u": {mode: dir, uid: 1000}, "/home/u/sh": {mode: file},
			"/tmp": {mode: fs.ModeDir | fs.ModeSticky | 0o777}, "/tmp/sh": {mode: file},
			"/grp": {mode: fs.ModeDir | 0o775}, "/grp/sh": {mode: file},
			"/usr/evil": {mode: fs.ModeSymlink | 0o777, link: "/home/u/sh"}, "/usr/theirs": {mode: fs.ModeSymlink | 0o777, uid: 7, link: "bin/sh"},
			"/usr/text": {mode: 0o644}, "/usr/w": {mode: 0o757}, "/usr/own": {mode: file, uid: 1},
		}
	}
	tests := []struct{ program, fault, reason string }{
		{"/usr/bin/sh", "", ""}, {"/bin/sh", "", ""}, {"/usr/sh", "", ""}, {"/abs", "", ""}, {"/usr/../bin/sh", "", ""},
		{"/home/u/sh", "/home/u", "belongs to user 1000, not to root"},
		{"/tmp/sh", "/tmp", "can be written by others than root (mode 0777)"},
		{"/grp/sh", "/grp", "can be written by others than root (mode 0775)"},
		{"/usr/evil", "/home/u", "belongs to user 1000, not to root"},
		{"/usr/theirs", "/usr/theirs", "belongs to user 7, not to root"},
		{"/usr/own", "/usr/own", "belongs to user 1, not to root"},
		{"/usr/w", "/usr/w", "can be written by others than root (mode 0757)"},
		{"/usr/text", "/usr/text", "is not an executable file"},
		{"/usr/bin", "/usr/bin", "is not an executable file"},
		{"/loop", "/loop", "is a symbolic link too many"},
		{"/usr/none", "", "missing"},
	}
	for _, tt := range tests {
		t.Run(tt.program, func(t *testing.T) {
			tree := base()
			err := checkTrusted(tt.program, func(path string) (node, error) {
				n, ok := tree[path]
				if !ok {
					return n, fs.ErrNotExist
				}
				return n, nil
			})
			var u *UntrustedError
			switch {
			case tt.reason == "missing":
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("error %v, want that it does not exist", err)
				}
			case tt.fault == "" && err != nil:
				t.Errorf("not trusted: %v", err)
			case tt.fault != "" && (!errors.As(err, &u) || u.Path != tt.fault || u.Reason != tt.reason):
				t.Errorf("error %v, want %s %s", err, tt.fault, tt.reason)
			}
		})
	}
}

// TestUntrustedIsNotRun: the check is bad, and the program has not run.
func TestUntrustedIsNotRun(t *testing.T) {
	dir := t.TempDir() // below /tmp, or else another's in a user namespace
	mark, program := filepath.Join(dir, "ran"), filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho > "+mark+"\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(program, 0o777); err != nil {
		t.Fatal(err)
	}
	s, err := newScript(Check{Name: "c", Command: []string{program}, User: self()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.probe(t.Context())
	var u *UntrustedError
	if !errors.As(err, &u) {
		t.Errorf("probe() = %v, want an UntrustedError", err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("the program has run")
	}
}

// helper is this test binary in another process, doing what its name says.
type helper struct {
	cmd   *exec.Cmd
	lines *bufio.Reader
}

const helperEnv = "HOLDFAST_HEALTH_HELPER"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(helperEnv) {
	case "":
		os.Exit(m.Run())
	case "script":
		err = helperScript()
	case "rights":
		err = helperRights()
	case "interface":
		err = helperInterface()
	case "pause":
		err = helperPause()
	case "sleep":
		<-time.After(time.Hour)
	}
	if err != nil {
		fmt.Println("helper:", err)
		os.Exit(1)
	}
}

// namespaces has a process run in new namespaces and, if it is an ordinary
// user's, in a user namespace as well.
func namespaces(flags uintptr) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: flags}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return attr
}

func startHelper(t *testing.T, name string, args ...string) *helper {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := &helper{cmd: exec.Command(exe, args...)}
	h.cmd.Env = append(os.Environ(), helperEnv+"="+name)
	h.cmd.Stderr = os.Stderr
	if name == "interface" {
		h.cmd.SysProcAttr = namespaces(unix.CLONE_NEWNET)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	h.lines = bufio.NewReader(out)
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = h.cmd.Process.Kill()
		_ = h.cmd.Wait()
	})
	return h
}

func (h *helper) line(t *testing.T) string {
	t.Helper()
	line, err := h.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("helper: %v", err)
	}
	return strings.TrimSpace(line)
}
