package commitlog

import (
	"context"
	"fmt"

	"holdfast/brokerd/record"
)

// Entry is a record that a master appends.
type Entry struct {
	// Header has the kind, and a message's topic and queue. The rest is set by Append.
	Header  record.Header
	Message *record.Message // of a message
	State   []byte          // of state, opaque
}

// Batch is what one commit writes.
type Batch struct {
	epochs  []Start
	records []pendingRecord
	buf     []byte
	last    cursor // behind its last record
	done    chan struct{}
	err     error // set before done is closed
}

type pendingRecord struct {
	queue *queue // nil if it is no message
	size  uint32
}

// Done is closed when the batch counts as durable under the flush mode, or is refused.
func (b *Batch) Done() <-chan struct{} { return b.done }

// Err returns nil if the batch counts as durable, else why it was refused. It may be called
// when Done is closed. After [ErrFailed] nobody knows whether it is in the log; after any
// other error it is not.
func (b *Batch) Err() error { return b.err }

// Wait waits for Done and returns Err. A context that ends says nothing of the batch.
func (b *Batch) Wait(ctx context.Context) error {
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *Batch) end(err error) {
	b.err = err
	close(b.done)
}

// Append appends records of a master's epoch: all of them, or none if it fails. now is
// the store time in ms since 1970 (UTC); should the log have a later one, that one is
// taken. An epoch begins with a record of kind Start. Offsets, and what else a record is
// given, are in the entries' headers when it returns; they are void if the batch is
// refused.
//
// Somebody has to call [Log.Commit]: [Log.Run] does.
func (l *Log) Append(epoch uint64, now int64, entries []Entry) (*Batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, err := l.open()
	if err != nil {
		return nil, fmt.Errorf("append: %w", err)
	}
	undo := l.mark(b)
	for i := range entries {
		if err := l.add(b, epoch, now, &entries[i]); err != nil {
			l.undo(b, undo)
			return nil, fmt.Errorf("append: %w", err)
		}
	}
	l.signal()
	return b, nil
}

// open returns the batch that the next record goes to. mu is held.
func (l *Log) open() (*Batch, error) {
	switch {
	case l.err != nil:
		return nil, l.err
	case l.crippled:
		return nil, l.damage
	}
	if l.pending == nil {
		l.pending = &Batch{last: l.head, done: make(chan struct{})}
		if n := len(l.spare); n > 0 {
			l.pending.buf, l.pending.records = l.spare[n-1].buf, l.spare[n-1].records
			l.spare = l.spare[:n-1]
		}
	}
	if len(l.pending.buf) >= l.opts.MaxPending {
		return nil, ErrBusy
	}
	return l.pending, nil
}

// add appends one record to a batch. mu is held.
func (l *Log) add(b *Batch, epoch uint64, now int64, e *Entry) error {
	h := &e.Header
	h.Offset, h.Link, h.Epoch, h.QueueOffset = l.head.end, l.head.link, epoch, 0
	h.StoreTime = now
	if l.head.end > 0 {
		h.StoreTime = max(now, l.head.time)
	}
	if starts := h.Kind == record.KindStart; starts && epoch <= l.head.epoch || !starts && epoch != l.head.epoch {
		return fmt.Errorf("record of kind %d and epoch %d after epoch %d: %w", h.Kind, epoch, l.head.epoch, ErrEpoch)
	}
	var q *queue
	if h.Kind == record.KindMessage {
		if l.low {
			return fmt.Errorf("less than %d bytes are free: %w", l.opts.MinFree, ErrFull)
		}
		q = l.queue(h.Topic, h.Queue)
		h.QueueOffset = q.head
	}
	var err error
	if h.Kind == record.KindState {
		b.buf, err = record.AppendState(b.buf, h, e.State)
	} else {
		b.buf, err = record.Append(b.buf, h, e.Message)
	}
	if err != nil {
		return err
	}
	l.note(b, q, h)
	return nil
}

// note does what follows from a record that was put into a batch's buffer. mu is held.
func (l *Log) note(b *Batch, q *queue, h *record.Header) {
	if q != nil {
		q.head++
	}
	if h.Kind == record.KindStart {
		b.epochs = append(b.epochs, Start{h.Epoch, h.Offset})
	}
	b.records = append(b.records, pendingRecord{q, h.Length})
	l.head.pass(h)
	b.last = l.head
}

// mark is what undo goes back to.
type mark struct {
	head                 cursor
	buf, records, epochs int
}

func (l *Log) mark(b *Batch) mark {
	return mark{l.head, len(b.buf), len(b.records), len(b.epochs)}
}

// undo takes back what was added since a mark. mu is held.
func (l *Log) undo(b *Batch, m mark) {
	for _, r := range b.records[m.records:] {
		if r.queue != nil {
			r.queue.head--
		}
	}
	l.head, b.last = m.head, m.head
	b.buf, b.records, b.epochs = b.buf[:m.buf], b.records[:m.records], b.epochs[:m.epochs]
}

// AppendRaw appends whole records that a master has sent: all of them, or none if it
// fails. Each is checked: its checksum, and that it follows on what is there (offset,
// link, epoch, store time, queue offset; ErrNext if it does not).
func (l *Log) AppendRaw(records []byte) (*Batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, err := l.open()
	if err != nil {
		return nil, fmt.Errorf("append raw: %w", err)
	}
	undo := l.mark(b)
	for rest := records; len(rest) > 0; {
		h, err := record.Parse(rest)
		if err == nil {
			err = l.addRaw(b, &h, rest)
		}
		if err != nil {
			l.undo(b, undo)
			return nil, fmt.Errorf("append raw: at %d of %d bytes: %w", len(records)-len(rest), len(records), err)
		}
		rest = rest[h.Length:]
	}
	l.signal()
	return b, nil
}

// addRaw appends the record that raw begins with. mu is held.
func (l *Log) addRaw(b *Batch, h *record.Header, raw []byte) error {
	if err := l.head.admit(h); err != nil {
		return err
	}
	var q *queue
	if h.Kind == record.KindMessage {
		if l.low {
			return fmt.Errorf("less than %d bytes are free: %w", l.opts.MinFree, ErrFull)
		}
		if q = l.queue(h.Topic, h.Queue); h.QueueOffset != q.head {
			return fmt.Errorf("record at %d is number %d of queue %s/%d, not %d: %w", h.Offset, h.QueueOffset, h.Topic, h.Queue, q.head, ErrNext)
		}
	}
	b.buf = append(b.buf, raw[:h.Length]...)
	l.note(b, q, h)
	return nil
}

// signal wakes Run.
func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
