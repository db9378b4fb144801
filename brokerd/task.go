package brokerd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"holdfast/brokerd/commitlog"
	"holdfast/brokerd/record"
	"holdfast/brokerd/replica"
	"holdfast/brokerd/service"
)

// task is what a client waits for: records that were appended, or the log as it was.
type task struct {
	epoch    uint64
	end      uint64 // of the log; what is told to the client holds once that is confirmed
	batch    *commitlog.Batch
	state    bool        // one of the records changes the consumers' state
	appended bool        // else nothing of it is in any log
	done     func(error) // called once, by the owner; must not wait
}

// serve runs what clients have asked for, as much as is there, commits it as one batch
// and tells the replica.
func (o *owner) serve(first func(*owner)) error {
	first(o)
	for range turnTasks {
		select {
		case f := <-o.Broker.tasks:
			f(o)
			continue
		default:
		}
		break
	}
	return o.commit()
}

// admit says whether something may be appended now; its errors are definite.
func (o *owner) admit() error {
	if o.replica == nil || o.stopping || !o.disk.consumers.usable() {
		return service.ErrNotMaster
	}
	if err := o.replica.Admit(o.now(), o.deadline()); err != nil {
		return fmt.Errorf("%w: %w", service.ErrNotMaster, err)
	}
	return nil
}

// append appends records as one task. With no entries the task waits for the log as it is.
// An error is definite.
func (o *owner) append(entries []commitlog.Entry, state []byte, done func(error)) error {
	t := &task{epoch: o.replica.Leads(), end: o.disk.log.End(), done: done}
	if state != nil {
		entries = append(entries, commitlog.Entry{Header: record.Header{Kind: record.KindState}, State: state})
		t.state = true
	}
	if len(entries) > 0 {
		var err error
		if t.batch, err = o.disk.log.Append(t.epoch, o.edges.Clock.Wall(), entries); err != nil {
			return refusal(err)
		}
		t.end, t.appended = o.disk.log.End(), true
		for _, e := range entries {
			if e.Header.Kind == record.KindMessage {
				o.fresh[string(e.Header.Topic)] = true
			}
		}
	}
	if state != nil {
		if err := o.disk.consumers.state.Apply(state); err != nil {
			o.broken = fmt.Errorf("apply own change of the consumers' state: %w", err)
		}
	}
	o.pending = append(o.pending, t)
	return nil
}

// refusal is what a client is told of what the log did not take.
func refusal(err error) error {
	switch {
	case errors.Is(err, commitlog.ErrFull), errors.Is(err, commitlog.ErrBusy):
		return fmt.Errorf("%w: %w", service.ErrBusy, err)
	case errors.Is(err, record.ErrTooLarge):
		return fmt.Errorf("%w: %w", service.ErrTooLarge, err)
	}
	return fmt.Errorf("%w: %w", service.ErrNotMaster, err)
}

// commit writes what was appended, and tells the replica.
func (o *owner) commit() error {
	if o.broken != nil || len(o.pending) == 0 {
		return o.broken
	}
	pending := o.pending
	o.pending = nil
	if err := o.disk.log.Commit(); err != nil && !errors.Is(err, commitlog.ErrFull) {
		o.fail(pending)
		return err
	}
	lost := false
	for _, t := range pending {
		if t.batch != nil {
			if err := t.batch.Wait(context.Background()); err != nil {
				lost = lost || t.state
				t.done(refusal(err))
				continue
			}
		}
		o.waiting = append(o.waiting, t)
	}
	if lost { // the state has what the log has not
		o.log.Warn("the disk is full: what consumers did last was refused")
		if err := o.disk.consumers.open(); err != nil {
			return err
		}
	}
	end := o.disk.log.End()
	o.disk.consumers.at = end
	if known := o.replica.Log().End; end > known {
		o.replica.Appended(end - known)
	}
	return o.perform(o.replica.Synced(o.disk.log.Durable()), nil, nil)
}

// fail answers tasks whose fate nobody knows.
func (o *owner) fail(tasks []*task) {
	for _, t := range tasks {
		t.done(unknown(t))
	}
}

func unknown(t *task) error {
	if t.appended {
		return service.ErrUnconfirmed
	}
	return service.ErrNotMaster
}

// answer tells clients what can be told right now.
func (o *owner) answer() {
	n := 0
	for _, t := range o.waiting {
		verdict, err := o.replica.Judge(t.epoch, t.end, o.now(), o.deadline())
		if verdict == replica.Waiting {
			break // as do all that are behind it
		}
		n++
		if verdict == replica.Acknowledged {
			t.done(nil)
			continue
		}
		o.log.Debug("outcome unknown", "end", t.end, "err", err)
		t.done(unknown(t))
	}
	o.waiting = slices.Delete(o.waiting, 0, n)
}

// do has the owner run f and waits for what done is called with. f's own error is
// definite.
func (b *Broker) do(ctx context.Context, f func(o *owner, done func(error)) error) error {
	result := make(chan error, 1)
	done := func(err error) { result <- err }
	var taken atomic.Bool // by the owner, or given up before it had its turn
	run := func(o *owner) {
		if !taken.CompareAndSwap(false, true) {
			return
		}
		err := o.admit()
		if err == nil {
			err = f(o, done)
		}
		if err != nil {
			done(err)
		}
	}
	select {
	case b.tasks <- run:
	case <-ctx.Done():
		return service.ErrBusy
	case <-b.running:
		return service.ErrNotMaster
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	case <-b.running:
	}
	if taken.CompareAndSwap(false, true) {
		return service.ErrBusy // nothing was appended, and nothing will be
	}
	select {
	case err := <-result:
		return err
	default:
		return service.ErrUnconfirmed
	}
}

// Send stores messages of one queue and returns the queue offset of the first once they
// are acknowledged by the group's rules. See [service.Definite] for errors.
func (b *Broker) Send(ctx context.Context, s service.Send) (offset uint64, _ error) {
	entries := make([]commitlog.Entry, len(s.Messages))
	for i := range s.Messages {
		entries[i] = commitlog.Entry{
			Header:  record.Header{Kind: record.KindMessage, Topic: []byte(s.Topic), Queue: s.Queue},
			Message: &s.Messages[i],
		}
	}
	err := b.do(ctx, func(o *owner, done func(error)) error { return o.append(entries, nil, done) })
	if err != nil {
		return 0, err
	}
	return entries[0].Header.QueueOffset, nil
}
