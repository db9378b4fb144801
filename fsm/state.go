// Package fsm is the replicated state of Holdfast: who may act. It is pure: a
// State changes only by [State.Apply] of a committed Raft entry, and holds no
// clock. Until when a holder may act is the other half, coordinator/lease.
package fsm

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// SessionID names one session for ever: the Raft index of the entry that
// opened it.
type SessionID uint64

// Epoch numbers the grants of a resource: the Raft index of the granting
// entry, so it is unique and only rises.
type Epoch uint64

// Session is one agent process lineage on a host (a restarted agent adopts its
// own session), or one process of a broker, which adopts none. Opening it gives no
// lease: only answered renewals do.
type Session struct {
	ID     SessionID
	Host   string
	TTL    time.Duration
	Secret [32]byte // key of the renewal MACs; made by the agent
	// Conditions holds what the host's health checks say, by set name;
	// neutral ones are absent.
	Conditions map[string]Condition
	// Routers holds what the host says of the virtual routers that it may take part
	// in, by set name.
	Routers map[string]Router
	Broker  *Broker // set: the session is of a brokerd, and its host is no candidate by it
}

// Condition is what a host's health checks say of one set.
type Condition struct {
	Weight int    `json:"weight,omitzero"` // added to the host's priority, -254..254
	Veto   bool   `json:"veto,omitzero"`   // the host must not hold the set
	Reason string `json:"reason,omitzero"`
}

// Neutral reports whether the condition changes nothing: no weight, no veto.
func (c Condition) Neutral() bool { return c.Weight == 0 && !c.Veto }

// Address is one virtual IP address of a set.
type Address struct {
	Prefix    netip.Prefix `json:"prefix"`             // the address with its prefix length; host bits kept
	Interface string       `json:"interface,omitzero"` // "" = the interface whose subnet holds it
	Claim     uint64       `json:"claim,omitzero"`     // Raft index of the entry that gave it to its set
}

// Addr is the address without its prefix length: its identity. An Addr is in
// at most one set, whatever the prefix length.
func (a Address) Addr() netip.Addr { return a.Prefix.Addr() }

// Candidate is a host that may hold a set; the highest priority wins.
type Candidate struct {
	Host     string `json:"host"`
	Priority int    `json:"priority"` // 1..254
}

// Set is a named group of virtual IP addresses that are held together.
type Set struct {
	Name         string        `json:"name"`
	Addresses    []Address     `json:"addresses,omitzero"`  // sorted by address
	Candidates   []Candidate   `json:"candidates,omitzero"` // sorted by priority, highest first, then host
	Preempt      bool          `json:"preempt,omitzero"`
	PreemptDelay time.Duration `json:"preempt_delay_ns,omitzero"`
	SyncGroup    string        `json:"sync_group,omitzero"`    // sets of one group stay on one host
	Spread       string        `json:"spread,omitzero"`        // sets of one label prefer different hosts
	AntiAffinity string        `json:"anti_affinity,omitzero"` // sets of one label never share a host
	Paused       bool          `json:"paused,omitzero"`        // the scheduler leaves it as it is
	Prefer       string        `json:"prefer,omitzero"`        // host to which an operator moved it, "" = none
	VRRP         *VRRP         `json:"vrrp,omitzero"`          // shared with routers outside of the quorum; nil = not
	Revision     uint64        `json:"revision,omitzero"`      // Raft index of the last change
}

// Candidate returns the set's candidate entry for a host.
func (s *Set) Candidate(host string) (Candidate, bool) {
	for _, c := range s.Candidates {
		if c.Host == host {
			return c, true
		}
	}
	return Candidate{}, false
}

// Recall asks the holder of a grant to release it.
type Recall struct {
	To    string `json:"to,omitzero"` // host meant to be next, "" = whoever the scheduler takes
	Cause string `json:"cause,omitzero"`
}

// Grant names the only session that may hold a set.
type Grant struct {
	Set     string    `json:"set"`
	Session SessionID `json:"session"`
	Host    string    `json:"host"`
	Epoch   Epoch     `json:"epoch"`
	Recall  *Recall   `json:"recall,omitzero"` // nil = nobody has asked for it back
}

// Retiring is an address that left its set (or whose set was deleted) while it
// was held. No set may have it until that holder has confirmed its removal or
// its session has ended (invariant 4).
type Retiring struct {
	Address netip.Addr `json:"address"`
	Claim   uint64     `json:"claim"` // the claim under which its set had it
	Session SessionID  `json:"session"`
	Host    string     `json:"host"`
	Set     string     `json:"set"` // the set that it left
}

// Settings hold for the whole cluster.
type Settings struct {
	Paused bool `json:"paused,omitzero"` // the scheduler changes nothing anywhere
}

// Change is one row of the audit ring. Fields that do not apply are zero.
type Change struct {
	Index   uint64    `json:"index"`
	At      int64     `json:"at"` // the proposer's wall clock, Unix ns: shown, never decides
	Actor   string    `json:"actor,omitzero"`
	Kind    string    `json:"kind"` // the op that caused it, as in its JSON form: "grant", "expire", ...
	Set     string    `json:"set,omitzero"`
	Group   string    `json:"group,omitzero"` // of brokers
	Topic   string    `json:"topic,omitzero"`
	Host    string    `json:"host,omitzero"`
	Broker  string    `json:"broker,omitzero"`
	Session SessionID `json:"session,omitzero"`
	Epoch   Epoch     `json:"epoch,omitzero"`
	Cause   string    `json:"cause,omitzero"`
}

// AuditRing is how many changes the audit ring keeps.
const AuditRing = 1000

// State is the replicated state. The zero value is not ready: use [New].
// It is not safe for concurrent use; the owner guards it.
//
// The values behind its pointers, and the slices and maps in them, are never
// changed once they are in a map: a change puts a new value in the old one's
// place. That is what makes [State.Clone] cheap and what readers rely on.
type State struct {
	applied       uint64
	configuration uint64
	sessions      map[SessionID]*Session
	hosts         map[string][]SessionID // open sessions of a host's agents, rising; an index of sessions
	sets          map[string]*Set
	grants        map[string]*Grant // by set
	retiring      map[netip.Addr]*Retiring
	drained       map[string]string // host -> cause
	groups        map[string]*Group
	topics        map[string]*Topic
	settings      Settings
	audit         []Change // oldest first, at most AuditRing; written only behind its end
}

// New returns the empty state, before the first entry of the log.
func New() *State {
	return &State{
		sessions: make(map[SessionID]*Session),
		hosts:    make(map[string][]SessionID),
		sets:     make(map[string]*Set),
		grants:   make(map[string]*Grant),
		retiring: make(map[netip.Addr]*Retiring),
		drained:  make(map[string]string),
		groups:   make(map[string]*Group),
		topics:   make(map[string]*Topic),
	}
}

// Clone returns an independent copy: whatever is applied to one of the two does
// not show in the other. It shares the values that never change, so it costs a
// copy of the maps. Use it to compute what an entry would do.
func (s *State) Clone() *State {
	c := *s
	c.sessions = maps.Clone(s.sessions)
	c.hosts = maps.Clone(s.hosts)
	c.sets = maps.Clone(s.sets)
	c.grants = maps.Clone(s.grants)
	c.retiring = maps.Clone(s.retiring)
	c.drained = maps.Clone(s.drained)
	c.groups = maps.Clone(s.groups)
	c.topics = maps.Clone(s.topics)
	// The original goes on writing behind the common rows; the copy has to
	// move away before its first write.
	c.audit = slices.Clip(s.audit)
	return &c
}

// SetConfiguration notes that the Raft configuration entry at index was
// applied. A caller that takes its configuration from elsewhere (a snapshot's
// header, a recovered cluster) calls it with that index, which may be lower
// than Applied.
func (s *State) SetConfiguration(index uint64) {
	s.configuration = index
	s.applied = max(s.applied, index)
}
