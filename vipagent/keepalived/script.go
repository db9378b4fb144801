package keepalived

import (
	"fmt"
	"strings"
	"time"
)

// maxSeconds is the longest time that Keepalived keeps in 32 bits of microseconds.
const maxSeconds = (1<<32 - 1) / 1_000_000

// setScript reads vrrp_script.
func setScript(p *parser, s *statement) {
	p.script = &Script{Name: s.arg(1), Interval: time.Second, Rise: 1, Fall: 1, At: s.at()}
	p.handleBody(s)
	c := p.script
	if len(c.Command.Args) == 0 {
		p.warn(s.at(), s.kw.name, fmt.Sprintf("vrrp_script %s names no script: it is dropped", c.Name), "")
		return
	}
	if c.Timeout == 0 {
		c.Timeout = c.Interval
	}
	p.config.Scripts = append(p.config.Scripts, *c)
}

func setScriptCommand(p *parser, s *statement) {
	if c := p.command(s, false); c != nil {
		c.User, c.Group = p.script.Command.User, p.script.Command.Group
		p.script.Command = *c
	}
}

func setScriptUser(p *parser, s *statement) {
	p.script.Command.User, p.script.Command.Group = s.arg(1), s.arg(2)
}

// wholeSeconds reads a time for which 0 means 1.
func (p *parser) wholeSeconds(s *statement, to *time.Duration) {
	n, ok := p.number(s, 1, 0, maxSeconds, "it is ignored")
	if !ok {
		return
	}
	if n == 0 {
		p.warn(s.argAt(1), s.kw.name, s.kw.name+" 0 is too short: 1 is used", "")
		n = 1
	}
	*to = time.Duration(n) * time.Second
}

func setScriptInterval(p *parser, s *statement) { p.wholeSeconds(s, &p.script.Interval) }

func setScriptTimeout(p *parser, s *statement) { p.wholeSeconds(s, &p.script.Timeout) }

func setScriptWeight(p *parser, s *statement) {
	p.script.Weight, p.script.Reverse = p.weight(s, 253, "0 is used, a fault")
}

// weight reads "weight N [reverse]".
func (p *parser) weight(s *statement, most int, instead string) (n int, reverse bool) {
	n, _ = p.number(s, 1, -most, most, instead)
	return n, p.reverse(s)
}

// reverse reads the option after a weight.
func (p *parser) reverse(s *statement) bool {
	switch s.arg(2) {
	case "reverse":
		return true
	case "", "noreverse":
	default:
		p.warn(s.argAt(2), s.kw.name, fmt.Sprintf("unknown option %q of weight: it is ignored", s.arg(2)), "")
	}
	return false
}

func setRise(p *parser, s *statement) { p.script.Rise = p.times(s) }

func setFall(p *parser, s *statement) { p.script.Fall = p.times(s) }

func (p *parser) times(s *statement) int {
	if n, ok := p.number(s, 1, 1, 1<<31-1, "1 is used"); ok {
		return n
	}
	return 1
}

func setInitFail(p *parser, _ *statement) { p.script.InitFail = true }

// setProcess reads vrrp_track_process.
func setProcess(p *parser, s *statement) {
	p.process = &TrackProcess{Name: s.arg(1), Quorum: 1, QuorumMax: 65535, At: s.at()}
	p.handleBody(s)
	if p.process.Process == "" {
		p.warn(s.at(), s.kw.name, fmt.Sprintf("vrrp_track_process %s names no process: it is dropped", p.process.Name), "")
		return
	}
	p.config.Processes = append(p.config.Processes, *p.process)
}

func setProcessName(p *parser, s *statement) {
	t := p.process
	if t.Process != "" {
		p.warn(s.at(), s.kw.name, "process is there already: this one is ignored", "")
		return
	}
	t.Process = s.arg(1)
	for _, w := range s.words[2:] {
		t.Params = append(t.Params, w.text)
	}
	if len(t.Params) > 0 {
		t.FullCommand = true
	}
}

func setParamMatch(p *parser, s *statement) {
	switch v := s.arg(1); v {
	case "", "initial", "partial":
		p.process.ParamMatch, p.process.FullCommand = v, true
	default:
		p.warn(s.argAt(1), s.kw.name, fmt.Sprintf("unknown param_match %q: it is ignored", v), "initial, partial, or nothing")
	}
}

func setProcessWeight(p *parser, s *statement) {
	if p.process.Weight != 0 {
		p.warn(s.at(), s.kw.name, "weight is there already: this one is ignored", "")
		return
	}
	p.process.Weight, p.process.Reverse = p.weight(s, 254, "it is ignored")
}

func setQuorum(p *parser, s *statement) {
	n, ok := p.number(s, 1, 1, 65535, "it is ignored")
	if ok && n > p.process.QuorumMax {
		p.warn(s.argAt(1), s.kw.name, "quorum is above quorum_max: it is ignored", "")
	} else if ok {
		p.process.Quorum = n
	}
}

func setQuorumMax(p *parser, s *statement) {
	n, ok := p.number(s, 1, 0, 65535, "it is ignored")
	if !ok {
		return
	}
	t := p.process
	if (n > 0 || t.Quorum > 1) && n < t.Quorum {
		p.warn(s.argAt(1), s.kw.name, "quorum_max is below quorum: it is ignored", "")
		return
	}
	t.QuorumMax = n
	if n == 0 {
		t.Quorum = 0
	} else if t.Quorum == 0 {
		t.Quorum = 1
	}
}

// setProcessDelay reads delay, fork_delay and terminate_delay.
func setProcessDelay(p *parser, s *statement) {
	v, ok := p.seconds(s, 1, time.Microsecond, time.Hour, "it is ignored")
	if !ok {
		return
	}
	if s.kw.name != "fork_delay" {
		p.process.EndDelay = v
	}
	if s.kw.name != "terminate_delay" {
		p.process.ForkDelay = v
	}
}

func setFullCommand(p *parser, _ *statement) { p.process.FullCommand = true }

// defaultFileWeight is what the number in a tracked file is multiplied with.
const defaultFileWeight = 1

// setTrackFile reads track_file and vrrp_track_file at the top level.
func setTrackFile(p *parser, s *statement) {
	p.file = &TrackFile{Name: s.arg(1), Weight: defaultFileWeight, At: s.at()}
	p.handleBody(s)
	if p.file.Path == "" {
		p.warn(s.at(), s.kw.name, fmt.Sprintf("track_file %s names no file: it is dropped", p.file.Name), "")
		return
	}
	p.config.Files = append(p.config.Files, *p.file)
}

func setFilePath(p *parser, s *statement) {
	if p.file.Path != "" {
		p.warn(s.at(), s.kw.name, "file is there already: this one is ignored", "")
		return
	}
	p.file.Path = s.arg(1)
}

func setFileWeight(p *parser, s *statement) {
	if p.file.Weight != defaultFileWeight {
		p.warn(s.at(), s.kw.name, "weight is there already: this one is ignored", "")
		return
	}
	n, ok := p.number(s, 1, -254, 254, "1 is used")
	if !ok {
		n = defaultFileWeight
	}
	p.file.Weight, p.file.Reverse = n, p.reverse(s)
}

// setInitFile reads init_file [VALUE] [overwrite].
func setInitFile(p *parser, s *statement) {
	value := 0
	for i := 1; i < len(s.words); i++ {
		w := s.arg(i)
		switch {
		case w == "overwrite":
			p.file.InitOver = true
		case strings.Trim(w, "-0123456789") != "":
			p.warn(s.argAt(i), s.kw.name, fmt.Sprintf("unknown option %q of init_file: it is ignored", w), "a number, or overwrite")
		default:
			n, ok := p.number(s, i, -1<<31, 1<<31-1, "it is ignored")
			if ok {
				value = n
			}
		}
	}
	p.file.Init = &value
}
