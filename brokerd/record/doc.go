// Package record is the codec of the records of a broker's commit log: one starts an
// epoch, the others are messages, and state of their consumers. It is PURE: offsets, epochs and times are arguments.
//
// A record carries where it stands (offset, epoch, and as a link the checksum of the one
// before) under the checksum with its body. So bytes that were once a record somewhere
// else, or that a cut had removed, are never taken for a part of a log.
package record
