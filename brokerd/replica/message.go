package replica

// Message is what replicas of a group send each other. Epoch is always that of the master
// between whom and a follower it goes.
type Message interface{ epoch() uint64 }

// Number names one contact. Boot is of the process, so that an answer to a former process
// is never taken for one's own.
type Number struct{ Boot, Count uint64 }

// The messages.
type (
	// Append is the master's: records [From, To), all of epoch Of, and the confirm offset.
	// With From = To it is a sign of life.
	Append struct {
		Epoch, Of, From, To, Confirm uint64
	}
	// Contact is a follower's: where does my log part from yours?
	Contact struct {
		Epoch   uint64
		Number  Number
		History History
		End     uint64
	}
	// Answer is the master's, to a contact: your log is mine up to At.
	Answer struct {
		Epoch  uint64
		Number Number
		At     uint64
	}
	// Ack is a follower's: this much of your log is durable here.
	Ack struct {
		Epoch, Incarnation, End uint64
	}
	// Refusal is a follower's, to a master of an older epoch.
	Refusal struct{ Epoch uint64 }
)

func (m Append) epoch() uint64  { return m.Epoch }
func (m Contact) epoch() uint64 { return m.Epoch }
func (m Answer) epoch() uint64  { return m.Epoch }
func (m Ack) epoch() uint64     { return m.Epoch }
func (m Refusal) epoch() uint64 { return m.Epoch }

// Act is something that the owner must do, in the order of the acts. If it fails, the
// process ends.
type Act interface{ act() }

// The acts.
type (
	// Store writes the state file and syncs it.
	Store struct{ Saved Saved }
	// SyncLog syncs the log up to its end.
	SyncLog struct{}
	// CutLog moves the records from At on into a file of their own and syncs it, notes
	// Ranges as cut, then truncates the log and syncs that.
	CutLog struct {
		At     uint64
		Ranges []Range
	}
	// Begin appends the record that starts an epoch.
	Begin struct{ Epoch, Offset uint64 }
	// Take appends records [From, To) of the Append that is being received.
	Take struct{ Of, From, To uint64 }
	// Send sends a message.
	Send struct {
		To      string
		Message Message
	}
	// Propose proposes a command to the quorum. It may be lost, and may come late.
	Propose struct{ Command Command }
)

func (Store) act()   {}
func (SyncLog) act() {}
func (CutLog) act()  {}
func (Begin) act()   {}
func (Take) act()    {}
func (Send) act()    {}
func (Propose) act() {}
