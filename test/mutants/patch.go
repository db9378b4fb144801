package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// mutant is one planted fault.
type mutant struct {
	name        string // of the file, without .patch
	fault, rule string
	checks      []string // commands that must find it
	files       []change
}

// change is what a patch does to one file.
type change struct {
	path  string
	hunks []hunk
}

// hunk replaces some lines.
type hunk struct {
	line     int // where the old lines begin, 1 = the first
	old, new []string
}

func (m mutant) header() string {
	return m.fault + "\n" + m.rule + "\n" + strings.Join(m.checks, "\n")
}

// load reads all patches of a folder, by name.
func load(dir string) ([]mutant, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		return nil, err
	}
	slices.Sort(paths)
	var out []mutant
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			return nil, fmt.Errorf("read mutant: %w", err)
		}
		m, err := parse(strings.TrimSuffix(filepath.Base(p), ".patch"), string(text))
		if err != nil {
			return nil, fmt.Errorf("read mutant %s: %w", filepath.Base(p), err)
		}
		out = append(out, m)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no *.patch in %s", dir)
	}
	return out, nil
}

// parse reads a header and a unified diff. It is strict: what it does not know is an
// error.
func parse(name, text string) (mutant, error) {
	m := mutant{name: name}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	i := 0
	for ; i < len(lines) && !strings.HasPrefix(lines[i], "--- "); i++ {
		key, value, _ := strings.Cut(lines[i], ": ")
		switch key {
		case "fault":
			m.fault = value
		case "rule":
			m.rule = value
		case "find":
			m.checks = append(m.checks, value)
		default:
			if lines[i] != "" {
				return m, fmt.Errorf("line %d: %q is no line of a header", i+1, lines[i])
			}
		}
	}
	if m.fault == "" || m.rule == "" || len(m.checks) == 0 {
		return m, errors.New("the header needs fault, rule and at least one find")
	}
	for i < len(lines) {
		c, next, err := parseChange(lines, i)
		if err != nil {
			return m, err
		}
		m.files = append(m.files, c)
		i = next
	}
	if len(m.files) == 0 {
		return m, errors.New("it changes nothing")
	}
	return m, nil
}

// parseChange reads the part of a diff that is about one file.
func parseChange(lines []string, i int) (c change, next int, err error) {
	if i+1 >= len(lines) || !strings.HasPrefix(lines[i], "--- a/") || !strings.HasPrefix(lines[i+1], "+++ b/") {
		return c, 0, fmt.Errorf("line %d: want --- a/FILE and +++ b/FILE", i+1)
	}
	c.path = strings.TrimPrefix(lines[i+1], "+++ b/")
	for i += 2; i < len(lines) && !strings.HasPrefix(lines[i], "--- a/"); {
		h := hunk{}
		fields := strings.FieldsFunc(lines[i], func(r rune) bool { return strings.ContainsRune("@ ,-+", r) })
		if !strings.HasPrefix(lines[i], "@@ -") || len(fields) == 0 {
			return c, 0, fmt.Errorf("line %d: want @@ -LINE", i+1)
		}
		if h.line, err = strconv.Atoi(fields[0]); err != nil {
			return c, 0, fmt.Errorf("line %d: %w", i+1, err)
		}
		for i++; i < len(lines) && !strings.HasPrefix(lines[i], "@@ ") && !strings.HasPrefix(lines[i], "--- a/"); i++ {
			sign, rest := byte(' '), ""
			if lines[i] != "" {
				sign, rest = lines[i][0], lines[i][1:]
			}
			if sign != '+' {
				h.old = append(h.old, rest)
			}
			if sign != '-' {
				h.new = append(h.new, rest)
			}
			if !strings.ContainsRune(" +-", rune(sign)) {
				return c, 0, fmt.Errorf("line %d: %q", i+1, lines[i])
			}
		}
		if slices.Equal(h.old, h.new) || len(h.old) == 0 {
			return c, 0, fmt.Errorf("line %d: a hunk that changes nothing, or has nothing around it", i)
		}
		c.hunks = append(c.hunks, h)
	}
	return c, i, nil
}

// patched returns the text of a file after a change. The old lines must be there as
// they are; if they are there more than once, the place nearest to the line number
// counts.
func (c change) patched(text string) (string, error) {
	lines := strings.Split(text, "\n")
	shift := 0
	for _, h := range c.hunks {
		best := -1
		for at := 0; at+len(h.old) <= len(lines); at++ {
			near := func(x int) int { return max(x-(h.line-1+shift), h.line-1+shift-x) }
			if slices.Equal(lines[at:at+len(h.old)], h.old) && (best < 0 || near(at) < near(best)) {
				best = at
			}
		}
		if best < 0 {
			return "", fmt.Errorf("%s has changed: the lines around line %d are not there any more", c.path, h.line)
		}
		lines = slices.Replace(lines, best, best+len(h.old), h.new...)
		shift = best - (h.line - 1) + len(h.new) - len(h.old)
	}
	return strings.Join(lines, "\n"), nil
}
