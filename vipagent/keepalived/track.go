package keepalived

import (
	"fmt"
	"strconv"
)

// tracked is a kind of thing whose fault counts for an instance.
type tracked struct {
	noun   string
	weight int // the largest
	known  func(p *parser, name string) bool
}

func trackedInterfaces() tracked {
	return tracked{"interface", 253, func(*parser, string) bool { return true }}
}

func trackedScripts() tracked {
	return tracked{"vrrp_script", 253, func(p *parser, name string) bool {
		for _, s := range p.config.Scripts {
			if s.Name == name {
				return true
			}
		}
		return false
	}}
}

func trackedProcesses() tracked {
	return tracked{"vrrp_track_process", 254, func(p *parser, name string) bool {
		for _, t := range p.config.Processes {
			if t.Name == name {
				return true
			}
		}
		return false
	}}
}

func trackedFiles() tracked {
	return tracked{"track_file", 254, func(p *parser, name string) bool {
		for _, f := range p.config.Files {
			if f.Name == name {
				return true
			}
		}
		return false
	}}
}

// trackBy is the handler of a track_ block of an instance.
func trackBy(what func() tracked, list func(*draft) *[]Track) func(*parser, *statement) {
	return func(p *parser, s *statement) { p.tracks(s, what(), list(p.draft)) }
}

// groupTrackBy is the handler of a track_ block of a sync group.
func groupTrackBy(what func() tracked, list func(*SyncGroup) *[]Track) func(*parser, *statement) {
	return func(p *parser, s *statement) { p.tracks(s, what(), list(p.group)) }
}

// tracks reads lines like "eth1 weight -20 reverse".
func (p *parser) tracks(s *statement, what tracked, list *[]Track) {
	for _, i := range s.items {
		t := Track{Name: i.words[0].text, At: i.words[0].at}
		if !what.known(p, t.Name) {
			p.warn(t.At, s.kw.name, fmt.Sprintf("no %s is named %s above: it is not tracked", what.noun, t.Name), p.nearestName(what, t.Name))
			continue
		}
		if trackedTwice(*list, t.Name) {
			p.warn(t.At, s.kw.name, fmt.Sprintf("%s is tracked already: this line is ignored", t.Name), "")
			continue
		}
		if p.trackOptions(s, i, what, &t) {
			*list = append(*list, t)
		}
	}
}

func trackedTwice(list []Track, name string) bool {
	for _, t := range list {
		if t.Name == name {
			return true
		}
	}
	return false
}

// nearestName suggests a name that is known.
func (p *parser) nearestName(what tracked, name string) string {
	var names []string
	switch what.noun {
	case "vrrp_script":
		for _, s := range p.config.Scripts {
			names = append(names, s.Name)
		}
	case "vrrp_track_process":
		for _, t := range p.config.Processes {
			names = append(names, t.Name)
		}
	case "track_file":
		for _, f := range p.config.Files {
			names = append(names, f.Name)
		}
	}
	for _, n := range names {
		if isNear(n, name) {
			return fmt.Sprintf("did you mean %s?", n)
		}
	}
	return fmt.Sprintf("a %s has to be defined before what tracks it", what.noun)
}

// trackOptions reads "weight N [reverse|noreverse]"; false if the line is ignored.
func (p *parser) trackOptions(s *statement, i item, what tracked, t *Track) bool {
	if len(i.words) == 1 {
		return true
	}
	w := i.words[1]
	switch {
	case w.text == "reverse" || w.text == "noreverse":
		t.Reverse = w.text == "reverse"
		return true
	case w.text != "weight":
		p.warn(w.at, s.kw.name, fmt.Sprintf("unknown option %q of %s: it is ignored", w.text, t.Name), orElse(semicolon(w.text), "one name per line"))
		return true
	case len(i.words) == 2:
		p.warn(w.at, s.kw.name, fmt.Sprintf("weight lacks its value: %s is not tracked", t.Name), "")
		return false
	}
	n, err := strconv.Atoi(i.words[2].text)
	if err != nil || n < -254 || n > 254 {
		p.warn(i.words[2].at, s.kw.name, fmt.Sprintf("weight %q is not between -%d and %d: 0 is used, a fault", i.words[2].text, what.weight, what.weight), "")
		n = 0
	} else if n < -what.weight || n > what.weight {
		p.warn(i.words[2].at, s.kw.name, fmt.Sprintf("weight %d is cut to %d", n, n/254*what.weight), "")
		n = n / 254 * what.weight
	}
	t.Weight, t.Set = n, true
	if len(i.words) > 3 {
		switch v := i.words[3]; v.text {
		case "reverse":
			t.Reverse = true
		case "noreverse":
		default:
			p.warn(v.at, s.kw.name, fmt.Sprintf("unknown option %q of weight: it is ignored", v.text), "")
		}
	}
	return true
}
