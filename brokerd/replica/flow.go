package replica

// Next returns what to send a follower next: records of one epoch, at most limit bytes
// and what its window has room for, or just a confirm offset that it does not know. false:
// nothing. The range may end within a record: the owner sends the whole records of it, at
// least one however long that is, and says so by Sent.
func (r *Replica) Next(id string, limit uint64) (Append, bool) {
	m := r.master
	if m == nil {
		return Append{}, false
	}
	f := m.followers[id]
	if !f.met {
		return Append{}, false // the sign of life will have it contact
	}
	b := Append{Epoch: m.epoch, From: f.next, To: f.next, Confirm: r.confirm}
	if flying := f.next - max(f.at, f.end); flying < r.config.Window && f.next >= r.log.Base {
		if of, end, ok := r.log.At(f.next); ok {
			b.Of, b.To = of, f.next+min(end-f.next, limit, r.config.Window-flying)
		}
	}
	return b, b.From < b.To || f.told < r.confirm
}

// Sent tells that a message of [Replica.Next] has been handed to the stream, with To as
// it really was.
func (r *Replica) Sent(id string, b Append) {
	if r.master == nil || b.Epoch != r.master.epoch {
		return
	}
	f := r.master.followers[id]
	if f.met && f.next == b.From {
		f.next, f.sent, f.told = b.To, max(f.sent, b.To), max(f.told, b.Confirm)
		r.master.followers[id] = f
	}
}

// Rewind tells that what is on its way to a follower may be lost: its stream has ended.
// It is sent again from what it has acknowledged.
func (r *Replica) Rewind(id string) {
	if r.master == nil {
		return
	}
	// Whether it is the same process that comes back, its contact or its next
	// acknowledgement will show.
	f := r.master.followers[id]
	f.next, f.told = max(f.at, f.end), 0
	r.master.followers[id] = f
}

// Life returns a sign of life for a follower. It is to be sent at once to every member
// after Lead, and when nothing else was sent for a while. One that ends before what it is
// to be sent, as retention has overtaken it, contacts again.
func (r *Replica) Life(id string) (Append, bool) {
	if r.master == nil {
		return Append{}, false
	}
	next := max(r.master.followers[id].next, r.log.Base)
	return Append{Epoch: r.master.epoch, From: next, To: next, Confirm: r.confirm}, true
}
