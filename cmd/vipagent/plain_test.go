package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPlainOptions(t *testing.T) {
	for _, tt := range []struct {
		args, want string
		err        string
	}{
		{"-f /etc/k.conf -n -D", "use-file=/etc/k.conf dont-fork= log-detail=", ""},
		{"-Pnl -f/etc/k.conf", "vrrp= dont-fork= log-console= use-file=/etc/k.conf", ""},
		{"--use-file=/a --dont-fork --pid /run/x", "use-file=/a dont-fork= pid=/run/x", ""},
		{"-t", "config-test=", ""},
		{"-t/tmp/log -f k", "config-test=/tmp/log use-file=k", ""},
		{"--config-test=/tmp/log", "config-test=/tmp/log", ""},
		{"--config-t", "config-test=", ""},
		{"--config-i=x", "config-id=x", ""},
		{"--config-", "", "unknown option --config-"},
		{"--signum=DATA", "signum=DATA", ""},
		{"-S 3 -g -G", "log-facility=3 log-file= no-syslog=", ""},
		{"-f", "", "option -f needs an argument"},
		{"--pid", "", "option --pid needs an argument"},
		{"--vrrp=1", "", "option --vrrp has no argument"},
		{"-Z", "", "unknown option -Z"},
		{"file", "", `unexpected argument "file"`},
	} {
		want := given{}
		for f := range strings.FieldsSeq(tt.want) {
			name, value, _ := strings.Cut(f, "=")
			want[name] = value
		}
		got, err := parsePlain(strings.Fields(tt.args))
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%s: error %v, want %s", tt.args, err, tt.err)
			}
			continue
		}
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", tt.args, got, err, want)
		}
	}
}

// TestPlainDecision: an agent of the quorum must never become a plain one by accident.
func TestPlainDecision(t *testing.T) {
	for _, tt := range []struct {
		program, args string
		want          bool
	}{
		{"vipagent", "", false},
		{"vipagent", "--config /etc/holdfast/vipagent.yaml", false},
		{"vipagent", "--version", false},
		{"vipagent", "--help", false},
		{"vipagent", "--check-config", false},
		{"vipagent", "-f /etc/keepalived/keepalived.conf", true},
		{"vipagent", "-f /etc/keepalived/keepalived.conf --no-such-option", true},
		{"vipagent", "--use-file=/etc/keepalived/keepalived.conf", true},
		{"vipagent", "-t -f x", true},
		{"vipagent", "--signum=RELOAD", true},
		{"/usr/sbin/keepalived", "-n", true},
	} {
		if got := isPlain(tt.program, strings.Fields(tt.args)); got != tt.want {
			t.Errorf("%s %s: %v", tt.program, tt.args, got)
		}
	}
}

func TestPlainSignals(t *testing.T) {
	for name, want := range map[string]string{"STOP": "15", "RELOAD": "1", "DATA": "10", "STATS": "12", "STATS_CLEAR": "63", "JSON": "36"} {
		var out, errOut bytes.Buffer
		if code := plainCommand([]string{"--signum", name}, &out, &errOut); code != 0 || out.String() != want+"\n" {
			t.Errorf("%s: %d %q %q", name, code, &out, &errOut)
		}
	}
	var out, errOut bytes.Buffer
	if code := plainCommand([]string{"--signum", "NONE"}, &out, &errOut); code == 0 {
		t.Error("an unknown function has a signal")
	}
	if code := plainCommand([]string{"-C", "-f", "x"}, &out, &errOut); code == 0 || !strings.Contains(errOut.String(), "LVS") {
		t.Errorf("-C: %d %s", code, &errOut)
	}
}

func TestLeadingNumber(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "5": 5, "-3\n": -3, " \t12 apples": 12, "+7": 7, "0x10": 16, "010": 8, "08": 0, "0": 0, "apples": 0, "-": 0, "0x": 0, "2147483647": 2147483647,
	} {
		if got, err := leadingNumber(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	if _, err := leadingNumber("99999999999"); err == nil {
		t.Error("a number that is too large was taken")
	}
}

// TestFIFO: lines that nobody reads yet wait, nobody is waited for, and a FIFO that was
// replaced is opened anew.
func TestFIFO(t *testing.T) {
	var f plainFiles
	defer f.Close()
	path := filepath.Join(t.TempDir(), "fifo")
	for _, line := range []string{"one\n", "two\n"} {
		if err := f.Tell(path, line); err != nil {
			t.Fatal(err)
		}
	}
	read := func(want string) {
		t.Helper()
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		b := make([]byte, 100)
		if n, err := unix.Read(fd, b); err != nil || string(b[:n]) != want {
			t.Errorf("read %q, %v; want %q", b[:max(n, 0)], err, want)
		}
	}
	read("one\ntwo\n")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := f.Tell(path, "three\n"); err != nil {
		t.Fatal(err)
	}
	read("three\n")
	for range 10000 {
		if err := f.Tell(path, strings.Repeat("x", 99)+"\n"); err != nil {
			return
		}
	}
	t.Error("a full FIFO takes more and more")
}

func TestFIFOIsNone(t *testing.T) {
	var f plainFiles
	defer f.Close()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Tell(path, "x\n"); err == nil {
		t.Error("an ordinary file was written")
	}
}
