package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Hold is a stretch of time in which a host's kernel had an address.
type Hold struct {
	Host    string
	Address netip.Addr
	From    Time
	To      Time // 0: still has it
}

// addressWatcher follows one host's address table by netlink. The kernel tells
// the changes in their order; the times are those of their receipt.
type addressWatcher struct {
	host string
	fd   int

	mu    sync.Mutex
	open  map[netip.Addr]int // index in holds
	holds []Hold
}

// watchAddresses subscribes and asks for the present table on the same socket,
// so that nothing can fall between the two.
func watchAddresses(h *Host) (*addressWatcher, error) {
	w := &addressWatcher{host: h.Name, fd: -1, open: make(map[netip.Addr]int)}
	err := h.ns.do(func() (err error) {
		w.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		groups := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR}
		if err := unix.Bind(w.fd, groups); err != nil {
			return fmt.Errorf("subscribe to addresses: %w", err)
		}
		limit := unix.NsecToTimeval(int64(stopEvery))
		if err := unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
			return fmt.Errorf("bound reads: %w", err)
		}
		return errors.Join(growBuffer(w.fd, 8<<20), w.dump())
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch addresses of %s: %w", h.Name, err), closeAll([]int{w.fd}))
	}
	return w, nil
}

func (w *addressWatcher) dump() error {
	request := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfAddrmsg)
	h := (*unix.NlMsghdr)(unsafe.Pointer(&request[0]))
	h.Len, h.Type, h.Flags, h.Seq = uint32(len(request)), unix.RTM_GETADDR, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, 1
	if err := unix.Sendto(w.fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask for addresses: %w", err)
	}
	return nil
}

// run follows the table until stop is set. A message that the kernel had to
// drop would make a false record, so it is an error and not a detail.
func (w *addressWatcher) run(stop *atomic.Bool) error {
	preferThread()
	buf := make([]byte, 64<<10)
	for !stop.Load() {
		n, _, err := unix.Recvfrom(w.fd, buf, 0)
		at := Now()
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("watch addresses of %s: %w", w.host, err)
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return fmt.Errorf("watch addresses of %s: %w", w.host, err)
		}
		w.mu.Lock()
		for i := range messages {
			w.apply(&messages[i], at)
		}
		w.mu.Unlock()
	}
	return nil
}

func (w *addressWatcher) apply(m *syscall.NetlinkMessage, at Time) {
	if m.Header.Type != unix.RTM_NEWADDR && m.Header.Type != unix.RTM_DELADDR {
		return
	}
	address, ok := messageAddress(m)
	if !ok {
		return
	}
	i, held := w.open[address]
	switch {
	case m.Header.Type == unix.RTM_NEWADDR && !held:
		w.open[address] = len(w.holds)
		w.holds = append(w.holds, Hold{Host: w.host, Address: address, From: at})
	case m.Header.Type == unix.RTM_DELADDR && held:
		w.holds[i].To = at
		delete(w.open, address)
	}
}

// messageAddress returns the local address of an address message.
func messageAddress(m *syscall.NetlinkMessage) (netip.Addr, bool) {
	attributes, err := syscall.ParseNetlinkRouteAttr(m)
	if err != nil {
		return netip.Addr{}, false
	}
	var address netip.Addr
	for _, a := range attributes {
		switch a.Attr.Type {
		case unix.IFA_LOCAL: // IPv4: the address itself; IFA_ADDRESS would be the peer
			if ip, ok := netip.AddrFromSlice(a.Value); ok {
				return ip, true
			}
		case unix.IFA_ADDRESS:
			address, _ = netip.AddrFromSlice(a.Value)
		}
	}
	return address, address.IsValid()
}

// snapshot returns all holds so far.
func (w *addressWatcher) snapshot() []Hold {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Hold(nil), w.holds...)
}

// forget drops what was over before a time.
func (w *addressWatcher) forget(before Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.holds = slices.DeleteFunc(w.holds, func(h Hold) bool { return h.To != 0 && h.To < before })
	for i, h := range w.holds {
		if h.To == 0 {
			w.open[h.Address] = i
		}
	}
}
