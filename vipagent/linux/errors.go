package linux

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"holdfast/vipagent/vip"
)

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
	// ErrNotUp: the VIP to refresh is not there.
	ErrNotUp = errors.New("not up")
	// ErrUnreachable: nobody answered for the address before the context ended.
	ErrUnreachable = errors.New("no answer")
)

// ConflictError says that the host holds an address that equals a VIP but was
// not added by us. It is never changed, and as long as it is there the host
// answers for the VIP without a lease.
type ConflictError struct {
	VIP   netip.Addr
	Found vip.Address // what is there

	found record
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

// failures collects what failed; an address counts once.
type failures struct {
	verb   string
	failed []Failure
	seen   map[vip.Address]bool
}

func (f *failures) add(a vip.Address, err error) {
	if f.has(a) {
		return
	}
	if f.seen == nil {
		f.seen = make(map[vip.Address]bool)
	}
	f.seen[a] = true
	f.failed = append(f.failed, Failure{a, err})
}

func (f *failures) has(a vip.Address) bool {
	return f.seen[a]
}

// err returns nil or a [BatchError].
func (f *failures) err() error {
	if len(f.failed) == 0 {
		return nil
	}
	return &BatchError{Verb: f.verb, Failed: f.failed}
}

// explain puts the kernel's error number in words where it misleads.
func explain(a vip.Address, err error) error {
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%w: %w", ErrNoInterface, err)
	case errors.Is(err, unix.EACCES) && a.IP().Is6():
		return fmt.Errorf("%w (net.ipv6.conf.%s.disable_ipv6): %w", ErrIPv6Off, a.Interface, err)
	}
	return err
}
