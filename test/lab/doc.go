// Package lab builds a small network on one Linux machine, runs real daemons in
// it, breaks it on purpose and measures what a client sees.
//
// The network has two bridged segments, "a" and "b", joined by a trunk. Host 1
// and client 1 are on segment a; hosts 2 and 3 and client 2 are on segment b.
// Every host has its own network, mount and UTS namespace, its own /run/holdfast
// and a directory that stands for its disk.
//
// Nothing but this program is needed: no root, no ip, nft or ping. A program
// calls [Enter] first; it re-executes the program in new user, network, mount
// and PID namespaces, so that whatever ends the program (kill -9 included) ends
// everything that was started and leaves nothing behind.
//
// What is measured:
//
//   - gap: the longest time without an answer, seen by a client that asks a
//     virtual IP each 2 ms by UDP;
//   - overlap: the longest time in which two hosts that are switched on had the
//     address, by three judges: the kernels' own address tables (netlink), the
//     answers (stamped by the answering host's kernel on arrival), and the
//     claims on the wire (ARP and neighbour advertisements by source address);
//     [Recorder.Strangers] adds somebody who asks for the first time, and so
//     hears a second host that the clients' neighbour tables do not name
//     ([Observations.Both]);
//   - stall: how late the lab's own 2 ms ticks were in the same time. A busy
//     machine shows up here, and no figure is printed without it.
//
// All times are CLOCK_BOOTTIME, which every namespace of the machine shares.
package lab
