package linux

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// fenceDir returns where the fence of this thread's network namespace is pinned:
// a directory of its own, as all namespaces may see the same bpffs.
func fenceDir(dir string) (string, error) {
	prefix, err := fenceDirs(dir)
	return fmt.Sprintf("%s%d", prefix, formVersion), err
}

// fenceDirs returns what the names of such directories begin with, whatever the
// form of their maps.
func fenceDirs(dir string) (prefix string, err error) {
	if dir == "" {
		dir = FenceDir
	}
	ns, err := netNamespace()
	if err != nil {
		return "", fmt.Errorf("find network namespace: %w", err)
	}
	return filepath.Join(dir, fmt.Sprintf("net%d-v", ns)), nil
}

// netNamespace returns the number of this thread's network namespace, as in
// /proc/self/ns/net, which need not be there: a shell in the namespaces of another
// process may see that process's /proc.
func netNamespace() (uint64, error) {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(s)
	ns, err := unix.IoctlRetInt(s, unix.SIOCGSKNS)
	if err != nil {
		return 0, os.NewSyscallError("ioctl SIOCGSKNS", err)
	}
	defer unix.Close(ns)
	var st unix.Stat_t
	if err := unix.Fstat(ns, &st); err != nil {
		return 0, os.NewSyscallError("fstat", err)
	}
	return st.Ino, nil
}

const bpfFSMagic = 0xcafe4a11

// makePinDir makes the directory, and mounts the bpffs where nobody has yet,
// never over a directory that has something in it.
func makePinDir(dir string) error {
	root := filepath.Dir(filepath.Dir(dir))
	if !onBPFFS(root) {
		if list, err := os.ReadDir(root); err != nil || len(list) > 0 {
			return fmt.Errorf("%s is no bpffs, and not an empty directory to mount one on: %w", root, errors.Join(err, unix.ENOTEMPTY))
		}
		if err := unix.Mount("bpf", root, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
			return fmt.Errorf("%s is no bpffs, and mounting one there: %w (as root: mount -t bpf bpf %s)", root, err, root)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make pin directory: %w", err)
	}
	return nil
}

func onBPFFS(dir string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(dir, &fs) == nil && uint32(fs.Type) == bpfFSMagic
}

// mapSpecs returns what each map must be.
func mapSpecs() [3]*ebpf.MapSpec {
	return [3]*ebpf.MapSpec{
		{Name: "addresses", Type: ebpf.Hash, KeySize: 16, ValueSize: entrySize, MaxEntries: maxGuarded, Flags: unix.BPF_F_NO_PREALLOC},
		{Name: "slots", Type: ebpf.Array, KeySize: 4, ValueSize: slotSize, MaxEntries: slotCount, Flags: unix.BPF_F_MMAPABLE},
		{Name: "refused", Type: ebpf.Hash, KeySize: 16, ValueSize: refusedSize, MaxEntries: maxGuarded, Flags: unix.BPF_F_NO_PREALLOC},
	}
}

// openMaps opens the pinned maps, and makes those that are not there unless
// existing is set.
func openMaps(dir string, existing bool) (m fenceMaps, err error) {
	specs := mapSpecs()
	for i, into := range []**ebpf.Map{&m.addresses, &m.slots, &m.refused} {
		if *into, err = openMap(filepath.Join(dir, specs[i].Name), specs[i], existing); err != nil {
			m.close()
			return fenceMaps{}, err
		}
	}
	return m, nil
}

func openMap(path string, spec *ebpf.MapSpec, existing bool) (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(path, nil)
	switch {
	case err == nil:
		if err := spec.Compatible(m); err != nil {
			_ = m.Close()
			return nil, fmt.Errorf("map %s is not ours: %w (stop the agent and run: vipagent fence remove)", path, err)
		}
		return m, nil
	case !errors.Is(err, os.ErrNotExist) || existing:
		return nil, fmt.Errorf("open map %s: %w", path, err)
	}
	if m, err = ebpf.NewMap(spec); err != nil {
		return nil, fmt.Errorf("make map %s: %w", spec.Name, err)
	}
	if err := m.Pin(path); err != nil {
		_ = m.Close()
		return nil, fmt.Errorf("pin map %s: %w", spec.Name, err)
	}
	return m, nil
}

// mapSlots maps the slots into this process's memory.
func mapSlots(m *ebpf.Map, protection int) ([]byte, error) {
	size := slotCount * slotSize
	b, err := unix.Mmap(m.FD(), 0, size, protection, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the deadlines into memory: %w", err)
	}
	return b, nil
}

// pinnedProgram opens a pinned program. One that looks at other maps, as the pins
// of those were lost, is no use: it is unpinned, and the error is that of one
// that is not there.
func (f *Fence) pinnedProgram(path string) (*ebpf.Program, error) {
	p, err := ebpf.LoadPinnedProgram(path, nil)
	if err != nil {
		return nil, err
	}
	ours, err := f.usesOurMaps(p)
	if err == nil && ours {
		return p, nil
	}
	_ = p.Close()
	if err == nil {
		if err = os.Remove(path); err == nil {
			err = os.ErrNotExist
		}
	}
	return nil, err
}

func (f *Fence) usesOurMaps(p *ebpf.Program) (bool, error) {
	info, err := p.Info()
	if err != nil {
		return false, err
	}
	used, _ := info.MapIDs()
	for _, m := range []*ebpf.Map{f.maps.addresses, f.maps.slots, f.maps.refused} {
		info, err := m.Info()
		if err != nil {
			return false, err
		}
		if id, ok := info.ID(); !ok || !slices.Contains(used, id) {
			return false, nil
		}
	}
	return true, nil
}

// haveDescriptors checks that some are left. Where none are, the library takes
// the kernel for one that does not have what was asked for, and remembers that.
func haveDescriptors() error {
	const enough = 32
	var open []int
	defer func() {
		for _, fd := range open {
			_ = unix.Close(fd)
		}
	}()
	for range enough {
		fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("open", err)
		}
		open = append(open, fd)
	}
	return nil
}
