package pop

import "fmt"

// Request is what a consumer asks for. All times are in ms since 1970 (UTC), by the
// master's clock.
type Request struct {
	Group, Topic string
	Queues       []Window // in the order in which they are asked
	Filter       Filter
	Max          int // messages, at least 1
	MaxBytes     int // of all bodies together, but for the first message; 0: no bound

	Now   int64
	Until int64  // when what is delivered becomes visible again
	Nonce uint64 // random; of the receipt handles

	MaxAttempts uint32 // deliveries of a message before it is dead; 0: no bound
	FromEnd     bool   // a new position begins at the queue's end, and not at its first message

	// Peek returns what is to be known of a message within a queue's window. An error
	// ends the plan.
	Peek func(queue uint32, offset uint64) (Message, error)
}

// Window is what can be read of a queue: messages from First on, below End.
type Window struct {
	Queue      uint32
	First, End uint64
}

// Message is what a plan needs to know of a message.
type Message struct {
	Tag  string
	Size int // of its body in bytes
}

// Plan is what a master may do for a request.
type Plan struct {
	Body       []byte     // to be appended to the log and applied; nil if nothing changes
	Deliveries []Delivery // for the consumer, once the body's record is confirmed
	Dead       []Delivery // delivered too often: to be appended to the dead letter topic before the body
	More       bool       // the plan came to a bound of its own: ask again at once
	Wake       int64      // if nothing is delivered: when a message becomes visible again; 0: none is in flight
}

// Delivery is a message that is given to a consumer.
type Delivery struct {
	Queue   uint32
	Offset  uint64
	Attempt uint32 // 1 for the first time
}

const (
	maxScan = 4096 // messages that one plan looks at
	// minSkip is how many messages that the filter passes over are worth a record if
	// nothing else is. Fewer are looked at again next time.
	minSkip = 64
)

// Receive plans a delivery: first what has become visible again, the longest visible
// first, then what was never delivered, in the queue's order.
func (s *State) Receive(r *Request) (Plan, error) {
	b := receipt{s: s, r: r, scan: maxScan, free: s.limits.InFlight - s.InFlight(r.Group)}
	for _, w := range r.Queues {
		if err := b.queue(w); err != nil {
			return Plan{}, fmt.Errorf("plan delivery to group %q of topic %q, queue %d: %w", r.Group, r.Topic, w.Queue, err)
		}
	}
	if s.positions+b.created > s.limits.Positions {
		return Plan{}, fmt.Errorf("plan delivery to group %q of topic %q: %d positions: %w", r.Group, r.Topic, s.positions, ErrTooMany)
	}
	b.plan.Body = appendBody(b.changes)
	return b.plan, nil
}

// receipt is a plan in the making.
type receipt struct {
	s       *State
	r       *Request
	plan    Plan
	changes []change
	bytes   int // of the deliveries' bodies
	scan    int // messages that may still be looked at
	free    int // messages that the group may still have in flight
	created int // positions
}

// room tells whether a message of that size may be added.
func (b *receipt) room(size int) bool {
	n := len(b.plan.Deliveries)
	return n < b.r.Max && (n == 0 || b.r.MaxBytes == 0 || b.bytes+size <= b.r.MaxBytes)
}

func (b *receipt) queue(w Window) error {
	c := change{Key: Key{b.r.Group, b.r.Topic, w.Queue}, Until: b.r.Until, Nonce: b.r.Nonce}
	if wrong := c.check(); wrong != "" {
		return fmt.Errorf("%s: %w", wrong, ErrInvalid)
	}
	p := b.s.position(c.Key)
	worth := p == nil
	if p == nil {
		b.created++
		p = &position{}
		if c.Next = w.First; b.r.FromEnd {
			c.Next = w.End
		}
	}
	next := max(p.next, c.Next)
	if next < w.First {
		c.First, next, worth = w.First, w.First, true
	}
	all, err := b.again(p, w, &c)
	if err != nil {
		return err
	}
	skipped, err := b.fresh(w, &c, next)
	if err != nil {
		return err
	}
	b.plan.More = b.plan.More || !all && b.room(0)
	if until, ok := p.visible.next(); ok && (b.plan.Wake == 0 || until < b.plan.Wake) {
		b.plan.Wake = until
	}
	if worth || c.First > 0 || skipped >= minSkip || len(c.Claims)+len(c.Done) > 0 {
		b.changes = append(b.changes, c)
	}
	return nil
}

// again plans what is in flight and visible again, and tells whether it looked at all of
// it that it has room for.
func (b *receipt) again(p *position, w Window, c *change) (all bool, err error) {
	bound := min(b.scan, 2*b.r.Max)
	visible := p.visible.first(bound, b.r.Now)
	for _, f := range visible {
		if f.offset < w.First {
			c.First = w.First
			continue
		}
		m, err := b.peek(w.Queue, f.offset)
		if err != nil {
			return false, err
		}
		d := Delivery{w.Queue, f.offset, f.attempt + 1}
		switch {
		case !b.r.Filter.Match(m.Tag):
			c.Done = append(c.Done, f.offset)
		case b.r.MaxAttempts > 0 && f.attempt >= b.r.MaxAttempts:
			c.Done = append(c.Done, f.offset)
			b.plan.Dead = append(b.plan.Dead, Delivery{w.Queue, f.offset, f.attempt})
		case b.room(m.Size):
			b.deliver(c, d, m)
		default:
			return true, nil
		}
	}
	return len(visible) < bound, nil
}

// fresh plans what was never delivered, and returns how many messages it passed over
// behind the last that it delivers.
func (b *receipt) fresh(w Window, c *change, next uint64) (skipped int, err error) {
	fresh := false
	for ; next < w.End && b.room(0) && b.free > 0; next++ {
		if b.scan == 0 {
			b.plan.More = true
			break
		}
		m, err := b.peek(w.Queue, next)
		if err != nil {
			return 0, err
		}
		if !b.r.Filter.Match(m.Tag) {
			skipped++
			continue
		}
		if !b.room(m.Size) {
			break
		}
		b.free--
		skipped, fresh = 0, true
		b.deliver(c, Delivery{w.Queue, next, 1}, m)
	}
	switch {
	case skipped > 0:
		c.Next = next
	case fresh:
		c.Next = 0 // the claims say it
	}
	return skipped, nil
}

func (b *receipt) peek(queue uint32, offset uint64) (Message, error) {
	b.scan--
	m, err := b.r.Peek(queue, offset)
	if err != nil {
		return m, fmt.Errorf("peek offset %d: %w", offset, err)
	}
	return m, nil
}

func (b *receipt) deliver(c *change, d Delivery, m Message) {
	b.bytes += m.Size
	b.plan.Deliveries = append(b.plan.Deliveries, d)
	c.Claims = append(c.Claims, claim{d.Offset, d.Attempt})
}

// Deliverable tells whether a consumer group that waits may find something in a queue now:
// something new, or something visible again.
func (s *State) Deliverable(name, topic string, w Window, now int64) bool {
	p := s.position(Key{name, topic, w.Queue})
	if p == nil {
		return true
	}
	until, ok := p.visible.next()
	return p.next < w.End && s.InFlight(name) < s.limits.InFlight || ok && until <= now
}
