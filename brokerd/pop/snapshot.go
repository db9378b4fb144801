package pop

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
)

// A snapshot is
//
//	+---------+-------+------------- - -
//	| version | count | position, each
//	+---------+-------+------------- - -
//
//	+-------+-------+-------+------+-------+- - - - - - - - - - - - - - - - -
//	| group | topic | queue | next | count | offset, nonce, until, attempt, each
//	+-------+-------+-------+------+-------+- - - - - - - - - - - - - - - - -
//
// with positions in order of group, topic and queue, and messages in flight in order of
// their offsets; so equal states have equal snapshots. Its keeper adds a checksum, and
// the log offset at which it was made.
const (
	snapshotVersion = 1
	minSnapshot     = 2 + 2 + 1 + 1 + 1
	minFlight       = 1 + 8 + 1 + 1
)

// AppendSnapshot appends the state to dst.
func (s *State) AppendSnapshot(dst []byte) []byte {
	dst = binary.AppendUvarint(append(dst, snapshotVersion), uint64(s.positions))
	for _, name := range slices.Sorted(maps.Keys(s.groups)) {
		g := s.groups[name]
		for _, at := range g.places() {
			p := g.positions[at]
			dst = appendName(appendName(dst, name), at.topic)
			dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(at.queue)), p.next)
			dst = binary.AppendUvarint(dst, uint64(len(p.flights)))
			for _, o := range slices.Sorted(maps.Keys(p.flights)) {
				f := p.flights[o]
				dst = binary.AppendUvarint(dst, o)
				dst = binary.BigEndian.AppendUint64(dst, f.nonce)
				dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(f.until)), uint64(f.attempt))
			}
		}
	}
	return dst
}

// Restore returns the state of a snapshot.
func Restore(l Limits, b []byte) (*State, error) {
	r := &reader{rest: b}
	if v := r.byte(); v != snapshotVersion {
		return nil, fmt.Errorf("restore consumer state: version %d: %w", v, ErrInvalid)
	}
	s := New(l)
	var last Key
	for range r.count(minSnapshot) {
		k, p := r.position()
		if r.failed || k.compare(last) <= 0 {
			r.failed = true
			break
		}
		last = k
		g := s.groups[k.Group]
		if g == nil {
			g = &group{positions: make(map[place]*position)}
			s.groups[k.Group] = g
		}
		g.positions[place{k.Topic, k.Queue}] = p
		g.inFlight += len(p.flights)
		s.positions++
	}
	if !r.done() {
		return nil, fmt.Errorf("restore consumer state: %d bytes left behind topic %q, queue %d of group %q: %w",
			len(r.rest), last.Topic, last.Queue, last.Group, ErrInvalid)
	}
	return s, nil
}

func (r *reader) position() (Key, *position) {
	k := Key{Group: r.name(), Topic: r.name(), Queue: uint32(r.number(math.MaxInt32))}
	p := &position{next: r.number(maxOffset), flights: make(map[uint64]*flight)}
	r.failed = r.failed || k.check() != ""
	low := uint64(0)
	for range r.count(minFlight) {
		f := &flight{offset: r.number(maxOffset), nonce: r.nonce(), until: int64(r.number(maxOffset)), attempt: uint32(r.number(math.MaxUint32))}
		if r.failed || f.offset < low || f.offset >= p.next || f.attempt == 0 {
			r.failed = true
			break
		}
		low = f.offset + 1
		p.flights[f.offset] = f
		p.visible.push(f)
	}
	return k, p
}
