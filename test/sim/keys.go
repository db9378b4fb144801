package sim

import (
	"encoding/binary"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/tenure"
)

// key appends all of a host that can change what it does later, times relative to
// now.
func (h *host) key(b []byte, now lease.Time) []byte {
	rel := func(t lease.Time) { b = binary.AppendVarint(b, max(int64(t-now), 0)) }
	b = append(b, byte(h.boot), byte(h.process), h.jam)
	for a := range maxAddresses {
		p := &h.kernel.fence[a]
		b = append(b, flags(h.kernel.present[a], p.guarded, p.open, h.vetoes[a%maxSets]))
		if p.open {
			b = binary.AppendUvarint(binary.AppendUvarint(binary.AppendUvarint(b, p.epoch), p.session), p.also)
		}
	}
	for _, s := range h.kernel.slots {
		b = binary.AppendUvarint(b, s.session)
		rel(s.deadline)
	}
	b = h.fileKey(b, now)
	a := h.agent
	if a == nil {
		return append(b, 0)
	}
	b = append(b, 1)
	b = a.book.Append(b, now)
	for i := range a.leases {
		l := &a.leases[i]
		b = l.holder.Append(b, now)
		rel(l.deadline)
		rel(l.computed)
		b = append(b, flags(l.fenced, l.deadline == 0, l.computed > l.deadline))
	}
	d := &a.duty
	b = append(b, byte(a.at), flags(a.wake, a.look, a.view != nil, d.opening, d.rebind, d.stopping, d.gone, a.undone))
	if a.view != nil {
		b = binary.AppendUvarint(b, a.view.Index)
	}
	b = a.handKey(b)
	for i := range a.tasks {
		t := &a.tasks[i]
		b = appendGrantKey(b, t.key)
		b = binary.AppendUvarint(b, t.retired.Claim)
		b = append(b, flags(t.busy, t.done != 0))
	}
	return b
}

// handKey appends what the owner has in hand.
func (a *agent) handKey(b []byte) []byte {
	for _, w := range a.wanted {
		b = binary.AppendUvarint(append(b, byte(place(w.IP())), w.Set[1]), w.Epoch)
	}
	b = append(b, 0xff)
	if a.at == idle {
		for _, there := range a.read {
			b = append(b, flags(there))
		}
		return b
	}
	for _, op := range a.adds {
		b = binary.AppendUvarint(append(b, byte(place(op.Address.IP())), op.Set[1]), op.Epoch)
	}
	for _, r := range a.removals {
		b = append(b, byte(place(r.IP())))
	}
	for i := range a.decision.Hold {
		b = appendGrantKey(b, a.decision.Hold[i].Key())
	}
	b = append(b, 0xfe)
	for i := range a.decision.GiveUp {
		b = appendGrantKey(b, a.decision.GiveUp[i].Key())
	}
	for _, r := range a.decision.Retired {
		b = binary.AppendUvarint(append(b, byte(place(r.Address))), r.Claim)
	}
	for _, there := range a.read {
		b = append(b, flags(there))
	}
	return b
}

// fileKey appends what a successor would read.
func (h *host) fileKey(b []byte, now lease.Time) []byte {
	f := h.file
	if f == nil {
		return append(b, 0)
	}
	b = append(b, 1, flags(f.Rebinding))
	b = append(b, f.BootID...)
	for i := range f.Sessions {
		b = binary.AppendUvarint(b, f.Sessions[i].ID)
		b = binary.AppendVarint(b, max(int64(h.until[i]-now), 0))
	}
	b = binary.AppendUvarint(b, f.Index)
	for i := range f.Grants {
		b = appendGrantKey(b, f.Grants[i].Key())
		for _, c := range f.Grants[i].Addresses {
			b = binary.AppendUvarint(append(b, byte(place(c.Prefix.Addr()))), c.Claim)
		}
	}
	for _, s := range sets {
		b = binary.AppendUvarint(b, f.SetFloors.Of(tenure.Set(s)))
	}
	for _, p := range prefixes {
		b = binary.AppendUvarint(b, f.AddressFloors.Of(p.Addr()))
	}
	return b
}

func appendGrantKey(b []byte, k tenure.Key) []byte {
	b = append(b, k.Set...)
	return binary.AppendUvarint(binary.AppendUvarint(b, k.Session), k.Epoch)
}

func flags(fs ...bool) byte {
	var b byte
	for i, f := range fs {
		if f {
			b |= 1 << i
		}
	}
	return b
}
