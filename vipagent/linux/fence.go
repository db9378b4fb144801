package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/vip"
)

// Errors of a fence.
var (
	// ErrFenceUnavailable: this kernel, or this process with its rights, cannot
	// have the eBPF fence. A weaker one may do.
	ErrFenceUnavailable = errors.New("the eBPF fence is not to be had here")
	// ErrFenceUnsafe: the self-check found that the fence does not do what it
	// must. No VIP may be held behind it, nor behind a weaker one.
	ErrFenceUnsafe = errors.New("the fence does not hold")
)

// FenceDir is where the fence is pinned by default: on the file system for eBPF
// objects, where it outlives this process.
const FenceDir = "/sys/fs/bpf/holdfast"

// formVersion is that of the maps' form. Another version of this program with
// another form has its own maps beside these.
const formVersion = 1

const (
	maxGuarded = 65536
	slotCount  = 8192
	// Slot 0 is that of addresses that are guarded and not open, slot 1 that of
	// the self-check.
	closedSlot = 0
	checkSlot  = 1
	firstSlot  = 2
)

// The two counters of the map of refusals.
const (
	refusedIn   = 0
	refusedOut  = 8
	refusedSize = 16
)

// fenceMaps are what the programs read and what they count.
type fenceMaps struct {
	addresses *ebpf.Map // address -> entry
	slots     *ebpf.Map // index -> deadline, session; mapped into memory
	refused   *ebpf.Map // address -> packets refused: to it, from it
}

func (m fenceMaps) fds() mapFDs { return mapFDs{m.addresses.FD(), m.slots.FD(), m.refused.FD()} }

func (m fenceMaps) close() {
	for _, x := range []*ebpf.Map{m.addresses, m.slots, m.refused} {
		if x != nil {
			_ = x.Close()
		}
	}
}

// FenceConfig is what [OpenFence] needs.
type FenceConfig struct {
	Dir    string       // on a bpffs; "" = FenceDir
	Logger *slog.Logger // nil discards
}

// Fence refuses, in the kernel, packets that claim a VIP or are sent to one
// whose lease has run out, whatever this process does: eBPF programs on every
// interface but loopback compare an absolute CLOCK_BOOTTIME deadline with the
// clock for each packet. It is pinned, so that it goes on when this process is
// killed, and a successor takes it over as it is.
//
// An address passes only while it is open and all its deadlines lie ahead; one
// that is not guarded is none of the fence's business. It is safe for concurrent
// use. Its methods must be called from a thread in the namespace of its
// [Kernel], except the stores that [Fence.Slot] returns.
type Fence struct {
	kernel *Kernel
	logger *slog.Logger
	dir    string
	linger time.Duration // lingerFor; a test shortens it
	maps   fenceMaps
	memory []byte // the slots: deadline and session, 64 bits each, native order

	mu       sync.Mutex // guards what follows
	programs map[programKey]*ebpf.Program
	ports    map[int]*fencePort      // by interface index
	classic  bool                    // no TCX in this kernel
	ending   map[[16]byte]lease.Time // guards that end by themselves, and when
	taken    int                     // the slot that was given out last
	closed   bool
}

// OpenFence loads the fence, or takes over the one that is there with all its
// deadlines, attaches it to every interface and checks that it works. The error
// wraps [ErrFenceUnavailable] or [ErrFenceUnsafe].
func OpenFence(k *Kernel, c FenceConfig) (*Fence, error) {
	f := &Fence{
		kernel: k, logger: c.Logger, ports: make(map[int]*fencePort),
		programs: make(map[programKey]*ebpf.Program), ending: make(map[[16]byte]lease.Time), linger: lingerFor, taken: firstSlot - 1,
	}
	if f.logger == nil {
		f.logger = slog.New(slog.DiscardHandler)
	}
	err := f.load(c.Dir)
	if err == nil {
		err = f.checkAll()
	}
	if err == nil {
		err = f.meet()
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *Fence) load(dir string) error {
	dir, err := fenceDir(dir)
	if err != nil {
		return err
	}
	if err := haveDescriptors(); err != nil {
		return fmt.Errorf("open fence: %w", err)
	}
	if err := makePinDir(dir); err != nil {
		return unavailable(err)
	}
	f.dir = dir
	_ = rlimit.RemoveMemlock() // before Linux 5.11 maps count against it
	if f.maps, err = openMaps(dir, false); err != nil {
		return unavailable(err)
	}
	f.memory, err = mapSlots(f.maps.slots, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		return unavailable(err)
	}
	return nil
}

// unavailable makes an error say that the fence is not to be had, unless it is
// only that something ran out: that is no reason for a weaker one.
func unavailable(err error) error {
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EAGAIN, unix.ENOSPC} {
		if errors.Is(err, e) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", ErrFenceUnavailable, err)
}

// program returns a program of the fence: the one that a former process pinned,
// if it is the same to the last instruction, as the kernel takes tens of
// milliseconds to verify it; a restarted agent has not many of them.
func (f *Fence) program(framed framing, i int) (*ebpf.Program, error) {
	key := programKey{framed, i}
	if p := f.programs[key]; p != nil {
		return p, nil
	}
	d := directions()[i]
	name, err := programName(d, framed)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(f.dir, name)
	p, err := f.pinnedProgram(path)
	if errors.Is(err, os.ErrNotExist) {
		p, err = ebpf.NewProgram(fenceProgram(d, framed, f.maps.fds()))
		if err == nil {
			err = p.Pin(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("load program: %w", err)
	}
	f.programs[key] = p
	return p, nil
}

type programKey struct {
	framed    framing
	direction int // index in directions
}

// word is a 64-bit field of a slot, to be read and stored atomically.
func (f *Fence) word(slot, field int) *uint64 {
	return (*uint64)(unsafe.Pointer(&f.memory[slot*slotSize+field]))
}

// Guard makes the kernel refuse what claims the addresses, and what is sent to
// them, wherever the fence is (see [Fence.Check]). One that was open is closed. It
// is the first step of raising an address and the first of lowering it. An error
// means that some of them may not be guarded; all were tried.
func (f *Fence) Guard(addresses []netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var none [refusedSize]byte
	closed := encodeEntry(vip.Pass{}, closedSlot, closedSlot)
	var failed error // the first
	for _, a := range addresses {
		key := fenceKey(a)
		if err := f.maps.addresses.Update(key[:], closed[:], ebpf.UpdateAny); err != nil {
			if failed == nil {
				failed = fmt.Errorf("guard %s: %w", a, err)
			}
			continue
		}
		delete(f.ending, key)
		err := f.maps.refused.Update(key[:], none[:], ebpf.UpdateNoExist)
		if err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
			f.logger.Warn("refused packets are not counted", "address", a, "err", err)
		}
	}
	return failed
}

// Open lets guarded addresses pass while the deadline of their session lies
// ahead, and that of the other session if one is named. An address that is not
// guarded, or a session without a slot, is an error; those before it are open.
func (f *Fence) Open(passes []vip.Pass) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	slots := map[uint64]int{}
	for _, p := range passes {
		slot, err := f.slotOf(slots, p.Session)
		if err != nil {
			return fmt.Errorf("open %s: %w", p.Address, err)
		}
		also := slot
		if p.Also != 0 {
			if also, err = f.slotOf(slots, p.Also); err != nil {
				return fmt.Errorf("open %s: %w", p.Address, err)
			}
		}
		key, entry := fenceKey(p.Address), encodeEntry(p, slot, also)
		if _, ends := f.ending[key]; ends {
			return fmt.Errorf("open %s: it is not guarded", p.Address)
		}
		if err := f.maps.addresses.Update(key[:], entry[:], ebpf.UpdateExist); err != nil {
			return fmt.Errorf("open %s: %w", p.Address, err)
		}
	}
	return nil
}

// slotOf finds the slot of a session, and remembers it in known.
func (f *Fence) slotOf(known map[uint64]int, session uint64) (int, error) {
	if slot, ok := known[session]; ok {
		return slot, nil
	}
	slot, ok := f.find(session)
	if !ok || session == 0 { // free slots have none
		return 0, fmt.Errorf("session %d has no slot", session)
	}
	known[session] = slot
	return slot, nil
}

// lingerFor is how long an address that is down stays guarded. Packets that claim
// it can wait in the queue of a neighbour that does not answer, and leave when it
// does, or never: three questions, one second apart, is how long the kernel asks.
const lingerFor = 5 * time.Second

// Forget ends the guard of addresses that are confirmed down, in a while: what
// was sent when they were up may still wait for a neighbour. The guard ends by
// itself, also if this process does not live to see it.
func (f *Fence) Forget(addresses []netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	until := Boottime().Add(f.linger)
	entry := encodeEntry(vip.Pass{}, closedSlot, closedSlot)
	binary.NativeEndian.PutUint64(entry[entryUntil:], uint64(until))
	for _, a := range addresses {
		key := fenceKey(a)
		err := f.maps.addresses.Update(key[:], entry[:], ebpf.UpdateExist)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("forget %s: %w", a, err)
		}
		f.ending[key] = until
	}
	return nil
}

// tidy removes the entries of guards that have ended.
func (f *Fence) tidy() {
	now := Boottime()
	for key, until := range f.ending {
		if now < until {
			continue
		}
		_ = f.maps.addresses.Delete(key[:]) // it guards nothing any more
		_ = f.maps.refused.Delete(key[:])
		delete(f.ending, key)
	}
}

// meet finds the guards that a former process has left to end by themselves.
func (f *Fence) meet() error {
	list, err := readAddresses(f.maps)
	for _, a := range list {
		if a.Until != 0 {
			f.ending[fenceKey(a.Address)] = a.Until
		}
	}
	return err
}

// Guarded returns the guarded addresses, open or not, without those whose guard
// ends by itself.
func (f *Fence) Guarded() ([]netip.Addr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list, err := readAddresses(f.maps)
	if err != nil {
		return nil, err
	}
	out := make([]netip.Addr, 0, len(list))
	for _, a := range list {
		if a.Until == 0 {
			out = append(out, a.Address)
		}
	}
	return out, nil
}

// Slot gives the session a deadline of its own in the kernel, or finds the one
// that a former process gave it, with its deadline as it is. store sets it: one
// atomic store, which waits for nothing and may come from any thread. A deadline
// is absolute, CLOCK_BOOTTIME; 0 closes.
func (f *Fence) Slot(session uint64) (store func(deadline lease.Time), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if session == 0 {
		return nil, errors.New("slot: no session")
	}
	slot, ok := f.find(session)
	if !ok {
		if slot, ok = f.free(); !ok {
			return nil, fmt.Errorf("slot of session %d: all %d are taken", session, slotCount)
		}
		f.taken = slot
		f.assign(slot, session)
	}
	deadline := f.word(slot, slotDeadline)
	return func(t lease.Time) { atomic.StoreUint64(deadline, uint64(max(t, 0))) }, nil
}

// assign gives a slot to a session, closed.
func (f *Fence) assign(slot int, session uint64) {
	atomic.StoreUint64(f.word(slot, slotDeadline), 0)
	atomic.StoreUint64(f.word(slot, slotSession), session)
}

func (f *Fence) find(session uint64) (slot int, ok bool) {
	for i := firstSlot; i < slotCount; i++ {
		if atomic.LoadUint64(f.word(i, slotSession)) == session {
			return i, true
		}
	}
	return 0, false
}

// free finds a free slot, in turn: a slot is not used again before all others
// were, as somebody may still be about to store the deadline of its last
// session.
func (f *Fence) free() (slot int, ok bool) {
	for n := range slotCount - firstSlot {
		i := firstSlot + (f.taken-firstSlot+1+n)%(slotCount-firstSlot)
		if atomic.LoadUint64(f.word(i, slotSession)) == 0 {
			return i, true
		}
	}
	return 0, false
}

// Keep closes all slots but those of the sessions, for good. What was open under
// any other session is refused from now on.
func (f *Fence) Keep(sessions []uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := firstSlot; i < slotCount; i++ {
		s := atomic.LoadUint64(f.word(i, slotSession))
		if s != 0 && !slices.Contains(sessions, s) {
			f.assign(i, 0)
		}
	}
	return nil
}

// Deadline reads back from the kernel until when a session's addresses pass; 0
// if it has no slot. It waits for nothing.
func (f *Fence) Deadline(session uint64) lease.Time {
	if slot, ok := f.find(session); ok {
		return lease.Time(atomic.LoadUint64(f.word(slot, slotDeadline)))
	}
	return 0
}

// Close lets go of the fence. It stays in the kernel as it is, with its
// deadlines, as long as an address is guarded; else it is taken away.
func (f *Fence) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	f.closed = true
	if f.maps.addresses != nil && f.empty() {
		if f.classic {
			_ = f.kernel.removeClassic()
		}
		_ = removePins(f.dir)
	}
	for _, p := range f.ports {
		p.close()
	}
	for _, p := range f.programs {
		_ = p.Close()
	}
	// The memory stays mapped: a store that is still to come must not crash.
	f.maps.close()
}

func (f *Fence) empty() bool {
	var first [16]byte
	return errors.Is(f.maps.addresses.NextKey(nil, &first), ebpf.ErrKeyNotExist)
}

// fenceKey is an address as the maps have it: 16 bytes, IPv4 as v4-mapped.
func fenceKey(a netip.Addr) [16]byte { return a.WithZone("").As16() }

// encodeEntry makes an address's entry in the map of addresses, in native order:
//
//	 0  slot (4)                4  the other slot (4)
//	 8  epoch (8)
//	16  session that the slot must have (8)
//	24  session that the other slot must have (8)
//	32  when the guard ends by itself (8), CLOCK_BOOTTIME; 0 = never
//
// Without another session both are the same.
func encodeEntry(p vip.Pass, slot, also int) (b [entrySize]byte) {
	if p.Also == 0 {
		p.Also, also = p.Session, slot
	}
	binary.NativeEndian.PutUint32(b[entrySlot:], uint32(slot))
	binary.NativeEndian.PutUint32(b[entryAlso:], uint32(also))
	binary.NativeEndian.PutUint64(b[entryEpoch:], p.Epoch)
	binary.NativeEndian.PutUint64(b[entrySession:], p.Session)
	binary.NativeEndian.PutUint64(b[entryAlsoSession:], p.Also)
	return b
}

// decodeEntry reads what encodeEntry wrote.
func decodeEntry(key [16]byte, b [entrySize]byte) FenceAddress {
	a := FenceAddress{
		Address: netip.AddrFrom16(key).Unmap(),
		Open:    binary.NativeEndian.Uint32(b[entrySlot:]) != closedSlot,
		Epoch:   binary.NativeEndian.Uint64(b[entryEpoch:]),
		Session: binary.NativeEndian.Uint64(b[entrySession:]),
		Also:    binary.NativeEndian.Uint64(b[entryAlsoSession:]),
		Until:   lease.Time(binary.NativeEndian.Uint64(b[entryUntil:])),
	}
	if a.Also == a.Session {
		a.Also = 0
	}
	return a
}
