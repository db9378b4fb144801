package replica

// contact is what a follower knows of its tie to the master of the highest epoch.
type contact struct {
	count  uint64 // of the latest request
	open   bool   // requested, not answered: the log must not change
	met    bool   // the log is a prefix of that master's
	master string
}

// Recontact asks the master anew, after its answer did not come.
func (r *Replica) Recontact() []Act {
	if r.saved.Owes || r.master != nil || !r.contact.open {
		return nil
	}
	return r.request(r.contact.master)
}

// request asks a master where this log parts from its own.
func (r *Replica) request(master string) []Act {
	r.contact.count++
	r.contact.open, r.contact.master = true, master
	return []Act{Send{master, Contact{r.saved.Epoch, r.number(), r.history, r.end}}}
}

func (r *Replica) number() Number { return Number{r.boot, r.contact.count} }

// obey cuts the log where it parts from the master's.
func (r *Replica) obey(from string, m Answer) []Act {
	if !r.contact.open || m.Number != r.number() || m.At > r.end {
		return nil // late, repeated, or to somebody else
	}
	r.contact.open, r.contact.met, r.contact.master = false, true, from
	var acts []Act
	if m.At < r.end {
		acts = append(acts, CutLog{m.At, r.history.Ranges(m.At, r.end)})
		r.history, r.end = r.history.Cut(m.At), m.At
		r.durable = min(r.durable, m.At)
	}
	r.confirm = min(r.confirm, m.At)
	return append(acts, r.acknowledge()...)
}

// take appends records of the master, if they fit.
func (r *Replica) take(from string, m Append) []Act {
	if r.master != nil {
		return nil
	}
	if !r.contact.met {
		if r.contact.open {
			return nil
		}
		return r.request(from)
	}
	var acts []Act
	if m.From <= r.end && m.To > r.end {
		history, err := r.history.Merge(m.Of, r.end)
		if err != nil || r.history.Last() != m.Of && m.From != r.end {
			return nil // no master sends this
		}
		acts = append(acts, Take{m.Of, r.end, m.To})
		r.history, r.end = history, m.To
	}
	r.confirm = max(r.confirm, m.Confirm)
	return append(acts, r.acknowledge()...)
}

// acknowledge tells the master how much of its log is durable here.
func (r *Replica) acknowledge() []Act {
	if !r.contact.met {
		return nil
	}
	return []Act{Send{r.contact.master, Ack{r.saved.Epoch, r.saved.Incarnation, r.durable}}}
}

// Follows returns the epoch of whose master's log this one is known to be a prefix,
// 0 if none.
func (r *Replica) Follows() uint64 {
	if r.contact.met {
		return r.saved.Epoch
	}
	return 0
}
