package keepalived

import (
	"fmt"
	"strings"
)

// statement is a keyword with what follows it.
type statement struct {
	kw    *keyword
	words []word // the keyword is the first
	line  text   // the whole line, as it is before quotes are taken off
	body  []*statement
	items []item // of a block of items
}

// item is a line of a block of items.
type item struct {
	words []word
	line  text
}

// at is the place of the statement.
func (s *statement) at() Position { return s.words[0].at }

// arg is the i-th word after the keyword, or nothing.
func (s *statement) arg(i int) string {
	if i < len(s.words) {
		return s.words[i].text
	}
	return ""
}

// argAt is the place of the i-th word after the keyword, or of the last word.
func (s *statement) argAt(i int) Position { return s.words[min(i, len(s.words)-1)].at }

// next is the next line with words in it.
func (p *parser) next() (item, bool) {
	if p.pending != nil {
		i := *p.pending
		p.pending = nil
		return i, true
	}
	for {
		t, ok := p.reader.line()
		if !ok {
			return item{}, false
		}
		words, open := splitWords(t)
		if open {
			p.add(openQuote(t.at(0)))
		}
		if len(words) > 0 {
			return item{words, t}, true
		}
	}
}

func (p *parser) unread(i item) { p.pending = &i }

// isBrace says whether a line is that brace and nothing else.
func (i item) isBrace(b string) bool { return len(i.words) == 1 && i.words[0].text == b }

// block reads the statements of a block up to its closing brace. At the top level,
// each is given to done at once, for what it says may count for the lines after it.
func (p *parser) block(in block, opened Position, done func(*statement)) {
	for {
		i, ok := p.next()
		switch {
		case !ok && in == topLevel:
			return
		case !ok:
			p.unclosed(opened, string(in))
			return
		case i.isBrace("{"):
			p.error(i.words[0].at, "{", `a "{" where none belongs`, "nothing on the line before begins a block; what is in it is not read", 5)
			p.skipBlock(i.words[0].at)
		case i.isBrace("}") && in == topLevel:
			p.error(i.words[0].at, "}", `a "}" too many`, "a block has ended before, or its { is missing", 5)
		case i.isBrace("}"):
			return
		default:
			if s := p.statement(in, i); s != nil {
				done(s)
			}
		}
	}
}

// statement reads what follows a keyword; nil if the keyword is unknown.
func (p *parser) statement(in block, i item) *statement {
	kw := p.language.find(in, i.words[0].text)
	if kw == nil {
		p.unknown(in, i)
		return nil
	}
	s := &statement{kw: kw, words: i.words, line: i.line}
	if len(i.words) <= kw.args && !p.missingArgument(s) {
		return nil
	}
	switch kw.shape {
	case items:
		p.items(s)
	case nested:
		p.openBlock(s)
		p.block(kw.body, s.at(), func(c *statement) { s.body = append(s.body, c) })
	case opaque:
		if next, ok := p.next(); ok && next.isBrace("{") {
			p.skipBlock(s.at())
		} else if ok {
			p.unread(next)
		}
	}
	if kw.name == "include_check" {
		p.includeCheck(s)
	}
	return s
}

// missingArgument remarks on a keyword without its argument, and says whether the
// statement can be looked at all the same.
func (p *parser) missingArgument(s *statement) bool {
	hint := ""
	if next, ok := p.next(); ok {
		if p.language.find(s.kw.in, next.words[0].text) == nil && len(next.words) == 1 && !strings.ContainsAny(next.words[0].text, "{}") {
			hint = fmt.Sprintf("values stand on the line of their keyword: is %q meant?", next.words[0].text)
		} else {
			p.unread(next)
		}
	}
	if s.kw.soft {
		p.add(Diagnostic{s.at(), Warning, s.kw.name, s.kw.name + " lacks its value, and is ignored", hint, 5})
		return false
	}
	if hint == "" {
		hint = "Keepalived ends here, and reads no further"
	}
	p.error(s.at(), s.kw.name, s.kw.name+" lacks its value", hint, 2)
	return s.kw.shape != line
}

// openBlock reads the brace that opens a block.
func (p *parser) openBlock(s *statement) {
	i, ok := p.next()
	if ok && i.isBrace("{") {
		return
	}
	p.error(s.at(), s.kw.name, fmt.Sprintf(`the "{" of %s is missing`, s.kw.name), "", 5)
	if ok {
		p.unread(i)
	}
}

// items reads a block of items.
func (p *parser) items(s *statement) {
	if len(s.words) > 1+s.kw.args {
		p.warn(s.words[1+s.kw.args].at, s.kw.name, fmt.Sprintf("%s takes nothing before its {: %q is ignored", s.kw.name, s.words[1+s.kw.args].text), "")
	}
	p.openBlock(s)
	for {
		i, ok := p.next()
		switch {
		case !ok:
			p.unclosed(s.at(), s.kw.name)
			return
		case i.isBrace("}"):
			return
		case i.isBrace("{"):
			p.error(i.words[0].at, "{", fmt.Sprintf(`a "{" within %s`, s.kw.name), "", 5)
		default:
			s.items = append(s.items, i)
		}
	}
}

// skipBlock reads over a block whose opening brace has been read.
func (p *parser) skipBlock(opened Position) {
	for depth := 1; depth > 0; {
		i, ok := p.next()
		switch {
		case !ok:
			p.unclosed(opened, "this block")
			return
		case i.isBrace("{"):
			depth++
		case i.isBrace("}"):
			depth--
		}
	}
}

// unclosed remarks on the innermost block that the file ends in; those around it are
// open for the same reason.
func (p *parser) unclosed(at Position, name string) {
	if !p.cutOff {
		p.error(at, name, fmt.Sprintf(`%s is not closed: its "}" is missing`, name), "", 5)
	}
	p.cutOff = true
}

// unknown remarks on a word that is no keyword here, and reads over its block.
func (p *parser) unknown(in block, i item) {
	name := i.words[0].text
	d := Diagnostic{i.words[0].at, Warning, name, fmt.Sprintf("unknown keyword %q %s", name, in.where()), "", 5}
	near, blocks := p.language.nearest(in, name), p.language.elsewhere(name)
	switch {
	case len(blocks) == 1 && blocks[0] == topLevel.String():
		d.Message = fmt.Sprintf("%s does not belong %s but at the top level", name, in.where())
		d.Hint = `is a "}" missing above?`
		d.Severity = Error
	case len(blocks) > 0:
		d.Message = fmt.Sprintf("%s does not belong %s but in %s", name, in.where(), strings.Join(blocks, ", "))
		d.Hint = "Keepalived ignores it here"
	case strings.HasSuffix(name, ";") && p.language.find(in, strings.TrimRight(name, ";")) != nil:
		d.Hint = "lines do not end with a semicolon"
	case near != "":
		d.Hint = fmt.Sprintf("did you mean %s?", near)
	}
	if next, ok := p.next(); ok && next.isBrace("{") {
		d.Severity = Error
		if d.Hint == "" {
			d.Hint = "Keepalived takes what is in its braces for a part of the block around it"
		}
		p.add(d)
		p.skipBlock(next.words[0].at)
		return
	} else if ok {
		p.unread(next)
	}
	p.add(d)
}
