package brokerd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"

	"holdfast/brokerd/commitlog"
	"holdfast/brokerd/pop"
	"holdfast/brokerd/record"
)

// consumers is the consumers' state at the log's end. It follows from the log's records of
// kind state; a snapshot saves reading all of it at a start.
type consumers struct {
	disk   *disk
	limits pop.Limits
	state  *pop.State // nil if lost
	at     uint64     // offset of the log that the state is of; past its end while a new member catches up
	lost   bool       // the log does not reach back far enough, and there is no snapshot

	kept    uint64    // offset of the newest snapshot on the disk, 0 = none
	pending *snapshot // to be kept once it is confirmed
}

type snapshot struct {
	offset uint64
	state  []byte
}

const (
	snapshotPrefix = "consumers-"
	snapshotMagic  = "HFP1"
	snapshotFixed  = 20 // magic, checksum, length of the state, offset
	// snapshotEvery is after how much log the next snapshot is made: so much is read at a
	// start.
	snapshotEvery = 64 << 20
	// replayRun is how much log is read at once.
	replayRun = 4 << 20
)

func newConsumers(d *disk, l pop.Limits) *consumers {
	if l == (pop.Limits{}) {
		l = pop.DefaultLimits()
	}
	return &consumers{disk: d, limits: l}
}

// append is the snapshot's file:
//
//	+-------+----------+--------+--------+-------+
//	| magic | checksum | length | offset | state |
//	+-------+----------+--------+--------+-------+
//	    4        4         4        8     length
//
// The checksum is CRC-32C of all behind it. Numbers are big endian.
func (s *snapshot) append(dst []byte) []byte {
	at := len(dst)
	dst = append(append(dst, snapshotMagic...), 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s.state)))
	dst = binary.BigEndian.AppendUint64(dst, s.offset)
	dst = append(dst, s.state...)
	binary.BigEndian.PutUint32(dst[at+4:], checksum(dst[at+8:]))
	return dst
}

var errSnapshot = errors.New("not a snapshot of the consumers' state, or a damaged one")

func parseSnapshot(b []byte) (*snapshot, error) {
	if len(b) < snapshotFixed || string(b[:4]) != snapshotMagic || uint64(binary.BigEndian.Uint32(b[8:])) != uint64(len(b)-snapshotFixed) ||
		binary.BigEndian.Uint32(b[4:]) != checksum(b[8:]) {
		return nil, errSnapshot
	}
	return &snapshot{binary.BigEndian.Uint64(b[12:]), b[snapshotFixed:]}, nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// open restores the state: from the newest snapshot that the log reaches, or else from one
// of the log that this replica is about to get, and the log behind it.
func (c *consumers) open() error {
	c.state, c.at, c.lost, c.kept, c.pending = nil, 0, false, 0, nil
	offsets, err := c.snapshots()
	if err != nil {
		return err
	}
	end := c.disk.log.End()
	slices.Sort(offsets)
	n, _ := slices.BinarySearch(offsets, end+1)
	slices.Reverse(offsets[:n]) // of those that the log reaches the newest first, then the others
	for _, offset := range offsets {
		if offset < c.disk.log.First() {
			continue // the log behind it is not there any more
		}
		if err := c.restore(offset); err != nil {
			c.disk.logger.Warn("a snapshot of the consumers' state cannot be used", "offset", offset, "err", err)
			continue
		}
		c.kept = offset
		return c.replay()
	}
	if c.disk.log.First() > 0 {
		c.lost = true
		c.disk.logger.Error("the consumers' state is lost: the log does not reach back to its begin, and there is no snapshot", "first", c.disk.log.First())
		return nil
	}
	c.state = pop.New(c.limits)
	return c.replay()
}

func (c *consumers) snapshots() (offsets []uint64, err error) {
	names, err := c.disk.dir.List()
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	for _, name := range names {
		if text, ok := strings.CutPrefix(name, snapshotPrefix); ok {
			if n, err := strconv.ParseUint(text, 10, 64); err == nil && name == snapshotName(n) {
				offsets = append(offsets, n)
			}
		}
	}
	return offsets, nil
}

func snapshotName(offset uint64) string { return fmt.Sprintf("%s%020d", snapshotPrefix, offset) }

func (c *consumers) restore(offset uint64) error {
	b, err := readFile(c.disk.dir, snapshotName(offset))
	if err != nil {
		return err
	}
	s, err := parseSnapshot(b)
	if err != nil {
		return err
	}
	if s.offset != offset {
		return fmt.Errorf("it is of offset %d: %w", s.offset, errSnapshot)
	}
	state, err := pop.Restore(c.limits, s.state)
	if err != nil {
		return err
	}
	c.state, c.at = state, offset
	return nil
}

// replay applies the log from where the state is on.
func (c *consumers) replay() error {
	buf := make([]byte, 0, replayRun)
	for c.at < c.disk.log.Durable() {
		var err error
		if buf, err = c.disk.log.Read(buf[:0], c.at, replayRun); err != nil {
			return fmt.Errorf("read log for the consumers' state: %w", err)
		}
		if len(buf) == 0 {
			return nil // damage begins here
		}
		if err := c.follow(buf); err != nil {
			return err
		}
	}
	return nil
}

// follow applies whole records of the log.
func (c *consumers) follow(records []byte) error {
	for len(records) > 0 {
		h, err := record.Parse(records)
		if err != nil {
			return fmt.Errorf("read record for the consumers' state: %w", err)
		}
		if h.Kind == record.KindState && h.Offset >= c.at && c.state != nil {
			if err := c.state.Apply(record.Body(records[:h.Length], &h)); err != nil {
				return fmt.Errorf("apply record at %d of the log: %w", h.Offset, err)
			}
		}
		c.at = max(c.at, h.End())
		records = records[h.Length:]
	}
	return nil
}

// usable says whether the state is that of the end of what is written.
func (c *consumers) usable() bool { return c.state != nil && c.at == c.disk.log.Durable() }

// keep makes a snapshot now and then, and keeps it once what it says is confirmed: the
// tail of a log may still be cut.
func (c *consumers) keep(confirm uint64) error {
	if c.pending == nil && c.usable() && c.at >= c.kept+snapshotEvery {
		c.pending = &snapshot{c.at, c.state.AppendSnapshot(nil)}
	}
	if c.pending == nil || confirm < c.pending.offset {
		return nil
	}
	s := c.pending
	c.pending = nil
	if err := writeFile(c.disk.dir, snapshotName(s.offset), s.append(nil)); err != nil {
		return fmt.Errorf("keep the consumers' state: %w", err)
	}
	c.kept = s.offset
	return c.removeBut(func(offset uint64) bool { return offset == s.offset })
}

func (c *consumers) removeBut(stays func(offset uint64) bool) error {
	offsets, err := c.snapshots()
	if err != nil {
		return err
	}
	for _, offset := range offsets {
		if !stays(offset) {
			if err := c.disk.dir.Remove(snapshotName(offset)); err != nil && !missing(err) {
				return fmt.Errorf("remove snapshot: %w", err)
			}
		}
	}
	return nil
}

// cut goes back to where the log ends now: confirmed snapshots of a log that goes on to
// catch up with them stay.
func (c *consumers) cut(at, end uint64) error {
	if err := c.removeBut(func(offset uint64) bool { return offset <= at || offset > end }); err != nil {
		return err
	}
	return c.open()
}

// install takes the state of another replica in, whose log this one is about to get.
func (c *consumers) install(s *snapshot) error {
	if err := c.removeBut(func(uint64) bool { return false }); err != nil {
		return err
	}
	if s != nil {
		if err := writeFile(c.disk.dir, snapshotName(s.offset), s.append(nil)); err != nil {
			return fmt.Errorf("install the consumers' state: %w", err)
		}
	}
	return c.open()
}

// newest returns the newest snapshot on the disk, nil if there is none.
func (c *consumers) newest() (*snapshot, error) {
	if c.kept == 0 {
		return nil, nil
	}
	b, err := readFile(c.disk.dir, snapshotName(c.kept))
	if err != nil {
		return nil, err
	}
	return parseSnapshot(b)
}

// readFile reads a whole file.
func readFile(dir commitlog.FS, name string) ([]byte, error) {
	f, err := dir.Open(name, false)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer func() { _ = f.Close() }()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("read %s: %d of %d bytes: %w", name, n, len(b), err)
	}
	return b, nil
}

// writeFile writes a file that is there as a whole or not at all; it is durable when it
// returns.
func writeFile(dir commitlog.FS, name string, b []byte) error {
	const tmp = ".tmp"
	f, err := dir.Open(name+tmp, true)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = dir.Rename(name+tmp, name)
	}
	if err == nil {
		err = dir.SyncDir()
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
