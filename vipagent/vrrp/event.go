package vrrp

import (
	"net/netip"
	"time"
)

// Event is what happens to a virtual router: one of the types below.
type Event interface{ event() }

// The events.
type (
	// Startup begins, Shutdown ends: an Active router sends priority 0.
	Startup  struct{}
	Shutdown struct{}
	// Timer: what Due said has come. Early or late ones do no harm. Whoever was held
	// up hands in what was received meanwhile first: a Backup that is late would
	// else take over from a router that it has not listened to.
	Timer struct{}
	// Received is an advertisement of another router, already checked by
	// [Config.Accept].
	Received struct {
		Advertisement Advertisement
		Source        netip.Addr // of the IP header
		Form          Checksum   // of its checksum; 0 = not known
	}
	// Primary is the source address of own advertisements, which breaks ties.
	// It comes before Startup and whenever it changes.
	Primary struct{ Address netip.Addr }
	// Priority is a new effective priority, by weights of checks. What is outside 1 to
	// 254 is brought there; a router that owns the addresses keeps 255.
	Priority struct{ Value uint8 }
	// Broken and Repaired: something that the router depends on. There is one level:
	// who depends on several things says Repaired when the last one is.
	Broken   struct{ Reason string }
	Repaired struct{}
	// Follow: the sync group goes there. Backup and Fault are obeyed at once; Active
	// makes a Backup take over at once. To follow into Fault is not to be broken:
	// following to Backup ends it.
	Follow struct{ State State }
	// Yield: an Active router sends priority 0 and becomes Backup, for a planned
	// change to a peer. One that preempts would take over again from a peer of lower
	// priority: a lower Priority comes first.
	Yield struct{}
	// Reconfigure: the configuration was loaded again. An Active router stays so and
	// advertises it at once. Version, VRID and family are the router's identity and
	// the same as before.
	Reconfigure struct{ Config Config }
)

func (Startup) event()     {}
func (Shutdown) event()    {}
func (Timer) event()       {}
func (Received) event()    {}
func (Primary) event()     {}
func (Priority) event()    {}
func (Broken) event()      {}
func (Repaired) event()    {}
func (Follow) event()      {}
func (Yield) event()       {}
func (Reconfigure) event() {}

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
	// Ready: a Backup that is member of a sync group would become Active now.
	Ready struct{}
	// Note something odd for the log and the counters.
	Note struct {
		Kind Kind
		Text string
	}
)

func (Send) action()     {}
func (Enter) action()    {}
func (Announce) action() {}
func (Ready) action()    {}
func (Note) action()     {}

// Kind is a fixed word for what a [Note] is about.
type Kind string

// The kinds. Notes come with each event, so that they can be counted; who logs them
// limits the rate.
const (
	NoteAddresses    Kind = "addr_list_err"     // the advertised addresses are not the configured ones; Keepalived's counter
	NoteOwnerIgnores Kind = "owner_ignores"     // the owner does not listen
	NoteInterval     Kind = "interval_learned"  // version 3: another router's interval counts from now on
	NoteChecksum     Kind = "checksum_form"     // another router's checksum has a form that is not sent
	NoteActive       Kind = "active_router"     // another router is Active
	NoteStop         Kind = "priority_0"        // the Active router has given up
	NoteDiscarded    Kind = "lower_priority"    // a Backup discards an advertisement of lower priority
	NoteElection     Kind = "forced_election"   // an Active router hears lower priority (Keepalived's notify_master_rx_lower_pri)
	NotePreemptDelay Kind = "preempt_delay"     // it begins or ends
	NoteOwnAddress   Kind = "own_address"       // somebody advertises from our address with our priority
	NoteTwoOwners    Kind = "two_owners"        // somebody else has priority 255 too
	NoteLate         Kind = "late_timer"        // the process stood still
	NotePriority     Kind = "priority_restored" // the other owner has gone
)

// since is short for the text of a duration, without digits that nobody reads.
func since(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
