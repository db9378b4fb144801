package vrrp

import (
	"fmt"
	"net/netip"
	"time"
)

// hearActive is RFC 9568, section 6.4.3.
func (m *Machine) hearActive(a Advertisement, source netip.Addr, now time.Duration) []Action {
	if a.Priority == PriorityStop {
		return append([]Action{Note{NoteStop, fmt.Sprintf("%v gives up", source)}}, m.advertise(now))
	}
	var actions []Action
	if a.Priority == m.priority {
		actions = m.meetEqual(a, source, now)
	}
	// After two owners have met, the own priority may be lower.
	switch order := m.compare(a.Priority, source); {
	case order < 0:
		return append(actions, m.forceElection(a, source, now)...)
	case order > 0:
		return append(actions, m.giveWay(a, source, now)...)
	}
	return actions
}

// compare tells whether another router has precedence (1), or this one (-1): by
// priority, then by primary address. 0: it has priority and address of this one, or
// this one does not know its own address yet; both stay what they are.
func (m *Machine) compare(priority uint8, source netip.Addr) int {
	switch {
	case priority > m.priority:
		return 1
	case priority < m.priority:
		return -1
	case m.primary.BitLen() != source.BitLen():
		return 0
	}
	return source.Compare(m.primary)
}

// advertise sends at once, and the next one an interval later.
func (m *Machine) advertise(now time.Duration) Action {
	m.arm(now + m.config.Interval)
	return m.send(now)
}

// forceElection answers a router of lower priority. RFC 9568 asks for the answer, RFC
// 5798 and 3768 discard in silence; Keepalived answers unless told not to, and
// announces the addresses again in any case, because the other one has announced
// them too. Unlike Keepalived nothing but an answer puts the next advertisement off:
// there, packets that are discarded do, and enough of them silence an Active router.
func (m *Machine) forceElection(a Advertisement, source netip.Addr, now time.Duration) []Action {
	actions := []Action{Note{NoteElection, fmt.Sprintf("priority %d from %v has no precedence over %d", a.Priority, source, m.priority)}}
	if !m.config.LowerNoAdvert {
		actions = append(actions, m.advertise(now))
	}
	return append(actions, Announce{})
}

// giveWay becomes Backup. Preempt is not asked: it restrains the router that comes,
// never the one that is Active.
func (m *Machine) giveWay(a Advertisement, source netip.Addr, now time.Duration) []Action {
	var actions []Action
	if m.config.HigherAdvert {
		actions = append(actions, m.send(now))
	}
	m.heard, m.heardPriority = source, a.Priority
	actions = append(actions, m.learn(a, source)...)
	why := fmt.Sprintf("%v has priority %d, this router %d", source, a.Priority, m.priority)
	if a.Priority == m.priority {
		why = fmt.Sprintf("%v has priority %d too and the higher address", source, a.Priority)
	}
	return append(actions, m.leave(Backup, why, false, now)...)
}

// meetEqual notes what must not be: a double of this router, or a second owner of
// its addresses.
func (m *Machine) meetEqual(a Advertisement, source netip.Addr, now time.Duration) []Action {
	switch order := m.compare(a.Priority, source); {
	case order == 0:
		return []Action{Note{NoteOwnAddress, fmt.Sprintf("priority %d from %v, this router's own", a.Priority, source)}}
	case m.priority != PriorityOwner:
		return nil
	case order > 0:
		return []Action{Note{NoteTwoOwners, fmt.Sprintf("%v has priority 255 too", source)}}
	case m.contest.lost(now):
		m.contest = contest{}
		m.priority = PriorityOwner - 1
		return []Action{Note{NoteTwoOwners, fmt.Sprintf("%v has priority 255 too and does not give way, this router does", source)}}
	case m.contest.begin(a.Interval, now):
		return []Action{Note{NoteTwoOwners, fmt.Sprintf("%v has priority 255 too", source)}}
	}
	return nil
}

// contest is that of two routers of priority 255. The one with the lower address has
// to give way. If it goes on after two more advertisements of this router and a bit
// more than an interval, it never will, and this one does. That is Keepalived's
// (2.3.3 and later, read; older ones step down at once); the RFCs know no second
// owner. Keepalived counts only what its timer sends, and its answers to the other
// owner put the timer off each time: with equal intervals it is chance whether the
// count ever ends. Here answers count.
type contest struct {
	left     int           // advertisements still to be sent, the answer that begins it included
	interval time.Duration // of the other router
	until    time.Duration // when it should have gone; 0 = not waited for yet
}

// begin starts it, or goes on; it tells whether it is new.
func (c *contest) begin(interval, now time.Duration) bool {
	c.interval = interval
	if c.until != 0 && now > c.until {
		c.until = 0 // that one had gone
	}
	if c.left > 0 || c.until != 0 {
		return false
	}
	c.left = 1 + 2
	return true
}

// sent counts an advertisement of this router, whose interval is own.
func (c *contest) sent(own, now time.Duration) {
	if c.left == 0 {
		return
	}
	if c.left--; c.left == 0 {
		c.until = now + max(own, c.interval)*12/10
	}
}

// lost tells whether the other router has not gone.
func (c *contest) lost(now time.Duration) bool { return c.until != 0 && now <= c.until }

// restoreOwner takes priority 255 again when no other router has it.
func (m *Machine) restoreOwner(a Advertisement, source netip.Addr) []Action {
	if m.config.Priority != PriorityOwner || m.priority == PriorityOwner || a.Priority == PriorityOwner && source == m.heard {
		return nil
	}
	m.priority = PriorityOwner
	return []Action{Note{NotePriority, fmt.Sprintf("%v has priority %d", source, a.Priority)}}
}

// superseded tells whether an Active router has been silent for so long that another
// one has taken over; see [Config.LateBackup].
func (m *Machine) superseded(now time.Duration) bool {
	c := m.config
	return c.LateBackup != 0 && !c.Preempt && now-m.lastSent >= c.activeDown(c.LateBackup, c.Interval)
}
