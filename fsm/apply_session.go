package fsm

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

func (op OpenSession) apply(t *transition) (OpResult, *Refusal) {
	if err := op.validate(); err != nil {
		return OpResult{}, refuse(CodeInvalid, "open session: %v", err)
	}
	s := t.state
	session := &Session{ID: SessionID(t.index), Host: op.Host, TTL: op.TTL, Secret: op.Secret}
	row := Change{Host: op.Host, Session: session.ID, Cause: "ttl " + op.TTL.String()}
	if op.Broker != nil {
		for _, other := range s.Brokers() {
			if other.Broker.Name == op.Broker.Name && other.Host != op.Host {
				return OpResult{}, refuse(CodeConflict, "broker %s has open session %d on host %s", op.Broker.Name, other.ID, other.Host)
			}
		}
		broker := *op.Broker
		session.Broker, row.Broker = &broker, broker.Name
	} else {
		s.hosts[op.Host] = append(slices.Clip(s.hosts[op.Host]), session.ID)
	}
	s.sessions[session.ID] = session
	t.record(row)
	return OpResult{Session: session.ID}, nil
}

func (op CloseSession) apply(t *transition) (OpResult, *Refusal) {
	session, ok := t.state.sessions[op.Session]
	if !ok {
		return OpResult{}, refuse(CodeNotFound, "session %d is not open", op.Session)
	}
	t.end(session, op.Cause)
	return OpResult{}, nil
}

func (op Expire) apply(t *transition) (OpResult, *Refusal) {
	session, ok := t.state.sessions[op.Session]
	if !ok {
		return OpResult{}, refuse(CodeNotFound, "session %d is not open", op.Session)
	}
	// Agreements prove nothing about a majority of other members.
	if latest := t.state.configuration; op.Configuration != latest {
		return OpResult{}, refuse(CodeStale, "session %d was fenced under configuration %d, the latest is %d",
			op.Session, op.Configuration, latest)
	}
	t.end(session, op.Cause)
	return OpResult{}, nil
}

// end closes a session and frees all that it has.
func (t *transition) end(session *Session, cause string) {
	s := t.state
	for _, grant := range s.GrantsOf(session.ID) {
		delete(s.grants, grant.Set)
		t.record(Change{Set: grant.Set, Host: grant.Host, Session: grant.Session, Epoch: grant.Epoch, Cause: cause})
	}
	t.endGroups(session, cause)
	retired := 0
	for _, row := range s.Retiring() {
		if row.Session == session.ID {
			delete(s.retiring, row.Address)
			retired++
		}
	}
	s.drop(session)
	detail := ""
	if retired > 0 {
		detail = count(retired, "retiring address", "retiring addresses") + " freed"
	}
	row := Change{Host: session.Host, Session: session.ID, Cause: because(cause, detail)}
	if session.Broker != nil {
		row.Broker = session.Broker.Name
	}
	t.record(row)
}

// drop removes a session from the table and its index.
func (s *State) drop(session *Session) {
	delete(s.sessions, session.ID)
	if session.Broker != nil {
		return // it is in no host's list
	}
	left := slices.DeleteFunc(slices.Clone(s.hosts[session.Host]), func(id SessionID) bool { return id == session.ID })
	if len(left) == 0 {
		delete(s.hosts, session.Host)
		return
	}
	s.hosts[session.Host] = left
}

func (op Rebind) apply(t *transition) (OpResult, *Refusal) {
	s := t.state
	from, refusal := t.agent(op.Old)
	if refusal != nil {
		return OpResult{}, refusal
	}
	to, refusal := t.agent(op.New)
	if refusal != nil {
		return OpResult{}, refusal
	}
	if op.Old == op.New {
		return OpResult{}, refuse(CodeInvalid, "rebind session %d to itself", op.Old)
	}
	if from.Host != to.Host {
		return OpResult{}, refuse(CodeConflict, "session %d is of host %s, session %d of host %s", op.Old, from.Host, op.New, to.Host)
	}
	for _, grant := range s.GrantsOf(from.ID) {
		moved := *grant
		moved.Session = to.ID
		s.grants[grant.Set] = &moved
		t.record(Change{Set: grant.Set, Host: to.Host, Session: to.ID, Epoch: grant.Epoch,
			Cause: fmt.Sprintf("was session %d", from.ID)})
	}
	for _, row := range s.Retiring() {
		if row.Session == from.ID {
			moved := *row
			moved.Session = to.ID
			s.retiring[row.Address] = &moved
		}
	}
	if len(from.Conditions) > 0 {
		next := *to
		next.Conditions = maps.Clone(from.Conditions)
		maps.Copy(next.Conditions, to.Conditions)
		s.sessions[to.ID] = &next
	}
	s.drop(from)
	t.record(Change{Host: to.Host, Session: to.ID, Cause: fmt.Sprintf("session %d closed", from.ID)})
	return OpResult{}, nil
}

func (op SetCondition) apply(t *transition) (OpResult, *Refusal) {
	s := t.state
	session, refusal := t.agent(op.Session)
	if refusal != nil {
		return OpResult{}, refusal
	}
	if err := op.validate(); err != nil {
		return OpResult{}, refuse(CodeInvalid, "note condition: %v", err)
	}
	condition := op.Condition
	condition.Reason = clip(condition.Reason, maxCause)
	old, noted := session.Conditions[op.Set]
	if condition.Neutral() && !noted || noted && condition == old {
		return OpResult{}, nil
	}
	next := *session
	next.Conditions = maps.Clone(session.Conditions)
	if condition.Neutral() {
		delete(next.Conditions, op.Set)
	} else {
		if !noted && len(session.Conditions) >= MaxConditions {
			return OpResult{}, refuse(CodeInvalid, "session %d has %d conditions, which is the most", op.Session, MaxConditions)
		}
		if next.Conditions == nil {
			next.Conditions = make(map[string]Condition)
		}
		next.Conditions[op.Set] = condition
	}
	s.sessions[session.ID] = &next
	t.record(Change{Set: op.Set, Host: session.Host, Session: session.ID, Cause: condition.String()})
	return OpResult{}, nil
}

func (op NoteStall) apply(t *transition) (OpResult, *Refusal) {
	session, ok := t.state.sessions[op.Session]
	if !ok {
		return OpResult{}, refuse(CodeNotFound, "session %d is not open", op.Session)
	}
	if err := op.validate(); err != nil {
		return OpResult{}, refuse(CodeInvalid, "note stall: %v", err)
	}
	t.record(Change{Host: session.Host, Session: session.ID, Cause: op.String()})
	return OpResult{}, nil
}

// String tells the stall in words.
func (op NoteStall) String() string {
	text := fmt.Sprintf("did not run for %v, until %v before this report", op.Lasted.Round(time.Millisecond), op.Ago.Round(time.Millisecond))
	if op.More > 0 {
		text += ", and " + count(op.More, "shorter time", "shorter times")
	}
	return text
}

// String tells the condition in words: "veto: disk is full", "weight -20",
// "neutral".
func (c Condition) String() string {
	text := "neutral"
	switch {
	case c.Veto && c.Weight != 0:
		text = fmt.Sprintf("veto, weight %+d", c.Weight)
	case c.Veto:
		text = "veto"
	case c.Weight != 0:
		text = fmt.Sprintf("weight %+d", c.Weight)
	}
	if c.Reason != "" {
		text += ": " + c.Reason
	}
	return text
}

// count puts a number before the right form of a noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
