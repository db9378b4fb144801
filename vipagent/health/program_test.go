package health

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// programIn writes a shell script for a test.
func programIn(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProgramArguments(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	p := Program{Args: []string{programIn(t, `for a; do echo "[$a]"; done > `+out), "one", "two words"}, User: self()}
	if err := p.Run(t.Context(), "INSTANCE", "V $HOME"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if want := "[one]\n[two words]\n[INSTANCE]\n[V $HOME]\n"; err != nil || string(got) != want {
		t.Errorf("arguments %q, %v; want %q", got, err, want)
	}
}

func TestProgramStatus(t *testing.T) {
	p := Program{Args: []string{programIn(t, "echo no disk >&2\nexit 3")}, User: self(), Output: true}
	var bad *ScriptError
	if err := p.Run(t.Context()); !errors.As(err, &bad) || bad.Status != "exit status 3" || bad.Output != "no disk" {
		t.Errorf("got %v", err)
	}
}

func TestProgramFound(t *testing.T) {
	for _, tt := range []struct{ name, want string }{
		{"true", ""}, {"/bin/true", ""}, {"no-such-program", "executable file not found"}, {"/no/such", "no such file"}, {"/etc/passwd", "is not an executable file"}, {"/etc", "is not an executable file"},
	} {
		err := Program{Args: []string{tt.name}, User: self()}.Check()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if err := (Program{Args: []string{"true"}, User: "nobody-here"}).Check(); err == nil {
		t.Error("a user who does not exist was found")
	}
}

func TestProgramUser(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(out, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Dir(out), filepath.Dir(filepath.Dir(out))} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(out, 0o666); err != nil {
		t.Fatal(err)
	}
	other := otherUser(t)
	p := Program{Args: []string{"sh", "-c", "id -u > " + out}, User: other}
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	creds, err := p.credential()
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(out); string(got) != fmt.Sprintln(creds.Uid) {
		t.Errorf("it ran as user %q, not %d", got, creds.Uid)
	}
	if p.Root() != (creds.Uid == 0) || !(Program{User: "0"}).Root() {
		t.Error("Root is wrong")
	}
}

// TestProgramTimeout: the whole group goes, also what takes no notice of SIGTERM.
func TestProgramTimeout(t *testing.T) {
	dir := t.TempDir()
	ready := filepath.Join(dir, "ready")
	p := Program{Args: []string{programIn(t, "trap '' TERM\n(trap '' TERM; sleep 100) &\necho $! > "+ready+"\nwait\nsleep 100")}, User: self()}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			if text, err := os.ReadFile(ready); err == nil && len(text) > 0 || ctx.Err() != nil {
				cancel()
				return
			}
		}
	}()
	begin := time.Now()
	err := p.Run(ctx)
	if err == nil || !strings.Contains(err.Error(), "took too long") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begin); took < termination || took > termination+3*time.Second {
		t.Errorf("it took %v", took)
	}
	pid, _ := os.ReadFile(ready)
	// Killed is not gone: on a busy processor the kernel takes a while to carry it out.
	for deadline := time.Now().Add(10 * time.Second); ; {
		state, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
		if err != nil || strings.Contains(string(state), ") Z ") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a child of the script lives: %s", state)
		}
		runtime.Gosched()
	}
}

// TestProgramLeavesOthers: what a script has started goes on when it has ended.
func TestProgramLeavesOthers(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "left")
	p := Program{Args: []string{programIn(t, "sleep 100 & echo $! > "+left)}, User: self()}
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(left)
	pid := strings.TrimSpace(string(text))
	if _, err := os.Stat("/proc/" + pid); err != nil {
		t.Errorf("what the script has left is gone: %v", err)
	}
	_ = Program{Args: []string{"kill", pid}, User: self()}.Run(t.Context())
}

func TestProcessMatch(t *testing.T) {
	proc := t.TempDir()
	for pid, p := range map[string]struct{ comm, cmdline, state string }{
		"10": {"nginx", "nginx: master\x00-c\x00/etc/nginx.conf\x00", "S"},
		"11": {"nginx", "nginx\x00", "S"},
		"12": {"nginx", "nginx\x00", "Z"},
		"13": {"averyveryverylo", "/opt/averyveryverylongname\x00run\x00--fast\x00", "R"},
	} {
		dir := filepath.Join(proc, pid)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"comm": p.comm + "\n", "cmdline": p.cmdline, "stat": pid + " (" + p.comm + ") " + p.state + " 1"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name  string
		match ProcessMatch
		want  int
	}{
		{"by name, without zombies", ProcessMatch{Name: "nginx"}, 2},
		{"other name", ProcessMatch{Name: "ngin"}, 0},
		{"long name is cut", ProcessMatch{Name: "averyveryverylongname"}, 1},
		{"exact parameters", ProcessMatch{Name: "nginx", Params: []string{"-c", "/etc/nginx.conf"}}, 1},
		{"too few parameters", ProcessMatch{Name: "nginx", Params: []string{"-c"}}, 0},
		{"partial", ProcessMatch{Name: "nginx", Params: []string{"-c"}, Match: "partial"}, 1},
		{"initial", ProcessMatch{Name: "nginx", Params: []string{"-c", "/etc/"}, Match: "initial"}, 1},
		{"initial, other", ProcessMatch{Name: "nginx", Params: []string{"-c", "/usr/"}, Match: "initial"}, 0},
		{"without parameters", ProcessMatch{Name: "nginx", Match: "partial"}, 1},
		{"command line", ProcessMatch{Name: "averyveryverylongname", Command: true}, 1},
		{"command line with path", ProcessMatch{Name: "/opt/averyveryverylongname", Params: []string{"run", "--fast"}, Command: true}, 1},
	} {
		if got, err := countProcesses(proc, tt.match); err != nil || got != tt.want {
			t.Errorf("%s: %d, %v; want %d", tt.name, got, err, tt.want)
		}
	}
}

// TestProgramPolicy: a program has the ordinary scheduling policy, whatever this process
// has: mostly a real-time one, which not every user may take, so it is another here.
func TestProgramPolicy(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_BATCH}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	p := Program{Args: []string{"sh", "-c", "sleep 0.2; cat /proc/self/stat > " + out}, User: self()}
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	const policy = 41 - 3 // proc_pid_stat(5), behind the name
	_, after, _ := strings.Cut(string(text), ") ")
	if fields := strings.Fields(after); len(fields) <= policy || fields[policy] != "0" {
		t.Errorf("its scheduling policy is not 0: %s", text)
	}
}
