package vipagent

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
)

const (
	// minRound is the shortest time between two rounds, when news of a
	// configuration or a session asks for one out of turn.
	minRound = 10 * time.Millisecond
	// A session without a lease is renewed firstRounds times at quickRound: the
	// coordinators learn of a new session one after the other, and answer
	// only once they have.
	firstRounds = 10
	quickRound  = 20 * time.Millisecond
	// A round that has proven no deadline is repeated so many times in the interval
	// of rounds.
	repeats = 3
	// pauseNoted is how late a round must be to be logged as a pause.
	pauseNoted = 100 * time.Millisecond
)

// renewer sends rounds and turns answers into deadlines. All its state belongs
// to the goroutine of run; others reach it through channels that it always
// drains, and it reaches them through atomics and signals that wait for nobody.
type renewer struct {
	every     time.Duration
	clock     Clock
	datagrams Datagrams
	wake      func()                         // the owner; never blocks
	fence     func(uint64) lease.FenceReport // nil: nothing is told of it
	process   uint64

	commands chan func()
	answers  chan []byte

	holders        map[uint64]*holding
	configurations map[string]lease.Configuration // what each coordinator has told last
	basis          lease.Configuration            // under which a lease was proven last; Index 0 = none, or it has lapsed
	names          []string                       // whom to renew with, sorted
	newest         lease.Configuration            // told with the highest index
	answered       map[string]lease.Time          // when each coordinator was last heard
	last           lease.Time                     // of the last round
	next           lease.Time
	urgent         bool // the next round is for all sessions, due or not

	back   chan string  // coordinators that answer again after a silence
	paused atomic.Int64 // longest pause that the owner has not taken yet, ns
}

type holding struct {
	slot   *slot
	holder *lease.Holder
	rounds int // sent, repeated ones too
	round  lease.Round
	begun  lease.Time // when round was sent first
	sent   lease.Time // and when last
}

func newRenewer(every time.Duration, clock Clock, d Datagrams, wake func()) *renewer {
	return &renewer{
		every: every, clock: clock, datagrams: d, wake: wake,
		process:  newProcess(clock.Now()),
		commands: make(chan func(), 64), answers: make(chan []byte, 256),
		holders: make(map[uint64]*holding), configurations: make(map[string]lease.Configuration),
		answered: make(map[string]lease.Time), back: make(chan string, 16),
	}
}

// newProcess returns a number that rises with every start on this boot and is
// unique (agent rule 2): the boot time, with random low bits (about 65 us).
func newProcess(now lease.Time) uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return uint64(now)&^0xffff | binary.BigEndian.Uint64(b[:])&0xffff
}

// do runs f on the renewer's goroutine, soon.
func (r *renewer) do(f func()) { r.commands <- f }

// add starts to renew a session. adopted is a deadline that a former process
// had proven, 0 for none.
func (r *renewer) add(s *slot, adopted lease.Time) {
	r.do(func() {
		h := lease.NewHolder(s.Session, r.process)
		for _, name := range sortedKeys(r.configurations) {
			h.SetConfiguration(r.configurations[name])
		}
		if adopted != 0 {
			h.Adopt(adopted)
		}
		r.holders[s.ID] = &holding{slot: s, holder: h}
		r.soon()
	})
}

// drop stops renewing a session.
func (r *renewer) drop(id uint64) { r.do(func() { delete(r.holders, id) }) }

// told takes in the configuration that a coordinator has told.
func (r *renewer) told(coordinator string, c *pb.Configuration) {
	if c == nil || coordinator == "" {
		return
	}
	conf := lease.Configuration{Index: c.GetIndex()}
	for _, m := range c.GetMembers() {
		if m.GetVoter() {
			conf.Voters = append(conf.Voters, m.GetName())
		}
	}
	// The order of the members says nothing, but the holder counts afresh
	// when a configuration that it knows looks different.
	slices.Sort(conf.Voters)
	r.do(func() {
		before, known := r.configurations[coordinator]
		r.configurations[coordinator] = conf
		if conf.Index >= r.newest.Index {
			r.newest = conf
		}
		r.choose()
		for _, h := range r.holders {
			h.holder.SetConfiguration(conf)
		}
		if !known || before.Index != conf.Index {
			r.soon()
		}
	})
}

// choose says whom to renew with: the voters of every configuration that some
// coordinator goes by. While a lease is proven under one of them, older ones do not
// count: whoever only they name has been removed. Without a lease all count, for
// then nobody knows which of them still has a majority.
func (r *renewer) choose() {
	r.names = append(r.names[:0], r.basis.Voters...)
	for _, told := range r.configurations {
		if told.Index >= r.basis.Index {
			r.names = append(r.names, told.Voters...)
		}
	}
	slices.Sort(r.names)
	r.names = slices.Compact(r.names)
}

// base notes the configuration under which an answer has moved a deadline, and
// forgets the coordinators that are not in it any more.
func (r *renewer) base(a lease.Answer) {
	c, ok := r.configurations[a.Coordinator]
	if !ok || c.Index != a.Configuration || c.Index == r.basis.Index {
		return
	}
	r.basis = c
	r.choose()
	maps.DeleteFunc(r.configurations, func(name string, told lease.Configuration) bool {
		return told.Index < c.Index && !slices.Contains(r.names, name)
	})
	maps.DeleteFunc(r.answered, func(name string, _ lease.Time) bool { return !slices.Contains(r.names, name) })
}

// unbase lets all configurations count again when every lease has lapsed.
func (r *renewer) unbase(now lease.Time) {
	if r.basis.Index == 0 {
		return
	}
	for _, h := range r.holders {
		if !h.holder.Lapsed(now) {
			return
		}
	}
	r.basis = lease.Configuration{}
	r.choose()
}

// datagram queues an answer.
func (r *renewer) datagram(b []byte) {
	select {
	case r.answers <- slices.Clone(b):
	default:
	}
}

// run renews until ctx ends.
func (r *renewer) run(ctx context.Context) {
	r.next = r.clock.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-r.commands:
			f()
		case b := <-r.answers:
			r.answer(b)
		case <-timer.C:
		}
		now := r.clock.Now()
		if now >= r.next {
			r.noteLate(now.Sub(r.next))
			r.round()
			now = r.clock.Now()
			r.next = r.earliest(now)
		}
		timer.Reset(r.next.Sub(now))
	}
}

// soon brings the next round of all sessions forward.
func (r *renewer) soon() {
	r.urgent = true
	r.next = min(r.next, max(r.last.Add(minRound), r.clock.Now()))
}

// earliest is when the next session is due.
func (r *renewer) earliest(now lease.Time) lease.Time {
	next := now.Add(r.every)
	if len(r.names) == 0 {
		return next // nobody to send to: the first configuration makes it urgent
	}
	for _, h := range r.holders {
		next = min(next, max(r.due(h, now), now))
	}
	return next
}

// due is when a session's next round, or the repetition of its last one, is to be
// sent. What has been unanswered for a whole TTL is not worth a hurry.
func (r *renewer) due(h *holding, now lease.Time) lease.Time {
	_, again := h.holder.Repeat()
	switch {
	case h.rounds == 0:
		return now
	case h.rounds < firstRounds && h.holder.Lapsed(now):
		return h.sent.Add(min(r.every, quickRound))
	case again && now.Sub(h.begun) < h.slot.TTL:
		return h.sent.Add(r.every / repeats)
	case again:
		return h.sent.Add(r.every)
	}
	return h.begun.Add(r.every)
}

// noteLate reports that this process, or the whole host, stood still.
func (r *renewer) noteLate(late time.Duration) {
	if late >= pauseNoted && late > time.Duration(r.paused.Load()) {
		r.paused.Store(int64(late))
		r.wake()
	}
}

// round sends one datagram for each session that is due to each coordinator.
func (r *renewer) round() {
	all := r.urgent
	r.urgent = false
	if len(r.holders) == 0 || len(r.names) == 0 {
		return
	}
	// Agent rule 1: read before the first datagram leaves, and all that counts.
	t0 := r.clock.Now()
	r.last = t0
	r.unbase(t0)
	for _, h := range r.holders {
		if !all && r.due(h, t0) > t0 {
			continue
		}
		r.begin(h, t0)
		renewal := lease.Renewal{Session: h.slot.ID, Round: h.round, Proven: !h.holder.Lapsed(t0)}
		if r.fence != nil {
			renewal.Fence = r.fence(h.slot.ID)
		}
		for _, name := range r.names {
			// It answers only for the configuration that it has itself. To one
			// that has told none yet, the newest known is the best guess; a
			// wrong guess is not answered.
			conf, ok := r.configurations[name]
			if !ok {
				conf = r.newest
			}
			renewal.Configuration = conf.Index
			_ = r.datagrams.Send(name, renewal.Marshal(&h.slot.Secret)) // lost like any datagram
		}
	}
}

// begin begins a round of a session, or takes the last one again if it has proven
// no deadline (agent rule 2).
func (r *renewer) begin(h *holding, t0 lease.Time) {
	h.rounds++
	h.sent = t0
	if _, again := h.holder.Repeat(); !again {
		h.round, h.begun = h.holder.Begin(t0), t0
	}
}

// answer takes in one datagram.
func (r *renewer) answer(b []byte) {
	u, err := lease.ParseAnswer(b)
	if err != nil {
		return
	}
	h, ok := r.holders[u.Session]
	if !ok {
		return
	}
	a, err := u.Verify(&h.slot.Secret)
	if err != nil {
		return
	}
	now := r.clock.Now()
	r.heard(a.Coordinator, now)
	lapsed := h.holder.Lapsed(now)
	deadline, moved := h.holder.Answer(a)
	if moved {
		h.slot.publish(now, deadline)
		r.base(a)
	}
	if moved && lapsed {
		// The coordinators do not know yet that there is a lease, and without
		// one a host is of no use to them.
		r.soon()
	} else if !r.urgent {
		r.next = r.earliest(now) // a new round takes the place of a repetition
	}
	if h.holder.Fenced() && !h.slot.fenced.Swap(true) || moved {
		r.wake()
	}
}

// heard notes that a coordinator answers, and reports one that did not for a
// whole TTL.
func (r *renewer) heard(name string, now lease.Time) {
	before, known := r.answered[name]
	r.answered[name] = now
	if !known || now.Sub(before) < 6*r.every {
		return
	}
	select {
	case r.back <- name:
		r.wake()
	default:
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
