package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestEnterMakesOwnNamespaces(t *testing.T) {
	first, err := os.Readlink("/proc/1/exe")
	check(t, err)
	if self, err := os.Readlink("/proc/self/exe"); err != nil || first != self {
		t.Errorf("process 1 is %s and not this program, %s (%v)", first, self, err)
	}
	for _, kind := range []string{"net", "mnt", "pid", "uts", "ipc"} {
		outside, err := os.Readlink(outsideProc + "/1/ns/" + kind)
		if errors.Is(err, os.ErrPermission) {
			continue // an ordinary user may not look at the machine's first process
		}
		check(t, err)
		inside, err := os.Readlink("/proc/self/ns/" + kind)
		check(t, err)
		if inside == outside {
			t.Errorf("namespace %s is the machine's own", kind)
		}
	}
	if v, ok := os.LookupEnv(stageVariable); ok {
		t.Errorf("%s=%s is left for child processes", stageVariable, v)
	}
}

// Killing the outermost process with SIGKILL must end all processes inside.
func TestKillOutsideEndsEverything(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=nested", "TMPDIR="+t.TempDir())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	if err != nil || line != "running\n" {
		t.Fatalf("the nested lab says %q, %v", line, err)
	}
	check(t, cmd.Process.Kill())
	// The end of the stream: no process has the other end any more.
	if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
		t.Errorf("after the kill the nested lab says %q, %v", rest, err)
	}
	_ = cmd.Wait()
}

func TestForbiddenSaysWhatToDo(t *testing.T) {
	for name, tt := range map[string]struct {
		sysctl map[string]string
		want   string
	}{
		"ubuntu":    {map[string]string{"kernel/apparmor_restrict_unprivileged_userns": "1"}, "kernel.apparmor_restrict_unprivileged_userns=0"},
		"debian":    {map[string]string{"kernel/unprivileged_userns_clone": "0"}, "kernel.unprivileged_userns_clone=1"},
		"limit":     {map[string]string{"user/max_user_namespaces": "0"}, "user.max_user_namespaces="},
		"container": {nil, "--privileged"},
	} {
		t.Run(name, func(t *testing.T) {
			err := forbidden(fmt.Errorf("mount: %w", unix.EPERM), func(key string) string { return tt.sysctl[key] })
			if !errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "as root") {
				t.Errorf("got %q, want advice with %q", err, tt.want)
			}
		})
	}
	if err := forbidden(unix.ENOENT, readSysctl); errors.Is(err, ErrForbidden) {
		t.Errorf("a missing file is taken for a forbidden namespace: %v", err)
	}
}

// hears reports how many of count probes from one host another one answers.
func hears(t *testing.T, from, to *Host, count int) int {
	t.Helper()
	var fd int
	check(t, from.InNamespace(func() (err error) {
		fd, err = openUDP(unix.AF_INET, 0)
		return err
	}))
	defer unix.Close(fd)
	short := unix.NsecToTimeval(int64(20 * time.Millisecond))
	check(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &short))
	r, heard, probe := newReceiver(fd), 0, make([]byte, probeSize)
	for range count {
		sent := Now()
		marshalProbe(probe, 0, sent)
		check(t, unix.Sendto(fd, probe, 0, sockaddr(netip.AddrPortFrom(to.IPv4.Addr(), EchoPort))))
		for {
			d, _, ok, err := r.next()
			check(t, err)
			a, valid := parseAnswer(d.data)
			if ok && valid && a.Sent != sent {
				continue // an answer that came late
			}
			if ok && valid {
				heard++
			}
			break
		}
	}
	return heard
}

var errNotHeard = errors.New("the claim is not heard")

// reaches is for use with eventually: a neighbour that has not answered is
// asked again only once a second.
func reaches(t *testing.T, from, to *Host) error {
	if hears(t, from, to, 1) == 0 {
		return fmt.Errorf("%s does not reach %s", from.Name, to.Name)
	}
	return nil
}

func TestFaults(t *testing.T) {
	n := newNetwork(t)
	r, err := n.StartRecorder(0)
	check(t, err)
	t.Cleanup(func() { check(t, r.Close()) })
	h1, h2, h3 := n.Hosts[0], n.Hosts[1], n.Hosts[2]
	reach := func(from, to *Host, want bool, when string) {
		t.Helper()
		if want {
			eventually(t, func() error { return reaches(t, from, to) })
		} else if hears(t, from, to, 4) > 0 {
			t.Errorf("%s: %s reaches %s", when, from.Name, to.Name)
		}
	}
	reach(h1, h2, true, "at first")
	check(t, n.Partition())
	reach(h1, h2, false, "partition")
	reach(h2, h3, true, "partition")
	check(t, n.Heal())
	reach(h1, h2, true, "heal")
	check(t, n.Isolate(h3))
	reach(h2, h3, false, "isolate")
	reach(h2, h1, true, "isolate")
	check(t, n.Join(h3))
	reach(h2, h3, true, "join")
	check(t, h2.SetCarrier(false))
	reach(h1, h2, false, "no carrier")
	check(t, h2.SetCarrier(true))
	reach(h1, h2, true, "carrier")
	_, err = h3.PowerOff()
	check(t, err)
	reach(h2, h3, false, "power off")
	check(t, h3.PowerOn())
	reach(h2, h3, true, "power on")
}

// One-way loss is told apart by who still hears a claim: a probe needs both
// directions.
func TestOneWayLoss(t *testing.T) {
	n := newNetwork(t)
	r, err := n.StartRecorder(0)
	check(t, err)
	t.Cleanup(func() { check(t, r.Close()) })
	h := n.Hosts[1]
	claim := func() func() error {
		from := Now()
		check(t, mustHolder(t, h, "10.77.1.9/32").Stop(t.Context()))
		return func() error {
			if len(r.Claims(from, Now())) == 0 {
				return errNotHeard
			}
			return nil
		}
	}
	eventually(t, claim())
	check(t, n.CutOut(h))
	heard := claim()
	pause(50 * time.Millisecond)
	if heard() == nil {
		t.Error("outgoing packets are cut off, a claim is heard")
	}
	if got := hears(t, n.Hosts[0], h, 3); got > 0 {
		t.Error("outgoing packets are cut off, answers come")
	}
	check(t, n.Restore(h))
	check(t, n.CutIn(h))
	eventually(t, claim())
	if got := hears(t, n.Hosts[0], h, 3); got > 0 {
		t.Error("incoming packets are cut off, answers come")
	}
	check(t, n.Restore(h))
	eventually(t, func() error { return reaches(t, n.Hosts[0], h) })
	if got := hears(t, n.Hosts[0], h, 20); got < 19 {
		t.Errorf("after Restore %d of 20 probes are answered", got)
	}
	check(t, n.Lose(h, Incoming, 30))
	if got := hears(t, n.Hosts[0], h, 300); got < 170 || got > 245 {
		t.Errorf("with 30%% loss %d of 300 probes are answered", got)
	}
}

func TestProcesses(t *testing.T) {
	n := newNetwork(t)
	h := n.Hosts[0]
	p := mustHolder(t, h, "10.77.1.1/32", "fd77::c:1/128")
	check(t, p.Freeze())
	eventually(t, func() error { return inState(p, "T") })
	check(t, p.Thaw())
	eventually(t, func() error { return inState(p, "S") })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	check(t, p.Stop(ctx))
	if p.ExitCode() != 0 || p.Running() {
		t.Errorf("after Stop: exit code %d, running %t", p.ExitCode(), p.Running())
	}
	if log, err := os.ReadFile(p.Log); err != nil || string(log) != "up\n" {
		t.Errorf("the log is %q, %v", log, err)
	}
	p = mustHolder(t, h, "10.77.1.1/32")
	check(t, p.Kill())
	if p.ExitCode() != -1 {
		t.Errorf("exit code %d of a killed process", p.ExitCode())
	}
	check(t, hasAddress(h, netip.MustParsePrefix("10.77.1.1/32"))) // nobody took it down
	out, _, code, err := h.Run(ctx, Command{Path: "/proc/self/exe", Args: []string{"bad"}, Env: []string{roleVariable + "=holder"}})
	if err != nil || code != 2 || len(out) > 0 {
		t.Errorf("a program that panics: code %d, output %q, error %v", code, out, err)
	}
	name, err := os.Hostname()
	if err != nil || name == "host1" {
		t.Errorf("the host's name got out: %q, %v", name, err)
	}
}

func inState(p *Process, want string) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return err
	}
	_, after, _ := strings.Cut(string(b), ") ")
	if !strings.HasPrefix(after, want) {
		return fmt.Errorf("state is %.1s, want %s", after, want)
	}
	return nil
}

func TestPowerOffForgets(t *testing.T) {
	n := newNetwork(t)
	h := n.Hosts[0]
	p := mustHolder(t, h, "10.77.1.1/32")
	check(t, h.InNamespace(func() error { return os.WriteFile("/run/holdfast/session", nil, 0o600) }))
	check(t, os.WriteFile(h.Disk+"/log", nil, 0o600))
	_, err := h.PowerOff()
	check(t, err)
	if p.Running() {
		t.Error("a process outlived the power")
	}
	check(t, h.PowerOn())
	if err := hasAddress(h, netip.MustParsePrefix("10.77.1.1/32")); err == nil {
		t.Error("the address outlived the power")
	}
	check(t, hasAddress(h, h.IPv6))
	check(t, h.InNamespace(func() error {
		if _, err := os.Stat("/run/holdfast/session"); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("/run outlived the power: %v", err)
		}
		return nil
	}))
	_, err = os.Stat(h.Disk + "/log")
	check(t, err)
}
