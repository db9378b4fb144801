package linux

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"holdfast/vipagent/vip"
)

// Protocol is the address protocol number (IFA_PROTO) that marks our addresses.
// "ip address show proto 0x48" lists them.
const Protocol = 0x48

// Config is what [Open] needs.
type Config struct {
	Logger *slog.Logger // nil discards
}

// Interface is a network interface of the host.
type Interface struct {
	Name     string
	Index    int
	MAC      net.HardwareAddr // empty if it has none
	MTU      int
	Up       bool // switched on and with carrier: able to pass packets
	Loopback bool
	NoARP    bool // has no neighbours to announce to
}

// EventKind says what an [Event] reports.
type EventKind uint8

// The kinds of events.
const (
	// Resynced: everything has been read from the kernel; the first event of
	// a watch, and again after events were lost (the differences that were
	// found come before it). Time for a full comparison.
	Resynced EventKind = iota + 1
	AddressAppeared
	AddressGone // also for removals of our own
	LinkUp      // able to pass packets
	LinkDown    // exists, but is switched off or has no carrier
	LinkGone    // deleted, renamed or moved to another namespace
)

// String returns the kind in words.
func (k EventKind) String() string {
	switch k {
	case Resynced:
		return "resynced"
	case AddressAppeared:
		return "address appeared"
	case AddressGone:
		return "address gone"
	case LinkUp:
		return "link up"
	case LinkDown:
		return "link down"
	case LinkGone:
		return "link gone"
	}
	return fmt.Sprintf("event %d", uint8(k))
}

// Event is a change in the kernel.
type Event struct {
	Kind      EventKind
	Interface string     // empty for Resynced
	Address   vip.Actual // for the address kinds
}

// ClaimKind says how a foreign claim was made.
type ClaimKind uint8

// The kinds of claims.
const (
	ClaimARP ClaimKind = iota + 1 // ARP packet with our address as its sender
	ClaimNA                       // neighbour advertisement for our address
	ProbeARP                      // ARP probe: somebody is about to use our address
	ProbeDAD                      // neighbour solicitation of duplicate address detection: the same for IPv6
)

// String returns the kind in words.
func (k ClaimKind) String() string {
	switch k {
	case ClaimARP:
		return "ARP claim"
	case ClaimNA:
		return "neighbour advertisement"
	case ProbeARP:
		return "ARP probe"
	case ProbeDAD:
		return "duplicate address detection"
	}
	return fmt.Sprintf("claim %d", uint8(k))
}

// Claim is a packet in which another host claims one of our addresses.
type Claim struct {
	Kind      ClaimKind
	Address   netip.Addr
	MAC       net.HardwareAddr // of the claimant
	Interface string           // where it was seen
}

// Kernel changes and reads the addresses of one network namespace. It is safe
// for concurrent use; changes wait for each other.
type Kernel struct {
	logger *slog.Logger
	links  *netlink.Handle
	reads  *conn // Addresses and Interfaces, so that they need not wait for a change
	sender int   // AF_PACKET socket that receives nothing

	mark        byte // Protocol; a test takes it away, as an old kernel does
	watchBuffer int  // receive buffer of watches in bytes; 0 = as large as may be

	change  sync.Mutex // held by Add, Refresh and Remove
	writes  *conn
	marking bool // an added address was seen to bear our mark; guarded by change
	// unmarked are plain addresses that this process added to a kernel that keeps no
	// marks; guarded by change.
	unmarked map[plainPlace]bool
}

// Open opens the sockets in the network namespace of the calling thread. It
// changes nothing.
func Open(cfg Config) (*Kernel, error) {
	k := &Kernel{logger: cfg.Logger, sender: -1, mark: Protocol}
	if k.logger == nil {
		k.logger = slog.New(slog.DiscardHandler)
	}
	var err error
	if k.reads, err = dialRoute(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	if k.writes, err = dialRoute(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	if k.links, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, errors.Join(fmt.Errorf("open link socket: %w", err), k.Close())
	}
	if k.sender, err = openSender(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// Close frees the sockets. Addresses stay. No method may be called afterwards.
func (k *Kernel) Close() error {
	var errs []error
	if k.reads != nil {
		errs = append(errs, k.reads.close())
	}
	if k.writes != nil {
		errs = append(errs, k.writes.close())
	}
	if k.links != nil {
		k.links.Close()
	}
	if k.sender >= 0 {
		errs = append(errs, unix.Close(k.sender))
	}
	return errors.Join(errs...)
}

// Addresses returns all addresses of the host, ours and others, sorted.
func (k *Kernel) Addresses() ([]vip.Actual, error) {
	// Addresses first: an interface that vanishes in between took its
	// addresses along, one that appears has none of those.
	records, err := dumpAddresses(k.reads)
	if err != nil {
		return nil, err
	}
	names, err := k.names()
	if err != nil {
		return nil, err
	}
	out := make([]vip.Actual, 0, len(records))
	for _, r := range records {
		if name, ok := names[r.index]; ok {
			out = append(out, r.actual(name))
		}
	}
	slices.SortFunc(out, func(a, b vip.Actual) int { return a.Compare(b.Address) })
	return out, nil
}
