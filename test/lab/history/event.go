// Package history judges what producers and consumers saw: whether each acknowledged
// message was delivered, whether a place in a queue always had one message, and whether
// the order within a queue held. It knows only what clients are told, and shares no code
// with what it judges.
package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// Kind is what an event says.
type Kind string

// The kinds.
const (
	Send     Kind = "send"     // a producer begins to send a message
	Stored   Kind = "stored"   // it was told that the message is stored, and at which offset
	Failed   Kind = "failed"   // it was told that it is not, or that nobody knows
	Received Kind = "received" // a consumer has the message
	Acked    Kind = "acked"    // it was told that the message is settled
	Unacked  Kind = "unacked"  // it was told that it is not, or that nobody knows
)

// Event is one line of a history.
type Event struct {
	At     int64  `json:"at"` // ns since 1970, by the one clock of the recorder
	Kind   Kind   `json:"kind"`
	Client string `json:"client"` // a producer sends one message after the other

	Message string `json:"message"`      // the recorder's name of it, unique in the history
	ID      string `json:"id,omitempty"` // the client library's message id

	Consumers string `json:"consumers,omitempty"` // consumer group
	Topic     string `json:"topic,omitempty"`
	Group     string `json:"group,omitempty"` // broker group that delivered it
	Queue     int32  `json:"queue,omitempty"`
	Offset    int64  `json:"offset,omitempty"` // in the queue
	Attempt   int32  `json:"attempt,omitempty"`

	Definite bool   `json:"definite,omitempty"` // of a failure: every try was surely not stored
	Error    string `json:"error,omitempty"`
}

// Writer writes a history as lines of JSON. It is not safe for concurrent use.
type Writer struct{ encoder *json.Encoder }

// NewWriter returns a writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{json.NewEncoder(w)} }

// Write adds an event.
func (w *Writer) Write(e Event) error {
	if err := w.encoder.Encode(e); err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	return nil
}

// Read judges a history that a Writer has written.
func Read(r io.Reader) (*Judge, error) {
	j := NewJudge()
	return j, Each(r, j.Add)
}

// Each reads a history event by event.
func Each(r io.Reader, f func(Event)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("read history: line %d: %w", n, err)
		}
		f(e)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read history: %w", err)
	}
	return nil
}
