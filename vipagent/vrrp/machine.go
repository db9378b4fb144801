package vrrp

import (
	"net/netip"
	"time"
)

// State is that of one virtual router.
type State uint8

// The states, with the names of RFC 9568 (RFC 5798 and Keepalived say Master for
// Active), and Keepalived's Fault: something that the router depends on is broken.
const (
	Initialize State = iota
	Backup
	Active
	Fault
)

// Config is a virtual router as configured. Times that are zero have their default.
type Config struct {
	Version      uint8 // 2 or 3
	VRID         uint8
	Priority     uint8         // 1..255
	Interval     time.Duration // Advertisement_Interval
	Addresses    []netip.Addr  // as advertised, in order
	Password     []byte        // version 2
	Preempt      bool          // a Backup of higher priority takes over
	PreemptDelay time.Duration
	// StartActive is Keepalived's `state MASTER`: a short wait after the start
	// instead of the whole Active_Down_Interval.
	StartActive bool
	DownAdverts int // advertisements that must be missed, 0 = 3
	// LowerNoAdvert: an Active router does not answer an advertisement of lower
	// priority. HigherAdvert: it sends one more before it yields to a higher one.
	LowerNoAdvert, HigherAdvert bool
	// OwnerIgnores: priority 255 does not listen.
	OwnerIgnores bool
	// SkipCheckAddresses: the address list of a router whose list was right before is
	// not compared again. CheckAddresses: an advertisement with another list is
	// discarded (Keepalived up to 2.3.2), else only reported.
	SkipCheckAddresses, CheckAddresses bool
}

// Machine is the state machine of one virtual router.
type Machine struct{ config Config }

// New returns a machine in Initialize.
func New(c Config) *Machine { return &Machine{config: c} }

// Event is what happens to a virtual router: one of the types below.
type Event interface{ event() }

// The events.
type (
	// Startup begins, Shutdown ends: an Active router sends priority 0.
	Startup  struct{}
	Shutdown struct{}
	// Timer: what Due said has come. Early or late ones do no harm.
	Timer struct{}
	// Received is an advertisement of another router, already checked by the
	// codec and the transport (TTL, peer list).
	Received struct {
		Advertisement Advertisement
		Source        netip.Addr // of the IP header
	}
	// Primary is the source address of own advertisements, which breaks ties.
	// It comes before Startup and whenever it changes.
	Primary struct{ Address netip.Addr }
	// Priority is a new effective priority, 1..254, by weights of checks.
	Priority struct{ Value uint8 }
	// Broken and Repaired: something that the router depends on.
	Broken   struct{ Reason string }
	Repaired struct{}
	// Follow: another member of the sync group went there. Backup and Fault are
	// obeyed at once; Active makes a Backup take over at once.
	Follow struct{ State State }
	// Yield: an Active router sends priority 0 and becomes Backup, for a planned
	// change to a peer.
	Yield struct{}
)

func (Startup) event()  {}
func (Shutdown) event() {}
func (Timer) event()    {}
func (Received) event() {}
func (Primary) event()  {}
func (Priority) event() {}
func (Broken) event()   {}
func (Repaired) event() {}
func (Follow) event()   {}
func (Yield) event()    {}

// Action is what a virtual router has to do: one of the types below. They are to be
// done in order.
type Action interface{ action() }

// The actions.
type (
	// Send an advertisement with this priority, the configured interval and addresses.
	Send struct{ Priority uint8 }
	// Enter: the state has changed. Entering Active: raise the addresses and
	// announce them; leaving it: lower them.
	Enter struct {
		From, To State
		Why      string // in words, for the log
	}
	// Announce the addresses again: somebody may have overwritten neighbours' caches.
	Announce struct{}
	// Note something odd for the log and the counters; Kind is a fixed word.
	Note struct{ Kind, Text string }
)

func (Send) action()     {}
func (Enter) action()    {}
func (Announce) action() {}
func (Note) action()     {}

// Step takes in one event at now, a time since any one origin on a clock that only
// rises, and returns what has to be done.
func (m *Machine) Step(e Event, now time.Duration) []Action { return nil }

// Due returns when the next Timer event is due; false if there is none.
func (m *Machine) Due() (time.Duration, bool) { return 0, false }

// State returns the state.
func (m *Machine) State() State { return Initialize }
