package keepalived

import (
	"fmt"
	"strings"
)

// includeCheck says what makes a failed include an error for Keepalived.
type includeCheck uint8

const (
	checkRead     includeCheck = 1 << iota // a file that cannot be read
	checkMatch                             // no file, without wildcards
	checkWildcard                          // no file, even with wildcards
	checkBrace                             // not each alternative of a {a,b} exists
)

// noFile is the exit code for a file that is not there or cannot be read. It is none
// of Keepalived's: that says 0 then, and runs on nothing.
const noFile = 3

// Bounds of inclusion, which Keepalived leaves to the number of open files.
const (
	maxDepth = 32
	maxFiles = 1000
)

// takeInclude reads "include pattern" and its variants.
func (r *reader) takeInclude(t text) bool {
	end := strings.IndexAny(t.s, " \t")
	if end < 0 {
		return false
	}
	checks, ok := includeKeyword(t.s[:end])
	if !ok {
		return false
	}
	r.include(t.from(end), checks|r.checks)
	return true
}

// includeKeyword says what the variants of include check.
func includeKeyword(s string) (includeCheck, bool) {
	switch s {
	case "include":
		return 0, true
	case "includer":
		return checkRead, true
	case "includem":
		return checkRead | checkMatch, true
	case "includew":
		return checkRead | checkMatch | checkWildcard, true
	case "includeb":
		return checkRead | checkBrace, true
	case "includea":
		return checkRead | checkMatch | checkWildcard | checkBrace, true
	}
	return 0, false
}

// include pushes the files that match, so that the first is read first.
func (r *reader) include(t text, checks includeCheck) {
	depth, dir := 0, ""
	for _, s := range r.stack {
		if f, ok := s.(*file); ok {
			depth++
			dir = f.dir
		}
	}
	if depth > maxDepth || r.opened > maxFiles {
		r.report(Diagnostic{Position: t.at(0), Severity: Error, Keyword: "include", Code: 5, Message: fmt.Sprintf("%s is not included: too many files, or one that includes itself", t.s)})
		r.ended = true
		return
	}
	pattern := join(dir, t.s)
	names, err := r.files.Glob(pattern)
	if err != nil {
		r.notIncluded(t, fmt.Sprintf("%s cannot be included: %v", t.s, err))
		return
	}
	wildcard := strings.ContainsAny(t.s, "*?[")
	switch {
	case len(names) == 0 && !wildcard:
		r.notIncluded(t, fmt.Sprintf("%s is included and does not exist", t.s))
	case len(names) == 0 && checks&checkWildcard != 0:
		r.notIncluded(t, fmt.Sprintf("nothing matches %s", t.s))
	case len(names) == 0:
		r.report(Diagnostic{Position: t.at(0), Severity: Info, Keyword: "include", Message: fmt.Sprintf("nothing matches %s", t.s)})
	}
	var sources []source
	for _, name := range names {
		content, err := r.files.Read(name)
		if err != nil {
			r.notIncluded(t, fmt.Sprintf("%s cannot be read: %v", name, err))
			continue
		}
		r.opened++
		sources = append(sources, newFile(name, content, r.checks))
	}
	for i := len(sources) - 1; i >= 0; i-- {
		r.push(sources[i])
	}
}

func (r *reader) notIncluded(t text, message string) {
	r.report(Diagnostic{Position: t.at(0), Severity: Error, Keyword: "include", Code: noFile, Message: message,
		Hint: "Keepalived would go on without it"})
}
