// Package replica holds the rules by which the replicas of a broker group keep one log
// under a master lease: epoch history, confirm offset, in-sync set, contact and cut,
// returns, promotion, and what a promotion loses. DESIGN.md has each rule and its place.
//
// It is PURE. A [Replica] is told of messages, views of the group's state, and progress of
// its disk; it answers with acts, which its owner performs in their order before it tells
// it anything else. An act that fails is fatal: the process ends and starts anew with
// what the disk has. The log's bytes are the owner's; here are offsets and epochs alone.
// Time is an argument, on the clock of the lease (coordinator/lease).
//
// A [Group] is a group's replicated state; its commands are checked when they are applied.
package replica
