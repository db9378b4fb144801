// Package renew keeps the leases of sessions: it sends rounds of renewals to the
// coordinators and turns their answers into deadlines ([lease.Holder] says which).
package renew

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

// Clock is CLOCK_BOOTTIME.
type Clock interface{ Now() lease.Time }

// Datagrams sends renewals to coordinators by name. What is lost is lost.
type Datagrams interface {
	Send(coordinator string, b []byte) error
}

// Config is what a Renewer needs. Fence may be nil.
type Config struct {
	Every     time.Duration // between two rounds
	Clock     Clock
	Datagrams Datagrams
	// Wake says that there is something new: a deadline, a mark, a pause. It must not
	// wait for anything.
	Wake func()
	// Fence is what coordinators are told of the kernel's fence for a session.
	Fence func(session uint64) lease.FenceReport
}

// Kept is a session to renew. Its functions are called on the Renewer's goroutine and
// must not wait.
type Kept struct {
	lease.Session
	// Proven is called with each deadline that answers have proven (CLOCK_BOOTTIME).
	Proven func(now, deadline lease.Time)
	// Fenced is called once, when some coordinator has answered that it is marked.
	Fenced func()
}

// Renewer sends rounds and turns answers into deadlines. All its state belongs to the
// goroutine of Run; others reach it through channels that it always drains, and it
// reaches them through functions and signals that wait for nobody.
type Renewer struct {
	Config
	process uint64

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
	paused atomic.Int64 // longest pause that nobody has taken yet, ns
}

type holding struct {
	kept   Kept
	holder *lease.Holder
	told   bool // that it is fenced
	rounds int  // sent, repeated ones too
	round  lease.Round
	begun  lease.Time // when round was sent first
	sent   lease.Time // and when last
}

// New returns a Renewer that does nothing before Run.
func New(c Config) *Renewer {
	return &Renewer{
		Config:   c,
		process:  newProcess(c.Clock.Now()),
		commands: make(chan func(), 64), answers: make(chan []byte, 256),
		holders: make(map[uint64]*holding), configurations: make(map[string]lease.Configuration),
		answered: make(map[string]lease.Time), back: make(chan string, 16),
	}
}

// Back gives the coordinators that answer again after a silence.
func (r *Renewer) Back() <-chan string { return r.back }

// Paused returns how long this process, or its host, did not run: the longest time since
// the last call, 0 = it ran.
func (r *Renewer) Paused() time.Duration { return time.Duration(r.paused.Swap(0)) }

// newProcess returns a number that rises with every start on this boot and is
// unique (agent rule 2): the boot time, with random low bits (about 65 us).
func newProcess(now lease.Time) uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return uint64(now)&^0xffff | binary.BigEndian.Uint64(b[:])&0xffff
}

// do runs f on the renewer's goroutine, soon.
func (r *Renewer) do(f func()) { r.commands <- f }

// Add starts to renew a session. adopted is a deadline that a former process
// had proven, 0 for none.
func (r *Renewer) Add(s Kept, adopted lease.Time) {
	r.do(func() {
		h := lease.NewHolder(s.Session, r.process)
		for _, name := range slices.Sorted(maps.Keys(r.configurations)) {
			h.SetConfiguration(r.configurations[name])
		}
		if adopted != 0 {
			h.Adopt(adopted)
		}
		r.holders[s.ID] = &holding{kept: s, holder: h}
		r.soon()
	})
}

// Drop stops renewing a session.
func (r *Renewer) Drop(id uint64) { r.do(func() { delete(r.holders, id) }) }

// Told takes in the configuration that a coordinator has told.
func (r *Renewer) Told(coordinator string, c *pb.Configuration) {
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
func (r *Renewer) choose() {
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
func (r *Renewer) base(a lease.Answer) {
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
func (r *Renewer) unbase(now lease.Time) {
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

// Datagram takes in an answer of a coordinator.
func (r *Renewer) Datagram(b []byte) {
	select {
	case r.answers <- slices.Clone(b):
	default:
	}
}

// Run renews until ctx ends.
func (r *Renewer) Run(ctx context.Context) {
	r.next = r.Clock.Now()
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
		now := r.Clock.Now()
		if now >= r.next {
			r.noteLate(now.Sub(r.next))
			r.round()
			now = r.Clock.Now()
			r.next = r.earliest(now)
		}
		timer.Reset(r.next.Sub(now))
	}
}

// soon brings the next round of all sessions forward.
func (r *Renewer) soon() {
	r.urgent = true
	r.next = min(r.next, max(r.last.Add(minRound), r.Clock.Now()))
}

// earliest is when the next session is due.
func (r *Renewer) earliest(now lease.Time) lease.Time {
	next := now.Add(r.Every)
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
func (r *Renewer) due(h *holding, now lease.Time) lease.Time {
	_, again := h.holder.Repeat()
	switch {
	case h.rounds == 0:
		return now
	case h.rounds < firstRounds && h.holder.Lapsed(now):
		return h.sent.Add(min(r.Every, quickRound))
	case again && now.Sub(h.begun) < h.kept.TTL:
		return h.sent.Add(r.Every / repeats)
	case again:
		return h.sent.Add(r.Every)
	}
	return h.begun.Add(r.Every)
}

// noteLate reports that this process, or the whole host, stood still.
func (r *Renewer) noteLate(late time.Duration) {
	if late >= pauseNoted && late > time.Duration(r.paused.Load()) {
		r.paused.Store(int64(late))
		r.Wake()
	}
}

// round sends one datagram for each session that is due to each coordinator.
func (r *Renewer) round() {
	all := r.urgent
	r.urgent = false
	if len(r.holders) == 0 || len(r.names) == 0 {
		return
	}
	// Agent rule 1: read before the first datagram leaves, and all that counts.
	t0 := r.Clock.Now()
	r.last = t0
	r.unbase(t0)
	for _, h := range r.holders {
		if !all && r.due(h, t0) > t0 {
			continue
		}
		r.begin(h, t0)
		renewal := lease.Renewal{Session: h.kept.ID, Round: h.round, Proven: !h.holder.Lapsed(t0)}
		if r.Fence != nil {
			renewal.Fence = r.Fence(h.kept.ID)
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
			_ = r.Datagrams.Send(name, renewal.Marshal(&h.kept.Secret)) // lost like any datagram
		}
	}
}

// begin begins a round of a session, or takes the last one again if it has proven
// no deadline (agent rule 2).
func (r *Renewer) begin(h *holding, t0 lease.Time) {
	h.rounds++
	h.sent = t0
	if _, again := h.holder.Repeat(); !again {
		h.round, h.begun = h.holder.Begin(t0), t0
	}
}

// answer takes in one datagram.
func (r *Renewer) answer(b []byte) {
	u, err := lease.ParseAnswer(b)
	if err != nil {
		return
	}
	h, ok := r.holders[u.Session]
	if !ok {
		return
	}
	a, err := u.Verify(&h.kept.Secret)
	if err != nil {
		return
	}
	now := r.Clock.Now()
	r.heard(a.Coordinator, now)
	lapsed := h.holder.Lapsed(now)
	deadline, moved := h.holder.Answer(a)
	if moved {
		h.kept.Proven(now, deadline)
		r.base(a)
	}
	if moved && lapsed {
		// The coordinators do not know yet that there is a lease, and without
		// one a host is of no use to them.
		r.soon()
	} else if !r.urgent {
		r.next = r.earliest(now) // a new round takes the place of a repetition
	}
	fenced := h.holder.Fenced() && !h.told
	if fenced {
		h.told = true
		h.kept.Fenced()
	}
	if fenced || moved {
		r.Wake()
	}
}

// heard notes that a coordinator answers, and reports one that did not for a
// whole TTL.
func (r *Renewer) heard(name string, now lease.Time) {
	before, known := r.answered[name]
	r.answered[name] = now
	if !known || now.Sub(before) < 6*r.Every {
		return
	}
	select {
	case r.back <- name:
		r.Wake()
	default:
	}
}
