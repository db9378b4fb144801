// Package vrrp is the Virtual Router Redundancy Protocol without a network: the
// codec of its advertisements and the state machine of one virtual router. It
// follows RFC 9568 (and RFC 5798 before it) for version 3 and RFC 3768 for
// version 2, and what Keepalived really sends and accepts where that differs. The
// package is pure: no I/O, no goroutine, no clock; time is an argument.
//
// # How the parts go together
//
// [Config.Accept] makes an event of a received packet, or says under which counter
// it is refused. [Machine.Step] takes events in and returns what has to be done;
// [Machine.Due] says when it wants to hear of the time. [Machine.Advertisement] and
// [Advertisement.Append], with [Machine.Form], make the bytes of a [Send]. Machines of
// a sync group are stepped by their [SyncGroup]. [Stats] counts what went by.
//
// # Where it departs from Keepalived
//
//   - Addresses are lowered before priority 0 is sent, not after: by then the next
//     Active router may have raised them.
//   - Advertisements keep their rhythm: each is due an interval after the last one
//     was due, not after it was sent.
//   - Packets that are discarded do not put the next advertisement off.
//   - A change of priority moves the timer of a Backup by the difference in skew,
//     and by nothing else when the last advertisement had priority 0.
//   - Of two routers of priority 255 one gives way in a bounded time: answers count too.
//   - A version 3 packet over IPv4 is accepted with and without a pseudo-header in its
//     checksum, but never with a wrong one.
//   - Padding of a frame has an upper limit, and an interval of zero is refused.
//   - Version 2 is for IPv4 alone, and there is no authentication by IPsec AH.
package vrrp
