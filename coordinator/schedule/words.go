package schedule

import (
	"fmt"
	"strings"

	"holdfast/fsm"
)

// it names a unit in a sentence.
func (u *unit) it() string {
	if u.group == "" {
		return u.sets[0].Name
	}
	return "sync group " + u.group
}

// names lists the sets of a unit.
func (u *unit) names() string {
	out := make([]string, len(u.sets))
	for i, s := range u.sets {
		out[i] = s.Name
	}
	return strings.Join(out, ", ")
}

func pausedNote(u *unit) string {
	if u.group == "" {
		return u.paused + " is paused: it stays as it is"
	}
	return u.paused + " is paused, and with it all of sync group " + u.group + " (" + u.names() + ") stays as it is"
}

func silentNote(h *host, set string) string {
	why := "has no open session"
	if h.open > 0 {
		why = "does not renew its lease"
	}
	return fmt.Sprintf("%s, which holds %s, %s: wait until its lease has ended for certain, or it is back", h.name, set, why)
}

func recallNote(g *fsm.Grant) string {
	to := "nobody in particular"
	if g.Recall.To != "" {
		to = g.Recall.To
	}
	note := fmt.Sprintf("%s has been asked to release %s, in favour of %s", g.Host, g.Set, to)
	if g.Recall.Cause != "" {
		note += ": " + g.Recall.Cause
	}
	return note
}

func recalling(u *unit, to, reason string) string {
	from := ""
	for _, g := range u.grants {
		if g != nil && g.Recall == nil && g.Host != to {
			from = g.Host
		}
	}
	if to == "" {
		return "recall " + u.it() + " from " + from + ": " + reason
	}
	return "recall " + u.it() + " from " + from + " in favour of " + to + ": " + reason
}

// whyNot gives the reasons for which a host is not eligible, the gravest
// first; none if it is.
func whyNot(u *unit, f *fit) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	name := f.host.name
	if set := f.veto; set != nil {
		if why := f.host.live.Conditions[set.Name].Reason; why != "" {
			add("a health check of %s vetoes %s: %s", name, set.Name, why)
		} else {
			add("a health check of %s vetoes %s", name, set.Name)
		}
	}
	switch {
	case f.host.live != nil:
	case f.host.open > 0:
		add("%s does not renew its lease", name)
	default:
		add("%s has no open session: its agent is not running, or reaches no coordinator", name)
	}
	if f.host.drained {
		if f.host.cause != "" {
			add("%s is drained: %s", name, f.host.cause)
		} else {
			add("%s is drained", name)
		}
	}
	if set := f.missing; set != nil {
		if u.group != "" {
			add("%s is no candidate of %s, which belongs to the same sync group %s", name, set.Name, u.group)
		} else {
			add("%s is no candidate of %s", name, set.Name)
		}
	}
	if f.clash != nil {
		is := "is there"
		if f.clash.epoch == 0 {
			is = "is going there"
		}
		add("%s %s, and anti-affinity %s keeps the two apart", f.clash.set, is, f.label)
	}
	if f.split != "" {
		add("sync group %s can be placed nowhere: two of its sets bear anti-affinity %s", u.group, f.split)
	}
	return out
}

// whyBest tells why the first of the eligible hosts goes before the others.
func whyBest(u *unit, fits []*fit) string {
	f := fits[0]
	if len(fits) == 1 {
		return f.host.name + " is the only host that can hold " + u.it() + " now"
	}
	return f.host.name + " is better than " + fits[1].host.name + ": " + whyBetter(u, f, fits[1])
}

// whyBetter compares a host with one that it goes before.
func whyBetter(u *unit, f, g *fit) string {
	switch {
	case f.mates != g.mates:
		return fmt.Sprintf("%d against %d other sets of spread label %s", f.mates, g.mates, u.spread())
	case f.effective != g.effective:
		return fmt.Sprintf("effective priority %d against %d%s", f.effective, g.effective, u.summed())
	}
	return fmt.Sprintf("equal effective priority %d%s, first by name", f.effective, u.summed())
}

func (u *unit) summed() string {
	if len(u.sets) == 1 {
		return ""
	}
	return " summed over " + u.names()
}

// spread names the spread labels of a unit.
func (u *unit) spread() string {
	var labels []string
	seen := make(map[string]bool)
	for _, s := range u.sets {
		if s.Spread != "" && !seen[s.Spread] {
			seen[s.Spread] = true
			labels = append(labels, s.Spread)
		}
	}
	return strings.Join(labels, ", ")
}

func whyPreempt(u *unit, f, seat *fit) string {
	out := f.host.name + " is better than " + seat.host.name + ": " + whyBetter(u, f, seat)
	if delay, _ := u.preempts(); delay > 0 {
		out += fmt.Sprintf(", and it has been eligible for %v", delay)
	}
	return out
}

// whyStay tells why an eligible holder keeps its unit although, perhaps, there
// is a better host.
func whyStay(u *unit, seat *fit, fits []*fit) string {
	out := seat.host.name + " keeps " + u.it()
	if f := u.preferred(fits); f != nil && f.host == seat.host {
		return out + ": an operator moved it there"
	}
	if len(fits) < 2 {
		return out + ": nobody else can hold it now"
	}
	if fits[0].host == seat.host {
		return out + ": " + whyBest(u, fits)
	}
	delay, ok := u.preempts()
	switch f := fits[0]; {
	case !f.better(seat):
		return out + ": no other host is better"
	case !ok:
		return out + ", though " + f.host.name + " is better (" + whyBetter(u, f, seat) + "): preempt is off"
	default:
		return fmt.Sprintf("%s for now: %s is better (%s) and takes over when it has been eligible for %v, in %v",
			out, f.host.name, whyBetter(u, f, seat), delay, delay-f.since)
	}
}
