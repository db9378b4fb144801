package replica

import (
	"time"

	"holdfast/coordinator/lease"
)

// master is what a replica knows as master of one epoch.
type master struct {
	epoch uint64
	start uint64 // end of the record that starts the epoch
	acked map[string]acked
	// proposed are the members of which a change was proposed and not seen, with the
	// version that the latest proposal named.
	proposed map[string]uint64
}

// acked is the end that a follower has acknowledged in this epoch.
type acked struct {
	incarnation, end uint64
	level            lease.Time // when it last had all that the log then had
	mark             uint64     // end of the log at markAt
	markAt           lease.Time
}

// Lead begins an epoch that was granted to this replica. size is the length of the
// record that starts it.
func (r *Replica) Lead(epoch, size uint64, now, until lease.Time) ([]Act, error) {
	switch {
	case r.saved.Owes:
		return nil, ErrOwes
	case now >= until:
		return nil, ErrLease
	case r.saved.Epoch >= epoch || r.found >= epoch || size == 0:
		return nil, ErrUsed
	case !r.viewed || r.group.Index < epoch:
		return nil, ErrView
	case r.group.Master != r.self || r.group.Epoch != epoch:
		return nil, ErrNotMaster
	}
	history, err := r.history.Merge(epoch, r.end)
	if err != nil {
		return nil, err
	}
	r.saved.Epoch = epoch
	r.contact = contact{count: r.contact.count}
	acts := []Act{Store{r.saved}, SyncLog{}, Begin{epoch, r.end}}
	r.durable = r.end
	r.confirm = min(r.confirm, r.end)
	r.history = history
	r.end += size
	r.master = &master{epoch: epoch, start: r.end, acked: map[string]acked{}, proposed: map[string]uint64{}}
	return acts, nil
}

// Admit says whether a write may be appended now. Its errors are definite: nothing of
// the write is in any log.
func (r *Replica) Admit(now, until lease.Time) error {
	switch {
	case r.saved.Owes:
		return ErrOwes
	case r.master == nil || r.group.Epoch != r.master.epoch:
		return ErrNotMaster
	case now >= until:
		return ErrLease
	case !r.started():
		return ErrUnready
	case r.group.Mode == Sync && len(r.group.InSync) < r.group.MinInSync:
		return ErrTooFew
	}
	return nil
}

// Appended tells that an admitted write of this length is in the log.
func (r *Replica) Appended(size uint64) { r.end += size }

// Verdict is what a client can be told of an appended write.
type Verdict int

// The verdicts.
const (
	Waiting      Verdict = iota // not yet anything
	Acknowledged                // it will not be lost (sync), or is in the master's log (async)
	Indefinite                  // it may still be confirmed, by a later master too
)

// Judge says what the client of a write of an epoch that ends at an offset can be told
// at this very moment. It is asked right before the answer leaves.
func (r *Replica) Judge(epoch, end uint64, now, until lease.Time) (Verdict, error) {
	m := r.master
	switch {
	case m == nil || m.epoch != epoch || r.group.Epoch != epoch:
		return Indefinite, ErrNotMaster
	case now >= until:
		return Indefinite, ErrLease
	case !r.started():
		return Waiting, nil
	case r.group.Mode == Async && r.durable >= end, r.group.Mode == Sync && r.confirm >= end:
		return Acknowledged, nil
	case r.group.Mode == Sync && len(r.group.InSync) < r.group.MinInSync:
		return Waiting, ErrTooFew // a client that waits no longer is told: indefinite
	}
	return Waiting, nil
}

// Batch returns the message that brings a follower records from an offset on, at most
// limit bytes and of one epoch, or just the confirm offset if there are none.
func (r *Replica) Batch(from, limit uint64) (Append, bool) {
	m := r.master
	if m == nil || from > r.end {
		return Append{}, false
	}
	b := Append{Epoch: m.epoch, From: from, To: from, Confirm: r.confirm}
	for i, s := range r.history {
		if to := r.history.endOf(i, r.end); s.Offset <= from && from < to {
			b.Of, b.To = s.Epoch, min(to, from+min(limit, to-from))
		}
	}
	return b, true
}

// Acked returns the end that a follower has acknowledged in this epoch, under the
// incarnation that the quorum knows; 0 if none.
func (r *Replica) Acked(id string) uint64 {
	if r.master == nil {
		return 0
	}
	m, ok := r.group.Member(id)
	if a := r.master.acked[id]; ok && a.incarnation == m.Incarnation {
		return a.end
	}
	return 0
}

// answer tells a follower where its log parts from this one.
func (r *Replica) answer(from string, m Contact) []Act {
	if r.master == nil || m.History.Check(m.End) != nil {
		return nil
	}
	at := CommonPoint(r.history, r.end, m.History, m.End)
	return []Act{Send{from, Answer{r.master.epoch, m.Number, at}}}
}

// count takes an acknowledgement.
func (r *Replica) count(from string, m Ack, now lease.Time) {
	if r.master == nil || m.End > r.end {
		return
	}
	a := r.master.acked[from]
	switch {
	case m.Incarnation < a.incarnation:
		return // of a life before the last return
	case m.Incarnation > a.incarnation:
		a = acked{incarnation: m.Incarnation}
	}
	a.end = max(a.end, m.End)
	if a.end >= r.end {
		a.level = now
	}
	if a.end >= a.mark {
		a.level = max(a.level, a.markAt)
		a.mark, a.markAt = r.end, now
	}
	r.master.acked[from] = a
	r.advance()
}

// advance moves the confirm offset to the smallest durable end of all that must have it.
func (r *Replica) advance() {
	m := r.master
	if r.group.Epoch != m.epoch || r.group.Mode == Sync && len(r.group.InSync) < r.group.MinInSync {
		return
	}
	low := r.durable
	for _, id := range r.group.InSync {
		if id != r.self {
			low = min(low, r.Acked(id))
		}
	}
	for id := range m.proposed {
		low = min(low, r.Acked(id))
	}
	r.confirm = max(r.confirm, low)
}

// see forgets the proposals whose outcome a view shows: the version has moved past the
// one that they named, so none of them can be applied any more.
func (m *master) see(g Group) {
	for id, version := range m.proposed {
		if g.Version > version {
			delete(m.proposed, id)
		}
	}
}

// started says whether the record that starts the epoch is confirmed.
func (r *Replica) started() bool { return r.confirm >= r.master.start }

// Add proposes a member for the in-sync set, if it is level with what is confirmed.
func (r *Replica) Add(id string) []Act {
	m := r.master
	member, ok := r.group.Member(id)
	if m == nil || !ok || r.group.Epoch != m.epoch || r.group.Holds(id) {
		return nil
	}
	if end := r.Acked(id); end < m.start || end < r.confirm {
		return nil
	}
	m.proposed[id] = r.group.Version
	return []Act{Propose{Grow{m.epoch, r.group.Version, id, member.Incarnation}}}
}

// Remove proposes to take a member out of the in-sync set. The confirm offset goes on
// waiting for it until the change is seen.
func (r *Replica) Remove(id string) []Act {
	m := r.master
	if m == nil || r.group.Epoch != m.epoch || !r.group.Holds(id) || id == r.self {
		return nil
	}
	m.proposed[id] = r.group.Version
	return []Act{Propose{Shrink{m.epoch, r.group.Version, id}}}
}

// Slow returns the members of the in-sync set that have not been level with the log for
// longer than limit, since the epoch's begin at began.
func (r *Replica) Slow(now, began lease.Time, limit time.Duration) []string {
	if r.master == nil {
		return nil
	}
	var out []string
	for _, id := range r.group.InSync {
		if id != r.self && now.Sub(max(r.master.acked[id].level, began)) > limit {
			out = append(out, id)
		}
	}
	return out
}
