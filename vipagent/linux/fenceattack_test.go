package linux

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"holdfast/vipagent/vip"
)

// behind puts IPv6 extension headers of 8 bytes before a payload; it returns the
// first next header. 51 has its own measure of length.
func behind(kinds []byte, next byte, payload []byte) (byte, []byte) {
	var b []byte
	for i, k := range kinds {
		after := next
		if i+1 < len(kinds) {
			after = kinds[i+1]
		}
		switch k {
		case 51:
			b = append(b, after, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		default:
			b = append(b, after, 0, 0, 0, 0, 0, 0, 0)
		}
	}
	if len(kinds) > 0 {
		next = kinds[0]
	}
	return next, append(b, payload...)
}

// fragmentOf makes a fragment header and what it carries.
func fragmentOf(next byte, offset uint16, more bool, payload []byte) []byte {
	word := offset
	if more {
		word |= 1
	}
	b := []byte{next, 0, 0, 0, 0, 0, 0, 9}
	binary.BigEndian.PutUint16(b[2:], word)
	return append(b, payload...)
}

func times(n int, kind byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = kind
	}
	return b
}

// oddPackets returns forms that a claim can take beyond those of the self-check,
// and forms that are none.
func oddPackets() []checkedPacket {
	na := append([]byte{136, 0, 0, 0, 0, 0, 0, 0}, check6.AsSlice()...)
	ns := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, check6.AsSlice()...)
	many6, many4 := make([]netip.Addr, 200), make([]netip.Addr, 255)
	for i := range many4 {
		many4[i] = other4
	}
	for i := range many6 { // a test packet has no room for more
		many6[i] = other6
	}
	many6[199], many4[254] = check6, check4
	v6 := func(kinds []byte, next byte, payload []byte) []byte {
		first, b := behind(kinds, next, payload)
		return ipv6Frame(other6, other6, first, b)
	}
	v4 := func(protocol byte, payload []byte, change func(ip []byte)) []byte {
		f := ipv4Frame(other4, vrrpGroup4, protocol, payload)
		change(f[14:])
		return f
	}
	same := func([]byte) {}
	v2 := vrrpAdvertisement(check4)
	v2[0] = 0x21
	long := vrrpAdvertisement(other4, check4)
	long[3] = 255
	options := ipv4Frame(check4, other4, 17, make([]byte, 12))
	options[14] = 0x47
	vrrpOptions := v4(nextHeaderVRRP, append(make([]byte, 8), vrrpAdvertisement(check4)...), func(ip []byte) { ip[0] = 0x47 })
	later := v4(17, make([]byte, 8), func(ip []byte) { copy(ip[12:], check4.AsSlice()); ip[6], ip[7] = 0, 185 })
	arpLong := []byte{0, 32, 8, 0, 20, 4, 0, 2}
	arpLong = append(append(append(arpLong, make([]byte, 20)...), check4.AsSlice()...), make([]byte, 24)...)
	return []checkedPacket{
		{"IPv4 with options", true, false, options},
		{"VRRP behind IPv4 options", true, false, vrrpOptions},
		{"later IPv4 fragment", true, false, later},
		{"VRRPv2", true, false, v4(nextHeaderVRRP, v2, same)},
		{"VRRP with 255 addresses", true, false, v4(nextHeaderVRRP, vrrpAdvertisement(many4...), same)},
		{"VRRP for IPv6 with 200 addresses", true, false, v6(nil, nextHeaderVRRP, vrrpAdvertisement(many6...))},
		{"VRRP that counts too many", true, false, v4(nextHeaderVRRP, long, same)},
		{"VRRP in an authentication header", true, false, v4(51, append([]byte{112, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, vrrpAdvertisement(check4)...), same)},
		{"VRRP for IPv6 behind extension headers", true, false, v6([]byte{0, 60, 43, 60}, nextHeaderVRRP, vrrpAdvertisement(other6, check6))},
		{"advertisement behind hop-by-hop", true, false, v6([]byte{0}, nextHeaderICMPv6, na)},
		{"advertisement behind a routing header", true, false, v6([]byte{43}, nextHeaderICMPv6, na)},
		{"advertisement behind an authentication header", true, false, v6([]byte{51}, nextHeaderICMPv6, na)},
		{"advertisement behind 4 headers", true, false, v6(times(4, 60), nextHeaderICMPv6, na)},
		{"advertisement behind 8 headers", true, false, v6(times(8, 60), nextHeaderICMPv6, na)},
		{"advertisement behind 9 headers", true, false, v6(times(9, 60), nextHeaderICMPv6, na)},
		{"advertisement in an atomic fragment", true, false, v6(nil, 44, fragmentOf(nextHeaderICMPv6, 0, false, na))},
		{"advertisement in a first fragment", true, false, v6(nil, 44, fragmentOf(nextHeaderICMPv6, 0, true, na))},
		{"solicitation behind 4 headers", false, false, v6(times(4, 60), nextHeaderICMPv6, ns)},
		{"solicitation for a duplicate", false, false, ipv6Frame(netip.IPv6Unspecified(), other6, nextHeaderICMPv6, ns)},
		{"two tags", true, false, tagged(tagged(ipv4Frame(check4, other4, 17, make([]byte, 8))))},
		{"three tags", true, false, tagged(tagged(tagged(ipv4Frame(check4, other4, 17, make([]byte, 8)))))},
		{"ARP with long hardware addresses", true, false, ethernetFrame(etherARP, arpLong)},
		{"cut advertisement", true, true, v6(nil, nextHeaderICMPv6, na[:23])},
		{"cut ARP", true, true, gratuitousRequest(checkMAC, check4).appendTo(nil)[:14+17]},
		{"later fragment of a ping", true, true, v6(nil, 44, fragmentOf(nextHeaderICMPv6, 8, false, na))},
		{"ARP for other protocol addresses", true, true, ethernetFrame(etherARP, append([]byte{0, 1, 8, 0, 6, 16, 0, 2}, make([]byte, 44)...))},
	}
}

// whollyRefused are forms in which a claim could be cut to pieces: no host that
// keeps to RFC 6980 and RFC 7112 sends or takes them, whatever the address.
func whollyRefused() []checkedPacket {
	na := append([]byte{136, 0, 0, 0, 0, 0, 0, 0}, check6.AsSlice()...)
	v6 := func(b []byte) []byte { return ipv6Frame(other6, other6, 44, b) }
	first := ipv4Frame(other4, vrrpGroup4, nextHeaderVRRP, vrrpAdvertisement(other4, check4)[:8])
	first[14+6] = 0x20
	return []checkedPacket{
		{"start of an advertisement", true, false, v6(fragmentOf(nextHeaderICMPv6, 0, true, na[:8]))},
		{"first fragment that ends before the message", true, false, v6(fragmentOf(60, 0, true, []byte{58, 0, 0, 0, 0, 0, 0, 0}))},
		{"first fragment of VRRP for IPv6", true, false, v6(fragmentOf(nextHeaderVRRP, 0, true, vrrpAdvertisement(other6)))},
		{"first fragment of VRRP for IPv4", true, false, first},
	}
}

func TestFenceOddPackets(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	h := newHost(t)
	f, err := h.fence(h.kernel(), bpffs(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Guard([]netip.Addr{check4, check6}); err != nil {
		t.Fatal(err)
	}
	store, err := f.Slot(11)
	if err != nil {
		t.Fatal(err)
	}
	closed := append(oddPackets(), whollyRefused()...)
	for _, framed := range []framing{ethernet, bare} {
		for _, p := range closed {
			if framed == ethernet || p.name != "two tags" && p.name != "three tags" {
				verdictOf(t, f, framed, p, p.free)
			}
		}
	}
	for _, a := range []netip.Addr{check4, check6} {
		if err := f.Open([]vip.Pass{{Address: a, Session: 11}}); err != nil {
			t.Fatal(err)
		}
	}
	store(Boottime().Add(time.Hour))
	for _, p := range oddPackets() {
		if p.name != "advertisement behind 9 headers" && p.name != "advertisement in a first fragment" {
			verdictOf(t, f, ethernet, p, true)
		}
	}
}

func verdictOf(t *testing.T, f *Fence, framed framing, p checkedPacket, pass bool) {
	t.Helper()
	direction := 0
	if p.out {
		direction = 1
	}
	program, err := f.program(framed, direction)
	if err != nil {
		t.Fatal(err)
	}
	verdict, _, err := program.Test(p.bytes)
	if err != nil {
		t.Errorf("%s: %v", p.name, err)
		return
	}
	if got := int32(verdict) == verdictNext; got != pass {
		t.Errorf("%s, %s: passes %t, want %t", framed, p.name, got, pass)
	}
}

// tun makes a tun device of the host and returns the descriptor that reads what
// is sent there.
func (h *host) tun(name string) int {
	h.t.Helper()
	fd, err := -1, error(nil)
	h.do(func() { fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0) })
	h.must(err)
	h.t.Cleanup(func() { unix.Close(fd) })
	request, err := unix.NewIfreq(name)
	h.must(err)
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	h.must(unix.IoctlIfreq(fd, unix.TUNSETIFF, request))
	h.link(name, true)
	return fd
}

// On a device without a link layer the packet itself tells what it is, not the
// protocol that its sender named.
func TestFenceOnTun(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	h := newHost(t)
	fd := h.tun("tun0")
	f, err := h.fence(h.kernel(), bpffs(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Guard(addresses(vip4, vip6)); err != nil {
		t.Fatal(err)
	}
	v4, v6 := netip.MustParseAddr(vip4), netip.MustParseAddr(vip6)
	other := netip.MustParseAddr("10.0.0.7")
	claim4 := ipv4Frame(v4, other, 17, make([]byte, 8))[14:]
	claim6 := ipv6Frame(v6, other6, 17, make([]byte, 8))[14:]
	free := ipv4Frame(other, other, 17, make([]byte, 8))[14:]
	for _, kind := range []uint16{etherIPv4, etherIPv6, etherARP, 0x88b5, etherVLAN} {
		for name, packet := range map[string][]byte{"IPv4": claim4, "IPv6": claim6} {
			h.sendAs("tun0", kind, packet)
			h.sendAs("tun0", etherIPv4, free)
			if got := readTun(t, fd); string(got) != string(free) {
				t.Errorf("%s sent as %#x: a claim came out: %x", name, kind, got)
			}
		}
	}
}

// sendAs sends a packet from a raw socket that says it is of a protocol.
func (h *host) sendAs(iface string, protocol uint16, packet []byte) {
	h.t.Helper()
	index := h.get(iface).Attrs().Index
	var err error
	h.do(func() {
		var s int
		if s, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		defer unix.Close(s)
		err = unix.Sendto(s, packet, 0, &unix.SockaddrLinklayer{Ifindex: index, Protocol: protocol<<8 | protocol>>8})
	})
	if err != nil && !errors.Is(err, unix.ENOBUFS) { // how a refusal is told
		h.t.Fatal(err)
	}
}

// readTun returns the next packet of this test; the kernel itself sends some.
func readTun(t *testing.T, fd int) []byte {
	t.Helper()
	b := make([]byte, 2048)
	var n int
	waitFor(t, "a packet", func() bool {
		var err error
		n, err = unix.Read(fd, b)
		return err == nil && (b[0] != 0x60 || b[6] == 17)
	})
	return b[:n]
}

// A pass without a session opens nothing: free slots have none either.
func TestFenceNeedsSession(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	p := newFencedPair(t)
	p.raise()
	if err := p.fence.Open([]vip.Pass{{Address: netip.MustParseAddr(vip4), Epoch: 7}}); err == nil {
		t.Error("opened without a session")
	}
}

// Programs that are pinned and look at maps that are not pinned any more are not
// used.
func TestFenceWithForeignMaps(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	h := newHost(t)
	h.tun("tun0")
	dir := bpffs(t)
	k := h.kernel()
	f, err := h.fence(k, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range mapSpecs() {
		h.must(os.Remove(filepath.Join(f.dir, spec.Name)))
	}
	again, err := h.fence(k, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Guard([]netip.Addr{check4}); err != nil {
		t.Fatal(err)
	}
	for _, framed := range []framing{ethernet, bare} {
		verdictOf(t, again, framed, checkedPacket{"IPv4", true, false, ipv4Frame(check4, other4, 17, make([]byte, 8))}, false)
	}
}

// A bpffs is mounted on nothing that has contents.
func TestFenceHidesNothing(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	h := newHost(t)
	root := t.TempDir()
	h.must(os.WriteFile(filepath.Join(root, "data"), nil, 0o600))
	_, err := h.fence(h.kernel(), filepath.Join(root, "holdfast"))
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	if !errors.Is(err, ErrFenceUnavailable) {
		t.Errorf("opened: %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, "data")); err != nil {
		t.Error("a bpffs was mounted over a directory that is in use")
	}
}

// A full map refuses what comes next and goes on with what it has.
func TestFenceIsFull(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	p := newFencedPair(t)
	p.raise()
	p.slot(11)(time.Hour)
	p.open(11, 0)
	var list []netip.Addr
	for i := range maxGuarded - 2 {
		list = append(list, netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}))
	}
	if err := p.fence.Guard(list); err != nil {
		t.Fatal(err)
	}
	if err := p.fence.Guard(addresses("10.0.0.101", vip4)); !errors.Is(err, unix.E2BIG) {
		t.Errorf("one too many: %v", err)
	}
	if arp, nd := p.answered(time.Second); arp || !nd {
		t.Errorf("ARP answered %t, want false: what follows the one too many is shut; ND %t, want true", arp, nd)
	}
	var err error
	p.holder.do(func() { err = p.fence.Check() })
	if err != nil {
		t.Errorf("check: %v", err)
	}
}

// Slots run out only when all are in use, and go round.
func TestFenceSlotsGoRound(t *testing.T) {
	if !mayBPF() {
		return // see TestFence
	}
	p := newFencedPair(t)
	p.raise()
	stale := p.slot(11)
	p.open(11, 0)
	for id := uint64(12); id < 12+slotCount-firstSlot-1; id++ {
		if _, err := p.fence.Slot(id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.fence.Slot(1 << 40); err == nil {
		t.Error("one slot too many")
	}
	if err := p.fence.Keep([]uint64{1 << 40}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.fence.Slot(1 << 40); err != nil {
		t.Fatal(err)
	}
	stale(time.Hour)
	p.want("a store for a session that has ended", false)
	if err := p.fence.Open([]vip.Pass{{Address: netip.MustParseAddr(vip4), Session: 11}}); err == nil {
		t.Error("opened under a session that has ended")
	}
}

// BenchmarkFencePacket is what one packet costs.
func BenchmarkFencePacket(b *testing.B) {
	h := newHost(b)
	f, err := h.fence(h.kernel(), bpffs(b))
	if err != nil {
		b.Fatal(err)
	}
	store, err := f.Slot(11)
	if err == nil {
		err = errors.Join(f.Guard([]netip.Addr{check4, check6}), f.Open([]vip.Pass{{Address: check4, Session: 11}, {Address: check6, Session: 11}}))
	}
	if err != nil {
		b.Fatal(err)
	}
	store(Boottime().Add(time.Hour))
	payload := make([]byte, 8)
	for i, d := range directions() {
		for _, c := range []struct {
			name  string
			bytes []byte
		}{
			{"IPv4", ipv4Frame(other4, other4, 17, payload)},
			{"IPv4 of a VIP", ipv4Frame(check4, check4, 17, payload)},
			{"IPv6", ipv6Frame(other6, other6, 17, payload)},
			{"IPv6 of a VIP", ipv6Frame(check6, check6, 17, payload)},
		} {
			b.Run(d.name+"/"+c.name, func(b *testing.B) {
				p, err := f.program(ethernet, i)
				if err != nil {
					b.Fatal(err)
				}
				_, per, err := p.Benchmark(c.bytes, 1_000_000, nil)
				if err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
					b.Fatal(err)
				}
				b.ReportMetric(float64(per.Nanoseconds()), "ns/packet")
			})
		}
	}
}
