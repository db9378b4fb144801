package memlog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"holdfast/brokerd/pop"
	"holdfast/brokerd/record"
	"holdfast/brokerd/service"
)

// Replica is a group's replica on one broker. It implements rmqgrpc.Local.
type Replica struct {
	Log         *Log
	Broker      string
	MaxAttempts uint32

	turn    uint32
	overlay *pop.State // while there is no master: what was given out without a record
}

// begin takes the lock if the replica may act.
func (r *Replica) begin() error {
	r.Log.mu.Lock()
	if r.Log.master != r.Broker {
		r.Log.mu.Unlock()
		return fmt.Errorf("replica of %s on %s: %w", r.Log.group, r.Broker, service.ErrNotMaster)
	}
	return nil
}

// Send implements rmqgrpc.Local.
func (r *Replica) Send(ctx context.Context, s service.Send) (uint64, error) {
	if err := r.begin(); err != nil {
		return 0, err
	}
	defer r.Log.mu.Unlock()
	first := r.Log.messages(queue{s.Topic, s.Queue}, s.Messages...)
	return first, r.Log.commit(ctx)
}

// Receive implements rmqgrpc.Local.
func (r *Replica) Receive(ctx, waiting context.Context, ask service.Receive) ([]service.Delivery, error) {
	l := r.Log
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		state, err := r.state()
		if err != nil {
			return nil, err
		}
		found, plan, err := r.receive(state, ask)
		if err != nil {
			return nil, err
		}
		if plan.Body != nil && r.overlay == nil {
			l.confirm()
			l.wake()
		}
		switch {
		case len(found) > 0 && r.overlay == nil:
			return found, l.commit(ctx)
		case len(found) > 0:
			return found, nil
		}
		if plan.More || plan.Body != nil {
			continue
		}
		if l.await(waiting, plan.Wake) != nil {
			return nil, nil
		}
	}
}

// state returns what deliveries are planned on: the log's if this is the master. While
// there is none it is a copy, which is forgotten when there is one again.
func (r *Replica) state() (*pop.State, error) {
	l := r.Log
	switch {
	case l.master == r.Broker:
		r.overlay = nil
		return l.state, nil
	case l.master != "":
		r.overlay = nil
		return nil, fmt.Errorf("replica of %s on %s: %w", l.group, r.Broker, service.ErrNotMaster)
	case r.overlay == nil:
		var err error
		if r.overlay, err = pop.Restore(pop.DefaultLimits(), l.state.AppendSnapshot(nil)); err != nil {
			return nil, err
		}
	}
	return r.overlay, nil
}

// receive plans, appends and applies. The lock is held.
func (r *Replica) receive(state *pop.State, ask service.Receive) ([]service.Delivery, pop.Plan, error) {
	l := r.Log
	r.turn++
	now := time.Now().UnixMilli()
	request := &pop.Request{
		Group: ask.Group, Topic: ask.Topic, Queues: l.windows(ask.Topic, r.turn), Filter: ask.Filter, Max: ask.Max,
		Now: now, Until: now + ask.Invisible.Milliseconds(), Nonce: rand.Uint64(), MaxAttempts: r.MaxAttempts,
		Peek: func(id uint32, offset uint64) (pop.Message, error) {
			m := l.queues[queue{ask.Topic, id}][offset]
			return pop.Message{Tag: m.Tag, Size: len(m.Body)}, nil
		},
	}
	if r.overlay != nil {
		request.MaxAttempts = 0 // only a master can move what is dead
	}
	plan, err := state.Receive(request)
	if err != nil {
		return nil, plan, err
	}
	for _, d := range plan.Dead {
		r.bury(ask.Group, ask.Topic, d.Queue, d.Offset)
	}
	switch {
	case plan.Body == nil:
	case r.overlay != nil:
		err = state.Apply(plan.Body)
	default:
		err = l.bodies(plan.Body)
	}
	if err != nil {
		return nil, plan, err
	}
	var found []service.Delivery
	for _, d := range plan.Deliveries {
		m := l.queues[queue{ask.Topic, d.Queue}][d.Offset]
		found = append(found, service.Delivery{
			Handle:  pop.Handle{BrokerGroup: l.group, Key: pop.Key{Group: ask.Group, Topic: ask.Topic, Queue: d.Queue}, Offset: d.Offset, Nonce: request.Nonce},
			Message: &m.Message, StoreTime: m.stored, Attempt: d.Attempt,
		})
	}
	return found, plan, nil
}

// bury appends a message to the dead letter topic of a group. The lock is held.
func (r *Replica) bury(group, topic string, id uint32, offset uint64) {
	dead := "%DLQ%" + group
	if _, ok := r.Log.cluster.View().Topic(dead); !ok {
		r.Log.cluster.Topic(dead, 1)
	}
	m := r.Log.queues[queue{topic, id}][offset].Message
	m.Properties = append([]record.Property{{Key: "DLQ_ORIGIN_TOPIC", Value: topic}, {Key: "DLQ_ORIGIN_MESSAGE_ID", Value: m.ID}}, m.Properties...)
	r.Log.messages(queue{dead, 0}, m)
}

// Ack implements rmqgrpc.Local.
func (r *Replica) Ack(ctx context.Context, handles []pop.Handle) ([]pop.Verdict, error) {
	if err := r.begin(); err != nil {
		return nil, err
	}
	defer r.Log.mu.Unlock()
	body, verdicts := r.Log.state.Ack(handles)
	if err := r.Log.bodies(body); err != nil {
		return nil, err
	}
	return verdicts, r.Log.commit(ctx)
}

// Delay implements rmqgrpc.Local.
func (r *Replica) Delay(ctx context.Context, d service.Delay) ([]service.Settlement, error) {
	if err := r.begin(); err != nil {
		return nil, err
	}
	defer r.Log.mu.Unlock()
	until := time.Now().Add(d.For).UnixMilli()
	var done []service.Settlement
	for _, h := range d.Handles {
		var body []byte
		s := service.Settlement{Handle: h}
		if d.Keep {
			var verdicts []pop.Verdict
			body, verdicts = r.Log.state.Renew([]pop.Handle{h}, until)
			s.Verdict = verdicts[0]
		} else {
			body, s.Handle, s.Verdict = r.Log.state.Delay(h, rand.Uint64(), until)
		}
		if err := r.Log.bodies(body); err != nil {
			return nil, err
		}
		done = append(done, s)
	}
	return done, r.Log.commit(ctx)
}

// Bury implements rmqgrpc.Local.
func (r *Replica) Bury(ctx context.Context, h pop.Handle) (pop.Verdict, error) {
	if err := r.begin(); err != nil {
		return 0, err
	}
	defer r.Log.mu.Unlock()
	body, verdicts := r.Log.state.Ack([]pop.Handle{h})
	if verdicts[0] == pop.Good {
		r.bury(h.Group, h.Topic, h.Queue, h.Offset)
	}
	if err := r.Log.bodies(body); err != nil {
		return 0, err
	}
	return verdicts[0], r.Log.commit(ctx)
}
