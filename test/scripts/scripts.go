// Package scripts runs the scripts of a package's testdata: texts in which what is
// done stands above what came of it, reviewed like prose. The language is the
// package's own.
package scripts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Run runs testdata/*.txt, each as a test of its own. run returns a script with the
// output that it really has; rewrite writes that into the file instead of comparing.
func Run(t *testing.T, rewrite bool, run func(t *testing.T, text string) string) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := run(t, string(data))
			if rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(data) {
				t.Errorf("%s does not say what happens (-rewrite writes it anew); first difference:\n%s", file, firstDifference(string(data), got))
			}
		})
	}
}

// firstDifference shows the line in which two texts part, with the one before.
func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	i := 0
	for i < min(len(w), len(g)) && w[i] == g[i] {
		i++
	}
	line := func(lines []string) string {
		if i < len(lines) {
			return lines[i]
		}
		return "(end)"
	}
	before := ""
	if i > 0 {
		before = w[i-1]
	}
	return fmt.Sprintf("line %d, after %q:\n  says    %s\n  happens %s", i+1, before, line(w), line(g))
}
