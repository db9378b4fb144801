package schedule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/fsm"
	"holdfast/fsm/group"
)

// Masters of broker groups, in the order in which the rules are asked:
//
//   - A group that has a master keeps it: no priority takes it away. It moves when an
//     operator wants another one, or settings wait for a new grant; then its record says
//     so, and the master releases.
//   - A free group goes to a live member of the in-sync set that is fit by its own word:
//     the one that is wanted, then the highest priority, then the log that ends last as
//     last reported, then the name. Reports order members and prove nothing.
//   - Policy never: to the last master, or the one that is wanted.
//   - Policy unclean: if for [UncleanAfter] no member of the set has had an open session,
//     to the live member whose log ends last. What it lacks is lost.
//   - While the scheduler is paused no group gets a master.

// ErrUnknownGroup says that there is no broker group of that name.
var ErrUnknownGroup = errors.New("unknown group")

// UncleanAfter is how long a leader waits for a member of the in-sync set before policy
// unclean gives the group to another: after a loss of power all brokers come back within
// seconds, and the first of them would cost what the others have.
const UncleanAfter = 5 * time.Second

// Replica is what a broker last said of its replica of a group.
type Replica struct {
	Epoch uint64 // of its last record
	End   uint64 // of its log, in bytes
	Unfit string // why it cannot be master now; "" = it can
}

// Mastership makes a broker master of a free group.
type Mastership struct {
	Group   string
	Session fsm.SessionID
	Broker  string
	Unclean bool
	Reason  string
}

// MasterExplanation tells why a group has the master that it has.
type MasterExplanation struct {
	Group    string
	Decision string // what would be done now, and why
	Next     string // the broker that would be made master now, "" = none
	Members  []MemberExplanation
}

// MemberExplanation tells why a member could be master by the policy, or why not.
type MemberExplanation struct {
	Broker   string
	Eligible bool
	Reason   string
}

// ExplainMaster tells what [Decide] would do about one group and why. It changes nothing,
// in.Seen included. The error is [ErrUnknownGroup].
func ExplainMaster(in Input, name string) (MasterExplanation, error) {
	g, ok := in.State.Group(name)
	if !ok {
		return MasterExplanation{}, fmt.Errorf("explain %q: %w", name, ErrUnknownGroup)
	}
	m := newMasters(in)
	grant, note, _ := m.decide(g)
	out := MasterExplanation{Group: name, Decision: note}
	if grant != nil {
		out.Next = grant.Broker
	}
	for _, member := range g.Record.Members {
		reason := m.unable(g, member.ID)
		e := MemberExplanation{Broker: member.ID, Eligible: reason == "", Reason: reason}
		if e.Eligible {
			e.Reason = m.standing(g, member)
		}
		out.Members = append(out.Members, e)
	}
	return out, nil
}

// masters decides for all groups of one state.
type masters struct {
	in   Input
	live map[string]*fsm.Session // by broker its newest live session
	open map[string]bool         // brokers with an open session
}

func newMasters(in Input) *masters {
	m := &masters{in: in, live: make(map[string]*fsm.Session), open: make(map[string]bool)}
	for _, s := range in.State.Brokers() { // the newest last
		m.open[s.Broker.Name] = true
		if in.Live == nil || in.Live(s.ID) {
			m.live[s.Broker.Name] = s
		}
	}
	return m
}

// run decides for every group, and says after how long one of them may be decided
// otherwise; 0 = nothing waits.
func (m *masters) run() (grants []Mastership, again time.Duration) {
	for _, g := range m.in.State.Groups() {
		grant, _, wait := m.decide(g)
		if grant != nil {
			grants = append(grants, *grant)
		}
		if wait > 0 && (again == 0 || wait < again) {
			again = wait
		}
	}
	return grants, again
}

// decide decides for one group, and says why.
func (m *masters) decide(g *fsm.Group) (grant *Mastership, note string, wait time.Duration) {
	r := g.Record
	switch {
	case g.Session != 0:
		return nil, m.sitting(g), 0
	case m.in.State.Settings().Paused:
		return nil, "the scheduler is paused: nobody is made master", 0
	}
	chosen, ok := group.Choose(r, m.candidates(g))
	if ok && chosen.Unclean {
		if at := slices.IndexFunc(r.InSync, func(id string) bool { return m.open[id] }); at >= 0 {
			ok, note = false, fmt.Sprintf("no member of the in-sync set can be master, but %s has an open session: wait for it", r.InSync[at])
		} else if wait = m.patience(g); wait > 0 {
			return nil, fmt.Sprintf("no member of the in-sync set (%s) has an open session; %s becomes master if none comes within %s", names(r.InSync), chosen.Member, wait.Round(time.Millisecond)), wait
		}
	}
	if !ok {
		if note == "" {
			note = m.nobody(g)
		}
		return nil, note, 0
	}
	session := m.live[chosen.Member]
	reason := m.why(g, chosen)
	return &Mastership{Group: g.Name, Session: session.ID, Broker: chosen.Member, Unclean: chosen.Unclean, Reason: reason},
		fmt.Sprintf("make %s master: %s", chosen.Member, reason), 0
}

// candidates are the members as Choose looks at them.
func (m *masters) candidates(g *fsm.Group) []group.Candidate {
	out := make([]group.Candidate, len(g.Record.Members))
	for i, member := range g.Record.Members {
		said := m.replica(g.Name, member.ID)
		out[i] = group.Candidate{ID: member.ID, Live: m.live[member.ID] != nil && said.Unfit == "", Epoch: said.Epoch, End: said.End}
	}
	return out
}

func (m *masters) replica(name, broker string) Replica {
	if m.in.Replica == nil {
		return Replica{}
	}
	return m.in.Replica(name, broker)
}

// patience is how long an unclean grant has to wait yet.
func (m *masters) patience(g *fsm.Group) time.Duration {
	if m.in.Seen == nil {
		return 0
	}
	return max(0, UncleanAfter-m.in.Seen.bareFor(g.Name, m.in.Now))
}

// sitting puts into words why a group that has a master keeps it.
func (m *masters) sitting(g *fsm.Group) string {
	r := g.Record
	switch {
	case m.live[r.Master] == nil || m.in.Live != nil && !m.in.Live(g.Session):
		return fmt.Sprintf("%s, the master, does not renew its lease: wait until its lease has ended for certain, or it is back", r.Master)
	case g.Deleting:
		return fmt.Sprintf("the group is deleted when %s has released it", r.Master)
	case r.Wanted == r.Master && r.Next != r.Settings:
		return fmt.Sprintf("%s has been asked to release, and is made master again with the new settings", r.Master)
	case r.Wanted != "":
		return fmt.Sprintf("%s has been asked to release, in favour of %s", r.Master, r.Wanted)
	}
	return fmt.Sprintf("%s stays: no priority takes a master away", r.Master)
}

// unable says why a member cannot be made master by the policy, "" = it can.
func (m *masters) unable(g *fsm.Group, id string) string {
	r := g.Record
	said := m.replica(g.Name, id)
	_, lastIsMember := r.Member(r.Last)
	switch {
	case !m.open[id]:
		return "has no open session"
	case m.live[id] == nil:
		return "does not renew its lease"
	case said.Unfit != "":
		return "is unfit: " + said.Unfit
	case r.Settings.Policy == group.PolicyNever && r.Last != "" && id != r.Last && id != r.Wanted && lastIsMember:
		return "is not the last master, " + r.Last + ", as policy never asks"
	case !r.Holds(id) && r.Settings.Policy != group.PolicyUnclean:
		return "is not in the in-sync set"
	case !r.Holds(id) && slices.ContainsFunc(r.InSync, func(other string) bool { return m.open[other] }):
		return "is not in the in-sync set, of which a member has an open session"
	}
	return ""
}

// standing says of an eligible member what it is judged by.
func (m *masters) standing(g *fsm.Group, member group.Member) string {
	said := m.replica(g.Name, member.ID)
	text := fmt.Sprintf("priority %d, log of epoch %d ends at %d", member.Priority, said.Epoch, said.End)
	switch {
	case member.ID == g.Record.Master:
		text = "is the master; " + text
	case member.ID == g.Record.Wanted:
		text = "is wanted; " + text
	}
	return text
}

// nobody puts into words why no member can be made master.
func (m *masters) nobody(g *fsm.Group) string {
	r := g.Record
	if len(r.InSync) == 0 && r.Settings.Policy != group.PolicyUnclean {
		return "the in-sync set is empty: its members have said that they lack what they had acknowledged; only an operator's unclean switchover makes one master"
	}
	var reasons []string
	for _, member := range r.Members {
		if why := m.unable(g, member.ID); why != "" {
			reasons = append(reasons, member.ID+" "+why)
		}
	}
	return "nobody can be master: " + strings.Join(reasons, "; ")
}

// why puts into words why this member and no other.
func (m *masters) why(g *fsm.Group, chosen group.Grant) string {
	r := g.Record
	self, _ := r.Member(chosen.Member)
	if chosen.Unclean && len(r.InSync) == 0 {
		return "the in-sync set is empty, and policy unclean takes the live member whose log ends last"
	}
	if chosen.Unclean {
		return fmt.Sprintf("no member of the in-sync set (%s) has an open session, and policy unclean takes the live member whose log ends last", names(r.InSync))
	}
	if chosen.Member == r.Wanted {
		return "it is wanted"
	}
	if r.Settings.Policy == group.PolicyNever && r.Last == chosen.Member {
		return "it was the last master, and policy never allows no other"
	}
	var others []group.Member
	for _, member := range r.Members {
		if member.ID != chosen.Member && r.Holds(member.ID) && m.unable(g, member.ID) == "" {
			others = append(others, member)
		}
	}
	if len(others) == 0 {
		return "the only live member of the in-sync set"
	}
	mine := m.replica(g.Name, chosen.Member)
	level := "highest priority"
	for _, other := range others {
		if other.Priority < self.Priority {
			continue
		}
		said := m.replica(g.Name, other.ID)
		if said.Epoch == mine.Epoch && said.End == mine.End {
			return "first by name of the in-sync set's live members of equal priority and log"
		}
		level = "its log ends last, of the live members with the highest priority"
	}
	return level + " in the in-sync set"
}

func names(ids []string) string {
	if len(ids) == 0 {
		return "empty"
	}
	return strings.Join(ids, ", ")
}
