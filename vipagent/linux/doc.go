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
// # The fence
//
// That lifetime is a janitor: whole seconds, up to 350 ms late, and relative, so
// that a call made after a pause puts the address back. The fence ([Fence]) is what
// ends a VIP on time: an absolute CLOCK_BOOTTIME deadline that two eBPF programs
// compare with the kernel's clock for each packet, on every interface but loopback.
//
//	addresses   address -> slot, session; a second slot, session; epoch
//	slots       slot    -> deadline, session      (mapped into memory)
//	refused     address -> packets refused: sent to it, claiming it
//
// An address that is not among the first passes. One that is passes only if both
// slots belong to the sessions that it names and both deadlines lie ahead. So a
// session's renewal is one store, whatever the number of VIPs; a slot that was
// given to another session opens nothing that was raised under the former one; and
// a store that comes late writes a time that has passed.
//
// Everything is pinned, in a directory for each network namespace, and goes on
// without the agent. A restarted agent takes the links over and replaces their
// programs only if they are not its own to the last instruction: verifying them
// takes tens of milliseconds, of which it has not many.
//
// What passes it by: packets through loopback (local clients are the lifetime's
// business), sockets with PACKET_QDISC_BYPASS, AF_XDP, and VIPs inside of tunnels
// that begin on another host. VRRP advertisements are looked into, IPv6 extension
// headers are stepped over (four of them), and up to two VLAN tags.
//
// Where the kernel or the rights do not have eBPF there is [NFTFence]: nf_tables
// rules that let an address pass while its session's slot is in a timed set. Its
// timeouts are relative, so it is weaker; it says how.
//
// # Plain mode
//
// Without a lease nothing ends an address, so that plain addresses are exactly as
// configured, prefix length, label and flags: [PlainAddress]. They, routes and rules
// bear [PlainProtocol], by which a new process knows what a killed one left, and by
// which none of the host's is removed. Removing a primary IPv4 address turns
// promote_secondaries on for that moment if others depend on it. An interface with a
// virtual MAC ([Kernel.AddVMAC]) is known by its alias.
//
// # Network namespaces
//
// A [Kernel] belongs to the network namespace of the thread that called [Open].
// Its methods must be called from a thread in that namespace; a process that
// never changes namespaces need not care.
package linux
