package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ClaimAddress sends one gratuitous ARP request for an IPv4 address, as a host
// would that has been given somebody else's address.
func (h *Host) ClaimAddress(a netip.Addr) error {
	frame := gratuitousARP(1, h.MAC, a)
	link, _ := h.cable()
	err := h.ns.do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open packet socket: %w", err)
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index, Halen: 6})
	})
	if err != nil {
		return fmt.Errorf("claim %s from %s: %w", a, h.Name, err)
	}
	return nil
}

// gratuitousARP returns an ARP frame (1: request, 2: reply) in which the sender
// asks for, or answers for, its own address.
func gratuitousARP(operation uint16, source net.HardwareAddr, a netip.Addr) []byte {
	f := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	f = append(f, source...)
	f = append(f, 8, 6, 0, 1, 8, 0, 6, 4)
	f = binary.BigEndian.AppendUint16(f, operation)
	f = append(append(f, source...), a.AsSlice()...)
	return append(append(f, 0, 0, 0, 0, 0, 0), a.AsSlice()...)
}

// SendNoise sends so many UDP datagrams of random length and content to a port.
// The content is the same in each run.
func (h *Host) SendNoise(to netip.Addr, port, count int) error {
	random := rand.New(rand.NewPCG(1, uint64(port)))
	err := h.ns.do(func() error {
		fd, err := unix.Socket(family(to), unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open socket: %w", err)
		}
		defer unix.Close(fd)
		for range count {
			b := make([]byte, random.IntN(1400))
			for i := range b {
				b[i] = byte(random.Uint32())
			}
			if err := unix.Sendto(fd, b, 0, sockaddr(netip.AddrPortFrom(to, uint16(port)))); err != nil {
				return fmt.Errorf("send: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("send noise from %s to %s: %w", h.Name, to, err)
	}
	return nil
}

// AddMarkedAddress adds an address that bears a protocol number, as a daemon
// marks those that it manages, and that lives for ever.
func (h *Host) AddMarkedAddress(p netip.Prefix, protocol byte) error {
	const attributeProtocol = 11 // IFA_PROTO (linux/if_addr.h)
	link, _ := h.cable()
	message := nl.NewIfAddrmsg(family(p.Addr()))
	message.Prefixlen, message.Index = uint8(p.Bits()), uint32(link.Attrs().Index)
	if p.Addr().Is6() {
		message.Flags = unix.IFA_F_NODAD
	}
	request := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK)
	request.AddData(message)
	request.AddData(nl.NewRtAttr(unix.IFA_LOCAL, p.Addr().AsSlice()))
	request.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, p.Addr().AsSlice()))
	request.AddData(nl.NewRtAttr(attributeProtocol, []byte{protocol}))
	err := h.ns.do(func() error {
		_, err := request.Execute(unix.NETLINK_ROUTE, 0)
		return err
	})
	if err != nil {
		return fmt.Errorf("add %s with protocol %#x on %s: %w", p, protocol, h.Name, err)
	}
	return nil
}

// FlushRuleset deletes every nftables rule of the host, as the scripts of many
// firewalls do (`nft flush ruleset`).
func (h *Host) FlushRuleset() error {
	if err := h.flush(); err != nil {
		return fmt.Errorf("flush ruleset of %s: %w", h.Name, err)
	}
	return nil
}

func (h *Host) flush() error {
	return h.ns.do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return fmt.Errorf("open nftables: %w", err)
		}
		conn.FlushRuleset()
		return conn.Flush()
	})
}

// CopyFiles copies the plain files of a directory to another host, as an image of
// the host would.
func (h *Host) CopyFiles(dir string, to *Host) error {
	files := make(map[string][]byte)
	err := h.InNamespace(func() error {
		entries, err := os.ReadDir(dir)
		for _, e := range entries {
			if !e.Type().IsRegular() {
				continue
			}
			b, readErr := os.ReadFile(filepath.Join(dir, e.Name()))
			if errors.Is(readErr, os.ErrNotExist) {
				continue // it was being replaced
			}
			files[e.Name()], err = b, errors.Join(err, readErr)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read %s of %s: %w", dir, h.Name, err)
	}
	err = to.InNamespace(func() (err error) {
		for name, b := range files {
			err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s of %s: %w", dir, to.Name, err)
	}
	return nil
}
