// Package replica holds the rules by which the replicas of a broker group keep one log
// under a master lease: epoch history, contact and cut, confirm offset, in-sync set,
// returns, flow control, and what a promotion loses. DESIGN.md has each rule and its place.
//
// It is PURE. A [Replica] is told of views of the group's record ([Replica.View]), of
// messages ([Replica.Receive]), of its log ([Replica.Appended], [Replica.Synced],
// [Replica.Trimmed]) and of time ([Replica.Tick]). It answers with acts. Its owner
// performs them in their order, all of them, before it tells it anything else and before
// anything else changes the log. An act that fails is fatal: the process ends and starts
// anew with what the disk has. The log's bytes are the owner's; here are offsets and
// epochs alone. Time is an argument, on the clock of the lease (coordinator/lease).
//
// The rules are named as in DESIGN.md: "master 2" is the second rule of a master.
package replica
