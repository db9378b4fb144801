package keepalived

import "fmt"

func setRules(p *parser, s *statement) { p.draft.Rules = append(p.draft.Rules, p.rules(s)...) }

func setStaticRules(p *parser, s *statement) {
	p.config.StaticRules = append(p.config.StaticRules, p.rules(s)...)
}

// firstPreference is what a rule without one gets; the next one gets one less.
const firstPreference = 16384

// rules reads the lines of a block of rules, in the words of ip(8).
func (p *parser) rules(s *statement) (rules []Rule) {
	for _, i := range s.items {
		r := &lineReader{p: p, keyword: s.kw.name, static: s.kw.in == topLevel, kindOf: ruleWord, words: i.words}
		good := r.take(func(w word) bool {
			r.warn(w, fmt.Sprintf("unknown word %q of a rule: this line is ignored", w.text))
			return false
		})
		actions := 0
		for _, w := range r.seen {
			switch w {
			case "table", "lookup", "goto", "nop", "blackhole", "unreachable", "prohibit", "l3mdev":
				actions++
			}
		}
		preference := r.has("preference", "order", "priority")
		switch {
		case !good:
			continue
		case actions == 0:
			r.warn(i.words[0], "a rule needs an action, such as table: this line is ignored")
			continue
		case actions > 1:
			r.warn(i.words[0], "a rule has one action: this line is ignored")
			continue
		case r.has("goto") && !preference:
			r.warn(i.words[0], "goto needs a preference: this line is ignored")
			continue
		case !preference:
			n := firstPreference - p.preferences
			p.preferences++
			r.warn(i.words[0], fmt.Sprintf("the rule has no preference: %d is used", n))
			r.kept = append(r.kept, "preference", fmt.Sprint(n))
		}
		rules = append(rules, Rule{Words: r.kept, NoTrack: r.noTrack, TrackGroup: r.trackGroup, At: i.words[0].at})
	}
	return rules
}
