package vrrp

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// receive takes in an advertisement. Routers that are not started, or broken, are deaf.
func (m *Machine) receive(r Received, now time.Duration) []Action {
	if m.state != Backup && m.state != Active {
		return nil
	}
	a := r.Advertisement
	r.Source = r.Source.WithZone("")
	if m.config.OwnerIgnores && m.priority == PriorityOwner {
		return []Action{Note{NoteOwnerIgnores, fmt.Sprintf("priority %d from %v is not listened to", a.Priority, r.Source)}}
	}
	actions := m.noteForm(r)
	known := m.state == Backup && r.Source == m.heard && m.config.SkipCheckAddresses
	if !known && !sameSet(a.Addresses, m.config.Addresses) {
		actions = append(actions, Note{NoteAddresses, fmt.Sprintf("%v advertises %v, configured are %v", r.Source, a.Addresses, m.config.Addresses)})
		if m.config.CheckAddresses {
			return actions
		}
	}
	if m.state == Active {
		return append(actions, m.hearActive(a, r.Source, now)...)
	}
	return append(actions, m.hearBackup(a, r.Source, now)...)
}

// noteForm compares the form of a checksum with the own one. Keepalived goes over to
// the old form of unicast by itself when a peer has it; so does this.
func (m *Machine) noteForm(r Received) []Action {
	sent := m.Form(r.Source.Is4())
	if r.Form == 0 || r.Form == sent {
		return nil
	}
	if r.Form == OldUnicast && m.config.Checksum == 0 {
		m.form = OldUnicast
		return []Action{Note{NoteChecksum, fmt.Sprintf("%v has the checksum of an old Keepalived, which is sent from now on", r.Source)}}
	}
	return []Action{Note{NoteChecksum, fmt.Sprintf("%v sends checksums of the form %v, this router %v", r.Source, r.Form, sent)}}
}

// hearBackup is RFC 9568, section 6.4.2.
func (m *Machine) hearBackup(a Advertisement, source netip.Addr, now time.Duration) []Action {
	actions := m.restoreOwner(a, source)
	if a.Priority == PriorityStop {
		// It need not be from the Active router: the RFCs and Keepalived do not look.
		m.arm(now + m.skew())
		return append(actions, Note{NoteStop, fmt.Sprintf("%v gives up", source)})
	}
	if source != m.heard {
		actions = append(actions, Note{NoteActive, fmt.Sprintf("%v is Active, priority %d", source, a.Priority)})
	}
	m.heard, m.heardPriority = source, a.Priority
	delay, accepted := m.delayPreemption(a.Priority, now)
	actions = append(actions, delay...)
	if !accepted {
		// The timer runs on, and this router takes over when it ends.
		return append(actions, Note{NoteDiscarded, fmt.Sprintf("priority %d from %v is lower than %d", a.Priority, source, m.priority)})
	}
	actions = append(actions, m.learn(a, source)...)
	m.ready = false
	m.arm(now + m.downInterval())
	return actions
}

// delayPreemption tells whether an advertisement keeps this router Backup: it does not
// preempt, its priority is not higher, or its preempt delay is not over. The delay
// begins with the first lower priority and ends early with one that is not lower;
// that is Keepalived's, the RFCs have none. So is that addresses do not count here.
func (m *Machine) delayPreemption(priority uint8, now time.Duration) (actions []Action, accepted bool) {
	delay := m.config.PreemptDelay
	switch lower := priority < m.priority; {
	case !m.config.Preempt:
		return nil, true
	case !lower:
		if m.preempting {
			m.preempting = false
			actions = []Action{Note{NotePreemptDelay, "ends, the Active router's priority is not lower"}}
		}
		return actions, true
	case delay == 0:
		return nil, false
	case !m.preempting:
		m.preempting, m.preemptFrom = true, now+delay
		return []Action{Note{NotePreemptDelay, fmt.Sprintf("begins, %v", delay)}}, true
	}
	return nil, now < m.preemptFrom
}

// learn takes the Active router's interval on, which version 3 has (RFC 9568, section
// 6.4.2); in version 2 they are equal or the packet was refused.
func (m *Machine) learn(a Advertisement, source netip.Addr) []Action {
	if m.config.Version != 3 || a.Interval == m.interval {
		return nil
	}
	before := m.interval
	m.interval = a.Interval
	return []Action{Note{NoteInterval, fmt.Sprintf("%v advertises every %v, not %v", source, a.Interval, before)}}
}

// expire is the end of the down timer.
func (m *Machine) expire(now time.Duration) []Action {
	if !m.config.Member {
		return m.become("no advertisement", now)
	}
	// The timer has no meaning now; Keepalived arms it again too.
	m.ready = true
	m.arm(now + m.downInterval())
	return []Action{Ready{}}
}

// sameSet tells whether two lists have the same addresses, in whatever order.
func sameSet(a, b []netip.Addr) bool {
	if len(a) != len(b) {
		return false
	}
	if slices.Equal(a, b) {
		return true
	}
	for _, address := range a {
		if !slices.Contains(b, address) {
			return false
		}
	}
	return true
}
