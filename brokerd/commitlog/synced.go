package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// syncedName is the file that says up to where the log is durable. It has two slots, each
// in a sector of its own:
//
//	+-------+----------+--------+-------+-----+-------+
//	| magic | checksum | number | first | end | flags |
//	+-------+----------+--------+-------+-----+-------+
//	    4        4         8        8      8      4
//
// The slot of the higher number counts. The checksum is CRC-32C over all behind it;
// numbers are big endian.
//
// What it is for: behind a crash, bytes above the synced end that are no records are a
// write that the crash tore; below it they are damage. A slot is written after each sync
// of the log, and has no sync of its own at that time, see [slots.note].
const (
	syncedName  = "synced"
	syncedMagic = "HFE1"
	slotSize    = 36
	slotSpace   = 4096
)

// slot is what the file says.
type slot struct {
	number uint64
	first  uint64 // retention has deleted nothing from here on
	end    uint64 // of what is durable
	async  bool   // the log acknowledged what was written, durable or not
	clean  bool   // the log was closed, and end is its very end
}

const (
	flagAsync = 1 << iota
	flagClean
)

func (s slot) append(dst []byte) []byte {
	flags := uint32(0)
	if s.async {
		flags |= flagAsync
	}
	if s.clean {
		flags |= flagClean
	}
	at := len(dst)
	dst = append(dst, syncedMagic...)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, s.number)
	dst = binary.BigEndian.AppendUint64(dst, s.first)
	dst = binary.BigEndian.AppendUint64(dst, s.end)
	dst = binary.BigEndian.AppendUint32(dst, flags)
	binary.BigEndian.PutUint32(dst[at+4:], checksum(dst[at+8:]))
	return dst
}

func parseSlot(b []byte) (slot, error) {
	if len(b) != slotSize || string(b[:4]) != syncedMagic || checksum(b[8:]) != binary.BigEndian.Uint32(b[4:]) {
		return slot{}, fmt.Errorf("parse synced end: %w", errFormat)
	}
	flags := binary.BigEndian.Uint32(b[32:])
	if flags&^(flagAsync|flagClean) != 0 {
		return slot{}, fmt.Errorf("parse synced end: flags %x: %w", flags, errFormat)
	}
	return slot{
		number: binary.BigEndian.Uint64(b[8:]),
		first:  binary.BigEndian.Uint64(b[16:]), end: binary.BigEndian.Uint64(b[24:]),
		async: flags&flagAsync != 0, clean: flags&flagClean != 0,
	}, nil
}

// slots writes the file.
type slots struct {
	mu    sync.Mutex
	file  File
	last  slot
	place int64 // slot for the next note: never the one that is durable
	dirty bool  // a note is not durable yet
}

// readSlots reads the one that counts, and where it lies. known is false if neither slot
// can be read.
func readSlots(f File) (s slot, place int64, known bool, err error) {
	for i := range int64(2) {
		b := make([]byte, slotSize)
		switch err := readFull(f, b, i*slotSpace); {
		case errors.Is(err, io.ErrUnexpectedEOF):
			continue
		case err != nil:
			return slot{}, 0, false, fmt.Errorf("read %s: %w", syncedName, err)
		}
		if got, err := parseSlot(b); err == nil && (!known || got.number > s.number) {
			s, place, known = got, i, true
		}
	}
	return s, place, known, nil
}

// createSlots makes the file.
func createSlots(fs FS, s slot) (File, error) {
	s.number++
	b := make([]byte, slotSpace+slotSize)
	copy(b, s.append(nil))
	s.number++
	copy(b[slotSpace:], s.append(nil))
	return create(fs, syncedName, b)
}

// note writes a slot without a sync. The slot that was durable before stays as it is, so
// one can always be read. It comes to the disk when it likes: whatever it says has been
// durable before it was written. After a crash the file may say less than was durable;
// then the marks of later records, and the shape of what is torn, are the evidence.
func (s *slots) note(end uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.last
	next.end, next.clean = end, false
	return s.write(next)
}

func (s *slots) write(next slot) error {
	next.number = s.last.number + 1
	if _, err := s.file.WriteAt(next.append(make([]byte, 0, slotSize)), s.place*slotSpace); err != nil {
		// On a full disk too: what it is about is done already.
		return fmt.Errorf("write %s: %w", syncedName, fatal(err))
	}
	s.last, s.dirty = next, true
	return nil
}

// sync makes the last note durable.
func (s *slots) sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dirty {
		return nil
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", syncedName, fatal(err))
	}
	s.dirty, s.place = false, 1-s.place
	return nil
}

// setSynced has the file say this alone, durably.
func (l *Log) setSynced(first, end uint64, clean bool) error {
	next := slot{first: first, end: end, async: l.opts.Flush == FlushAsync, clean: clean}
	if l.slots.file != nil {
		return l.slots.set(next)
	}
	f, err := createSlots(l.fs, next)
	l.slots.file, l.slots.last = f, next
	l.slots.last.number = 2
	return err
}

// set writes both slots, and both are durable when it returns: nothing is left of what
// the file said before.
func (s *slots) set(next slot) error {
	for range 2 {
		s.mu.Lock()
		err := s.write(next)
		s.mu.Unlock()
		if err != nil {
			return err
		}
		if err := s.sync(); err != nil {
			return err
		}
	}
	return nil
}
