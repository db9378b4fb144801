package vip

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Options tune a [Plan].
type Options struct {
	// MinLeft asks for a Refresh of each wanted address whose remaining
	// lifetime is shorter, or that has none at all. Zero asks for none of the
	// first kind.
	MinLeft time.Duration
}

// identity is what two addresses must share to be the same VIP. Link-local
// IPv6 addresses are unique on one link only.
type identity struct {
	ip   netip.Addr
	link string
}

func identityOf(a Address) identity {
	ip := a.IP().Unmap()
	if ip.Is6() && ip.IsLinkLocalUnicast() {
		return identity{ip, a.Interface}
	}
	return identity{ip: ip}
}

// Plan returns the steps from actual to wanted, in the order in which they must
// be made: every Remove, then Add, Refresh, Announce; Blocked at the end. Within
// a kind they are sorted by address. The order of the arguments plays no part.
//
//   - An address of ours that nobody wants is removed. So is one that is wanted
//     on another interface, with another prefix than [Address.Host], or that
//     duplicate address detection has made useless; it is then added anew.
//   - An address that is not ours is never touched. If it is also wanted, the
//     VIP is Blocked: the host would answer for it without a lease, and nothing
//     that we do could end that.
//   - A wanted VIP without an interface stays where it is up, else it is Blocked.
//   - If two wanted entries name one IP, the one with the higher epoch counts,
//     then the lower set name.
//   - Each Add comes with an Announce.
func Plan(wanted []Wanted, actual []Actual, opts Options) []Op {
	p := planner{opts: opts, wanted: index(wanted), up: map[identity]bool{}, foreign: map[identity]Address{}}
	actual = slices.Clone(actual)
	slices.SortFunc(actual, func(a, b Actual) int { return a.Compare(b.Address) })
	for _, a := range actual {
		p.look(a)
	}
	for id, w := range p.wanted {
		p.raise(id, w)
	}
	slices.SortFunc(p.ops, func(a, b Op) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), a.Address.Compare(b.Address))
	})
	return p.ops
}

type planner struct {
	opts    Options
	wanted  map[identity]Wanted
	up      map[identity]bool    // ours, and as wanted
	foreign map[identity]Address // the first by order
	ops     []Op
}

// index keeps one entry for each identity.
func index(wanted []Wanted) map[identity]Wanted {
	out := make(map[identity]Wanted, len(wanted))
	for _, w := range wanted {
		id := identityOf(w.Address)
		old, ok := out[id]
		if !ok || precedes(w, old) {
			out[id] = w
		}
	}
	return out
}

func precedes(a, b Wanted) bool {
	return cmp.Or(
		cmp.Compare(b.Epoch, a.Epoch), // higher first
		strings.Compare(a.Set, b.Set),
		a.Address.Compare(b.Address),
	) < 0
}

// look decides about one address that the kernel holds.
func (p *planner) look(a Actual) {
	id := identityOf(a.Address)
	if !a.Ours {
		if _, ok := p.foreign[id]; !ok {
			p.foreign[id] = a.Address
		}
		return
	}
	w, ok := p.wanted[id]
	switch {
	case !ok:
		p.remove(a, Wanted{}, "not wanted")
	case w.Interface != "" && w.Interface != a.Interface:
		p.remove(a, w, "wanted on "+w.Interface)
	case a.Address != a.Host():
		p.remove(a, w, "not a host prefix")
	case a.Flags&(Tentative|DADFailed) != 0:
		p.remove(a, w, "unusable: duplicate address detection")
	case p.up[id]:
		p.remove(a, w, "there twice")
	default:
		p.up[id] = true
		if w.Interface == "" {
			w.Interface = a.Interface
		}
		p.refresh(a, w)
	}
}

func (p *planner) remove(a Actual, w Wanted, reason string) {
	p.ops = append(p.ops, Op{Kind: Remove, Address: a.Address, Set: w.Set, Epoch: w.Epoch, Reason: reason})
}

func (p *planner) refresh(a Actual, w Wanted) {
	switch {
	case a.ValidLeft == Forever:
		p.add(Refresh, w, "has no lifetime")
	case a.ValidLeft < p.opts.MinLeft:
		p.add(Refresh, w, "lifetime ends in "+a.ValidLeft.String())
	}
}

func (p *planner) add(kind Kind, w Wanted, reason string) {
	p.ops = append(p.ops, Op{Kind: kind, Address: w.Address, Set: w.Set, Epoch: w.Epoch, Reason: reason})
}

// raise decides about one wanted VIP, after all looks.
func (p *planner) raise(id identity, w Wanted) {
	if other, ok := p.foreign[id]; ok {
		// Also when ours is up beside it: removing ours would not make the
		// host silent, and somebody must know that before it matters.
		p.add(Blocked, w, "another program holds "+other.String())
		return
	}
	switch {
	case p.up[id]:
	case w.Interface == "":
		p.add(Blocked, w, "no interface")
	default:
		p.add(Add, w, "not there")
		p.add(Announce, w, "added")
	}
}
