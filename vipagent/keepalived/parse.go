package keepalived

import "net/netip"

// Files is where configuration files come from.
type Files interface {
	// Read returns a file's content.
	Read(path string) ([]byte, error)
	// Glob returns the existing paths that match a pattern, sorted, as glob(3).
	Glob(pattern string) ([]string, error)
}

// Options are what a configuration's meaning depends on besides its text.
type Options struct {
	ConfigID string            // --config-id: which @ lines count
	Env      map[string]string // of ${_ENV ...}
	Instance string            // --instance... of $_INSTANCE
	PWD      string
}

// Parse reads the file and what it includes. It returns what it understood whatever
// is wrong; Fatal of the diagnostics says whether that may be used.
func Parse(files Files, path string, o Options) (*Config, []Diagnostic) {
	p := &parser{language: newLanguage(), config: &Config{Global: defaultGlobal()}, set: make(settings)}
	p.reader = &reader{files: files, options: o, report: p.add, defs: make(map[string]*definition)}
	if p.open(path) {
		p.block(topLevel, Position{}, p.handle)
		p.complete()
	}
	Sort(p.diagnostics)
	return p.config, p.diagnostics
}

// parser makes a Config of statements.
type parser struct {
	reader      *reader
	language    *language
	config      *Config
	diagnostics []Diagnostic
	pending     *item
	cutOff      bool // the file ended within a block

	set         settings // of global_defs
	garp        garpDefaults
	downAdverts int   // vrrp_down_timer_adverts
	emailAlert  *bool // smtp_alert_vrrp
	drafts      []*draft
	draft       *draft // vrrp_instance that is being read
	script      *Script
	process     *TrackProcess
	file        *TrackFile
	group       *SyncGroup
	groupSet    map[string]settings // of each sync group, by name
	trackGroup  *TrackGroup
	membersAt   map[string]Position
	preferences int // given to rules so far
}

// settings are the keywords that were given, and where.
type settings map[string]Position

// has says whether a keyword was given.
func (s settings) has(keyword string) bool {
	_, ok := s[keyword]
	return ok
}

// defaultGlobal is what holds without global_defs.
func defaultGlobal() Global {
	return Global{
		Version: 2,
		Group4:  netip.AddrFrom4([4]byte{224, 0, 0, 18}),
		Group6:  netip.MustParseAddr("ff02::12"),
	}
}

// open begins with the file that was named.
func (p *parser) open(path string) bool {
	at := Position{File: path, Line: 1, Column: 1}
	content, err := p.reader.files.Read(path)
	switch {
	case err != nil:
		p.error(at, "", "the file cannot be read: "+err.Error(), "Keepalived would run with nothing configured", noFile)
	case len(content) == 0:
		p.error(at, "", "the file is empty", "Keepalived would run with nothing configured", noFile)
	default:
		p.reader.push(newFile(path, content, 0))
		return true
	}
	return false
}

// handle takes a statement in.
func (p *parser) handle(s *statement) {
	switch {
	case s.kw.handle != nil:
		s.kw.handle(p, s)
	case s.kw.shape == opaque:
		p.config.OtherBlocks = append(p.config.OtherBlocks, s.kw.name)
		p.unhandled(s)
	default:
		p.unhandled(s)
	}
}

// unhandled remarks on a keyword of which Holdfast does nothing.
func (p *parser) unhandled(s *statement) {
	d := Diagnostic{Position: s.at(), Severity: Unhandled, Keyword: s.kw.name, Message: s.kw.name + " is not handled: " + s.kw.reason}
	if s.kw.obsolete != "" {
		d.Code, d.Hint = 5, "obsolete; Keepalived asks for "+s.kw.obsolete
	}
	p.add(d)
}

// handleBody takes the statements of a block in.
func (p *parser) handleBody(s *statement) {
	for _, c := range s.body {
		p.handle(c)
	}
}

// add keeps a diagnostic, if it is not there already.
func (p *parser) add(d Diagnostic) {
	if n := len(p.diagnostics); n == 0 || p.diagnostics[n-1] != d {
		p.diagnostics = append(p.diagnostics, d)
	}
}

// warn remarks on what Keepalived would change or ignore.
func (p *parser) warn(at Position, keyword, message, hint string) {
	p.add(Diagnostic{at, Warning, keyword, message, hint, 5})
}

// error remarks on what must not be used.
func (p *parser) error(at Position, keyword, message, hint string, code int) {
	p.add(Diagnostic{at, Error, keyword, message, hint, code})
}

// info remarks on what is worth knowing.
func (p *parser) info(at Position, keyword, message, hint string) {
	p.add(Diagnostic{at, Info, keyword, message, hint, 0})
}
