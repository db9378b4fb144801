package vrrp

import (
	"net/netip"
	"time"
)

// Status is a machine at one moment, for people and their tools.
type Status struct {
	State    State
	Priority uint8      // effective
	Primary  netip.Addr // source of own advertisements
	// Active is the router that was last heard and its priority; the zero address if
	// none was, and left as it was while this router is Active itself.
	Active         netip.Addr
	ActivePriority uint8
	// ActiveInterval is Active_Adver_Interval: of an Active router its own.
	ActiveInterval time.Duration
	Skew           time.Duration // Skew_Time
	ActiveDown     time.Duration // Active_Down_Interval
	// Due is when the timer is due, Armed whether there is one.
	Due   time.Duration
	Armed bool
	// PreemptFrom is the end of a preempt delay that has begun, else 0.
	PreemptFrom time.Duration
	// Ready: it would be Active if its sync group let it.
	Ready  bool
	Broken string // why it is in Fault, "" if it is not for a reason of its own
}

// Status returns how the machine stands.
func (m *Machine) Status() Status {
	s := Status{
		State: m.state, Priority: m.priority, Primary: m.primary,
		Active: m.heard, ActivePriority: m.heardPriority, ActiveInterval: m.interval,
		Skew: m.skew(), ActiveDown: m.downInterval(),
		Due: m.due, Armed: m.armed, Ready: m.ready, Broken: m.broken,
	}
	if m.preempting {
		s.PreemptFrom = m.preemptFrom
	}
	return s
}

// Config returns the configuration.
func (m *Machine) Config() Config { return m.config }

// Form returns the form of checksum to send over IPv4 or IPv6: as configured, or as
// learnt from a peer.
func (m *Machine) Form(ip4 bool) Checksum {
	if m.form != 0 && ip4 && m.config.Version == 3 {
		return m.form
	}
	return m.config.Form(ip4)
}

// Advertisement returns the advertisement of a [Send].
func (m *Machine) Advertisement(s Send) Advertisement { return m.config.Advertisement(s.Priority) }
