package keepalived

import (
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/diagnostics.txt anew")

// samples is the files of testdata, read as if they were at the root.
func samples(t testing.TB) (files memory, names []string) {
	t.Helper()
	files = make(memory)
	for _, pattern := range []string{"testdata/*.*", "testdata/sub/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			content, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			name := strings.TrimPrefix(filepath.ToSlash(f), "testdata/")
			files[name] = string(content)
			if path.Ext(name) == ".conf" {
				names = append(names, name)
			}
		}
	}
	return files, names
}

// TestDiagnostics holds what is said about each sample against diagnostics.txt.
func TestDiagnostics(t *testing.T) {
	files, names := samples(t)
	var got strings.Builder
	for _, name := range names {
		_, ds := Parse(files, name, Options{ConfigID: "one", PWD: "/etc/keepalived"})
		fmt.Fprintf(&got, "== %s: %d", name, ExitCode(ds))
		if Fatal(ds) {
			fmt.Fprint(&got, ", fatal")
		}
		fmt.Fprintln(&got)
		for _, d := range ds {
			fmt.Fprintf(&got, "%v [%d]\n", d, d.Code)
		}
	}
	const golden = "testdata/diagnostics.txt"
	if *rewrite {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	g, w := strings.Split(got.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("line %d of %s differs (go test -rewrite writes it anew):\n got %q\nwant %q", i+1, golden, at(g, i), at(w, i))
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(the end)"
}
