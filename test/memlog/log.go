package memlog

import (
	"context"
	"fmt"
	"sync"
	"time"

	"holdfast/brokerd/pop"
	"holdfast/brokerd/record"
	"holdfast/brokerd/service"
)

// Log is the log of one broker group: all that was appended, in order, and how much of it
// is confirmed.
type Log struct {
	cluster *Cluster
	group   string

	mu        sync.Mutex
	master    string  // broker, "" if there is none
	epoch     uint64  // of the last grant
	records   []entry // a record's offset is its index
	confirmed int     // records
	held      bool    // nothing is confirmed meanwhile
	queues    map[queue][]message
	ends      map[queue]uint64 // confirmed messages of each
	state     *pop.State       // of the log's end
	changed   chan struct{}    // closed when anything above changes
}

type queue struct {
	topic string
	id    uint32
}

// entry is a record: a message, or what consumers did.
type entry struct {
	queue queue
	body  []byte // of a state record
}

type message struct {
	record.Message
	stored int64
}

// wake tells all that wait. The lock is held.
func (l *Log) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// grant makes a broker the master, whose state is built from the log alone.
func (l *Log) grant(broker string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.wake()
	state := pop.New(pop.DefaultLimits())
	for i, e := range l.records {
		if e.body == nil {
			continue
		}
		if err := state.Apply(e.body); err != nil {
			return fmt.Errorf("record %d: %w", i, err)
		}
	}
	l.state, l.master = state, broker
	l.epoch++
	return nil
}

// Hold stops or resumes confirmations, as an in-sync set that is too small does.
func (l *Log) Hold(held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = held
	l.confirm()
	l.wake()
}

// confirm confirms all there is. The lock is held.
func (l *Log) confirm() {
	for !l.held && l.confirmed < len(l.records) {
		if e := l.records[l.confirmed]; e.body == nil {
			l.ends[e.queue]++
		}
		l.confirmed++
	}
}

// messages appends messages to a queue. The lock is held.
func (l *Log) messages(q queue, in ...record.Message) (first uint64) {
	first = uint64(len(l.queues[q]))
	for _, m := range in {
		l.queues[q] = append(l.queues[q], message{m, time.Now().UnixMilli()})
		l.records = append(l.records, entry{queue: q})
	}
	return first
}

// bodies appends a state record, and applies it. The lock is held.
func (l *Log) bodies(body []byte) error {
	if body == nil {
		return nil
	}
	l.records = append(l.records, entry{body: body})
	return l.state.Apply(body)
}

// commit waits until all that was appended so far is confirmed, in the epoch in which it
// was appended. The lock is held, but not while it waits.
func (l *Log) commit(ctx context.Context) error {
	l.confirm()
	l.wake()
	end, epoch := len(l.records), l.epoch
	for l.confirmed < end || l.epoch != epoch {
		if l.epoch != epoch {
			return fmt.Errorf("epoch %d of group %s has ended: %w", epoch, l.group, service.ErrUnconfirmed)
		}
		if err := l.await(ctx, 0); err != nil {
			return fmt.Errorf("%w: %w", err, service.ErrUnconfirmed)
		}
	}
	return nil
}

// await waits for a change, but no longer than to that time (ms since 1970, 0: no bound).
// The lock is held, but not while it waits.
func (l *Log) await(ctx context.Context, until int64) error {
	changed := l.changed
	l.mu.Unlock()
	defer l.mu.Lock()
	var wake <-chan time.Time
	if until > 0 {
		t := time.NewTimer(time.Until(time.UnixMilli(until)))
		defer t.Stop()
		wake = t.C
	}
	select {
	case <-changed:
	case <-wake:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// windows are the topic's queues as far as they may be read, beginning with another one
// each time. The lock is held.
func (l *Log) windows(topic string, turn uint32) []pop.Window {
	t, _ := l.cluster.View().Topic(topic)
	n := t.In(l.group)
	var w []pop.Window
	for i := range n {
		id := (turn + i) % n
		w = append(w, pop.Window{Queue: id, End: l.ends[queue{topic, id}]})
	}
	return w
}

// Messages returns how many messages a topic has in the log.
func (l *Log) Messages(topic string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for q, m := range l.queues {
		if q.topic == topic {
			n += len(m)
		}
	}
	return n
}
