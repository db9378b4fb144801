package fsm

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

func (op PreferHost) apply(t *transition) (OpResult, *Refusal) {
	set, ok := t.state.sets[op.Set]
	if !ok {
		return OpResult{}, refuse(CodeNotFound, "no set %q", op.Set)
	}
	if _, ok := set.Candidate(op.Host); op.Host != "" && !ok {
		return OpResult{}, refuse(CodeUnknownHost, "host %s is no candidate of set %s", op.Host, op.Set)
	}
	if set.Prefer == op.Host {
		return OpResult{}, nil
	}
	next := *set
	next.Prefer, next.Revision = op.Host, t.index
	t.state.sets[op.Set] = &next
	detail := ""
	if op.Host == "" {
		detail = "no preference"
	}
	t.record(Change{Set: op.Set, Host: op.Host, Cause: because(op.Cause, detail)})
	return OpResult{}, nil
}

func (op PauseSet) apply(t *transition) (OpResult, *Refusal) {
	if op.Set == "" {
		t.pauseAll(op.Paused, op.Cause)
		return OpResult{}, nil
	}
	set, ok := t.state.sets[op.Set]
	if !ok {
		return OpResult{}, refuse(CodeNotFound, "no set %q", op.Set)
	}
	if set.Paused == op.Paused {
		return OpResult{}, nil
	}
	next := *set
	next.Paused, next.Revision = op.Paused, t.index
	t.state.sets[op.Set] = &next
	t.record(Change{Set: op.Set, Cause: because(op.Cause, pauseWord(op.Paused))})
	return OpResult{}, nil
}

// pauseAll pauses or resumes the whole scheduler.
func (t *transition) pauseAll(paused bool, cause string) {
	if t.state.settings.Paused == paused {
		return
	}
	t.state.settings.Paused = paused
	t.record(Change{Cause: because(cause, "scheduler "+pauseWord(paused))})
}

func pauseWord(paused bool) string {
	if paused {
		return "paused"
	}
	return "resumed"
}

func (op DrainHost) apply(t *transition) (OpResult, *Refusal) {
	if err := validateHost(op.Host); err != nil {
		return OpResult{}, refuse(CodeInvalid, "drain host: %v", err)
	}
	// A drain of a misspelt host would do nothing without a word.
	if _, drained := t.state.drained[op.Host]; !drained && !t.state.knows(op.Host) {
		return OpResult{}, refuse(CodeUnknownHost, "host %s is no candidate of any set and has no session", op.Host)
	}
	t.drain(op.Host, op.Drained, op.Cause)
	return OpResult{}, nil
}

// drain drains a host or takes it back, if that is a change.
func (t *transition) drain(host string, drained bool, cause string) {
	cause = clip(cause, maxCause)
	old, was := t.state.drained[host]
	if drained == was && (!drained || old == cause) {
		return
	}
	detail := "undrained"
	if drained {
		detail = "drained"
		t.state.drained[host] = cause
	} else {
		delete(t.state.drained, host)
	}
	t.record(Change{Host: host, Cause: because(cause, detail)})
}

// knows tells whether a host has a session or is a candidate of some set.
func (s *State) knows(host string) bool {
	if len(s.hosts[host]) > 0 {
		return true
	}
	for _, set := range s.sets {
		if _, ok := set.Candidate(host); ok {
			return true
		}
	}
	return false
}

// Saved returns the op that puts this state's sets, drained hosts and pause
// back: what an operator's restore makes of a saved copy.
func (s *State) Saved(cause string) RestoreSets {
	op := RestoreSets{Paused: s.settings.Paused, Cause: cause, Drained: maps.Clone(s.drained)}
	for _, set := range s.Sets() {
		op.Sets = append(op.Sets, *set)
	}
	return op
}

func (op RestoreSets) apply(t *transition) (OpResult, *Refusal) {
	return OpResult{}, t.attempt(func() *Refusal { return op.replace(t) })
}

// replace does the work; it may stop half-way, as its caller puts all back.
func (op RestoreSets) replace(t *transition) *Refusal {
	s := t.state
	wanted := make(map[string]*Set, len(op.Sets))
	for i := range op.Sets {
		set := &op.Sets[i]
		if wanted[set.Name] != nil {
			return refuse(CodeInvalid, "restore sets: set %q comes twice", set.Name)
		}
		wanted[set.Name] = set
	}
	// Addresses leave before any set takes one, so that the sets of the copy
	// may have exchanged addresses, in whatever order they come.
	for _, set := range s.Sets() {
		if next := wanted[set.Name]; next != nil {
			t.depart(set, next)
		} else {
			t.remove(set, op.Cause)
		}
	}
	order := slices.Clone(op.Sets)
	slices.SortFunc(order, func(a, b Set) int { return strings.Compare(a.Name, b.Name) })
	for _, set := range order {
		if refusal := t.put(set, op.Cause); refusal != nil {
			return refusal
		}
	}
	for _, host := range s.DrainedHosts() {
		if _, ok := op.Drained[host]; !ok {
			t.drain(host, false, op.Cause)
		}
	}
	for _, host := range slices.Sorted(maps.Keys(op.Drained)) {
		if err := validateHost(host); err != nil {
			return refuse(CodeInvalid, "restore drained hosts: %v", err)
		}
		t.drain(host, true, op.Drained[host])
	}
	t.pauseAll(op.Paused, op.Cause)
	return nil
}

// validateHost checks a host name.
func validateHost(host string) error {
	if !validLabel(host, false) {
		return &FieldError{Field: "host", Reason: fmt.Sprintf("%q is no host name: %s", host, hostRule)}
	}
	return nil
}
