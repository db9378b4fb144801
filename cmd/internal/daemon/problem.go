package daemon

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Problem is one thing that is wrong (or, as a warning, doubtful) in a
// configuration.
type Problem struct {
	File    string
	Line    int    // from 1; 0: nowhere in the file, e.g. a missing key
	Column  int    // from 1
	Text    string // the line, with keys hidden; "" if Line is 0
	Key     string // key path, e.g. raft.heartbeat or checks[2].url
	Flag    bool   // the value came from the flag --Key
	Message string
	Hint    string // what to write instead; may be empty
}

// String renders the problem on one to three lines, the compiler's way:
//
//	coordinator.yaml:12:3: unknown key "hartbeat" in raft; did you mean "heartbeat"?
//	   12 |   hartbeat: 250ms
//	      |   ^
func (p Problem) String() string {
	var b strings.Builder
	switch {
	case p.Flag:
		fmt.Fprintf(&b, "flag --%s: ", p.Key)
	case p.Line > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Line, p.Column)
	default:
		fmt.Fprintf(&b, "%s: ", p.File)
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString("; " + p.Hint)
	}
	if p.Line > 0 && !p.Flag {
		fmt.Fprintf(&b, "\n%5d | %s", p.Line, p.Text)
		if n := p.Column - 1; n >= 0 && n <= len(p.Text) && !strings.Contains(p.Text, hidden) {
			fmt.Fprintf(&b, "\n      | %s^", indent(p.Text, n))
		}
	}
	return b.String()
}

// indent returns blanks as wide as the first n characters of text: its tabs
// stay tabs, so that the caret stands where the reader sees the character.
func indent(text string, n int) string {
	blanks := make([]rune, 0, n)
	for _, r := range text {
		if len(blanks) == n {
			break
		}
		if r != '\t' {
			r = ' '
		}
		blanks = append(blanks, r)
	}
	return string(blanks)
}

// Warning is a doubtful but usable setting.
type Warning = Problem

// ConfigError has everything that is wrong with one configuration, in the order
// of its lines; what is wrong with no line comes last.
type ConfigError struct {
	Problems []Problem
}

// Error lists all problems, a blank line between two of them.
func (e *ConfigError) Error() string {
	parts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		parts[i] = p.String()
	}
	return strings.Join(parts, "\n")
}

func sortProblems(ps []Problem) {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if (a.Line == 0) != (b.Line == 0) {
			return cmp.Compare(b.Line, a.Line)
		}
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

const hidden = "(hidden)"

// keyLike matches what may be a gossip key: errors go to logs, and keys must
// not. A long path without dots looks nearly like one, so without the "=" at the
// end a match may have a slash only where the text speaks of keys.
var (
	keyLike     = regexp.MustCompile(`[A-Za-z0-9+/]{30,}=+|[A-Za-z0-9+]{40,}`)
	keyLikeWide = regexp.MustCompile(`[A-Za-z0-9+/]{30,}=*`)
	namesKeys   = regexp.MustCompile(`(?i)\bkeys?\b`)
)

func hideKeys(s string) string {
	if namesKeys.MatchString(s) {
		return keyLikeWide.ReplaceAllString(s, hidden)
	}
	return keyLike.ReplaceAllString(s, hidden)
}

// quoteLine makes one line of the file fit to print: keys hidden, no control
// characters, not endless.
func quoteLine(line string) string {
	line = hideKeys(strings.TrimRight(line, "\r"))
	line = strings.Map(func(r rune) rune {
		if r != '\t' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, line)
	if r := []rune(line); len(r) > 160 {
		line = string(r[:160]) + "..."
	}
	return line
}

// closest returns the known word that is nearest to word by edit distance, or
// "" if none is near enough to be a slip of the pen.
func closest(word string, known []string) string {
	best, bestDistance := "", len(word)/3+2
	for _, k := range known {
		if d := editDistance(word, k, bestDistance); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// editDistance is the Levenshtein distance of a and b, or limit if their
// lengths alone make it that large.
func editDistance(a, b string, limit int) int {
	if diff := len(a) - len(b); diff >= limit || -diff >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

func quoteAll(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	return strings.Join(quoted, ", ")
}
