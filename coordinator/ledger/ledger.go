// Package ledger joins the two halves of what one coordinator knows: its applied
// state (who may act) and its promises (until when). The rules that need both are
// here. It is pure: no I/O, no goroutine, no lock, no clock.
//
// Comments name the rules of coordinator/lease/DESIGN.md.
package ledger

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"holdfast/coordinator/lease"
	"holdfast/fsm"
)

// Ledger is one coordinator's memory of the sessions: its promises and marks,
// since when it could have heard each of them, and which marks it still needs on
// disk. It is not safe for concurrent use. The applied state that its methods take
// must not be older than the one they were given before.
type Ledger struct {
	// Voter has the promises and marks. What concerns no state is asked there.
	*lease.Voter

	params    lease.Params
	firstSeen map[fsm.SessionID]lease.Time // since when this process could have heard the session
	ended     map[uint64]uint64            // sessions whose end was applied, at which index
	snapshots [2]uint64                    // indexes of the last snapshots on disk: older, newest
}

// New returns the ledger of a coordinator that has just started.
func New(c lease.VoterConfig) *Ledger {
	return &Ledger{
		Voter:     lease.NewVoter(c),
		params:    c.Params,
		firstSeen: make(map[fsm.SessionID]lease.Time),
		ended:     make(map[uint64]uint64),
	}
}

// Clone returns an independent copy, for whoever tries out what could happen.
func (l *Ledger) Clone() *Ledger {
	c := *l
	c.Voter = l.Voter.Clone()
	c.firstSeen, c.ended = maps.Clone(l.firstSeen), maps.Clone(l.ended)
	return &c
}

// LeaseOf is the part of a session that the lease knows.
func LeaseOf(s *fsm.Session) lease.Session {
	return lease.Session{ID: uint64(s.ID), TTL: s.TTL, Secret: s.Secret}
}

// Renewed is what becomes of a renewal. The zero value drops it in silence.
type Renewed struct {
	Answer  lease.Answer
	Secret  *[32]byte // of the session, to sign the answer with
	Send    bool      // the answer may be sent
	Revived bool      // the session had no lease, as far as was known here, and has one now
	Verdict lease.Verdict
	Fence   lease.FenceReport // what the agent says of its fence, for people
}

// Renew takes a renewal as it came, when the clock stood at now or before
// (coordinator rule 1). The session must be open in the applied state (coordinator
// rule 3), and the state must not move on before the answer's promise is made: the
// caller holds it until Renew returns.
func (l *Ledger) Renew(now lease.Time, st *fsm.State, u lease.UnverifiedRenewal) (Renewed, error) {
	s, open := st.Session(fsm.SessionID(u.Session))
	if !open {
		return Renewed{}, nil
	}
	r, err := u.Verify(&s.Secret)
	if err != nil {
		return Renewed{}, err
	}
	return l.RenewVerified(now, st, r), nil
}

// RenewVerified is Renew of a renewal whose MAC was verified.
func (l *Ledger) RenewVerified(now lease.Time, st *fsm.State, r lease.Renewal) Renewed {
	s, open := st.Session(fsm.SessionID(r.Session))
	if !open {
		return Renewed{}
	}
	wasProven, _ := l.Proven(now, r.Session)
	answer, verdict := l.Voter.Renew(now, LeaseOf(s), r)
	out := Renewed{Answer: answer, Secret: &s.Secret, Send: verdict.Send(), Verdict: verdict, Fence: r.Fence}
	if proven, _ := l.Proven(now, r.Session); proven && !wasProven && out.Send {
		out.Revived = true
	}
	return out
}

// Open returns a session if it is open in the applied state. No other session is
// fenced: it was never promised anything here, and its end may have been
// applied, which is when its mark is forgotten.
func Open(st *fsm.State, id uint64) (lease.Session, bool) {
	s, ok := st.Session(fsm.SessionID(id))
	if !ok {
		return lease.Session{}, false
	}
	return LeaseOf(s), true
}

// Met takes in that the state has moved on, at now. It notes since when each open
// session could have been heard here: one that has just been opened, or that this
// process has just learnt of after a restart, is silent for a good reason.
// Promises and marks of sessions whose end is applied leave memory.
func (l *Ledger) Met(now lease.Time, st *fsm.State) {
	for _, s := range st.Sessions() {
		if _, ok := l.firstSeen[s.ID]; !ok {
			l.firstSeen[s.ID] = now
		}
	}
	for id := range l.firstSeen {
		if _, open := st.Session(id); !open {
			delete(l.firstSeen, id)
			l.Forget(uint64(id))
			l.ended[uint64(id)] = st.Applied()
		}
	}
}

// Persisted takes in that a snapshot of the state at index is on disk.
func (l *Ledger) Persisted(index uint64) {
	l.snapshots[0], l.snapshots[1] = l.snapshots[1], index
}

// Unneeded returns those of the marks on disk that may be deleted: their sessions'
// ends are in both snapshots that a restart may go back to. A mark that went
// earlier would be missing when a restarted coordinator sees the session open once
// more.
func (l *Ledger) Unneeded(st *fsm.State, marks []uint64) (done []uint64) {
	covered := l.snapshots[0]
	for _, id := range marks {
		// A session's id is the index of its opening: a snapshot at or behind it
		// that does not have the session has its end.
		_, open := st.Session(fsm.SessionID(id))
		end, known := l.ended[id]
		if !known && !open && id <= st.Applied() {
			end = st.Applied()
			l.ended[id] = end
		}
		if !open && id <= covered && end <= covered {
			done = append(done, id)
		}
	}
	for id, end := range l.ended {
		if end <= covered {
			delete(l.ended, id)
		}
	}
	return done
}

// WantedTTL is the longest TTL that has to be on disk before all open sessions can
// be promised (coordinator rule 4).
func WantedTTL(st *fsm.State, longest time.Duration) time.Duration {
	for _, s := range st.Sessions() {
		longest = max(longest, s.TTL)
	}
	return longest
}

// Silence tells for how long the session may still be silent before this
// coordinator has evidence that its holder may not act any more: no renewal
// that was sent under a lease has come for one promise, and the session has
// been within hearing, and could have won a lease, for as long. A holder that only
// this coordinator hears is silent too. A follower's table is as good as a
// leader's, so an election restarts nothing; a restart does, because
// firstSeen does.
func (l *Ledger) Silence(now lease.Time, s *fsm.Session) (left time.Duration) {
	_, left = l.Proven(now, uint64(s.ID))
	seen, ok := l.firstSeen[s.ID]
	if !ok {
		seen = now
	}
	heard := seen.Add(l.params.Promise(s.TTL)).Sub(now)
	return max(left, heard, 0)
}

// Silent returns the sessions whose silence is evidence now, and after how long,
// at most limit, the next one could be.
func (l *Ledger) Silent(now lease.Time, st *fsm.State, limit time.Duration) (ids []uint64, wait time.Duration) {
	wait = limit
	for _, s := range st.Sessions() {
		left := l.Silence(now, s)
		if left == 0 {
			ids = append(ids, uint64(s.ID))
			continue
		}
		wait = min(wait, left)
	}
	return ids, wait
}

// Live reports whether the session has a lease as far as this coordinator
// knows: within one promise it has answered a renewal that was sent under one. A
// host that is heard here and has no lease can hold nothing, so to give it
// something would only take that from everybody.
func (l *Ledger) Live(now lease.Time, id fsm.SessionID) bool {
	proven, _ := l.Proven(now, uint64(id))
	return proven
}

// Append appends a canonical form of all that can change what the ledger does
// later; see [lease.Voter.Append].
func (l *Ledger) Append(b []byte, now lease.Time, horizon time.Duration) []byte {
	b = l.Voter.Append(b, now, horizon)
	b = binary.AppendUvarint(b, uint64(len(l.firstSeen)))
	var few [8]uint64 // so that the usual case costs no memory
	ids := few[:0]
	for id := range l.firstSeen {
		ids = append(ids, uint64(id))
	}
	slices.Sort(ids)
	for _, id := range ids {
		b = binary.AppendUvarint(b, id)
		b = binary.AppendVarint(b, max(int64(l.firstSeen[fsm.SessionID(id)]-now), -int64(horizon)))
	}
	b = binary.AppendUvarint(b, uint64(len(l.ended)))
	ids = few[:0]
	for id := range l.ended {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		b = binary.AppendUvarint(binary.AppendUvarint(b, id), l.ended[id])
	}
	return binary.AppendUvarint(binary.AppendUvarint(b, l.snapshots[0]), l.snapshots[1])
}
