package linux

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// fencePort is an interface with the fence on it.
type fencePort struct {
	index  int
	name   string
	framed framing
	links  [2]link.Link // in and out; nil with the classic way
	proven bool         // a real packet was refused there
}

// detach takes the fence off an interface that may live on in another network
// namespace, and come back. Closing alone takes effect later.
func (p *fencePort) detach() {
	for _, l := range p.links {
		if l != nil {
			_ = l.Detach()
		}
	}
}

func (p *fencePort) close() {
	for _, l := range p.links {
		if l != nil {
			_ = l.Close() // the pin keeps it
		}
	}
}

// Check makes sure that the fence is on every interface, as they come and go, and
// pinned; it puts back what somebody took away. It comes before any address is
// added.
func (f *Fence) Check() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tidy()
	err := makePinDir(f.dir)
	if err == nil {
		err = errors.Join(f.attachAll(), f.pinAll())
	}
	if err != nil {
		return fmt.Errorf("check fence: %w", err)
	}
	return nil
}

// pinAll pins anew what is pinned no more: without its pin the fence would be
// gone with this process.
func (f *Fence) pinAll() error {
	var errs []error
	specs := mapSpecs()
	for i, m := range []*ebpf.Map{f.maps.addresses, f.maps.slots, f.maps.refused} {
		errs = append(errs, repin(filepath.Join(f.dir, specs[i].Name), m))
	}
	if f.classic {
		return errors.Join(errs...)
	}
	for _, p := range f.ports {
		for i, d := range directions() {
			errs = append(errs, repin(filepath.Join(f.dir, pinName(p.index, d)), p.links[i]))
		}
	}
	return errors.Join(errs...)
}

// repin pins something at a path if nothing is there.
func repin(path string, what interface {
	Pin(string) error
	Unpin() error
}) error {
	if _, err := os.Lstat(path); err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	_ = what.Unpin() // else it takes itself for pinned
	if err := what.Pin(path); err != nil {
		return fmt.Errorf("pin %s again: %w", filepath.Base(path), err)
	}
	return nil
}

// attachAll attaches the fence to every interface but loopback. A VIP is
// answered for on all of them, whichever has it: the kernel takes any packet to
// an address of this host, and replies to ARP for it, on each. So an interface
// that cannot be fenced is an error, whatever it is for, unless it is down:
// nothing passes there.
func (f *Fence) attachAll() error {
	list, err := f.kernel.listLinks()
	if err != nil {
		return err
	}
	there := make(map[int]bool, len(list))
	var errs []error
	for _, l := range list {
		a := l.Attrs()
		if a.RawFlags&unix.IFF_LOOPBACK != 0 {
			continue
		}
		there[a.Index] = true
		if p := f.ports[a.Index]; p != nil && f.attached(p) {
			errs = append(errs, f.prove(p, a))
			continue
		}
		err := f.attach(l)
		switch {
		case err == nil || errors.Is(err, unix.ENODEV): // gone since
		case a.RawFlags&unix.IFF_UP == 0:
			f.logger.Warn("not fenced: may not be used", "interface", a.Name, "err", err)
		default:
			errs = append(errs, fmt.Errorf("attach to %s: %w", a.Name, err))
		}
	}
	for index, p := range f.ports {
		if !there[index] {
			p.detach()
			p.close()
			delete(f.ports, index)
			f.unpin(index)
		}
	}
	return errors.Join(errs...)
}

// attached says whether the fence is still on the interface.
func (f *Fence) attached(p *fencePort) bool {
	if f.classic {
		return f.filtered(p)
	}
	for i, d := range directions() {
		if !inPlace(p.links[i], p.index, d) {
			return false
		}
	}
	return true
}

// inPlace says whether a link is on the interface, before all others: a program
// in front of it could let packets pass around it.
func inPlace(l link.Link, index int, d direction) bool {
	info, err := l.Info()
	if err != nil || info.TCX() == nil || int(info.TCX().Ifindex) != index {
		return false
	}
	all, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: d.attach})
	if err != nil || len(all.Programs) == 0 {
		return false
	}
	first, ok := all.Programs[0].LinkID()
	return ok && first == info.ID
}

// attach puts both programs on an interface, before all others, pinned; or takes
// over the links that a former process pinned, with the programs of this one.
func (f *Fence) attach(l netlink.Link) error {
	a := l.Attrs()
	if old := f.ports[a.Index]; old != nil {
		old.close()
		delete(f.ports, a.Index)
	}
	p := &fencePort{index: a.Index, name: a.Name, framed: framingOf(hardwareOf(l))}
	if !f.classic {
		err := f.attachTCX(p)
		if err == nil {
			f.ports[p.index] = p
			return errors.Join(f.kernel.removeFilters(p.index), f.prove(p, a))
		}
		p.close()
		// The library says so too when it cannot find out, for want of memory say.
		if !errors.Is(err, ebpf.ErrNotSupported) || !beforeTCX() {
			return err
		}
		f.logger.Info("no TCX in this kernel: the fence uses clsact")
		f.classic = true
	}
	if err := f.attachClassic(p); err != nil {
		return err
	}
	f.ports[p.index] = p
	return f.prove(p, a)
}

func (f *Fence) attachTCX(p *fencePort) error {
	for i, d := range directions() {
		program, err := f.program(p.framed, i)
		if err != nil {
			return err
		}
		path := filepath.Join(f.dir, pinName(p.index, d))
		l, err := takeOver(path, p.index, d, program)
		if err != nil {
			return err
		}
		if l == nil {
			l, err = link.AttachTCX(link.TCXOptions{Interface: p.index, Program: program, Attach: d.attach, Anchor: link.Head()})
			if err != nil {
				return fmt.Errorf("attach %s: %w", d.name, err)
			}
			if err := l.Pin(path); err != nil {
				_ = l.Close()
				return fmt.Errorf("pin %s: %w", d.name, err)
			}
		}
		p.links[i] = l
	}
	return nil
}

// takeOver opens a pinned link and gives it the program, with no packet passing
// in between; nil if there is none, or it is not in its place any more.
func takeOver(path string, index int, d direction, program *ebpf.Program) (link.Link, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		if inPlace(l, index, d) && l.Update(program) == nil {
			return l, nil
		}
		_ = l.Detach() // closing takes effect later, and would leave no room for a new one
		_ = l.Close()
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old pin: %w", err)
	}
	return nil, nil
}

func pinName(index int, d direction) string { return fmt.Sprintf("link-%d-%s", index, d.name) }

// unpin removes the links of an interface that is gone.
func (f *Fence) unpin(index int) {
	for _, d := range directions() {
		_ = os.Remove(filepath.Join(f.dir, pinName(index, d)))
	}
}

// hardwareOf returns the ARPHRD type of an interface.
func hardwareOf(l netlink.Link) uint16 {
	switch l.Attrs().EncapType {
	case "ether":
		return unix.ARPHRD_ETHER
	}
	return unix.ARPHRD_NONE
}

// Interfaces returns where the fence is, sorted.
func (f *Fence) Interfaces() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	names := make([]string, 0, len(f.ports))
	for _, p := range f.ports {
		names = append(names, p.name)
	}
	slices.Sort(names)
	return names
}

// Classic attaching, for kernels before 6.6: a clsact queueing discipline with
// one filter for each direction.

const (
	classicName   = "holdfast"
	classicHandle = 0x4846
)

func (f *Fence) attachClassic(p *fencePort) error {
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: p.index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	if err := f.kernel.links.QdiscAdd(qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add clsact: %w", err)
	}
	for i, parent := range classicParents() {
		program, err := f.program(p.framed, i)
		if err != nil {
			return err
		}
		filter := &netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{
				LinkIndex: p.index, Parent: parent, Handle: classicHandle, Priority: 1, Protocol: unix.ETH_P_ALL,
			},
			Fd: program.FD(), Name: classicName, DirectAction: true,
		}
		if err := f.kernel.links.FilterReplace(filter); err != nil {
			return fmt.Errorf("add filter: %w", err)
		}
	}
	return nil
}

func classicParents() [2]uint32 {
	return [2]uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS}
}

// filtered says whether both filters are on the interface.
func (f *Fence) filtered(p *fencePort) bool {
	for _, parent := range classicParents() {
		if found, err := f.kernel.classicFilter(p.index, parent); err != nil || found == nil {
			return false
		}
	}
	return true
}

// classicFilter finds our filter; nil if there is none.
func (k *Kernel) classicFilter(index int, parent uint32) (*netlink.BpfFilter, error) {
	l, err := k.links.LinkByIndex(index)
	if err != nil {
		return nil, err
	}
	filters, err := k.links.FilterList(l, parent)
	if err != nil {
		return nil, err
	}
	for _, x := range filters {
		if b, ok := x.(*netlink.BpfFilter); ok && strings.HasPrefix(b.Name, classicName) {
			return b, nil
		}
	}
	return nil, nil
}

// removeClassic takes our filters off every interface.
func (k *Kernel) removeClassic() error {
	list, err := k.listLinks()
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range list {
		errs = append(errs, k.removeFilters(l.Attrs().Index))
	}
	return errors.Join(errs...)
}

// removeFilters takes our filters off an interface. One that was left there has maps
// that nobody may have any more: it would refuse for ever what it guarded last.
func (k *Kernel) removeFilters(index int) error {
	var errs []error
	for _, parent := range classicParents() {
		b, err := k.classicFilter(index, parent)
		if err == nil && b != nil {
			b.LinkIndex, b.Parent = index, parent
			errs = append(errs, k.links.FilterDel(b))
		}
	}
	return errors.Join(errs...)
}

// beforeTCX says whether the kernel is older than TCX (Linux 6.6).
func beforeTCX() bool {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return false
	}
	var major, minor int
	n, _ := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor)
	return n == 2 && (major < 6 || major == 6 && minor < 6)
}

// removePins takes the fence away: links first, so that no program is left
// without its maps.
func removePins(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read pin directory: %w", err)
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int {
		return strings.Compare(pinOrder(a.Name()), pinOrder(b.Name()))
	})
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
	}
	return errors.Join(append(errs, os.Remove(dir))...)
}

func pinOrder(name string) string {
	if strings.HasPrefix(name, "link-") {
		return "0" + name
	}
	return "1" + name
}
