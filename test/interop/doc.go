// Package interop runs VRRP speakers beside each other in the lab and judges them
// by their packets: Keepalived, FRR's vrrpd, and vipagent with a keepalived.conf.
//
// A cell of the matrix is data: what the two hosts' configurations say, what
// happens, and who has the addresses after it. Every cell runs with each program
// on either side. It passes when
//
//   - each step ends in time with the expected router, by the address tables of
//     both kernels, by the advertisements heard on each host's cable, and by who
//     answers a client; and stays so;
//   - between the steps nobody else claims anything, and within them two routers
//     have an address together for no longer than a packet takes on a busy machine;
//   - every advertisement is right to the last bit, by the lab's own decoder, and
//     tshark has no word against it;
//   - the log of Keepalived, or of FRR, has no complaint about the other's
//     advertisements.
//
// The bench is held against itself: with Keepalived on both sides every cell
// passes, and planted faults (a wrong password, a wrong checksum, a second holder)
// must be found.
//
// Short cells run several at a time. HOLDFAST_INTEROP=1 (`make interop`) adds the
// control cells, with Keepalived on both sides, and longer measurements.
package interop
