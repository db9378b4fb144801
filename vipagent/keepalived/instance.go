package keepalived

import (
	"fmt"
	"time"
)

// draft is an instance of which not everything has been read.
type draft struct {
	Instance
	set      settings
	family   int // 4, 6, or 0 while nothing has said
	state    string
	auth     string // auth_type
	password string
	noVIP    bool
	// lost: Keepalived would not run the instance.
	lost bool
}

// setInstance reads vrrp_instance.
func setInstance(p *parser, s *statement) {
	if !p.named(s) {
		return
	}
	for _, d := range p.drafts {
		if d.Name == s.arg(1) {
			p.error(s.at(), s.kw.name, fmt.Sprintf("vrrp_instance %s is there already, at line %d: this one is ignored", d.Name, d.At.Line), "", 5)
			return
		}
	}
	p.draft = &draft{Instance: Instance{Name: s.arg(1), At: s.at(), Preempt: true}, set: make(settings)}
	p.drafts = append(p.drafts, p.draft)
	p.handleBody(s)
}

// named says whether a block has one word as its name.
func (p *parser) named(s *statement) bool {
	if len(s.words) == 2 {
		return true
	}
	p.error(s.at(), s.kw.name, fmt.Sprintf("%s needs one word as its name: it is ignored", s.kw.name), "", 5)
	return false
}

// note records that a keyword was given, and says whether it was before.
func (d *draft) note(s *statement) (again bool) {
	again = d.set.has(s.kw.name)
	d.set[s.kw.name] = s.at()
	return again
}

// switchOn is the handler of a keyword that has no value.
func switchOn(field func(*draft) *bool) func(*parser, *statement) {
	return func(p *parser, s *statement) {
		p.draft.note(s)
		*field(p.draft) = true
		p.extra(s, 0)
	}
}

// onOff is the handler of a keyword that may be followed by on or off.
func onOff(field func(*draft) *bool) func(*parser, *statement) {
	return func(p *parser, s *statement) {
		if v, ok := p.flag(s); ok {
			p.draft.note(s)
			*field(p.draft) = v
		}
	}
}

func setState(p *parser, s *statement) {
	d := p.draft
	p.extra(s, 1)
	switch v := s.arg(1); {
	case v == "BACKUP" && d.state == "MASTER":
		p.warn(s.argAt(1), s.kw.name, "state is MASTER already: BACKUP is ignored", "")
	case v == "MASTER" || v == "BACKUP":
		d.state = v
	default:
		hint := "the states are MASTER and BACKUP"
		if h := semicolon(v); h != "" {
			hint = h
		}
		p.warn(s.argAt(1), s.kw.name, fmt.Sprintf("unknown state %q: BACKUP is used", v), hint)
		d.state = "BACKUP"
	}
	d.note(s)
}

func setInterface(p *parser, s *statement) {
	p.extra(s, 1)
	if name, ok := p.interfaceName(s, 1); ok {
		p.draft.Interface = name
		p.draft.note(s)
		if name == "lo" {
			p.error(s.argAt(1), s.kw.name, "VRRP does not run on the loopback interface", "", 5)
			p.draft.lost = true
		}
	}
}

func setVRID(p *parser, s *statement) {
	p.extra(s, 1)
	if n, ok := p.number(s, 1, 1, 255, "it is ignored"); ok {
		p.draft.VRID = uint8(n)
		p.draft.note(s)
	}
}

// Priorities of RFC 9568.
const (
	ownerPriority   = 255
	defaultPriority = 100
)

func setPriority(p *parser, s *statement) {
	p.extra(s, 1)
	n, ok := p.number(s, 1, 1, ownerPriority, fmt.Sprintf("%d is used", defaultPriority))
	if !ok {
		n = defaultPriority
	}
	p.draft.Priority = uint8(n)
	p.draft.note(s)
}

func setVersion(p *parser, s *statement) {
	d := p.draft
	n, ok := p.number(s, 1, 2, 3, "it is ignored")
	switch {
	case !ok:
	case d.Version != 0 && int(d.Version) != n || n == 2 && d.family == 6:
		p.warn(s.argAt(1), s.kw.name, fmt.Sprintf("version %d does not fit what is configured already: it is ignored", n), "IPv6 needs version 3")
	default:
		d.Version = uint8(n)
		d.note(s)
	}
}

func setInterval(p *parser, s *statement) {
	if v, ok := p.seconds(s, 1, 10*time.Millisecond, 255*time.Second, "it is ignored"); ok {
		p.draft.Interval = v
		p.draft.note(s)
	}
	p.extra(s, 1)
}

func setPreempt(p *parser, s *statement) {
	p.draft.Preempt = s.kw.name == "preempt"
	p.draft.note(s)
}

// maxTimer bounds what Keepalived waits for.
const maxTimer = 1000 * time.Second

func setPreemptDelay(p *parser, s *statement) {
	if v, ok := p.seconds(s, 1, 0, maxTimer, "there is no delay"); ok {
		p.draft.PreemptDelay = v
		p.draft.note(s)
	}
}

func setAccept(p *parser, s *statement) {
	p.draft.Accept = s.kw.name == "accept"
	p.draft.set["accept"] = s.at()
}

func setAuthentication(p *parser, s *statement) { p.handleBody(s) }

func setAuthType(p *parser, s *statement) {
	switch v := s.arg(1); v {
	case "PASS", "AH":
		p.draft.auth = v
		p.draft.note(s)
	default:
		p.warn(s.argAt(1), s.kw.name, fmt.Sprintf("unknown auth_type %q: there is no authentication", v), orElse(semicolon(v), "write PASS"))
	}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// passwordLength is what fits into an advertisement (RFC 3768 5.3.10).
const passwordLength = 8

func setAuthPass(p *parser, s *statement) {
	v := s.arg(1)
	if len(v) > passwordLength {
		p.warn(s.argAt(1), s.kw.name, fmt.Sprintf("auth_pass is cut off after %d characters", passwordLength), "routers that send more or other characters do not hear this one")
		v = v[:passwordLength]
	}
	p.draft.password = v
	p.draft.note(s)
	p.extra(s, 1)
}

func setDebug(p *parser, s *statement) {
	if n, ok := p.number(s, 1, 0, 4, "it is ignored"); ok {
		p.draft.Debug = n
	}
}

func setReceiveBuffer(p *parser, s *statement) {
	if n, ok := p.number(s, 1, 0, 1<<32-1, "it is ignored"); ok {
		p.draft.ReceiveBuffer = n
	}
}

func setNativeIPv6(p *parser, s *statement) {
	if p.draft.family == 4 {
		p.warn(s.at(), s.kw.name, "native_ipv6 is ignored: the instance has IPv4 addresses", "")
		return
	}
	p.draft.family, p.draft.Version = 6, 3
}

func setDownAdverts(p *parser, s *statement) {
	if n, ok := p.number(s, 1, 1, 100, "it is ignored"); ok {
		p.draft.DownAdverts = n
		p.draft.note(s)
	}
}

// setVRF reads vrf, which only means something without an interface.
func setVRF(p *parser, s *statement) {
	p.unhandled(s)
	if p.draft.Interface != "" {
		p.warn(s.at(), s.kw.name, "vrf is ignored: the instance has an interface", "")
	}
}

func setSkipCheck(p *parser, s *statement) {
	if v, ok := p.flag(s); ok {
		p.draft.SkipCheckAddress = v
		p.draft.note(s)
		if !v {
			p.info(s.argAt(1), s.kw.name, "skip_check_adv_addr off is off here; Keepalived 2.2 takes it for on", "")
		}
	}
}
