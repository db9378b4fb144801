package commitlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"holdfast/brokerd/record"
)

// sector is what a disk writes as a whole, or not at all.
const sector = 512

// judge says whether what is behind the last valid record is damage, or the end of a
// write that a crash tore: nil. It is torn only if nothing speaks against it:
//
//   - it lies above the end that is known to have been durable;
//   - no valid record behind it says, in its mark, that it was durable when that record
//     was written;
//   - some sector of it was not written: one that was has the bytes that were meant.
func (r *opening) judge(last foundSegment, c *content) *Damage {
	err := c.wrong
	switch {
	case c.end < r.slot.end:
		err = fmt.Errorf("offset %d had been durable: %w", r.slot.end, orElse(err, io.ErrUnexpectedEOF))
	case err == nil:
		return nil
	case r.Unknown:
		err = fmt.Errorf("how much had been durable is not known: %w", err)
	case !errors.Is(err, record.ErrInvalid) && !errors.Is(err, record.ErrShort):
		// The disk says so, or a record is whole and in the wrong place.
	default:
		if err = evidence(last, c.end, err); err == nil {
			return nil
		}
	}
	return &Damage{last.name, last.at(c.end), c.end, err}
}

// evidence returns what speaks against a torn write at an offset, nil if nothing does. found
// is what is wrong there.
func evidence(last foundSegment, offset uint64, found error) error {
	behind, err := durableBehind(last, offset)
	switch {
	case err != nil:
		return err
	case behind > 0:
		return fmt.Errorf("the record at %d was written when this was durable: %w", behind, found)
	}
	hole, err := last.hasHole(offset)
	switch {
	case err != nil:
		return err
	case !hole:
		return fmt.Errorf("all of its sectors were written: %w", found)
	}
	return nil
}

func orElse(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// durableBehind looks for a record behind an offset which says that the bytes there were
// durable when it was written, and returns its offset; 0 if there is none.
func durableBehind(s foundSegment, offset uint64) (uint64, error) {
	const overlap = record.HeaderSize
	buf := make([]byte, walkerChunk)
	for from := offset + 1; from+overlap <= s.end; {
		b := buf[:min(uint64(len(buf)), s.end-from)]
		if err := readFull(s.file, b, s.at(from)); err != nil {
			return 0, err
		}
		for i := 0; ; i++ {
			j := bytes.Index(b[i:], []byte(record.Magic))
			if j < 0 {
				break
			}
			i += j
			if i < record.MagicAt {
				continue
			}
			at := from + uint64(i-record.MagicAt)
			if unsynced, ok := s.markAt(at); ok && unsynced != record.Unmarked && at-min(at, uint64(unsynced)) > offset {
				return at, nil
			}
		}
		if len(b) < len(buf) {
			break
		}
		from += uint64(len(b) - overlap)
	}
	return 0, nil
}

// markAt returns the mark of the record at an offset, if a valid one is there.
func (s foundSegment) markAt(offset uint64) (uint32, bool) {
	b := make([]byte, record.HeaderSize)
	if offset+record.HeaderSize > s.end || readFull(s.file, b, s.at(offset)) != nil {
		return 0, false
	}
	n, ok := record.SizeOf(b)
	if !ok || offset+uint64(n) > s.end {
		return 0, false
	}
	if b = make([]byte, n); readFull(s.file, b, s.at(offset)) != nil {
		return 0, false
	}
	if h, err := record.Parse(b); err != nil || h.Offset != offset {
		return 0, false
	}
	return record.Mark(b)
}

// hasHole tells whether the record at an offset can have been torn: whether it goes on
// behind the end of the file, or one of the sectors that it lies in has nothing of it but
// zeros. A sector that was not written has those, or what was in it before: the end of
// the record before.
func (s foundSegment) hasHole(offset uint64) (bool, error) {
	n, err := s.extent(offset)
	if err != nil || n == 0 {
		return true, err
	}
	b := make([]byte, n)
	if err := readFull(s.file, b, s.at(offset)); err != nil {
		return false, err
	}
	at := s.at(offset)
	for from := int64(0); from < int64(n); {
		to := min((at+from)/sector*sector+sector-at, int64(n))
		if allZero(b[from:to]) {
			return true, nil
		}
		from = to
	}
	return false, nil
}

// extent returns how many bytes at an offset are of the record there, as far as that can
// be known; 0 if the record goes on behind the end of the file.
func (s foundSegment) extent(offset uint64) (int, error) {
	left := s.end - offset
	if left < record.HeaderSize {
		return 0, nil
	}
	// A record is no longer than the longest; what is behind that says nothing of it.
	b := make([]byte, min(left, 2*record.MaxSize))
	if err := readFull(s.file, b, s.at(offset)); err != nil {
		return 0, err
	}
	n, ok := record.SizeOf(b)
	switch {
	case !ok:
		return record.HeaderSize, nil // how long it is, is not known
	case uint64(n) <= left:
		return n, nil
	}
	// Either the file ends early or the length is wrong. If it is, the record ends where
	// the next one begins, or at the end, and is valid with the right length.
	for _, n := range ends(b, offset) {
		if n <= record.MaxSize && record.FitsLength(b, n) {
			return n, nil
		}
	}
	return 0, nil
}

// ends returns where the record that b begins with may end: where another begins, which
// stands at its place, and where b ends.
func ends(b []byte, offset uint64) []int {
	var out []int
	for i := 1; ; i++ {
		j := bytes.Index(b[i:], []byte(record.Magic))
		if j < 0 {
			return append(out, len(b))
		}
		if i += j; i < record.MagicAt+record.HeaderSize {
			continue
		}
		if h, err := record.Parse(b[i-record.MagicAt:]); err == nil && h.Offset == offset+uint64(i-record.MagicAt) {
			return append(out, i-record.MagicAt)
		}
	}
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// mend cuts off what is torn, and makes the rest durable.
func (r *opening) mend(last foundSegment, c *content) error {
	dirty := false
	if c.end < last.end {
		kept, err := r.log.keep(last.segment, c.end, last.end, "torn")
		if err != nil && !full(err) {
			return err
		}
		r.Torn = kept
	}
	if !r.Clean || c.end < last.end {
		// Also where nothing is torn: a truncation may be one that is not on the disk yet.
		if err := last.file.Truncate(last.at(c.end)); err != nil {
			return fmt.Errorf("truncate %s: %w", last.name, err)
		}
		dirty = true
	}
	// After a sync that failed, the kernel may show pages as clean which are not on the
	// disk. What was not known to be durable is written once more, so that a sync means it.
	for from := max(last.base, min(r.slot.end, c.end)); from < c.end; {
		b := make([]byte, min(walkerChunk, c.end-from))
		if err := readFull(last.file, b, last.at(from)); err != nil {
			return fmt.Errorf("read %s: %w", last.name, err)
		}
		if _, err := last.file.WriteAt(b, last.at(from)); err != nil {
			return fmt.Errorf("write %s: %w", last.name, err)
		}
		from += uint64(len(b))
		r.Rewrote += uint64(len(b))
		dirty = true
	}
	if !dirty {
		return nil
	}
	if err := last.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", last.name, err)
	}
	return nil
}

// keep copies a part of a segment into a file of its own, which is durable when it returns.
func (l *Log) keep(s *segment, from, to uint64, why string) (Kept, error) {
	kept := Kept{From: from, To: to}
	names, err := l.fs.List()
	if err != nil {
		return kept, fmt.Errorf("list files: %w", err)
	}
	name := keptName(why, from, names)
	f, err := l.fs.Open(name+tmp, true)
	if err != nil {
		return kept, fmt.Errorf("create %s: %w", name, err)
	}
	defer func() { _ = f.Close() }() // synced before it is named
	for at := from; at < to; {
		b := make([]byte, min(walkerChunk, to-at))
		if err := readFull(s.file, b, s.at(at)); err != nil {
			return kept, fmt.Errorf("read %s: %w", s.name, err)
		}
		if _, err := f.WriteAt(b, int64(at-from)); err != nil {
			_ = l.fs.Remove(name + tmp) // or the next start does
			return kept, fmt.Errorf("write %s: %w", name, err)
		}
		at += uint64(len(b))
	}
	if err := f.Sync(); err != nil {
		return kept, fmt.Errorf("sync %s: %w", name, fatal(err))
	}
	if err := l.fs.Rename(name+tmp, name); err != nil {
		return kept, fmt.Errorf("rename %s: %w", name, err)
	}
	if err := l.fs.SyncDir(); err != nil {
		return kept, fmt.Errorf("sync directory: %w", fatal(err))
	}
	kept.File = name
	return kept, nil
}

// keptName returns a name that no file has yet.
func keptName(why string, from uint64, names []string) string {
	taken := map[string]bool{}
	for _, n := range names {
		taken[n] = true
	}
	for i := 1; ; i++ {
		if name := fmt.Sprintf("%s-%0*d-%d", why, nameDigits, from, i); !taken[name] {
			return name
		}
	}
}
