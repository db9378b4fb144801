package lease

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"
)

// What is here serves a checker that tries out everything that could happen: it
// copies a voter or a holder at each fork, and tells those apart that could act
// differently later.

// Clone returns an independent copy.
func (v *Voter) Clone() *Voter {
	c := *v
	c.sessions = make(map[uint64]*record, len(v.sessions))
	for id, rec := range v.sessions {
		own := *rec
		c.sessions[id] = &own
	}
	return &c
}

// Append appends a canonical form of all that can change what the voter does later.
// Times are relative to now, so that voters which differ by a shift of time give equal
// bytes; those that lie behind now are equal, and so are those of which only the
// distance counts once they lie further back than horizon, the longest promise in
// play.
func (v *Voter) Append(b []byte, now Time, horizon time.Duration) []byte {
	ahead := func(t Time) { b = binary.AppendVarint(b, max(int64(t-now), 0)) }
	ahead(v.quiet)
	b = binary.AppendVarint(b, max(int64(v.learnt-now), -int64(horizon)))
	b = binary.AppendVarint(b, int64(v.longest))
	b = appendConfiguration(b, v.configuration)
	b = binary.AppendUvarint(b, v.applied)
	b = binary.AppendUvarint(b, uint64(len(v.sessions)))
	var few [8]uint64 // so that the usual case costs no memory
	ids := few[:0]
	for id := range v.sessions {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		rec := v.sessions[id]
		b = binary.AppendUvarint(b, id)
		b = append(b, byte(rec.mark))
		if !rec.heard {
			b = append(b, 0)
			continue
		}
		b = append(b, 1)
		ahead(rec.end)
		ahead(rec.proven)
		b = binary.AppendUvarint(binary.AppendUvarint(b, rec.round.Process), rec.round.Sequence)
	}
	return b
}

func appendConfiguration(b []byte, c Configuration) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(b, c.Index), c.Previous)
	b = binary.AppendUvarint(b, uint64(len(c.Voters)))
	for _, name := range c.Voters {
		b = append(append(b, name...), 0)
	}
	return b
}

// Clone returns an independent copy.
func (h *Holder) Clone() *Holder {
	c := *h
	c.counts = make([]*count, len(h.counts))
	for i, n := range h.counts {
		c.counts[i] = &count{n.configuration, slices.Clone(n.sent), slices.Clone(n.answered)}
	}
	c.heard = maps.Clone(h.heard)
	c.scratch = nil
	return &c
}

// AppendVoter appends a canonical form of what the holder has counted of one
// coordinator, within each configuration.
func (h *Holder) AppendVoter(b []byte, now Time, name string) []byte {
	for _, n := range h.counts {
		b = binary.AppendUvarint(b, n.configuration.Index)
		for i, voter := range n.configuration.Voters {
			if voter == name && n.answered[i] {
				b = binary.AppendVarint(b, max(int64(n.sent[i]-now), -int64(h.session.TTL)))
			}
		}
		b = append(b, 0xff)
	}
	return b
}

// Append appends a canonical form of all else that can change what the holder does
// later; times as in [Voter.Append].
func (h *Holder) Append(b []byte, now Time) []byte {
	back := -int64(h.session.TTL)
	behind := func(t Time) { b = binary.AppendVarint(b, max(int64(t-now), back)) }
	b = binary.AppendUvarint(binary.AppendUvarint(b, h.session.ID), h.process)
	b = binary.AppendUvarint(b, h.sequence)
	if h.sequence > 0 {
		behind(h.newest)
		for i := range min(h.sequence, maxRounds) {
			if r := h.rounds[(h.sequence-i)%maxRounds]; h.newest.Sub(r.t0) < h.session.TTL && int64(r.t0-now) > back {
				behind(r.t0)
			}
		}
	}
	flags := byte(0)
	if h.fenced {
		flags = 1
	}
	b = append(b, flags)
	if h.proven {
		b = binary.AppendVarint(b, max(int64(h.deadline-now), 0))
	}
	// Repeat compares these two, however long ago they were.
	if _, again := h.Repeat(); again {
		b = append(b, 1)
	}
	return append(b, 0xfe)
}
