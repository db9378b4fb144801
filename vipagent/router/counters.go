package router

import "holdfast/vipagent/vrrp"

// counters are what an instance has seen since it began, or since they were cleared.
type counters struct {
	received, sent               uint64
	becameActive, releasedActive uint64
	stopReceived, stopSent       uint64
	rejected                     uint64
	// odd has what was wrong with packets, and what the state machine noted, by
	// Keepalived's name of the counter or the machine's word.
	odd map[string]uint64
}

// count counts something odd and returns how often that has been.
func (c *counters) count(word string) uint64 {
	if c.odd == nil {
		c.odd = make(map[string]uint64)
	}
	c.odd[word]++
	return c.odd[word]
}

// worth tells whether the n-th time is worth a line of the log: a flood must not fill
// it.
func worth(n uint64) bool { return n&(n-1) == 0 }

// note counts and logs what the state machine found odd.
func (in *instance) note(n vrrp.Note) {
	if times := in.counters.count(n.Kind); worth(times) {
		in.router.log.Warn(n.Text, "instance", in.conf.Name, "kind", n.Kind, "times", times)
	}
}
