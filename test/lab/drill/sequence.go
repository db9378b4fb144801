package drill

import (
	"math/rand/v2"
	"time"
)

// Target says on which host a fault falls. Who that is shows when it comes.
type Target string

// Targets.
const (
	Holder Target = "holder" // of the attacked set; some host if nobody holds it
	Leader Target = "leader" // whose coordinator leads
	Some   Target = "some"   // by number
)

// Blow is one fault of a sequence.
type Blow struct {
	Fault  string        `json:"fault"`
	Target Target        `json:"target"`
	Number int           `json:"number"` // of the host for Some, and of the other one where the fault is between two
	After  time.Duration `json:"after"`  // from the step's begin
}

// Step is a handful of faults that are in force together, and their end.
type Step struct {
	Blows  []Blow        `json:"blows"`
	Length time.Duration `json:"length"` // from the step's begin until everything is undone
	Pause  time.Duration `json:"pause"`  // from there to the next step
	Settle bool          `json:"settle"` // the cluster may come to rest before the next step
}

// Sequence is an endless sequence of steps, the same for the same seed.
type Sequence struct {
	random *rand.Rand
	names  []string
}

// NewSequence returns the sequence of a seed over the named faults.
func NewSequence(seed uint64, names []string) *Sequence {
	return &Sequence{random: rand.New(rand.NewPCG(seed, 0x486f6c6466617374)), names: names}
}

// Bounds of what a sequence does.
const (
	shortest = 50 * time.Millisecond
	usual    = 4 * time.Second
	longest  = 16 * time.Second
	mostIn   = 3 // faults at a time
)

// Next returns the next step.
func (s *Sequence) Next() Step {
	r := s.random
	step := Step{Length: s.between(shortest, usual), Pause: s.between(0, 1500*time.Millisecond), Settle: r.IntN(3) > 0}
	if r.IntN(20) == 0 {
		step.Length = s.between(usual, longest)
	}
	count := 1
	for count < mostIn && r.IntN(3) == 0 {
		count++
	}
	for i := range count {
		b := Blow{Fault: s.names[r.IntN(len(s.names))], Target: []Target{Holder, Holder, Leader, Some}[r.IntN(4)], Number: r.IntN(1 << 16)}
		if i > 0 {
			b.After = s.between(0, step.Length)
		}
		step.Blows = append(step.Blows, b)
	}
	return step
}

// between draws a length, to the millisecond so that it reads well.
func (s *Sequence) between(from, to time.Duration) time.Duration {
	return from + time.Duration(s.random.Int64N(int64((to-from)/time.Millisecond)+1))*time.Millisecond
}
