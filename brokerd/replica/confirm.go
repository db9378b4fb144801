package replica

import (
	"slices"

	"holdfast/coordinator/lease"
	"holdfast/fsm/group"
)

// follower is what the master of an epoch knows of another replica.
type follower struct {
	incarnation uint64 // under which end was acknowledged
	end         uint64 // durable there
	level       lease.Time
	mark        uint64     // end of the log at markAt
	markAt      lease.Time // the follower is level as of then once it has mark

	met  bool   // it has contacted in this epoch: the rest means something
	at   uint64 // where its log parted from this one
	next uint64 // what to send it next
	sent uint64 // the highest that it was sent; it cannot have more
	told uint64 // the confirm offset that it was sent
}

// answer tells a follower where its log parts from this one.
func (r *Replica) answer(from string, m Contact) []Act {
	if r.master == nil || m.Log.Check() != nil {
		return nil
	}
	a := Answer{Epoch: r.master.epoch, Number: m.Number, Base: r.log.Base}
	at, known := Common(r.log, m.Log)
	// What it is about to cut is lost as far as this log goes, whether the answer comes or not.
	r.master.cuts = union(slices.Concat(r.master.cuts, m.Cuts, m.Log.Ranges(at, m.Log.End)))
	a.At = at
	a.Reset = !known || at < max(r.log.Base, m.Log.Base)
	if a.Reset {
		at = r.log.Base
	}
	f := r.master.followers[from]
	f.met, f.at, f.next, f.sent, f.told = true, at, at, max(f.sent, at), 0
	r.master.followers[from] = f
	return []Act{Send{from, a}}
}

// count takes an acknowledgement.
func (r *Replica) count(from string, m Ack, now lease.Time) {
	if r.master == nil {
		return
	}
	f := r.master.followers[from]
	switch {
	case m.End > f.sent:
		return // it was not sent that much
	case m.Incarnation < f.incarnation:
		return // of a life before the last return
	case m.Incarnation > f.incarnation:
		f.incarnation, f.end, f.level, f.mark, f.markAt = m.Incarnation, 0, 0, 0, 0
	}
	f.end = max(f.end, m.End)
	f.next = max(f.next, f.end)
	if f.end >= f.mark {
		f.level = max(f.level, f.markAt)
		f.mark, f.markAt = r.log.End, now
	}
	if f.end >= r.log.End {
		f.level = now
	}
	r.master.followers[from] = f
	r.advance()
}

// Acked returns the end that a follower has acknowledged in this epoch, under the
// incarnation that the quorum knows; 0 if none.
func (r *Replica) Acked(id string) uint64 {
	if r.master == nil {
		return 0
	}
	m, ok := r.view.Group.Member(id)
	if f := r.master.followers[id]; ok && f.incarnation == m.Incarnation {
		return f.end
	}
	return 0
}

// advance moves the confirm offset to the smallest durable end of all that must have it
// (master 2).
func (r *Replica) advance() {
	m, g := r.master, r.view.Group
	if g.Epoch != m.epoch || r.tooFew() {
		return
	}
	low := r.durable
	for _, id := range g.InSync {
		if id != r.config.Self {
			low = min(low, r.Acked(id))
		}
	}
	for id := range m.changes {
		low = min(low, r.Acked(id))
	}
	r.confirm = max(r.confirm, low)
}

// see forgets the proposals whose outcome a view shows: the version has moved past the
// one that they named, so none of them can be applied any more.
func (m *master) see(g group.Group) {
	for id, version := range m.changes {
		if g.Version > version {
			delete(m.changes, id)
		}
	}
}

// maintain looks after the in-sync set: members that are slow go, others that are level
// come, and what was proposed without an outcome is proposed again.
func (r *Replica) maintain(now lease.Time) []Act {
	var acts []Act
	if r.master == nil {
		return nil
	}
	for _, m := range r.view.Group.Members {
		level := max(r.master.followers[m.ID].level, r.master.began)
		_, proposed := r.master.changes[m.ID]
		switch {
		case !r.view.Group.Holds(m.ID):
			acts = append(acts, r.Add(m.ID)...)
		case proposed || now.Sub(level) > r.config.Slow:
			acts = append(acts, r.Remove(m.ID)...)
		}
	}
	return acts
}

// Add proposes a member for the in-sync set, if it is level with what is confirmed
// (master 5).
func (r *Replica) Add(id string) []Act {
	m, g := r.master, r.view.Group
	member, ok := g.Member(id)
	if m == nil || !ok || g.Epoch != m.epoch || g.Holds(id) {
		return nil
	}
	if _, proposed := m.changes[id]; !proposed {
		if end := r.Acked(id); end < m.start || end < r.confirm {
			return nil
		}
	}
	m.changes[id] = g.Version
	return []Act{Propose{group.Grow{Epoch: m.epoch, Version: g.Version, Member: id, Incarnation: member.Incarnation}}}
}

// Remove proposes to take a member out of the in-sync set. The confirm offset goes on
// waiting for it until the change is seen.
func (r *Replica) Remove(id string) []Act {
	m, g := r.master, r.view.Group
	if m == nil || g.Epoch != m.epoch || !g.Holds(id) || id == r.config.Self {
		return nil
	}
	m.changes[id] = g.Version
	return []Act{Propose{group.Shrink{Epoch: m.epoch, Version: g.Version, Member: id}}}
}
