package tenure

import (
	"encoding/binary"
	"net/netip"

	"holdfast/coordinator/lease"
)

// Append appends all that decides what the book will ever say, in one form: two
// books with equal bytes come to the same answers from the same questions. Of times
// it has only what the rules ask, as of now, so that books that differ in age alone
// are equal.
func (b *Book) Append(to []byte, now lease.Time) []byte {
	e := encoder{to}
	e.text(b.me.Host)
	e.text(b.me.BootID)
	e.view(&b.view)
	e.number(b.newest)
	// Of the times the rules ask only these two things; the second stands still as
	// soon as it is answered.
	since := min(max(now.Sub(b.lapsedAt), 0), long(b.cur.TTL)+1)
	e.flags(b.viewed, b.rebinding, b.alive, b.swept, b.stopping, b.dirty, b.stored.rebinding, b.viewAt > b.lapsedAt)
	e.flags(b.Behind())
	e.number(uint64(since))
	for _, s := range [...]*lease.Session{&b.cur, &b.next} {
		e.number(s.ID)
		e.number(uint64(s.TTL))
		e.b = append(e.b, s.Secret[:]...)
	}
	e.number(uint64(len(b.setFloors.rows)))
	for _, r := range b.setFloors.rows {
		e.text(string(r.key))
		e.number(r.epoch)
	}
	e.number(uint64(len(b.addressFloors.rows)))
	for _, r := range b.addressFloors.rows {
		e.address(r.key)
		e.number(r.epoch)
	}
	e.ups(b.up)
	e.number(uint64(len(b.closing)))
	for _, c := range b.closing {
		e.number(c.Session)
		e.text(c.Cause)
	}
	e.number(uint64(len(b.stored.sessions)))
	for _, id := range b.stored.sessions {
		e.number(id)
	}
	e.number(uint64(len(b.parting.Releases)))
	for i := range b.parting.Releases {
		e.grant(&b.parting.Releases[i].Grant)
		e.text(b.parting.Releases[i].Cause)
	}
	e.retired(b.parting.Removals)
	return e.b
}

type encoder struct{ b []byte }

func (e *encoder) number(n uint64) { e.b = binary.AppendUvarint(e.b, n) }

func (e *encoder) text(s string) {
	e.number(uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) address(a netip.Addr) {
	raw := a.As16()
	e.flags(a.Is4())
	e.b = append(e.b, raw[:]...)
	e.text(a.Zone())
}

func (e *encoder) flags(fs ...bool) {
	var b byte
	for i, f := range fs {
		if f {
			b |= 1 << i
		}
	}
	e.b = append(e.b, b)
}

func (e *encoder) view(v *View) {
	e.number(v.Index)
	e.number(uint64(len(v.Sessions)))
	for _, id := range v.Sessions {
		e.number(id)
	}
	e.number(uint64(len(v.Grants)))
	for i := range v.Grants {
		e.grant(&v.Grants[i])
	}
	e.retired(v.Retiring)
}

func (e *encoder) grant(g *Grant) {
	e.text(g.Set)
	e.number(g.Session)
	e.number(g.Epoch)
	e.flags(g.Recalled)
	e.text(g.Cause)
	e.number(uint64(len(g.Addresses)))
	for _, c := range g.Addresses {
		e.address(c.Prefix.Addr())
		e.number(uint64(c.Prefix.Bits()))
		e.text(c.Interface)
		e.number(c.Claim)
	}
}

func (e *encoder) retired(rs []Retired) {
	e.number(uint64(len(rs)))
	for _, r := range rs {
		e.address(r.Address)
		e.number(r.Claim)
		e.number(r.Session)
		e.text(r.Set)
	}
}

func (e *encoder) ups(us []Up) {
	e.number(uint64(len(us)))
	for _, u := range us {
		e.address(u.IP())
		e.number(uint64(u.Prefix.Bits()))
		e.text(u.Interface)
		e.text(u.Set)
		e.number(u.Session)
		e.number(u.Epoch)
		e.flags(u.Confirmed)
	}
}
