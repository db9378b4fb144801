package router

import "holdfast/vipagent/vrrp"

// counters are what an instance has seen since it began, or since they were cleared.
type counters struct {
	received, sent               uint64
	becameActive, releasedActive uint64
	stopReceived, stopSent       uint64
	malformed, badTTL            uint64
	badType, badInterval         uint64
	badAddresses                 uint64
	badAuthType, wrongAuthType   uint64
	badPassword                  uint64
	rejected                     uint64
	byKind                       map[string]uint64 // notes of the state machine
}

// note counts and logs something odd.
func (in *instance) note(n vrrp.Note) {
	c := &in.counters
	if c.byKind == nil {
		c.byKind = make(map[string]uint64)
	}
	c.byKind[n.Kind]++
	if k := c.byKind[n.Kind]; k&(k-1) == 0 {
		in.router.log.Warn("note", "instance", in.conf.Name, "kind", n.Kind, "what", n.Text, "times", k)
	}
}
