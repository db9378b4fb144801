package fsm

func (op GrantSet) apply(t *transition) (OpResult, *Refusal) {
	s := t.state
	set, ok := s.sets[op.Set]
	if !ok {
		return OpResult{}, refuse(CodeNotFound, "no set %q", op.Set)
	}
	session, refusal := t.agent(op.Session)
	if refusal != nil {
		return OpResult{}, refusal
	}
	if grant, held := s.grants[op.Set]; held {
		return OpResult{}, refuse(CodeHeld, "set %s is held by session %d on %s with epoch %d", op.Set, grant.Session, grant.Host, grant.Epoch)
	}
	if t.granted[op.Set] {
		return OpResult{}, refuse(CodeConflict, "set %s was granted once in this entry: the epoch %d is used up", op.Set, t.index)
	}
	if _, ok := set.Candidate(session.Host); !ok {
		return OpResult{}, refuse(CodeUnknownHost, "host %s is no candidate of set %s", session.Host, op.Set)
	}
	grant := &Grant{Set: op.Set, Session: session.ID, Host: session.Host, Epoch: Epoch(t.index)}
	s.grants[op.Set] = grant
	if t.granted == nil {
		t.granted = make(map[string]bool)
	}
	t.granted[op.Set] = true
	if set.Prefer != "" && set.Prefer != session.Host {
		next := *set
		next.Prefer, next.Revision = "", t.index
		s.sets[op.Set] = &next
	}
	t.record(Change{Set: op.Set, Host: grant.Host, Session: grant.Session, Epoch: grant.Epoch, Cause: op.Cause})
	return OpResult{Epoch: grant.Epoch}, nil
}

func (op Release) apply(t *transition) (OpResult, *Refusal) {
	grant, refusal := t.grant(op.Set, op.Epoch)
	if refusal != nil {
		return OpResult{}, refusal
	}
	if grant.Session != op.Session {
		return OpResult{}, refuse(CodeStale, "set %s is held by session %d, not %d", op.Set, grant.Session, op.Session)
	}
	delete(t.state.grants, op.Set)
	t.record(Change{Set: op.Set, Host: grant.Host, Session: grant.Session, Epoch: grant.Epoch, Cause: op.Cause})
	return OpResult{}, nil
}

func (op RecallSet) apply(t *transition) (OpResult, *Refusal) {
	grant, refusal := t.grant(op.Set, op.Epoch)
	if refusal != nil {
		return OpResult{}, refusal
	}
	if _, ok := t.state.sets[op.Set].Candidate(op.To); op.To != "" && !ok {
		return OpResult{}, refuse(CodeUnknownHost, "host %s is no candidate of set %s", op.To, op.Set)
	}
	recall := Recall{To: op.To, Cause: clip(op.Cause, maxCause)}
	if grant.Recall != nil && *grant.Recall == recall {
		return OpResult{}, nil
	}
	next := *grant
	next.Recall = &recall
	t.state.grants[op.Set] = &next
	detail := ""
	if op.To != "" {
		detail = "to " + op.To
	}
	t.record(Change{Set: op.Set, Host: grant.Host, Session: grant.Session, Epoch: grant.Epoch, Cause: because(op.Cause, detail)})
	return OpResult{}, nil
}

// grant returns the grant of a set if it has this epoch.
func (t *transition) grant(set string, epoch Epoch) (*Grant, *Refusal) {
	if _, ok := t.state.sets[set]; !ok {
		return nil, refuse(CodeNotFound, "no set %q", set)
	}
	grant, held := t.state.grants[set]
	if !held {
		return nil, refuse(CodeStale, "set %s is free, epoch %d is over", set, epoch)
	}
	if grant.Epoch != epoch {
		return nil, refuse(CodeStale, "set %s has epoch %d, not %d", set, grant.Epoch, epoch)
	}
	return grant, nil
}

func (op ConfirmRemoval) apply(t *transition) (OpResult, *Refusal) {
	row, ok := t.state.retiring[op.Address]
	if !ok {
		return OpResult{}, refuse(CodeNotFound, "address %s is not retiring", op.Address)
	}
	if row.Session != op.Session || row.Claim != op.Claim {
		return OpResult{}, refuse(CodeStale, "address %s retires under session %d, claim %d, not session %d, claim %d",
			op.Address, row.Session, row.Claim, op.Session, op.Claim)
	}
	delete(t.state.retiring, op.Address)
	t.record(Change{Set: row.Set, Host: row.Host, Session: row.Session, Cause: op.Address.String() + " is down"})
	return OpResult{}, nil
}
