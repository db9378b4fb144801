package fsm

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/fsm/group"
)

func (op PutGroup) apply(t *transition) (OpResult, *Refusal) {
	if err := op.validate(); err != nil {
		return OpResult{}, refuse(CodeInvalid, "put group %q: %v", op.Group, err)
	}
	g, exists := t.state.groups[op.Group]
	if !exists {
		return OpResult{}, op.create(t)
	}
	if g.Deleting {
		return OpResult{}, refuse(CodeHeld, "group %s is being deleted: %s has not released it yet", g.Name, g.Record.Master)
	}
	next, err := op.change(g.Record, t.index)
	if err != nil {
		return OpResult{}, refuseGroup("put", g, err)
	}
	if detail := groupDifferences(g.Record, next); detail != "" {
		t.keep(g, next)
		t.record(Change{Group: g.Name, Cause: because(op.Cause, detail)})
	}
	return OpResult{}, nil
}

func (op PutGroup) create(t *transition) *Refusal {
	if len(t.state.groups) >= MaxGroups {
		return refuse(CodeConflict, "there are %d groups, which is the most", MaxGroups)
	}
	// Nothing was acknowledged yet, so brokers that run have nothing to return with: else
	// each would say that its disk is empty, and end the grant that it has just got.
	running := make(map[string]uint64)
	for _, s := range t.state.Brokers() {
		running[s.Broker.Name] = uint64(s.ID)
	}
	members := make([]group.Member, len(op.Members))
	for i, m := range op.Members {
		members[i] = group.Member{ID: m.ID, Priority: m.Priority, Boot: running[m.ID]}
	}
	record, err := group.New(t.index, members, op.Settings)
	if err != nil {
		return refuse(CodeInvalid, "create group %s: %v", op.Group, err)
	}
	t.state.groups[op.Group] = &Group{Name: op.Group, Created: t.index, Record: record}
	t.record(Change{Group: op.Group, Cause: because(op.Cause, "created, in-sync set "+strings.Join(record.InSync, ","))})
	return nil
}

// change joins first and lets go last, so that a member can be replaced in a group that
// needs all of its members.
func (op PutGroup) change(record group.Group, index uint64) (group.Group, error) {
	wanted := make(map[string]bool, len(op.Members))
	var commands []group.Command
	for _, m := range op.Members {
		wanted[m.ID] = true
		commands = append(commands, group.Join{Member: m.ID, Priority: m.Priority})
	}
	if record.Next != op.Settings {
		commands = append(commands, group.Configure{Settings: op.Settings})
	}
	for _, m := range record.Members {
		if !wanted[m.ID] {
			commands = append(commands, group.Leave{Member: m.ID})
		}
	}
	for _, c := range commands {
		next, err := record.Apply(index, c)
		if leave, ok := c.(group.Leave); ok && err != nil {
			return record, fmt.Errorf("remove member %s: %w", leave.Member, err)
		}
		if err != nil {
			return record, err
		}
		record = next
	}
	return record, nil
}

// groupDifferences tells in words what a put changes; "" = nothing.
func groupDifferences(old, next group.Group) string {
	var words []string
	for _, m := range next.Members {
		was, ok := old.Member(m.ID)
		switch {
		case !ok:
			words = append(words, "+"+m.ID)
		case was.Priority != m.Priority:
			words = append(words, fmt.Sprintf("%s priority %d", m.ID, m.Priority))
		}
	}
	for _, m := range old.Members {
		if _, ok := next.Member(m.ID); !ok {
			words = append(words, "-"+m.ID)
		}
	}
	if old.Next != next.Next {
		words = append(words, "next "+settingsText(next.Next))
	}
	return strings.Join(words, ", ")
}

// settingsText is settings in words: "sync, min_in_sync 2, policy in-sync".
func settingsText(s group.Settings) string {
	text := fmt.Sprintf("%s, min_in_sync %d, policy %s", s.Mode, s.MinInSync, s.Policy)
	if s.ReadLocal {
		text += ", read local"
	}
	return text
}

func (op DeleteGroup) apply(t *transition) (OpResult, *Refusal) {
	g, refusal := t.group(op.Group)
	if refusal != nil {
		return OpResult{}, refusal
	}
	if g.Session == 0 {
		delete(t.state.groups, g.Name)
		t.record(Change{Group: g.Name, Cause: because(op.Cause, "deleted")})
		return OpResult{}, nil
	}
	if g.Deleting {
		return OpResult{}, nil
	}
	// The recall is how the master learns of it by the same rules as of any other.
	record, err := g.Record.Apply(t.index, group.Recall{Epoch: g.Record.Epoch, To: g.Record.Master})
	if err != nil {
		return OpResult{}, refuseGroup("delete", g, err)
	}
	next := *g
	next.Record, next.Deleting = record, true
	t.state.groups[g.Name] = &next
	t.recordGrant(g, because(op.Cause, "to be deleted when it is released"))
	return OpResult{}, nil
}

func (op ConfigureGroup) apply(t *transition) (OpResult, *Refusal) {
	g, refusal := t.group(op.Group)
	if refusal != nil {
		return OpResult{}, refusal
	}
	if err := validateSettings(op.Settings, len(g.Record.Members)); err != nil {
		return OpResult{}, refuse(CodeInvalid, "configure group %s: %v", g.Name, err)
	}
	if g.Record.Next == op.Settings {
		return OpResult{}, nil
	}
	next, err := g.Record.Apply(t.index, group.Configure{Settings: op.Settings})
	if err != nil {
		return OpResult{}, refuseGroup("configure", g, err)
	}
	t.keep(g, next)
	t.record(Change{Group: g.Name, Cause: because(op.Cause, "next "+settingsText(op.Settings))})
	return OpResult{}, nil
}

func (op GrantGroup) apply(t *transition) (OpResult, *Refusal) {
	g, refusal := t.group(op.Group)
	if refusal != nil {
		return OpResult{}, refusal
	}
	session, refusal := t.broker(op.Session)
	if refusal != nil {
		return OpResult{}, refusal
	}
	if t.mastered[op.Group] {
		return OpResult{}, refuse(CodeConflict, "group %s was granted once in this entry: the epoch %d is used up", op.Group, t.index)
	}
	if op.Unclean && !op.Operator {
		for _, other := range t.state.Brokers() {
			if g.Record.Holds(other.Broker.Name) {
				return OpResult{}, refuse(CodeConflict, "group %s: %s is in the in-sync set and has an open session (%d)", g.Name, other.Broker.Name, other.ID)
			}
		}
	}
	absent := t.absent(g.Record)
	record, err := g.Record.Apply(t.index, group.Grant{Member: session.Broker.Name, Unclean: op.Unclean, Operator: op.Operator, Absent: absent})
	if err != nil {
		return OpResult{}, refuseGroup("grant to "+session.Broker.Name, g, err)
	}
	next := *g
	next.Record, next.Session = record, session.ID
	t.state.groups[g.Name] = &next
	if t.mastered == nil {
		t.mastered = make(map[string]bool)
	}
	t.mastered[g.Name] = true
	detail := ""
	switch {
	case op.Unclean:
		detail = "unclean: the in-sync set was " + setText(g.Record.InSync)
	case len(absent) > 0:
		detail = strings.Join(absent, ",") + " not there, in-sync set " + setText(record.InSync)
	}
	t.recordGrant(&next, because(op.Cause, detail))
	return OpResult{Epoch: Epoch(record.Epoch)}, nil
}

// absent returns the members of the in-sync set that a grant takes out, as the new master
// would wait for them before it confirms anything: the last master and brokers whose
// session this entry has ended, if no session of theirs is open. Others without a session
// stay: after a loss of power they are on their way, and have what the first one has.
func (t *transition) absent(r group.Group) []string {
	var out []string
	for _, id := range r.InSync {
		open := slices.ContainsFunc(t.state.Brokers(), func(s *Session) bool { return s.Broker.Name == id })
		if !open && (id == r.Last || t.gone[id]) {
			out = append(out, id)
		}
	}
	return out
}

func (op ReleaseGroup) apply(t *transition) (OpResult, *Refusal) {
	g, refusal := t.group(op.Group)
	if refusal != nil {
		return OpResult{}, refusal
	}
	if g.Session == 0 || g.Record.Epoch != uint64(op.Epoch) {
		return OpResult{}, refuse(CodeStale, "group %s has epoch %d, not %d", g.Name, g.Record.Epoch, op.Epoch)
	}
	if op.Session != g.Session {
		session, refusal := t.broker(op.Session)
		if refusal != nil {
			return OpResult{}, refusal
		}
		if session.Broker.Name != g.Record.Master {
			return OpResult{}, refuse(CodeStale, "group %s has master %s, not %s of session %d", g.Name, g.Record.Master, session.Broker.Name, op.Session)
		}
	}
	t.endGrant(g, op.Cause)
	return OpResult{}, nil
}

func (op RecallGroup) apply(t *transition) (OpResult, *Refusal) {
	g, refusal := t.group(op.Group)
	if refusal != nil {
		return OpResult{}, refusal
	}
	next, err := g.Record.Apply(t.index, group.Recall{Epoch: uint64(op.Epoch), To: op.To})
	if err != nil {
		return OpResult{}, refuseGroup("recall to "+op.To, g, err)
	}
	if next.Wanted == g.Record.Wanted {
		return OpResult{}, nil
	}
	t.keep(g, next)
	t.recordGrant(g, because(op.Cause, "to "+op.To))
	return OpResult{}, nil
}

func (op GrowInSync) apply(t *transition) (OpResult, *Refusal) {
	return OpResult{}, t.changeSet(op.Group, op.Session, "grow by "+op.Member, op.Member, op.Grow)
}

func (op ShrinkInSync) apply(t *transition) (OpResult, *Refusal) {
	return OpResult{}, t.changeSet(op.Group, op.Session, "shrink by "+op.Member, op.Member, op.Shrink)
}

// changeSet applies a master's change of the in-sync set.
func (t *transition) changeSet(name string, session SessionID, what, member string, c group.Command) *Refusal {
	g, refusal := t.group(name)
	if refusal != nil {
		return refusal
	}
	if g.Session != session || session == 0 {
		return refuse(CodeStale, "group %s: session %d does not hold the grant", g.Name, session)
	}
	next, err := g.Record.Apply(t.index, c)
	if err != nil {
		return refuseGroup(what, g, err)
	}
	t.keep(g, next)
	t.record(Change{Group: g.Name, Broker: member, Session: session, Epoch: Epoch(g.Record.Epoch), Cause: "in-sync set " + setText(next.InSync)})
	return nil
}

func (op ReturnReplica) apply(t *transition) (OpResult, *Refusal) {
	g, refusal := t.group(op.Group)
	if refusal != nil {
		return OpResult{}, refusal
	}
	session, refusal := t.broker(op.Session)
	if refusal != nil {
		return OpResult{}, refusal
	}
	name := session.Broker.Name
	next, err := g.Record.Apply(t.index, group.Return{Member: name, Incarnation: op.Incarnation, Boot: op.Boot})
	if err != nil {
		return OpResult{}, refuseGroup("return of "+name, g, err)
	}
	detail := "in-sync set " + setText(next.InSync)
	epoch := Epoch(0)
	if g.Record.Epoch != 0 && next.Epoch == 0 {
		epoch = Epoch(g.Record.Epoch)
		detail = "its grant has ended, " + detail
	}
	t.keep(g, next)
	if _, ok := t.state.groups[g.Name]; !ok {
		detail += ", deleted"
	}
	t.record(Change{Group: g.Name, Host: session.Host, Broker: name, Session: session.ID, Epoch: epoch, Cause: because(op.Cause, detail)})
	return OpResult{}, nil
}

// endGrant ends the grant of a group that has one.
func (t *transition) endGrant(g *Group, cause string) {
	next, err := g.Record.Apply(t.index, group.End{Epoch: g.Record.Epoch})
	if err != nil {
		// The grant's own epoch is never refused.
		panic(fmt.Sprintf("end grant of group %s: %v", g.Name, err))
	}
	if g.Deleting {
		cause = because(cause, "deleted")
	}
	t.keep(g, next)
	t.recordGrant(g, cause)
}

// keep puts a record in the place of a group's. With the grant goes its session, and with
// that a group that only waited for it.
func (t *transition) keep(g *Group, record group.Group) {
	next := *g
	next.Record = record
	if record.Epoch == 0 {
		next.Session = 0
	}
	if next.Deleting && next.Session == 0 {
		delete(t.state.groups, g.Name)
		return
	}
	t.state.groups[g.Name] = &next
}

// recordGrant adds a row about a group's grant.
func (t *transition) recordGrant(g *Group, cause string) {
	row := Change{Group: g.Name, Broker: g.Record.Master, Session: g.Session, Epoch: Epoch(g.Record.Epoch), Cause: cause}
	if session, ok := t.state.sessions[g.Session]; ok {
		row.Host = session.Host
	}
	t.record(row)
}

// group returns a group by name.
func (t *transition) group(name string) (*Group, *Refusal) {
	g, ok := t.state.groups[name]
	if !ok {
		return nil, refuse(CodeNotFound, "no group %q", name)
	}
	return g, nil
}

// broker returns an open session of a broker.
func (t *transition) broker(id SessionID) (*Session, *Refusal) {
	session, ok := t.state.sessions[id]
	if !ok {
		return nil, refuse(CodeNotFound, "session %d is not open", id)
	}
	if session.Broker == nil {
		return nil, refuse(CodeConflict, "session %d is of the agent on %s, not of a broker", id, session.Host)
	}
	return session, nil
}

// agent returns an open session of an agent.
func (t *transition) agent(id SessionID) (*Session, *Refusal) {
	session, ok := t.state.sessions[id]
	if !ok {
		return nil, refuse(CodeNotFound, "session %d is not open", id)
	}
	if session.Broker != nil {
		return nil, refuse(CodeConflict, "session %d is of broker %s, which has no part in VIP sets", id, session.Broker.Name)
	}
	return session, nil
}

// refuseGroup makes a refusal of what a group's record refuses.
func refuseGroup(what string, g *Group, err error) *Refusal {
	r := g.Record
	code, found := CodeConflict, ""
	switch {
	case errors.Is(err, group.ErrEpoch):
		code, found = CodeStale, fmt.Sprintf("epoch %d", r.Epoch)
	case errors.Is(err, group.ErrVersion):
		code, found = CodeStale, fmt.Sprintf("version %d", r.Version)
	case errors.Is(err, group.ErrIncarnation):
		code = CodeStale
	case errors.Is(err, group.ErrMember):
		code = CodeUnknownHost
	case errors.Is(err, group.ErrGranted):
		code, found = CodeHeld, fmt.Sprintf("master %s, epoch %d", r.Master, r.Epoch)
	case errors.Is(err, group.ErrSettings):
		code, found = CodeInvalid, "in force: "+settingsText(r.Settings)
	case errors.Is(err, group.ErrPolicy):
		found = "policy " + string(r.Settings.Policy)
	case errors.Is(err, group.ErrInSync):
		found = "in-sync set " + setText(r.InSync)
	}
	if found != "" {
		found = " (" + found + ")"
	}
	return refuse(code, "group %s: %s: %v%s", g.Name, what, err, found)
}

// setText is an in-sync set in words.
func setText(set []string) string {
	if len(set) == 0 {
		return "empty"
	}
	return strings.Join(set, ",")
}

// endGroups ends the grants of a session that ends.
func (t *transition) endGroups(session *Session, cause string) {
	if session.Broker == nil {
		return
	}
	if t.gone == nil {
		t.gone = make(map[string]bool)
	}
	t.gone[session.Broker.Name] = true
	for _, g := range t.state.Groups() {
		if g.Session == session.ID {
			t.endGrant(g, cause)
		}
	}
}
