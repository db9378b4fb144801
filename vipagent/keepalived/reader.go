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
	if len(line) >= maxLine {
		r.report(Diagnostic{Position: Position{f.name, f.line, maxLine}, Severity: Warning,
			Message: fmt.Sprintf("Keepalived reads lines of at most %d bytes, and takes the rest for another line", maxLine-1)})
	}
	line = strings.TrimRight(line, "\r")
	if nul := strings.IndexByte(line, 0); nul >= 0 {
		line = line[:nul]
	}
	return newText(f.name, f.line, line), true
}

// newFile is a file to read from its first line on.
func newFile(name string, content []byte, checks includeCheck) *file {
	return &file{name: name, dir: path.Dir(name), rest: string(content), checks: checks}
}

func (r *reader) push(s source) { r.stack = append(r.stack, s) }

// maxLines bounds the lines of a configuration: generators can be nested.
const maxLines = 200_000

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
		r.report(Diagnostic{Position: t.at(0), Severity: Warning, Code: 5, Message: "a \" is not closed on this line", Hint: "text in quotes cannot span lines"})
	}
	return t
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
