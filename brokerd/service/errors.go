package service

import "errors"

// A producer must know whether a message may have been stored. So what fails is either
// definite, refused before anything was appended to any log, or indefinite: it may still
// be confirmed later, by the next master too.
var (
	// ErrNotMaster: definite. The replica is not the master of its group, or its lease has
	// passed, or its epoch's start is not confirmed yet.
	ErrNotMaster = errors.New("not the master of the broker group")
	// ErrBusy: definite. A queue or the disk is full.
	ErrBusy = errors.New("too many requests")
	// ErrNoTopic: definite.
	ErrNoTopic = errors.New("no such topic")
	// ErrTooLarge: definite. More than the log takes as one record.
	ErrTooLarge = errors.New("message is too large")

	// ErrUnconfirmed: indefinite. It was appended, and the in-sync set did not confirm it
	// in time, or the lease or the epoch ended first.
	ErrUnconfirmed = errors.New("stored, but not confirmed: outcome unknown")
	// ErrUnsynced: indefinite. It was written, and the master's own disk did not say in
	// time that it is durable.
	ErrUnsynced = errors.New("written, but not durable: outcome unknown")
	// ErrUnanswered: indefinite. Another broker was asked and did not answer.
	ErrUnanswered = errors.New("no answer from the master: outcome unknown")
)

// Definite tells whether an error says that nothing was appended. What is not known is
// not definite.
func Definite(err error) bool {
	for _, e := range []error{ErrNotMaster, ErrBusy, ErrNoTopic, ErrTooLarge} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
