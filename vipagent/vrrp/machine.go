package vrrp

import (
	"fmt"
	"net/netip"
	"time"
)

// State is that of one virtual router.
type State uint8

// The states, with the names of RFC 9568 (RFC 5798 and Keepalived say Master for
// Active), and Keepalived's Fault: something that the router depends on is broken.
const (
	Initialize State = iota
	Backup
	Active
	Fault
)

// String is a word with a capital.
func (s State) String() string {
	switch s {
	case Initialize:
		return "Initialize"
	case Backup:
		return "Backup"
	case Active:
		return "Active"
	case Fault:
		return "Fault"
	}
	return "unknown"
}

// Machine is the state machine of one virtual router. It is for one goroutine at a
// time.
type Machine struct {
	config   Config
	state    State
	priority uint8      // effective: of own advertisements
	primary  netip.Addr // without zone

	due      time.Duration // of Active_Down_Timer or Adver_Timer
	armed    bool
	lastSent time.Duration

	// The router that was last heard.
	heard         netip.Addr
	heardPriority uint8
	interval      time.Duration // Active_Adver_Interval
	form          Checksum      // OldUnicast when learnt; 0 = as configured

	broken  string // why; "" = nothing is
	grouped bool   // another member of the sync group is
	ready   bool   // the down timer has expired and the sync group is waited for

	preemptFrom time.Duration // when the delay ends
	preempting  bool          // it has begun

	contest contest
}

// New returns a machine in Initialize.
func New(c Config) *Machine {
	return &Machine{config: c, priority: c.Priority, interval: c.Interval}
}

// State returns the state.
func (m *Machine) State() State { return m.state }

// Due returns when the next Timer event is due; false if there is none.
func (m *Machine) Due() (time.Duration, bool) { return m.due, m.armed }

// Step takes in one event at now, a time since any one origin on a clock that only
// rises, and returns what has to be done.
func (m *Machine) Step(e Event, now time.Duration) []Action {
	switch e := e.(type) {
	case Startup:
		return m.start(now)
	case Shutdown:
		return m.leave(Initialize, "shut down", true, now)
	case Timer:
		return m.timer(now)
	case Received:
		return m.receive(e, now)
	case Primary:
		m.primary = e.Address.WithZone("")
	case Priority:
		m.setPriority(min(max(e.Value, 1), PriorityOwner-1), now)
	case Broken:
		return m.breaks(e.Reason, now)
	case Repaired:
		m.broken = ""
		return m.rejoin("repaired", now)
	case Follow:
		return m.follow(e.State, now)
	case Yield:
		if m.state == Active {
			return m.leave(Backup, "yields to a peer", true, now)
		}
	case Reconfigure:
		return m.reconfigure(e.Config, now)
	}
	return nil
}

// start leaves Initialize.
func (m *Machine) start(now time.Duration) []Action {
	if m.state != Initialize {
		return nil
	}
	if why := m.broken; why != "" || m.grouped {
		if why == "" {
			why = "follows its sync group"
		}
		m.state = Fault
		return []Action{Enter{Initialize, Fault, why}}
	}
	if m.config.Priority == PriorityOwner && m.config.StartActive && !m.config.Member {
		return m.become("started, owns the addresses", now)
	}
	m.state = Backup
	actions := []Action{Enter{Initialize, Backup, "started"}}
	m.interval = m.config.Interval
	m.arm(now + m.downInterval())
	if m.config.Priority == PriorityOwner && m.config.StartActive {
		m.ready = true
		actions = append(actions, Ready{})
	}
	return actions
}

// become goes to Active. The advertisement goes first, as in the RFCs: the old Active
// router must have lowered the addresses before the neighbours hear of the new one.
func (m *Machine) become(why string, now time.Duration) []Action {
	var actions []Action
	if m.config.Priority == PriorityOwner && m.priority != PriorityOwner {
		m.priority = PriorityOwner
		actions = append(actions, Note{NotePriority, "the other router of priority 255 has gone"})
	}
	from := m.state
	m.state, m.ready, m.contest = Active, false, contest{}
	m.interval = m.config.Interval
	m.arm(now + m.config.Interval)
	return append(actions, m.send(now), Enter{from, Active, why})
}

// leave goes from any state to one that is not Active. An Active router gives its
// addresses up before it says so, which is the reverse of the RFCs and of
// Keepalived: a Backup of high priority takes over within milliseconds of priority
// 0, and by then nobody else may have the addresses.
func (m *Machine) leave(to State, why string, stop bool, now time.Duration) []Action {
	from := m.state
	if from == to {
		return nil
	}
	m.state, m.armed, m.ready, m.preempting, m.contest = to, false, false, false, contest{}
	if to == Backup {
		m.arm(now + m.downInterval())
	}
	actions := []Action{Enter{from, to, why}}
	if from == Active && stop {
		m.lastSent = now
		actions = append(actions, Send{PriorityStop})
	}
	return actions
}

// breaks goes to Fault, or remembers it for the start.
func (m *Machine) breaks(reason string, now time.Duration) []Action {
	if reason == "" {
		reason = "broken"
	}
	m.broken = reason
	if m.state == Initialize {
		return nil
	}
	return m.leave(Fault, reason, true, now)
}

// rejoin leaves Fault if nothing holds the router there. Like Keepalived it then
// waits as a Backup, an owner too: it has been away.
func (m *Machine) rejoin(why string, now time.Duration) []Action {
	if m.state != Fault || m.broken != "" || m.grouped {
		return nil
	}
	m.interval = m.config.Interval
	return m.leave(Backup, why, false, now)
}

// follow goes where the sync group goes. A member that follows to Backup sends no
// priority 0, as in Keepalived: the group yields to another that is Active already.
func (m *Machine) follow(to State, now time.Duration) []Action {
	switch {
	case to == Active && m.state == Backup:
		return m.become("follows its sync group", now)
	case to == Backup && m.state == Active:
		return m.leave(Backup, "follows its sync group", false, now)
	case to == Backup:
		m.grouped = false
		return m.rejoin("follows its sync group", now)
	case to == Fault:
		m.grouped = true
		if m.state != Initialize {
			return m.leave(Fault, "follows its sync group", true, now)
		}
	}
	return nil
}

// setPriority changes the effective priority. The timer of a Backup moves by the
// difference that it makes: the wait is not begun anew.
func (m *Machine) setPriority(p uint8, now time.Duration) {
	if m.config.Priority == PriorityOwner {
		return
	}
	before := m.skew()
	m.priority = p
	if m.state == Backup {
		m.arm(max(m.due+m.skew()-before, now))
	}
}

// reconfigure takes a new configuration on. What checks had added to the priority is
// kept until they say so again.
func (m *Machine) reconfigure(c Config, now time.Duration) []Action {
	if m.interval == m.config.Interval {
		m.interval = c.Interval // nothing else has been learnt
	}
	weight := int(m.priority) - int(m.config.Priority)
	if c.Priority == PriorityOwner || m.config.Priority == PriorityOwner {
		weight = 0
	}
	m.config = c
	m.priority = uint8(min(max(int(c.Priority)+weight, 1), PriorityOwner))
	if c.Priority != PriorityOwner {
		m.priority = min(m.priority, PriorityOwner-1)
	}
	switch m.state {
	case Active:
		m.arm(now + c.Interval)
		return []Action{m.send(now)}
	case Backup:
		m.arm(now + m.downInterval())
	case Initialize, Fault:
	}
	return nil
}

// send returns the action and remembers when.
func (m *Machine) send(now time.Duration) Action {
	m.lastSent = now
	m.contest.sent(m.config.Interval, now)
	return Send{m.priority}
}

func (m *Machine) arm(due time.Duration) { m.due, m.armed = due, true }

// skew is that of the own priority. An owner that has stepped down from 255 because
// there are two keeps its own, as in Keepalived.
func (m *Machine) skew() time.Duration {
	if m.config.Priority == PriorityOwner {
		return m.config.skew(PriorityOwner, m.interval)
	}
	return m.config.skew(m.priority, m.interval)
}

// downInterval is Active_Down_Interval, by the interval that was last learnt.
func (m *Machine) downInterval() time.Duration {
	if m.config.Priority == PriorityOwner {
		return m.config.activeDown(PriorityOwner, m.interval)
	}
	return m.config.activeDown(m.priority, m.interval)
}

// timer does what the timer is for. A late one says that the process stood still.
func (m *Machine) timer(now time.Duration) []Action {
	if !m.armed || now < m.due {
		return nil
	}
	var actions []Action
	if late := now - m.due; late >= m.interval {
		actions = append(actions, Note{NoteLate, fmt.Sprintf("the timer came %v late, with an interval of %v", since(late), m.interval)})
	}
	if m.state == Backup {
		return append(actions, m.expire(now)...)
	}
	if m.superseded(now) {
		return append(actions, m.leave(Backup, "stood still for so long that another router has taken over", false, now)...)
	}
	// The next one is a whole number of intervals after the one that was due, or the
	// rhythm would drift by what each step takes.
	m.arm(m.due + ((now-m.due)/m.config.Interval+1)*m.config.Interval)
	return append(actions, m.send(now))
}
