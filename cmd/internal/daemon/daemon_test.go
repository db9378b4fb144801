package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestGroup(t *testing.T) {
	boom := errors.New("boom")
	wait := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	tests := []struct {
		name string
		task func(context.Context) error
		want string
	}{
		{"a failed task stops the others", func(context.Context) error { return boom }, "run first: boom"},
		{"ErrStop stops the others without an error", func(context.Context) error { return ErrStop }, ""},
		{"wrapped ErrStop", func(context.Context) error { return fmt.Errorf("signal: %w", ErrStop) }, ""},
		{"a task's own timeout is a failure", func(context.Context) error { return context.DeadlineExceeded }, "run first: context deadline exceeded"},
		{"a task's own cancellation is a failure", func(context.Context) error { return context.Canceled }, "run first: context canceled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := NewGroup(t.Context())
			g.Go("second", wait)
			g.Go("first", tt.task)
			got := ""
			if err := g.Wait(); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("Wait() = %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("cancellation is nil", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		g := NewGroup(ctx)
		g.Go("wrapped", func(ctx context.Context) error { return fmt.Errorf("dial: %w", wait(ctx)) })
		cancel()
		if err := g.Wait(); err != nil {
			t.Errorf("Wait() = %v", err)
		}
	})
	t.Run("a task that is done leaves the others running", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			g := NewGroup(ctx)
			g.Go("done", func(context.Context) error { return nil })
			g.Go("other", func(ctx context.Context) error {
				select {
				case <-ctx.Done():
					return errors.New("was stopped")
				case <-time.After(time.Second):
					return nil
				}
			})
			if err := g.Wait(); err != nil {
				t.Error(err)
			}
		})
	})
}

func TestNotifier(t *testing.T) {
	for _, form := range []string{"path", "abstract"} {
		t.Run(form, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "notify")
			if form == "abstract" {
				name = "@holdfast-test-" + filepath.Base(filepath.Dir(t.TempDir())) + fmt.Sprint(os.Getpid())
			}
			conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			env := map[string]string{"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "42"}
			n := newNotifier(func(k string) string { return env[k] }, 42)
			if n.WatchdogInterval() != 2*time.Second {
				t.Errorf("WatchdogInterval() = %s", n.WatchdogInterval())
			}
			n.Ready("holds\n3 VIPs")
			n.Status("fine")
			n.Alive()
			n.Stopping()
			buf := make([]byte, 1024)
			for _, want := range []string{"READY=1\nSTATUS=holds 3 VIPs", "STATUS=fine", "WATCHDOG=1", "STOPPING=1"} {
				if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
					t.Fatal(err)
				}
				k, err := conn.Read(buf)
				if err != nil || string(buf[:k]) != want {
					t.Errorf("got %q, %v; want %q", buf[:k], err, want)
				}
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		for _, env := range []map[string]string{{}, {"NOTIFY_SOCKET": "/nowhere/at/all"}, {"NOTIFY_SOCKET": "relative", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "7"}} {
			n := newNotifier(func(k string) string { return env[k] }, 42)
			n.Ready("x")
			n.Alive()
			if n.WatchdogInterval() != 0 {
				t.Errorf("%v: the watchdog of another process was taken for ours", env)
			}
		}
	})
}

func TestWaitSignal(t *testing.T) {
	guard := make(chan os.Signal, 8) // no signal of this test may kill it
	signal.Notify(guard, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(guard)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		lines := make(chan string, 16)
		log := slog.New(slog.NewTextHandler(lineWriter(lines), nil))
		done := make(chan error, 1)
		go func() { done <- WaitSignal(t.Context(), log, func() {}) }()
		hangUp(t, lines, done)
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, ErrStop) {
			t.Errorf("%v: WaitSignal() = %v", s, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := WaitSignal(ctx, slog.New(slog.DiscardHandler), func() {}); err != nil {
		t.Errorf("cancelled: %v", err)
	}
}

// hangUp sends SIGHUP until the task says that it ignores it, by which it is
// known to listen.
func hangUp(t *testing.T, lines <-chan string, done <-chan error) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
		case line := <-lines:
			if !strings.Contains(line, "ignoring signal") {
				t.Fatalf("on SIGHUP: %s", line)
			}
			return
		case err := <-done:
			t.Fatalf("SIGHUP ended the task: %v", err)
		}
	}
}

// lineWriter is a writer that drops what nobody has room for.
type lineWriter chan string

func (w lineWriter) Write(p []byte) (int, error) {
	select {
	case w <- string(p):
	default:
	}
	return len(p), nil
}

// write makes a file that only its owner can read.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExecute(t *testing.T) {
	good := write(t, "c.yaml", minimal)
	bad := write(t, "bad.yaml", minimal+"rft: 1\n")
	keys := write(t, "keys", "# first\n"+testKey+"\n")
	keyed := write(t, "k.yaml", "name: a\nbind: 192.0.2.11\ntls: off\ngossip: {key_file: "+keys+"}\n")
	noKeys := write(t, "n.yaml", "name: a\nbind: 192.0.2.11\ntls: off\ngossip: {key_file: "+keys+".not}\n")
	badKeys := write(t, "keys2", "\n"+testKey[:20]+"\n")
	badKeyed := write(t, "b.yaml", "name: a\nbind: 192.0.2.11\ntls: off\ngossip: {key_file: "+badKeys+"}\n")
	ok := func(context.Context, Coordinator, *Process) error { return nil }
	tests := []struct {
		name     string
		args     []string
		run      Run[Coordinator]
		code     int
		out, err string
	}{
		{"check", []string{"--config", good, "--check-config"}, nil, ExitOK, "ok\n", "warning: " + good + ":3:6: tls is off"},
		{"check bad", []string{"--config", bad, "--check-config"}, nil, ExitUsage, "", `bad.yaml:5:1: unknown key "rft"; did you mean "raft"?`},
		{"no file", []string{"--config", "/nowhere.yaml"}, nil, ExitUsage, "", "read configuration: stat /nowhere.yaml: no such file"},
		{"directory", []string{"--config", "/"}, nil, ExitUsage, "", "/ is not a regular file"},
		{"print", []string{"--config", good, "--print-config", "--raft.heartbeat", "200ms"}, nil, ExitOK, "  heartbeat: 200ms\n", ""},
		{"print hides keys", []string{"--config", good, "--print-config"}, nil, ExitOK, "    - (hidden)\n", ""},
		{"bad flag value", []string{"--config", good, "--api.port", "x"}, nil, ExitUsage, "", "flag --api.port: "},
		{"unknown flag", []string{"--hartbeat", "1"}, nil, ExitUsage, "", "unknown flag: --hartbeat"},
		{"argument", []string{"start"}, nil, ExitUsage, "", `unexpected argument "start"`},
		{"help", []string{"--help"}, nil, ExitOK, "", "--raft.heartbeat duration"},
		{"version", []string{"--version"}, nil, ExitOK, "coordinator ", ""},
		{"key file", []string{"--config", keyed, "--check-config"}, nil, ExitOK, "ok\n", ""},
		{"no key file", []string{"--config", noKeys}, nil, ExitUsage, "", "read gossip.key_file: stat"},
		{"bad key file", []string{"--config", badKeyed}, nil, ExitUsage, "", "keys2:2: a key must be the base64 form of 32 bytes: 15 bytes long, must be 32"},
		{"run", []string{"--config", good}, ok, ExitOK, "", "msg=stopped"},
		{"run fails", []string{"--config", good, "--log.format", "json"}, func(context.Context, Coordinator, *Process) error { return errors.New("boom") },
			ExitError, "", `"msg":"failed","error":"run coordinator: boom"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, talk bytes.Buffer
			code := CoordinatorFile().Execute(t.Context(), tt.args, Streams{&out, &talk}, tt.run)
			if code != tt.code || !strings.Contains(out.String(), tt.out) || !strings.Contains(talk.String(), tt.err) {
				t.Errorf("code %d, want %d\nout:\n%s\nwant in it: %s\nerr:\n%s\nwant in it: %s", code, tt.code, out.String(), tt.out, talk.String(), tt.err)
			}
			if strings.Contains(out.String()+talk.String(), testKey[:20]) {
				t.Errorf("a key is shown:\n%s%s", out.String(), talk.String())
			}
		})
	}
}

// TestPrintedConfigParses: what --print-config prints means the same, but for
// the keys.
func TestPrintedConfigParses(t *testing.T) {
	path := "../../../deploy/vipagent.yaml"
	keys := write(t, "keys", testKey+"\n")
	var out bytes.Buffer
	if code := AgentFile().Execute(t.Context(), []string{"--config", path, "--gossip.key_file", keys, "--print-config"}, Streams{&out, io.Discard}, nil); code != ExitOK {
		t.Fatal(code)
	}
	text := strings.Replace(out.String(), "  keys:\n    - (hidden)\n", "", 1)
	if out.Len() == len(text) {
		t.Error("the keys of the key file were not loaded")
	}
	again, _, err := ParseAgent("printed", strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if len(again.Checks) != 7 || again.Checks[0].Timeout != 800*time.Millisecond || again.Announce.Refresh != time.Minute {
		t.Errorf("got %+v", again)
	}
}

func TestReadableKeysWarn(t *testing.T) {
	config := write(t, "c.yaml", minimal)
	keys := write(t, "keys", testKey+"\n")
	named := write(t, "k.yaml", "name: a\nbind: 192.0.2.11\ntls: off\ngossip: {key_file: "+keys+"}\n")
	testReadable(t, config, config)
	testReadable(t, keys, named)
}

// testReadable changes the mode of secret and loads config.
func testReadable(t *testing.T, secret, config string) {
	for mode, want := range map[os.FileMode]int{0o600: 0, 0o640: 0, 0o644: 1} {
		if err := os.Chmod(secret, mode); err != nil {
			t.Fatal(err)
		}
		_, warnings, err := CoordinatorFile().Load(config)
		got := 0
		for _, w := range warnings {
			if strings.Contains(w.Message, "every user of this host can read the gossip keys") {
				got++
			}
		}
		if err != nil || got != want {
			t.Errorf("%s, mode %o: %d warnings, want %d; %v", config, mode, got, want, err)
		}
	}
}

func TestVersion(t *testing.T) {
	info := func(main string, settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Version: main}, Settings: settings}
	}
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "0123456789abcdef"}
	for _, tt := range []struct {
		release string
		info    *debug.BuildInfo
		want    string
	}{
		{"v1.2.3", info("v0.0.1"), "v1.2.3"},
		{"", info("v0.0.1"), "v0.0.1"},
		{"", info("(devel)"), "devel"},
		{"", info("(devel)", revision), "devel-0123456789ab"},
		{"", info("", revision, debug.BuildSetting{Key: "vcs.modified", Value: "true"}), "devel-0123456789ab+dirty"},
	} {
		if got := versionFrom(tt.release, tt.info); got != tt.want {
			t.Errorf("versionFrom(%q, %v) = %q, want %q", tt.release, tt.info, got, tt.want)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"kitten", "sitting", 3}, {"ab", "ba", 2}, {"", "abc", 3}} {
		if got := editDistance(tt.a, tt.b, 99); got != tt.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
