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

// Range is records [From, To) of one epoch.
type Range struct {
	Epoch, From, To uint64
}

// Log is what is known of a log without its bytes: it holds [Base, End), and Starts are
// its epochs, oldest first, each with its first offset that is held. Retention has taken
// what was before Base. Epochs and offsets rise strictly, as each epoch begins with a
// record of its own. It is a value: no method changes the array below Starts.
//
// One master alone writes an epoch, behind a log that it has, and a follower appends
// records of an epoch only behind what that master has. So two logs that both hold a
// record of one epoch are the same up to the smaller of their ends of that epoch.
type Log struct {
	Base, End uint64
	Starts    []Start
}

// ErrLog is returned for what cannot be a log, or cannot follow on one.
var ErrLog = errors.New("no possible log")

// Last returns the epoch of the last record, 0 for an empty log.
func (l Log) Last() uint64 {
	if len(l.Starts) == 0 {
		return 0
	}
	return l.Starts[len(l.Starts)-1].Epoch
}

// Empty says whether it holds no record.
func (l Log) Empty() bool { return l.Base == l.End }

// Check says whether this can be a log. One from the wire or from a disk is to be checked
// before it is used.
func (l Log) Check() error {
	if len(l.Starts) == 0 || l.Base >= l.End {
		if len(l.Starts) != 0 || l.Base != l.End {
			return fmt.Errorf("check log: %d epochs in [%d, %d): %w", len(l.Starts), l.Base, l.End, ErrLog)
		}
		return nil
	}
	if first := l.Starts[0]; first.Epoch == 0 || first.Offset != l.Base {
		return fmt.Errorf("check log from %d: begins with %v: %w", l.Base, first, ErrLog)
	}
	for i, s := range l.Starts[1:] {
		if s.Epoch <= l.Starts[i].Epoch || s.Offset <= l.Starts[i].Offset {
			return fmt.Errorf("check log: %v after %v: %w", s, l.Starts[i], ErrLog)
		}
	}
	if last := l.Starts[len(l.Starts)-1]; last.Offset >= l.End {
		return fmt.Errorf("check log: %v at or behind the end %d: %w", last, l.End, ErrLog)
	}
	return nil
}

// Append returns the log after records of an epoch were appended at its end.
func (l Log) Append(epoch, size uint64) (Log, error) {
	if epoch == 0 || epoch < l.Last() || size == 0 || l.End+size < l.End {
		return l, fmt.Errorf("append %d bytes of epoch %d after epoch %d: %w", size, epoch, l.Last(), ErrLog)
	}
	if epoch > l.Last() {
		l.Starts = append(slices.Clip(l.Starts), Start{epoch, l.End})
	}
	l.End += size
	return l, nil
}

// Cut returns the log up to an offset between Base and End.
func (l Log) Cut(at uint64) Log {
	n := 0
	for n < len(l.Starts) && l.Starts[n].Offset < at {
		n++
	}
	return Log{l.Base, at, slices.Clone(l.Starts[:n])}
}

// Trim returns the log from an offset between Base and End on.
func (l Log) Trim(before uint64) Log {
	if before <= l.Base {
		return l
	}
	n := 0
	for n < len(l.Starts) && l.endOf(n) <= before {
		n++
	}
	starts := slices.Clone(l.Starts[n:])
	if len(starts) > 0 {
		starts[0].Offset = max(starts[0].Offset, before)
	}
	return Log{before, l.End, starts}
}

// endOf returns where the i-th epoch ends.
func (l Log) endOf(i int) uint64 {
	if i+1 < len(l.Starts) {
		return l.Starts[i+1].Offset
	}
	return l.End
}

// Common returns the offset up to which two logs are the same. It asks the epochs and
// never the lengths: a longer log may be a different one. known is false if they share no
// epoch and something is missing in front of one: then nothing can be said.
func Common(a, b Log) (at uint64, known bool) {
	for i, j := len(a.Starts)-1, len(b.Starts)-1; i >= 0 && j >= 0; {
		switch s, t := a.Starts[i], b.Starts[j]; {
		case s.Epoch > t.Epoch:
			i--
		case s.Epoch < t.Epoch:
			j--
		case s.Offset != t.Offset && a.exact(i) && b.exact(j):
			i, j = i-1, j-1 // not the work of one master: nothing behind it is believed
		default:
			return min(a.endOf(i), b.endOf(j)), true
		}
	}
	return 0, a.Base == 0 && b.Base == 0
}

// exact says whether the i-th epoch begins where it is said to: retention may have taken
// the beginning of the first.
func (l Log) exact(i int) bool { return i > 0 || l.Base == 0 }

// Ranges returns records [from, to) by epoch.
func (l Log) Ranges(from, to uint64) []Range {
	var out []Range
	for i, s := range l.Starts {
		if r := (Range{s.Epoch, max(s.Offset, from), min(l.endOf(i), to)}); r.From < r.To {
			out = append(out, r)
		}
	}
	return out
}

// At returns the epoch of the record at an offset and where that epoch ends; false if no
// record is there.
func (l Log) At(offset uint64) (epoch, end uint64, ok bool) {
	for i, s := range l.Starts {
		if to := l.endOf(i); s.Offset <= offset && offset < to {
			return s.Epoch, to, true
		}
	}
	return 0, 0, false
}
