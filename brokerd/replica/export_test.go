package replica

import "encoding/binary"

// Clone and Key are for the checker, which goes on from one state in many ways.

func (r *Replica) Clone() *Replica {
	c := *r
	if r.master != nil {
		c.master = r.master.clone()
	}
	return &c
}

// Key appends all that a replica goes by, but for its log, which the checker has itself,
// and its view, of which the index is enough.
func (r *Replica) Key(b []byte, ids []string) []byte {
	put := func(n ...uint64) {
		for _, v := range n {
			b = binary.AppendUvarint(b, v)
		}
	}
	flag := func(f bool) {
		if f {
			put(1)
		} else {
			put(0)
		}
	}
	put(r.config.Boot, r.saved.Epoch, r.saved.Incarnation, r.durable, r.confirm, r.view.Index, r.contact.count)
	flag(r.saved.Owes)
	flag(r.view.Mine)
	flag(r.contact.open)
	flag(r.contact.met)
	b = append(b, r.contact.master...)
	if m := r.master; m != nil {
		put(m.epoch, m.start)
		for _, id := range ids {
			f := m.followers[id]
			put(f.incarnation, f.end, f.at, f.next, f.sent, f.told, m.changes[id])
			flag(f.met)
		}
	}
	return b
}
