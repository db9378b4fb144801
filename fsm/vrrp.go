package fsm

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// VRRP says how the hosts of a set take part, as one router, in VRRP with
// routers that are no members of the quorum. Only the holder of the set speaks, and
// its addresses are up only while it is the Active router.
type VRRP struct {
	ID        uint8         `json:"vrid"`                // 1..255
	Version   uint8         `json:"version"`             // 2 or 3
	Priority  uint8         `json:"priority"`            // 1..254, of whichever host holds the set
	Interval  time.Duration `json:"interval_ns"`         // Advertisement_Interval
	Interface string        `json:"interface,omitzero"`  // advertisements go here; "" = where the first advertised address belongs
	IPv6      bool          `json:"ipv6,omitzero"`       // the set's IPv6 addresses are advertised, not those of IPv4
	NoPreempt bool          `json:"no_preempt,omitzero"` // a router of lower priority is left alone
	Password  string        `json:"password,omitzero"`   // version 2; at most eight characters
	// Peers get the advertisements by unicast; none = multicast.
	Peers []netip.Addr `json:"peers,omitzero"`
	// PlainChecksum: version 3 over IPv4 without a pseudo-header, as RFC 9568 has it,
	// not as Keepalived sends it by default.
	PlainChecksum bool   `json:"plain_checksum,omitzero"`
	Mode          string `json:"mode,omitzero"` // [VRRPJoin], [VRRPObserve] or [VRRPOff]
}

// The modes of a [VRRP].
const (
	VRRPJoin    = ""        // the holder takes part
	VRRPObserve = "observe" // listen and report, never speak; an Active holder gives way with priority 0
	VRRPOff     = "off"     // not shared (yet, or any more)
)

// Limits of a [VRRP].
const (
	MaxVRRPPeers    = 64
	MaxVRRPPassword = 8
	maxInterval2    = 255 * time.Second
	maxInterval3    = 40950 * time.Millisecond
)

// Equal says whether two are the same; nil is no VRRP at all.
func (v *VRRP) Equal(other *VRRP) bool {
	if v == nil || other == nil {
		return v == other
	}
	return v.ID == other.ID && v.Version == other.Version && v.Priority == other.Priority && v.Interval == other.Interval &&
		v.Interface == other.Interface && v.IPv6 == other.IPv6 && v.NoPreempt == other.NoPreempt && v.Password == other.Password &&
		slices.Equal(v.Peers, other.Peers) && v.PlainChecksum == other.PlainChecksum && v.Mode == other.Mode
}

// validateVRRP checks the VRRP of a set.
func validateVRRP(v *VRRP, addresses []Address) error {
	bad := func(field, format string, args ...any) error {
		return &FieldError{"vrrp." + field, fmt.Sprintf(format, args...)}
	}
	step, most := 10*time.Millisecond, maxInterval3
	if v.Version == 2 {
		step, most = time.Second, maxInterval2
	}
	switch {
	case v.ID == 0:
		return bad("vrid", "0 is not within 1 to 255")
	case v.Version != 2 && v.Version != 3:
		return bad("version", "%d is neither 2 nor 3", v.Version)
	case v.Version == 2 && v.IPv6:
		return bad("version", "VRRP version 2 is for IPv4 alone")
	case v.Priority < 1 || v.Priority > MaxPriority:
		return bad("priority", "%d is not within 1 to %d", v.Priority, MaxPriority)
	case v.Interval < step || v.Interval > most || v.Interval%step != 0:
		return bad("interval", "%v is not within %v to %v in steps of %v, as version %d has it", v.Interval, step, most, step, v.Version)
	case v.Interface != "" && !validInterface(v.Interface):
		return bad("interface", "%q is no interface name", v.Interface)
	case len(v.Password) > MaxVRRPPassword:
		return bad("password", "%d characters, of which only %d are sent", len(v.Password), MaxVRRPPassword)
	case v.Password != "" && v.Version == 3:
		return bad("password", "VRRP version 3 has none")
	case len(v.Peers) > MaxVRRPPeers:
		return bad("peers", "%d peers, the most is %d", len(v.Peers), MaxVRRPPeers)
	case v.Mode != VRRPJoin && v.Mode != VRRPObserve && v.Mode != VRRPOff:
		return bad("mode", "%q is none of join, observe, off", v.Mode)
	case v.PlainChecksum && (v.Version == 2 || v.IPv6):
		return bad("plain_checksum", "is a choice of version 3 over IPv4 alone")
	}
	for i, p := range v.Peers {
		field := fmt.Sprintf("peers[%d]", i)
		switch {
		case !p.IsValid() || p.Is4() == v.IPv6 || p.Is4In6():
			return bad(field, "%s is of the other family", p)
		case p.IsMulticast() || p.IsUnspecified():
			return bad(field, "%s is no peer", p)
		case slices.Contains(v.Peers[:i], p):
			return bad(field, "%s comes twice", p)
		}
	}
	if len(v.Advertised(addresses)) == 0 {
		return bad("ipv6", "the set has no address of that family to advertise")
	}
	if n := len(v.Advertised(addresses)); n > 255 {
		return bad("vrid", "%d addresses to advertise, the most is 255", n)
	}
	return nil
}

// Advertised returns those of the addresses that advertisements name, in order. The
// others move with them.
func (v *VRRP) Advertised(addresses []Address) []Address {
	var out []Address
	for _, a := range addresses {
		if a.Addr().Is6() == v.IPv6 {
			out = append(out, a)
		}
	}
	return out
}

// Router is what an agent says of a virtual router that its host may take part in:
// its own state, and which router is Active. No decision of the quorum depends on it.
type Router struct {
	State    string     `json:"state"`             // "listening", "backup" or "active"
	Source   netip.Addr `json:"source,omitzero"`   // of its own advertisements, by which its fellows know them
	Active   netip.Addr `json:"active,omitzero"`   // source address of another router that is Active; zero = none heard
	Priority uint8      `json:"priority,omitzero"` // that router's
}

// String tells it in words.
func (r Router) String() string {
	if !r.Active.IsValid() {
		return r.State + ", no other router is Active"
	}
	return fmt.Sprintf("%s, %s is Active with priority %d", r.State, r.Active, r.Priority)
}

// NoteRouter is an agent's word on the virtual router of a set. A Router without
// State forgets it.
type NoteRouter struct {
	Session SessionID `json:"session"`
	Set     string    `json:"set"`
	Router  Router    `json:"router"`
}

// Kind implements [Op].
func (NoteRouter) Kind() string { return "router" }

func (op NoteRouter) validate() error {
	if !validLabel(op.Set, true) {
		return &FieldError{"set", fmt.Sprintf("%q is no set name: %s", op.Set, setRule)}
	}
	switch op.Router.State {
	case "", "listening", "backup", "active":
		return nil
	}
	return &FieldError{"router.state", fmt.Sprintf("%q is none of listening, backup, active", op.Router.State)}
}

func (op NoteRouter) apply(t *transition) (OpResult, *Refusal) {
	s := t.state
	session, refusal := t.agent(op.Session)
	if refusal != nil {
		return OpResult{}, refusal
	}
	if err := op.validate(); err != nil {
		return OpResult{}, refuse(CodeInvalid, "note router: %v", err)
	}
	old, noted := session.Routers[op.Set]
	if op.Router == old {
		return OpResult{}, nil
	}
	next := *session
	next.Routers = maps.Clone(session.Routers)
	if op.Router.State == "" {
		delete(next.Routers, op.Set)
	} else {
		if !noted && len(session.Routers) >= MaxConditions {
			return OpResult{}, refuse(CodeInvalid, "session %d has %d routers, which is the most", op.Session, MaxConditions)
		}
		if next.Routers == nil {
			next.Routers = make(map[string]Router)
		}
		next.Routers[op.Set] = op.Router
		t.record(Change{Set: op.Set, Host: session.Host, Session: session.ID, Cause: op.Router.String()})
	}
	s.sessions[session.ID] = &next
	return OpResult{}, nil
}
