package keepalived

import (
	"fmt"
	"strconv"
	"strings"
)

// sequence gives a line again and again, each time with other values of its
// variables: ~SEQ and ~LST.
type sequence struct {
	vars   []string
	values func(i int) []string
	count  int
	line   text
	done   int
}

func (q *sequence) next(r *reader) (text, bool) {
	if q.done == q.count {
		return text{}, false
	}
	for i, v := range q.values(q.done) {
		r.defs[q.vars[i]] = &definition{value: v}
	}
	q.done++
	return q.line, true
}

// maxGenerated bounds the lines of one generator.
const maxGenerated = 10_000

// takeGenerator takes a line "~SEQ(var, start, step, end) text" or
// "~LST(var, value, ...) text" in.
func (r *reader) takeGenerator(t text) bool {
	if !strings.HasPrefix(t.s, "~SEQ") && !strings.HasPrefix(t.s, "~LST") {
		return false
	}
	open := strings.IndexByte(t.s, '(')
	end := strings.IndexByte(t.s, ')')
	kind := t.s[:4]
	var q *sequence
	var wrong string
	switch {
	case open < 0 || end < open:
		wrong = "its parameters in ( ) are missing"
	case kind == "~SEQ":
		q, wrong = r.newSEQ(t.s[4:open], t.s[open+1:end])
	default:
		q, wrong = newLST(t.s[4:open], t.s[open+1:end])
	}
	if wrong == "" && q.count > maxGenerated {
		wrong = fmt.Sprintf("more than %d lines", maxGenerated)
	}
	if wrong != "" {
		r.report(Diagnostic{Position: t.at(0), Severity: Error, Keyword: kind, Code: 5, Message: fmt.Sprintf("invalid %s: %s", kind, wrong)})
		return true
	}
	q.line = t.from(end + 1)
	r.push(q)
	return true
}

// newSEQ reads "var, end", "var, start, end" or "var, start, step, end"; ~SEQx counts
// in hexadecimal digits.
func (r *reader) newSEQ(variant, params string) (*sequence, string) {
	base := 10
	switch strings.TrimSpace(variant) {
	case "":
	case "x":
		base = 16
	default:
		return nil, fmt.Sprintf("unknown variant %q", variant)
	}
	name, rest, ok := strings.Cut(params, ",")
	name = strings.TrimSpace(name)
	if !ok || name == "" {
		return nil, "the variable or the numbers are missing"
	}
	t, _ := r.substitute(text{s: rest, cols: make([]int, len(rest))})
	var numbers []int
	for f := range strings.SplitSeq(t.s, ",") {
		n, err := strconv.ParseInt(strings.TrimSpace(f), 0, 32)
		if err != nil {
			return nil, fmt.Sprintf("%q is not a number", strings.TrimSpace(f))
		}
		numbers = append(numbers, int(n))
	}
	start, step, end, wrong := seqRange(numbers)
	if wrong != "" {
		return nil, wrong
	}
	if base == 16 && (start < 0 || end < 0) {
		return nil, "~SEQx counts positive numbers only"
	}
	return &sequence{vars: []string{name}, count: (end-start)/step + 1,
		values: func(i int) []string { return []string{strconv.FormatInt(int64(start+i*step), base)} }}, ""
}

func seqRange(n []int) (start, step, end int, wrong string) {
	switch len(n) {
	case 1:
		if end = n[0]; end < 1 {
			// Counts down, from -1 or from 1.
			start, step = 1, -1
			if end < 0 {
				start = -1
			}
			return start, step, end, ""
		}
		return 1, 1, end, ""
	case 2:
		if n[0] > n[1] {
			return n[0], -1, n[1], ""
		}
		return n[0], 1, n[1], ""
	case 3:
		start, step, end = n[0], n[1], n[2]
		if step == 0 || start < end && step < 0 || start > end && step > 0 {
			return 0, 0, 0, fmt.Sprintf("steps of %d do not lead from %d to %d", step, start, end)
		}
		return start, step, end, ""
	}
	return 0, 0, 0, "one to three numbers are needed"
}

// newLST reads "var, value, value" or "{var, var}, {value, value}, {value, value}";
// values that are missing are empty.
func newLST(variant, params string) (*sequence, string) {
	if strings.TrimSpace(variant) != "" {
		return nil, fmt.Sprintf("unknown variant %q", variant)
	}
	sets, wrong := valueSets(params)
	if wrong != "" {
		return nil, wrong
	}
	if len(sets) < 2 {
		return nil, "the variable or its values are missing"
	}
	vars, sets := sets[0], sets[1:]
	for i, s := range sets {
		if len(s) > len(vars) {
			return nil, fmt.Sprintf("%d values for %d variables", len(s), len(vars))
		}
		sets[i] = append(s, make([]string, len(vars)-len(s))...)
	}
	return &sequence{vars: vars, count: len(sets), values: func(i int) []string { return sets[i] }}, ""
}

// valueSets reads a list of values and of {sets of values}.
func valueSets(s string) (sets [][]string, wrong string) {
	for {
		s = strings.TrimLeft(s, " \t")
		var set string
		if strings.HasPrefix(s, "{") {
			end := strings.IndexByte(s, '}')
			if end < 0 {
				return nil, "a } is missing"
			}
			set, s = s[1:end], strings.TrimLeft(s[end+1:], " \t")
			sets = append(sets, splitValues(set))
		} else {
			end := strings.IndexByte(s, ',')
			if end < 0 {
				end = len(s)
			}
			sets = append(sets, []string{strings.TrimSpace(s[:end])})
			s = s[end:]
		}
		if s == "" {
			return sets, ""
		}
		if s[0] != ',' {
			return nil, fmt.Sprintf("%q where a comma should be", s[:1])
		}
		s = s[1:]
	}
}

func splitValues(s string) []string {
	values := strings.Split(s, ",")
	for i, v := range values {
		values[i] = strings.TrimSpace(v)
	}
	return values
}
