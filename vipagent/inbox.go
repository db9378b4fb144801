package vipagent

import (
	"net/netip"
	"slices"
	"sync"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
)

// inbox is how others reach the owner without waiting for it. What comes twice
// is kept once, so it stays small however long the owner is busy.
type inbox struct {
	wake chan struct{} // one slot

	mu sync.Mutex // held only to copy
	in events
}

// events is what has come since the owner last looked.
type events struct {
	views      map[string]received // newest of each coordinator
	conditions map[string]Condition
	look       bool
	links      map[string]bool
	claims     map[netip.Addr]string
	healed     bool
	adverts    []Advert
	results    []func() // of calls, to be run by the owner, in order
}

type received struct {
	view *pb.View
	at   lease.Time
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

// signal wakes the owner. It takes no lock.
func (i *inbox) signal() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

func (i *inbox) put(f func(*events)) {
	i.mu.Lock()
	f(&i.in)
	i.mu.Unlock()
	i.signal()
}

func (i *inbox) take() events {
	i.mu.Lock()
	defer i.mu.Unlock()
	e := i.in
	i.in = events{}
	return e
}

func (i *inbox) putView(v *pb.View, at lease.Time) {
	i.put(func(e *events) {
		if e.views == nil {
			e.views = make(map[string]received)
		}
		e.views[v.GetCoordinator()] = received{v, at}
	})
}

func (i *inbox) putConditions(c map[string]Condition) {
	own := make(map[string]Condition, len(c))
	for set, condition := range c {
		own[set] = condition
	}
	i.put(func(e *events) { e.conditions = own })
}

func (i *inbox) putLook() { i.put(func(e *events) { e.look = true }) }

func (i *inbox) putLink(name string) {
	i.put(func(e *events) {
		if e.links == nil {
			e.links = make(map[string]bool)
		}
		e.links[name] = true
		e.look = true
	})
}

// maxClaims bounds what a flood of forged claims can make us keep.
const maxClaims = 4096

func (i *inbox) putClaim(a netip.Addr, by string) {
	i.put(func(e *events) {
		if e.claims == nil {
			e.claims = make(map[netip.Addr]string)
		}
		if len(e.claims) < maxClaims {
			e.claims[a] = by
		}
	})
}

// maxAdverts bounds what a flood of advertisements can make us keep.
const maxAdverts = 1024

func (i *inbox) putAdvert(a Advert) {
	a.Message = slices.Clone(a.Message)
	i.put(func(e *events) {
		if len(e.adverts) < maxAdverts {
			e.adverts = append(e.adverts, a)
		}
	})
}

func (i *inbox) putHealed() { i.put(func(e *events) { e.healed = true }) }

func (i *inbox) putResult(f func()) {
	i.put(func(e *events) { e.results = append(e.results, f) })
}
