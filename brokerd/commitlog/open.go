package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Recovery is what Open found, and what it did.
type Recovery struct {
	New     bool // there was no log
	Clean   bool // the log had been closed
	Async   bool // with FlushAsync: what was acknowledged last need not be there
	Unknown bool // it cannot be read how much had been durable
	Damage  *Damage
	Torn    Kept   // what was cut from the end: a write that was never acknowledged
	Rewrote uint64 // bytes at the end that were written and synced again
}

// Lost tells whether the log may have less than it had acknowledged.
func (r *Recovery) Lost() bool {
	return r.New || r.Unknown || r.Damage != nil || r.Async && !r.Clean
}

// Kept is a part of a log that was cut off, and the file that it is in; none if it could
// not be kept for want of space.
type Kept struct {
	From, To uint64
	File     string
}

// Open opens the log in a directory, which it makes if there is none, and recovers it.
//
// What a crash tore at the end is cut off: it was never acknowledged. Damage elsewhere is
// never cut: the log can be read up to there then, and takes nothing until [Log.Cut] or
// [Log.Install].
func Open(dir FS, o Options) (*Log, Recovery, error) {
	l := &Log{
		fs: dir, opts: o.withDefaults(), queues: map[queueKey]*queue{},
		wake: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	r := opening{log: l}
	if err := r.run(); err != nil {
		r.close()
		return nil, r.Recovery, fmt.Errorf("open log: %w", err)
	}
	return l, r.Recovery, nil
}

// opening is a log that is being opened.
type opening struct {
	Recovery
	log   *Log
	bases []uint64 // of the segment files that are there
	found []foundSegment
	slot  slot
}

type foundSegment struct {
	*segment
	preface *Preface
	end     uint64 // if all of the file is records
}

func (r *opening) close() {
	for _, s := range r.found {
		s.release()
	}
	if f := r.log.slots.file; f != nil {
		_ = f.Close()
	}
}

func (r *opening) run() error {
	if err := r.list(); err != nil {
		return err
	}
	if err := r.openSlots(); err != nil {
		return err
	}
	if len(r.bases) == 0 {
		return r.begin()
	}
	r.openSegments()
	r.openIndexes()
	return r.finish()
}

// list reads the names, and removes what was never finished.
func (r *opening) list() error {
	names, err := r.log.fs.List()
	if err != nil {
		return fmt.Errorf("list files: %w", err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, tmp) {
			if err := r.log.fs.Remove(name); err != nil {
				return fmt.Errorf("remove %s: %w", name, err)
			}
		}
		if base, ok := parseName(name, segmentSuffix); ok {
			r.bases = append(r.bases, base)
		}
	}
	slices.Sort(r.bases)
	// A process that was killed may have left names that are not durable yet, also that of
	// a state file.
	if err := r.log.fs.SyncDir(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

// openSlots reads up to where the log was durable.
func (r *opening) openSlots() error {
	f, err := r.log.fs.Open(syncedName, false)
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(r.bases) == 0:
		r.New = true
		f, err = createSlots(r.log.fs, r.slot)
	case errors.Is(err, fs.ErrNotExist):
		r.Unknown = true // until the end is known again there is no such file
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", syncedName, err)
	}
	r.log.slots.file = f
	s, place, known, err := readSlots(f)
	if err != nil {
		return err
	}
	r.Unknown = r.Unknown || !known
	r.Clean, r.Async = s.clean && known, s.async
	r.slot, r.log.slots.last, r.log.slots.place = s, s, 1-place
	return nil
}

// begin makes the first segment of a log that has none.
func (r *opening) begin() error {
	if r.slot.end > 0 || r.Unknown {
		r.damaged(&Damage{syncedName, 0, 0, fmt.Errorf("no segments, and offset %d had been durable: %w", r.slot.end, errFormat)})
		return nil
	}
	r.New = true
	seg, err := beginSegment(r.log.fs, &Preface{})
	if err != nil {
		return err
	}
	r.found = []foundSegment{{seg, &Preface{}, 0}}
	return r.finish()
}

// damaged notes the first damage; its segment and all behind it are left as they are.
func (r *opening) damaged(d *Damage) {
	r.Damage = d
	r.log.damage, r.log.crippled = d, true
}

// openSegments opens the segment files as far as each follows on the one before.
func (r *opening) openSegments() {
	for i, base := range r.bases {
		f, d := r.openSegment(base)
		if d == nil && i == 0 && !r.Unknown && base > r.slot.first {
			d = &Damage{f.name, 0, base, fmt.Errorf("nothing from offset %d on was deleted, and this is the oldest segment: %w", r.slot.first, errFormat)}
			f.release()
		}
		if d == nil && i > 0 {
			if last := r.found[i-1]; last.end != base {
				d = &Damage{last.name, last.at(min(last.end, base)), min(last.end, base), fmt.Errorf("its records end at %d, and %s follows: %w", last.end, f.name, errFormat)}
				r.found[i-1].end = min(last.end, base)
				f.release()
			}
		}
		if d != nil {
			r.damaged(d)
			r.log.beyond = r.bases[i:]
			return
		}
		r.found = append(r.found, f)
	}
}

func (r *opening) openSegment(base uint64) (foundSegment, *Damage) {
	name := segmentName(base)
	f, err := r.log.fs.Open(name, false)
	if err != nil {
		return foundSegment{}, &Damage{name, 0, base, err}
	}
	p, size, err := readPreface(f)
	total := int64(0)
	if err == nil {
		total, err = f.Size()
	}
	if err == nil && p.Base != base {
		err = fmt.Errorf("preface of offset %d: %w", p.Base, errFormat)
	}
	if err != nil {
		_ = f.Close()
		return foundSegment{}, &Damage{name, 0, base, err}
	}
	return foundSegment{newSegment(base, size, p.Time, f), p, base + uint64(total-size)}, nil
}

// openIndexes opens the index of each segment but the last. One that is missing or damaged
// is made anew from the segment.
func (r *opening) openIndexes() {
	for i := 0; i+1 < len(r.found); i++ {
		s, next := r.found[i], r.found[i+1].preface
		f, index, err := openIndex(r.log.fs, s.base, next.Base, next.Link)
		if err == nil {
			s.index = f
			r.addSpans(s.segment, index, nil)
			continue
		}
		c := s.load(s.preface, s.end)
		if c.wrong == nil && c.link != next.Link {
			c.wrong = fmt.Errorf("its last record is %08x, and the next segment follows on %08x: %w", c.link, next.Link, errFormat)
		}
		if c.wrong != nil {
			r.damaged(&Damage{s.name, s.at(c.end), c.end, c.wrong})
			r.leave(i + 1)
			return
		}
		sealed, _ := sealContent(s.base, &c)
		f, written, err := writeIndex(r.log.fs, sealed, func(i int) []place { return c.places[sealed.queues[i].queueKey] })
		if err != nil {
			r.addSpans(s.segment, sealed, c.places) // a full disk: they stay in memory
			continue
		}
		s.index = f
		r.addSpans(s.segment, written, nil)
	}
}

// leave closes the segments from the i-th on, which are behind damage.
func (r *opening) leave(i int) {
	for _, s := range r.found[i:] {
		s.release()
	}
	r.log.beyond = r.bases[i:]
	r.found = r.found[:i]
}

func (r *opening) addSpans(seg *segment, s *sealed, places map[queueKey][]place) {
	for _, sq := range s.queues {
		q := r.log.queue([]byte(sq.topic), sq.queue)
		q.spans = append(q.spans, span{seg: seg, first: sq.first, count: sq.count, at: sq.at, sum: sq.places, mem: places[sq.queueKey]})
	}
}

// finish reads the last segment, cuts off what is torn, and makes the rest durable.
func (r *opening) finish() error {
	l := r.log
	if len(r.found) == 0 {
		return nil
	}
	last := r.found[len(r.found)-1]
	c := last.load(last.preface, last.end)
	if !l.crippled {
		if d := r.judge(last, &c); d != nil {
			r.damaged(d)
		}
	}
	if !l.crippled {
		if err := r.mend(last, &c); err != nil {
			return err
		}
	}
	for _, s := range r.found {
		l.segments = append(l.segments, s.segment)
	}
	l.adopt(last.segment, &c)
	if l.crippled {
		return nil
	}
	return l.setSynced(r.found[0].base, c.end, false)
}

// adopt makes what a walk over the last segment brought the end of the log. mu is held, or
// nobody else has the log yet.
func (l *Log) adopt(last *segment, c *content) {
	for k, next := range c.next {
		q := l.queue([]byte(k.topic), k.queue)
		q.head, q.next = next, next
		if places := c.places[k]; len(places) > 0 {
			q.spans = append(q.spans, span{seg: last, first: next - uint64(len(places)), count: uint32(len(places)), mem: places})
		}
	}
	l.head, l.done, l.synced, l.history = c.cursor, c.cursor, c.end, c.history
}
