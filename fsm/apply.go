package fsm

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// ErrIndex says that an entry was applied at an index that is not above the
// last one: the log was replayed onto a state that had it already.
var ErrIndex = errors.New("index is not above the last applied one")

// Apply applies one committed entry. An error means that the entry cannot be
// read, or is of a kind or version that this program does not know: nothing was
// changed, and the replica must stop, as to skip it would make it differ from
// the others. Refused ops are in the Result and are no error.
func (s *State) Apply(index uint64, data []byte) (Result, error) {
	entry, err := DecodeEntry(data)
	if err != nil {
		return Result{}, fmt.Errorf("apply entry %d: %w", index, err)
	}
	return s.ApplyEntry(index, entry)
}

// ApplyEntry is Apply after decoding. A leader uses it on a Clone, to see what
// an entry would do before it proposes it.
func (s *State) ApplyEntry(index uint64, e Entry) (Result, error) {
	if index <= s.applied {
		return Result{}, fmt.Errorf("apply entry %d: %w (%d)", index, ErrIndex, s.applied)
	}
	if err := e.check(); err != nil {
		return Result{}, fmt.Errorf("apply entry %d: %w", index, err)
	}
	t := &transition{state: s, index: index, at: e.At, actor: clip(e.Actor, maxActor)}
	results := make([]OpResult, len(e.Ops))
	run := func() *Refusal {
		for i, op := range e.Ops {
			t.kind = op.Kind()
			result, refusal := op.apply(t)
			if refusal != nil {
				result = OpResult{Refusal: refusal}
			}
			results[i] = result
		}
		return nil
	}
	if e.Atomic {
		t.attempt(func() *Refusal {
			run()
			return undo(results)
		})
	} else {
		run()
	}
	s.applied = index
	s.remember(t.changes)
	return Result{Index: index, Ops: results, Changes: t.changes}, nil
}

// undo rewrites the results of an atomic entry that has a refusal, and returns
// that refusal; nil if there is none. All ops have been tried, so that the
// proposer learns of every refusal at once.
func undo(results []OpResult) *Refusal {
	var first *Refusal
	for i, r := range results {
		if r.Refusal != nil {
			first = r.Refusal
			for j := range results {
				if results[j].Refusal == nil {
					results[j] = OpResult{Refusal: refuse(CodeUndone, "op %d of the same entry was refused", i+1)}
				}
			}
			break
		}
	}
	return first
}

// transition is one entry on its way into the state.
type transition struct {
	state *State
	index uint64
	at    int64
	actor string
	kind  string // of the present op

	// granted holds the sets that this entry has granted: a second grant would
	// have the first one's epoch.
	granted map[string]bool
	// mastered holds the broker groups that this entry has granted, for the same reason.
	mastered map[string]bool
	// gone holds the brokers of the sessions that this entry has ended.
	gone map[string]bool
	// claims tells which set has an address. It is built when first needed and
	// then kept up to date by the ops of the entry.
	claims  map[netip.Addr]string
	changes []Change
}

// record adds a row to the audit ring. Index, At, Actor and Kind are filled in.
func (t *transition) record(c Change) {
	c.Index, c.At, c.Actor, c.Kind = t.index, t.at, t.actor, t.kind
	c.Cause = clip(c.Cause, maxCause)
	t.changes = append(t.changes, c)
}

// attempt runs f and puts everything back if f refuses.
func (t *transition) attempt(f func() *Refusal) *Refusal {
	saved, changes := t.state.Clone(), len(t.changes)
	audit := t.state.audit // no op writes to it, so it needs no copy
	refusal := f()
	if refusal != nil {
		*t.state = *saved
		t.state.audit = audit
		t.changes = t.changes[:changes]
		t.claims = nil
	}
	return refusal
}

// owner returns the set that has an address.
func (t *transition) owner(address netip.Addr) (string, bool) {
	if t.claims == nil {
		t.claims = make(map[netip.Addr]string)
		for _, set := range t.state.sets {
			for _, a := range set.Addresses {
				t.claims[a.Addr()] = set.Name
			}
		}
	}
	name, ok := t.claims[address]
	return name, ok
}

// because joins an op's cause with what it did: "maintenance (2 grants freed)".
func because(cause, detail string) string {
	switch {
	case cause == "":
		return detail
	case detail == "":
		return cause
	}
	return clip(cause, maxCause-len(detail)-3) + " (" + detail + ")"
}

// The longest texts that the state keeps, in bytes; longer ones are cut.
const (
	maxActor = 128
	maxCause = 512
)

// clip makes a text fit for the state: valid UTF-8, which is all that the JSON
// of a snapshot can carry, of at most limit bytes.
func clip(text string, limit int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= limit {
		return text
	}
	// Cutting in the middle of a rune leaves a broken tail, which goes too.
	return strings.ToValidUTF8(text[:max(limit, 0)], "")
}
