// Package commitlog keeps the log of a broker group's replica: records (brokerd/record) one
// behind the other, in segment files, and an index of where the messages of each queue are.
//
// # What it promises
//
// A record that was acknowledged under [FlushSync] is durable. Nothing is readable before it
// is acknowledged. Offsets are bytes of records alone, and a queue's positions follow from
// the records, so both are the same on every replica.
//
// After a crash [Open] cuts off what is torn at the end, and nothing else: damage is
// never taken for an end. It tells them apart by the synced end, by the marks in records,
// and by the shape of what is there (torn.go).
//
// A sync that failed stops the log for good. A full disk refuses, and reads go on.
//
// # What it does not
//
// One goroutine at a time may be in Run. A single damaged sector in the records that were
// written last, right before a power loss and within some 20 ms of the last sync, and full
// of zeros, looks like a write that never came to its end: it is cut, kept in a file,
// and reported.
//
// # Files
//
//	00000000000000000000.log    a segment: a preface, and records (preface.go)
//	00000000000000000000.index  where its messages are; not of the last segment (index.go)
//	synced                      up to where all is durable (synced.go)
//	replica                     what the replica keeps beside the log (state.go)
//	cut-*, torn-*               what was cut off
//
// A segment is named for the offset of its first record.
package commitlog
