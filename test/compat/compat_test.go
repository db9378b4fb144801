// Package compat holds Holdfast's reading of keepalived.conf against Keepalived's.
package compat

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"holdfast/vipagent/keepalived"
)

// disk is the files of this host.
type disk struct{}

func (disk) Read(path string) ([]byte, error)                { return os.ReadFile(path) }
func (disk) Glob(pattern string) (names []string, err error) { return filepath.Glob(pattern) }

// verdict is what `keepalived --config-test` says about a file.
type verdict struct {
	code int
	said string
}

// setUp makes the interfaces that the samples name.
const setUp = `
set -eu
for i in 0 1; do
	ip link add eth$i type veth peer name far$i
	ip link set eth$i up
	ip link set far$i up
done
ip address add 10.0.0.1/24 dev eth0
ip address add 10.0.1.1/24 dev eth1
`

// askScript asks Keepalived about each file.
const askScript = setUp + `
for f in "$@"; do
	code=0
	keepalived --config-test --config-id one --use-file "$f" >"$f.said" 2>&1 </dev/null || code=$?
	echo "$code $f"
done
`

// ask runs Keepalived on copies of the files.
func ask(t *testing.T, files []string) map[string]verdict {
	t.Helper()
	verdicts := make(map[string]verdict)
	for line := range strings.Lines(inNamespace(t, askScript, files)) {
		code, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.Atoi(code)
		if err != nil {
			t.Fatalf("unexpected line %q", line)
		}
		said, err := os.ReadFile(file + ".said")
		if err != nil {
			t.Fatal(err)
		}
		verdicts[filepath.Base(file)] = verdict{n, string(said)}
	}
	return verdicts
}

// copyFiles puts the samples where Keepalived's words about them can be kept.
func copyFiles(t *testing.T) (files []string) {
	t.Helper()
	dir := t.TempDir()
	const samples = "../../vipagent/keepalived/testdata"
	if err := os.CopyFS(dir, os.DirFS(samples)); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.conf"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestExitCodes: `keepalived --config-test` and ExitCode agree on each sample, but for
// the differences that are meant.
func TestExitCodes(t *testing.T) {
	files := copyFiles(t)
	verdicts := ask(t, files)
	meant := differences()
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(strings.TrimSuffix(name, ".conf"), func(t *testing.T) {
			_, ds := parse(file)
			theirs, ours := verdicts[name], keepalived.ExitCode(ds)
			d, differs := meant[strings.TrimSuffix(name, ".conf")]
			switch {
			case differs && (theirs.code != d.theirs || ours != d.ours):
				t.Errorf("keepalived says %d, and ours is %d; listed is %d and %d: %s\n%s", theirs.code, ours, d.theirs, d.ours, d.why, both(theirs, ds))
			case !differs && theirs.code != ours:
				t.Errorf("keepalived says %d, and ours is %d\n%s", theirs.code, ours, both(theirs, ds))
			}
		})
	}
}

func both(v verdict, ds []keepalived.Diagnostic) string {
	var b strings.Builder
	fmt.Fprintf(&b, "keepalived:\n%s\nours:\n", v.said)
	for _, d := range ds {
		fmt.Fprintf(&b, "%v [%d]\n", d, d.Code)
	}
	return b.String()
}

// difference is a sample on which the exit codes differ, and why they shall.
type difference struct {
	theirs, ours int
	why          string
}

func differences() map[string]difference {
	const (
		noFile  = "Keepalived goes on without a file that is missing, empty or unreadable, and guards nothing: an error here"
		later   = "keywords of Keepalived 2.3 and later, which 2.2 does not know"
		host    = "whether an interface exists is for the agent to see when it runs, not for the reading of a file"
		crashes = "Keepalived 2.2 crashes"
	)
	return map[string]difference{
		"empty-file":               {0, 3, noFile},
		"include-missing":          {0, 3, noFile},
		"include-braces":           {0, 3, noFile},
		"include-quoted":           {0, 3, noFile},
		"includea-missing":         {6, 3, noFile + "; 6 is Keepalived's code for script security, too"},
		"includew-no-match":        {6, 3, noFile + "; 6 is Keepalived's code for script security, too"},
		"include-check-missing":    {6, 3, noFile + "; 6 is Keepalived's code for script security, too"},
		"include-conditional":      {5, 0, "a file that is included on a conditional line is read twice by Keepalived 2.2, once by each of its processes' readers"},
		"new-keywords":             {5, 0, later},
		"unicast-no-interface":     {5, 0, "Keepalived 2.4 runs unicast without an interface, 2.2 does not"},
		"interface-unknown":        {5, 0, host},
		"vip-dev-unknown":          {5, 0, host},
		"iptables":                 {5, 0, "Debian's Keepalived is built without iptables"},
		"quote-open-script":        {139, 2, crashes},
		"script-escape-end":        {139, 2, crashes},
		"strict-unicast":           {0, 5, "Keepalived 2.2 looks for unicast in strict mode before it knows of the peers; 2.4 stops"},
		"lvs-errors":               {5, 0, "what is within the blocks of LVS is not looked at"},
		"globals-max-priority-bad": {5, 0, "values of keywords that are not handled are not looked at"},
		"define-braces-spaces":     {5, 0, "Keepalived 2.2 mangles the line of a ${NAME } with a space"},
	}
}
