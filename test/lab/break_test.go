package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Two of three hosts do not hear each other; the third hears both.
func TestCutPair(t *testing.T) {
	n := newNetwork(t)
	r, err := n.StartRecorder(0)
	check(t, err)
	t.Cleanup(func() { check(t, r.Close()) })
	h1, h2, h3 := n.Hosts[0], n.Hosts[1], n.Hosts[2]
	check(t, n.CutPair(h1, h3))
	for _, pair := range [][2]*Host{{h1, h2}, {h2, h1}, {h2, h3}, {h3, h2}} {
		eventually(t, func() error { return reaches(t, pair[0], pair[1]) })
	}
	if hears(t, h1, h3, 4)+hears(t, h3, h1, 4) > 0 {
		t.Error("the pair that was cut hears each other")
	}
	check(t, n.Restore(h3)) // one end is enough
	eventually(t, func() error { return reaches(t, h1, h3) })
}

// An interface that is deleted and made again has no address but the host's
// own, and the recorder goes on seeing what happens.
func TestReplug(t *testing.T) {
	n := newNetwork(t)
	h, vip := n.Hosts[0], netip.MustParseAddr("10.77.1.1")
	r, err := n.StartRecorder(0, vip)
	check(t, err)
	t.Cleanup(func() { check(t, r.Close()) })
	mustHolder(t, h, "10.77.1.1/32")
	eventually(t, func() error { return answered(r, vip, "host1") })
	check(t, h.Replug())
	if err := hasAddress(h, netip.MustParsePrefix("10.77.1.1/32")); err == nil {
		t.Error("the address outlived its interface")
	}
	if holders := r.Holders(vip); len(holders) > 0 {
		t.Errorf("the record says that %v hold it", holders)
	}
	check(t, hasAddress(h, h.IPv4))
	check(t, h.AddAddress(netip.MustParsePrefix("10.77.1.1/32")))
	again := Now()
	eventually(t, func() error {
		for _, s := range r.Stretches(again, Now()) {
			if s.Host == "host1" && s.Address == vip && s.Kind == IPv4Packet {
				return nil
			}
		}
		return errNotHeard
	})
}

// The sniffers hear what one host sends to another and to no client.
func TestUnicastIsHeard(t *testing.T) {
	n := newNetwork(t)
	r, err := n.StartRecorder(0)
	check(t, err)
	t.Cleanup(func() { check(t, r.Close()) })
	for _, a := range []string{"10.77.1.1/32", "fd77::c:1/128"} {
		vip := netip.MustParsePrefix(a)
		mustHolder(t, n.Hosts[1], a)
		eventually(t, func() error {
			check(t, sendFrom(n.Hosts[1], vip.Addr(), n.Hosts[2]))
			o := r.Observe(vip.Addr(), 0, Now())
			if last := o.LastClaims("host2"); last[IPv4Packet]+last[IPv6Packet] == 0 {
				return fmt.Errorf("%s: %+v", vip, o.Stretches)
			}
			return nil
		})
	}
}

// sendFrom sends one datagram from an address of a host to another host.
func sendFrom(h *Host, from netip.Addr, to *Host) error {
	target := to.IPv4.Addr()
	if from.Is6() {
		target = to.IPv6.Addr()
	}
	return h.InNamespace(func() error {
		fd, err := unix.Socket(family(from), unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(from, 0))); err != nil {
			return err
		}
		return unix.Sendto(fd, []byte("x"), unix.MSG_DONTWAIT, sockaddr(netip.AddrPortFrom(target, 9)))
	})
}

// A disk that hangs holds the program's fsync, and nothing else of it.
func TestDiskHangs(t *testing.T) {
	n := newNetwork(t)
	file := filepath.Join(t.TempDir(), "written")
	p, disk, err := n.Hosts[0].StartOnDisk(Command{Name: "writer", Path: "/proc/self/exe", Args: []string{file}, Env: []string{roleVariable + "=writer"}})
	check(t, err)
	synced := func() string {
		b, _ := os.ReadFile(file)
		return string(b)
	}
	ask := func() { check(t, p.Signal(unix.SIGUSR1)) }
	eventually(t, func() error { return wants(synced(), "ready") })
	ask()
	eventually(t, func() error { return wants(synced(), "synced") })
	disk.Hang()
	ask()
	eventually(t, func() error { return wants(synced(), "writing") })
	pause(50 * time.Millisecond)
	if got := synced(); got != "writing" {
		t.Errorf("while the disk hangs: %q", got)
	}
	disk.Free()
	eventually(t, func() error { return wants(synced(), "synced") })
	disk.Hang()
	ask()
	eventually(t, func() error { return wants(synced(), "writing") })
	check(t, p.Kill()) // a hanging disk does not keep a process from being killed
	disk.Free()
}

func wants(got, want string) error {
	if got != want {
		return fmt.Errorf("%q, not %q", got, want)
	}
	return nil
}

// playWriter says in a file what it is about, and syncs on SIGUSR1.
func playWriter(file string) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	f, err := os.Create(file + ".data")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte("ready"), 0o600); err != nil {
		return err
	}
	for range signals {
		if err := os.WriteFile(file, []byte("writing"), 0o600); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte("synced"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// A guardian's child is found, and can be frozen, limited and killed alone;
// what is done to the process is done to both.
func TestChildAlone(t *testing.T) {
	n := newNetwork(t)
	p, err := n.Hosts[0].Start(Command{Name: "guardian", Path: "/proc/self/exe", Env: []string{roleVariable + "=guardian"}})
	check(t, err)
	eventually(t, func() error {
		if p.Child() == p.PID() {
			return fmt.Errorf("no child")
		}
		return nil
	})
	child := p.Child()
	check(t, p.SignalChild(unix.SIGSTOP))
	eventually(t, func() error { return p.InState("T") })
	if state, _ := stat(p.PID()); state == "T" {
		t.Error("the guardian is stopped too")
	}
	check(t, p.SignalChild(unix.SIGCONT))
	eventually(t, func() error { return p.InState("S") })
	back, err := p.LimitChild(unix.RLIMIT_NOFILE, 3)
	check(t, err)
	var limit unix.Rlimit
	check(t, unix.Prlimit(child, unix.RLIMIT_NOFILE, nil, &limit))
	if limit.Cur != 3 {
		t.Errorf("limited to %d", limit.Cur)
	}
	check(t, back())
	check(t, p.Freeze())
	eventually(t, func() error { return p.InState("T") })
	eventually(t, func() error { return inState(p, "T") })
	check(t, p.Thaw())
	check(t, p.SignalChild(unix.SIGKILL))
	eventually(t, func() error {
		if got := p.Child(); got == child || got == p.PID() {
			log, _ := os.ReadFile(p.Log)
			return fmt.Errorf("no new child: the guardian %d runs: %v, the first child was %d, now %v; it says: %s", p.PID(), p.Running(), child, p.Children(), log)
		}
		return nil
	})
	second := p.Child()
	check(t, p.Kill())
	eventually(t, func() error {
		if state, _ := stat(second); state != "" && state != "Z" {
			return fmt.Errorf("the child outlived its guardian")
		}
		return nil
	})
}

// playGuardian starts a child of its own program again whenever it ends.
func playGuardian() error {
	for {
		ctx, cancel := context.WithCancel(context.Background())
		child := selfCommand(ctx, "sleeper")
		err := child.Run()
		cancel()
		if child.ProcessState == nil {
			return err
		}
	}
}

// Who is asked by ARP and by solicitation answers each question.
func TestAsk(t *testing.T) {
	n := newNetwork(t)
	r, err := n.StartRecorder(0)
	check(t, err)
	t.Cleanup(func() { check(t, r.Close()) })
	v4, v6 := netip.MustParseAddr("10.77.1.1"), netip.MustParseAddr("fd77::c:1")
	mustHolder(t, n.Hosts[0], "10.77.1.1/32", "fd77::c:1/128")
	began := Now()
	a, err := n.Clients[1].Ask(2*time.Millisecond, v4, v6)
	check(t, err)
	pause(200 * time.Millisecond)
	check(t, a.Close())
	ended := Now()
	pause(50 * time.Millisecond)
	for vip, kind := range map[netip.Addr]ClaimKind{v4: ARPReply, v6: Advertisement} {
		heard := 0
		for _, c := range r.Observe(vip, began, ended).Claims {
			if c.Kind == kind && c.Host == "host1" && c.Segment == SegmentB {
				heard++
			}
		}
		if heard < 30 {
			t.Errorf("%s: %d answers to a hundred questions", vip, heard)
		}
	}
}
