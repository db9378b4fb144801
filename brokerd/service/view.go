package service

import (
	"cmp"
	"slices"
)

// View is the cluster as a broker knows it. It is whole, and it is not changed: a later one
// takes its place.
type View struct {
	Index   uint64   // rises with every change
	Groups  []Group  // by name
	Brokers []Broker // those that are alive, by name
	Topics  []Topic  // by name
}

// Group is a broker group.
type Group struct {
	Name    string
	Grant   Grant
	Members []string // brokers with a replica
}

// Grant is who was made a group's master last.
type Grant struct {
	Master string // the broker, "" if the grant has ended and there is no other
	Epoch  uint64 // of the last grant
}

// Broker is a live broker.
type Broker struct {
	Name    string
	Address string // host:port for clients
}

// Topic is a topic and how many queues it has in which broker groups.
type Topic struct {
	Name   string
	Queues []Queues // by group; none with 0
}

// Queues says that a topic has queues 0 to Count-1 in a broker group.
type Queues struct {
	Group string
	Count uint32
}

// Group finds a broker group.
func (v *View) Group(name string) (Group, bool) {
	return find(v.Groups, name, func(g Group) string { return g.Name })
}

// Broker finds a live broker.
func (v *View) Broker(name string) (Broker, bool) {
	return find(v.Brokers, name, func(b Broker) string { return b.Name })
}

// Topic finds a topic.
func (v *View) Topic(name string) (Topic, bool) {
	return find(v.Topics, name, func(t Topic) string { return t.Name })
}

func find[T any](in []T, name string, of func(T) string) (found T, ok bool) {
	at, ok := slices.BinarySearchFunc(in, name, func(x T, name string) int { return cmp.Compare(of(x), name) })
	if ok {
		found = in[at]
	}
	return found, ok
}

// In returns how many queues the topic has in a broker group.
func (t Topic) In(group string) uint32 {
	q, _ := find(t.Queues, group, func(q Queues) string { return q.Group })
	return q.Count
}

// Queue names a queue of a topic.
type Queue struct {
	Group string
	ID    uint32
}

// All returns the topic's queues in an order that changes only with the topic. Groups
// alternate: a consumer that asks one queue after the other soon has asked every group.
func (t Topic) All() []Queue {
	var most uint32
	for _, q := range t.Queues {
		most = max(most, q.Count)
	}
	var all []Queue
	for id := range most {
		for _, q := range t.Queues {
			if id < q.Count {
				all = append(all, Queue{q.Group, id})
			}
		}
	}
	return all
}

// Order returns the groups in which a message of the topic may be stored, in the order in
// which they are to be tried: all that have a master, beginning at the turn-th of them,
// those that the caller avoids at last.
func (v *View) Order(t Topic, turn uint64, avoid func(Group) bool) []Group {
	var able, avoided []Group
	for _, q := range t.Queues {
		g, ok := v.Group(q.Group)
		switch {
		case !ok || g.Grant.Master == "":
		case avoid(g):
			avoided = append(avoided, g)
		default:
			able = append(able, g)
		}
	}
	if n := uint64(len(able)); n > 0 {
		at := turn % n
		able = slices.Concat(able[at:], able[:at])
	}
	return append(able, avoided...)
}
