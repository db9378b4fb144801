package fsm

import (
	"net/netip"
	"time"
)

// EntryVersion is the version that an [Entry] bears.
const EntryVersion = 1

// Entry is one command of the Raft log: ops that are applied in order, at one
// index. Each op is conditional on the state that it finds; a refused op
// changes nothing and does not stop the others, unless the entry is atomic.
type Entry struct {
	Version int    // EntryVersion
	At      int64  // the proposer's wall clock, Unix ns: shown, never decides
	Actor   string // who asked: "agent/a", "scheduler", an operator's name
	Atomic  bool   // one refusal undoes the whole entry
	Ops     []Op   // at least one; at most one OpenSession, as its session is named by the index
}

// Op is one conditional change of the state. Its implementations are the op
// structs of this package, passed by value.
type Op interface {
	// Kind is the op's name in its JSON form and in the audit ring.
	Kind() string
	apply(t *transition) (OpResult, *Refusal)
}

// OpenSession opens a session; its id is the index of the entry. Refused
// (invalid) for a bad host name, a TTL outside [MinTTL] to [MaxTTL], or a
// secret of zeros; and (conflict) for a broker whose name has an open session on
// another host: two processes would be one member.
type OpenSession struct {
	Host   string
	TTL    time.Duration
	Secret [32]byte // key of the renewal MACs
	Broker *Broker  // set: a brokerd opens it, not an agent
}

// CloseSession ends a session at the wish of its own agent, when everything is
// down: it frees its grants and retiring addresses.
type CloseSession struct {
	Session SessionID `json:"session"`
	Cause   string    `json:"cause,omitzero"`
}

// Expire ends a session that a majority of coordinators has fenced: it frees
// its grants and retiring addresses. Configuration is the configuration that
// the agreements name; the op is refused (stale) unless that is the latest one
// at this place of the log, and (not-found) unless the session is open.
type Expire struct {
	Session       SessionID `json:"session"`
	Configuration uint64    `json:"configuration"`
	Cause         string    `json:"cause,omitzero"`
}

// Rebind moves all that session Old has to session New of the same host and
// closes Old. Grants keep their epochs. Conditions that New has reported itself
// win over Old's. It is for agents: a broker gets its grants anew.
type Rebind struct {
	Old SessionID `json:"old"`
	New SessionID `json:"new"`
}

// Release gives a set back. Refused (stale) unless the grant's epoch and
// session are these.
type Release struct {
	Set     string    `json:"set"`
	Session SessionID `json:"session"`
	Epoch   Epoch     `json:"epoch"`
	Cause   string    `json:"cause,omitzero"`
}

// GrantSet gives a free set to an open session of one of its candidates; the
// epoch is the index of the entry. A set that an earlier op of the same entry
// has freed is free; a set is granted at most once per entry. Prefer is cleared
// unless it names the session's host.
type GrantSet struct {
	Set     string    `json:"set"`
	Session SessionID `json:"session"`
	Cause   string    `json:"cause,omitzero"`
}

// RecallSet asks the holder of the grant with this epoch to release it, in
// favour of candidate To ("" = whoever the scheduler takes). A second recall
// replaces the first.
type RecallSet struct {
	Set   string `json:"set"`
	Epoch Epoch  `json:"epoch"`
	To    string `json:"to,omitzero"`
	Cause string `json:"cause,omitzero"`
}

// ConfirmRemoval is the word of a retiring address' holder that it is down.
// Refused (not-found, stale) unless address, session and claim are those of a
// row.
type ConfirmRemoval struct {
	Session SessionID  `json:"session"`
	Address netip.Addr `json:"address"`
	Claim   uint64     `json:"claim"`
}

// SetCondition notes what the session's health checks say of a set; a neutral
// condition clears it. Conditions belong to the session: only its own reports
// change them, and they outlive the deletion of a set, so that the agent always
// knows what is noted.
type SetCondition struct {
	Session   SessionID `json:"session"`
	Set       string    `json:"set"`
	Condition Condition `json:"condition"`
}

// NoteStall is an agent's word, afterwards, that it did not run for a time: it was
// stopped or starved, or its whole host was. It changes nothing but the audit ring;
// no decision depends on it.
type NoteStall struct {
	Session SessionID     `json:"session"`
	Lasted  time.Duration `json:"lasted_ns"`       // at least [MinStall]
	Ago     time.Duration `json:"ago_ns,omitzero"` // from its end to the report
	More    int           `json:"more,omitzero"`   // shorter ones since the last report
}

// PutSet creates a set or replaces what an operator chose of it. Addresses that
// stay keep their claims; one that leaves a held set becomes [Retiring]; a new
// one must be free. Prefer, Revision and the claims of the argument are
// ignored; Paused counts only when the set is new. A put that changes nothing
// leaves no trace.
type PutSet struct {
	Set   Set    `json:"set"`
	Cause string `json:"cause,omitzero"`
}

// DeleteSet removes a set and its grant. The addresses of a held set become
// [Retiring].
type DeleteSet struct {
	Set   string `json:"set"`
	Cause string `json:"cause,omitzero"`
}

// PreferHost makes a candidate the preferred host of a set; "" forgets the
// preference.
type PreferHost struct {
	Set   string `json:"set"`
	Host  string `json:"host,omitzero"`
	Cause string `json:"cause,omitzero"`
}

// PauseSet pauses or resumes a set; Set "" means the whole scheduler.
type PauseSet struct {
	Set    string `json:"set,omitzero"`
	Paused bool   `json:"paused"`
	Cause  string `json:"cause,omitzero"`
}

// DrainHost drains a host, or takes it back. Refused (unknown-host) if the host
// is neither drained, nor a candidate, nor has a session.
type DrainHost struct {
	Host    string `json:"host"`
	Drained bool   `json:"drained"`
	Cause   string `json:"cause,omitzero"`
}

// RestoreSets replaces all sets, drained hosts and the pause by a saved copy's,
// by the rules of PutSet and DeleteSet, all or nothing. Unlike PutSet it also
// puts Paused and Prefer back. Sessions and grants are never restored: a copy
// cannot know who holds now. Nor are broker groups and topics: a copy's in-sync set
// would name logs that lack what was acknowledged since. See [State.Saved].
type RestoreSets struct {
	Sets    []Set
	Drained map[string]string // host -> cause
	Paused  bool
	Cause   string
}

// Kind implements [Op].
func (OpenSession) Kind() string { return "open" }

// Kind implements [Op].
func (CloseSession) Kind() string { return "close" }

// Kind implements [Op].
func (Expire) Kind() string { return "expire" }

// Kind implements [Op].
func (Rebind) Kind() string { return "rebind" }

// Kind implements [Op].
func (Release) Kind() string { return "release" }

// Kind implements [Op].
func (GrantSet) Kind() string { return "grant" }

// Kind implements [Op].
func (RecallSet) Kind() string { return "recall" }

// Kind implements [Op].
func (ConfirmRemoval) Kind() string { return "confirm" }

// Kind implements [Op].
func (SetCondition) Kind() string { return "condition" }

// Kind implements [Op].
func (NoteStall) Kind() string { return "stall" }

// Kind implements [Op].
func (PutSet) Kind() string { return "put" }

// Kind implements [Op].
func (DeleteSet) Kind() string { return "delete" }

// Kind implements [Op].
func (PreferHost) Kind() string { return "prefer" }

// Kind implements [Op].
func (PauseSet) Kind() string { return "pause" }

// Kind implements [Op].
func (DrainHost) Kind() string { return "drain" }

// Kind implements [Op].
func (RestoreSets) Kind() string { return "restore" }
