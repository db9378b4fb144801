// Package group holds the replicated state of one broker group: who is a member, whose
// log has everything that was acknowledged (the in-sync set), and who is master. It is
// PURE: a [Group] is a value, changed only by [Group.Apply] of a committed command, and
// each command is checked when it is applied, as it may come late, twice, or from a
// master that has been deposed. Which session stands behind a grant, and whether that
// session is open, is kept beside it (package fsm). brokerd/replica/DESIGN.md has the rules.
package group

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Mode is when a write is acknowledged.
type Mode string

// The modes of a group.
const (
	Sync  Mode = "sync"  // when the confirm offset has passed it
	Async Mode = "async" // when the master's own log has it
)

// Policy is who may become master.
type Policy string

// The promotion policies.
const (
	PolicyInSync  Policy = "in-sync" // members of the in-sync set
	PolicyUnclean Policy = "unclean" // any member if no member of the set can; loses what it lacks
	PolicyNever   Policy = "never"   // the last master alone
)

// Settings take effect with a grant, so that no master works under two.
type Settings struct {
	Mode      Mode   `json:"mode"`
	MinInSync int    `json:"min_in_sync"` // sync: nothing is confirmed while the set is smaller; 1 to the number of members
	Policy    Policy `json:"policy"`
	ReadLocal bool   `json:"read_local,omitzero"` // readers see unconfirmed records
}

// Check says whether settings can be worked under with so many members.
func (s Settings) Check(members int) error {
	switch {
	case s.Mode != Sync && s.Mode != Async:
		return fmt.Errorf("check mode %q: %w", s.Mode, ErrSettings)
	case s.Policy != PolicyInSync && s.Policy != PolicyUnclean && s.Policy != PolicyNever:
		return fmt.Errorf("check policy %q: %w", s.Policy, ErrSettings)
	case s.MinInSync < 1 || s.MinInSync > members:
		return fmt.Errorf("check min_in_sync %d of %d members: %w", s.MinInSync, members, ErrSettings)
	}
	return nil
}

// Member is a replica as the quorum knows it.
type Member struct {
	ID          string `json:"id"`       // the broker's name
	Priority    int    `json:"priority"` // the highest is preferred as master
	Incarnation uint64 `json:"incarnation"`
	Boot        uint64 `json:"boot,omitzero"`
}

// Group is the replicated state of a broker group. Incarnation of a member is the Raft
// index of the entry that made it a member or of its last return, whichever is later;
// Boot is of the process that returned, 0 before its first return.
type Group struct {
	Settings Settings `json:"settings"` // in force since the last grant
	Next     Settings `json:"next"`     // in force with the next grant
	Members  []Member `json:"members"`  // sorted by id
	InSync   []string `json:"in_sync"`  // sorted; ids of members
	Version  uint64   `json:"version"`  // Raft index of the last change that makes proposals about the set stale
	Master   string   `json:"master,omitzero"`
	Epoch    uint64   `json:"epoch,omitzero"`  // of the grant = its Raft index; 0 if there is none
	Last     string   `json:"last,omitzero"`   // the last master; "" before the first grant
	Wanted   string   `json:"wanted,omitzero"` // whom an operator wants as master next; cleared by the next grant
}

// Why a command is refused, as a normal result of its application.
var (
	ErrEpoch       = errors.New("not the current epoch")
	ErrVersion     = errors.New("not the current version of the in-sync set")
	ErrIncarnation = errors.New("not the current incarnation")
	ErrMember      = errors.New("no such member")
	ErrInSync      = errors.New("in-sync set does not allow it")
	ErrGranted     = errors.New("the grant has not ended")
	ErrPolicy      = errors.New("promotion policy does not allow it")
	ErrSettings    = errors.New("settings not valid")
)

// New returns the state of a group that the entry at an index creates. All its members
// are in the set, as nothing was acknowledged yet. Boot is of a process that is there
// already, 0 if none is: it owes no return.
func New(index uint64, members []Member, s Settings) (Group, error) {
	if err := s.Check(len(members)); err != nil {
		return Group{}, err
	}
	g := Group{Settings: s, Next: s, Version: index}
	for _, m := range members {
		if _, ok := g.Member(m.ID); ok || m.ID == "" {
			return Group{}, fmt.Errorf("add member %q: named twice or without a name: %w", m.ID, ErrMember)
		}
		g.Members = append(g.Members, Member{ID: m.ID, Priority: m.Priority, Incarnation: index, Boot: m.Boot})
		g.InSync = append(g.InSync, m.ID)
	}
	g.sort()
	return g, nil
}

// Apply returns the state after a command of the entry at an index. A refused command
// changes nothing. Several commands may share an index: an End and the Grant after it.
func (g Group) Apply(index uint64, c Command) (Group, error) {
	next := g
	next.Members, next.InSync = slices.Clone(g.Members), slices.Clone(g.InSync)
	if err := c.apply(&next, index); err != nil {
		return g, err
	}
	return next, nil
}

// Member returns a member by its id.
func (g Group) Member(id string) (Member, bool) {
	if i := g.member(id); i >= 0 {
		return g.Members[i], true
	}
	return Member{}, false
}

// Holds says whether a member is in the in-sync set.
func (g Group) Holds(id string) bool { return slices.Contains(g.InSync, id) }

// Recalled says whether the master is asked to release its grant: an operator wants
// another master, or new settings wait for a new grant.
func (g Group) Recalled() bool { return g.Epoch != 0 && g.Wanted != "" }

func (g *Group) member(id string) int {
	return slices.IndexFunc(g.Members, func(m Member) bool { return m.ID == id })
}

func (g *Group) sort() {
	slices.SortFunc(g.Members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	slices.Sort(g.InSync)
}

// leave takes a member out of the set. The version moves even if it was not in it: a
// Grow that is on its way can then never be applied, and its master need not wait for a
// member that may never be heard of again.
func (g *Group) leave(id string, index uint64) {
	g.InSync = slices.DeleteFunc(g.InSync, func(x string) bool { return x == id })
	g.Version = index
}
