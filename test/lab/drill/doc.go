// Package drill breaks a copy of a user's own set-up in the lab: the same sets
// of virtual IPs with the same priorities, on as many hosts, with real daemons.
//
// It runs named scenarios, each against its promise, or random sequences of
// faults for as long as one likes, which a seed repeats. A random drill is
// judged all the time, by the packets on both segments and by the answers that
// clients get, and it fails on one thing alone: two hosts that have an address.
package drill
