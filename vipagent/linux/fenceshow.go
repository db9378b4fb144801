package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"holdfast/coordinator/lease"
)

// ErrNoFence: there is no fence in this network namespace.
var ErrNoFence = errors.New("no fence here")

// ShowFence reads what the kernel holds of the fence in this thread's network
// namespace, without an agent. dir is as in [FenceConfig]. The error wraps
// [ErrNoFence] if there is none.
func ShowFence(k *Kernel, dir string) (FenceTable, error) {
	dir, err := fenceDir(dir)
	if err != nil {
		return FenceTable{}, err
	}
	maps, err := openMaps(dir, true)
	if errors.Is(err, os.ErrNotExist) {
		return FenceTable{}, fmt.Errorf("%w: nothing is pinned in %s", ErrNoFence, dir)
	}
	if err != nil {
		return FenceTable{}, err
	}
	defer maps.close()
	memory, err := mapSlots(maps.slots, unix.PROT_READ)
	if err != nil {
		return FenceTable{}, err
	}
	defer unix.Munmap(memory)
	t := FenceTable{Kind: "ebpf", Sessions: readSlots(memory)}
	if t.Addresses, err = readAddresses(maps); err != nil {
		return FenceTable{}, err
	}
	t.Interfaces, err = k.fencedInterfaces(dir)
	return t, err
}

// Show reads back what the kernel holds.
func (f *Fence) Show() (FenceTable, error) {
	t := FenceTable{Kind: "ebpf", Interfaces: f.Interfaces()}
	f.mu.Lock()
	defer f.mu.Unlock()
	t.Sessions = readSlots(f.memory)
	var err error
	t.Addresses, err = readAddresses(f.maps)
	return t, err
}

func readSlots(memory []byte) []FenceSession {
	sessions := []FenceSession{}
	for i := firstSlot; i < slotCount; i++ {
		b := memory[i*slotSize:]
		if s := binary.NativeEndian.Uint64(b[slotSession:]); s != 0 {
			sessions = append(sessions, FenceSession{Session: s, Slot: i, Deadline: lease.Time(binary.NativeEndian.Uint64(b[slotDeadline:]))})
		}
	}
	return sessions
}

func readAddresses(maps fenceMaps) ([]FenceAddress, error) {
	addresses := []FenceAddress{}
	var key [16]byte
	var entry [entrySize]byte
	each := maps.addresses.Iterate()
	for each.Next(&key, &entry) {
		a := decodeEntry(key, entry)
		if a.Address == check4 || a.Address == check6 {
			continue
		}
		var refused [refusedSize]byte
		if err := maps.refused.Lookup(&key, &refused); err == nil {
			a.RefusedIn = binary.NativeEndian.Uint64(refused[refusedIn:])
			a.RefusedOut = binary.NativeEndian.Uint64(refused[refusedOut:])
		}
		addresses = append(addresses, a)
	}
	if err := each.Err(); err != nil {
		return nil, fmt.Errorf("read guarded addresses: %w", err)
	}
	slices.SortFunc(addresses, func(a, b FenceAddress) int { return a.Address.Compare(b.Address) })
	return addresses, nil
}

// fencedInterfaces returns the names of the interfaces with the fence on both
// directions.
func (k *Kernel) fencedInterfaces(dir string) ([]string, error) {
	list, err := k.listLinks()
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, l := range list {
		if k.fenced(dir, l.Attrs().Index) {
			names = append(names, l.Attrs().Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (k *Kernel) fenced(dir string, index int) bool {
	both := true
	for i, d := range directions() {
		l, err := link.LoadPinnedLink(filepath.Join(dir, pinName(index, d)), nil)
		if err != nil {
			filter, err := k.classicFilter(index, classicParents()[i])
			both = both && err == nil && filter != nil
			continue
		}
		info, err := l.Info()
		both = both && err == nil && info.TCX() != nil && int(info.TCX().Ifindex) == index
		_ = l.Close()
	}
	return both
}

// Ours returns the addresses of this host that bear our mark.
func (k *Kernel) Ours() ([]netip.Addr, error) {
	actual, err := k.Addresses()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range actual {
		if a.Ours {
			out = append(out, a.IP())
		}
	}
	return out, nil
}
