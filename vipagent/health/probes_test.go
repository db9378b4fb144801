package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// wantResult runs a probe; want is "" for good, else a part of the reason.
func wantResult(t *testing.T, what string, p probe, want string) {
	t.Helper()
	_, err := p.probe(t.Context())
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	path, pipe := filepath.Join(dir, "f"), filepath.Join(dir, "pipe")
	if err := os.WriteFile(path, []byte("state: ready\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(dir, "none")
	wantResult(t, "exists", fileProbe{Check{Path: path}}, "")
	wantResult(t, "missing", fileProbe{Check{Path: none}}, "no such file")
	wantResult(t, "absent", fileProbe{Check{Path: none, Absent: true}}, "")
	wantResult(t, "not absent", fileProbe{Check{Path: path, Absent: true}}, "is there")
	wantResult(t, "absent but unknown", fileProbe{Check{Path: path + "/below", Absent: true}}, "not a directory")
	wantResult(t, "contains", fileProbe{Check{Path: path, Contains: "ready"}}, "")
	wantResult(t, "lacks", fileProbe{Check{Path: path, Contains: "steady"}}, `does not have "steady"`)
	wantResult(t, "a pipe does not block", fileProbe{Check{Path: pipe, Contains: "x"}}, "is not a regular file")
	wantResult(t, "no number", fileProbe{Check{Path: path, ReadWeight: true}}, "must have a number from -254 to 254")
	for text, want := range map[string]int{"7": 7, " -12 \n": -12, "254\n": 254} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := (fileProbe{Check{Path: path, ReadWeight: true}}).probe(t.Context()); got != want || err != nil {
			t.Errorf("%q: weight %d, %v", text, got, err)
		}
	}
	if err := os.WriteFile(path, []byte("255"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantResult(t, "too large", fileProbe{Check{Path: path, ReadWeight: true}}, "must have a number")
}

func TestProcess(t *testing.T) {
	h := startHelper(t, "sleep")
	pid := h.cmd.Process.Pid
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	comm := filepath.Base(exe)[:min(15, len(filepath.Base(exe)))]
	pidfile := filepath.Join(t.TempDir(), "pid")
	if err := os.WriteFile(pidfile, []byte(strconv.Itoa(pid)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the exec of the helper", func() bool {
		p := newProcess(Check{Exe: exe})
		ok, _ := p.matches(strconv.Itoa(pid))
		return ok
	})
	wantResult(t, "comm", newProcess(Check{Comm: comm}), "")
	wantResult(t, "exe", newProcess(Check{Exe: exe}), "")
	wantResult(t, "pidfile", newProcess(Check{Pidfile: pidfile}), "")
	wantResult(t, "other comm", newProcess(Check{Comm: "no-such-comm"}), "no process no-such-comm")
	wantResult(t, "other exe", newProcess(Check{Exe: "/no/such/exe"}), "no process /no/such/exe")
	wantResult(t, "no pidfile", newProcess(Check{Pidfile: pidfile + "x"}), "read pidfile: ")
	if err := h.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Nobody has waited for it: it is a zombie now, which is dead.
	eventually(t, "the death of the helper", func() bool {
		_, err := newProcess(Check{Pidfile: pidfile}).probe(t.Context())
		return err != nil && strings.Contains(err.Error(), "is not there")
	})
	if err := os.WriteFile(pidfile, []byte("none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantResult(t, "no number", newProcess(Check{Pidfile: pidfile}), "has no process id")
}

// TestProcessDeathIsSeenAtOnce: with a run each minute, a death is noticed in
// milliseconds.
func TestProcessDeathIsSeenAtOnce(t *testing.T) {
	h := startHelper(t, "sleep")
	pidfile := filepath.Join(t.TempDir(), "pid")
	if err := os.WriteFile(pidfile, []byte(strconv.Itoa(h.cmd.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := New([]Check{{Name: "p", Type: Process, Pidfile: pidfile, Interval: time.Minute}}, slog.New(slog.DiscardHandler), Deps{})
	if err != nil {
		t.Fatal(err)
	}
	changes := make(chan Condition, 8)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, func(_ string, c Condition) { changes <- c }) }()
	if c := <-changes; c != (Condition{}) {
		t.Fatalf("at first: %+v", c)
	}
	start := time.Now()
	if err := h.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case c := <-changes:
		t.Logf("seen after %s: %s", time.Since(start), c.Reason)
		if !c.Veto {
			t.Errorf("after its death: %+v", c)
		}
	case <-time.After(20 * time.Second):
		t.Error("its death was not seen within 20 s")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestWatchEnds: a watch of a process that lives on ends with its context.
func TestWatchEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan bool)
	go func() { got <- waitDeath(ctx, os.Getpid()) }()
	cancel()
	if <-got {
		t.Error("waitDeath() says that this process is dead")
	}
}

// TestInterface has a helper in a network namespace of its own, and for an
// ordinary user in a user namespace as well.
func TestInterface(t *testing.T) {
	h := startHelper(t, "interface")
	for {
		line := h.line(t)
		if line == "end" {
			return
		}
		t.Error(line)
	}
}

// helperInterface prints what is wrong, and "end".
func helperInterface() error {
	see := func(what, name, want string) {
		_, err := interfaceProbe{name}.probe(context.Background())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			fmt.Printf("%s: %v, want %q\n", what, err, want)
		}
	}
	set := func(name string, f func(netlink.Link) error) {
		link, err := netlink.LinkByName(name)
		if err == nil {
			err = f(link)
		}
		if err != nil {
			fmt.Printf("set %s: %v\n", name, err)
		}
	}
	see("loopback is down", "lo", "interface lo is down")
	see("missing", "eth7", "interface eth7: ")
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "a"}, PeerName: "b"}); err != nil {
		return err
	}
	set("a", netlink.LinkSetUp)
	see("peer is down", "a", "interface a has no carrier")
	set("b", netlink.LinkSetUp)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		if _, err := (interfaceProbe{"a"}).probe(context.Background()); err == nil {
			break
		}
	}
	see("peer is up", "a", "")
	set("b", netlink.LinkSetDown)
	see("peer went down", "a", "interface a has no carrier")
	set("lo", netlink.LinkSetUp)
	see("loopback", "lo", "")
	fmt.Println("end")
	return nil
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	wantResult(t, "listens", tcpProbe{l.Addr().String()}, "")
	l.Close()
	wantResult(t, "closed", tcpProbe{l.Addr().String()}, "connection refused")
}

func TestHTTP(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "all is well at %s", r.Host) })
	mux.HandleFunc("/down", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	plain, secure := httptest.NewServer(mux), httptest.NewUnstartedServer(mux)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of each refused certificate
	secure.StartTLS()
	defer plain.Close()
	defer secure.Close()
	if tr := newHTTP(Check{}).client.Transport.(*http.Transport); tr.Proxy != nil {
		t.Error("the environment's proxy would be asked instead of this host")
	}
	for _, tt := range []struct {
		name  string
		check Check
		want  string
	}{
		{"ok", Check{URL: plain.URL + "/ok"}, ""},
		{"status", Check{URL: plain.URL + "/down"}, "status 503 Service Unavailable"},
		{"status accepted", Check{URL: plain.URL + "/down", Status: []int{503}}, ""},
		{"status not accepted", Check{URL: plain.URL + "/ok", Status: []int{204}}, "status 200 OK"},
		{"redirect", Check{URL: plain.URL + "/moved"}, "status 302 Found"},
		{"redirect followed", Check{URL: plain.URL + "/moved", Follow: true, Body: "well"}, ""},
		{"body", Check{URL: plain.URL + "/ok", Body: "is well"}, ""},
		{"wrong body", Check{URL: plain.URL + "/ok", Body: "ill"}, `the body does not have "ill"`},
		{"endless body", Check{URL: plain.URL + "/endless", Body: "ill"}, `the body does not have "ill"`},
		{"host", Check{URL: plain.URL + "/ok", HostName: "www.example.org", Body: "well at www.example.org"}, ""},
		{"certificate", Check{URL: secure.URL + "/ok"}, "certificate"},
		{"certificate ignored", Check{URL: secure.URL + "/ok", Insecure: true}, ""},
		{"closed", Check{URL: "http://127.0.0.1:1/"}, "connection refused"},
	} {
		t.Run(tt.name, func(t *testing.T) { wantResult(t, tt.name, newHTTP(tt.check), tt.want) })
	}
}

func TestGateway(t *testing.T) {
	var asked string
	reach := func(_ context.Context, a netip.Addr, iface string) error {
		asked = a.String() + " " + iface
		return errors.New("no answer")
	}
	r, err := New([]Check{{Name: "g", Type: Gateway, Address: "192.0.2.1", Interface: "eth0"}}, slog.New(slog.DiscardHandler), Deps{Reach: reach})
	if err != nil {
		t.Fatal(err)
	}
	wantResult(t, "silent", r.checks[0].probe, "no answer")
	if asked != "192.0.2.1 eth0" {
		t.Errorf("asked for %q", asked)
	}
}

// TestPause: an agent that was stopped does not blame what it checks, neither
// for answers that it could not read in time nor for connections that were
// closed meanwhile. With fall at 1, one such failure would be a veto.
func TestPause(t *testing.T) {
	requests, answers := make(chan string), make(chan int)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case requests <- r.URL.Path:
		case <-t.Context().Done():
			return
		}
		status := <-answers
		if status == 0 { // close without an answer
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(status)
	}))
	defer server.Close()
	h := startHelper(t, "pause", server.URL)
	defer func() {
		_ = h.cmd.Process.Kill()
		_, _ = h.cmd.Process.Wait()
	}()
	signal := func(s syscall.Signal) {
		if err := h.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	stop := func() { // returns when it really stands
		signal(syscall.SIGSTOP)
		eventually(t, "the stop of the helper", func() bool {
			stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.cmd.Process.Pid))
			return strings.Contains(string(stat), ") T ")
		})
	}
	answer := func(status int) { <-requests; answers <- status }
	answer(200)
	if line := h.line(t); line != "0" {
		t.Fatalf("at first: %q", line)
	}

	<-requests // one is under way
	stop()
	<-time.After(time.Second) // longer than its timeout
	signal(syscall.SIGCONT)
	answers <- 200

	<-requests
	stop()
	answers <- 0
	<-time.After(time.Second)
	signal(syscall.SIGCONT)
	for range 3 {
		answer(200)
	}
	// Up to here it must have said nothing. A failure of another kind ends the
	// silence.
	answer(500)
	if line := h.line(t); !strings.Contains(line, "status 500") {
		t.Errorf("after the pauses, want only the failure that was real: %q", line)
	}
}

// helperPause is the other process of TestPause: an agent with one check.
func helperPause() error {
	r, err := New([]Check{{Name: "h", Type: HTTP, URL: os.Args[1], Interval: 100 * time.Millisecond, Timeout: 400 * time.Millisecond, Fall: 1}},
		slog.New(slog.DiscardHandler), Deps{})
	if err != nil {
		return err
	}
	return r.Run(context.Background(), func(_ string, c Condition) { fmt.Println(describe(c), c.Reason) })
}
