package replica

import (
	"errors"
	"slices"

	"holdfast/coordinator/lease"
)

// Saved is the state file of a replica, beside its log.
type Saved struct {
	Epoch       uint64 // the highest that it has seen
	Incarnation uint64 // index of its last return, as it saw it applied
	Owes        bool   // it has to return first
}

// Config is what a replica starts with.
type Config struct {
	Self  string
	Boot  uint64 // of this process; no other process of this member ever had it
	Saved Saved
	// Lost is set if the log has less than the replica may have acknowledged: an unclean
	// stop with flush async, damage, or a disk that is empty or of somebody else.
	Lost    bool
	History History
	End     uint64 // of the log; all of it is durable, since recovery has synced it
	Confirm uint64 // a confirm offset that this log was known to have, 0 if not kept
}

// Replica is one replica of a group.
type Replica struct {
	self    string
	boot    uint64
	saved   Saved
	history History
	end     uint64
	durable uint64 // what survives a power loss under the group's flush mode
	confirm uint64 // highest confirm offset known; may be past the end of a follower
	group   Group  // newest view
	viewed  bool
	found   uint64 // epoch of a grant that was there before this process
	contact contact
	master  *master // nil if it leads no epoch
}

// Why a replica does not do what it is asked.
var (
	ErrOwes      = errors.New("return not applied yet")
	ErrNotMaster = errors.New("not master")
	ErrUsed      = errors.New("epoch seen before, or found after a start")
	ErrView      = errors.New("view older than the grant")
	ErrLease     = errors.New("lease has passed")
	ErrTooFew    = errors.New("in-sync set smaller than min_in_sync")
	ErrUnready   = errors.New("start of the epoch not confirmed yet")
)

// New returns the replica of a process that has just begun, and what it must do first.
func New(c Config) (*Replica, []Act, error) {
	if err := c.History.Check(c.End); err != nil {
		return nil, nil, err
	}
	r := &Replica{
		self: c.Self, boot: c.Boot, saved: c.Saved, history: slices.Clone(c.History),
		end: c.End, durable: c.End, confirm: min(c.Confirm, c.End),
	}
	if c.Lost && !r.saved.Owes {
		// On disk, as the next process cannot tell any more what this one found.
		r.saved.Owes = true
		return r, []Act{Store{r.saved}}, nil
	}
	return r, nil, nil
}

// Saved returns the state file's content.
func (r *Replica) Saved() Saved { return r.saved }

// History returns the log's epochs. It must not be changed.
func (r *Replica) History() History { return r.history }

// End returns the end of the log.
func (r *Replica) End() uint64 { return r.end }

// Durable returns how much of the log survives a power loss.
func (r *Replica) Durable() uint64 { return r.durable }

// Confirm returns the highest confirm offset that it knows.
func (r *Replica) Confirm() uint64 { return r.confirm }

// Leads returns the epoch that it leads, or led last and has not lost to another yet;
// 0 if there is none.
func (r *Replica) Leads() uint64 {
	if r.master == nil {
		return 0
	}
	return r.master.epoch
}

// View takes a state of the group. It may come late, twice or out of order.
func (r *Replica) View(g Group) []Act {
	if r.viewed && g.Index < r.group.Index {
		return nil
	}
	if !r.viewed && g.Master == r.self {
		r.found = g.Epoch
	}
	r.viewed, r.group = true, g
	if r.saved.Owes {
		return r.settle()
	}
	acts := r.learn(g.Epoch)
	if g.Master == r.self && (g.Epoch <= r.found || r.Leads() != g.Epoch && g.Epoch < r.saved.Epoch) {
		// Nobody resumes a grant that was there before it started.
		acts = append(acts, Propose{End{g.Epoch}})
	}
	if r.master != nil {
		r.master.see(g)
		r.advance()
	}
	return acts
}

// settle returns the member's debt, or proposes to.
func (r *Replica) settle() []Act {
	m, ok := r.group.Member(r.self)
	if !ok {
		return nil
	}
	if m.Boot != r.boot || m.Incarnation == 0 {
		return []Act{Propose{Return{r.self, m.Incarnation, r.boot}}}
	}
	r.saved.Owes, r.saved.Incarnation = false, m.Incarnation
	return []Act{Store{r.saved}}
}

// Repeat proposes again what may have been lost: a return, or the end of a grant.
func (r *Replica) Repeat() []Act {
	if !r.viewed {
		return nil
	}
	return r.View(r.group)
}

// learn takes note of an epoch that another leads.
func (r *Replica) learn(epoch uint64) []Act {
	if epoch <= r.saved.Epoch || r.group.Master == r.self && r.group.Epoch == epoch {
		return nil // an own grant is not learnt but led
	}
	r.saved.Epoch = epoch
	r.master = nil
	r.contact = contact{count: r.contact.count}
	return []Act{Store{r.saved}}
}

// Receive takes a message of another replica. Append records come with it in the owner's
// hands, for [Take].
func (r *Replica) Receive(from string, m Message, now lease.Time) []Act {
	if r.saved.Owes {
		return nil
	}
	if m.epoch() < r.saved.Epoch {
		if _, ok := m.(Append); ok {
			return []Act{Send{from, Refusal{r.saved.Epoch}}}
		}
		return nil
	}
	acts := r.learn(m.epoch())
	if m.epoch() != r.saved.Epoch {
		return acts
	}
	switch m := m.(type) {
	case Append:
		return append(acts, r.take(from, m)...)
	case Answer:
		return append(acts, r.obey(from, m)...)
	case Contact:
		return append(acts, r.answer(from, m)...)
	case Ack:
		r.count(from, m, now)
	}
	return acts
}

// Synced tells that the log is durable up to an offset, under the group's flush mode.
func (r *Replica) Synced(to uint64) []Act {
	r.durable = max(r.durable, min(to, r.end))
	if r.master != nil {
		r.advance()
		return nil
	}
	return r.acknowledge()
}

// Readable returns up to where the log may be read now. until is the deadline of the
// session that holds the grant; a follower has none.
func (r *Replica) Readable(now, until lease.Time) uint64 {
	if r.saved.Owes {
		return 0
	}
	if m := r.master; m != nil {
		switch {
		case now >= until || r.group.Epoch != m.epoch || !r.started():
			return 0
		case r.group.ReadLocal:
			return r.end
		}
		return r.confirm
	}
	switch {
	case r.group.Policy == PolicyUnclean && !r.contact.met:
		return 0 // what it took for confirmed may be lost in the epoch that it has learnt
	case r.group.ReadLocal:
		return r.end
	}
	return min(r.confirm, r.end)
}
