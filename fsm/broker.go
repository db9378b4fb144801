package fsm

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"holdfast/fsm/group"
)

// Broker is what a session says of the brokerd that opened it. Such a session holds
// grants of broker groups and never VIP sets: its host is no candidate by it.
type Broker struct {
	Name        string `json:"name"`        // its name as a member of groups
	Client      string `json:"client"`      // host:port where RocketMQ clients reach it
	Replication string `json:"replication"` // host:port where other brokers reach it
}

// Group is a broker group: its record, whose rules are those of package group, and what
// a record does not know: the session behind its grant.
type Group struct {
	Name     string      `json:"name"`
	Created  uint64      `json:"created"` // Raft index of its first entry; another group of the same name has another
	Record   group.Group `json:"record"`
	Session  SessionID   `json:"session,omitzero"`  // of the grant; 0 if there is none
	Deleting bool        `json:"deleting,omitzero"` // it is gone as soon as its master has released it
}

// Topic is a topic of all broker groups.
type Topic struct {
	Name     string `json:"name"`
	Queues   int    `json:"queues"` // of each group; their numbers begin at 0
	Revision uint64 `json:"revision"`
}

// GroupMember is what an operator says of a member.
type GroupMember struct {
	ID       string `json:"id"`       // a broker's name
	Priority int    `json:"priority"` // the highest is preferred as master; 0 to [MaxPriority]
}

// Limits of broker groups and topics.
const (
	MaxGroups  = 256
	MaxMembers = 16 // of one group
	MaxTopics  = 10_000
	MaxQueues  = 1024 // of one topic in one group
)

const (
	topicRule    = "1 to 127 of A-Z a-z 0-9 _ - %"
	endpointRule = "a name or an address, a colon and a port"
)

// validate checks what a broker says of itself.
func (b Broker) validate() error {
	if !validLabel(b.Name, false) {
		return &FieldError{"broker.name", fmt.Sprintf("%q is no broker name: %s", b.Name, hostRule)}
	}
	for _, e := range []struct{ field, value string }{{"broker.client", b.Client}, {"broker.replication", b.Replication}} {
		if !validEndpoint(e.value) {
			return &FieldError{e.field, fmt.Sprintf("%q is not where somebody can be reached: %s", e.value, endpointRule)}
		}
	}
	return nil
}

// validate checks all that can be said of a PutGroup without the rest of the state.
// What the record's own rules say is left to them.
func (op PutGroup) validate() error {
	if !validLabel(op.Group, false) {
		return &FieldError{"group", fmt.Sprintf("%q is no group name: %s", op.Group, hostRule)}
	}
	if n := len(op.Members); n < 1 || n > MaxMembers {
		return &FieldError{"members", fmt.Sprintf("%d members, a group has 1 to %d", n, MaxMembers)}
	}
	seen := make(map[string]int, len(op.Members))
	for i, m := range op.Members {
		field := fmt.Sprintf("members[%d]", i)
		if !validLabel(m.ID, false) {
			return &FieldError{field + ".id", fmt.Sprintf("%q is no broker name: %s", m.ID, hostRule)}
		}
		if first, ok := seen[m.ID]; ok {
			return &FieldError{field + ".id", fmt.Sprintf("%s is also members[%d]", m.ID, first)}
		}
		seen[m.ID] = i
		if m.Priority < 0 || m.Priority > MaxPriority {
			return &FieldError{field + ".priority", fmt.Sprintf("%d is not within 0 to %d", m.Priority, MaxPriority)}
		}
	}
	return validateSettings(op.Settings, len(op.Members))
}

// validateSettings says by field what group.Settings.Check says in one word.
func validateSettings(s group.Settings, members int) error {
	switch {
	case s.Mode != group.Sync && s.Mode != group.Async:
		return &FieldError{"settings.mode", fmt.Sprintf("%q is none of %s, %s", s.Mode, group.Sync, group.Async)}
	case s.Policy != group.PolicyInSync && s.Policy != group.PolicyUnclean && s.Policy != group.PolicyNever:
		return &FieldError{"settings.policy", fmt.Sprintf("%q is none of %s, %s, %s", s.Policy, group.PolicyInSync, group.PolicyUnclean, group.PolicyNever)}
	case s.MinInSync < 1 || s.MinInSync > members:
		return &FieldError{"settings.min_in_sync", fmt.Sprintf("%d is not within 1 to %d, the number of members", s.MinInSync, members)}
	}
	if err := s.Check(members); err != nil {
		return &FieldError{"settings", err.Error()}
	}
	return nil
}

// validate checks a PutTopic.
func (op PutTopic) validate() error {
	if !validTopic(op.Topic) {
		return &FieldError{"topic", fmt.Sprintf("%q is no topic name: %s", op.Topic, topicRule)}
	}
	if op.Queues < 1 || op.Queues > MaxQueues {
		return &FieldError{"queues", fmt.Sprintf("%d is not within 1 to %d", op.Queues, MaxQueues)}
	}
	return nil
}

// validTopic checks a topic's name as RocketMQ's clients do, but for the sign that
// parts names in their own protocol.
func validTopic(name string) bool {
	if len(name) < 1 || len(name) > 127 {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-', c == '%':
		default:
			return false
		}
	}
	return true
}

// validEndpoint checks an address that others can dial: host:port, [address]:port.
func validEndpoint(text string) bool {
	colon := strings.LastIndexByte(text, ':')
	if colon < 1 || len(text) > 260 {
		return false
	}
	if port, err := strconv.ParseUint(text[colon+1:], 10, 16); err != nil || port == 0 {
		return false
	}
	host := text[:colon]
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, closed := strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		return closed && err == nil && addr.Is6() && !addr.IsUnspecified()
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Is4() && !addr.IsUnspecified()
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		if !validLabel(label, false) {
			return false
		}
	}
	return true
}
