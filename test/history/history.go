// Package history judges what clients of a broker group saw: a list of events, as
// test/rmq/load writes them, one JSON object per line. It is pure: it knows the clients'
// words alone, and none of ours.
package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"holdfast/brokerd/pop"
)

// Kind is what happened.
type Kind string

// The kinds.
const (
	Sent    Kind = "sent"    // a producer is about to send
	Acked   Kind = "acked"   // it was told that the message is stored
	Failed  Kind = "failed"  // it was told something else: the message may be stored or not
	Got     Kind = "got"     // a consumer was given the message
	Settled Kind = "settled" // its acknowledgement was taken
)

// Event is one of them.
type Event struct {
	At       int64  `json:"at"`                 // ns since the history's begin
	Kind     Kind   `json:"kind"`               //
	Message  string `json:"message"`            // its producer's name for it, unique
	Handle   string `json:"handle,omitempty"`   // got: the receipt, which names the place
	Attempt  int32  `json:"attempt,omitempty"`  // got: 1 for the first delivery
	Consumer int    `json:"consumer,omitempty"` // got: which one
	Error    string `json:"error,omitempty"`    // failed
}

// Read reads a history. One line that is no event is an error that names it.
func Read(r io.Reader) ([]Event, error) {
	var out []Event
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for n := 1; s.Scan(); n++ {
		var e Event
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("read history: line %d: %w", n, err)
		}
		out = append(out, e)
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	return out, nil
}

// Verdict is what a history comes to.
type Verdict struct {
	Sent, Acked, Failed, Got int
	Twice                    int      // messages that were delivered more than once: allowed
	Lost                     []string // acknowledged, and delivered to nobody
	Wrong                    []string // what must never be, in words
	// Gap is the longest time between two acknowledgements, in ns, and GapAt when it began.
	Gap, GapAt int64
}

// Fine says whether nothing is wrong.
func (v *Verdict) Fine() bool { return len(v.Lost) == 0 && len(v.Wrong) == 0 }

// place is where a message lies.
type place struct {
	group, topic string
	queue        uint32
	offset       uint64
}

// view is what one consumer sees of a queue.
type view struct {
	consumer     int
	group, topic string
	queue        uint32
}

// Judge judges a history of which the consumers were one consumer group, each with one
// request at a time, and went on until nothing more came.
func Judge(events []Event) Verdict {
	j := judge{sent: map[string]bool{}, acked: map[string]bool{}, got: map[string]int{}, at: map[place]string{}, once: map[place]bool{}, last: map[view]uint64{}, first: map[view]bool{}}
	for _, e := range events {
		j.event(e)
	}
	for _, id := range j.ids {
		if j.got[id] == 0 {
			j.Lost = append(j.Lost, id)
		}
	}
	for _, n := range j.got {
		if n > 1 {
			j.Twice++
		}
	}
	return j.Verdict
}

type judge struct {
	Verdict
	sent, acked  map[string]bool
	ids          []string // acknowledged, in that order
	got          map[string]int
	at           map[place]string
	once         map[place]bool // it had its first delivery
	last         map[view]uint64
	first        map[view]bool // last is set
	acknowledged int64
}

func (j *judge) wrong(format string, args ...any) {
	j.Wrong = append(j.Wrong, fmt.Sprintf(format, args...))
}

func (j *judge) event(e Event) {
	switch e.Kind {
	case Sent:
		j.Sent++
		if j.sent[e.Message] {
			j.wrong("message %s was sent twice by its producer: the history itself is wrong", e.Message)
		}
		j.sent[e.Message] = true
	case Acked:
		j.Acked++
		if !j.sent[e.Message] {
			j.wrong("message %s was acknowledged and never sent", e.Message)
		}
		j.acked[e.Message] = true
		j.ids = append(j.ids, e.Message)
		if d := e.At - j.acknowledged; j.acknowledged != 0 && d > j.Gap {
			j.Gap, j.GapAt = d, j.acknowledged
		}
		j.acknowledged = e.At
	case Failed:
		j.Failed++
	case Got:
		j.Got++
		j.delivered(e)
	case Settled:
	default:
		j.wrong("event of kind %q", e.Kind)
	}
}

func (j *judge) delivered(e Event) {
	if !j.sent[e.Message] {
		j.wrong("message %s was delivered and never sent", e.Message)
	}
	j.got[e.Message]++
	h, err := pop.ParseHandle(e.Handle)
	if err != nil {
		j.wrong("message %s has a receipt that cannot be read: %v", e.Message, err)
		return
	}
	p := place{h.BrokerGroup, h.Topic, h.Queue, h.Offset}
	if other, ok := j.at[p]; ok && other != e.Message {
		j.wrong("place %d of queue %s/%s/%d had message %s and has message %s", p.offset, p.group, p.topic, p.queue, other, e.Message)
	}
	j.at[p] = e.Message
	if e.Attempt != 1 {
		return
	}
	if j.once[p] {
		j.wrong("place %d of queue %s/%s/%d was delivered for the first time twice", p.offset, p.group, p.topic, p.queue)
	}
	j.once[p] = true
	// To one consumer first deliveries come in the queue's order.
	q := view{e.Consumer, h.BrokerGroup, h.Topic, h.Queue}
	if j.first[q] && h.Offset < j.last[q] {
		j.wrong("first delivery of place %d of queue %s/%s/%d came after that of place %d", p.offset, p.group, p.topic, p.queue, j.last[q])
	}
	j.first[q], j.last[q] = true, h.Offset
}

// String says it in a few lines.
func (v *Verdict) String() string {
	s := fmt.Sprintf("%d sent, %d acknowledged, %d errors, %d deliveries, %d messages more than once, %d lost, longest time without an acknowledgement %d ms",
		v.Sent, v.Acked, v.Failed, v.Got, v.Twice, len(v.Lost), v.Gap/1e6)
	for _, w := range slices.Concat(v.Lost[:min(len(v.Lost), 5)], v.Wrong[:min(len(v.Wrong), 10)]) {
		s += "\n  " + w
	}
	return s
}
