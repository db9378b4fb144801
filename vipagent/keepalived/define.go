package keepalived

import (
	"fmt"
	"strings"
)

// definition is what $NAME stands for: text within a line, or, if multiline, whole
// lines.
type definition struct {
	value     string
	lines     []text
	multiline bool
}

// takeDefinition takes a line "$NAME=value" in, with the lines that continue it.
func (r *reader) takeDefinition(t text) bool {
	if len(t.s) < 2 || t.s[0] != '$' || !isLetter(t.s[1]) && t.s[1] != '_' {
		return false
	}
	end := 1
	for end < len(t.s) && isNameByte(t.s[end]) {
		end++
	}
	if end == len(t.s) || t.s[end] != '=' {
		return false
	}
	name := t.s[1:end]
	value := t.from(end + 1)
	if !strings.HasSuffix(value.s, `\`) {
		r.defs[name] = &definition{value: value.s}
		return true
	}
	d := &definition{multiline: true}
	for more := true; more; {
		more = strings.HasSuffix(value.s, `\`)
		if more {
			value = value.cut(0, len(value.s)-1).trimRight()
		}
		if value.s != "" {
			d.lines = append(d.lines, value)
		}
		if more {
			if value, more = r.rawLine(); more {
				value = r.uncomment(value)
			}
		}
	}
	r.defs[name] = d
	return true
}

// Bounds of substitution: Keepalived has a line buffer of 1 KiB, and without the
// other it would replace $A=$A for ever.
const (
	maxLine         = 1024
	maxReplacements = 1000
)

// substitute replaces what is defined in a line. Lines that a definition adds are
// pushed as a source of their own. It says whether anything was replaced.
func (r *reader) substitute(t text) (text, bool) {
	replaced := false
	for i, n := 0, 0; i < len(t.s); {
		if t.s[i] != '$' {
			i++
			continue
		}
		ref, ok := reference(t.s[i:])
		if !ok {
			i++
			continue
		}
		value, lines, ok := r.valueOf(ref, i+ref.length == len(t.s))
		if !ok {
			r.undefined(t, i, ref)
			i++
			continue
		}
		if n++; n > maxReplacements || len(t.s)+len(value) > maxLine {
			r.report(Diagnostic{Position: t.at(i), Severity: Error, Keyword: "$" + ref.name, Code: 5,
				Message: fmt.Sprintf("the line gets too long when $%s is replaced", ref.name)})
			return t.cut(0, i), replaced
		}
		t = t.replace(i, i+ref.length, value)
		replaced = true
		if len(lines) > 0 {
			r.push(&list{lines: lines})
		}
		if strings.HasPrefix(strings.TrimLeft(value, " \t"), "~") {
			break
		}
	}
	return t, replaced
}

// ref is $NAME, ${NAME} or ${NAME parameter}.
type ref struct {
	name, param string
	length      int
	braces      bool
	follows     byte // what stands after a name that cannot stand there; 0 = nothing wrong
}

// reference reads what a "$" begins. Without braces, the name has to be followed by
// white space, a comma, ")" or nothing.
func reference(s string) (ref, bool) {
	f := ref{braces: strings.HasPrefix(s, "${")}
	i := 1
	if f.braces {
		i = 2
	}
	start := i
	for i < len(s) && isNameByte(s[i]) {
		i++
	}
	if i == start || isDigit(s[start]) {
		return f, false
	}
	f.name, f.length = s[start:i], i
	if !f.braces {
		if i < len(s) && !strings.ContainsRune(" \t,)", rune(s[i])) {
			f.follows = s[i]
		}
		return f, true
	}
	end := strings.IndexByte(s[i:], '}')
	if end < 0 {
		return f, false
	}
	f.param, f.length = strings.TrimSpace(s[i:i+end]), i+end+1
	return f, f.param == "" || isBlank(s[i])
}

// valueOf is what a reference stands for: text, and lines to come after this one. A
// definition of several lines counts only at the end of a line.
func (r *reader) valueOf(f ref, last bool) (value string, lines []text, ok bool) {
	if f.follows != 0 {
		return "", nil, false
	}
	if f.name == "_ENV" && f.param != "" {
		value, ok = r.options.Env[f.param]
		return value, nil, ok
	}
	if d, ok := r.defs[f.name]; ok {
		if f.param != "" || d.multiline && !last {
			return "", nil, false
		}
		if d.multiline && len(d.lines) > 0 {
			return d.lines[0].s, d.lines[1:], true
		}
		return d.value, nil, true
	}
	if f.param != "" {
		return "", nil, false
	}
	switch f.name {
	case "_PWD":
		return r.options.PWD, nil, r.options.PWD != ""
	case "_INSTANCE":
		return r.options.Instance, nil, r.options.Instance != ""
	case "_HASH":
		return "#", nil, true
	case "_BANG":
		return "!", nil, true
	}
	return "", nil, false
}

// undefined remarks on a "$" that stays as it is.
func (r *reader) undefined(t text, i int, f ref) {
	d := Diagnostic{Position: t.at(i), Severity: Info, Keyword: "$" + f.name,
		Message: fmt.Sprintf("$%s is not defined, and stays as it is", f.name)}
	known := r.defs[f.name] != nil || strings.HasPrefix(f.name, "_")
	switch {
	case known && f.follows != 0:
		d.Severity = Warning
		d.Message = fmt.Sprintf("$%s stays as it is, because %q follows it", f.name, f.follows)
		d.Hint = fmt.Sprintf("write ${%s}", f.name)
	case r.defs[f.name] != nil && r.defs[f.name].multiline:
		d.Severity = Warning
		d.Message = fmt.Sprintf("$%s has several lines, and counts only at the end of a line", f.name)
	case f.name == "_RANDOM":
		d.Severity = Unhandled
		d.Message = "$_RANDOM stays as it is: a configuration that means something else each time cannot be compared"
	case f.braces:
		d.Severity = Warning
		d.Message = fmt.Sprintf("${%s} is not defined, and its braces count as those of a block", f.name)
	}
	r.report(d)
}
