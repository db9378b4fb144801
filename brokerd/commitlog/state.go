package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
)

// State is what a replica keeps beside its log.
type State struct {
	Epoch       uint64 // the highest that it has seen
	Incarnation uint64 // index of its last return, as it saw it applied
	Owes        bool   // it has to return first
	Extra       []byte // its owner's, opaque
}

// stateName is the state file's:
//
//	+-------+----------+--------+-------+-------------+------+-------+
//	| magic | checksum | length | epoch | incarnation | owes | extra |
//	+-------+----------+--------+-------+-------------+------+-------+
//	    4        4         4        8         8          1
//
// length is of all of it, the checksum CRC-32C over the length and all behind it. Numbers
// are big endian.
const (
	stateName  = "replica"
	stateMagic = "HFR2"
	stateFixed = 29
	// MaxExtra is how long Extra may be in bytes.
	MaxExtra = 1 << 20
)

func (s *State) append(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, stateMagic...)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(stateFixed+len(s.Extra)))
	dst = binary.BigEndian.AppendUint64(dst, s.Epoch)
	dst = binary.BigEndian.AppendUint64(dst, s.Incarnation)
	owes := byte(0)
	if s.Owes {
		owes = 1
	}
	dst = append(append(dst, owes), s.Extra...)
	binary.BigEndian.PutUint32(dst[at+4:], checksum(dst[at+8:]))
	return dst
}

func parseState(b []byte) (State, error) {
	if len(b) < stateFixed || string(b[:4]) != stateMagic || binary.BigEndian.Uint32(b[8:]) != uint32(len(b)) ||
		checksum(b[8:]) != binary.BigEndian.Uint32(b[4:]) || b[28] > 1 {
		return State{}, fmt.Errorf("parse replica state: %w", errFormat)
	}
	s := State{Epoch: binary.BigEndian.Uint64(b[12:]), Incarnation: binary.BigEndian.Uint64(b[20:]), Owes: b[28] == 1}
	if len(b) > stateFixed {
		s.Extra = b[stateFixed:]
	}
	return s, nil
}

// ReadState reads the state file. found is false if there is none; one that cannot be read
// is an error: what it said is not known.
func ReadState(dir FS) (s State, found bool, err error) {
	f, err := dir.Open(stateName, false)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, false, nil
	}
	if err != nil {
		return State{}, false, fmt.Errorf("read %s: %w", stateName, err)
	}
	defer func() { _ = f.Close() }()
	b, err := readAll(f, stateFixed+MaxExtra)
	if err == nil {
		s, err = parseState(b)
	}
	if err != nil {
		return State{}, false, fmt.Errorf("read %s: %w", stateName, err)
	}
	return s, true, nil
}

// WriteState writes the state file. It is durable when it returns; after a crash the file
// is the old one or the new one.
func WriteState(dir FS, s State) error {
	if len(s.Extra) > MaxExtra {
		return fmt.Errorf("write %s: extra of %d bytes, at most %d: %w", stateName, len(s.Extra), MaxExtra, errFormat)
	}
	f, err := create(dir, stateName, s.append(nil))
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("close %s: %w", stateName, err)
	}
	return nil
}
