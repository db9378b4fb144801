package linux

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"

	"holdfast/vipagent/vip"
)

// Watch calls f for each change of links and addresses, until ctx ends (nil) or
// the socket fails. The first event is [Resynced], when the watch stands and its
// starting point has been read; nothing is reported about what was there
// already. If the kernel has more news than the socket can hold, everything is
// read again, the differences are reported and another Resynced follows.
//
// f is called in the goroutine of Watch, in the kernel's order. A refreshed
// lifetime is no event. Removals and additions of our own are events like all
// others: compare them with what is wanted. With a link go its addresses, which
// are reported first.
//
// News about a carrier that changes more than once a second is held back by the
// kernel, for up to a second: see [Kernel.Interface].
func (k *Kernel) Watch(ctx context.Context, f func(Event)) error {
	// Not the subscriptions of the netlink library: they end at an overrun,
	// know no address protocol and take 64 KB of garbage for each message.
	c, err := socket.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE, "netlink", nil)
	if err != nil {
		return fmt.Errorf("open watch socket: %w", err)
	}
	defer c.Close()
	growBuffer(c, k.watchBuffer)
	const groups = 1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1)
	if err := c.Bind(&unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return fmt.Errorf("bind watch socket: %w", err)
	}
	defer interruptedBy(ctx, c)()

	w := &watch{kernel: k, conn: c, view: newView(f)}
	if w.view.links, w.view.addresses, err = w.read(); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	f(Event{Kind: Resynced})
	for {
		err := w.step()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch: %w", err)
		}
	}
}

// growBuffer sets the receive buffer as large as our rights allow, or to
// exactly size bytes if that is not zero.
func growBuffer(c *socket.Conn, size int) {
	if size != 0 {
		_ = c.SetsockoptInt(unix.SOL_SOCKET, unix.SO_RCVBUF, size)
		return
	}
	if c.SetsockoptInt(unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferBytes) != nil {
		_ = c.SetsockoptInt(unix.SOL_SOCKET, unix.SO_RCVBUF, bufferBytes)
	}
}

type watch struct {
	kernel *Kernel
	conn   *socket.Conn
	view   *view
	buf    [receiveSize]byte
}

// step receives one datagram and reports what it says.
func (w *watch) step() error {
	n, from, err := w.conn.Recvfrom(context.Background(), w.buf[:], unix.MSG_TRUNC)
	if errors.Is(err, unix.ENOBUFS) {
		w.kernel.logger.Warn("kernel had more news than fit the buffer: reading everything again")
		return w.resync()
	}
	if err != nil {
		return err
	}
	msgs, err := parseMessages(w.buf[:], n, from)
	if err != nil {
		return err
	}
	for _, m := range msgs {
		if err := w.handle(m); err != nil {
			return err
		}
	}
	return nil
}

func (w *watch) handle(m syscall.NetlinkMessage) error {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		l, err := decodeLink(m.Data)
		if errors.Is(err, errOtherFamily) {
			return nil
		}
		if err != nil {
			return err
		}
		w.view.link(l, m.Header.Type == unix.RTM_NEWLINK)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		r, err := decodeAddress(m.Data)
		if errors.Is(err, errOtherFamily) {
			return nil
		}
		if err != nil {
			return err
		}
		if !w.view.address(r, m.Header.Type == unix.RTM_NEWADDR) {
			return w.resync()
		}
	}
	return nil
}

// resync reads everything again. What is still queued is older than what it
// reads, and would be reported as if it came after: it is thrown away first.
func (w *watch) resync() error {
	if err := w.drain(); err != nil {
		return err
	}
	links, addresses, err := w.read()
	if err != nil {
		return err
	}
	w.view.replace(links, addresses)
	w.view.f(Event{Kind: Resynced})
	return nil
}

// drain throws away what is queued.
func (w *watch) drain() error {
	raw, err := w.conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = drain(int(fd), w.buf[:]) })
	return errors.Join(err, failed)
}

func (w *watch) read() (map[int]linkState, map[addressKey]record, error) {
	records, err := dumpAddresses(w.kernel.reads)
	if err != nil {
		return nil, nil, err
	}
	links := make(map[int]linkState)
	err = w.kernel.reads.dump(message{kind: unix.RTM_GETLINK, body: make([]byte, unix.SizeofIfInfomsg)},
		func() { clear(links) },
		func(kind uint16, body []byte) error {
			l, err := decodeLink(body)
			if err == nil && kind == unix.RTM_NEWLINK {
				links[l.index] = l
			}
			return err
		})
	if err != nil {
		return nil, nil, fmt.Errorf("read interfaces: %w", err)
	}
	addresses := make(map[addressKey]record, len(records))
	for _, r := range records {
		if _, ok := links[r.index]; ok {
			addresses[keyOf(r)] = r
		}
	}
	return links, addresses, nil
}

// linkState is a link as the kernel tells it.
//
//	struct ifinfomsg   family, padding, type (16 bits), index, flags, change mask (32 bits each)
//	IFLA_IFNAME        the name
type linkState struct {
	index int
	name  string
	up    bool
}

// decodeLink reads the body of an RTM_NEWLINK or RTM_DELLINK message. Messages
// of one protocol about its part of a link, such as that a port left its
// bridge, are [errOtherFamily].
func decodeLink(b []byte) (linkState, error) {
	if len(b) < unix.SizeofIfInfomsg {
		return linkState{}, fmt.Errorf("link message of %d bytes", len(b))
	}
	if b[0] != unix.AF_UNSPEC {
		return linkState{}, errOtherFamily
	}
	l := linkState{
		index: int(int32(binary.NativeEndian.Uint32(b[4:]))),
		up:    passes(binary.NativeEndian.Uint32(b[8:])),
	}
	err := attributes(b[unix.SizeofIfInfomsg:], func(kind uint16, v []byte) {
		if kind == unix.IFLA_IFNAME {
			l.name, _, _ = strings.Cut(string(v), "\x00")
		}
	})
	if err == nil && l.name == "" {
		err = errors.New("link message without a name")
	}
	return l, err
}

// addressKey tells the addresses of a namespace apart.
type addressKey struct {
	index  int
	prefix netip.Prefix
}

func keyOf(r record) addressKey { return addressKey{r.index, r.prefix()} }

// view is what the watcher knows, and reports how it changes.
type view struct {
	f         func(Event)
	links     map[int]linkState
	addresses map[addressKey]record
}

func newView(f func(Event)) *view {
	return &view{f: f, links: make(map[int]linkState), addresses: make(map[addressKey]record)}
}

// link takes in that a link exists or is gone.
func (v *view) link(l linkState, exists bool) {
	old, known := v.links[l.index]
	if known && (!exists || old.name != l.name) {
		v.dropLink(old)
		known = false
	}
	if !exists {
		return
	}
	v.links[l.index] = l
	if !known || old.up != l.up {
		kind := LinkDown
		if l.up {
			kind = LinkUp
		}
		v.f(Event{Kind: kind, Interface: l.name})
	}
}

func (v *view) dropLink(l linkState) {
	for _, key := range v.sortedKeys() {
		if key.index == l.index {
			v.dropAddress(key)
		}
	}
	delete(v.links, l.index)
	v.f(Event{Kind: LinkGone, Interface: l.name})
}

// address takes in that an address exists or is gone. It returns false for one
// of a link that is not known.
func (v *view) address(r record, exists bool) bool {
	key := keyOf(r)
	old, known := v.addresses[key]
	if !exists {
		if known {
			v.dropAddress(key)
		}
		return true
	}
	l, ok := v.links[r.index]
	if !ok {
		return false
	}
	v.addresses[key] = r
	if !known || old.ours() != r.ours() || (old.flags^r.flags)&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 {
		v.f(Event{Kind: AddressAppeared, Interface: l.name, Address: r.actual(l.name)})
	}
	return true
}

func (v *view) dropAddress(key addressKey) {
	name := v.links[key.index].name
	r := v.addresses[key]
	delete(v.addresses, key)
	v.f(Event{Kind: AddressGone, Interface: name, Address: r.actual(name)})
}

// replace takes in everything as it is now: what is gone first.
func (v *view) replace(links map[int]linkState, addresses map[addressKey]record) {
	for _, key := range v.sortedKeys() {
		if _, ok := addresses[key]; !ok {
			v.dropAddress(key)
		}
	}
	for _, index := range sortedIndexes(v.links) {
		if _, ok := links[index]; !ok {
			v.dropLink(v.links[index])
		}
	}
	for _, index := range sortedIndexes(links) {
		v.link(links[index], true)
	}
	fresh := make([]record, 0, len(addresses))
	for _, r := range addresses {
		fresh = append(fresh, r)
	}
	slices.SortFunc(fresh, func(a, b record) int { return compareKeys(keyOf(a), keyOf(b)) })
	for _, r := range fresh {
		v.address(r, true)
	}
}

func (v *view) sortedKeys() []addressKey {
	keys := make([]addressKey, 0, len(v.addresses))
	for key := range v.addresses {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}

func compareKeys(a, b addressKey) int {
	if a.index != b.index {
		return a.index - b.index
	}
	return vip.Address{Prefix: a.prefix}.Compare(vip.Address{Prefix: b.prefix})
}

func sortedIndexes(links map[int]linkState) []int {
	out := make([]int, 0, len(links))
	for index := range links {
		out = append(out, index)
	}
	slices.Sort(out)
	return out
}
