package fsm

import "holdfast/fsm/group"

// The ops of broker groups and topics. What a group's record allows is said by package
// group; here is who may ask, and that the session behind a grant is open.

// PutGroup creates a group, all of whose members are in the in-sync set, as nothing was
// acknowledged yet; or it changes members, their priorities, and the settings of the
// next grant. A member that is added later is not in the set. The master cannot be
// removed (held), nor can the last member of the set (conflict), nor more members than
// min_in_sync leaves, of the settings in force too (invalid). A put that changes nothing
// leaves no trace.
type PutGroup struct {
	Group    string         `json:"group"`
	Members  []GroupMember  `json:"members"`
	Settings group.Settings `json:"settings"`
	Cause    string         `json:"cause,omitzero"`
}

// DeleteGroup removes a group. One that has a master is gone when the master has released
// it or its session has ended, and gets no other until then: so a new group of this name
// never has two.
type DeleteGroup struct {
	Group string `json:"group"`
	Cause string `json:"cause,omitzero"`
}

// ConfigureGroup sets what holds from the next grant on. A master is asked to release,
// and wanted next itself.
type ConfigureGroup struct {
	Group    string         `json:"group"`
	Settings group.Settings `json:"settings"`
	Cause    string         `json:"cause,omitzero"`
}

// GrantGroup makes the broker of an open session master; the epoch is the index of the
// entry. A group that an earlier op of the same entry has freed is free; it is granted at
// most once per entry. Unclean without Operator is refused (conflict) while a member of
// the in-sync set has an open session. The last master, and brokers whose session the same
// entry has ended, leave the set if they have no open session.
type GrantGroup struct {
	Group    string    `json:"group"`
	Session  SessionID `json:"session"`
	Unclean  bool      `json:"unclean,omitzero"`  // the member may be outside of the in-sync set
	Operator bool      `json:"operator,omitzero"` // against the group's policy
	Cause    string    `json:"cause,omitzero"`
}

// ReleaseGroup ends a grant by its master's own word: Session is the grant's, or a later
// one of the same broker, which its data directory's lock tells that the process before
// is dead.
type ReleaseGroup struct {
	Group   string    `json:"group"`
	Session SessionID `json:"session"`
	Epoch   Epoch     `json:"epoch"`
	Cause   string    `json:"cause,omitzero"`
}

// RecallGroup asks the master of this epoch to release, in favour of To, a member of the
// in-sync set.
type RecallGroup struct {
	Group string `json:"group"`
	Epoch Epoch  `json:"epoch"`
	To    string `json:"to"`
	Cause string `json:"cause,omitzero"`
}

// GrowInSync adds a member to the in-sync set. Session is that of the grant.
type GrowInSync struct {
	Group   string    `json:"group"`
	Session SessionID `json:"session"`
	group.Grow
}

// ShrinkInSync removes a member from the in-sync set. Session is that of the grant.
type ShrinkInSync struct {
	Group   string    `json:"group"`
	Session SessionID `json:"session"`
	group.Shrink
}

// ReturnReplica says that the broker of Session is back with less of the group's log than
// it had acknowledged. It takes the broker out of the in-sync set and ends its grant.
type ReturnReplica struct {
	Group       string    `json:"group"`
	Session     SessionID `json:"session"`
	Incarnation uint64    `json:"incarnation"` // the one known until then
	Boot        uint64    `json:"boot"`        // of the process, not 0
	Cause       string    `json:"cause,omitzero"`
}

// PutTopic creates a topic, or gives it more queues. Fewer are refused (conflict): their
// messages could not be read any more.
type PutTopic struct {
	Topic  string `json:"topic"`
	Queues int    `json:"queues"`          // of each group
	Ensure bool   `json:"ensure,omitzero"` // a topic that exists stays as it is
	Cause  string `json:"cause,omitzero"`
}

// DeleteTopic removes a topic.
type DeleteTopic struct {
	Topic string `json:"topic"`
	Cause string `json:"cause,omitzero"`
}

// Kind implements [Op].
func (PutGroup) Kind() string { return "put-group" }

// Kind implements [Op].
func (DeleteGroup) Kind() string { return "delete-group" }

// Kind implements [Op].
func (ConfigureGroup) Kind() string { return "configure" }

// Kind implements [Op].
func (GrantGroup) Kind() string { return "grant-group" }

// Kind implements [Op].
func (ReleaseGroup) Kind() string { return "release-group" }

// Kind implements [Op].
func (RecallGroup) Kind() string { return "recall-group" }

// Kind implements [Op].
func (GrowInSync) Kind() string { return "grow" }

// Kind implements [Op].
func (ShrinkInSync) Kind() string { return "shrink" }

// Kind implements [Op].
func (ReturnReplica) Kind() string { return "return" }

// Kind implements [Op].
func (PutTopic) Kind() string { return "put-topic" }

// Kind implements [Op].
func (DeleteTopic) Kind() string { return "delete-topic" }
