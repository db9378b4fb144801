package linux

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// RemoveFence takes the eBPF fence of this thread's network namespace out of
// the kernel, whichever version of this program it is of. It is the caller's
// business that no agent uses it and that no VIP of ours is up; see
// [Kernel.Ours].
func RemoveFence(k *Kernel, dir string) error {
	dirs, err := pinnedFences(dir)
	if err != nil {
		return err
	}
	return errors.Join(k.removeClassic(), removeAll(dirs))
}

// ClearFences takes away every fence but the one in use, whose kind is "ebpf",
// "nft" or "none": nobody would renew its deadlines, so that what it guards would
// be dead for ever. It comes once the fence in use is in place. If there is
// something to take away, guard first shuts that one for what is up, so that
// nothing is open in between.
func (k *Kernel) ClearFences(dir, kind string, guard func([]netip.Addr) error) error {
	dirs, err := pinnedFences(dir)
	if err != nil {
		return err
	}
	if kind == "ebpf" {
		own, err := fenceDir(dir)
		if err != nil {
			return err
		}
		dirs = slices.DeleteFunc(dirs, func(d string) bool { return d == own })
	}
	nft := kind != "nft" && nftThere()
	if len(dirs) == 0 && !nft {
		return nil
	}
	up, err := k.Ours()
	if err == nil && len(up) > 0 && guard != nil {
		err = guard(up)
	}
	if err != nil {
		return fmt.Errorf("clear other fences: %w", err)
	}
	var errs []error
	if kind != "ebpf" { // filters of the classic way are replaced by ours
		errs = append(errs, k.removeClassic())
	}
	errs = append(errs, removeAll(dirs))
	if nft {
		errs = append(errs, RemoveNFT())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clear other fences: %w", err)
	}
	return nil
}

// pinnedFences returns the directories of eBPF fences of this thread's network
// namespace.
func pinnedFences(dir string) ([]string, error) {
	prefix, err := fenceDirs(dir)
	if err != nil {
		return nil, err
	}
	return filepath.Glob(prefix + "*")
}

func removeAll(dirs []string) error {
	var errs []error
	for _, d := range dirs {
		errs = append(errs, removePins(d))
	}
	return errors.Join(errs...)
}

// nftThere says whether there is a fence of nf_tables. A kernel without it has
// none.
func nftThere() bool {
	c, err := dialNetlink(unix.NETLINK_NETFILTER)
	if err != nil {
		return false
	}
	defer c.close()
	tables, err := c.nftTables()
	return err == nil && len(tables) > 0
}
