package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// namespace is a network, mount and UTS namespace that lives as long as its
// one locked thread. Sockets that are opened on that thread stay in the
// namespace whoever uses them later, and processes started from it are born in
// it. So no file descriptor is ever carried from one namespace to another.
type namespace struct {
	name    string
	calls   chan func()
	netFile *os.File        // /proc/thread-self/ns/net of the thread
	handle  *netlink.Handle // netlink sockets inside the namespace; safe from any thread
	outside string          // the thread's id in the caller's PID namespace
	mounts  string          // names the mount namespace
}

// bpfDir is where every host has a bpffs of its own.
const bpfDir = "/sys/fs/bpf"

// newNamespace makes a namespace and its thread.
func newNamespace(name string) (*namespace, error) {
	n := &namespace{name: name, calls: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and the namespace with it
		// Processes inherit this, as they get it from their unit file on a real
		// host (Nice=-20). An ordinary user may not raise priorities.
		preferThread()
		ready <- n.create()
		for call := range n.calls {
			call()
		}
	}()
	if err := <-ready; err != nil {
		close(n.calls)
		return nil, fmt.Errorf("make namespace %s: %w", name, err)
	}
	return n, nil
}

func (n *namespace) create() error {
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run/holdfast", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount /run/holdfast: %w", err)
	}
	// A program that looks into /sys/class/net should see this namespace. Where
	// the kernel refuses (a masked /sys), nothing in the lab depends on it.
	_ = unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RDONLY, "")
	// Each machine has its own pins. Where the kernel refuses, an agent finds no
	// bpffs and does what it does on such a machine.
	_ = unix.Mount("bpf", bpfDir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700")
	if err := unix.Sethostname([]byte(n.name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	for key, value := range quietKernel {
		if err := writeSysctl(key, value); err != nil {
			return err
		}
	}
	var err error
	if n.netFile, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	if n.mounts, err = os.Readlink("/proc/thread-self/ns/mnt"); err != nil {
		return fmt.Errorf("read mount namespace: %w", err)
	}
	if n.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	lo, err := n.handle.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := n.handle.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	if self, err := os.Readlink(filepath.Join(outsideProc, "thread-self")); err == nil {
		n.outside = self[strings.LastIndexByte(self, '/')+1:] // PID/task/TID
	}
	return nil
}

// quietKernel are the settings that differ from the kernel's defaults: no
// duplicate address detection and no router solicitations, which would only
// delay the start of the lab. ARP and neighbour settings are left alone.
var quietKernel = map[string]string{
	"net/ipv6/conf/all/accept_dad":               "0",
	"net/ipv6/conf/default/accept_dad":           "0",
	"net/ipv6/conf/default/dad_transmits":        "0",
	"net/ipv6/conf/default/router_solicitations": "0",
	"net/ipv6/conf/default/accept_ra":            "0",
}

func writeSysctl(key, value string) error {
	if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0); err != nil {
		return fmt.Errorf("set %s: %w", key, err)
	}
	return nil
}

// do runs fn on the namespace's thread and returns its error. fn must be short:
// everything that concerns the namespace waits for it.
func (n *namespace) do(fn func() error) error {
	done := make(chan error, 1)
	n.calls <- func() { done <- fn() }
	return <-done
}

// close ends the thread. Sockets and processes that others hold stay alive and
// keep the network namespace until they are gone too.
func (n *namespace) close() {
	n.handle.Close()
	_ = n.netFile.Close()
	close(n.calls)
}
