package brokerd

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync/atomic"

	"holdfast/brokerd/commitlog"
	"holdfast/brokerd/pop"
	"holdfast/brokerd/record"
	"holdfast/brokerd/service"
	pb "holdfast/coordinator/api/holdfastpb"
)

const (
	// maxAttempts is how often a message is delivered before it is dead: RocketMQ's 16
	// retries.
	maxAttempts = 17
	// receiveBytes bounds the bodies of one delivery, but for the first.
	receiveBytes = 4 << 20
	// peekBytes is how much of a queue is read at once to plan a delivery.
	peekBytes = 1 << 20
	// maxPlans is how many plans one request makes in a row: each passes over thousands of
	// messages that its filter does not want.
	maxPlans = 8
)

// poll is a request for messages that waits for some.
type poll struct {
	request service.Receive
	wake    int64 // when a message becomes visible again, ms since 1970; 0 = none does
	done    func([]service.Delivery, error)
	state   atomic.Int32 // open, given up by the client, or claimed for it
}

// States of a poll.
const (
	pollOpen int32 = iota
	pollGivenUp
	pollClaimed
)

func (p *poll) gone() bool { return p.state.Load() == pollGivenUp }

// Receive claims messages for a consumer, waiting until there are some or waiting is done:
// then there are none, and no error. ctx bounds the whole call. What it returns is confirmed.
func (b *Broker) Receive(ctx, waiting context.Context, r service.Receive) ([]service.Delivery, error) {
	type outcome struct {
		deliveries []service.Delivery
		err        error
	}
	result := make(chan outcome, 1)
	p := &poll{request: r, done: func(d []service.Delivery, err error) { result <- outcome{d, err} }}
	select {
	case b.tasks <- func(o *owner) { o.polls.try(o, p) }:
	case <-waiting.Done():
		return nil, nil
	case <-b.running:
		return nil, service.ErrNotMaster
	}
	select {
	case x := <-result:
		return x.deliveries, x.err
	case <-waiting.Done():
		if p.state.CompareAndSwap(pollOpen, pollGivenUp) {
			return nil, nil
		}
	case <-b.running:
	}
	// Claimed, and not confirmed yet.
	select {
	case x := <-result:
		return x.deliveries, x.err
	case <-ctx.Done():
	case <-b.running:
	}
	return nil, service.ErrUnconfirmed
}

// polls are the requests that wait, by topic, in the order in which they came.
type polls struct{ byTopic map[string][]*poll }

func newPolls() polls { return polls{make(map[string][]*poll)} }

// try plans a delivery, or lets the poll wait.
func (w *polls) try(o *owner, p *poll) {
	if p.gone() {
		return
	}
	if err := o.admit(); err != nil {
		p.done(nil, err)
		return
	}
	waits, err := o.deliver(p)
	if err != nil {
		p.done(nil, err)
		return
	}
	if waits {
		w.byTopic[p.request.Topic] = append(w.byTopic[p.request.Topic], p)
	}
}

// again tries polls of a topic that are ready.
func (w *polls) again(o *owner, topic string, ready func(*poll) bool) {
	list := w.byTopic[topic]
	delete(w.byTopic, topic)
	for _, p := range list {
		switch {
		case p.gone():
		case ready(p):
			w.try(o, p)
		default:
			w.byTopic[topic] = append(w.byTopic[topic], p)
		}
	}
}

// woken tries the polls of topics that have new messages.
func (w *polls) woken(o *owner, topics map[string]bool) {
	for _, topic := range slices.Sorted(maps.Keys(topics)) {
		w.again(o, topic, func(*poll) bool { return true })
	}
}

// due tries the polls for which a message becomes visible again. When this replica is
// no master any more, they all end.
func (w *polls) due(o *owner, now int64) {
	lost := o.admit() != nil
	for _, topic := range slices.Sorted(maps.Keys(w.byTopic)) {
		w.again(o, topic, func(p *poll) bool { return lost || p.wake != 0 && p.wake <= now })
	}
}

// end ends all.
func (w *polls) end() {
	for _, list := range w.byTopic {
		for _, p := range list {
			p.done(nil, service.ErrNotMaster)
		}
	}
	clear(w.byTopic)
}

// deliver plans a delivery and appends what it changes. waits: there is nothing now.
func (o *owner) deliver(p *poll) (waits bool, err error) {
	r := p.request
	now := o.edges.Clock.Wall()
	look := peeker{log: o.disk.log, topic: r.Topic, below: o.replica.Readable(o.now(), o.deadline())}
	q := pop.Request{
		Group: r.Group, Topic: r.Topic, Filter: r.Filter, Max: r.Max, MaxBytes: receiveBytes,
		Now: now, Until: now + r.Invisible.Milliseconds(), Nonce: random(),
		MaxAttempts: maxAttempts, Peek: look.peek,
	}
	for range maxPlans {
		if q.Queues, err = o.windows(r, look.below); err != nil {
			return false, err
		}
		plan, err := o.disk.consumers.state.Receive(&q)
		if err != nil {
			return false, fmt.Errorf("%w: %w", service.ErrBusy, err)
		}
		if len(plan.Deliveries) > 0 {
			deliveries, err := look.deliveries(o.config.Group, &q, plan.Deliveries)
			if err != nil {
				return false, err
			}
			if !p.state.CompareAndSwap(pollOpen, pollClaimed) {
				return false, nil // nobody waits for it any more
			}
			return false, o.append(o.bury(r.Group, look.dead(r.Group, plan.Dead)), plan.Body, func(err error) { p.done(deliveries, err) })
		}
		if plan.Body != nil {
			if err := o.append(o.bury(r.Group, look.dead(r.Group, plan.Dead)), plan.Body, func(error) {}); err != nil {
				return false, err
			}
		}
		p.wake = plan.Wake
		if !plan.More {
			return true, nil
		}
	}
	p.wake = now // there is more to look at
	return true, nil
}

// windows are what can be read of the queues that a consumer asks, another one first
// each time.
func (o *owner) windows(r service.Receive, below uint64) ([]pop.Window, error) {
	var ids []uint32
	if r.Queue != service.AnyQueue {
		ids = []uint32{uint32(r.Queue)}
	} else if t, ok := o.cluster.View().Topic(r.Topic); ok {
		for id := range t.In(o.config.Group) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil, service.ErrNoTopic
	}
	o.turnOf++
	var out []pop.Window
	for i := range ids {
		id := ids[(uint64(i)+o.turnOf)%uint64(len(ids))]
		first, next, err := o.disk.log.Bounds(r.Topic, id, below)
		if err != nil {
			return nil, err
		}
		out = append(out, pop.Window{Queue: id, First: first, End: next})
	}
	return out, nil
}

// peeker reads messages of a topic for one request, several at once.
type peeker struct {
	log   *commitlog.Log
	topic string
	below uint64
	read  map[place]read
}

type place struct {
	queue  uint32
	offset uint64
}

type read struct {
	message   *record.Message
	storeTime int64
}

func (k *peeker) at(queue uint32, offset uint64) (read, error) {
	if m, ok := k.read[place{queue, offset}]; ok {
		return m, nil
	}
	list, err := k.log.ReadQueue(commitlog.QueueRead{Topic: k.topic, Queue: queue, Offset: offset, Max: 32, Bytes: peekBytes, Below: k.below})
	if err != nil {
		return read{}, err
	}
	if k.read == nil {
		k.read = make(map[place]read)
	}
	for _, b := range list {
		h, m, err := record.Decode(b)
		if err != nil {
			return read{}, fmt.Errorf("read queue %s/%d: %w", k.topic, queue, err)
		}
		k.read[place{queue, h.QueueOffset}] = read{m, h.StoreTime}
	}
	m, ok := k.read[place{queue, offset}]
	if !ok {
		return read{}, fmt.Errorf("read queue %s/%d: no message %d", k.topic, queue, offset)
	}
	return m, nil
}

func (k *peeker) peek(queue uint32, offset uint64) (pop.Message, error) {
	m, err := k.at(queue, offset)
	if err != nil {
		return pop.Message{}, err
	}
	return pop.Message{Tag: m.message.Tag, Size: len(m.message.Body)}, nil
}

// deliveries are what a consumer gets.
func (k *peeker) deliveries(group string, q *pop.Request, list []pop.Delivery) ([]service.Delivery, error) {
	out := make([]service.Delivery, len(list))
	for i, d := range list {
		m, err := k.at(d.Queue, d.Offset)
		if err != nil {
			return nil, err
		}
		out[i] = service.Delivery{
			Handle:  pop.Handle{BrokerGroup: group, Key: pop.Key{Group: q.Group, Topic: q.Topic, Queue: d.Queue}, Offset: d.Offset, Nonce: q.Nonce},
			Message: m.message, StoreTime: m.storeTime, Attempt: d.Attempt,
		}
	}
	return out, nil
}

// deadLetters is the topic of a consumer group's dead messages.
func deadLetters(group string) string { return "%DLQ%" + group }

// dead are the entries of messages that were delivered too often.
func (k *peeker) dead(group string, list []pop.Delivery) []commitlog.Entry {
	var out []commitlog.Entry
	for _, d := range list {
		if m, err := k.at(d.Queue, d.Offset); err == nil { // it was read for the plan
			out = append(out, deadLetter(group, k.topic, m.message))
		}
	}
	return out
}

func deadLetter(group, topic string, m *record.Message) commitlog.Entry {
	moved := *m
	moved.Properties = append(slices.Clone(m.Properties),
		record.Property{Key: "DLQ_ORIGIN_TOPIC", Value: topic}, record.Property{Key: "DLQ_ORIGIN_MESSAGE_ID", Value: m.ID})
	return commitlog.Entry{Header: record.Header{Kind: record.KindMessage, Topic: []byte(deadLetters(group))}, Message: &moved}
}

// bury makes the topic of dead letters, so that somebody can read them.
func (o *owner) bury(group string, entries []commitlog.Entry) []commitlog.Entry {
	if _, ok := o.cluster.View().Topic(deadLetters(group)); !ok && len(entries) > 0 {
		r := &pb.EnsureTopicRequest{Session: o.session.id, Topic: deadLetters(group), Queues: 1}
		o.propose("topic of dead letters", func(ctx context.Context) error { _, err := o.edges.Groups.EnsureTopic(ctx, r); return err })
	}
	return entries
}

// Ack settles messages; it returns one verdict for each handle, confirmed.
func (b *Broker) Ack(ctx context.Context, handles []pop.Handle) ([]pop.Verdict, error) {
	var verdicts []pop.Verdict
	err := b.do(ctx, func(o *owner, done func(error)) error {
		var body []byte
		body, verdicts = o.disk.consumers.state.Ack(handles)
		return o.append(nil, body, done)
	})
	if err != nil {
		return nil, err
	}
	return verdicts, nil
}

// Delay moves the time at which messages become visible again.
func (b *Broker) Delay(ctx context.Context, d service.Delay) ([]service.Settlement, error) {
	var out []service.Settlement
	err := b.do(ctx, func(o *owner, done func(error)) error {
		until := o.edges.Clock.Wall() + d.For.Milliseconds()
		state := o.disk.consumers.state
		if d.Keep {
			body, verdicts := state.Renew(d.Handles, until)
			for i, v := range verdicts {
				out = append(out, service.Settlement{Verdict: v, Handle: d.Handles[i]})
			}
			return o.append(nil, body, done)
		}
		for _, h := range d.Handles {
			body, changed, v := state.Delay(h, random(), until)
			out = append(out, service.Settlement{Verdict: v, Handle: changed})
			if err := o.append(nil, body, func(error) {}); err != nil {
				return err
			}
		}
		return o.append(nil, nil, done)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// random returns a number that nobody guesses, for receipts.
func random() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])
}

// Bury moves a message to the dead letter topic of its consumer group.
func (b *Broker) Bury(ctx context.Context, h pop.Handle) (pop.Verdict, error) {
	verdict := pop.Stale
	err := b.do(ctx, func(o *owner, done func(error)) error {
		body, verdicts := o.disk.consumers.state.Ack([]pop.Handle{h})
		verdict = verdicts[0]
		var entries []commitlog.Entry
		if verdict == pop.Good {
			look := peeker{log: o.disk.log, topic: h.Topic, below: math.MaxUint64}
			m, err := look.at(h.Queue, h.Offset)
			if err != nil {
				return fmt.Errorf("%w: %w", service.ErrBusy, err)
			}
			entries = o.bury(h.Group, []commitlog.Entry{deadLetter(h.Group, h.Topic, m.message)})
		}
		return o.append(entries, body, done)
	})
	if err != nil {
		return pop.Stale, err
	}
	return verdict, nil
}
