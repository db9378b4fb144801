package vipagent

import (
	"net/netip"
	"slices"
	"time"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/vip"
)

// announceGap is the shortest time between two announcements of one address
// that events ask for: a host that keeps claiming it, or a flapping link, must
// not make us flood the network.
const announceGap = time.Second

const (
	// swallowedRetry is when an announcement is made again that did not leave the host.
	swallowedRetry = 100 * time.Millisecond
	// swallowedMost in a row mean that the host is dumb: another one is to hold the set.
	swallowedMost = 20
)

// announcer decides when each address that is up is announced again. It is
// pure: time is an argument.
type announcer struct {
	repeat, refresh time.Duration
	up              map[vip.Address]*announcement
}

type announcement struct {
	swallowed int        // announcements in a row that did not leave the host
	last      lease.Time // announced
	asked     lease.Time // by an event, at the earliest then; 0 = not
	repeat    lease.Time // of the takeover; 0 = done
	refresh   lease.Time // 0 = never
}

func newAnnouncer(repeat, refresh time.Duration) announcer {
	return announcer{repeat: repeat, refresh: refresh, up: make(map[vip.Address]*announcement)}
}

// raised notes that the addresses were raised and announced at now.
func (n *announcer) raised(now lease.Time, addresses []vip.Address) {
	for _, a := range addresses {
		e := &announcement{last: now, repeat: now.Add(n.repeat)}
		if n.refresh > 0 {
			e.refresh = now.Add(n.refresh)
		}
		n.up[a] = e
	}
}

// failed notes that announcements of these addresses did not leave the host, asks for
// another one soon, and returns those of which it has been so for too long.
func (n *announcer) failed(now lease.Time, addresses []vip.Address) (dumb []vip.Address) {
	for _, a := range addresses {
		e := n.up[a]
		if e == nil {
			continue
		}
		e.swallowed++
		e.asked = now.Add(swallowedRetry)
		if e.swallowed >= swallowedMost {
			dumb = append(dumb, a)
		}
	}
	return dumb
}

// left notes that announcements of these addresses have left the host.
func (n *announcer) left(addresses []vip.Address) {
	for _, a := range addresses {
		if e := n.up[a]; e != nil {
			e.swallowed = 0
		}
	}
}

// link asks for the addresses of one interface.
func (n *announcer) link(now lease.Time, iface string) {
	for a, e := range n.up {
		if a.Interface == iface {
			e.ask(now)
		}
	}
}

// all asks for every address.
func (n *announcer) all(now lease.Time) {
	for _, e := range n.up {
		e.ask(now)
	}
}

// claimed asks for one address; false if it is not up or was asked for already.
func (n *announcer) claimed(now lease.Time, ip netip.Addr) bool {
	for a, e := range n.up {
		if a.IP() == ip {
			return e.ask(now)
		}
	}
	return false
}

// ask returns whether this is news.
func (e *announcement) ask(now lease.Time) bool {
	if e.asked != 0 {
		return false
	}
	e.asked = max(now, e.last.Add(announceGap))
	return true
}

// due returns the addresses among those up that are to be announced now, notes
// that they are, and tells when the next one is; 0 = none. It forgets all others.
func (n *announcer) due(now lease.Time, up []vip.Address) (due []vip.Address, next lease.Time) {
	kept := make(map[vip.Address]*announcement, len(up))
	for _, a := range up {
		e := n.up[a]
		if e == nil { // taken over from a former process, which announced it
			e = &announcement{last: now}
			if n.refresh > 0 {
				e.refresh = now.Add(n.refresh)
			}
		}
		kept[a] = e
		if e.pass(now, n.refresh) {
			due = append(due, a)
		}
		for _, t := range []lease.Time{e.asked, e.repeat, e.refresh} {
			if t != 0 && (next == 0 || t < next) {
				next = t
			}
		}
	}
	n.up = kept
	slices.SortFunc(due, vip.Address.Compare)
	return due, next
}

// pass says whether the address is due and moves its times on.
func (e *announcement) pass(now lease.Time, refresh time.Duration) bool {
	passed := func(t lease.Time) bool { return t != 0 && t <= now }
	if !passed(e.asked) && !passed(e.repeat) && !passed(e.refresh) {
		return false
	}
	if passed(e.asked) {
		e.asked = 0
	}
	if passed(e.repeat) {
		e.repeat = 0
	}
	if refresh > 0 {
		e.refresh = now.Add(refresh)
	}
	e.last = now
	return true
}
