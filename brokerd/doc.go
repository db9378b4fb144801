// Package brokerd is one replica of a broker group: the owner of its commit log, of its
// part in the replication and of the consumers' state.
//
// # One owner
//
// One goroutine, the owner, tells package replica what happens and carries out the acts
// that it answers with, all of them, in order, before anything else touches the log. What a
// client asks for becomes a task of the owner: it is admitted, appended, committed in one
// batch with others, and answered when the replica says that it is confirmed. Appends are
// committed before the owner turns to a view or a message, so the log never changes behind
// the replica's back.
//
// Reading needs no owner: after each turn it publishes how far may be read, and readers go
// to the log themselves.
//
// # When it ends
//
// An act that fails, a log that fails, and a disk that does not answer for [stuck] end the
// process: what was confirmed is on the other replicas, and another process starts from what
// the disk has. A hung disk must not keep a lease.
package brokerd
