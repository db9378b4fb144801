package daemon

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestPauses(t *testing.T) {
	var p pauses
	for i, tt := range []struct{ lived, want time.Duration }{
		{time.Second, 0}, {0, 10 * time.Millisecond}, {0, 20 * time.Millisecond}, {30 * time.Millisecond, 10 * time.Millisecond}, {9 * time.Second, 0},
		{10 * time.Second, 0}, {0, 10 * time.Millisecond}, {0, 20 * time.Millisecond}, {0, 40 * time.Millisecond},
		{0, 80 * time.Millisecond}, {0, 160 * time.Millisecond}, {0, 320 * time.Millisecond}, {0, 640 * time.Millisecond},
		{0, time.Second}, {999 * time.Millisecond, time.Millisecond}, {time.Second, 0}, {time.Hour, 0}, {0, 10 * time.Millisecond},
	} {
		if got := p.after(tt.lived); got != tt.want {
			t.Errorf("death %d after %v: pause %v, want %v", i, tt.lived, got, tt.want)
		}
	}
}

func TestEnding(t *testing.T) {
	for _, tt := range []struct {
		end   ending
		code  int
		final bool
		text  string
	}{
		{ending{code: 0}, 0, true, "exit code 0"},
		{ending{code: 1}, 1, false, "exit code 1"},
		{ending{code: 2}, 2, false, "exit code 2"}, // a panic
		{ending{code: finalCode + ExitUsage}, ExitUsage, true, "exit code 102"},
		{ending{code: exitFinal}, ExitError, true, "exit code 101"},
		{ending{code: -1, signal: syscall.SIGKILL}, 0, false, "killed by SIGKILL"},
		{ending{code: -1, err: errors.New("start: no memory")}, 0, false, "start: no memory"},
	} {
		code, final := tt.end.final()
		if final != tt.final || final && code != tt.code || tt.end.String() != tt.text {
			t.Errorf("%+v: code %d, final %t, %q", tt.end, code, final, tt.end)
		}
	}
}

// staged is a guardian whose children are played by the test, on a fake clock.
type staged struct {
	signals chan os.Signal
	got     []string // signals that children got, with the number of the child
	starts  []time.Duration
	talk    bytes.Buffer
	changes chan os.Signal
	stopped bool
	tidied  []time.Duration
}

// act plays one child: it says how the child ends once it is ready; quiet ones
// never are.
type act struct {
	lives time.Duration
	quiet bool
	end   ending
	fails error  // it cannot be started
	obeys bool   // it ends with 0 on SIGTERM
	then  func() // called when it is started
}

func (s *staged) run(acts ...act) int {
	began, n := time.Now(), 0
	g := &guardian{log: slog.New(slog.NewTextHandler(&s.talk, nil)), signals: s.signals, changes: s.changes}
	g.janitor = &janitor{log: g.log, work: func() (int, error) {
		s.tidied = append(s.tidied, time.Since(began))
		return 0, nil
	}}
	g.start = func() (*child, error) {
		a := acts[n]
		n++
		number := n
		s.starts = append(s.starts, time.Since(began))
		if a.then != nil {
			a.then()
		}
		if a.fails != nil {
			return nil, a.fails
		}
		ready, ended := make(chan struct{}), make(chan ending, 4)
		if !a.quiet {
			close(ready)
		}
		if a.lives > 0 {
			time.AfterFunc(a.lives, func() { ended <- a.end })
		} else if !a.obeys {
			ended <- a.end
		}
		return &child{pid: number, ready: ready, ended: ended, stopped: func() bool { return s.stopped }, signal: func(sig os.Signal) error {
			s.got = append(s.got, fmt.Sprintf("%d:%v", number, sig))
			switch {
			case sig == syscall.SIGKILL || sig == syscall.SIGTERM && a.quiet:
				ended <- ending{code: -1, signal: sig.(syscall.Signal)}
			case sig == syscall.SIGTERM && a.obeys:
				ended <- ending{}
			}
			return nil
		}}, nil
	}
	return g.run()
}

func TestGuardian(t *testing.T) {
	killed := ending{code: -1, signal: syscall.SIGKILL}
	panicked := ending{code: 2}
	const ms = time.Millisecond
	for _, tt := range []struct {
		name   string
		acts   func(signals chan<- os.Signal) []act
		code   int
		starts []time.Duration
		got    string
		log    string
	}{
		{"a clean end ends it", func(chan<- os.Signal) []act { return []act{{lives: time.Hour}} }, 0, []time.Duration{0}, "", ""},
		{"at once after the first death, then later and later", func(chan<- os.Signal) []act {
			return []act{{lives: time.Minute, end: killed}, {end: panicked}, {end: ending{code: 1}}, {fails: errors.New("no memory")}, {lives: ms, end: ending{}}}
		}, 0, []time.Duration{0, time.Minute, time.Minute + 10*ms, time.Minute + 30*ms, time.Minute + 70*ms}, "", "how=\"killed by SIGKILL\" pid=1 after=1m0s \"new pid\"=2"},
		{"a wrong configuration ends it", func(chan<- os.Signal) []act {
			return []act{{lives: time.Minute, end: killed}, {end: ending{code: finalCode + ExitUsage}}}
		}, ExitUsage, []time.Duration{0, time.Minute}, "", ""},
		{"SIGTERM and others are passed on", func(c chan<- os.Signal) []act {
			return []act{{obeys: true, then: func() { c <- syscall.SIGHUP; c <- syscall.SIGUSR1; c <- syscall.SIGTERM }}}
		}, 0, []time.Duration{0}, "1:hangup 1:user defined signal 1 1:terminated", ""},
		{"SIGTERM is held until the child takes it, and a second one is not", func(c chan<- os.Signal) []act {
			return []act{{quiet: true, lives: time.Hour, then: func() {
				c <- syscall.SIGTERM
				time.AfterFunc(time.Second, func() { c <- syscall.SIGTERM })
			}}}
		}, ExitError, []time.Duration{0}, "1:terminated 1:terminated", "died while it was to stop"},
		{"SIGTERM for a child that dies before it takes it is for the next", func(c chan<- os.Signal) []act {
			return []act{{quiet: true, lives: ms, end: killed, then: func() { c <- syscall.SIGTERM }}, {obeys: true}}
		}, 0, []time.Duration{0, ms}, "2:terminated", ""},
		{"SIGTERM in a pause is one more start, and only one", func(c chan<- os.Signal) []act {
			return []act{{end: killed}, {end: killed, then: func() { time.AfterFunc(5*ms, func() { c <- syscall.SIGTERM }) }}, {quiet: true, lives: ms, end: panicked}}
		}, ExitError, []time.Duration{0, 0, 5 * ms}, "", "died while it was to stop"},
		{"a child that dies of the demand to stop is the last", func(c chan<- os.Signal) []act {
			return []act{{lives: time.Second, end: killed, then: func() { c <- syscall.SIGTERM }}}
		}, ExitError, []time.Duration{0}, "1:terminated", "died while it was to stop"},
		{"the watchdog's signal lets the child say what it does, then ends it", func(c chan<- os.Signal) []act {
			return []act{{lives: time.Hour, quiet: true, then: func() { c <- syscall.SIGABRT }}}
		}, ExitError, []time.Duration{0}, "1:aborted 1:continued 1:killed", "died while it was to stop"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &staged{signals: make(chan os.Signal, 16)}
				code := s.run(tt.acts(s.signals)...)
				if code != tt.code || !slices.Equal(s.starts, tt.starts) || strings.Join(s.got, " ") != tt.got || !strings.Contains(s.talk.String(), tt.log) {
					t.Errorf("code %d, starts %v, signals %q, log:\n%s", code, s.starts, s.got, s.talk.String())
				}
			})
		})
	}
}

// TestJanitor: it works while the child stands still or cannot be started, and not
// while it runs.
func TestJanitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &staged{signals: make(chan os.Signal, 16), changes: make(chan os.Signal, 1)}
		s.run(act{lives: time.Second, then: func() {
			s.changes <- syscall.SIGCHLD // of a child that runs
			time.AfterFunc(200*time.Millisecond, func() { s.stopped = true; s.changes <- syscall.SIGCHLD })
			time.AfterFunc(310*time.Millisecond, func() { s.stopped = false; s.changes <- syscall.SIGCHLD })
		}, end: ending{code: 1}}, act{fails: errors.New("no memory")}, act{})
		want := []time.Duration{200 * time.Millisecond, 250 * time.Millisecond, 300 * time.Millisecond, time.Second}
		if !slices.Equal(s.tidied, want) {
			t.Errorf("tidied up at %v, want %v", s.tidied, want)
		}
	})
}

// TestStoppedChild: a real one.
func TestStoppedChild(t *testing.T) {
	p := launch(t, "serves", agentConfig(t), "--guardian=false")
	pid, _, _ := p.served(t)
	for _, tt := range []struct {
		signal syscall.Signal
		want   bool
	}{{syscall.SIGSTOP, true}, {syscall.SIGCONT, false}} {
		kill(t, pid, tt.signal)
		for end := time.Now().Add(5 * time.Second); isStopped(pid) != tt.want; {
			if time.Now().After(end) {
				t.Fatalf("%v: stopped is %t", tt.signal, !tt.want)
			}
		}
	}
	if isStopped(1 << 30) {
		t.Error("a process that does not exist stands still")
	}
}

func TestChildEnvironment(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"systemd's watchdog is for the guardian", "NOTIFY_SOCKET=/n WATCHDOG_PID=7 WATCHDOG_USEC=5000000", "NOTIFY_SOCKET=/n WATCHDOG_USEC=5000000"},
		{"for somebody else", "WATCHDOG_PID=8 WATCHDOG_USEC=5000000", "WATCHDOG_PID=8"},
		{"for nobody in particular", "WATCHDOG_USEC=1", "WATCHDOG_USEC=1"},
		{"of a guardian's guardian", "A=1 HOLDFAST_GUARDED=1 HOLDFAST_READY_FD=9", "A=1"},
	} {
		want := tt.want + " HOLDFAST_GUARDED=1 HOLDFAST_READY_FD=3"
		got := strings.Join(childEnvironment(strings.Fields(tt.in), 7), " ")
		if got != want {
			t.Errorf("%s: %q, want %q", tt.name, got, want)
		}
	}
	// What the child's notifier makes of it.
	env := map[string]string{}
	for _, v := range childEnvironment([]string{"WATCHDOG_PID=7", "WATCHDOG_USEC=5000000"}, 7) {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	if got := newNotifier(func(k string) string { return env[k] }, 8).WatchdogInterval(); got != 5*time.Second {
		t.Errorf("the child's watchdog interval is %v", got)
	}
}

// roleVariable makes the test program a daemon of this kind.
const roleVariable = "HOLDFAST_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(Main(AgentFile(), os.Args[1:], func(ctx context.Context, _ Agent, p *Process) error {
			comm, _ := os.ReadFile("/proc/self/comm")
			fmt.Println("pid", os.Getpid(), "parent", os.Getppid(), "guarded", os.Getenv(guardedVariable), "comm", string(bytes.TrimSpace(comm)))
			switch role {
			case "locked":
				return Final(errors.New("somebody else runs"))
			case "panics":
				if _, err := os.Stat(os.Getenv("MARK")); err != nil {
					_ = os.WriteFile(os.Getenv("MARK"), nil, 0o600)
					panic("as planned")
				}
			}
			<-ctx.Done()
			return nil
		}))
	}
	os.Exit(m.Run())
}

// program is the test program in a role, and what it says.
type program struct {
	cmd  *exec.Cmd
	out  *bufio.Scanner
	talk bytes.Buffer
}

// launch starts the program with the minimal agent configuration at path.
func launch(t *testing.T, role, path string, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.Command("/proc/self/exe", append([]string{"--config", path}, args...)...)}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role, "MARK="+path+".mark")
	p.cmd.Stderr = &p.talk
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// A guardian that should have ended and has not still obeys.
	limit := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Signal(syscall.SIGTERM) })
	t.Cleanup(func() { limit.Stop(); _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
	return p
}

// served waits for the line of a daemon that runs.
func (p *program) served(t *testing.T) (pid, parent int, line string) {
	t.Helper()
	if !p.out.Scan() {
		t.Fatalf("no daemon runs: %v\n%s", p.out.Err(), p.talk.String())
	}
	if _, err := fmt.Sscanf(p.out.Text(), "pid %d parent %d", &pid, &parent); err != nil {
		t.Fatalf("%q: %v", p.out.Text(), err)
	}
	return pid, parent, p.out.Text()
}

// end waits and returns exit code and log.
func (p *program) end() (int, string) {
	for p.out.Scan() {
		continue // Wait closes the pipe, so it is read to its end first
	}
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode(), p.talk.String()
}

func agentConfig(t *testing.T) string {
	t.Helper()
	return write(t, "a.yaml", "host: a\nbind: 192.0.2.21\nseeds: ['192.0.2.11:7950']\ngossip: {keys: ["+testKey+"]}\ntls: off\n")
}

func kill(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}

// TestGuardedDaemon runs a real guardian and its children.
func TestGuardedDaemon(t *testing.T) {
	p := launch(t, "serves", agentConfig(t))
	first, parent, line := p.served(t)
	if parent != p.cmd.Process.Pid || !strings.HasSuffix(line, "guarded  comm vipagent") {
		t.Fatalf("%q, guardian %d", line, p.cmd.Process.Pid)
	}
	kill(t, first, syscall.SIGKILL)
	second, _, _ := p.served(t)
	kill(t, second, syscall.SIGQUIT) // goroutines to the log, and exit code 2
	third, parent, _ := p.served(t)
	if first == second || second == third || parent != p.cmd.Process.Pid {
		t.Errorf("pids %d, %d, %d", first, second, third)
	}
	kill(t, p.cmd.Process.Pid, syscall.SIGTERM)
	code, talk := p.end()
	if code != ExitOK || !strings.Contains(talk, "killed by SIGKILL") || !strings.Contains(talk, "how=\"exit code 2\"") || !strings.Contains(talk, "msg=stopped") {
		t.Errorf("code %d, log:\n%s", code, talk)
	}
}

// TestGuardedPanic: a panic has the exit code of a wrong flag.
func TestGuardedPanic(t *testing.T) {
	p := launch(t, "panics", agentConfig(t))
	first, _, _ := p.served(t)
	second, _, _ := p.served(t)
	if first == second {
		t.Error("not started again")
	}
	kill(t, p.cmd.Process.Pid, syscall.SIGINT)
	if code, talk := p.end(); code != ExitOK || !strings.Contains(talk, "as planned") {
		t.Errorf("code %d, log:\n%s", code, talk)
	}
}

// TestGuardedFinal: what another start cannot cure ends guardian and daemon, with
// the exit code that the daemon alone has.
func TestGuardedFinal(t *testing.T) {
	for _, flag := range []string{"--guardian=true", "--guardian=false"} {
		p := launch(t, "locked", agentConfig(t), flag)
		p.served(t)
		if code, talk := p.end(); code != ExitError || strings.Count(talk, "somebody else runs") != 1 || strings.Contains(talk, "died") {
			t.Errorf("%s: code %d, log:\n%s", flag, code, talk)
		}
	}
	config := agentConfig(t)
	p := launch(t, "serves", config)
	pid, _, _ := p.served(t)
	if err := os.WriteFile(config, []byte("hots: a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	kill(t, pid, syscall.SIGKILL)
	if code, talk := p.end(); code != ExitUsage || !strings.Contains(talk, `unknown key "hots"`) {
		t.Errorf("bad configuration: code %d, log:\n%s", code, talk)
	}
}

// TestChildThatIsNeverReady: the death of a child is no word that it takes signals.
func TestChildThatIsNeverReady(t *testing.T) {
	t.Setenv(roleVariable, "serves")
	var talk bytes.Buffer
	c, err := startChild([]string{"--no-such-flag"}, Streams{&talk, &talk})
	if err != nil {
		t.Fatal(err)
	}
	end := <-c.ended
	if code, final := end.final(); !final || code != ExitUsage || !strings.Contains(talk.String(), "unknown flag") {
		t.Errorf("%v, %s", end, talk.String())
	}
	select {
	case <-c.ready:
		t.Error("it was ready")
	case <-time.After(20 * time.Millisecond):
	}
}

// TestUnguarded: there is no guardian where none is wanted.
func TestUnguarded(t *testing.T) {
	p := launch(t, "serves", agentConfig(t), "--guardian=false")
	if pid, _, line := p.served(t); pid != p.cmd.Process.Pid {
		t.Errorf("%q, started %d", line, p.cmd.Process.Pid)
	}
	kill(t, p.cmd.Process.Pid, syscall.SIGTERM)
	if code, talk := p.end(); code != ExitOK {
		t.Errorf("code %d, log:\n%s", code, talk)
	}
}

// TestGuardianKilled: the daemon goes on without it.
func TestGuardianKilled(t *testing.T) {
	p := launch(t, "serves", agentConfig(t))
	pid, _, _ := p.served(t)
	kill(t, p.cmd.Process.Pid, syscall.SIGKILL)
	if state, err := p.cmd.Process.Wait(); err != nil || state.Exited() {
		t.Fatalf("%v, %v", state, err)
	}
	kill(t, pid, syscall.SIGHUP) // it is there, and takes signals
	kill(t, pid, syscall.SIGTERM)
	if p.out.Scan() { // to the end of its output, which is its own
		t.Errorf("after the guardian's death: %q", p.out.Text())
	}
	if _, err := os.Stat("/proc/" + strconv.Itoa(pid) + "/fd/1"); err == nil {
		t.Error("still there after SIGTERM")
	}
}
