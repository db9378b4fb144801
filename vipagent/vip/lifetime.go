package vip

import (
	"cmp"
	"slices"
	"time"
)

// The kernel counts lifetimes in whole seconds and removes an address up to
// some 350 ms late; each new lifetime takes the kernel's networking lock for
// about 90 us per address. So few addresses follow the lease closely and many
// follow it at a distance.
const (
	// Few is the largest number of addresses whose lifetime follows every
	// renewal.
	Few = 64
	// Slice is the largest number of addresses in one refresh, so that a
	// removal never waits long behind one.
	Slice = 64

	manyValid = 4 * time.Second // shortest lifetime of many addresses
	manyEvery = time.Second     // how often each of many is refreshed
	manySlack = 2 * time.Second // what the deadline may move until a refresh comes round again
)

// Lifetime returns the lifetime that the kernel should give to each of so many
// addresses while the lease has remaining left, and whether an address to which
// the kernel still gives left is due for it. The lifetime is in whole seconds
// and never shorter than remaining. With no lease left it is zero and nothing
// is due: take the addresses down.
//
// Up to [Few] addresses get the remaining lease rounded up, as soon as the
// kernel would end one before the lease does: with every renewal. More get at
// least 4 s, and 2 s more than the lease, once a second.
//
// It is the janitor for an agent that never comes back, not the fence: the call
// that sets it is relative, so a late one puts the address back.
func Lifetime(remaining time.Duration, addresses int, left time.Duration) (valid time.Duration, due bool) {
	if remaining <= 0 || addresses <= 0 {
		return 0, false
	}
	valid = ceilSecond(remaining)
	if addresses <= Few {
		return valid, left < remaining
	}
	valid = max(manyValid, valid+manySlack)
	return valid, left <= valid-manyEvery
}

func ceilSecond(d time.Duration) time.Duration {
	if whole := d.Truncate(time.Second); whole != d {
		return whole + time.Second
	}
	return d
}

// Refresher remembers until when the kernel keeps each address and deals the
// refreshing out in slices. The zero value is ready. It is not safe for
// concurrent use. Times are durations since any one origin, on a clock that
// only rises.
type Refresher struct {
	until map[Address]time.Duration
}

// Refreshed notes that the addresses were added or refreshed with a lifetime of
// valid by a call that began at now.
func (r *Refresher) Refreshed(now, valid time.Duration, addresses []Address) {
	if r.until == nil {
		r.until = make(map[Address]time.Duration, len(addresses))
	}
	for _, a := range addresses {
		r.until[a] = now + valid
	}
}

// Next returns which of the addresses in up are due at now, at most [Slice] of
// them and those that end first, with the lifetime to give them while the lease
// has remaining left. Call it after each renewal, and after a refresh once more
// until it returns none, so that other work gets its turn in between. again is
// the time until an address falls due without a renewal; zero means that none
// will. Addresses that are not in up are forgotten.
func (r *Refresher) Next(now, remaining time.Duration, up []Address) (due []Address, valid, again time.Duration) {
	r.keep(up)
	for _, a := range up {
		left := r.until[a] - now // an unknown one ended long ago
		var is bool
		valid, is = Lifetime(remaining, len(up), left)
		switch {
		case is:
			due = append(due, a)
		case valid > 0 && len(up) > Few:
			if wait := left - (valid - manyEvery); again == 0 || wait < again {
				again = wait
			}
		}
	}
	slices.SortFunc(due, func(a, b Address) int {
		return cmp.Or(cmp.Compare(r.until[a], r.until[b]), a.Compare(b))
	})
	if len(due) > Slice {
		due = due[:Slice]
	}
	return due, valid, again
}

// keep forgets addresses that are no longer up.
func (r *Refresher) keep(up []Address) {
	if len(r.until) == 0 {
		return
	}
	kept := make(map[Address]time.Duration, len(up))
	for _, a := range up {
		if until, ok := r.until[a]; ok {
			kept[a] = until
		}
	}
	r.until = kept
}
