package pop

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
)

// Limits bounds what plans let a state grow to.
type Limits struct {
	InFlight  int // messages in flight of one consumer group, over all of its queues
	Positions int // positions of the broker group
}

// DefaultLimits are about 15 MB for a consumer group at most.
func DefaultLimits() Limits { return Limits{InFlight: 100_000, Positions: 100_000} }

// State is the consumers' state of one broker group at one offset of its log. It is not
// safe for concurrent use.
type State struct {
	limits    Limits
	groups    map[string]*group
	positions int
}

// New returns the state of an empty log.
func New(l Limits) *State { return &State{limits: l, groups: make(map[string]*group)} }

// place is a queue of a topic.
type place struct {
	topic string
	queue uint32
}

type group struct {
	positions map[place]*position
	inFlight  int
}

// position is how far a consumer group is in a queue.
type position struct {
	next    uint64 // never delivered, like all above
	flights map[uint64]*flight
	visible byVisible // the same, by when they become visible
}

// flight is a message that was delivered and not settled.
type flight struct {
	offset  uint64
	nonce   uint64 // of the receipt handle that is good
	until   int64  // when it becomes visible again, in ms since 1970
	attempt uint32 // how many times it was delivered
	index   int    // in position.visible
}

func (s *State) position(k Key) *position {
	if g := s.groups[k.Group]; g != nil {
		return g.positions[place{k.Topic, k.Queue}]
	}
	return nil
}

// Apply applies the body of a state record. After an error the state is undefined: the
// replica must stop, or start again from a snapshot.
func (s *State) Apply(body []byte) error {
	changes, err := parseBody(body)
	if err != nil {
		return err
	}
	for i := range changes {
		c := &changes[i]
		if c.Drop {
			s.drop(c.Group, c.Topic)
			continue
		}
		if err := s.apply(c); err != nil {
			return fmt.Errorf("apply consumer state record: group %q, topic %q, queue %d: %w", c.Group, c.Topic, c.Queue, err)
		}
	}
	return nil
}

func (s *State) apply(c *change) error {
	g := s.groups[c.Group]
	if g == nil {
		g = &group{positions: make(map[place]*position)}
		s.groups[c.Group] = g
	}
	at := place{c.Topic, c.Queue}
	p := g.positions[at]
	if p == nil {
		p = &position{flights: make(map[uint64]*flight)}
		g.positions[at] = p
		s.positions++
	}
	before := len(p.flights)
	err := p.apply(c)
	g.inFlight += len(p.flights) - before
	return err
}

func (p *position) apply(c *change) error {
	if c.First > 0 {
		p.trim(c.First)
	}
	for _, o := range c.Done {
		f := p.flights[o]
		if f == nil {
			return fmt.Errorf("settle offset %d, which is not in flight: %w", o, ErrConflict)
		}
		p.remove(f)
	}
	for _, k := range c.Claims {
		if err := p.claim(k, c.Until, c.Nonce); err != nil {
			return err
		}
	}
	for _, d := range c.Delays {
		f := p.flights[d.Offset]
		if f == nil || f.nonce != d.Nonce {
			return fmt.Errorf("delay offset %d, which is not in flight under that nonce: %w", d.Offset, ErrConflict)
		}
		f.nonce, f.until = d.NewNonce, d.Until
		p.visible.fix(f)
	}
	switch {
	case c.Next == 0:
	case c.Next < p.next:
		return fmt.Errorf("next offset %d falls back to %d: %w", p.next, c.Next, ErrConflict)
	default:
		p.next = c.Next
	}
	return nil
}

func (p *position) claim(k claim, until int64, nonce uint64) error {
	f := p.flights[k.Offset]
	switch {
	case f != nil && k.Attempt == f.attempt+1:
		f.attempt, f.until, f.nonce = k.Attempt, until, nonce
		p.visible.fix(f)
	case f == nil && k.Offset >= p.next && k.Attempt == 1:
		f = &flight{offset: k.Offset, nonce: nonce, until: until, attempt: 1}
		p.flights[k.Offset] = f
		p.visible.push(f)
		p.next = k.Offset + 1
	default:
		return fmt.Errorf("claim offset %d, attempt %d; next offset is %d: %w", k.Offset, k.Attempt, p.next, ErrConflict)
	}
	return nil
}

// trim forgets what is in flight below an offset.
func (p *position) trim(first uint64) {
	if first > p.next {
		p.next = first
	}
	maps.DeleteFunc(p.flights, func(o uint64, f *flight) bool {
		if o < first {
			p.visible.remove(f)
		}
		return o < first
	})
}

func (p *position) remove(f *flight) {
	delete(p.flights, f.offset)
	p.visible.remove(f)
}

// drop forgets the positions of a group, or of a topic, or of a group in a topic.
func (s *State) drop(name, topic string) {
	for gn, g := range s.groups {
		if name != "" && gn != name {
			continue
		}
		for at, p := range g.positions {
			if topic == "" || at.topic == topic {
				g.inFlight -= len(p.flights)
				s.positions--
				delete(g.positions, at)
			}
		}
		if len(g.positions) == 0 {
			delete(s.groups, gn)
		}
	}
}

// Progress is how far a consumer group is in a queue.
type Progress struct {
	Key
	Settled  uint64 // everything below it is settled
	Next     uint64 // everything from it on was never delivered
	InFlight int
}

// All returns every position in order of group, topic and queue. The state must not be
// changed meanwhile.
func (s *State) All() iter.Seq[Progress] {
	return func(yield func(Progress) bool) {
		for _, name := range slices.Sorted(maps.Keys(s.groups)) {
			g := s.groups[name]
			for _, at := range g.places() {
				p := g.positions[at]
				settled := p.next
				for o := range p.flights {
					settled = min(settled, o)
				}
				if !yield(Progress{Key{name, at.topic, at.queue}, settled, p.next, len(p.flights)}) {
					return
				}
			}
		}
	}
}

func (g *group) places() []place {
	return slices.SortedFunc(maps.Keys(g.positions), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.queue, b.queue))
	})
}

// InFlight returns how many messages a consumer group has in flight.
func (s *State) InFlight(name string) int {
	if g := s.groups[name]; g != nil {
		return g.inFlight
	}
	return 0
}
