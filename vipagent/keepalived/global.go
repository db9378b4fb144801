package keepalived

import (
	"fmt"
	"net/netip"
	"time"
)

// setGlobal reads global_defs.
func setGlobal(p *parser, s *statement) { p.handleBody(s) }

func ignoreStatement(*parser, *statement) {}

// globalSwitch is the handler of a keyword that has no value.
func globalSwitch(field func(*Global) *bool) func(*parser, *statement) {
	return func(p *parser, s *statement) { *field(&p.config.Global) = true }
}

// globalOnOff is the handler of a keyword that may be followed by on or off.
func globalOnOff(field func(*Global) *bool) func(*parser, *statement) {
	return func(p *parser, s *statement) {
		if v, ok := p.flag(s); ok {
			*field(&p.config.Global) = v
			p.set[s.kw.name] = s.at()
		}
	}
}

// globalWord is the handler of a keyword with a word.
func globalWord(field func(*Global) *string) func(*parser, *statement) {
	return func(p *parser, s *statement) {
		*field(&p.config.Global) = s.arg(1)
		p.extra(s, 1)
	}
}

// globalSetting is the handler of a default for all instances that is on or off.
func globalSetting(p *parser, s *statement) {
	v, ok := p.flag(s)
	if ok && v {
		p.set[s.kw.name] = s.at()
	}
	if ok && !v {
		delete(p.set, s.kw.name)
	}
}

func setRouterID(p *parser, s *statement) {
	p.config.Global.RouterID = s.arg(1)
	p.extra(s, 1)
}

func setNetNamespace(p *parser, s *statement) {
	g := &p.config.Global
	if g.NetNamespace != "" {
		p.warn(s.at(), s.kw.name, "net_namespace is there already: this one is ignored", "")
		return
	}
	g.NetNamespace = s.arg(1)
}

func setGlobalVersion(p *parser, s *statement) {
	if n, ok := p.number(s, 1, 2, 3, "it is ignored"); ok {
		p.config.Global.Version = uint8(n)
	}
	p.extra(s, 1)
}

// setGroupAddress reads vrrp_mcast_group4 and vrrp_mcast_group6.
func setGroupAddress(p *parser, s *statement) {
	a, ok := p.address(s, 1, "it is ignored")
	six := s.kw.name == "vrrp_mcast_group6"
	switch {
	case !ok:
	case a.Is6() != six || !a.IsMulticast():
		p.warn(s.argAt(1), s.kw.name, fmt.Sprintf("%s %s is ignored: it is no multicast address of this family", s.kw.name, a), "")
	case six:
		if !a.IsLinkLocalMulticast() {
			p.warn(s.argAt(1), s.kw.name, fmt.Sprintf("%s should be a link-local multicast address", a), "")
		}
		p.config.Global.Group6 = a
	default:
		p.config.Global.Group4 = a
	}
}

func setScriptUserDefault(p *parser, s *statement) {
	p.config.Global.ScriptUser, p.config.Global.ScriptGroup = s.arg(1), s.arg(2)
}

// setFIFO reads notify_fifo and vrrp_notify_fifo.
func setFIFO(p *parser, s *statement) {
	f := p.fifo(s.kw.name == "vrrp_notify_fifo")
	if f.Path != "" {
		p.warn(s.at(), s.kw.name, fmt.Sprintf("%s is there already: this one is ignored", s.kw.name), "")
		return
	}
	f.Path = s.arg(1)
	if len(s.words) > 2 {
		// USER [GROUP], of Keepalived 2.2.8 and later.
		f.User, f.Group = s.arg(2), s.arg(3)
	}
}

// setFIFOScript reads notify_fifo_script and vrrp_notify_fifo_script.
func setFIFOScript(p *parser, s *statement) {
	f := p.fifo(s.kw.name == "vrrp_notify_fifo_script")
	if f.Script != nil {
		p.warn(s.at(), s.kw.name, fmt.Sprintf("%s is there already: this one is ignored", s.kw.name), "")
		return
	}
	f.Script = p.command(s, true)
}

// fifo is the FIFO of VRRP alone, or the one of all.
func (p *parser) fifo(vrrp bool) *NotifyFIFO {
	g := &p.config.Global
	for i := range g.NotifyFIFOs {
		if g.NotifyFIFOs[i].VRRP == vrrp {
			return &g.NotifyFIFOs[i]
		}
	}
	g.NotifyFIFOs = append(g.NotifyFIFOs, NotifyFIFO{VRRP: vrrp})
	return &g.NotifyFIFOs[len(g.NotifyFIFOs)-1]
}

// scriptTimeout is what startup and shutdown scripts have by default.
const scriptTimeout = 10 * time.Second

func setStartupScript(p *parser, s *statement) {
	g := &p.config.Global
	p.notify(s, &g.StartupScript)
	if g.StartupTimeout == 0 {
		g.StartupTimeout = scriptTimeout
	}
}

func setShutdownScript(p *parser, s *statement) {
	g := &p.config.Global
	p.notify(s, &g.ShutdownScript)
	if g.ShutdownTimeout == 0 {
		g.ShutdownTimeout = scriptTimeout
	}
}

func setStartupTimeout(p *parser, s *statement) {
	if n, ok := p.number(s, 1, 1, 1000, "it is ignored"); ok {
		p.config.Global.StartupTimeout = time.Duration(n) * time.Second
	}
}

func setShutdownTimeout(p *parser, s *statement) {
	if n, ok := p.number(s, 1, 1, 1000, "it is ignored"); ok {
		p.config.Global.ShutdownTimeout = time.Duration(n) * time.Second
	}
}

func setStartupDelay(p *parser, s *statement) {
	if v, ok := p.seconds(s, 1, time.Millisecond, maxSeconds*time.Second, "it is ignored"); ok {
		p.config.Global.StartupDelay = v
	}
}

func setDelayAfterBoot(p *parser, s *statement) {
	if v, ok := p.seconds(s, 1, time.Millisecond, maxSeconds*time.Second, "it is ignored"); ok {
		p.config.Global.DelayAfterBoot = v
	}
}

func setDynamicInterfaces(p *parser, s *statement) {
	p.config.Global.DynamicInterfaces = true
	if v := s.arg(1); v != "" && v != "allow_if_changes" {
		p.warn(s.argAt(1), s.kw.name, fmt.Sprintf("unknown option %q of dynamic_interfaces: it is ignored", v), semicolon(v))
	}
}

func setDefaultInterface(p *parser, s *statement) {
	if name, ok := p.interfaceName(s, 1); ok {
		p.config.Global.DefaultInterface = name
	}
}

func setGlobalDownAdverts(p *parser, s *statement) {
	if n, ok := p.number(s, 1, 1, 100, "it is ignored"); ok {
		p.downAdverts = n
		p.set[s.kw.name] = s.at()
	}
}

func setEmailTo(p *parser, s *statement) {
	for _, i := range s.items {
		for _, w := range i.words {
			p.config.Global.Email.To = append(p.config.Global.Email.To, w.text)
		}
	}
	if len(s.items) == 0 {
		p.warn(s.at(), s.kw.name, "notification_email is empty", "")
	}
}

func setEmailFrom(p *parser, s *statement) { p.config.Global.Email.From = s.arg(1) }

func setEmailHELO(p *parser, s *statement) { p.config.Global.Email.HELO = s.arg(1) }

// setEmailServer reads smtp_server HOST [PORT].
func setEmailServer(p *parser, s *statement) {
	host, port := s.arg(1), orElse(s.arg(2), "25")
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		host = "[" + host + "]"
	}
	p.config.Global.Email.Server = host + ":" + port
}

func setEmailTimeout(p *parser, s *statement) {
	p.wholeSeconds(s, &p.config.Global.Email.ConnectTimeout)
}

func setEmailAlertVRRP(p *parser, s *statement) {
	if v, ok := p.flag(s); ok {
		p.emailAlert = &v
	}
}

func setNice(p *parser, s *statement) {
	if n, ok := p.number(s, 1, -20, 19, "it is ignored"); ok {
		p.config.Global.Priority = n
	}
}

func setRealtime(p *parser, s *statement) {
	n, ok := p.number(s, 1, -1<<31, 1<<31-1, "it is ignored")
	if !ok {
		return
	}
	if bound := min(max(n, 1), 99); bound != n {
		p.warn(s.argAt(1), s.kw.name, fmt.Sprintf("%s %d is not between 1 and 99: %d is used", s.kw.name, n, bound), "")
		n = bound
	}
	p.config.Global.RealtimePriority = n
}

func setReloadCheck(p *parser, s *statement) { p.config.Global.ReloadCheckConfig = true }

func setJSONVersion(p *parser, s *statement) {
	if n, ok := p.number(s, 1, 1, 2, "it is ignored"); ok {
		p.config.Global.JSONVersion = n
	}
}

// includeCheck reads include_check, which counts for the lines after it.
func (p *parser) includeCheck(s *statement) {
	if len(s.words) == 1 {
		p.reader.checks = checkRead | checkMatch | checkWildcard | checkBrace
		return
	}
	for i, w := range s.words[1:] {
		name, sign := w.text, byte(0)
		if name != "" && (name[0] == '+' || name[0] == '-') {
			name, sign = name[1:], name[0]
		}
		checks := map[string]includeCheck{"read": checkRead, "match": checkMatch, "wildcard_match": checkWildcard, "brace_match": checkBrace}
		c, ok := checks[name]
		switch {
		case !ok:
			p.warn(w.at, s.kw.name, fmt.Sprintf("unknown check %q: it is ignored", name), "read, match, wildcard_match, brace_match")
		case sign == '+':
			p.reader.checks |= c
		case sign == '-':
			p.reader.checks &^= c
		case i > 0:
			p.warn(w.at, s.kw.name, fmt.Sprintf("%q is ignored: a check after the first begins with + or -", name), "")
		default:
			p.reader.checks = checkRead | c
		}
	}
}
