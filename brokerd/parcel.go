package brokerd

import (
	"encoding/binary"
	"errors"
	"fmt"

	"holdfast/brokerd/commitlog"
)

// parcel is what a replica needs beside records to begin its log where the master's
// begins: what the log's preface there says, and a snapshot of the consumers' state that
// is not before it.
type parcel struct {
	preface  *commitlog.Preface
	snapshot *snapshot
}

// A parcel's bytes are
//
//	+-------+----------+----------------+---------+----------+
//	| magic | checksum | preface length | preface | snapshot |
//	+-------+----------+----------------+---------+----------+
//	    4        4             4
//
// with the checksum, CRC-32C, over all behind it.
const (
	parcelMagic = "HFB1"
	parcelFixed = 12
)

var errParcel = errors.New("not the begin of a log")

// parcel makes that of this replica.
func (d *disk) parcel() ([]byte, error) {
	p, err := d.log.Preface()
	if err != nil {
		return nil, err
	}
	s, err := d.consumers.newest()
	if err != nil {
		return nil, err
	}
	if s == nil || s.offset < p.Base {
		return nil, fmt.Errorf("no snapshot of the consumers' state at or behind %d", p.Base)
	}
	return appendParcel(p, s), nil
}

func appendParcel(p *commitlog.Preface, s *snapshot) []byte {
	preface := p.Append(nil)
	b := append([]byte(parcelMagic), 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(preface)))
	b = s.append(append(b, preface...))
	binary.BigEndian.PutUint32(b[4:], checksum(b[8:]))
	return b
}

// parseParcel reads one for a log that begins at base.
func parseParcel(b []byte, base uint64) (*parcel, error) {
	if len(b) < parcelFixed || string(b[:4]) != parcelMagic || binary.BigEndian.Uint32(b[4:]) != checksum(b[8:]) {
		return nil, errParcel
	}
	n := uint64(binary.BigEndian.Uint32(b[8:]))
	if n > uint64(len(b)-parcelFixed) {
		return nil, errParcel
	}
	preface, err := commitlog.ParsePreface(b[parcelFixed : parcelFixed+n])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errParcel, err)
	}
	s, err := parseSnapshot(b[parcelFixed+n:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errParcel, err)
	}
	if preface.Base != base || s.offset < base {
		return nil, fmt.Errorf("%w: it is of a log that begins at %d, with the consumers' state at %d, and should be at %d", errParcel, preface.Base, s.offset, base)
	}
	return &parcel{preface, s}, nil
}
