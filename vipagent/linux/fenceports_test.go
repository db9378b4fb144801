package linux

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// crowd makes 200 more interfaces on the holder.
func (p *fencedPair) crowd() {
	p.t.Helper()
	for i := range 100 {
		a := netlink.NewLinkAttrs()
		a.Name = fmt.Sprintf("c%d", i)
		p.holder.must(p.holder.handle.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: fmt.Sprintf("d%d", i)}))
		p.holder.link(a.Name, true)
		p.holder.link(fmt.Sprintf("d%d", i), true)
	}
}

// fds counts the descriptors of this process.
func fds(t testing.TB) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// Check leaks nothing, with many interfaces, and with those that come and go.
func TestFenceCheckLeaksNothing(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	p := newFencedPair(t)
	check := func() (took time.Duration) {
		var err error
		p.holder.do(func() {
			began := time.Now()
			err = p.fence.Check()
			took = time.Since(began)
		})
		if err != nil {
			t.Fatal(err)
		}
		return took
	}
	before := fds(t)
	p.crowd()
	first := check()
	most := fds(t)
	again := check()
	t.Logf("200 interfaces: attached in %v, checked in %v", first, again)
	for range 5 {
		check()
	}
	if n := fds(t); n != most {
		t.Errorf("%d descriptors, then %d", most, n)
	}
	for i := range 100 {
		p.holder.must(p.holder.handle.LinkDel(p.holder.get(fmt.Sprintf("c%d", i))))
	}
	check()
	if n := fds(t); n > before+2 { // the programs may have come
		t.Errorf("%d descriptors before, %d after", before, n)
	}
}

// A program that was put in front of the fence would let packets pass around it.
func TestFenceIsFirst(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	p := newFencedPair(t)
	p.raise()
	passAll, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer passAll.Close()
	for _, d := range directions() {
		var l link.Link
		p.holder.do(func() {
			l, err = link.AttachTCX(link.TCXOptions{Interface: p.holder.get("eth0").Attrs().Index, Program: passAll, Attach: d.attach, Anchor: link.Head()})
		})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	p.want("a program in front passes everything", true)
	p.holder.do(func() { err = p.fence.Check() })
	if err != nil {
		t.Fatal(err)
	}
	p.want("after a check", false)
}

// An interface that cannot be fenced counts only while packets can pass there.
func TestFenceFullInterface(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	p := newFencedPair(t)
	a := netlink.NewLinkAttrs()
	a.Name = "odd"
	p.holder.must(p.holder.handle.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "peer"}))
	p.holder.link("peer", true)
	index := p.holder.get("odd").Attrs().Index
	var links []link.Link
	defer func() {
		for _, l := range links {
			_ = l.Close()
		}
	}()
	for { // as many as the kernel takes
		other, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Type: ebpf.SchedCLS, License: "GPL",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdictNext), asm.Return()},
		})
		if err != nil {
			t.Fatal(err)
		}
		var l link.Link
		p.holder.do(func() {
			l, err = link.AttachTCX(link.TCXOptions{Interface: index, Program: other, Attach: ebpf.AttachTCXEgress})
		})
		_ = other.Close()
		if err != nil {
			break
		}
		links = append(links, l)
	}
	check := func() (err error) {
		p.holder.do(func() { err = p.fence.Check() })
		return err
	}
	if err := check(); err != nil {
		t.Errorf("while it is down: %v", err)
	}
	p.holder.link("odd", true)
	if err := check(); err == nil {
		t.Error("an interface is up without a fence")
	}
	p.holder.link("odd", false)
	if err := check(); err != nil {
		t.Errorf("down again: %v", err)
	}
}

// That descriptors have run out is no reason for a weaker fence.
func TestFenceWithoutDescriptors(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	h := newHost(t)
	k, dir := h.kernel(), bpffs(t)
	var was unix.Rlimit
	h.must(unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	for _, spare := range []int{0, 1, 2, 5, 31} {
		none := unix.Rlimit{Cur: uint64(lowestFree(t) + spare), Max: was.Max}
		var err error
		h.do(func() {
			_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &none)
			var f *Fence
			if f, err = OpenFence(k, FenceConfig{Dir: dir}); err == nil {
				f.Close()
			}
			_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &was)
		})
		if errors.Is(err, ErrFenceUnavailable) {
			t.Errorf("with %d descriptors: %v", spare, err)
		}
	}
}

// lowestFree returns the descriptor that would be opened next.
func lowestFree(t testing.TB) int {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	return fd
}

// The fence stays where an interface is renamed, moved to another network
// namespace and back, and where the file system of its pins is unmounted.
func TestFenceSurvivesMoves(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	p := newFencedPair(t)
	p.raise()
	check := func() {
		var err error
		p.holder.do(func() { err = p.fence.Check() })
		if err != nil {
			t.Fatal(err)
		}
	}
	p.holder.must(unix.Unmount(filepath.Dir(p.dir), unix.MNT_DETACH))
	p.want("pins unmounted", false)
	check()
	table, err := p.show()
	if err != nil || len(table.Interfaces) != 1 {
		t.Errorf("pinned again: %v, %v", table.Interfaces, err)
	}
	p.holder.link("eth0", false)
	p.holder.must(p.holder.handle.LinkSetName(p.holder.get("eth0"), "lan"))
	p.holder.link("lan", true)
	p.want("renamed", false)
	check()

	third := newHost(t)
	p.holder.must(p.holder.handle.LinkSetNsFd(p.holder.get("lan"), third.fd))
	check()
	third.must(third.handle.LinkSetNsFd(third.get("lan"), p.holder.fd))
	p.holder.link("lan", true)
	check()
	if err := p.kernel.Add(vips(vip4+"/24 lan", vip6+"/64 lan"), time.Hour); err != nil {
		t.Fatal(err)
	}
	p.want("back again", false)
}
