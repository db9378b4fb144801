package replica

// contact is what a follower knows of its tie to the master of the highest epoch.
type contact struct {
	count  uint64 // of the latest request
	open   bool   // requested, not answered: the log must not change
	met    bool   // the log is a prefix of that master's
	master string
}

// request asks a master where this log parts from its own (follower 2).
func (r *Replica) request(master string) []Act {
	r.contact.count++
	r.contact.open, r.contact.master = true, master
	return []Act{Send{master, Contact{r.saved.Epoch, r.number(), r.log, r.cuts}}}
}

func (r *Replica) number() Number { return Number{r.config.Boot, r.contact.count} }

// obey cuts the log where it parts from the master's.
func (r *Replica) obey(from string, m Answer) []Act {
	switch {
	case !r.contact.open || m.Number != r.number():
		return nil // late, repeated, or to somebody else
	case m.Reset && !r.log.Empty():
		return r.discard(m.At)
	case m.Reset:
		return append(r.rebase(m.Base), r.meet(from)...)
	case m.At < r.log.Base || m.At > r.log.End:
		return nil // no master answers this
	}
	var acts []Act
	if m.At < r.log.End {
		acts = append(acts, CutLog{m.At, r.note(m.At)})
		r.log = r.log.Cut(m.At)
		r.durable = min(r.durable, m.At)
	}
	r.confirm = min(r.confirm, m.At)
	return append(acts, r.meet(from)...)
}

// meet is the end of a contact: the log is a prefix of the master's.
func (r *Replica) meet(master string) []Act {
	r.contact.open, r.contact.met, r.contact.master = false, true, master
	return r.acknowledge()
}

// note adds what is cut now to what was cut ever.
func (r *Replica) note(from uint64) []Range {
	cut := r.log.Ranges(from, r.log.End)
	r.cuts = union(append(cut, r.cuts...))
	return cut
}

// discard gives the whole log up. It has acknowledged more than it will have: it returns
// first, and meets the master after that, with nothing.
func (r *Replica) discard(from uint64) []Act {
	acts := append(r.Owe(), Discard{r.note(from)})
	r.log, r.durable, r.confirm = Log{}, 0, 0
	return append(acts, r.settle()...)
}

// rebase lets an empty log begin where the master's does.
func (r *Replica) rebase(at uint64) []Act {
	r.log, r.durable, r.confirm = Log{Base: at, End: at}, at, 0
	return []Act{Rebase{at}}
}

// take appends records of the master, if they fit.
func (r *Replica) take(from string, m Append) []Act {
	switch {
	case r.master != nil:
		return nil
	case r.contact.open:
		return nil
	case !r.contact.met:
		return r.request(from)
	case m.From > r.log.End:
		// Something was lost on the way, or retention has overtaken this log: the master
		// will say where to go on.
		r.step(nil)
		return r.request(from)
	}
	var acts []Act
	if m.To > r.log.End {
		if r.log.Last() != m.Of && m.From != r.log.End {
			return nil // no master sends this
		}
		log, err := r.log.Append(m.Of, m.To-r.log.End)
		if err != nil {
			return nil
		}
		acts = append(acts, Take{m.Of, r.log.End, m.To})
		r.log = log
	}
	r.confirm = max(r.confirm, m.Confirm)
	return append(acts, r.acknowledge()...)
}

// acknowledge tells the master how much of its log is durable here (follower 3).
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
