package replica

import (
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
	Mode      Mode
	MinInSync int
	Policy    Policy
	ReadLocal bool // readers see unconfirmed records
}

// Check says whether settings can be worked under.
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
	ID          string
	Priority    int
	Incarnation uint64 // Raft index of its last return; 0: never returned
	Boot        uint64 // which process's return that was
}

// Group is a group's replicated state. It is a value: Apply returns a changed copy.
type Group struct {
	Index    uint64 // Raft index up to which this is the state
	Settings        // in force since the last grant
	Next     Settings
	Members  []Member
	InSync   []string
	Version  uint64 // Raft index of the last change of InSync
	Master   string // "" if there is no grant
	Epoch    uint64 // of the grant = its Raft index; 0 if there is none
	Last     string // the last master
}

// Why a command is refused, as a normal result of its application.
var (
	ErrEpoch       = errors.New("not the current epoch")
	ErrVersion     = errors.New("not the current version of the in-sync set")
	ErrIncarnation = errors.New("not the current incarnation")
	ErrMember      = errors.New("no such member")
	ErrInSync      = errors.New("in-sync set does not allow it")
	ErrGranted     = errors.New("the grant before has not ended")
	ErrPolicy      = errors.New("promotion policy does not allow it")
	ErrSettings    = errors.New("settings not valid")
)

// Command is an entry about a group.
type Command interface {
	apply(g *Group, index uint64) error
}

// The commands. Each is checked when it is applied, as it may come late or twice.
type (
	// Grow is the master's: it adds a member to the in-sync set.
	Grow struct {
		Epoch, Version uint64
		Member         string
		Incarnation    uint64
	}
	// Shrink is the master's: it removes a member from the in-sync set.
	Shrink struct {
		Epoch, Version uint64
		Member         string
	}
	// Grant is the leader's: the member becomes master, with the entry's index as epoch.
	// The leader chooses a live member whose session is open.
	Grant struct {
		Member string
		// Unclean asks for a member that may be outside the set. Operator does it against
		// the policy.
		Unclean, Operator bool
	}
	// End ends a grant: its holder has released it, or its session is fenced (lease.md).
	End struct{ Epoch uint64 }
	// Return says that a member is back with less than it had acknowledged. Incarnation is
	// the one known until then: a late or repeated return of a former process must not end
	// what a later one was given. Boot lets the process know its own return again.
	Return struct {
		Member            string
		Incarnation, Boot uint64
	}
	// Configure takes effect with the next grant.
	Configure struct{ Settings Settings }
)

// Apply returns the state after an entry. A refused command changes the index alone.
func (g Group) Apply(index uint64, c Command) (Group, error) {
	next := g
	next.Members, next.InSync = slices.Clone(g.Members), slices.Clone(g.InSync)
	if err := c.apply(&next, index); err != nil {
		g.Index = index
		return g, err
	}
	next.Index = index
	return next, nil
}

// Member returns a member by its id.
func (g Group) Member(id string) (Member, bool) {
	i := slices.IndexFunc(g.Members, func(m Member) bool { return m.ID == id })
	if i < 0 {
		return Member{}, false
	}
	return g.Members[i], true
}

// Holds says whether a member is in the in-sync set.
func (g Group) Holds(id string) bool { return slices.Contains(g.InSync, id) }

func (c Grow) apply(g *Group, index uint64) error {
	m, ok := g.Member(c.Member)
	switch {
	case !ok:
		return ErrMember
	case g.Epoch == 0 || c.Epoch != g.Epoch:
		return ErrEpoch
	case c.Version != g.Version:
		return ErrVersion
	case c.Incarnation != m.Incarnation:
		return ErrIncarnation
	case g.Holds(c.Member):
		return ErrInSync
	}
	g.InSync = append(g.InSync, c.Member)
	slices.Sort(g.InSync)
	g.Version = index
	return nil
}

func (c Shrink) apply(g *Group, index uint64) error {
	switch {
	case g.Epoch == 0 || c.Epoch != g.Epoch:
		return ErrEpoch
	case c.Version != g.Version:
		return ErrVersion
	case !g.Holds(c.Member) || c.Member == g.Master:
		return ErrInSync
	}
	g.remove(c.Member, index)
	return nil
}

func (c Grant) apply(g *Group, index uint64) error {
	_, ok := g.Member(c.Member)
	switch {
	case !ok:
		return ErrMember
	case g.Epoch != 0:
		return ErrGranted
	case g.Policy == PolicyNever && !c.Operator && g.Last != "" && c.Member != g.Last:
		return ErrPolicy
	case !g.Holds(c.Member) && !c.Unclean:
		return ErrInSync
	case c.Unclean && !c.Operator && g.Policy != PolicyUnclean:
		return ErrPolicy
	}
	if c.Unclean {
		// Members of the old set may lack what this one will write, and it may lack theirs.
		g.InSync, g.Version = []string{c.Member}, index
	}
	g.Master, g.Epoch, g.Last, g.Settings = c.Member, index, c.Member, g.Next
	return nil
}

func (c End) apply(g *Group, _ uint64) error {
	if g.Epoch == 0 || c.Epoch != g.Epoch {
		return ErrEpoch
	}
	g.Master, g.Epoch = "", 0
	return nil
}

func (c Return) apply(g *Group, index uint64) error {
	i := slices.IndexFunc(g.Members, func(m Member) bool { return m.ID == c.Member })
	switch {
	case i < 0:
		return ErrMember
	case g.Members[i].Incarnation != c.Incarnation:
		return ErrIncarnation
	}
	g.Members[i].Incarnation, g.Members[i].Boot = index, c.Boot
	g.remove(c.Member, index)
	if g.Master == c.Member {
		g.Master, g.Epoch = "", 0
	}
	return nil
}

func (c Configure) apply(g *Group, _ uint64) error {
	if err := c.Settings.Check(len(g.Members)); err != nil {
		return err
	}
	g.Next = c.Settings
	return nil
}

// remove takes a member out of the in-sync set, if it is in it.
func (g *Group) remove(id string, index uint64) {
	if g.Holds(id) {
		g.InSync = slices.DeleteFunc(g.InSync, func(x string) bool { return x == id })
		g.Version = index
	}
}
