package lease

import "time"

// Agreement is one coordinator's word that it takes no part in the session any
// more: its promise had lapsed, its mark is on disk. It is a permanent fact that
// any later leader may use (leader rule 2), but it counts only within the
// configuration that it names.
type Agreement struct {
	Session       uint64
	Coordinator   string
	Configuration uint64
}

// FenceVerdict says what becomes of a request to fence.
type FenceVerdict uint8

const (
	// FenceAgreed: Agreement may be sent.
	FenceAgreed FenceVerdict = iota
	// FencePending: write the mark to disk (fsync), then call MarkDurable.
	// If the write fails, do not: the session is then neither answered nor
	// agreed to until the process restarts and reads what is on disk.
	FencePending
	// RefusedPromise: the promise has not lapsed.
	RefusedPromise
	// RefusedQuiet: the quiet time is not over.
	RefusedQuiet
	// RefusedConfiguration: the configuration wait is not over, or there is
	// no configuration yet.
	RefusedConfiguration
	// RefusedPending: the mark is being written for an earlier request, or
	// that write failed. A write that failed once is not tried again: an
	// fsync that succeeds after one that failed proves nothing.
	RefusedPending
	// RefusedUnknown: MarkDurable of a session that was not pending.
	RefusedUnknown
)

// String is a short lower-case word for logs and metric labels.
func (f FenceVerdict) String() string {
	switch f {
	case FenceAgreed:
		return "agreed"
	case FencePending:
		return "pending"
	case RefusedPromise:
		return "promise"
	case RefusedQuiet:
		return "quiet"
	case RefusedConfiguration:
		return "configuration"
	case RefusedPending:
		return "writing"
	case RefusedUnknown:
		return "unknown"
	}
	return "invalid"
}

// FenceOutcome is the result of Fence and of MarkDurable.
type FenceOutcome struct {
	Verdict   FenceVerdict
	Agreement Agreement     // set if FenceAgreed
	Remaining time.Duration // if refused: until it may be worth asking again; 0 = not known
}

// Probe is the answer to a leader's question before fencing; asking marks nothing.
type Probe struct {
	Lapsed    bool          // an agreement would be possible now
	Marked    bool          // the mark is on disk
	Remaining time.Duration // until Lapsed may become true; 0 = not known, or it is
}

// Fence asks this coordinator to take no more part in a session that is open in
// the caller's applied state. A session that is marked already is agreed to again,
// within the present configuration.
//
// The session's TTL matters beside this coordinator's longest: see
// [Voter.refusal].
func (v *Voter) Fence(now Time, s Session) FenceOutcome {
	if verdict, remaining := v.refusal(now, s); verdict != FenceAgreed {
		return FenceOutcome{Verdict: verdict, Remaining: remaining}
	}
	rec := v.sessions[s.ID]
	if rec == nil {
		rec = &record{}
		v.sessions[s.ID] = rec
	}
	if rec.mark == durable {
		return v.agree(s.ID)
	}
	// Rule 2: first the disk, then the reply. From here until MarkDurable
	// renewals of it are dropped, so that no promise slips in between.
	rec.mark = pending
	return FenceOutcome{Verdict: FencePending}
}

// MarkDurable tells that the mark of a session for which Fence said FencePending
// is on disk. The agreement names the configuration of this moment, so the rules
// are asked again: a configuration that was learnt during the write has its own
// wait. If it is refused for that the mark stands, and a later Fence gives the
// agreement. After Forget it is RefusedUnknown; the caller then deletes the mark.
func (v *Voter) MarkDurable(now Time, s Session) FenceOutcome {
	rec := v.sessions[s.ID]
	if rec == nil || rec.mark == unmarked {
		return FenceOutcome{Verdict: RefusedUnknown}
	}
	rec.mark = durable
	return v.Fence(now, s)
}

// Probe says whether the session could be fenced now.
func (v *Voter) Probe(now Time, s Session) Probe {
	verdict, remaining := v.refusal(now, s)
	rec := v.sessions[s.ID]
	return Probe{
		Lapsed:    verdict == FenceAgreed,
		Marked:    rec != nil && rec.mark == durable,
		Remaining: remaining,
	}
}

// refusal applies coordinator rule 2: it returns FenceAgreed if nothing forbids
// an agreement now, otherwise the condition that lasts longest.
func (v *Voter) refusal(now Time, s Session) (FenceVerdict, time.Duration) {
	if rec := v.sessions[s.ID]; rec != nil && rec.mark == pending {
		return RefusedPending, 0
	}
	if v.configuration.Index == 0 {
		return RefusedConfiguration, 0
	}
	verdict, until := FenceAgreed, now
	if rec := v.sessions[s.ID]; rec != nil && rec.heard && rec.end > until {
		verdict, until = RefusedPromise, rec.end
	}
	if v.quiet > until { // rule 4
		verdict, until = RefusedQuiet, v.quiet
	}
	// Rule 5b: one longest promise after it learnt of the configuration. A
	// deadline that a replaced configuration proved just before can be one
	// that none of those who now agree has answered for (two changes on, the
	// majorities need not meet). It was promised by others, so its length is
	// the session's own TTL, which this coordinator, new or cut off from the
	// agent, may never have promised itself: hence the larger of the two.
	if wait := v.learnt.Add(v.params.Promise(max(v.longest, s.TTL))); wait > until {
		verdict, until = RefusedConfiguration, wait
	}
	return verdict, until.Sub(now)
}

func (v *Voter) agree(session uint64) FenceOutcome {
	return FenceOutcome{
		Verdict: FenceAgreed,
		Agreement: Agreement{
			Session:       session,
			Coordinator:   v.name,
			Configuration: v.configuration.Index,
		},
	}
}

// Tally collects agreements to end one session. It is not safe for concurrent use.
type Tally struct {
	session uint64
	agreed  map[vote]struct{}
}

// vote is a coordinator's agreement within one configuration.
type vote struct {
	coordinator   string
	configuration uint64
}

// NewTally returns an empty tally for the session.
func NewTally(session uint64) *Tally {
	return &Tally{session: session, agreed: make(map[vote]struct{})}
}

// Add counts an agreement; those to end another session are ignored. Agreements of
// several configurations may be added, they are kept apart.
func (t *Tally) Add(a Agreement) {
	if a.Session == t.session {
		t.agreed[vote{a.Coordinator, a.Configuration}] = struct{}{}
	}
}

// Proven says whether the holder's deadline has passed for certain: whether a
// majority of c's voters has agreed within c. c must be the latest configuration in
// the leader's log when it appends the Expire, which names it (leader rule 2).
func (t *Tally) Proven(c Configuration) bool {
	n := 0
	for _, name := range c.Voters {
		if _, ok := t.agreed[vote{name, c.Index}]; ok {
			n++
		}
	}
	return n >= c.Majority()
}
