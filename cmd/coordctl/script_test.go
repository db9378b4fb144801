package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"coordctl": main, "brokers": playBrokers})
}

// TestScripts runs testdata/*.txt: coordctl's behaviour, and its documentation.
// A script that needs a cluster starts a real coordinator, alone in its quorum.
func TestScripts(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "../coordinator")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build coordinator: %v\n%s", err, out)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			ports, err := freePorts(5)
			if err != nil {
				return err
			}
			config := fmt.Sprintf(`name: solo
data_dir: %s
bind: 127.0.0.1
seeds: ["127.0.0.1:%d"]
bootstrap_expect: 1
gossip:
  port: %d
  keys: [%s=]
raft: {port: %d}
api: {port: %d}
tls: off
`, filepath.Join(env.WorkDir, "data"), ports[0], ports[0], strings.Repeat("B", 42)+"A", ports[1], ports[2])
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("HOLDFAST_SERVER", fmt.Sprintf("127.0.0.1:%d", ports[2]))
			env.Setenv("BROKERS_PORT", fmt.Sprint(ports[4]))
			env.Setenv("GOSSIP_SEED", fmt.Sprintf("127.0.0.1:%d", ports[0]))
			env.Setenv("GOSSIP_KEY", strings.Repeat("B", 42)+"A=")
			env.Setenv("NOBODY", fmt.Sprintf("127.0.0.1:%d", ports[3]))
			return os.WriteFile(filepath.Join(env.WorkDir, "coordinator.yaml"), []byte(config), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "until": until, "says": says},
	})
}

// freePorts returns ports that nobody listens on now.
func freePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// exits CODE COMMAND...: the command must end with exactly this exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if exit, ok := err.(*exec.ExitError); ok {
		code = fmt.Sprint(exit.ExitCode())
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

// until COMMAND...: the command is repeated until it succeeds.
func until(ts *testscript.TestScript, neg bool, args []string) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-tick.C {
		if ts.Exec(args[0], args[1:]...) == nil {
			return
		}
	}
	ts.Fatalf("never succeeded: %s", strings.Join(args, " "))
}

// says PATTERN COMMAND...: the command is repeated until what it prints matches,
// whatever its exit code.
func says(ts *testscript.TestScript, neg bool, args []string) {
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-tick.C {
		_ = ts.Exec(args[1], args[2:]...)
		if pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("never said %q: %s", args[0], strings.Join(args[1:], " "))
}
