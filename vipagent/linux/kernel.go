package linux

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"holdfast/vipagent/vip"
)

// Protocol is the address protocol number (IFA_PROTO) that marks our addresses.
// "ip address show proto 0x48" lists them.
const Protocol = 0x48

// Errors that callers distinguish. They come wrapped, for single addresses in a
// [BatchError].
var (
	// ErrNoInterface: the interface does not exist (now).
	ErrNoInterface = errors.New("no such interface")
	// ErrNoMark: the kernel does not keep address protocol numbers, so that
	// our addresses could not be told from others. Linux 5.18 and later do.
	ErrNoMark = errors.New("kernel keeps no address protocol (needs Linux 5.18)")
	// ErrIPv6Off: IPv6 is disabled on the interface.
	ErrIPv6Off = errors.New("IPv6 is disabled on the interface")
	// ErrUnreachable: nobody answered for the address before the context ended.
	ErrUnreachable = errors.New("no answer")
)

// ConflictError says that the host holds an address that equals a VIP but was
// not added by us. It is never changed, and as long as it is there the host
// answers for the VIP without a lease.
type ConflictError struct {
	VIP   netip.Addr
	Found vip.Address // what is there
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("another program holds %s", e.Found)
}

// NoSubnetError says that no interface is connected to the subnet of a VIP.
type NoSubnetError struct {
	Prefix netip.Prefix
}

func (e *NoSubnetError) Error() string {
	return fmt.Sprintf("no interface has an address in a subnet that holds %s: give this host one in %s, or name the interface in the VIP set",
		e.Prefix.Addr(), e.Prefix.Masked())
}

// Failure is one address for which an operation did not work.
type Failure struct {
	Address vip.Address
	Err     error
}

// BatchError names each address for which an operation failed. It worked for
// all the others.
type BatchError struct {
	Verb   string // "add", "refresh", "remove", "announce"
	Failed []Failure
}

func (e *BatchError) Error() string {
	first := fmt.Sprintf("%s %s: %v", e.Verb, e.Failed[0].Address, e.Failed[0].Err)
	if n := len(e.Failed) - 1; n > 0 {
		return fmt.Sprintf("%s (and %d more)", first, n)
	}
	return first
}

// Unwrap returns the error of each failure.
func (e *BatchError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i, f := range e.Failed {
		errs[i] = f.Err
	}
	return errs
}

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
type Kernel struct{}

// Open opens the sockets; it changes nothing.
func Open(Config) (*Kernel, error) { return nil, errors.ErrUnsupported }

// Close frees the sockets. Addresses stay.
func (k *Kernel) Close() error { return nil }

// Addresses returns all addresses of the host, sorted.
func (k *Kernel) Addresses() ([]vip.Actual, error) { return nil, errors.ErrUnsupported }

// Add brings the VIPs up with the given lifetime, rounded up to whole seconds.
// One that is already up as ours gets the lifetime; one that another program
// holds is a [ConflictError]. The error is a [BatchError].
func (k *Kernel) Add(addresses []vip.Address, lifetime time.Duration) error {
	return errors.ErrUnsupported
}

// Refresh gives VIPs that are up a new lifetime, rounded up to whole seconds.
func (k *Kernel) Refresh(addresses []vip.Address, lifetime time.Duration) error {
	return errors.ErrUnsupported
}

// Remove takes the VIPs down on whatever interface they are, and returns nil
// only after it has read back that the host no longer holds any of them.
func (k *Kernel) Remove(addresses []vip.Address) error { return errors.ErrUnsupported }

// Announce tells the neighbours that the VIPs are here now.
func (k *Kernel) Announce(addresses []vip.Address) error { return errors.ErrUnsupported }

// Interfaces returns the interfaces by index.
func (k *Kernel) Interfaces() ([]Interface, error) { return nil, errors.ErrUnsupported }

// InterfaceFor returns the interface whose subnet holds the address of prefix.
func (k *Kernel) InterfaceFor(prefix netip.Prefix) (string, error) { return "", errors.ErrUnsupported }

// Watch calls f for each change in the kernel until ctx ends.
func (k *Kernel) Watch(ctx context.Context, f func(Event)) error { return errors.ErrUnsupported }

// WatchClaims calls report for packets in which another host claims an address
// for which ours returns true.
func (k *Kernel) WatchClaims(ctx context.Context, ours func(netip.Addr) bool, report func(Claim)) error {
	return errors.ErrUnsupported
}

// Reachable asks by ARP or neighbour solicitation whether addr answers on the
// interface, and asks again until ctx ends.
func Reachable(ctx context.Context, iface string, addr netip.Addr) error {
	return errors.ErrUnsupported
}
