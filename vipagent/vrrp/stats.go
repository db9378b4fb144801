package vrrp

// Stats counts what happened to a virtual router, as Keepalived does: its names are
// beside the fields.
type Stats struct {
	Received     uint64                // advert_rcvd, whatever became of it
	Sent         uint64                // advert_sent, priority 0 too
	Became       uint64                // become_master
	Released     uint64                // release_master
	StopReceived uint64                // pri_zero_rcvd
	StopSent     uint64                // pri_zero_sent
	Refused      [reasonsBehind]uint64 // by Reason
}

// Step counts one step of a machine. An advertisement that reaches a router that is
// not started or broken has not been received.
func (s *Stats) Step(before State, e Event, actions []Action) {
	if r, ok := e.(Received); ok && (before == Backup || before == Active) {
		s.Received++
		if r.Advertisement.Priority == PriorityStop {
			s.StopReceived++
		}
	}
	for _, a := range actions {
		s.count(a)
	}
}

func (s *Stats) count(a Action) {
	switch a := a.(type) {
	case Send:
		s.Sent++
		if a.Priority == PriorityStop {
			s.StopSent++
		}
	case Enter:
		if a.To == Active {
			s.Became++
		}
		if a.From == Active {
			s.Released++
		}
	case Note:
		switch a.Kind {
		case NoteAddresses:
			s.Refused[BadAddresses]++
		case NoteOwnerIgnores:
			// The machine has not listened, so nothing was received.
			s.Received--
			s.Refused[OwnerIgnores]++
		}
	}
}

// Refuse counts an error of [Config.Accept].
func (s *Stats) Refuse(err error) { s.Refused[ReasonOf(err)]++ }

// Counter returns the sum of the reasons with a counter's name.
func (s *Stats) Counter(name string) uint64 {
	var sum uint64
	for r := range reasonsBehind {
		if r.String() == name {
			sum += s.Refused[r]
		}
	}
	return sum
}
