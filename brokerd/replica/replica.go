package replica

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/coordinator/lease"
	"holdfast/fsm/group"
)

// Saved is the state file of a replica, beside its log.
type Saved struct {
	Epoch       uint64 // the highest that it has seen
	Incarnation uint64 // as it last saw it applied
	Owes        bool   // it has to return first
}

// Config is what a replica starts with.
type Config struct {
	Self string // the member's id
	// Boot names this process: not 0, and no other process of this member ever had it. The
	// id of the first session that it opened will do.
	Boot  uint64
	Saved Saved
	// Lost is set if the log has less than the replica may have acknowledged: an unclean
	// stop with flush async, damage, or a disk that is empty or of somebody else.
	Lost bool
	Log  Log     // all of it is durable, since recovery has synced it
	Cuts []Range // all that this replica ever cut

	Window uint64        // most bytes on their way to one follower
	Slow   time.Duration // a member of the set that is not level for longer is taken out
}

// View is one applied state of the quorum.
type View struct {
	Index uint64 // Raft index up to which it is the state
	Group group.Group
	// Mine says that the grant, if there is one, is to this process's own session.
	Mine bool
}

// Replica is one replica of a group.
type Replica struct {
	config  Config
	saved   Saved
	log     Log
	durable uint64 // what survives a power loss under the group's flush mode
	confirm uint64 // highest confirm offset known; may be past the end of a follower
	view    View   // the newest
	contact contact
	master  *master // nil if it leads no epoch
	cuts    []Range
}

// Why a replica does not do what it is asked.
var (
	ErrOwes      = errors.New("return not applied yet")
	ErrNotMaster = errors.New("not master")
	ErrUsed      = errors.New("epoch seen before, or granted to a former process")
	ErrLease     = errors.New("lease has passed")
	ErrTooFew    = errors.New("in-sync set smaller than min_in_sync")
	ErrUnready   = errors.New("start of the epoch not confirmed yet")
	ErrRecalled  = errors.New("master is being moved")
)

// New returns the replica of a process that has just begun, and what it must do first.
func New(c Config) (*Replica, []Act, error) {
	if err := c.Log.Check(); err != nil {
		return nil, nil, err
	}
	if c.Self == "" || c.Boot == 0 || c.Window == 0 || c.Slow <= 0 {
		return nil, nil, fmt.Errorf("start replica %q: boot %d, window %d, slow %s: must be given", c.Self, c.Boot, c.Window, c.Slow)
	}
	r := &Replica{config: c, saved: c.Saved, log: c.Log, durable: c.Log.End, cuts: union(c.Cuts)}
	if last := r.log.Last(); last > r.saved.Epoch {
		// The state file is older than the log, so nothing that it says can be relied on.
		r.saved.Epoch = last
		c.Lost = true
	}
	if c.Lost && !r.saved.Owes {
		return r, r.Owe(), nil
	}
	return r, nil, nil
}

// Owe tells that the log has less than was acknowledged. The replica gives up all that it
// is and owes a return. It is on disk, as the next process cannot tell any more
// what this one found.
func (r *Replica) Owe() []Act {
	r.saved.Owes = true
	r.step(nil)
	return []Act{Store{r.saved}}
}

// step makes it another role: master, or a follower that has met nobody yet.
func (r *Replica) step(m *master) {
	r.master = m
	r.contact = contact{count: r.contact.count}
}

// Saved returns the state file's content.
func (r *Replica) Saved() Saved { return r.saved }

// Log returns what it knows of its log.
func (r *Replica) Log() Log { return r.log }

// Durable returns how much of the log survives a power loss.
func (r *Replica) Durable() uint64 { return r.durable }

// Confirm returns the highest confirm offset that it knows.
func (r *Replica) Confirm() uint64 { return r.confirm }

// Cut returns all that this replica ever cut.
func (r *Replica) Cut() []Range { return slices.Clone(r.cuts) }

// Leads returns the epoch that it leads, or led last and has not lost to another yet;
// 0 if there is none.
func (r *Replica) Leads() uint64 {
	if r.master == nil {
		return 0
	}
	return r.master.epoch
}

// View takes a state of the group. It may come late, twice or out of order.
func (r *Replica) View(v View) []Act {
	if v.Index < r.view.Index {
		return nil
	}
	r.view = v
	var acts []Act
	if m, ok := r.self(); ok && m.Incarnation > r.saved.Incarnation && !r.saved.Owes {
		acts = r.Owe() // it was removed and made a member again, or is new
	}
	if r.saved.Owes {
		return append(acts, r.settle()...)
	}
	if g := v.Group; g.Master != r.config.Self {
		acts = append(acts, r.learn(g.Epoch)...)
	}
	acts = append(acts, r.disown()...)
	if r.master != nil {
		r.master.see(v.Group)
		r.advance()
	}
	return acts
}

func (r *Replica) self() (group.Member, bool) { return r.view.Group.Member(r.config.Self) }

// settle returns the member's debt, or proposes to (promotion 2).
func (r *Replica) settle() []Act {
	m, ok := r.self()
	if !ok {
		return nil
	}
	if m.Boot != r.config.Boot || m.Incarnation <= r.saved.Incarnation {
		return []Act{Propose{group.Return{Member: m.ID, Incarnation: m.Incarnation, Boot: r.config.Boot}}}
	}
	r.saved.Owes, r.saved.Incarnation = false, m.Incarnation
	return []Act{Store{r.saved}}
}

// disown has a grant ended that it must not lead: one to a former process of this member,
// or one that it has led and released (master 1).
func (r *Replica) disown() []Act {
	g := r.view.Group
	if g.Epoch == 0 || g.Master != r.config.Self || r.Leads() == g.Epoch || r.view.Mine && g.Epoch > r.saved.Epoch {
		return nil
	}
	return []Act{Propose{group.End{Epoch: g.Epoch}}}
}

// learn takes note of an epoch that another leads (follower 1).
func (r *Replica) learn(epoch uint64) []Act {
	if epoch <= r.saved.Epoch {
		return nil
	}
	r.saved.Epoch = epoch
	r.step(nil)
	return []Act{Store{r.saved}}
}

// Receive takes a message of another replica. The records of an Append are with it in
// the owner's hands, checked, for [Take].
func (r *Replica) Receive(from string, m Message, now lease.Time) []Act {
	g := r.view.Group
	if r.saved.Owes || from == r.config.Self || g.Epoch == m.epoch() && g.Master == r.config.Self && r.Leads() != g.Epoch {
		return nil // the last: an own grant is not learnt but led
	}
	if m.epoch() < r.saved.Epoch {
		if _, ok := m.(Append); ok {
			return []Act{Send{from, Refusal{r.saved.Epoch}}}
		}
		return nil
	}
	acts := r.learn(m.epoch())
	switch m := m.(type) {
	case Append:
		acts = append(acts, r.take(from, m)...)
	case Answer:
		acts = append(acts, r.obey(from, m)...)
	case Contact:
		acts = append(acts, r.answer(from, m)...)
	case Ack:
		r.count(from, m, now)
	}
	return acts
}

// Synced tells that the log is durable up to an offset, under the group's flush mode.
func (r *Replica) Synced(to uint64) []Act {
	r.durable = max(r.durable, min(to, r.log.End))
	if r.master != nil {
		r.advance()
		return nil
	}
	return r.acknowledge()
}

// Keep returns the offset below which the log may begin after retention, that is not
// at it: the record that it begins with is then in all logs of the in-sync set, so that
// the next contact finds an epoch that both have.
func (r *Replica) Keep() uint64 { return min(r.confirm, r.durable) }

// Trimmed tells that the log begins at an offset now, below Keep's.
func (r *Replica) Trimmed(base uint64) {
	if base < r.Keep() {
		r.log = r.log.Trim(base)
	}
}

// Tick is to be called several times per limit of slowness. It repeats what may have
// been lost, and lets a master look after its set.
func (r *Replica) Tick(now lease.Time) []Act {
	if r.saved.Owes {
		return r.settle()
	}
	acts := r.disown()
	if r.contact.open {
		acts = append(acts, r.request(r.contact.master)...)
	}
	return append(acts, r.maintain(now)...)
}
