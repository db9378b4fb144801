package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/vipagent/keepalived"
)

// child makes a test run itself as another process, which child tells it to be.
const child = "HOLDFAST_TEST_CHILD"

func childCommand(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), child+"=1")
	return cmd
}

// TestLogIsClosed: a process whose log nobody reads any more goes on, or the addresses
// would stay up without it.
func TestLogIsClosed(t *testing.T) {
	if os.Getenv(child) != "" {
		os.Exit(plainCommand([]string{"-f", "/nonexistent/keepalived.conf"}, os.Stdout, os.Stderr))
	}
	cmd := childCommand(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	read.Close()
	cmd.Stderr = write
	err = cmd.Run()
	write.Close()
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() < 0 {
		t.Errorf("it ended with %v", err)
	}
}

// TestPriorityOfAllThreads: vrrp_priority is the process's, not one thread's.
func TestPriorityOfAllThreads(t *testing.T) {
	if os.Getenv(child) == "" {
		if out, err := childCommand(t).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if err := setNice(12); err != nil {
		t.Fatal(err)
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil || len(tasks) < 2 {
		t.Fatal(len(tasks), err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile("/proc/self/task/" + task.Name() + "/stat")
		if err != nil {
			continue // it has ended
		}
		_, after, _ := strings.Cut(string(text), ") ")
		if fields := strings.Fields(after); len(fields) < 17 || fields[16] != "12" {
			t.Errorf("thread %s: %v", task.Name(), fields)
		}
	}
}

// inTime fails if f does not come back.
func inTime(t *testing.T, what string, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(5 * time.Second):
		t.Fatalf("%s blocks", what)
		return nil
	}
}

// TestNotAFile: a FIFO where a file should be does not stop the one who reads signals.
func TestNotAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := inTime(t, "reading a configuration", func() error { _, err := configFiles{}.Read(path); return err }); err == nil {
		t.Error("a FIFO was read as a configuration")
	}
	value := 7
	c := &keepalived.Config{Files: []keepalived.TrackFile{{Name: "f", Path: path, Init: &value, InitOver: true}}}
	if err := inTime(t, "making a tracked file", func() error { return prepareFiles(c, 0) }); err == nil {
		t.Error("a FIFO was written as a tracked file")
	}
}

// TestMailEnds: a mail server that says nothing does not hold up the end.
func TestMailEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if c, err := l.Accept(); err == nil {
			defer c.Close()
			_, _ = c.Write([]byte("220 here\r\n"))
			_, _ = c.Read(make([]byte, 100)) // it is connected and waits for an answer
			cancel()
			<-t.Context().Done()
		}
	}()
	var f plainFiles
	if err := inTime(t, "mailing", func() error {
		return f.Mail(ctx, keepalived.Email{Server: l.Addr().String(), To: []string{"a@b"}}, "s", "b")
	}); err == nil {
		t.Error("a mail was sent to nobody")
	}
}

// TestFileModes: as with Keepalived, files are the owner's alone unless --umask says else.
func TestFileModes(t *testing.T) {
	for _, tt := range []struct {
		umask string
		want  os.FileMode
	}{{"", 0o600}, {"022", 0o644}, {"0", 0o644}, {"077", 0o600}} {
		mask, err := plainUmask(given{"umask": tt.umask})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		f := plainFiles{mask: mask}
		fifo, dump := filepath.Join(dir, "fifo"), filepath.Join(dir, "dump")
		if err := errors.Join(f.Write(dump, nil), f.Tell(fifo, "x\n")); err != nil {
			t.Fatal(err)
		}
		f.Close()
		for _, path := range []string{fifo, dump} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != tt.want {
				t.Errorf("umask %q: %s has mode %v, %v", tt.umask, filepath.Base(path), info.Mode(), err)
			}
		}
	}
	if _, err := plainUmask(given{"umask": "09"}); err == nil {
		t.Error("a umask of 09 was taken")
	}
}
