// Package linux is the edge to the kernel: addresses, announcements, watches and
// the boot clock. It is the only package with netlink and raw sockets.
//
// # Addresses
//
// Whatever prefix length a VIP is configured with, the kernel gets it as /32 or
// /128. With a longer subnet the first address of that subnet on an interface
// becomes its primary, and deleting a primary IPv4 address deletes its
// secondaries unless promote_secondaries is set, which is not the default. A
// host prefix has no secondaries and is never one, so that deleting one VIP
// cannot delete another or an address of the host; nor does it add or remove a
// connected route. What follows from that: the host needs an address or a route
// of its own in the subnet of the VIP, and arp_ignore=2 and above do not go with
// IPv4 VIPs.
//
// IPv6 VIPs skip duplicate address detection, because the lease proves that they
// are unique. They are added as deprecated (a preferred lifetime of zero): a
// /128 would otherwise win the longest-prefix rule of source address selection
// against the host's own /64, and outgoing connections would break at the next
// takeover. A deprecated address answers and can be bound like any other.
//
// Each address carries [Protocol] as its address protocol (IFA_PROTO, Linux
// 5.18 and later). Only an address with that mark and a host prefix counts as
// ours; all others are never changed. It also carries a lifetime, so that the
// kernel removes it if the agent never comes back.
//
// An interface that is switched off keeps its IPv4 addresses and loses its IPv6
// addresses; both can be added while it is off. Losing the carrier changes
// nothing.
//
// # Where the fence goes
//
// That lifetime is a janitor: whole seconds, up to 350 ms late, and relative, so
// that a call made after a pause puts the address back. The fence that the
// kernel compares with its own clock for each packet (an absolute CLOCK_BOOTTIME
// deadline in a map that a TCX program reads) belongs in this package, in
// fence.go. It must be attached before [Kernel.Add] and outlive
// [Kernel.Remove].
//
// # Network namespaces
//
// A [Kernel] belongs to the network namespace of the thread that called [Open].
// Its methods must be called from a thread in that namespace; a process that
// never changes namespaces need not care.
package linux
