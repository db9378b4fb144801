package linux

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"holdfast/vipagent/vip"
)

// A fence needs eBPF, which nobody has inside a user namespace: there the tests
// see that it says so.
func mayBPF() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.HasSuffix(strings.TrimSpace(string(b)), "4294967295")
}

// bpffs mounts a file system for pins that ends with the test.
func bpffs(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount bpffs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return filepath.Join(dir, "holdfast")
}

// fence opens the fence of the host.
func (h *host) fence(k *Kernel, dir string) (*Fence, error) {
	var f *Fence
	var err error
	h.do(func() { f, err = OpenFence(k, FenceConfig{Dir: dir}) })
	if err == nil {
		h.t.Cleanup(func() { h.do(f.Close) })
	}
	return f, err
}

func addresses(list ...string) []netip.Addr {
	out := make([]netip.Addr, len(list))
	for i, s := range list {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}

// fencedPair is a holder with the fence and another host on one wire.
type fencedPair struct {
	t             testing.TB
	holder, other *host
	kernel        *Kernel
	fence         *Fence
	dir           string
}

const (
	vip4 = "10.0.0.100"
	vip6 = "2001:db8::100"
)

func newFencedPair(t testing.TB) *fencedPair {
	t.Helper()
	p := &fencedPair{t: t, holder: newHost(t), other: newHost(t)}
	wire(p.holder, p.other, "eth0")
	for i, h := range []*host{p.holder, p.other} {
		n := string(rune('1' + i))
		h.own("eth0", "10.0.0."+n+"/24")
		h.own("eth0", "2001:db8::"+n+"/64")
	}
	p.kernel = p.holder.kernel()
	p.dir = bpffs(t)
	var err error
	if p.fence, err = p.holder.fence(p.kernel, p.dir); err != nil {
		t.Fatal(err)
	}
	return p
}

// raise guards and adds both VIPs, still closed.
func (p *fencedPair) raise() {
	p.t.Helper()
	p.holder.do(func() {
		if err := errors.Join(p.fence.Check(), p.fence.Guard(addresses(vip4, vip6))); err != nil {
			p.t.Error(err)
		}
	})
	if err := p.kernel.Add(vips(vip4+"/24 eth0", vip6+"/64 eth0"), time.Hour); err != nil {
		p.t.Fatal(err)
	}
}

func (p *fencedPair) open(session, also uint64) {
	p.t.Helper()
	for _, a := range addresses(vip4, vip6) {
		if err := p.fence.Open([]vip.Pass{{Address: a, Epoch: 7, Session: session, Also: also}}); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *fencedPair) slot(session uint64) func(time.Duration) {
	p.t.Helper()
	store, err := p.fence.Slot(session)
	if err != nil {
		p.t.Fatal(err)
	}
	return func(left time.Duration) { store(Boottime().Add(left)) }
}

// answered says whether the holder answers ARP and neighbour solicitations for
// its VIPs on the wire within a time.
func (p *fencedPair) answered(within time.Duration) (arp, nd bool) {
	p.t.Helper()
	ask := func(a string) bool {
		ctx, cancel := context.WithTimeout(p.t.Context(), within)
		defer cancel()
		var err error
		p.other.do(func() { err = Reachable(ctx, "eth0", netip.MustParseAddr(a)) })
		return err == nil
	}
	return ask(vip4), ask(vip6)
}

func (p *fencedPair) want(state string, answer bool) {
	p.t.Helper()
	within := 150 * time.Millisecond
	if answer {
		within = 10 * time.Second // it comes at once, but for a busy machine
	}
	arp, nd := p.answered(within)
	if arp != answer || nd != answer {
		p.t.Errorf("%s: ARP answered %t, ND answered %t, want %t", state, arp, nd, answer)
	}
}

func TestFence(t *testing.T) {
	if !mayBPF() {
		h := newHost(t)
		if _, err := h.fence(h.kernel(), "/sys/fs/bpf/holdfast"); !errors.Is(err, ErrFenceUnavailable) {
			t.Fatalf("without the rights: %v", err)
		}
		return
	}
	p := newFencedPair(t)
	p.raise()
	p.want("guarded", false)

	first := p.slot(11)
	p.open(11, 0)
	p.want("open without a deadline", false)
	first(time.Hour)
	p.want("deadline ahead", true)
	first(-time.Nanosecond)
	p.want("deadline passed", false)
	first(time.Hour)

	second := p.slot(12)
	p.open(11, 12)
	p.want("the second session has no deadline", false)
	second(time.Hour)
	p.want("both deadlines ahead", true)
	first(0)
	p.want("the first session closed", false)
	first(time.Hour)

	// Agent rule 4: what was opened under a session that has ended stays shut,
	// whatever session gets its slot.
	if err := p.fence.Keep([]uint64{12}); err != nil {
		t.Fatal(err)
	}
	p.fence.taken = firstSlot - 1
	third := p.slot(13)
	third(time.Hour)
	p.want("the slot belongs to another session", false)

	p.holder.do(func() {
		if err := p.fence.Guard(addresses(vip4, vip6)); err != nil {
			t.Error(err)
		}
	})
	p.want("guarded again", false)
	p.fence.linger = time.Second
	if err := p.fence.Forget(addresses(vip4, vip6)); err != nil {
		t.Fatal(err)
	}
	if list, err := p.fence.Guarded(); err != nil || len(list) > 0 {
		t.Errorf("still guarded: %v, %v", list, err)
	}
	p.want("forgotten just now", false)
	if err := p.fence.Open([]vip.Pass{{Address: netip.MustParseAddr(vip4), Session: 13}}); err == nil {
		t.Error("what was forgotten can be opened")
	}
	if err := p.fence.Open([]vip.Pass{{Address: netip.MustParseAddr("192.0.2.99"), Session: 13}}); err == nil {
		t.Error("what was never guarded can be opened")
	}
	waitFor(t, "the guard to end", func() bool { arp, nd := p.answered(150 * time.Millisecond); return arp && nd })
	p.holder.do(func() {
		if err := p.fence.Check(); err != nil {
			t.Error(err)
		}
	})
	if table, err := p.show(); err != nil || len(table.Addresses) > 0 {
		t.Errorf("not tidied: %+v, %v", table.Addresses, err)
	}
}

// Packets that claim an address can wait for a neighbour that does not answer
// until long after the address is down. They must not leave then.
func TestFenceOutlastsQueues(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	p := newFencedPair(t)
	p.raise()
	p.slot(11)(time.Hour)
	p.open(11, 0)
	p.other.must(p.other.handle.LinkSetARPOff(p.other.get("eth0")))
	p.holder.do(func() {
		c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(vip4)}, &net.UDPAddr{IP: net.ParseIP("10.0.0.2"), Port: 9})
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for range 10 {
			if _, err := c.Write([]byte("waits")); err != nil {
				t.Error(err)
			}
		}
	})
	p.holder.do(func() {
		if err := p.fence.Guard(addresses(vip4)); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(p.kernel.Remove(vips(vip4+"/24 eth0")), p.fence.Forget(addresses(vip4))); err != nil {
		t.Fatal(err)
	}
	p.other.must(p.other.handle.LinkSetARPOn(p.other.get("eth0")))
	waitFor(t, "the neighbour to answer and the queue to be refused", func() bool {
		table, err := p.show()
		return err == nil && slices.ContainsFunc(table.Addresses, func(a FenceAddress) bool {
			return a.Address.String() == vip4 && a.RefusedOut >= 10
		})
	})
}

// Other hosts' announcements reach a host whose fence is shut.
func TestFenceLetsOthersClaimsIn(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	p := newFencedPair(t)
	p.raise()
	p.holder.believe("eth0", "10.0.0.2", p.other.mac("eth0"))
	k := p.other.kernel()
	for _, a := range vips(vip4+"/24 eth0", vip6+"/64 eth0") {
		if err := k.Add([]vip.Address{a}, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	claims := make(chan Claim, 8)
	ctx := t.Context()
	p.holder.spawn(func() {
		_ = p.kernel.WatchClaims(ctx, func(netip.Addr) bool { return true }, func(c Claim) { claims <- c })
	})
	// Over all tries: each kind is reported once a second, and the two may have begun
	// in different ones.
	seen := map[ClaimKind]bool{}
	waitFor(t, "the other host's claims", func() bool {
		if err := k.Announce(vips(vip4+"/24 eth0", vip6+"/64 eth0")); err != nil {
			t.Fatal(err)
		}
		for {
			select {
			case c := <-claims:
				seen[c.Kind] = true
				if len(seen) == 2 {
					return true
				}
			case <-time.After(200 * time.Millisecond):
				return false
			}
		}
	})
}

// The fence and its deadlines outlive the process, and are taken over.
func TestFenceIsTakenOver(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	p := newFencedPair(t)
	p.raise()
	p.slot(11)(time.Hour)
	p.open(11, 0)
	// As after a kill: nothing is said to the kernel.
	abandoned := p.fence
	for _, l := range abandoned.ports {
		l.close()
	}
	p.want("nobody there", true)
	again, err := p.holder.fence(p.kernel, p.dir)
	if err != nil {
		t.Fatal(err)
	}
	p.want("taken over", true)
	if d := again.Deadline(11); d <= Boottime() {
		t.Errorf("the deadline was not taken over: %d", d)
	}
	if err := again.Keep(nil); err != nil {
		t.Fatal(err)
	}
	p.want("its session was not kept", false)
}

// An interface that is made anew gets the fence, and one that lost it too.
func TestFenceFollowsInterfaces(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	p := newFencedPair(t)
	wire(p.holder, p.other, "eth1")
	p.holder.do(func() {
		if err := p.fence.Check(); err != nil {
			t.Error(err)
		}
	})
	if got := p.fence.Interfaces(); len(got) != 2 || got[1] != "eth1" {
		t.Errorf("fenced: %v", got)
	}
	for _, name := range []string{"eth1"} {
		p.holder.must(p.holder.handle.LinkDel(p.holder.get(name)))
		wire(p.holder, p.other, name)
	}
	entries, err := os.ReadDir(p.fence.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries { // somebody tidies up: the links of eth0 are gone
		if pinOrder(e.Name())[0] == '0' {
			_ = os.Remove(filepath.Join(p.fence.dir, e.Name()))
		}
	}
	for _, port := range p.fence.ports {
		port.close()
	}
	p.raise()
	table, err := p.show()
	if err != nil || len(table.Interfaces) != 2 {
		t.Errorf("fenced: %v, %v", table.Interfaces, err)
	}
	p.want("guarded", false)
}

func (p *fencedPair) show() (t FenceTable, err error) {
	p.holder.do(func() { t, err = ShowFence(p.kernel, p.dir) })
	return t, err
}

func TestFenceShow(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	p := newFencedPair(t)
	p.raise()
	p.slot(11)(time.Hour)
	p.want("guarded", false)
	table, err := p.show()
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Sessions) != 1 || table.Sessions[0].Session != 11 || table.Sessions[0].Deadline != p.fence.Deadline(11) {
		t.Errorf("sessions: %+v", table.Sessions)
	}
	if len(table.Addresses) != 2 {
		t.Fatalf("addresses: %+v", table.Addresses)
	}
	for _, a := range table.Addresses {
		if a.Open || a.RefusedIn == 0 {
			t.Errorf("address %+v", a)
		}
	}
	p.holder.do(func() { err = RemoveFence(p.kernel, p.dir) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.show(); !errors.Is(err, ErrNoFence) {
		t.Errorf("after its removal: %v", err)
	}
	// The agent's own hands keep it in place, and pin it again.
	p.want("removed under an agent", false)
	p.holder.do(func() { err = p.fence.Check() })
	if err != nil {
		t.Fatal(err)
	}
	if table, err := p.show(); err != nil || len(table.Addresses) != 2 || len(table.Interfaces) != 1 {
		t.Errorf("pinned again: %+v, %v", table, err)
	}
	p.holder.do(func() { err = RemoveFence(p.kernel, p.dir) })
	for _, port := range p.fence.ports {
		port.close()
	}
	p.want("removed", true)
}

// The classic way does the same.
func TestFenceWithoutTCX(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	p := newFencedPair(t)
	p.holder.do(func() {
		if err := removePins(p.fence.dir); err != nil {
			t.Error(err)
		}
		for i, port := range p.fence.ports {
			port.close()
			delete(p.fence.ports, i)
		}
		if err := makePinDir(p.fence.dir); err != nil {
			t.Error(err)
		}
		p.fence.classic = true
	})
	p.raise()
	p.want("guarded", false)
	p.slot(11)(time.Hour)
	p.open(11, 0)
	p.want("deadline ahead", true)
	var err error
	p.holder.do(func() { err = RemoveFence(p.kernel, p.dir) })
	if err != nil {
		t.Fatal(err)
	}
	if f, err := p.kernel.classicFilter(p.holder.get("eth0").Attrs().Index, classicParents()[0]); err != nil || f != nil {
		t.Errorf("still there: %v, %v", f, err)
	}
}

// A fence of before whose filters were left on an interface, with maps that nobody
// has any more, would refuse for ever what it guarded last.
func TestFenceTakesOldFiltersAway(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	p := newFencedPair(t)
	var err error
	p.raise()
	p.holder.do(func() {
		for _, port := range p.fence.ports { // as if its process had ended
			port.detach()
			err = errors.Join(err, p.fence.attachClassic(port))
		}
		err = errors.Join(err, removePins(p.fence.dir))
	})
	p.want("guarded by the old one", false)
	p.holder.do(func() {
		var f *Fence
		if f, err = OpenFence(p.kernel, FenceConfig{Dir: p.dir}); err == nil {
			p.t.Cleanup(func() { p.holder.do(f.Close) })
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	p.want("the new one guards nothing", true)
}

// A kernel that has had TCX is not taken for one that has none because something
// ran out.
func TestFenceStaysWithTCX(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	p := newFencedPair(t)
	var err error
	p.holder.do(func() {
		for _, port := range p.fence.ports {
			port.detach()
		}
		var old unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Error(err)
			return
		}
		defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: old.Max}); err != nil {
			t.Error(err)
			return
		}
		err = p.fence.Check()
	})
	if err == nil || p.fence.classic {
		t.Errorf("without descriptors: %v, the classic way: %v", err, p.fence.classic)
	}
	p.holder.do(func() { err = p.fence.Check() })
	if err != nil {
		t.Fatal(err)
	}
	p.raise()
	p.want("guarded", false)
}

// aheadEnv says that the test runs in a time namespace.
const aheadEnv = "HOLDFAST_TEST_AHEAD"

// In a time namespace the two clocks differ, and the fence refuses.
func TestFenceClock(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	err := checkClock()
	if os.Getenv(aheadEnv) != "" {
		if !errors.Is(err, ErrFenceUnsafe) {
			t.Errorf("in a time namespace: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	go func() { failed <- inTimeNamespace("TestFenceClock") }()
	if err := <-failed; err != nil {
		t.Error(err)
	}
}

// inTimeNamespace runs a test in a process whose boot clock is ahead of the
// kernel's.
func inTimeNamespace(test string) error {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	offsets := fmt.Sprintf("/proc/%d/timens_offsets", unix.Gettid())
	if err := os.WriteFile(offsets, []byte("boottime 2000 0"), 0); err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^"+test+"$")
	cmd.Env = append(os.Environ(), aheadEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func TestFenceEntry(t *testing.T) {
	for _, p := range []vip.Pass{{}, {Epoch: 7, Session: 11}, {Epoch: 1 << 60, Session: 11, Also: 12}} {
		p.Address = netip.MustParseAddr(vip4)
		b := encodeEntry(p, 5, 6)
		if got := binary.NativeEndian.Uint32(b[entrySlot:]); got != 5 {
			t.Errorf("slot %d", got)
		}
		a := decodeEntry(fenceKey(p.Address), b)
		if a.Address != p.Address || a.Epoch != p.Epoch || a.Session != p.Session || a.Also != p.Also || !a.Open {
			t.Errorf("%+v became %+v", p, a)
		}
	}
}

func BenchmarkFenceRenewal(b *testing.B) {
	for name, n := range map[string]int{"1 VIP": 1, "1000 VIPs": 1000} {
		b.Run(name, func(b *testing.B) {
			h := newHost(b)
			f, err := h.fence(h.kernel(), bpffs(b))
			if err != nil {
				b.Fatal(err)
			}
			store, err := f.Slot(11)
			if err != nil {
				b.Fatal(err)
			}
			for _, a := range series(n, false, "eth0") {
				h.do(func() {
					err = errors.Join(f.Guard([]netip.Addr{a.IP()}), f.Open([]vip.Pass{{Address: a.IP(), Session: 11}}))
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				store(Boottime().Add(time.Second))
			}
		})
	}
}

// On a host that was never suspended both clocks are one, and no packet tells them
// apart.
func TestFenceReadsTheBootClock(t *testing.T) {
	for _, d := range directions() {
		for _, f := range []framing{ethernet, bare} {
			reads := 0
			for _, i := range fenceProgram(d, f, mapFDs{1, 2, 3}).Instructions {
				switch {
				case !i.IsBuiltinCall():
				case asm.BuiltinFunc(i.Constant) == asm.FnKtimeGetBootNs:
					reads++
				case asm.BuiltinFunc(i.Constant) == asm.FnKtimeGetNs:
					t.Errorf("%s, %v: it reads CLOCK_MONOTONIC, which stands still in a suspension", d.name, f)
				}
			}
			if reads == 0 {
				t.Errorf("%s, %v: it reads no clock", d.name, f)
			}
		}
	}
}
