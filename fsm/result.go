package fsm

import "fmt"

// Result is what one applied entry did.
type Result struct {
	Index   uint64
	Ops     []OpResult // one per op, in order
	Changes []Change   // the rows that it added to the audit ring
}

// OpResult is what one op did.
type OpResult struct {
	Refusal *Refusal  // nil = it was applied, or there was nothing to change
	Session SessionID // of OpenSession: the new session
	Epoch   Epoch     // of GrantSet and GrantGroup: the new epoch
}

// Err returns the first refusal as a *[Refusal], or nil. Ops that were only
// undone for another's sake (CodeUndone) do not count.
func (r Result) Err() error {
	for _, op := range r.Ops {
		if op.Refusal != nil && op.Refusal.Code != CodeUndone {
			return op.Refusal
		}
	}
	return nil
}

// Code says why an op was refused, for programs.
type Code string

// The codes of refusals.
const (
	CodeInvalid     Code = "invalid"      // the op makes no sense in any state
	CodeNotFound    Code = "not-found"    // no such set, group, topic, open session or retiring address
	CodeStale       Code = "stale"        // the op speaks of a grant, claim, in-sync set or configuration that is not the present one
	CodeHeld        Code = "held"         // the set or group is granted already, or the address is not down yet
	CodeConflict    Code = "conflict"     // the address belongs to another set; the sessions are of two hosts; a group's rules forbid it
	CodeUnknownHost Code = "unknown-host" // the host is no candidate, the broker no member, or nobody knows it
	CodeUndone      Code = "undone"       // nothing wrong with it, but its atomic entry had another refusal
)

// Refusal is the typed answer to an op that was not applied. It is a normal
// result: every replica refuses alike and goes on.
type Refusal struct {
	Code    Code
	Message string // for people; names what was found
}

// Error implements error.
func (r *Refusal) Error() string { return string(r.Code) + ": " + r.Message }

// refuse makes a refusal.
func refuse(code Code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}
