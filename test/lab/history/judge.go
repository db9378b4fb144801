package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Judge takes the events of a history one by one, in the order of their times.
type Judge struct {
	sends  map[string]*sent  // by message
	order  []*sent           // as they began
	places map[place]string  // message of each
	given  map[delivery]int  // how often
	settle map[delivery]bool // acknowledged
	newest map[reader]int64  // last first delivery
	groups map[string]bool   // consumer groups
	stored []int64           // times
	report Report
}

// sent is what is known of a message.
type sent struct {
	Event
	stored, failed, definite bool
	storedAt                 int64
	offset                   int64
	places                   []place
}

// place is where a message is stored.
type place struct {
	topic, group string
	queue        int32
	offset       int64
}

func (p place) String() string {
	return fmt.Sprintf("offset %d of queue %d of topic %s in group %s", p.offset, p.queue, p.topic, p.group)
}

// delivery is a place for a consumer group.
type delivery struct {
	consumers string
	place     place
}

// reader is a consumer at a queue.
type reader struct {
	consumers, client, topic, group string
	queue                           int32
}

// Report is a judgement. The history is clean if Violations is empty.
type Report struct {
	Sent           int // messages
	Stored         int // acknowledged to their producer
	Indefinite     int // failed, and may be stored
	Definite       int // failed, and not stored
	Delivered      int // messages that some consumer has
	Lost           int // stored and not delivered to each consumer group
	StoredTwice    int // messages in more than one place, as after a retry
	DeliveredAgain int // deliveries of a place beyond the first
	AfterAck       int // of these, behind its acknowledgement

	LongestGap time.Duration // between two acknowledgements of sends
	GapAt      int64         // when it began

	Violations []Violation
}

// Violation is something that must not happen.
type Violation struct {
	Rule string // one of the Rule constants
	Text string
}

// The rules.
const (
	RuleDelivered = "an acknowledged message is delivered"
	RulePlace     = "a place has one message"
	RuleOrder     = "the order within a queue holds"
	RuleOffset    = "a producer is told the offset at which the message is"
	RuleDefinite  = "what failed for certain is not there"
	RuleKnown     = "only what was sent is received"
	RuleHistory   = "the history makes sense"
)

// maxViolations bounds how many of each rule are kept.
const maxViolations = 20

// NewJudge returns a judge that has seen nothing.
func NewJudge() *Judge {
	return &Judge{sends: map[string]*sent{}, places: map[place]string{}, given: map[delivery]int{},
		settle: map[delivery]bool{}, newest: map[reader]int64{}, groups: map[string]bool{}}
}

func (j *Judge) against(rule, format string, args ...any) {
	n := 0
	for _, v := range j.report.Violations {
		if v.Rule == rule {
			n++
		}
	}
	if n < maxViolations {
		j.report.Violations = append(j.report.Violations, Violation{rule, fmt.Sprintf(format, args...)})
	}
}

// Add takes the next event.
func (j *Judge) Add(e Event) {
	if e.Kind == Send {
		if j.sends[e.Message] != nil {
			j.against(RuleHistory, "message %s is sent twice by its recorder", e.Message)
			return
		}
		s := &sent{Event: e}
		j.sends[e.Message] = s
		j.order = append(j.order, s)
		return
	}
	s := j.sends[e.Message]
	if s == nil {
		j.against(RuleKnown, "%s of message %q, which nobody sent", e.Kind, e.Message)
		return
	}
	at := place{e.Topic, e.Group, e.Queue, e.Offset}
	switch e.Kind {
	case Stored:
		s.stored, s.storedAt, s.offset = true, e.At, e.Offset
		j.stored = append(j.stored, e.At)
	case Failed:
		s.failed, s.definite = true, e.Definite
	case Received:
		j.received(s, e, at)
	case Acked:
		j.settle[delivery{e.Consumers, at}] = true
	case Unacked:
	default:
		j.against(RuleHistory, "event of unknown kind %q", e.Kind)
	}
}

func (j *Judge) received(s *sent, e Event, at place) {
	j.groups[e.Consumers] = true
	if other, ok := j.places[at]; ok && other != e.Message {
		j.against(RulePlace, "%s had message %s, and then %s", at, other, e.Message)
	}
	j.places[at] = e.Message
	if !slices.Contains(s.places, at) {
		s.places = append(s.places, at)
	}
	d := delivery{e.Consumers, at}
	j.given[d]++
	if j.given[d] > 1 {
		j.report.DeliveredAgain++
		if j.settle[d] {
			j.report.AfterAck++
		}
		return
	}
	// What a consumer is given for the first time is given in the queue's order. A later
	// attempt is of something whose first delivery did not arrive.
	if e.Attempt != 1 {
		return
	}
	r := reader{e.Consumers, e.Client, e.Topic, e.Group, e.Queue}
	if last, ok := j.newest[r]; ok && last > e.Offset {
		j.against(RuleOrder, "%s of group %s was given %s after offset %d", e.Client, e.Consumers, at, last)
	}
	j.newest[r] = max(j.newest[r], e.Offset)
}

// Report returns the judgement of all events so far, as if no more came.
func (j *Judge) Report() Report {
	r := j.report
	kept := j.report.Violations
	defer func() { j.report.Violations = kept }()
	for _, s := range j.order {
		r.Sent++
		switch {
		case s.stored:
			r.Stored++
			j.judgeStored(&r, s)
		case s.definite:
			r.Definite++
			if len(s.places) > 0 {
				j.against(RuleDefinite, "message %s was refused for certain, and is at %s", s.Message, s.places[0])
			}
		default:
			r.Indefinite++
		}
		if len(s.places) > 0 {
			r.Delivered++
		}
		if len(s.places) > 1 {
			r.StoredTwice++
		}
	}
	j.producers()
	slices.Sort(j.stored)
	for i := 1; i < len(j.stored); i++ {
		if gap := time.Duration(j.stored[i] - j.stored[i-1]); gap > r.LongestGap {
			r.LongestGap, r.GapAt = gap, j.stored[i-1]
		}
	}
	r.Violations = slices.Clone(j.report.Violations)
	return r
}

// judgeStored: a stored message has reached every consumer group, and is where the
// producer was told.
func (j *Judge) judgeStored(r *Report, s *sent) {
	missing := ""
	for group := range j.groups {
		if !slices.ContainsFunc(s.places, func(p place) bool { return j.given[delivery{group, p}] > 0 }) && group > missing {
			missing = group
		}
	}
	if missing != "" || len(j.groups) == 0 {
		r.Lost++
		j.against(RuleDelivered, "message %s, stored at offset %d, did not reach group %q", s.Message, s.offset, missing)
		return
	}
	if !slices.ContainsFunc(s.places, func(p place) bool { return p.offset == s.offset }) {
		j.against(RuleOffset, "message %s is at %s, its producer was told %d", s.Message, s.places[0], s.offset)
	}
}

// producers: what a producer sent after it was told that another message is stored is
// behind that one if they are in one queue.
func (j *Judge) producers() {
	type line struct {
		client, topic, group string
		queue                int32
	}
	last := map[line]*sent{}
	for _, s := range slices.SortedStableFunc(slices.Values(j.order), func(a, b *sent) int { return cmp.Compare(a.At, b.At) }) {
		var own []place
		for _, p := range s.places {
			if p.offset == s.offset {
				own = append(own, p)
			}
		}
		if !s.stored || len(own) != 1 {
			continue // which of its places it was told of is not known
		}
		at := line{s.Client, own[0].topic, own[0].group, own[0].queue}
		if before := last[at]; before != nil && before.storedAt <= s.At && before.offset >= s.offset {
			j.against(RuleOrder, "message %s is at %s, and message %s, which was stored before it was sent, at offset %d",
				s.Message, own[0], before.Message, before.offset)
		}
		last[at] = s
	}
}

// String says it in a few lines.
func (r Report) String() string {
	text := fmt.Sprintf("%d sent: %d stored, %d refused, %d unknown; %d delivered, %d lost, %d stored twice, %d deliveries again (%d after the acknowledgement); longest gap %v",
		r.Sent, r.Stored, r.Definite, r.Indefinite, r.Delivered, r.Lost, r.StoredTwice, r.DeliveredAgain, r.AfterAck, r.LongestGap)
	for _, v := range r.Violations {
		text += fmt.Sprintf("\n%s: %s", v.Rule, v.Text)
	}
	return text
}
