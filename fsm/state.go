// Package fsm is the replicated state of Holdfast: who may act. It is pure: a
// State changes only by [State.Apply] of a committed Raft entry, and holds no
// clock. Until when a holder may act is the other half, coordinator/lease.
package fsm

import (
	"net/netip"
	"time"
)

// SessionID names one session for ever: the Raft index of the entry that
// opened it.
type SessionID uint64

// Epoch numbers the grants of a resource: the Raft index of the granting
// entry, so it is unique and only rises.
type Epoch uint64

// Session is one agent process lineage on a host (a restarted agent adopts its
// own session). Opening it gives no lease: only answered renewals do.
type Session struct {
	ID     SessionID
	Host   string
	TTL    time.Duration
	Secret [32]byte // key of the renewal MACs; made by the agent
	// Conditions holds what the host's health checks say, by set name;
	// neutral ones are absent.
	Conditions map[string]Condition
}

// Condition is what a host's health checks say of one set.
type Condition struct {
	Weight int  // added to the host's priority
	Veto   bool // the host must not hold the set
	Reason string
}

// Address is one virtual IP address of a set.
type Address struct {
	Prefix    netip.Prefix // the address with its prefix length; host bits kept
	Interface string       // "" = the interface whose subnet holds it
	Claim     uint64       // Raft index of the entry that gave it to its set
}

// Candidate is a host that may hold a set; the highest priority wins.
type Candidate struct {
	Host     string
	Priority int
}

// Set is a named group of virtual IP addresses that are held together.
type Set struct {
	Name         string
	Addresses    []Address   // sorted by address
	Candidates   []Candidate // sorted by priority, highest first, then host
	Preempt      bool
	PreemptDelay time.Duration
	SyncGroup    string // sets of one group stay on one host
	Spread       string // sets of one label prefer different hosts
	AntiAffinity string // sets of one label never share a host
	Paused       bool   // the scheduler leaves it as it is
	Prefer       string // host to which an operator moved it, "" = none
	Revision     uint64 // Raft index of the last change
}

// Recall asks the holder of a grant to release it.
type Recall struct {
	To    string // host meant to be next, "" = whoever the scheduler takes
	Cause string
}

// Grant names the only session that may hold a set.
type Grant struct {
	Set     string
	Session SessionID
	Host    string
	Epoch   Epoch
	Recall  *Recall
}

// Retiring is an address that left its set (or whose set was deleted) while it
// was held. No set may have it until that holder has confirmed its removal or
// its session has ended (invariant 4).
type Retiring struct {
	Address netip.Addr
	Claim   uint64
	Session SessionID
	Host    string
	Set     string // the set that it left
}

// Settings hold for the whole cluster.
type Settings struct {
	Paused bool // the scheduler changes nothing anywhere
}

// Change is one row of the audit ring.
type Change struct {
	Index   uint64
	At      int64 // the proposer's wall clock, Unix ns: shown, never decides
	Actor   string
	Kind    string // the op that caused it, as in its JSON form: "grant", "expire", ...
	Set     string
	Host    string
	Session SessionID
	Epoch   Epoch
	Cause   string
}

// AuditRing is how many changes the audit ring keeps.
const AuditRing = 1000

// State is the replicated state. The zero value is not ready: use [New].
// It is not safe for concurrent use; the owner guards it.
type State struct {
	applied       uint64
	configuration uint64
	sessions      map[SessionID]*Session
	sets          map[string]*Set
	grants        map[string]*Grant // by set
	retiring      map[netip.Addr]*Retiring
	drained       map[string]string // host -> cause
	settings      Settings
	audit         []Change // oldest first, at most AuditRing
}
