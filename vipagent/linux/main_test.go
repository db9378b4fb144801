package linux

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"holdfast/vipagent/vip"
)

// insideEnv says that the test binary already runs in namespaces of its own.
const insideEnv = "HOLDFAST_TEST_INSIDE"

// TestMain runs the tests in new network and mount namespaces, so that the
// machine's own are never touched, and for everybody but root in a new user
// namespace as well.
func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			fmt.Fprintln(os.Stderr, "make mounts private:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "run the tests in namespaces (root or unprivileged user namespaces are needed):", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// host is a network namespace with a thread in it.
type host struct {
	t      testing.TB
	fd     int
	work   chan func()
	handle *netlink.Handle
}

func newHost(t testing.TB) *host {
	t.Helper()
	h := &host{t: t, work: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ready <- h.unshare()
		for f := range h.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(h.work)
		h.handle.Close()
		unix.Close(h.fd)
	})
	h.link("lo", true)
	return h
}

func (h *host) unshare() (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if h.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	h.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	return err
}

// do runs f in the namespace and waits for it. f must not end the test.
func (h *host) do(f func()) {
	done := make(chan struct{})
	h.work <- func() {
		defer close(done)
		f()
	}
	<-done
}

// spawn runs f in the namespace on a thread of its own.
func (h *host) spawn(f func()) (wait func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread()
		if err := unix.Setns(h.fd, unix.CLONE_NEWNET); err != nil {
			h.t.Error(err)
			return
		}
		f()
	})
	return wg.Wait
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) get(name string) netlink.Link {
	h.t.Helper()
	l, err := h.handle.LinkByName(name)
	h.must(err)
	return l
}

func (h *host) mac(name string) string { return h.get(name).Attrs().HardwareAddr.String() }

func (h *host) link(name string, up bool) {
	h.t.Helper()
	if up {
		h.must(h.handle.LinkSetUp(h.get(name)))
	} else {
		h.must(h.handle.LinkSetDown(h.get(name)))
	}
}

// own gives the host an address of its own.
func (h *host) own(iface, prefix string) {
	h.t.Helper()
	h.must(h.handle.AddrAdd(h.get(iface), parseAddr(h.t, prefix)))
}

func (h *host) disown(iface, prefix string) {
	h.t.Helper()
	h.must(h.handle.AddrDel(h.get(iface), parseAddr(h.t, prefix)))
}

func parseAddr(t testing.TB, prefix string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		t.Fatal(err)
	}
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

// sysctl sets net.<name> in the namespace.
func (h *host) sysctl(name, value string) {
	h.t.Helper()
	h.do(func() {
		if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
			h.t.Error(err)
		}
	})
}

// wire connects two hosts: name is the interface on both.
func wire(a, b *host, name string) {
	a.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	a.must(a.handle.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name, PeerNamespace: netlink.NsFd(b.fd)}))
	for _, h := range []*host{a, b} {
		h.sysctl("ipv6/conf/"+name+"/accept_dad", "0") // so that link-local addresses work at once
		h.link(name, true)
	}
	waitFor(a.t, "carrier", func() bool {
		return passes(a.get(name).Attrs().RawFlags) && passes(b.get(name).Attrs().RawFlags)
	})
}

// kernel opens the kernel of the host.
func (h *host) kernel() *Kernel {
	h.t.Helper()
	var k *Kernel
	var err error
	h.do(func() { k, err = Open(Config{}) })
	h.must(err)
	h.t.Cleanup(func() {
		if err := k.Close(); err != nil {
			h.t.Error(err)
		}
	})
	return k
}

// has reports whether the host holds the address, with that prefix length.
func (h *host) has(prefix string) bool {
	h.t.Helper()
	list, err := h.handle.AddrList(nil, netlink.FAMILY_ALL)
	h.must(err)
	for _, a := range list {
		if a.IPNet.String() == prefix {
			return true
		}
	}
	return false
}

// routes returns the host's routes of the main table.
func (h *host) routes() []string {
	h.t.Helper()
	var out []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := h.handle.RouteList(nil, family)
		h.must(err)
		for _, r := range list {
			out = append(out, r.String())
		}
	}
	return out
}

// neighbour returns the MAC that the host believes addr to have.
func (h *host) neighbour(iface, addr string) string {
	h.t.Helper()
	ip := netip.MustParseAddr(addr)
	family := netlink.FAMILY_V4
	if ip.Is6() {
		family = netlink.FAMILY_V6
	}
	list, err := h.handle.NeighList(h.get(iface).Attrs().Index, family)
	h.must(err)
	for _, n := range list {
		if got, _ := netip.AddrFromSlice(n.IP); got.Unmap() == ip {
			return n.HardwareAddr.String()
		}
	}
	return ""
}

// believe gives the host a stale neighbour entry.
func (h *host) believe(iface, addr, mac string) {
	h.t.Helper()
	hw, err := net.ParseMAC(mac)
	h.must(err)
	h.must(h.handle.NeighSet(&netlink.Neigh{
		LinkIndex: h.get(iface).Attrs().Index, IP: netip.MustParseAddr(addr).AsSlice(), HardwareAddr: hw, State: netlink.NUD_STALE,
	}))
}

// waitFor polls until ok or fails the test.
func waitFor(t testing.TB, what string, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for range tick.C {
		if ok() {
			return time.Since(start)
		}
		if time.Since(start) > 30*time.Second {
			t.Fatalf("waited too long for: %s", what)
		}
	}
	return 0
}

// vips reads "10.0.0.5/24 eth0" and the like.
func vips(list ...string) []vip.Address {
	out := make([]vip.Address, len(list))
	for i, s := range list {
		prefix, iface, _ := strings.Cut(s, " ")
		out[i] = vip.Address{Prefix: netip.MustParsePrefix(prefix), Interface: iface}
	}
	return out
}

// series returns n addresses in 10.1.0.0/16 or 2001:db8:1::/64.
func series(n int, v6 bool, iface string) []vip.Address {
	out := make([]vip.Address, n)
	for i := range out {
		ip := netip.AddrFrom4([4]byte{10, 1, byte((i + 1) >> 8), byte(i + 1)})
		if v6 {
			ip = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 1, 14: byte((i + 1) >> 8), 15: byte(i + 1)})
		}
		out[i] = vip.Address{Prefix: netip.PrefixFrom(ip, ip.BitLen()-16), Interface: iface}
	}
	return out
}

// recorder keeps the events of a watch.
type recorder struct {
	mu   sync.Mutex
	list []Event
	at   []time.Time
	n    atomic.Int64
}

func (r *recorder) add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list, r.at = append(r.list, e), append(r.at, time.Now())
	r.n.Add(1)
}

// find returns when the first event with kind, interface and address (if not
// empty) came, after the first skip events.
func (r *recorder) find(skip int, kind EventKind, iface, prefix string) (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := skip; i < len(r.list); i++ {
		e := r.list[i]
		if e.Kind == kind && (iface == "" || e.Interface == iface) && (prefix == "" || e.Address.Prefix.String() == prefix) {
			return r.at[i], true
		}
	}
	return time.Time{}, false
}

func (r *recorder) wait(t testing.TB, skip int, kind EventKind, iface, prefix string) time.Time {
	t.Helper()
	var at time.Time
	waitFor(t, fmt.Sprintf("%v %s %s", kind, iface, prefix), func() (ok bool) {
		at, ok = r.find(skip, kind, iface, prefix)
		return ok
	})
	return at
}

func (r *recorder) count() int { return int(r.n.Load()) }
