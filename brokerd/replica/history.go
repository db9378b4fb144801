package replica

import (
	"errors"
	"fmt"
	"slices"
)

// Start says where the records of an epoch begin in a log.
type Start struct {
	Epoch  uint64
	Offset uint64
}

// History is the epochs of a log, oldest first, each with its first offset. Epochs and
// offsets rise strictly: each epoch begins with a record of its own. One master alone
// writes an epoch, so two logs that have the same start have the same records up to the
// smaller of their ends of that epoch.
type History []Start

// Range is records [From, To) of one epoch.
type Range struct {
	Epoch, From, To uint64
}

// ErrHistory is returned for an epoch that cannot follow on a history.
var ErrHistory = errors.New("epoch does not follow")

// Last returns the epoch of the last record, 0 for an empty log.
func (h History) Last() uint64 {
	if len(h) == 0 {
		return 0
	}
	return h[len(h)-1].Epoch
}

// Merge returns the history after records of an epoch were appended at an offset.
func (h History) Merge(epoch, offset uint64) (History, error) {
	if len(h) == 0 {
		if epoch == 0 || offset != 0 {
			return h, fmt.Errorf("merge epoch %d at %d into nothing: %w", epoch, offset, ErrHistory)
		}
		return History{{epoch, offset}}, nil
	}
	last := h[len(h)-1]
	switch {
	case epoch == last.Epoch && offset > last.Offset:
		return h, nil
	case epoch > last.Epoch && offset > last.Offset:
		return append(slices.Clip(h), Start{epoch, offset}), nil
	}
	return h, fmt.Errorf("merge epoch %d at %d after %d at %d: %w", epoch, offset, last.Epoch, last.Offset, ErrHistory)
}

// Check says whether a history can be that of a log with the given end. One from the wire
// or from a disk is to be checked before it is used.
func (h History) Check(end uint64) error {
	if len(h) == 0 {
		if end != 0 {
			return fmt.Errorf("check history: log of %d without an epoch: %w", end, ErrHistory)
		}
		return nil
	}
	if h[0].Epoch == 0 || h[0].Offset != 0 {
		return fmt.Errorf("check history: begins with %v: %w", h[0], ErrHistory)
	}
	for i, s := range h[1:] {
		if s.Epoch <= h[i].Epoch || s.Offset <= h[i].Offset {
			return fmt.Errorf("check history: %v after %v: %w", s, h[i], ErrHistory)
		}
	}
	if last := h[len(h)-1]; last.Offset >= end {
		return fmt.Errorf("check history: %v at or behind the end %d: %w", last, end, ErrHistory)
	}
	return nil
}

// endOf returns where the i-th epoch of a log ends.
func (h History) endOf(i int, end uint64) uint64 {
	if i+1 < len(h) {
		return h[i+1].Offset
	}
	return end
}

// CommonPoint returns the offset up to which two logs are the same. It asks the epochs
// and never the lengths: a longer log may be a different one.
func CommonPoint(a History, aEnd uint64, b History, bEnd uint64) uint64 {
	at := uint64(0)
	for i := 0; i < len(a) && i < len(b) && a[i] == b[i]; i++ {
		at = min(a.endOf(i, aEnd), b.endOf(i, bEnd))
	}
	return at
}

// Cut returns the history of a log that ends at an offset.
func (h History) Cut(at uint64) History {
	n := 0
	for n < len(h) && h[n].Offset < at {
		n++
	}
	return slices.Clone(h[:n])
}

// Ranges returns records [from, to) of a log by epoch. to is at most the log's end.
func (h History) Ranges(from, to uint64) []Range {
	var out []Range
	for i, s := range h {
		r := Range{s.Epoch, max(s.Offset, from), min(h.endOf(i, to), to)}
		if r.From < r.To {
			out = append(out, r)
		}
	}
	return out
}
