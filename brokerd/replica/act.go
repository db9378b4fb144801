package replica

import "holdfast/fsm/group"

// Act is something that the owner must do, in the order of the acts, and before it calls
// the replica again. If it fails, the process ends. It is done when the call that
// performs it has returned, but for Send and Propose, which may be lost and come late.
type Act interface{ act() }

// The acts.
type (
	// Store writes the state file and syncs it.
	Store struct{ Saved Saved }
	// SyncLog syncs the log up to its end, whatever the flush mode.
	SyncLog struct{}
	// CutLog copies the records from At on to a file of their own, syncs it, notes Ranges
	// as cut and syncs that; then it truncates the log to At and syncs it. A crash in between
	// leaves at most a tail that is noted as cut and still there: the next contact
	// cuts it again, and a range counts once.
	CutLog struct {
		At     uint64
		Ranges []Range
	}
	// Discard does as CutLog does, with the whole log: it begins anew, empty, at offset 0.
	Discard struct{ Ranges []Range }
	// Rebase lets the empty log begin at an offset.
	Rebase struct{ At uint64 }
	// Begin appends the record that starts an epoch, of the size that Lead was given.
	Begin struct{ Epoch, Offset uint64 }
	// Take appends records [From, To) of the Append that is being received. From is at or
	// behind the message's own From: what lies before is in the log already.
	Take struct{ Of, From, To uint64 }
	// Send sends a message.
	Send struct {
		To      string
		Message Message
	}
	// Propose proposes a command to the quorum.
	Propose struct{ Command group.Command }
)

func (Store) act()   {}
func (SyncLog) act() {}
func (CutLog) act()  {}
func (Discard) act() {}
func (Rebase) act()  {}
func (Begin) act()   {}
func (Take) act()    {}
func (Send) act()    {}
func (Propose) act() {}
