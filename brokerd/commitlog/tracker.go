package commitlog

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/brokerd/record"
)

// queueKey names a queue.
type queueKey struct {
	topic string
	queue uint32
}

func (k queueKey) compare(o queueKey) int {
	return cmp.Or(strings.Compare(k.topic, o.topic), cmp.Compare(k.queue, o.queue))
}

func (q Next) key() queueKey { return queueKey{q.Topic, q.Queue} }

// ErrNext: a record that does not follow on what is there.
var ErrNext = errors.New("record does not follow")

// cursor is a place in a log, and what the next record has to fit to.
type cursor struct {
	end   uint64 // offset of the next record
	link  uint32 // checksum of the last one
	epoch uint64 // of the last one
	time  int64  // its store time
}

// admit says whether a record can follow, but for its queue offset. Epochs begin with
// a record of their own, and store times never fall.
func (c *cursor) admit(h *record.Header) error {
	starts := h.Kind == record.KindStart
	switch {
	case h.Offset != c.end:
		return fmt.Errorf("record of offset %d at %d: %w", h.Offset, c.end, ErrNext)
	case h.Link != c.link:
		return fmt.Errorf("record at %d is linked to %08x, not to %08x: %w", c.end, h.Link, c.link, ErrNext)
	case starts && h.Epoch <= c.epoch, !starts && h.Epoch != c.epoch:
		return fmt.Errorf("record of kind %d and epoch %d at %d after epoch %d: %w", h.Kind, h.Epoch, c.end, c.epoch, ErrNext)
	case h.StoreTime < c.time && c.end > 0:
		return fmt.Errorf("record at %d of %d ms after %d ms: %w", c.end, h.StoreTime, c.time, ErrNext)
	}
	return nil
}

// pass moves the cursor past a record.
func (c *cursor) pass(h *record.Header) {
	c.end, c.link, c.epoch, c.time = h.End(), h.Checksum, h.Epoch, h.StoreTime
}

// tracker is all that follows from the records before an offset.
type tracker struct {
	cursor
	history []Start
	next    map[queueKey]uint64
}

// track begins behind a preface.
func track(p *Preface) *tracker {
	t := &tracker{
		cursor:  cursor{p.Base, p.Link, p.Epoch, p.Time},
		history: slices.Clone(p.History),
		next:    make(map[queueKey]uint64, len(p.Queues)),
	}
	for _, q := range p.Queues {
		t.next[q.key()] = q.Next
	}
	return t
}

// take checks a record against all before it, and passes it.
func (t *tracker) take(h *record.Header) error {
	if err := t.admit(h); err != nil {
		return err
	}
	switch h.Kind {
	case record.KindStart:
		t.history = append(t.history, Start{h.Epoch, h.Offset})
	case record.KindMessage:
		next := t.next[queueKey{string(h.Topic), h.Queue}]
		if h.QueueOffset != next {
			return fmt.Errorf("record at %d is number %d of queue %s/%d, not %d: %w", h.Offset, h.QueueOffset, h.Topic, h.Queue, next, ErrNext)
		}
		t.next[queueKey{string(h.Topic), h.Queue}] = next + 1
	}
	t.pass(h)
	return nil
}

// preface returns the one of a segment that begins here.
func (t *tracker) preface() *Preface {
	p := &Preface{Base: t.end, Link: t.link, Time: t.time, Epoch: t.epoch, History: t.history}
	for k, next := range t.next {
		if next > 0 {
			p.Queues = append(p.Queues, Next{k.topic, k.queue, next})
		}
	}
	slices.SortFunc(p.Queues, func(a, b Next) int { return a.key().compare(b.key()) })
	return p
}
