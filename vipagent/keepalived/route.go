package keepalived

import (
	"fmt"
	"strings"
)

func setRoutes(p *parser, s *statement) {
	p.draft.Routes = append(p.draft.Routes, p.routes(s)...)
}

func setStaticRoutes(p *parser, s *statement) {
	p.config.StaticRoutes = append(p.config.StaticRoutes, p.routes(s)...)
}

func setRules(p *parser, s *statement) {
	for _, r := range p.routes(s) {
		p.draft.Rules = append(p.draft.Rules, Rule(r))
	}
}

func setStaticRules(p *parser, s *statement) {
	for _, r := range p.routes(s) {
		p.config.StaticRules = append(p.config.StaticRules, Rule(r))
	}
}

// routes reads the lines of a block of routes or rules. Words that are not Keepalived's
// own are kept for the kernel to judge.
func (p *parser) routes(s *statement) (routes []Route) {
	for _, i := range s.items {
		r := Route{At: i.words[0].at}
		for n := 0; n < len(i.words); n++ {
			w := i.words[n]
			switch {
			case w.text == "no_track":
				r.NoTrack = true
			case w.text == "track_group" && s.kw.in == topLevel && n+1 < len(i.words):
				n++
				r.TrackGroup = i.words[n].text
			default:
				r.Words = append(r.Words, w.text)
				p.routeWord(s, w)
			}
		}
		if len(r.Words) == 0 {
			p.warn(r.At, s.kw.name, "this line names no route or rule: it is ignored", "")
			continue
		}
		routes = append(routes, r)
	}
	return routes
}

// routeWord remarks on a word that looks like a keyword of ip(8) and is none.
func (p *parser) routeWord(s *statement, w word) {
	if strings.HasSuffix(w.text, ";") {
		p.warn(w.at, s.kw.name, fmt.Sprintf("%q: lines do not end with a semicolon", w.text), "")
	}
}
