package group

import "slices"

// Command is a change of a group. Its implementations are the structs of this package,
// passed by value.
type Command interface {
	apply(g *Group, index uint64) error
}

// The commands.
type (
	// Grow is the master's: it adds a member to the in-sync set.
	Grow struct {
		Epoch       uint64 `json:"epoch"`
		Version     uint64 `json:"version"`
		Member      string `json:"member"`
		Incarnation uint64 `json:"incarnation"`
	}
	// Shrink is the master's: it removes another member from the in-sync set.
	Shrink struct {
		Epoch   uint64 `json:"epoch"`
		Version uint64 `json:"version"`
		Member  string `json:"member"`
	}
	// Grant is the leader's: the member becomes master, with the entry's index as epoch.
	// The leader chooses a live member whose session is open ([Choose]).
	Grant struct {
		Member string `json:"member"`
		// Unclean asks for a member that may be outside the set, Operator for what the
		// policy does not allow.
		Unclean  bool `json:"unclean,omitzero"`
		Operator bool `json:"operator,omitzero"`
		// Absent are members that leave the set with this entry, as no session of theirs is
		// open. Else the new master would wait for them before it confirms anything.
		Absent []string `json:"absent,omitzero"`
	}
	// End ends a grant: its master has released it, or its session is fenced (lease.md).
	End struct {
		Epoch uint64 `json:"epoch"`
	}
	// Return says that a member is back with less than it had acknowledged. Incarnation is
	// the one known until then: a late or repeated return of a former process must not end
	// what a later one was given. By Boot a process knows its own return again; it is not
	// 0, and no other process of that member ever has it.
	Return struct {
		Member      string `json:"member"`
		Incarnation uint64 `json:"incarnation"`
		Boot        uint64 `json:"boot"`
	}
	// Configure is an operator's: settings for the next grant. A master is asked to
	// release, and is the one that is wanted next.
	Configure struct {
		Settings Settings `json:"settings"`
	}
	// Recall is an operator's: the master of this epoch is to release in favour of To, a
	// member of the set. A second recall replaces the first.
	Recall struct {
		Epoch uint64 `json:"epoch"`
		To    string `json:"to"`
	}
	// Join is an operator's: a new member, outside of the set, or another priority of one.
	Join struct {
		Member   string `json:"member"`
		Priority int    `json:"priority"`
	}
	// Leave is an operator's: a member is one no more. The master must have been moved
	// before, and the last member of the set be replaced by an unclean grant.
	Leave struct {
		Member string `json:"member"`
	}
)

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
	g.sort()
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
	g.leave(c.Member, index)
	return nil
}

func (c Grant) apply(g *Group, index uint64) error {
	_, ok := g.Member(c.Member)
	switch {
	case !ok:
		return ErrMember
	case g.Epoch != 0:
		return ErrGranted
	case !c.Operator && !g.policyAllows(c.Member, c.Unclean):
		return ErrPolicy
	case !c.Unclean && !g.Holds(c.Member):
		return ErrInSync
	}
	if c.Unclean {
		// Members of the old set may lack what this one will write, and it may lack theirs.
		g.InSync, g.Version = []string{c.Member}, index
	}
	for _, id := range c.Absent {
		if id != c.Member && g.Holds(id) {
			g.leave(id, index)
		}
	}
	g.Master, g.Epoch, g.Last, g.Settings, g.Wanted = c.Member, index, c.Member, g.Next, ""
	return nil
}

// policyAllows says whether the policy lets a member become master. It is the policy in
// force: one that waits for the next grant does not decide that grant.
func (g *Group) policyAllows(id string, unclean bool) bool {
	if unclean && g.Settings.Policy != PolicyUnclean {
		return false
	}
	return g.Settings.Policy != PolicyNever || g.Last == "" || id == g.Last || id == g.Wanted || g.member(g.Last) < 0
}

func (c End) apply(g *Group, _ uint64) error {
	if g.Epoch == 0 || c.Epoch != g.Epoch {
		return ErrEpoch
	}
	g.Master, g.Epoch = "", 0
	return nil
}

func (c Return) apply(g *Group, index uint64) error {
	i := g.member(c.Member)
	switch {
	case i < 0:
		return ErrMember
	case g.Members[i].Incarnation != c.Incarnation || c.Boot == 0:
		return ErrIncarnation
	}
	g.Members[i].Incarnation, g.Members[i].Boot = index, c.Boot
	if g.Last == "" {
		return nil // nothing was ever acknowledged: nobody can lack it
	}
	g.leave(c.Member, index)
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
	if g.Epoch != 0 && g.Next != g.Settings && g.Wanted == "" {
		g.Wanted = g.Master
	}
	return nil
}

func (c Recall) apply(g *Group, _ uint64) error {
	switch {
	case g.Epoch == 0 || c.Epoch != g.Epoch:
		return ErrEpoch
	case g.member(c.To) < 0:
		return ErrMember
	case !g.Holds(c.To):
		return ErrInSync
	}
	g.Wanted = c.To
	return nil
}

func (c Join) apply(g *Group, index uint64) error {
	if c.Member == "" {
		return ErrMember
	}
	if i := g.member(c.Member); i >= 0 {
		g.Members[i].Priority = c.Priority
		return nil
	}
	g.Members = append(g.Members, Member{ID: c.Member, Priority: c.Priority, Incarnation: index})
	g.sort()
	return nil
}

func (c Leave) apply(g *Group, index uint64) error {
	i := g.member(c.Member)
	switch {
	case i < 0:
		return ErrMember
	case g.Master == c.Member:
		return ErrGranted
	case len(g.InSync) == 1 && g.Holds(c.Member):
		return ErrInSync
	}
	for _, s := range []Settings{g.Settings, g.Next} {
		if err := s.Check(len(g.Members) - 1); err != nil {
			return err
		}
	}
	g.Members = slices.Delete(g.Members, i, i+1)
	g.leave(c.Member, index)
	if g.Wanted == c.Member {
		g.Wanted = ""
	}
	return nil
}
