package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// roleVariable makes the test binary play another program.
const roleVariable = "HOLDFAST_LAB_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "holder":
		exitOn(playHolder(os.Args[1:]))
	case "nested":
		exitOn(playNested())
	case "writer":
		if os.Getenv(stageVariable) == "" {
			exitOn(playWriter(os.Args[1]))
		}
	case "guardian":
		exitOn(playGuardian())
	case "sleeper":
		select {} // ended by a signal
	}
	exitOn(Enter())
	os.Exit(m.Run())
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if os.Getenv(roleVariable) != "" {
		os.Exit(0)
	}
}

// playHolder stands for an agent: it raises the addresses, announces them and
// takes them down on SIGTERM. Killed, it leaves them behind.
func playHolder(addresses []string) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	link, err := netlink.LinkByName(Interface)
	if err != nil {
		return err
	}
	for _, s := range addresses {
		p := netip.MustParsePrefix(s)
		if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: ipNet(p), Flags: nodad(p)}); err != nil {
			return err
		}
		if err := announce(link, p.Addr()); err != nil {
			return err
		}
	}
	fmt.Println("up")
	<-signals
	for _, s := range addresses {
		if err := netlink.AddrDel(link, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix(s))}); err != nil {
			return err
		}
	}
	return nil
}

// announce sends a gratuitous ARP request or an unsolicited advertisement.
func announce(link netlink.Link, a netip.Addr) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	frame := gratuitousARP(1, link.Attrs().HardwareAddr, a)
	if a.Is6() {
		frame = advertisementFrame(link.Attrs().HardwareAddr, a)
	}
	return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index, Halen: 6})
}

func advertisementFrame(source net.HardwareAddr, a netip.Addr) []byte {
	na := []byte{136, 0, 0, 0, 0x20, 0, 0, 0} // override
	na = append(append(na, a.AsSlice()...), 2, 1)
	na = append(na, source...)
	to := netip.MustParseAddr("ff02::1")
	binary.BigEndian.PutUint16(na[2:], checksum(a.AsSlice(), to.AsSlice(), na))
	f := []byte{0x33, 0x33, 0, 0, 0, 1}
	f = append(append(f, source...), 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(na)), unix.IPPROTO_ICMPV6, 255)
	f = append(append(f, a.AsSlice()...), to.AsSlice()...)
	return append(f, na...)
}

// playNested enters a lab, starts a program on a host and hangs; its standard
// output stays open as long as anything of it lives.
func playNested() error {
	if err := Enter(); err != nil {
		return err
	}
	n, err := New(Standard())
	if err != nil {
		return err
	}
	if _, err := startHolder(n.Hosts[0], "10.77.1.1/32"); err != nil {
		return err
	}
	fmt.Println("running")
	select {}
}

// selfCommand is the test binary in a role.
func selfCommand(ctx context.Context, role string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	return cmd
}

// startHolder starts the stand-in on a host.
func startHolder(h *Host, addresses ...string) (*Process, error) {
	return h.Start(Command{Name: "holder", Path: "/proc/self/exe", Args: addresses, Env: []string{roleVariable + "=holder"}})
}

// mustHolder starts the stand-in and waits until the host has the addresses.
func mustHolder(t *testing.T, h *Host, addresses ...string) *Process {
	t.Helper()
	p, err := startHolder(h, addresses...)
	check(t, err)
	for _, a := range addresses {
		eventually(t, func() error { return hasAddress(h, netip.MustParsePrefix(a)) })
	}
	return p
}

func hasAddress(h *Host, p netip.Prefix) error {
	have, err := h.Addresses()
	if err != nil {
		return err
	}
	for _, q := range have {
		if q == p {
			return nil
		}
	}
	return fmt.Errorf("%s has %v and not %s", h.Name, have, p)
}

func newNetwork(t *testing.T) *Network {
	t.Helper()
	layout := Standard()
	layout.Dir = t.TempDir()
	n, err := New(layout)
	check(t, err)
	t.Cleanup(func() { check(t, n.Close()) })
	return n
}

func eventually(t *testing.T, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	check(t, Poll(ctx, 2*time.Millisecond, f))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
