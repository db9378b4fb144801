package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/vip"
)

// The addresses of the self-check: IPv4's dummy address (RFC 7600) and one of
// the discard-only prefix (RFC 6666). Nobody has them.
var (
	check4 = netip.MustParseAddr("192.0.0.8")
	check6 = netip.MustParseAddr("100::4846")
	other4 = netip.MustParseAddr("192.0.0.9")
	other6 = netip.MustParseAddr("100::4847")
)

// checkSession owns the slot of the self-check. Session ids are indexes of a
// log and never get there.
const checkSession = math.MaxUint64

// checkAll is the self-check: the clock, every kind of packet through the very
// programs that are attached, and a real packet on each interface that can send.
func (f *Fence) checkAll() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.uncheck()
	if err := checkClock(); err != nil {
		return err
	}
	if err := f.checkPackets(); err != nil {
		return err
	}
	err := f.attachAll()
	if err != nil && !errors.Is(err, ErrFenceUnsafe) {
		return unavailable(err)
	}
	return err
}

// uncheck takes the addresses of the self-check out again.
func (f *Fence) uncheck() {
	if f.maps.addresses == nil {
		return
	}
	for _, a := range []netip.Addr{check4, check6} {
		key := fenceKey(a)
		_ = f.maps.addresses.Delete(key[:])
		_ = f.maps.refused.Delete(key[:])
	}
	f.assign(checkSlot, 0)
}

// checkClock compares the clock of the programs with the one that deadlines are
// counted on. They differ in a time namespace, where the fence would stay open
// for as long as the offset is.
func checkClock() error {
	p, err := ebpf.NewProgram(clockProgram())
	if err != nil {
		return unavailable(fmt.Errorf("load clock program: %w", err))
	}
	defer p.Close()
	before := Boottime()
	_, out, err := p.Test(make([]byte, 64))
	after := Boottime()
	if err != nil {
		return unavailable(fmt.Errorf("run clock program: %w", err))
	}
	if len(out) < 8 {
		return fmt.Errorf("%w: the clock program told no time", ErrFenceUnsafe)
	}
	kernel := lease.Time(binary.NativeEndian.Uint64(out))
	if kernel < before || kernel > after {
		return fmt.Errorf("%w: the kernel's boot clock is %v away from this process's (in a time namespace?)",
			ErrFenceUnsafe, kernel.Sub(before))
	}
	return nil
}

// checkPackets runs each kind of packet through the programs: guarded, open, and
// past the deadline.
func (f *Fence) checkPackets() error {
	f.assign(checkSlot, checkSession)
	states := []struct {
		name     string
		slot     int
		session  uint64
		deadline lease.Time
		pass     bool
	}{
		{"guarded", closedSlot, 0, 0, false},
		{"open", checkSlot, checkSession, Boottime().Add(time.Hour), true},
		{"past its deadline", checkSlot, checkSession, Boottime(), false},
		{"of another session", checkSlot, checkSession - 1, Boottime().Add(time.Hour), false},
	}
	for _, s := range states {
		atomic.StoreUint64(f.word(checkSlot, slotDeadline), uint64(s.deadline))
		for _, a := range []netip.Addr{check4, check6} {
			key, entry := fenceKey(a), encodeEntry(vip.Pass{Session: s.session}, s.slot, s.slot)
			if err := f.maps.addresses.Update(key[:], entry[:], ebpf.UpdateAny); err != nil {
				return unavailable(fmt.Errorf("guard %s: %w", a, err))
			}
		}
		for _, p := range checkPackets() {
			if err := f.checkPacket(p, s.name, s.pass || p.free); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *Fence) checkPacket(p checkedPacket, state string, pass bool) error {
	d := directions()[0]
	i := 0
	if p.out {
		d, i = directions()[1], 1
	}
	program, err := f.program(ethernet, i)
	if err != nil {
		return unavailable(err)
	}
	verdict, _, err := program.Test(p.bytes)
	if err != nil {
		return unavailable(fmt.Errorf("test program: %w", err))
	}
	if passed := int32(verdict) == verdictNext; passed != pass {
		return fmt.Errorf("%w: %s (%s) of an address that is %s: passes %t", ErrFenceUnsafe, p.name, d.name, state, passed)
	}
	return nil
}

// checkedPacket is a packet of the self-check.
type checkedPacket struct {
	name  string
	out   bool
	free  bool // passes whatever the lease
	bytes []byte
}

var (
	checkMAC = net.HardwareAddr{0x02, 0x48, 0x46, 0, 0, 1}
	otherMAC = net.HardwareAddr{0x02, 0x48, 0x46, 0, 0, 2}
)

// checkPackets returns every kind of packet that the fence knows, and those that
// it must let through.
func checkPackets() []checkedPacket {
	ask := arpPacket{
		Destination: broadcastMAC, Source: otherMAC, Operation: arpRequest,
		SenderMAC: otherMAC, SenderIP: other4, TargetMAC: unknownMAC, TargetIP: check4,
	}
	tell := gratuitousRequest(checkMAC, check4)
	return []checkedPacket{
		{"IPv4", true, false, ipv4Frame(check4, other4, 17, make([]byte, 8))},
		{"IPv4", false, false, ipv4Frame(other4, check4, 17, make([]byte, 8))},
		{"IPv6", true, false, ipv6Frame(check6, other6, 17, make([]byte, 8))},
		{"IPv6", false, false, ipv6Frame(other6, check6, 17, make([]byte, 8))},
		{"gratuitous ARP", true, false, tell.appendTo(nil)},
		{"ARP reply", true, false, gratuitousReply(checkMAC, check4).appendTo(nil)},
		{"ARP request", false, false, ask.appendTo(nil)},
		{"neighbour advertisement", true, false, neighbourFrame(advertisement, other6, check6)},
		{"neighbour solicitation", false, false, neighbourFrame(solicitation, other6, check6)},
		{"VRRP for IPv4", true, false, ipv4Frame(other4, vrrpGroup4, nextHeaderVRRP, vrrpAdvertisement(other4, check4))},
		{"VRRP for IPv6", true, false, ipv6Frame(other6, vrrpGroup6, nextHeaderVRRP, vrrpAdvertisement(other6, check6))},
		{"tagged IPv4", true, false, tagged(ipv4Frame(check4, other4, 17, make([]byte, 8)))},
		{"another's gratuitous ARP", false, true, tell.appendTo(nil)},
		{"another's neighbour advertisement", false, true, neighbourFrame(advertisement, other6, check6)},
		{"another's VRRP", false, true, ipv4Frame(other4, vrrpGroup4, nextHeaderVRRP, vrrpAdvertisement(check4))},
		{"another address", true, true, ipv4Frame(other4, check4, 17, make([]byte, 8))},
	}
}

var (
	vrrpGroup4 = netip.MustParseAddr("224.0.0.18")
	vrrpGroup6 = netip.MustParseAddr("ff02::12")
)

// ethernetFrame puts a frame's header before a payload.
func ethernetFrame(kind uint16, payload []byte) []byte {
	b := append(append([]byte{}, otherMAC...), checkMAC...)
	return append(binary.BigEndian.AppendUint16(b, kind), payload...)
}

// tagged gives a frame an 802.1Q tag.
func tagged(frame []byte) []byte {
	b := append([]byte{}, frame[:12]...)
	b = append(b, 0x81, 0x00, 0x00, 0x0a)
	return append(b, frame[12:]...)
}

// ipv4Frame and ipv6Frame make packets without valid checksums: no program looks
// at them, and they go nowhere.
func ipv4Frame(source, destination netip.Addr, protocol byte, payload []byte) []byte {
	b := make([]byte, 20, 20+len(payload))
	b[0] = 0x45
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(payload)))
	b[8], b[9] = 255, protocol
	copy(b[12:], source.AsSlice())
	copy(b[16:], destination.AsSlice())
	return ethernetFrame(etherIPv4, append(b, payload...))
}

func ipv6Frame(source, destination netip.Addr, next byte, payload []byte) []byte {
	b := make([]byte, 40, 40+len(payload))
	b[0] = 0x60
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	b[6], b[7] = next, 255
	copy(b[8:], source.AsSlice())
	copy(b[24:], destination.AsSlice())
	return ethernetFrame(etherIPv6, append(b, payload...))
}

func neighbourFrame(kind neighbourType, source, target netip.Addr) []byte {
	b := make([]byte, 8, 24)
	b[0] = byte(kind)
	return ipv6Frame(source, allNodes, nextHeaderICMPv6, append(b, target.AsSlice()...))
}

// vrrpAdvertisement makes a VRRPv3 advertisement for the addresses.
func vrrpAdvertisement(addresses ...netip.Addr) []byte {
	b := []byte{0x31, 1, 100, byte(len(addresses)), 0, 100, 0, 0}
	for _, a := range addresses {
		b = append(b, a.AsSlice()...)
	}
	return b
}

// prove sends a real packet that claims the self-check's address, which is
// guarded and never open. It must be refused and counted; if it is not it was a
// gratuitous ARP for an address that nobody has. An interface that cannot send
// now proves it when it can.
func (f *Fence) prove(p *fencePort, a *netlink.LinkAttrs) error {
	if p.proven || p.framed != ethernet || !passes(a.RawFlags) || len(a.HardwareAddr) != 6 {
		return nil
	}
	defer f.uncheck()
	var none [refusedSize]byte
	key, closed := fenceKey(check4), encodeEntry(vip.Pass{}, closedSlot, closedSlot)
	err := errors.Join(f.maps.addresses.Update(key[:], closed[:], ebpf.UpdateAny), f.maps.refused.Update(key[:], none[:], ebpf.UpdateAny))
	if err != nil {
		return fmt.Errorf("guard %s: %w", check4, err)
	}
	packet := gratuitousRequest(a.HardwareAddr, check4)
	sent := f.kernel.send(frame{port: &port{index: p.index}, bytes: packet.appendTo(nil)})
	p.proven = f.refusals(check4) == 1
	if !p.proven && sent == nil {
		return fmt.Errorf("%w: a packet that claims %s was not refused on %s", ErrFenceUnsafe, check4, p.name)
	}
	return nil
}

// refusals returns how many packets that claim the address were refused.
func (f *Fence) refusals(a netip.Addr) uint64 {
	key := fenceKey(a)
	var value [refusedSize]byte
	_ = f.maps.refused.Lookup(key[:], &value) // none then
	return binary.NativeEndian.Uint64(value[refusedOut:])
}
