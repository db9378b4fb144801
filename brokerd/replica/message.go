package replica

// Message is what replicas of a group send each other. Epoch is always that of the master
// between whom and a follower it goes; a message that is not of the receiver's highest
// epoch is refused.
type Message interface{ epoch() uint64 }

// Number names one contact. Boot is of the process, so that an answer to a former process
// is never taken for one's own.
type Number struct{ Boot, Count uint64 }

// The messages.
type (
	// Append is the master's: records [From, To), all of epoch Of, and the confirm offset.
	// The records travel behind it. With From = To it is a sign of life.
	Append struct {
		Epoch, Of, From, To, Confirm uint64
	}
	// Contact is a follower's: where does my log part from yours?
	Contact struct {
		Epoch  uint64
		Number Number
		Log    Log
		Cuts   []Range // all that it ever cut
	}
	// Answer is the master's, to a contact: your log is mine up to At; go on from there.
	// With Reset the follower's log does not reach the oldest record of the master's any
	// more, or shares no epoch with it: it is to be discarded, and a new one begins at Base.
	// At is then where what the follower has more begins.
	Answer struct {
		Epoch    uint64
		Number   Number
		At, Base uint64
		Reset    bool
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
