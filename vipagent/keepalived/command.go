package keepalived

import (
	"fmt"
	"strings"
)

// command reads a program with its arguments: the word after the keyword, taken apart
// as a shell would. The rest of the line may say USER [GROUP], if the keyword has them.
func (p *parser) command(s *statement, withUser bool) *Command {
	words, wrong := splitCommand(s.line)
	if wrong == "" && len(words) < 2 {
		wrong = "no program is named"
	}
	if wrong != "" {
		p.warn(s.argAt(1), s.kw.name, fmt.Sprintf("%s is ignored: %s", s.kw.name, wrong), "")
		return nil
	}
	args, wrong := splitCommand(text{s: words[1].text, cols: make([]int, len(words[1].text))})
	if wrong != "" || len(args) == 0 {
		p.warn(words[1].at, s.kw.name, fmt.Sprintf("%s is ignored: %s", s.kw.name, orElse(wrong, "no program is named")), "")
		return nil
	}
	c := &Command{At: words[1].at}
	for _, a := range args {
		c.Args = append(c.Args, a.text)
	}
	rest := words[2:]
	if withUser && len(rest) > 0 {
		c.User = rest[0].text
		if len(rest) > 1 {
			c.Group = rest[1].text
		}
		if looksLikeArgument(c.User) {
			p.warn(rest[0].at, s.kw.name, fmt.Sprintf("%q is taken for the user to run %s as", c.User, c.Args[0]), "quote the program together with its arguments")
		}
		return c
	}
	if len(rest) > 0 {
		p.add(Diagnostic{rest[0].at, Warning, s.kw.name, fmt.Sprintf("%q is no argument of %s: it is ignored", rest[0].text, c.Args[0]), "quote the program together with its arguments", 0})
	}
	return c
}

func looksLikeArgument(s string) bool {
	return strings.HasPrefix(s, "-") || strings.ContainsAny(s, "/=.:")
}

// notifyBy is the handler of a notify_ keyword of an instance.
func notifyBy(field func(*Notify) **Command) func(*parser, *statement) {
	return func(p *parser, s *statement) { p.notify(s, field(&p.draft.Notify)) }
}

// groupNotifyBy is the handler of a notify_ keyword of a sync group.
func groupNotifyBy(field func(*Notify) **Command) func(*parser, *statement) {
	return func(p *parser, s *statement) { p.notify(s, field(&p.group.Notify)) }
}

func (p *parser) notify(s *statement, to **Command) {
	if *to != nil {
		p.warn(s.at(), s.kw.name, fmt.Sprintf("%s is there already: this one is ignored", s.kw.name), "")
		return
	}
	*to = p.command(s, true)
}

// setNotifyDeleted reads notify_deleted [script].
func setNotifyDeleted(p *parser, s *statement) {
	if p.draft.note(s) {
		p.warn(s.at(), s.kw.name, "notify_deleted is there already: this one is ignored", "")
		return
	}
	if len(s.words) > 1 {
		p.notify(s, &p.draft.Notify.Deleted)
	}
}
