package record

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

// Unmarked is the mark of a record of whose surroundings nothing is known.
const Unmarked = math.MaxUint32

// SetMark writes a replica's own note into a whole record: how many bytes right before it
// were not durable yet on that replica's disk when it was written. The note is not under
// the record's checksum, so that records are the same everywhere; its check is the
// CRC-32C of mark and checksum.
//
// What it is for: behind a power loss the disk may have a record whole and the one
// before it in part. If the mark says that the one before was durable, this is damage;
// else it is the torn end of the log.
func SetMark(b []byte, unsynced uint32) {
	_ = b[HeaderSize-1]
	binary.BigEndian.PutUint32(b, unsynced)
	binary.BigEndian.PutUint32(b[checkAt:], markCheck(b))
}

// Mark reads the note; false if it was damaged.
func Mark(b []byte) (unsynced uint32, ok bool) {
	if len(b) < HeaderSize || binary.BigEndian.Uint32(b[checkAt:]) != markCheck(b) {
		return 0, false
	}
	return binary.BigEndian.Uint32(b), true
}

func markCheck(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:checkAt], table()), table(), b[checksumAt:checksumAt+4])
}
