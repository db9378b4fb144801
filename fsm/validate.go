package fsm

import (
	"fmt"
	"net/netip"
	"time"
)

// Limits of what the state accepts.
const (
	MinTTL          = 200 * time.Millisecond // of a session
	MaxTTL          = 10 * time.Second       // of a session; the clock-rate margin holds up to here
	MaxAddresses    = 1024                   // of one set
	MaxCandidates   = 64                     // of one set
	MaxPriority     = 254                    // of a candidate; the lowest is 1
	MaxPreemptDelay = time.Hour
	MaxConditions   = 4096 // of one session
	MinStall        = 100 * time.Millisecond
)

// How names are made, in words for messages.
const (
	setRule  = "1 to 63 of a-z 0-9 . _ -, the first a letter or digit"
	hostRule = "1 to 63 of A-Z a-z 0-9 . _ -, the first a letter or digit"
)

// FieldError says which field of a set or session is wrong.
type FieldError struct {
	Field  string // as in the JSON form, with positions: "addresses[3].prefix"
	Reason string
}

// Error implements error.
func (e *FieldError) Error() string { return e.Field + ": " + e.Reason }

// ValidateSet checks all that can be said of a set without the rest of the
// state. The error is a *[FieldError]. Claims, Prefer and Revision are not
// looked at.
func ValidateSet(set Set) error {
	if !validLabel(set.Name, true) {
		return &FieldError{"name", fmt.Sprintf("%q is no set name: %s", set.Name, setRule)}
	}
	if err := validateAddresses(set.Addresses); err != nil {
		return err
	}
	if err := validateCandidates(set.Candidates); err != nil {
		return err
	}
	if set.PreemptDelay < 0 || set.PreemptDelay > MaxPreemptDelay {
		return &FieldError{"preempt_delay", fmt.Sprintf("%v is not within 0 to %v", set.PreemptDelay, MaxPreemptDelay)}
	}
	for _, label := range []struct{ field, value string }{
		{"sync_group", set.SyncGroup}, {"spread", set.Spread}, {"anti_affinity", set.AntiAffinity},
	} {
		if label.value != "" && !validLabel(label.value, true) {
			return &FieldError{label.field, fmt.Sprintf("%q is no label: %s", label.value, setRule)}
		}
	}
	if set.VRRP != nil {
		return validateVRRP(set.VRRP, set.Addresses)
	}
	return nil
}

func validateAddresses(addresses []Address) error {
	if n := len(addresses); n < 1 || n > MaxAddresses {
		return &FieldError{"addresses", fmt.Sprintf("%d addresses, a set has 1 to %d", n, MaxAddresses)}
	}
	seen := make(map[netip.Addr]int, len(addresses))
	for i, a := range addresses {
		field := fmt.Sprintf("addresses[%d]", i)
		if reason := unfitPrefix(a); reason != "" {
			return &FieldError{field + ".prefix", reason}
		}
		if a.Interface != "" && !validInterface(a.Interface) {
			return &FieldError{field + ".interface", fmt.Sprintf("%q is no interface name: 1 to 15 printable characters without space, slash and colon", a.Interface)}
		}
		if first, ok := seen[a.Addr()]; ok {
			return &FieldError{field + ".prefix", fmt.Sprintf("%s is also addresses[%d]", a.Addr(), first)}
		}
		seen[a.Addr()] = i
	}
	return nil
}

// unfitPrefix says why an address cannot be a virtual IP, "" = it can.
func unfitPrefix(a Address) string {
	addr, bits := a.Addr(), a.Prefix.Bits()
	switch {
	case !a.Prefix.IsValid():
		return "no address with a prefix length"
	case addr.Is4In6():
		return fmt.Sprintf("%s is an IPv4 address in IPv6 form", addr)
	case addr.IsUnspecified():
		return fmt.Sprintf("%s is the unspecified address", addr)
	case addr.IsLoopback():
		return fmt.Sprintf("%s is a loopback address", addr)
	case addr.IsMulticast():
		return fmt.Sprintf("%s is a multicast address", addr)
	case bits == 0:
		return "prefix length 0 would make every address a neighbour"
	case addr.Is6() && addr.IsLinkLocalUnicast() && a.Interface == "":
		return fmt.Sprintf("%s is link-local and needs an interface", addr)
	case addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Sprintf("%s is the limited broadcast address", addr)
	}
	if addr.Is4() && bits < 31 {
		if addr == a.Prefix.Masked().Addr() {
			return fmt.Sprintf("%s is the network address of %s", addr, a.Prefix.Masked())
		}
		if addr == lastOf(a.Prefix) {
			return fmt.Sprintf("%s is the broadcast address of %s", addr, a.Prefix.Masked())
		}
	}
	return ""
}

// lastOf returns the last address of an IPv4 prefix.
func lastOf(prefix netip.Prefix) netip.Addr {
	b := prefix.Addr().As4()
	for bit := prefix.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}

func validateCandidates(candidates []Candidate) error {
	if n := len(candidates); n < 1 || n > MaxCandidates {
		return &FieldError{"candidates", fmt.Sprintf("%d candidates, a set has 1 to %d", n, MaxCandidates)}
	}
	seen := make(map[string]int, len(candidates))
	for i, c := range candidates {
		field := fmt.Sprintf("candidates[%d]", i)
		if !validLabel(c.Host, false) {
			return &FieldError{field + ".host", fmt.Sprintf("%q is no host name: %s", c.Host, hostRule)}
		}
		if first, ok := seen[c.Host]; ok {
			return &FieldError{field + ".host", fmt.Sprintf("%s is also candidates[%d]", c.Host, first)}
		}
		seen[c.Host] = i
		if c.Priority < 1 || c.Priority > MaxPriority {
			return &FieldError{field + ".priority", fmt.Sprintf("%d is not within 1 to %d", c.Priority, MaxPriority)}
		}
	}
	return nil
}

// validate checks an OpenSession.
func (op OpenSession) validate() error {
	if err := validateHost(op.Host); err != nil {
		return err
	}
	if op.TTL < MinTTL || op.TTL > MaxTTL {
		return &FieldError{"ttl", fmt.Sprintf("%v is not within %v to %v", op.TTL, MinTTL, MaxTTL)}
	}
	// Everybody knows this key.
	if op.Secret == [32]byte{} {
		return &FieldError{"secret", "is all zeros"}
	}
	if op.Broker != nil {
		return op.Broker.validate()
	}
	return nil
}

// validate checks a SetCondition.
func (op SetCondition) validate() error {
	if !validLabel(op.Set, true) {
		return &FieldError{"set", fmt.Sprintf("%q is no set name: %s", op.Set, setRule)}
	}
	if w := op.Condition.Weight; w < -MaxPriority || w > MaxPriority {
		return &FieldError{"condition.weight", fmt.Sprintf("%d is not within %d to %d", w, -MaxPriority, MaxPriority)}
	}
	return nil
}

// validate checks a NoteStall.
func (op NoteStall) validate() error {
	switch {
	case op.Lasted < MinStall:
		return &FieldError{"lasted", fmt.Sprintf("%v is shorter than %v", op.Lasted, MinStall)}
	case op.Ago < 0:
		return &FieldError{"ago", fmt.Sprintf("%v is not over yet", op.Ago)}
	case op.More < 0:
		return &FieldError{"more", fmt.Sprintf("%d is no count", op.More)}
	}
	return nil
}

// validLabel checks a name of a set, a label (lower) or a host.
func validLabel(name string, lower bool) bool {
	if len(name) < 1 || len(name) > 63 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case 'A' <= c && c <= 'Z' && !lower:
		case (c == '.' || c == '_' || c == '-') && i > 0:
		default:
			return false
		}
	}
	return true
}

// validInterface checks a name as the kernel does.
func validInterface(name string) bool {
	if len(name) > 15 || name == "." || name == ".." {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || c == '/' || c == ':' {
			return false
		}
	}
	return true
}
