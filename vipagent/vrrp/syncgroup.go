package vrrp

import (
	"slices"
	"time"
)

// SyncGroup is a sync group: routers that change state together, as in Keepalived. It
// becomes Active when all its members might, Backup when one has to, and Fault while
// one of them is broken. It is for one goroutine at a time, which hands in the
// members' events by way of it alone.
type SyncGroup struct {
	members []*Machine
}

// Members is what the members of a group have to do, in order.
type Members []MemberAction

// MemberAction is an action of one member, by its place in [NewSyncGroup].
type MemberAction struct {
	Member int
	Action Action
}

// NewSyncGroup returns the group of machines that have [Config.Member].
func NewSyncGroup(members ...*Machine) *SyncGroup { return &SyncGroup{members: members} }

// Step takes in one event of one member. A [Yield] of one member is one of all.
func (g *SyncGroup) Step(member int, e Event, now time.Duration) Members {
	if _, ok := e.(Yield); ok {
		var out Members
		for i := range g.members {
			out = g.one(out, i, e, now)
		}
		return out
	}
	out := g.one(nil, member, e, now)
	switch e.(type) {
	case Broken, Repaired:
		out = g.settle(out, now)
	}
	for _, did := range slices.Clone(out) {
		if did.Member == member {
			out = g.follow(out, did, now)
		}
	}
	return out
}

// one hands an event in to one member.
func (g *SyncGroup) one(out Members, member int, e Event, now time.Duration) Members {
	for _, a := range g.members[member].Step(e, now) {
		out = append(out, MemberAction{member, a})
	}
	return out
}

// follow makes the others follow what a member does.
func (g *SyncGroup) follow(out Members, did MemberAction, now time.Duration) Members {
	switch a := did.Action.(type) {
	case Ready:
		return g.rise(out, did.Member, now)
	case Announce:
		// A router of lower priority has had the addresses of its whole group, but
		// says so of one member only before it yields with all.
		for i, m := range g.members {
			if i != did.Member && m.state == Active {
				out = append(out, MemberAction{i, Announce{}})
			}
		}
	case Enter:
		// A member that shuts down is not followed: each does so by itself.
		for i, m := range g.members {
			if a.From == Active && a.To == Backup && m.state == Active {
				out = g.one(out, i, Follow{Backup}, now)
			}
		}
	}
	return out
}

// rise makes the group Active if no member has a reason to wait. A group that is
// Active already takes the member in.
func (g *SyncGroup) rise(out Members, first int, now time.Duration) Members {
	all, active := true, false
	for _, m := range g.members {
		all = all && (m.ready || m.state == Active)
		active = active || m.state == Active
	}
	if !all && !active {
		return out
	}
	out = g.one(out, first, Follow{Active}, now)
	for i := range g.members {
		out = g.one(out, i, Follow{Active}, now)
	}
	return out
}

// settle tells each member whether another one is broken, which puts it to Fault or
// lets it out.
func (g *SyncGroup) settle(out Members, now time.Duration) Members {
	broken := 0
	for _, m := range g.members {
		if m.broken != "" {
			broken++
		}
	}
	for i, m := range g.members {
		others := broken
		if m.broken != "" {
			others--
		}
		switch {
		case others > 0:
			out = g.one(out, i, Follow{Fault}, now)
		case m.grouped:
			out = g.one(out, i, Follow{Backup}, now)
		}
	}
	return out
}
