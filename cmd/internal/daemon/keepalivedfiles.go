package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// KeepalivedFiles reads configuration files of Keepalived as Keepalived does: it
// refuses what is no regular file, and what is executable.
type KeepalivedFiles struct{}

// ErrNotAConfiguration: Keepalived skips such files.
var ErrNotAConfiguration = errors.New("not a regular file that nobody may execute")

// Read returns a file's content.
func (KeepalivedFiles) Read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 != 0 {
		return nil, fmt.Errorf("%s is %w", path, ErrNotAConfiguration)
	}
	return os.ReadFile(path)
}

// Glob returns the existing paths that match a pattern, sorted, as glob(3) with
// GLOB_BRACE: {a,b} stands for a and for b.
func (KeepalivedFiles) Glob(pattern string) ([]string, error) {
	var names []string
	for _, p := range expandBraces(pattern) {
		found, err := filepath.Glob(p)
		if err != nil {
			return nil, fmt.Errorf("match %s: %w", p, err)
		}
		slices.Sort(found)
		names = append(names, found...)
	}
	return names, nil
}

// maxAlternatives bounds what braces may stand for.
const maxAlternatives = 1000

// expandBraces lists what a pattern with {a,b} stands for. A brace that is not closed
// stands for itself.
func expandBraces(pattern string) []string {
	done, todo := []string(nil), []string{pattern}
	for len(todo) > 0 && len(done)+len(todo) < maxAlternatives {
		p := todo[0]
		todo = todo[1:]
		open, end, commas := outerBraces(p)
		if end < 0 {
			done = append(done, p)
			continue
		}
		var expanded []string
		from := open + 1
		for _, comma := range append(commas, end) {
			expanded = append(expanded, p[:open]+p[from:comma]+p[end+1:])
			from = comma + 1
		}
		todo = append(expanded, todo...)
	}
	return append(done, todo...)
}

// outerBraces finds the first braces that are not within others, and the commas
// between them; end is -1 if there are none.
func outerBraces(p string) (open, end int, commas []int) {
	open, end = strings.IndexByte(p, '{'), -1
	if open < 0 {
		return open, end, nil
	}
	depth := 0
	for i := open; i < len(p); i++ {
		switch p[i] {
		case '{':
			depth++
		case ',':
			if depth == 1 {
				commas = append(commas, i)
			}
		case '}':
			if depth--; depth == 0 {
				return open, i, commas
			}
		}
	}
	return open, end, nil
}
