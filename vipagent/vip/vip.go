// Package vip decides what has to change so that a host holds exactly the
// virtual IP addresses (VIPs) it should: [Plan] compares what is wanted with
// what is there, [Lifetime] and [Refresher] say how long the kernel may keep an
// address if the agent never comes back. The package is pure: no I/O, no
// goroutine, no clock of its own; time is an argument and equal input gives
// equal output.
package vip

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"
)

// Address is one VIP on one interface.
type Address struct {
	// Prefix is the address with a prefix length; host bits are kept. For a
	// wanted VIP the length is the one that the operator configured and says
	// only to which subnet the VIP belongs: the kernel always gets [Address.Host].
	Prefix netip.Prefix
	// Interface is the name of the interface, resolved.
	Interface string
}

// Host returns the form in which the kernel holds the VIP: the address alone,
// as /32 or /128. A longer subnet would make a VIP the primary or a secondary
// address of that subnet, and deleting a primary IPv4 address deletes its
// secondaries; a host prefix has none, and it brings no connected route.
func (a Address) Host() Address {
	a.Prefix = netip.PrefixFrom(a.Prefix.Addr(), a.Prefix.Addr().BitLen())
	return a
}

// IP returns the address without prefix length: the identity of a VIP.
func (a Address) IP() netip.Addr { return a.Prefix.Addr() }

// Compare orders addresses by IP (IPv4 first), then prefix length, then
// interface.
func (a Address) Compare(b Address) int {
	return cmp.Or(
		a.Prefix.Addr().Compare(b.Prefix.Addr()),
		cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()),
		strings.Compare(a.Interface, b.Interface),
	)
}

// String returns "10.0.0.5/24 on eth0".
func (a Address) String() string {
	if a.Interface == "" {
		return a.Prefix.String()
	}
	return a.Prefix.String() + " on " + a.Interface
}

// Wanted is a VIP that this host should hold now.
type Wanted struct {
	Address
	Set   string // the VIP set it belongs to
	Epoch uint64 // the epoch of the set's grant
}

// Pass says under which leases packets of a guarded VIP may pass.
type Pass struct {
	// Address is the VIP.
	Address netip.Addr
	// Epoch is that of the grant, for people.
	Epoch uint64
	// Session is the one whose deadline must lie ahead.
	Session uint64
	// Also is a second session whose deadline must lie ahead as well; 0 = none.
	Also uint64
}

// Flags are the states of an address that matter here.
type Flags uint8

// The flags of an address in the kernel.
const (
	Tentative  Flags = 1 << iota // IPv6: duplicate address detection still runs, so the kernel does not answer for it
	DADFailed                    // IPv6: somebody else answered, so the kernel never uses it
	Deprecated                   // not taken as a source address unless a program asks for it
	Secondary                    // IPv4: goes away with the primary address of its subnet
)

// Forever is the ValidLeft of an address that has no lifetime.
const Forever = time.Duration(math.MaxInt64)

// Actual is an address that the kernel holds, ours or not.
type Actual struct {
	Address
	Ours      bool          // bears our mark and was added by us
	ValidLeft time.Duration // time until the kernel removes it, whole seconds rounded up; Forever if it does not
	Flags     Flags
}

// Kind says what an [Op] does.
type Kind uint8

// The kinds of operations, in the order in which a plan holds them.
const (
	Remove   Kind = iota + 1 // take the address down
	Add                      // bring it up
	Refresh                  // give an address that is up a new lifetime
	Announce                 // tell the network where it is
	Blocked                  // wanted, but must not be added; Reason says why; nothing to execute
)

// String returns the kind in lower case.
func (k Kind) String() string {
	switch k {
	case Remove:
		return "remove"
	case Add:
		return "add"
	case Refresh:
		return "refresh"
	case Announce:
		return "announce"
	case Blocked:
		return "blocked"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Op is one step of a plan.
type Op struct {
	Kind    Kind
	Address Address // for Remove exactly what the kernel holds, else what is wanted
	Set     string  // empty for Remove of an address that no set wants
	Epoch   uint64
	Reason  string // why, in words, for logs and status
}

// String returns "add 10.0.0.5/24 on eth0: not there".
func (o Op) String() string {
	return o.Kind.String() + " " + o.Address.String() + ": " + o.Reason
}

// Of returns the addresses of all operations of one kind, in plan order.
func Of(ops []Op, kind Kind) []Address {
	var out []Address
	for _, op := range ops {
		if op.Kind == kind {
			out = append(out, op.Address)
		}
	}
	return out
}
