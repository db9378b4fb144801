package client

import (
	"maps"

	pb "holdfast/coordinator/api/holdfastpb"
)

// learned is what views have told of where coordinators are. A coordinator is
// forgotten when it has been removed: when somebody who is connected goes by a
// newer configuration than everybody who still names it.
type learned struct {
	told map[string]*membership // by who told it
	api  map[string]string      // by name, as told last
}

// membership is the configuration that one coordinator goes by.
type membership struct {
	index   uint64
	names   []string
	present bool // its watch is up
}

func newLearned() *learned {
	return &learned{told: make(map[string]*membership), api: make(map[string]string)}
}

// see takes in the configuration in a coordinator's view.
func (l *learned) see(teller string, c *pb.Configuration) {
	if c == nil {
		return
	}
	m := &membership{index: c.GetIndex(), present: true}
	for _, member := range c.GetMembers() {
		if member.GetName() == "" {
			continue
		}
		m.names = append(m.names, member.GetName())
		if api := member.GetApiAddress(); api != "" {
			l.api[member.GetName()] = api
		}
	}
	l.told[teller] = m
}

// gone notes that a coordinator's watch has ended.
func (l *learned) gone(teller string) {
	if m := l.told[teller]; m != nil {
		m.present = false
	}
}

// addresses returns the API addresses by name, and forgets what has been removed.
func (l *learned) addresses() map[string]string {
	var newest uint64
	for _, m := range l.told {
		if m.present {
			newest = max(newest, m.index)
		}
	}
	named := make(map[string]bool)
	for _, m := range l.told {
		// Who is not connected may know something newer, never something
		// older that counts. With nobody connected everything counts.
		if m.present || m.index >= newest {
			for _, name := range m.names {
				named[name] = true
			}
		}
	}
	maps.DeleteFunc(l.api, func(name, _ string) bool { return !named[name] })
	maps.DeleteFunc(l.told, func(teller string, m *membership) bool {
		return !m.present && m.index < newest && !named[teller]
	})
	return l.api
}
