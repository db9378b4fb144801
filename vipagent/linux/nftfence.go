package linux

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/vip"
)

// ErrRebuilt: the fence was damaged by another program and is whole again. Until
// then packets may have passed.
var ErrRebuilt = errors.New("fence rebuilt")

var errNFTClosed = errors.New("nft fence is closed")

const (
	nftOwner   = 0x2 // NFT_TABLE_F_OWNER
	nftPersist = 0x4 // NFT_TABLE_F_PERSIST
	// probeSlot belongs to no session.
	probeSlot = ^uint32(0)
)

// NFTFence is the weaker fence, of nf_tables: an address is open while the slot
// of its session is in a set from which the kernel takes it when its time is up.
//
// It is weaker than a deadline that the kernel compares with its clock. The
// kernel takes a remaining time and no point in time: an agent that is stopped
// between reading the clock and the kernel's taking over the time opens the
// address again when it goes on, for a few milliseconds, until it has checked the
// clock once more and closed it. The rules do not see what is sent on packet
// sockets, which our own announcements use, and they do not know VRRP. Anybody
// with the rights can delete the tables; see [NFTFence.Check].
//
// Where the kernel has it (Linux 6.9) the tables are owned by this process and
// outlive it: flags owner and persist. Owner alone would delete them with the
// process, which opens the addresses just when it was killed. With both nobody
// else can change or flush them while the process lives, be it frozen; when it is
// dead they close at the deadline all the same, and the next process owns them.
// Without the flags "nft flush ruleset" deletes them.
//
// Ownership goes with a socket, so that renewals share it with all else. They
// would wait for each other in any case: the kernel makes one transaction at a
// time, and ours are short.
type NFTFence struct {
	conn    *conn
	sets    []nftSet
	flags   uint32 // of the tables
	inPlace bool   // the kernel gives an element that is there a new time
	lost    chan struct{}
	clock   func() lease.Time // Boottime

	mu     sync.Mutex // before nftSlot.mu, before conn.mu
	passes map[netip.Addr]vip.Pass
	slots  map[uint64]*nftSlot
	next   uint32 // slots are not used twice, so that a forgotten one opens nothing
	noted  string // what was repaired since the last Check
	closed bool
}

// OpenNFT opens the fence in the network namespace of the calling thread. It
// takes over what an earlier process left: addresses, sessions and their
// deadlines. It fails if another process that is alive owns the fence.
func OpenNFT() (*NFTFence, error) { return openNFT(nftOwner | nftPersist) }

func openNFT(flags uint32) (*NFTFence, error) {
	c, err := dialNetlink(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open nft fence: %w", err)
	}
	f := &NFTFence{
		conn: c, sets: nftSets(), flags: flags, lost: make(chan struct{}, 1), clock: Boottime,
		passes: map[netip.Addr]vip.Pass{}, slots: map[uint64]*nftSlot{},
	}
	if err := f.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("open nft fence: %w", err), c.close())
	}
	return f, nil
}

func (f *NFTFence) start() error {
	state, err := f.conn.readNFT(f.sets)
	if err != nil {
		return err
	}
	if err := f.claim(state); err != nil {
		return err
	}
	f.adopt(state)
	if _, err := f.check(); err != nil {
		return err
	}
	f.inPlace, err = f.probe()
	for _, s := range f.slots {
		s.prepare()
	}
	return err
}

// claim makes the tables ours, or creates them.
func (f *NFTFence) claim(state nftState) error {
	msgs, err := nftSkeleton(f.flags)
	if err != nil {
		return err
	}
	if len(state.tables) > 0 {
		msgs = nil
		for family := range state.tables {
			msgs = append(msgs, tableMessage(unix.NFT_MSG_NEWTABLE, 0, family, f.flags))
		}
	}
	err = f.conn.transact(msgs)
	if f.flags != 0 && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)) {
		f.flags = 0
		return f.claim(state)
	}
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("no right to change nf_tables, or a living process owns the fence: %w", err)
	}
	return err
}

// adopt makes what the kernel holds what is wanted.
func (f *NFTFence) adopt(state nftState) {
	table := state.table(f.sets)
	for _, a := range table.Addresses {
		f.passes[a.Address] = vip.Pass{Address: a.Address, Epoch: a.Epoch, Session: a.Session, Also: a.Also}
	}
	for _, s := range table.Sessions {
		f.next = max(f.next, uint32(s.Slot))
		f.slots[s.Session] = f.newSlot(s.Session, uint32(s.Slot))
		f.slots[s.Session].deadline, f.slots[s.Session].held = s.Deadline, s.Deadline
	}
}

// probe asks whether the kernel gives an element that is there a new time
// (Linux 6.12); older ones say yes and do nothing.
func (f *NFTFence) probe() (bool, error) {
	set := f.sets[0]
	e := nftElement{key: slotKey(probeSlot), left: time.Hour}
	once := set.elements(unix.NFT_MSG_NEWSETELEM, []nftElement{e})
	e.left *= 2
	twice := set.elements(unix.NFT_MSG_NEWSETELEM, []nftElement{e})
	if err := errors.Join(f.conn.transact(once), f.conn.transact(twice)); err != nil {
		return false, err
	}
	list, err := f.conn.dumpElements(set)
	inPlace := slices.ContainsFunc(list, func(got nftElement) bool { return got.key == e.key && got.left > time.Hour })
	return inPlace, errors.Join(err, f.conn.transact(set.elements(unix.NFT_MSG_DELSETELEM, []nftElement{{key: e.key}})))
}

// Close lets go of the fence, which stays as it is as long as it guards an
// address: what is open closes at its deadline. Renewals after it do nothing.
func (f *NFTFence) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	f.closed = true
	for _, s := range f.slots {
		s.retire()
	}
	if tables, err := f.conn.nftTables(); err == nil && len(f.passes) == 0 && len(tables) > 0 {
		_ = f.conn.transact(deleteTables(tables))
	}
	_ = f.conn.close()
}

// Lost receives a value when a renewal has failed, as it does when the tables
// are gone: it is time for a Check.
func (f *NFTFence) Lost() <-chan struct{} { return f.lost }

// Guard closes the addresses: from now on what claims them or is sent to them is
// dropped on every interface but loopback.
func (f *NFTFence) Guard(addresses []netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	passes := make([]vip.Pass, len(addresses))
	for i, a := range addresses {
		passes[i].Address = a
	}
	return f.change("guard", passes, nil)
}

// Open lets the packets of guarded addresses pass while the deadlines of all
// their sessions lie ahead. If an address is not guarded, or a session has no
// slot, none is opened.
func (f *NFTFence) Open(passes []vip.Pass) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range passes {
		if _, ok := f.passes[plain(p.Address)]; !ok {
			return fmt.Errorf("open %v: it is not guarded", p.Address)
		}
		for _, session := range []uint64{p.Session, p.Also} {
			if f.slots[session] == nil && (session != 0 || p.Session == 0) {
				return fmt.Errorf("open %v: session %d has no slot", p.Address, session)
			}
		}
	}
	return f.change("open", passes, nil)
}

// Forget stops guarding addresses, which must be down.
func (f *NFTFence) Forget(addresses []netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.change("forget", nil, addresses)
}

// Guarded returns the guarded addresses, open or not.
func (f *NFTFence) Guarded() ([]netip.Addr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(maps.Keys(f.passes), netip.Addr.Compare), nil
}

// Slot returns the function that stores the session's deadline in the kernel: a
// renewal. It returns when the kernel has it and tells no errors: Check does. A
// deadline that has passed closes.
func (f *NFTFence) Slot(session uint64) (store func(deadline lease.Time), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return nil, errNFTClosed
	case session == 0:
		return nil, errors.New("fence slot: no session")
	}
	s := f.slots[session]
	if s == nil {
		f.next++
		s = f.newSlot(session, f.next)
		f.slots[session] = s
	}
	return s.store, nil
}

// Deadline returns until when packets of the session's addresses pass: the last
// deadline that the kernel took, 0 if it has none.
func (f *NFTFence) Deadline(session uint64) lease.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.slots[session]; s != nil {
		return s.taken()
	}
	return 0
}

// Keep closes and frees the slots of all other sessions, and what they opened.
func (f *NFTFence) Keep(sessions []uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errNFTClosed
	}
	kept := func(session uint64) bool { return session == 0 || slices.Contains(sessions, session) }
	var errs []error
	for _, session := range slices.Sorted(maps.Keys(f.slots)) {
		if !kept(session) {
			errs = append(errs, f.slots[session].free())
			delete(f.slots, session)
		}
	}
	var passes []vip.Pass
	for a, p := range f.passes {
		if !kept(p.Session) || !kept(p.Also) {
			passes = append(passes, vip.Pass{Address: a})
		}
	}
	return errors.Join(errors.Join(errs...), f.change("close", passes, nil))
}

// Check repairs what another program has damaged: the tables first, in which all
// is closed, then what is open. It returns an [ErrRebuilt] if there was something
// to do since the last call. Renewals that fail are its business too. It does not
// look into the rules: one that was replaced under the same comment escapes it.
func (f *NFTFence) Check() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errNFTClosed
	}
	var why string
	var err error
	if f.failing() != nil || !f.untouched() {
		if why, err = f.check(); why != "" {
			f.noted = why
		}
	}
	if err = errors.Join(err, f.failing()); err != nil {
		return fmt.Errorf("check nft fence: %w", err)
	}
	if why, f.noted = f.noted, ""; why != "" {
		return fmt.Errorf("%w: %s", ErrRebuilt, why)
	}
	return nil
}

// failing returns why the last renewals of sessions failed.
func (f *NFTFence) failing() error {
	var errs []error
	for _, session := range slices.Sorted(maps.Keys(f.slots)) {
		if err := f.slots[session].failure(); err != nil {
			errs = append(errs, fmt.Errorf("session %d: %w", session, err))
		}
	}
	return errors.Join(errs...)
}

// untouched: the kernel has let nobody but us change the tables. It saves reading
// all of them, 17 ms for 1,000 addresses.
func (f *NFTFence) untouched() bool {
	tables, err := f.conn.nftTables()
	return err == nil && f.flags == nftOwner|nftPersist && tables[nftInet] == f.flags && tables[nftARP] == f.flags
}

// Show reads the fence back from the kernel.
func (f *NFTFence) Show() (FenceTable, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return FenceTable{}, errNFTClosed
	}
	state, err := f.conn.readNFT(f.sets)
	if err != nil {
		return FenceTable{}, fmt.Errorf("show nft fence: %w", err)
	}
	return state.table(f.sets), nil
}

// ShowNFT reads the fence of another process, in the network namespace of the
// calling thread. The error wraps [ErrNoFence] if there is none.
func ShowNFT() (FenceTable, error) {
	c, err := dialNetlink(unix.NETLINK_NETFILTER)
	if err != nil {
		return FenceTable{}, fmt.Errorf("show nft fence: %w", err)
	}
	defer c.close()
	if tables, err := c.nftTables(); err == nil && len(tables) == 0 {
		return FenceTable{}, fmt.Errorf("%w: nftables has none", ErrNoFence)
	}
	f := &NFTFence{conn: c, sets: nftSets()}
	return f.Show()
}

// RemoveNFT deletes the fence from the network namespace of the calling thread,
// if it is there. What it guarded is open from then on. The kernel refuses it
// while the process that owns the fence lives.
func RemoveNFT() error {
	c, err := dialNetlink(unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("remove nft fence: %w", err)
	}
	defer c.close()
	tables, err := c.nftTables()
	if err != nil || len(tables) == 0 {
		return err
	}
	if err := c.transact(deleteTables(tables)); err != nil {
		return fmt.Errorf("remove nft fence: %w", err)
	}
	return nil
}

func (f *NFTFence) newSlot(session uint64, number uint32) *nftSlot {
	s := &nftSlot{fence: f, number: number, session: session}
	s.prepare()
	return s
}
