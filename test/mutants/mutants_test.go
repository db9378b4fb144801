package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPatchesApply keeps the patches from falling behind the tree: `make mutants` is
// run seldom. It also holds that each has a header.
func TestPatchesApply(t *testing.T) {
	mutants, err := load(".")
	if err != nil {
		t.Fatal(err)
	}
	faults := make(map[string]string)
	for _, m := range mutants {
		if other := faults[m.fault]; other != "" {
			t.Errorf("%s and %s plant the same: %s", m.name, other, m.fault)
		}
		faults[m.fault] = m.name
		for _, c := range m.files {
			text, err := os.ReadFile(filepath.Join("../..", c.path))
			if err != nil {
				t.Errorf("%s: %v", m.name, err)
				continue
			}
			if _, err := c.patched(string(text)); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		}
	}
}

func TestParse(t *testing.T) {
	const header = "fault: f\nrule: r\nfind: go test ./a\nfind: go test ./b -run X\n\n"
	const diff = "--- a/x.go\n+++ b/x.go\n@@ -2,3 +2,3 @@ func f() {\n b\n-c\n+C\n d\n"
	for name, c := range map[string]struct{ text, want string }{
		"good":           {header + diff, ""},
		"no fault":       {"rule: r\nfind: x\n\n" + diff, "the header needs fault"},
		"no rule":        {"fault: r\nfind: x\n\n" + diff, "the header needs fault"},
		"no check":       {"fault: r\nrule: x\n\n" + diff, "the header needs fault"},
		"other words":    {"fault: f\nauthor: x\n" + diff, "no line of a header"},
		"no diff":        {header, "changes nothing"},
		"empty hunk":     {header + "--- a/x.go\n+++ b/x.go\n@@ -2 +2 @@\n b\n", "changes nothing"},
		"added alone":    {header + "--- a/x.go\n+++ b/x.go\n@@ -2 +2 @@\n+b\n", "changes nothing"},
		"half":           {header + "--- a/x.go\n", "want --- a/FILE"},
		"no line number": {header + "--- a/x.go\n+++ b/x.go\n@@ x @@\n b\n", "want @@ -LINE"},
		"strange line":   {header + diff + "?", `"?"`},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := parse("m", c.text)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want one that says %q", err, c.want)
				}
				return
			}
			if err != nil || len(m.checks) != 2 || m.files[0].path != "x.go" || m.files[0].hunks[0].line != 2 {
				t.Errorf("%+v, %v", m, err)
			}
		})
	}
}

func TestPatched(t *testing.T) {
	replace := func(line int) change {
		return change{path: "x", hunks: []hunk{{line, []string{"b", "c"}, []string{"b", "C", "CC"}}}}
	}
	for name, c := range map[string]struct {
		change
		text, want string
	}{
		"there":      {replace(2), "a\nb\nc\nd\n", "a\nb\nC\nCC\nd\n"},
		"moved":      {replace(2), "x\ny\na\nb\nc\nd\n", "x\ny\na\nb\nC\nCC\nd\n"},
		"nearest":    {replace(5), "b\nc\n1\n2\n3\nb\nc\n", "b\nc\n1\n2\n3\nb\nC\nCC\n"},
		"gone":       {replace(2), "a\nb\nx\n", ""},
		"two in one": {change{"x", []hunk{{1, []string{"a"}, []string{"A", "A"}}, {3, []string{"c"}, []string{"C"}}}}, "a\nb\nc\nc\n", "A\nA\nb\nC\nc\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.patched(c.text)
			if got != c.want || (err != nil) != (c.want == "") {
				t.Errorf("%q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestWhere(t *testing.T) {
	for text, want := range map[string]string{
		"    x_test.go:1: seed 17: two holders\n":       "seed 17",
		"violation at depth 9\nreplay with -seed=3\n":   "depth 9, seed 3",
		"--- FAIL: TestA (0.1s)\n    --- FAIL: TestA/b": "TestA/b",
		"x\nFOUND seed=17 time=3m\n config=9 depth=1":   "seed=17 time=3m",
		"ok": "",
	} {
		if got := where(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestJudge runs the real thing on a tree of one file.
func TestJudge(t *testing.T) {
	dir := t.TempDir()
	tr := &tree{dir}
	for name, text := range map[string]string{
		"go.mod":    "module m\n\ngo 1.25\n",
		"x.go":      "package m\n\nfunc Two() int {\n\treturn 2\n}\n",
		"x_test.go": "package m\n\nimport \"testing\"\n\nfunc TestTwo(t *testing.T) {\n\tif Two() < 2 {\n\t\tt.Error(\"seed 7\")\n\t}\n}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	o := options{limit: 1 << 40, out: os.Stderr}
	plant := func(new string) mutant {
		return mutant{name: "m", checks: []string{"go test ."}, files: []change{{"x.go", []hunk{{4, []string{"\treturn 2"}, []string{new}}}}}}
	}
	if r := tr.judge(t.Context(), o, plant("\treturn 1")); !r.found || r.where != "seed 7" || r.trouble != "" {
		t.Errorf("a fault: %+v", r)
	}
	if r := tr.judge(t.Context(), o, plant("\treturn 3")); r.found || r.trouble != "" || len(r.missed) != 1 {
		t.Errorf("a fault that nothing sees: %+v", r)
	}
	if r := tr.judge(t.Context(), o, plant("\treturn x")); r.found || !strings.Contains(r.trouble, "does not compile") {
		t.Errorf("one that does not compile: %+v", r)
	}
	gone := plant("\treturn 1")
	gone.files[0].hunks[0].old = []string{"\treturn 5"}
	if r := tr.judge(t.Context(), o, gone); r.found || !strings.Contains(r.trouble, "does not apply") {
		t.Errorf("one that does not apply: %+v", r)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "x.go")); err != nil || !strings.Contains(string(text), "return 2") {
		t.Errorf("it was not taken out again: %s %v", text, err)
	}
}
