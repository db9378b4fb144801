package keepalived

import (
	"fmt"
	"path"
	"strings"
)

// reader gives the lines of a configuration as its blocks are made of them: comments
// gone, definitions replaced, included files in their place, and each brace on a line
// of its own.
type reader struct {
	files   Files
	options Options
	report  func(Diagnostic)
	stack   []source // the last one is read first
	defs    map[string]*definition
	checks  includeCheck // of include_check
	opened  int          // files so far
	lines   int          // given so far
	ended   bool         // reading was given up
}

// source gives lines as they are written.
type source interface {
	next(*reader) (text, bool)
}

// list is lines that are there already.
type list struct{ lines []text }

func (l *list) next(*reader) (text, bool) {
	if len(l.lines) == 0 {
		return text{}, false
	}
	t := l.lines[0]
	l.lines = l.lines[1:]
	return t, true
}

// file is a file that is being read.
type file struct {
	name, dir string
	rest      string
	line      int
	checks    includeCheck // to return to at its end
}

func (f *file) next(r *reader) (text, bool) {
	if f.rest == "" {
		r.checks = f.checks
		return text{}, false
	}
	line, rest, _ := strings.Cut(f.rest, "\n")
	f.rest = rest
	f.line++
	t := newText(f.name, f.line, strings.TrimRight(line, "\r"))
	if len(t.s) >= maxLine {
		r.report(Diagnostic{Position{f.name, f.line, maxLine}, Warning, "",
			fmt.Sprintf("Keepalived reads lines of at most %d bytes, and takes the rest for another line", maxLine-1), "", 0})
		r.push(&list{lines: cutLong(t.cut(maxLine-1, len(t.s)))})
		t = t.cut(0, maxLine-1)
	}
	if nul := strings.IndexByte(t.s, 0); nul >= 0 {
		t = t.cut(0, nul)
	}
	return t, true
}

// cutLong makes lines of what does not fit into one.
func cutLong(t text) (lines []text) {
	for len(t.s) >= maxLine {
		lines = append(lines, t.cut(0, maxLine-1))
		t = t.cut(maxLine-1, len(t.s))
	}
	return append(lines, t)
}

// newFile is a file to read from its first line on.
func newFile(name string, content []byte, checks includeCheck) *file {
	return &file{name: name, dir: path.Dir(name), rest: string(content), checks: checks}
}

func (r *reader) push(s source) { r.stack = append(r.stack, s) }

// maxLines bounds the lines of a configuration: generators can be nested.
const maxLines = 100_000

// rawLine is the next line as it is written.
func (r *reader) rawLine() (text, bool) {
	for len(r.stack) > 0 && !r.ended {
		top := len(r.stack) - 1
		s := r.stack[top]
		t, ok := s.next(r)
		if !ok {
			r.stack = r.stack[:top]
			continue
		}
		if r.lines++; r.lines > maxLines {
			r.report(Diagnostic{Position: t.at(0), Severity: Error, Code: 5, Message: fmt.Sprintf("more than %d lines: reading ends here", maxLines)})
			r.ended = true
			return text{}, false
		}
		return t, true
	}
	return text{}, false
}

// uncomment drops the comment of a line.
func (r *reader) uncomment(t text) text {
	t, open := uncomment(t)
	if open {
		r.report(openQuote(t.at(0)))
	}
	return t
}

// openQuote remarks on a quote that is not closed on its line.
func openQuote(at Position) Diagnostic {
	return Diagnostic{at, Warning, "", `a " is not closed on this line: what follows it is lost`, "text in quotes cannot span lines", 5}
}

// line is the next line that is not empty, and never more than one side of a brace.
func (r *reader) line() (text, bool) {
	for {
		t, ok := r.rawLine()
		if !ok {
			return text{}, false
		}
		t = r.uncomment(t)
		if t, ok = r.expand(t); ok && t.s != "" && !r.takeInclude(t) {
			return r.splitBrace(t), true
		}
	}
}

// expand takes out what is for the reader itself. It says whether a line remains.
func (r *reader) expand(t text) (text, bool) {
	for range maxReplacements {
		if strings.HasPrefix(t.s, "@") {
			var counts bool
			if t, counts = r.conditional(t); !counts {
				return t, false
			}
		}
		if r.takeDefinition(t) || r.takeGenerator(t) {
			return t, false
		}
		if strings.HasPrefix(t.s, "~") || !strings.Contains(t.s, "$") {
			return t, true
		}
		u, replaced := r.substitute(t)
		if !replaced {
			return u, true
		}
		// A comment may have come in.
		u.clean = false
		t = r.uncomment(u)
	}
	return t, true
}

// conditional reads "@id text" and "@^id text": the text counts if the configuration
// is for that id, or for another one.
func (r *reader) conditional(t text) (text, bool) {
	i := 1
	not := strings.HasPrefix(t.s, "@^")
	if not {
		i = 2
	}
	end := strings.IndexAny(t.s, " \t")
	if end < i {
		return t, false
	}
	same := r.options.ConfigID != "" && t.s[i:end] == r.options.ConfigID
	return t.from(end), same != not
}

// splitBrace gives the line up to its first brace outside quotes, or the brace if the
// line begins with it, and keeps the rest for the next call.
func (r *reader) splitBrace(t text) text {
	quote := false
	for i := range len(t.s) {
		switch c := t.s[i]; {
		case c == '"':
			quote = !quote
		case (c == '{' || c == '}') && !quote:
			end := i
			if i == 0 {
				end = 1
			}
			if rest := t.from(end).trimRight(); rest.s != "" {
				r.push(&list{lines: []text{rest}})
			}
			return t.cut(0, end).trimRight()
		}
	}
	return t.trimRight()
}

// join is a path that is written in a file of the directory.
func join(dir, name string) string {
	if path.IsAbs(name) || dir == "" {
		return name
	}
	return path.Join(dir, name)
}
