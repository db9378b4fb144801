package replica

import (
	"fmt"
	"maps"

	"holdfast/coordinator/lease"
	"holdfast/fsm/group"
)

// master is what a replica knows as master of one epoch.
type master struct {
	epoch     uint64
	start     uint64 // end of the record that starts the epoch
	began     lease.Time
	followers map[string]follower
	// changes are the members of which a change was proposed and not seen, with the
	// version that the latest proposal named.
	changes map[string]uint64
	cuts    []Range // of the followers: what they cut, and what they were told to
}

// Lead begins the epoch that the newest view grants to this process (master 1). size is
// the length of the record that starts it. It is to be tried after each view and tick,
// while the view says that this member is master and it does not lead.
func (r *Replica) Lead(size uint64, now, until lease.Time) ([]Act, error) {
	g := r.view.Group
	switch {
	case r.saved.Owes:
		return nil, ErrOwes
	case g.Epoch == 0 || g.Master != r.config.Self:
		return nil, ErrNotMaster
	case !r.view.Mine || g.Epoch <= r.saved.Epoch:
		return nil, ErrUsed
	case now >= until:
		return nil, ErrLease
	}
	log, err := r.log.Append(g.Epoch, size)
	if err != nil {
		return nil, fmt.Errorf("begin epoch %d: %w", g.Epoch, err)
	}
	r.saved.Epoch = g.Epoch
	acts := []Act{Store{r.saved}, SyncLog{}, Begin{g.Epoch, r.log.End}}
	r.durable = r.log.End
	r.confirm = min(r.confirm, r.log.End)
	r.log = log
	r.step(&master{epoch: g.Epoch, start: r.log.End, began: now, followers: map[string]follower{}, changes: map[string]uint64{}})
	return acts, nil
}

// leading says why this replica is not master by its newest view, or nil.
func (r *Replica) leading(now, until lease.Time) error {
	switch {
	case r.saved.Owes:
		return ErrOwes
	case r.master == nil || r.view.Group.Epoch != r.master.epoch || !r.view.Mine:
		return ErrNotMaster // the last: the process has opened another session since
	case now >= until:
		return ErrLease
	}
	return nil
}

// Admit says whether a write may be appended now. Its errors are definite: nothing of
// the write is in any log.
func (r *Replica) Admit(now, until lease.Time) error {
	err := r.leading(now, until)
	switch g := r.view.Group; {
	case err != nil:
		return err
	case g.Recalled():
		return ErrRecalled
	case !r.started():
		return ErrUnready
	case r.tooFew():
		return ErrTooFew
	}
	return nil
}

// tooFew says whether the in-sync set is too small to confirm anything.
func (r *Replica) tooFew() bool {
	g := r.view.Group
	return g.Settings.Mode == group.Sync && len(g.InSync) < g.Settings.MinInSync
}

// Appended tells that admitted writes of this length together are in the log.
func (r *Replica) Appended(size uint64) { r.log.End += size }

// Verdict is what a client can be told of an appended write.
type Verdict int

// The verdicts.
const (
	Waiting      Verdict = iota // not yet anything
	Acknowledged                // it will not be lost (sync), or is in the master's log (async)
	Indefinite                  // it may still be confirmed, by a later master too
)

// Judge says what the client of a write of an epoch that ends at an offset can be told
// at this very moment. It is asked right before the answer leaves. A client that waits
// no longer is told: indefinite.
func (r *Replica) Judge(epoch, end uint64, now, until lease.Time) (Verdict, error) {
	err := r.leading(now, until)
	switch {
	case err != nil:
		return Indefinite, err
	case r.master.epoch != epoch:
		return Indefinite, ErrNotMaster
	case r.acknowledged() >= end:
		return Acknowledged, nil
	case r.tooFew():
		return Waiting, ErrTooFew
	}
	return Waiting, nil
}

// acknowledged returns up to where writes of its epoch are (master 3 and 4).
func (r *Replica) acknowledged() uint64 {
	switch {
	case !r.started():
		return 0
	case r.view.Group.Settings.Mode == group.Async:
		return r.durable
	}
	return r.confirm
}

// Readable returns up to where the log may be read now. until is the deadline of the
// session that holds the grant; a follower needs none.
func (r *Replica) Readable(now, until lease.Time) uint64 {
	switch s := r.view.Group.Settings; {
	case r.saved.Owes:
		return 0
	case r.master != nil && (r.leading(now, until) != nil || !r.started()):
		return 0
	case r.master == nil && s.Policy == group.PolicyUnclean && !r.contact.met:
		return 0 // what it took for confirmed may be lost in the epoch that it has learnt
	case s.ReadLocal:
		return r.durable
	}
	return min(r.confirm, r.durable)
}

// started says whether the record that starts the epoch is confirmed.
func (r *Replica) started() bool { return r.confirm >= r.master.start }

// Release gives the grant up (lease.md, agent 5): from this call on nothing is
// acknowledged under it, and its end is proposed until it is seen.
func (r *Replica) Release() []Act {
	if r.master == nil {
		return nil
	}
	r.step(nil)
	return r.disown()
}

// Drain releases a grant that is recalled, when there is nothing to wait for any more: all
// is confirmed, or nothing can be. It is to be called after each change, when the clients
// whose writes are confirmed have been answered.
func (r *Replica) Drain() []Act {
	g := r.view.Group
	if r.master == nil || g.Epoch != r.master.epoch || !g.Recalled() || r.confirm != r.log.End && !r.tooFew() {
		return nil
	}
	return r.Release()
}

// clone is a copy that can go its own way.
func (m *master) clone() *master {
	c := *m
	c.followers, c.changes = maps.Clone(m.followers), maps.Clone(m.changes)
	return &c
}
