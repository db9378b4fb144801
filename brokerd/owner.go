package brokerd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"holdfast/brokerd/commitlog"
	"holdfast/brokerd/record"
	"holdfast/brokerd/replica"
	"holdfast/coordinator/lease"
)

const (
	// turnTasks and turnMessages bound what one turn takes in, so that all get theirs.
	turnTasks    = 1024
	turnMessages = 64
	// window is how much may be on its way to one follower.
	window = 16 << 20
	// batchBytes is how much one message brings.
	batchBytes = 1 << 20
	// drainLimit is how long a broker that stops waits for what was asked for.
	drainLimit = time.Second
)

// owner is the goroutine that owns the replica. See the package's comment.
type owner struct {
	*Broker
	ctx     context.Context // of what it starts; ends when Run returns
	replica *replica.Replica
	session *held
	seen    standing
	peers   map[string]string

	pending []*task // appended, not committed
	waiting []*task // committed, not confirmed; by end
	polls   polls
	fresh   map[string]bool // topics that messages were appended to since readers were woken last
	sent    map[string]lease.Time
	parcel  *parcel // came with the message that is being received
	taken   []*commitlog.Batch
	broken  error
	turnOf  uint64 // which queue is asked first

	until    uint64 // readable as it was published last
	trimmed  lease.Time
	unfit    string
	loss     replica.Loss
	stopping bool
}

func newOwner(b *Broker, ctx context.Context) *owner {
	return &owner{Broker: b, ctx: ctx, fresh: make(map[string]bool), sent: make(map[string]lease.Time), polls: newPolls()}
}

// tickEvery is the owner's own pace: several times per TTL.
func (o *owner) tickEvery() time.Duration { return o.config.TTL / 10 }

func (o *owner) run(ctx context.Context, failed <-chan error) error {
	o.keeper.open(o.ctx)
	tick := time.NewTicker(o.tickEvery())
	defer tick.Stop()
	for {
		o.turning.Store(0)
		var err error
		select {
		case <-ctx.Done():
			return o.stop(failed)
		case err := <-failed:
			return err
		default:
		}
		select {
		case <-ctx.Done():
			return o.stop(failed)
		case err := <-failed:
			return err
		case h := <-o.keeper.opened:
			o.turn(func() { err = o.opened(h) })
		case v := <-o.edges.Sessions.Views():
			o.turn(func() { err = o.view(v) })
		case m := <-o.messages:
			o.turn(func() { err = o.receive(m) })
		case t := <-o.tasks:
			o.turn(func() { err = o.serve(t) })
		case <-o.wake:
			o.turn(func() { err = o.woken() })
		case <-tick.C:
			o.turn(func() { err = o.tick() })
		}
		if err == nil {
			o.turn(func() { err = o.settle() })
		}
		if err != nil {
			return err
		}
	}
}

// turn notes when it began, for the watchdog.
func (o *owner) turn(f func()) {
	o.turning.Store(int64(max(o.edges.Clock.Now(), 1)))
	f()
}

// opened takes a session into use.
func (o *owner) opened(h *held) error {
	o.keeper.busy = false
	o.log.Info("session opened", "session", h.id, "ttl", o.config.TTL)
	if o.replica == nil {
		return o.begin(h)
	}
	// The replica hears of it before its deadline is used: it must not take a grant to the
	// old session for one to the new.
	old := o.session
	o.session = h
	o.keeper.drop(old)
	return o.look(o.seen)
}

// begin makes the replica. Its name for this process is the id of the first session.
func (o *owner) begin(h *held) error {
	o.session = h
	r, acts, err := replica.New(replica.Config{
		Self: o.config.Name, Boot: h.id, Saved: o.disk.saved(), Lost: o.disk.lost(), Log: o.disk.known(), Cuts: o.disk.beside.Cuts,
		Window: window, Slow: o.config.Lag,
	})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	o.replica = r
	if err := o.perform(acts, nil, nil); err != nil {
		return err
	}
	return o.look(o.seen)
}

// woken looks at what the renewer has learnt.
func (o *owner) woken() error {
	for {
		select {
		case name := <-o.keeper.renewer.Back():
			o.edges.Sessions.Redial(name)
			continue
		default:
		}
		break
	}
	if late := o.keeper.renewer.Paused(); late > 0 {
		o.log.Warn("this process stood still", "for", late.Round(time.Millisecond))
	}
	if o.session != nil && o.session.fenced.Load() {
		o.keeper.open(o.ctx)
	}
	return nil
}

// now and deadline are read afresh each time: a pause may lie before any use.
func (o *owner) now() lease.Time      { return o.edges.Clock.Now() }
func (o *owner) deadline() lease.Time { return o.session.until() }

// look tells the replica how its group stands.
func (o *owner) look(s standing) error {
	if o.replica == nil || !s.exists {
		return nil
	}
	mine := s.session != 0 && o.session != nil && s.session == o.session.id
	return o.perform(o.replica.View(replica.View{Index: s.index, Group: s.record, Mine: mine}), nil, nil)
}

// lead begins an epoch that was granted to this process.
func (o *owner) lead() error {
	r := o.replica
	if o.stopping || !o.seen.exists || o.seen.record.Master != o.config.Name || o.seen.record.Epoch == 0 || r.Leads() == o.seen.record.Epoch {
		return nil
	}
	if !o.disk.consumers.usable() {
		return nil // it cannot be: a member of the in-sync set has it
	}
	acts, err := r.Lead(record.HeaderSize, o.now(), o.deadline())
	if err != nil {
		return nil // not now; it is tried again
	}
	o.log.Info("master", "group", o.config.Group, "epoch", o.seen.record.Epoch, "end", r.Log().End)
	if err := o.perform(acts, nil, nil); err != nil {
		return err
	}
	for name := range o.peers {
		o.life(name)
	}
	return nil
}

// tick repeats what may have been lost, and does what is due.
func (o *owner) tick() error {
	if o.replica == nil {
		return nil
	}
	if err := o.perform(o.replica.Tick(o.now()), nil, nil); err != nil {
		return err
	}
	if err := o.trim(); err != nil {
		return err
	}
	o.polls.due(o, o.edges.Clock.Wall())
	if o.loss = (replica.Loss{}); o.replica.Leads() != 0 {
		o.loss = o.replica.Loss(nil)
	}
	return nil
}

// settle draws the conclusions from what a turn has changed.
func (o *owner) settle() error {
	if o.replica == nil {
		o.show()
		return nil
	}
	if err := o.lead(); err != nil {
		return err
	}
	for {
		o.pump()
		o.answer()
		if err := o.perform(o.replica.Drain(), nil, nil); err != nil {
			return err
		}
		o.publish()
		if len(o.pending) == 0 {
			break
		}
		if err := o.commit(); err != nil { // what those who waited for messages were given
			return err
		}
	}
	if err := o.disk.consumers.keep(o.replica.Confirm()); err != nil {
		return err
	}
	o.show()
	return nil
}

// publish tells readers how far they may read, and wakes those that wait for messages.
func (o *owner) publish() {
	readable := o.replica.Readable(o.now(), o.deadline())
	leads := o.replica.Leads() != 0
	before := o.published.Load()
	if before.readable != readable || before.leads != leads || before.session != o.session {
		o.published.Store(&published{readable: readable, leads: leads, session: o.session})
	}
	if readable > o.until && leads {
		o.polls.woken(o, o.fresh)
		clear(o.fresh)
	}
	o.until = readable
}

// stop lets what was asked for come to its end, gives the grant up and closes the
// session: one entry, which makes another member master and takes this one out of the
// in-sync set, so that nobody waits for it.
func (o *owner) stop(failed <-chan error) error {
	o.stopping = true // nothing more is admitted
	began := o.now()
	tick := time.NewTicker(o.tickEvery())
	defer tick.Stop()
	for o.replica != nil && len(o.waiting) > 0 && o.now().Sub(began) < drainLimit {
		var err error
		select {
		case v := <-o.edges.Sessions.Views():
			err = o.view(v)
		case m := <-o.messages:
			err = o.receive(m)
		case t := <-o.Broker.tasks:
			err = o.serve(t)
		case <-tick.C:
			err = o.perform(o.replica.Tick(o.now()), nil, nil)
		case err = <-failed:
		}
		if err != nil {
			return err
		}
		o.pump()
		o.answer()
	}
	led := o.replica != nil && o.replica.Leads() != 0
	if led {
		o.replica.Release() // its proposal is not sent: the session's end is the grant's
		o.publish()
	}
	o.fail(slices.Concat(o.pending, o.waiting))
	o.polls.end()
	o.keeper.close(o.ctx, o.session, "the broker was stopped")
	o.log.Info("stopped", "master", led, "took", o.now().Sub(began).Round(time.Millisecond))
	return nil
}

// receive takes in a message of another replica, and as many more as are there.
func (o *owner) receive(m message) error {
	for range turnMessages {
		if err := o.one(m); err != nil {
			return err
		}
		select {
		case m = <-o.messages:
			continue
		default:
		}
		break
	}
	return o.sync()
}

// one takes in one message. Records that it brings are in the log afterwards, and become
// durable with the next sync, which comes before anything else is done.
func (o *owner) one(m message) error {
	if o.replica == nil {
		return nil
	}
	if m.broken {
		o.replica.Rewind(m.from)
		return nil
	}
	msg, err := replica.Unmarshal(m.message)
	if err != nil {
		o.log.Warn("message of another replica cannot be read", "from", m.from, "err", err)
		return nil
	}
	switch x := msg.(type) {
	case replica.Append:
		if x.To-x.From != uint64(len(m.bytes)) {
			o.log.Warn("records of another replica are not those that it tells of", "from", m.from, "bytes", len(m.bytes), "told", x.To-x.From)
			return nil
		}
		if x.To > x.From && o.full() {
			return nil // as if it was lost; the master goes on without this member after a while
		}
		if err := checkRecords(x, m.bytes); err != nil {
			o.log.Warn("records of another replica cannot be used", "from", m.from, "err", err)
			return nil
		}
		return o.perform(o.replica.Receive(m.from, x, o.now()), m.bytes, &x)
	case replica.Answer:
		o.parcel = nil
		if x.Reset && x.Base > 0 {
			if o.parcel, err = parseParcel(m.bytes, x.Base); err != nil {
				o.log.Warn("what begins a log was not sent along", "from", m.from, "err", err)
				return nil
			}
		}
	}
	if err := o.sync(); err != nil {
		return err
	}
	return o.perform(o.replica.Receive(m.from, msg, o.now()), nil, nil)
}

// checkRecords reads the records before the replica counts on them.
func checkRecords(a replica.Append, b []byte) error {
	at := a.From
	for len(b) > 0 {
		h, err := record.Parse(b)
		if err != nil {
			return err
		}
		if h.Offset != at || h.Epoch != a.Of {
			return fmt.Errorf("record of epoch %d at %d instead of epoch %d at %d", h.Epoch, h.Offset, a.Of, at)
		}
		at = h.End()
		b = b[h.Length:]
	}
	return nil
}

// full says whether the log takes no messages for want of space.
func (o *owner) full() bool { return o.disk.log.Low() }

// sync commits what was appended and tells the replica how far the log is durable.
func (o *owner) sync() error {
	if o.replica == nil {
		return nil
	}
	err := o.disk.log.Commit()
	for _, b := range o.taken {
		err = errors.Join(err, b.Wait(o.ctx))
	}
	o.taken = o.taken[:0]
	if err != nil {
		return fmt.Errorf("take records: %w", err)
	}
	durable := o.disk.log.Durable()
	if durable <= o.replica.Durable() {
		return nil
	}
	return o.perform(o.replica.Synced(durable), nil, nil)
}

// trimEvery is how often the log is asked what may go.
const trimEvery = 10 * time.Second

// trim lets old segments go: nothing that a member of the in-sync set still has to get,
// nor what the consumers' state follows from.
func (o *owner) trim() error {
	if o.now().Sub(o.trimmed) < trimEvery {
		return nil
	}
	o.trimmed = o.now()
	r := commitlog.Retention{Floor: min(o.replica.Keep(), o.disk.consumers.kept), MaxBytes: o.config.Retention.Bytes, MinFree: o.config.Log.MinFree}
	if o.config.Retention.Age > 0 {
		r.OlderMs = o.edges.Clock.Wall() - o.config.Retention.Age.Milliseconds()
	}
	before := o.disk.log.First()
	base, err := o.disk.log.Trim(r)
	if err != nil {
		return err
	}
	if base > before {
		o.log.Info("segments deleted", "from", before, "to", base)
		o.replica.Trimmed(base)
	}
	return nil
}

// propose sends a command to the quorum and does not wait for what becomes of it.
func (o *owner) propose(what string, call func(ctx context.Context) error) {
	go func() {
		ctx, cancel := context.WithTimeout(o.ctx, o.config.TTL)
		defer cancel()
		if err := call(ctx); err != nil {
			o.log.Log(ctx, slog.LevelDebug, "proposal not taken", "what", what, "err", err)
		}
	}()
}
