package pop

// Verdict is what a receipt handle is good for.
type Verdict uint8

// The verdicts.
const (
	// Good: the plan's body does what was asked.
	Good Verdict = iota
	// Already: the message has been settled before. Asked for again, as by a client that
	// lost the answer, it is as good as done.
	Already
	// Stale: the message was delivered again or its invisible time changed since, or it
	// was never delivered to this group as far as the log knows.
	Stale
)

// Ack plans to settle messages. The verdicts are in the order of the handles; of equal
// handles the first counts. The body is nil if none is good.
//
// A handle is good even when the invisible time is over, as long as nobody was given the
// message since: the consumer has done its work, and to deliver it again would help
// nobody.
func (s *State) Ack(handles []Handle) (body []byte, verdicts []Verdict) {
	return s.settle(handles, func(c *change, f *flight) { c.Done = append(c.Done, f.offset) })
}

// Renew plans to move the time at which messages become visible again, with the handles
// as they are: for a consumer that is alive and still at work.
func (s *State) Renew(handles []Handle, until int64) (body []byte, verdicts []Verdict) {
	return s.settle(handles, func(c *change, f *flight) {
		c.Delays = append(c.Delays, delay{f.offset, f.nonce, f.nonce, until})
	})
}

// Delay plans to change the time at which a message becomes visible again. The handle
// with the new nonce takes the place of the one that was given.
func (s *State) Delay(h Handle, nonce uint64, until int64) (body []byte, changed Handle, v Verdict) {
	changed = h
	changed.Nonce = nonce
	body, verdicts := s.settle([]Handle{h}, func(c *change, f *flight) {
		c.Delays = append(c.Delays, delay{f.offset, f.nonce, nonce, until})
	})
	if verdicts[0] == Already {
		return nil, h, Stale // nothing is there to be made visible
	}
	return body, changed, verdicts[0]
}

// settle adds to the changes what is to be done to each message whose handle is good.
func (s *State) settle(handles []Handle, do func(*change, *flight)) (body []byte, verdicts []Verdict) {
	verdicts = make([]Verdict, len(handles))
	var changes []change
	index := make(map[Key]int, 1)
	seen := make(map[Handle]bool, len(handles))
	for i, h := range handles {
		if seen[h] {
			verdicts[i] = Already
			continue
		}
		f, v := s.flight(h)
		if verdicts[i] = v; v != Good {
			continue
		}
		seen[h] = true
		at, ok := index[h.Key]
		if !ok {
			at = len(changes)
			index[h.Key] = at
			changes = append(changes, change{Key: h.Key})
		}
		do(&changes[at], f)
	}
	return appendBody(changes), verdicts
}

// flight returns the message of a good handle.
func (s *State) flight(h Handle) (*flight, Verdict) {
	p := s.position(h.Key)
	if p == nil || h.Offset >= p.next {
		return nil, Stale
	}
	f := p.flights[h.Offset]
	switch {
	case f == nil:
		return nil, Already
	case f.nonce != h.Nonce:
		return nil, Stale
	}
	return f, Good
}

// Drop plans to forget what a consumer group did in a topic: of all groups if name is
// empty, of all topics if topic is empty.
func Drop(name, topic string) []byte {
	return appendBody([]change{{Key: Key{Group: name, Topic: topic}, Drop: true}})
}
