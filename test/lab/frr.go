package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// FRRDir is where Debian's package of FRR has its daemons.
const FRRDir = "/usr/lib/frr"

// FRRRouter makes routers of FRR's vrrpd with its zebra, from a directory. Its
// configuration is vrrpd's.
//
// FRR does not make the interfaces of virtual routers: they are there
// beforehand, with the virtual MAC and all addresses, and it takes the carrier
// away (protodown) where it is not Active. So the address table of an FRR host
// says nothing about who is Active.
func FRRRouter(dir string) RouterKind {
	return func(h *Host) Router { return &frrRouter{dir: dir, host: h} }
}

type frrRouter struct {
	dir       string
	host      *Host
	processes []*Process // zebra, vrrpd
}

// frrUsers are accounts by which FRR's daemons may stay root: as usual they
// become user frr, which a user namespace has no room for.
var frrUsers = map[string]string{
	"/etc/passwd": "root:x:0:0:root:/:/bin/sh\nfrr:x:0:0:frr:/:/bin/sh\n",
	"/etc/group":  "root:x:0:root\nfrr:x:0:\nfrrvty:x:0:frr,root\n",
}

func (r *frrRouter) Start(config string) error {
	for _, p := range r.processes {
		if p.Running() {
			return fmt.Errorf("start %s on %s: it runs", p.Name, r.host.Name)
		}
	}
	dir := filepath.Join(r.host.Disk, "frr")
	if err := errors.Join(r.prepare(dir), r.addInterfaces(config)); err != nil {
		return err
	}
	r.processes = nil
	for _, daemon := range []struct{ name, config string }{{"zebra", ""}, {"vrrpd", "debug vrrp\n" + config}} {
		file := filepath.Join(dir, daemon.name+".conf")
		if err := os.WriteFile(file, []byte("hostname "+r.host.Name+"\n"+daemon.config), 0o600); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
		p, err := r.host.Start(Command{Name: daemon.name, Path: filepath.Join(r.dir, daemon.name), Args: []string{
			"-f", file, "-i", filepath.Join(dir, daemon.name+".pid"), "-z", filepath.Join(dir, "zserv.api"),
			"--vty_socket", dir, "-P", "0", "--log", "stdout", "--log-level", "debug",
		}})
		if err != nil {
			return err
		}
		r.processes = append(r.processes, p)
		if daemon.name == "zebra" {
			if err := waitSocket(filepath.Join(dir, "zserv.api")); err != nil {
				return err
			}
		}
	}
	return nil
}

// waitSocket waits until a daemon takes connections: vrrpd tries only now and then.
func waitSocket(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return Poll(ctx, 5*time.Millisecond, func() error {
		conn, err := net.Dial("unix", path)
		if err != nil {
			return fmt.Errorf("connect to zebra: %w", err)
		}
		return conn.Close()
	})
}

// prepare makes FRR's directory and gives the host the accounts.
func (r *frrRouter) prepare(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	for target, text := range frrUsers {
		file := filepath.Join(dir, filepath.Base(target))
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return fmt.Errorf("write accounts: %w", err)
		}
		err := r.host.InNamespace(func() error { return unix.Mount(file, target, "", unix.MS_BIND, "") })
		if err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
	}
	return nil
}

// addInterfaces makes the macvlan interfaces that the configuration needs and
// that are not there: one for each virtual router and family.
func (r *frrRouter) addInterfaces(config string) error {
	routers, err := frrAddresses(config)
	if err != nil {
		return err
	}
	for router, addresses := range routers {
		name, mac := fmt.Sprintf("vrrp4-%d", router.VRID), net.HardwareAddr{0, 0, 0x5e, 0, 1, router.VRID}
		if router.IPv6 {
			name, mac = fmt.Sprintf("vrrp6-%d", router.VRID), net.HardwareAddr{0, 0, 0x5e, 0, 2, router.VRID}
		}
		if _, err := r.host.ns.handle.LinkByName(name); err == nil {
			continue
		}
		if err := r.host.addMacvlan(name, mac, addresses); err != nil {
			return err
		}
	}
	return nil
}

// addMacvlan adds an interface beside the host's own, with a hardware address
// and with addresses, and without a link-local one that is made up of it: that
// would be the same on every host.
func (h *Host) addMacvlan(name string, mac net.HardwareAddr, addresses []netip.Addr) error {
	parent, _ := h.cable()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.HardwareAddr = name, parent.Attrs().Index, mac
	link := &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}
	if err := h.ns.handle.LinkAdd(link); err != nil {
		return fmt.Errorf("add %s on %s: %w", name, h.Name, err)
	}
	if err := h.ns.handle.LinkSetIP6AddrGenMode(link, addrGenNone); err != nil {
		return fmt.Errorf("set up %s on %s: %w", name, h.Name, err)
	}
	for _, a := range addresses {
		p := netip.PrefixFrom(a, a.BitLen())
		if a.IsLinkLocalUnicast() {
			p = netip.PrefixFrom(a, 64)
		}
		if err := h.ns.handle.AddrReplace(link, &netlink.Addr{IPNet: ipNet(p), Flags: nodad(p)}); err != nil {
			return fmt.Errorf("add %s to %s on %s: %w", p, name, h.Name, err)
		}
	}
	if err := h.ns.handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s on %s up: %w", name, h.Name, err)
	}
	return nil
}

// addrGenNone is IN6_ADDR_GEN_MODE_NONE (linux/if_link.h).
const addrGenNone = 1

// frrAddresses reads the virtual routers' addresses from vrrpd's configuration:
// the lines "vrrp VRID ip ADDRESS" and "vrrp VRID ipv6 ADDRESS".
func frrAddresses(config string) (map[VirtualRouter][]netip.Addr, error) {
	routers := make(map[VirtualRouter][]netip.Addr)
	for lines := bufio.NewScanner(strings.NewReader(config)); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) != 4 || words[0] != "vrrp" || words[2] != "ip" && words[2] != "ipv6" {
			continue
		}
		vrid, err := strconv.ParseUint(words[1], 10, 8)
		if err != nil {
			return nil, fmt.Errorf("read VRID: %w", err)
		}
		a, err := netip.ParseAddr(words[3])
		if err != nil {
			return nil, fmt.Errorf("read virtual address: %w", err)
		}
		router := VirtualRouter{uint8(vrid), words[2] == "ipv6"}
		routers[router] = append(routers[router], a)
	}
	return routers, nil
}

// Reload fails: FRR is told new configuration by its shell, not by a signal.
func (r *frrRouter) Reload(string) error {
	return errors.New("reload FRR: it does not read its configuration again")
}

func (r *frrRouter) Stop(ctx context.Context) error { return stopAll(ctx, r.processes) }

func (r *frrRouter) Kill() error {
	var errs []error
	for _, p := range r.processes {
		if p.Running() {
			errs = append(errs, p.Kill())
		}
	}
	return errors.Join(errs...)
}

func (r *frrRouter) Log() (string, error) { return readLogs(r.processes...) }
