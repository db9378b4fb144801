package lease

import (
	"slices"
	"time"
)

// Voter is a coordinator's half of the lease: its promises, its marks, its quiet
// time and its configuration. There is one per coordinator process, and it is not
// safe for concurrent use. What must outlive the process (the marks and the
// longest TTL) is the caller's to write; the comments say when.
//
// Every now must have been read after whatever it stands for: after the renewal
// was received, after the configuration was learnt. One that was read before is
// unsafe, one that is handed in a little late or out of order is not.
type Voter struct {
	name    string
	params  Params
	quiet   Time          // no agreement before it (coordinator rule 4)
	longest time.Duration // longest TTL ever promised, as on disk

	configuration Configuration // latest in the log; Index 0 = none yet
	learnt        Time          // when it was learnt
	applied       uint64        // everything up to it is applied

	sessions map[uint64]*record
}

// record is what a voter remembers of one session. The promise is memory only.
type record struct {
	end     Time // of the promise; never moves backwards
	renewed Time // when the last renewal was answered
	proven  Time // end of the promise for the last one that said it is proven
	round   Round
	heard   bool // end, renewed and round are set
	mark    mark
}

type mark uint8

const (
	unmarked mark = iota
	pending       // being written to disk, or that write failed
	durable
)

// VoterConfig says how a coordinator starts.
type VoterConfig struct {
	Name   string // at most [MaxName] bytes
	Params Params
	// Start is the clock as read after the lock of the data directory was
	// taken (coordinator rule 4): before that an older process may still promise.
	Start Time
	// LongestTTL is the longest TTL that was ever promised from this data
	// directory, 0 = none.
	LongestTTL time.Duration
	Marks      []uint64 // sessions that are marked on disk (coordinator rule 2)
}

// NewVoter returns a coordinator that has just started: it remembers no promise,
// and so it is quiet for as long as its longest one can last. It knows no
// configuration, so it answers nothing before [Voter.SetConfiguration].
func NewVoter(c VoterConfig) *Voter {
	v := &Voter{
		name:     c.Name,
		params:   c.Params,
		quiet:    c.Start.Add(c.Params.Promise(c.LongestTTL)),
		longest:  c.LongestTTL,
		learnt:   c.Start,
		sessions: make(map[uint64]*record),
	}
	for _, id := range c.Marks {
		v.sessions[id] = &record{mark: durable}
	}
	return v
}

// SetConfiguration tells the latest configuration in the log, committed or not,
// also when the log was cut back to an older one; now is read afterwards. Any
// change starts the configuration wait (coordinator rule 5b), the first one after
// the start too. Telling the same one again changes nothing.
func (v *Voter) SetConfiguration(now Time, c Configuration) {
	// Two leaders can put different configurations at one index, of which
	// only one is ever committed: so all of it is compared.
	if v.configuration.equal(c) {
		return
	}
	c.Voters = slices.Clone(c.Voters)
	v.configuration = c
	v.learnt = max(v.learnt, now)
}

// Configuration returns the latest configuration that was told; its Index is 0
// before the first. The caller must not change it.
func (v *Voter) Configuration() Configuration { return v.configuration }

// SetApplied tells that everything up to index is applied.
func (v *Voter) SetApplied(index uint64) { v.applied = max(v.applied, index) }

// LongestTTL is the longest TTL that may be promised.
func (v *Voter) LongestTTL() time.Duration { return v.longest }

// RaiseLongestTTL allows promises for ttl. Call it after ttl is on disk as the
// longest one (coordinator rule 4: raised before the first such promise).
func (v *Voter) RaiseLongestTTL(ttl time.Duration) { v.longest = max(v.longest, ttl) }

// QuietUntil is the end of the quiet time.
func (v *Voter) QuietUntil() Time { return v.quiet }

// Verdict says what becomes of a renewal. Everything but Answered, Repeated and
// FencedAnswer is dropped in silence.
type Verdict uint8

const (
	// Answered: a promise is recorded; send the answer.
	Answered Verdict = iota
	// Repeated: the newest round has come again; send the answer again. The
	// promise stays as it is.
	Repeated
	// FencedAnswer: the session is marked; send the answer, which says so.
	FencedAnswer
	// DropConfiguration: it names another configuration than the latest one
	// in this coordinator's log, or there is none yet.
	DropConfiguration
	// DropBehind: the previous configuration is not applied yet.
	DropBehind
	// DropReplay: a newer round was answered before.
	DropReplay
	// DropPending: the session's mark is being written.
	DropPending
	// DropTTL: write the session's TTL to disk as the longest one, then call
	// RaiseLongestTTL; the next round will be answered.
	DropTTL
	// DropSession: the renewal is of another session than the one given.
	DropSession
)

// Send says whether there is an answer to send.
func (d Verdict) Send() bool { return d <= FencedAnswer }

// String is a short lower-case word for logs and metric labels.
func (d Verdict) String() string {
	switch d {
	case Answered:
		return "answered"
	case Repeated:
		return "repeated"
	case FencedAnswer:
		return "fenced"
	case DropConfiguration:
		return "configuration"
	case DropBehind:
		return "behind"
	case DropReplay:
		return "replay"
	case DropPending:
		return "pending"
	case DropTTL:
		return "ttl"
	case DropSession:
		return "session"
	}
	return "unknown"
}

// Renew handles a verified renewal of a session that is open in the caller's
// applied state (coordinator rule 3; the caller looks it up). now is read after
// the datagram was received (coordinator rule 1). The answer may be sent, with no
// condition, once Renew has returned: the promise is then recorded.
//
// Quiet time does not matter here: it forbids agreeing, not answering.
func (v *Voter) Renew(now Time, s Session, r Renewal) (Answer, Verdict) {
	if r.Session != s.ID {
		return Answer{}, DropSession
	}
	rec := v.sessions[s.ID]
	if rec != nil && rec.mark != unmarked {
		return v.renewMarked(rec, r)
	}
	// Rule 5a: it answers only for the latest configuration in its log. A
	// configuration that has been replaced must run dry, or its majority
	// would go on proving deadlines that nobody who fences knows of.
	if v.configuration.Index == 0 || r.Configuration != v.configuration.Index {
		return Answer{}, DropConfiguration
	}
	// Rule 5a: and only when it has applied everything up to the previous
	// one. Until then a session that was ended under an older configuration
	// may look open to a coordinator that was no member of it.
	if v.applied < v.configuration.Previous {
		return Answer{}, DropBehind
	}
	// Rule 4: the quiet time of the next start must cover this promise.
	if s.TTL > v.longest {
		return Answer{}, DropTTL
	}
	if rec == nil {
		rec = &record{}
		v.sessions[s.ID] = rec
	}
	// A round that is not newer proves no life: a copy that somebody sends
	// again later must not keep a dead holder's promise alive. The newest one is
	// answered again, for the answer may have been lost: what was promised for
	// it still covers its send time, and nothing is promised anew.
	if rec.heard && r.Round == rec.round {
		return v.answer(r, false), Repeated
	}
	if rec.heard && !r.Round.Newer(rec.round) {
		return Answer{}, DropReplay
	}
	// Rule 1: the promise, which never moves backwards, then the answer.
	end, proven := now.Add(v.params.Promise(s.TTL)), rec.proven
	if rec.heard {
		end, now = max(end, rec.end), max(now, rec.renewed)
	}
	if r.Proven {
		proven = end
	}
	*rec = record{end: end, renewed: now, proven: proven, round: r.Round, heard: true}
	return v.answer(r, false), Answered
}

// renewMarked answers a renewal of a session that is marked here.
//
// Rule 2: Fenced, for ever, and for a renewal that names any configuration and
// any round, also before the previous configuration is applied. Rule 5a guards
// what an answer promises; Fenced promises nothing, gives no deadline, and reports
// a fact that no configuration can undo. Asking for a match would only keep
// an agent whose view is behind from learning that it needs a new session.
//
// While the mark is being written there is nothing true to say: a promise could
// not be kept if the write succeeds, and Fenced could be forgotten if it fails.
func (v *Voter) renewMarked(rec *record, r Renewal) (Answer, Verdict) {
	if rec.mark == pending {
		return Answer{}, DropPending
	}
	return v.answer(r, true), FencedAnswer
}

func (v *Voter) answer(r Renewal, fenced bool) Answer {
	return Answer{
		Session:       r.Session,
		Round:         r.Round,
		Configuration: r.Configuration,
		Coordinator:   v.name,
		Fenced:        fenced,
	}
}

// Lapsed says whether this coordinator's own promise to the session has lapsed,
// and if not, how long it lasts. A session of which nothing was heard has lapsed:
// this is evidence for a probe (leader rule 1), never a reason to end anything.
func (v *Voter) Lapsed(now Time, session uint64) (lapsed bool, remaining time.Duration) {
	rec := v.sessions[session]
	if rec == nil || !rec.heard || now >= rec.end {
		return true, 0
	}
	return false, rec.end.Sub(now)
}

// Proven says whether a renewal that was sent under a lease has been answered here
// within one promise, and if so how long that lasts, which is never longer than
// the promise. A session whose promise goes on without it is heard here, and by too few
// others, or does not hear them: its holder may not act. This is evidence for
// a probe and for who can be of use (leader rule 1), never a reason to end
// anything.
func (v *Voter) Proven(now Time, session uint64) (proven bool, remaining time.Duration) {
	rec := v.sessions[session]
	if rec == nil || now >= rec.proven {
		return false, 0
	}
	return true, rec.proven.Sub(now)
}

// LastRenewal is when a renewal of the session was last answered with a promise.
func (v *Voter) LastRenewal(session uint64) (Time, bool) {
	rec := v.sessions[session]
	if rec == nil || !rec.heard {
		return 0, false
	}
	return rec.renewed, true
}

// Forget drops the promise to a session and its mark from memory. Call it after the
// session's end has been applied, not before (coordinator rule 2): from then on rule 3
// keeps it from being answered.
//
// The mark on disk is the caller's to delete, and later: only once a snapshot with
// the session's end is on disk. Until then a restart goes back to an applied state
// in which the session is still open, and with the mark gone it would be answered.
func (v *Voter) Forget(session uint64) { delete(v.sessions, session) }
