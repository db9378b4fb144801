package fsm

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// The read side. What it returns is shared with the state and must not be
// changed; it stays as it is when the state moves on. Slices come in a fixed
// order, so that whoever computes from them does not depend on map order.

// Applied is the index of the last entry that was applied, 0 = none.
func (s *State) Applied() uint64 { return s.applied }

// Configuration is the index of the latest Raft configuration entry that was
// applied, 0 = none.
func (s *State) Configuration() uint64 { return s.configuration }

// Settings are the cluster-wide settings.
func (s *State) Settings() Settings { return s.settings }

// Session returns an open session.
func (s *State) Session(id SessionID) (*Session, bool) {
	session, ok := s.sessions[id]
	return session, ok
}

// Sessions returns the open sessions by id.
func (s *State) Sessions() []*Session {
	return sorted(s.sessions, func(a, b *Session) int { return cmp.Compare(a.ID, b.ID) })
}

// SessionsOf returns the open sessions of a host's agents by id; the last one is the
// newest.
func (s *State) SessionsOf(host string) []*Session {
	ids := s.hosts[host]
	out := make([]*Session, len(ids))
	for i, id := range ids {
		out[i] = s.sessions[id]
	}
	return out
}

// Brokers returns the open sessions of brokers by id; the last one of a name is its newest.
func (s *State) Brokers() []*Session {
	var out []*Session
	for _, session := range s.sessions {
		if session.Broker != nil {
			out = append(out, session)
		}
	}
	slices.SortFunc(out, func(a, b *Session) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Group returns a broker group by name.
func (s *State) Group(name string) (*Group, bool) {
	g, ok := s.groups[name]
	return g, ok
}

// Groups returns all broker groups by name.
func (s *State) Groups() []*Group {
	return sorted(s.groups, func(a, b *Group) int { return strings.Compare(a.Name, b.Name) })
}

// Topic returns a topic by name.
func (s *State) Topic(name string) (*Topic, bool) {
	topic, ok := s.topics[name]
	return topic, ok
}

// Topics returns all topics by name.
func (s *State) Topics() []*Topic {
	return sorted(s.topics, func(a, b *Topic) int { return strings.Compare(a.Name, b.Name) })
}

// Set returns a set by name.
func (s *State) Set(name string) (*Set, bool) {
	set, ok := s.sets[name]
	return set, ok
}

// Sets returns all sets by name.
func (s *State) Sets() []*Set {
	return sorted(s.sets, func(a, b *Set) int { return strings.Compare(a.Name, b.Name) })
}

// Grant returns the grant of a set; none means that the set is free.
func (s *State) Grant(set string) (*Grant, bool) {
	grant, ok := s.grants[set]
	return grant, ok
}

// Grants returns all grants by set.
func (s *State) Grants() []*Grant {
	return sorted(s.grants, func(a, b *Grant) int { return strings.Compare(a.Set, b.Set) })
}

// GrantsOf returns the grants of a session by set.
func (s *State) GrantsOf(id SessionID) []*Grant {
	var out []*Grant
	for _, grant := range s.grants {
		if grant.Session == id {
			out = append(out, grant)
		}
	}
	slices.SortFunc(out, func(a, b *Grant) int { return strings.Compare(a.Set, b.Set) })
	return out
}

// Retiring returns the retiring addresses by address.
func (s *State) Retiring() []*Retiring {
	return sorted(s.retiring, func(a, b *Retiring) int { return a.Address.Compare(b.Address) })
}

// RetiringAddress returns the row of one retiring address.
func (s *State) RetiringAddress(address netip.Addr) (*Retiring, bool) {
	row, ok := s.retiring[address]
	return row, ok
}

// Drained tells whether a host is drained, and why.
func (s *State) Drained(host string) (cause string, ok bool) {
	cause, ok = s.drained[host]
	return cause, ok
}

// DrainedHosts returns the drained hosts by name.
func (s *State) DrainedHosts() []string {
	return slices.Sorted(maps.Keys(s.drained))
}

// sorted returns a map's values in the order that compare gives.
func sorted[K comparable, V any](m map[K]V, compare func(a, b V) int) []V {
	out := make([]V, 0, len(m))
	for _, v := range m {
		out = append(out, v)
	}
	slices.SortFunc(out, compare)
	return out
}
