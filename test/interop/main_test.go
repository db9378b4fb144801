package interop

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"holdfast/test/lab"
)

// longVariable asks for the long form of the tests.
const longVariable = "HOLDFAST_INTEROP"

// sideBySide is how many cells run at a time: most of the time each waits for a
// timer of the protocol.
const sideBySide = "6"

func long() bool { return os.Getenv(longVariable) != "" }

// controlOnly: HOLDFAST_INTEROP=control puts Keepalived in the place of vipagent,
// everywhere, and so shows what the bench itself is worth.
func controlOnly() bool { return os.Getenv(longVariable) == "control" }

// underTest are the programs that a test of one program alone is about.
func underTest() []program {
	switch {
	case controlOnly():
		return []program{keepalived()}
	case long():
		return []program{holdfast(), keepalived()}
	}
	return []program{holdfast()}
}

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	if err := lab.BuildPrograms("interop", []string{"-o", "BIN/", "holdfast/cmd/vipagent"}); err != nil {
		return 1, err
	}
	if err := lab.Enter(); err != nil {
		return 1, err
	}
	flag.Parse()
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == "test.parallel" })
	if !set {
		if err := flag.Set("test.parallel", sideBySide); err != nil {
			return 1, fmt.Errorf("set how many cells run at a time: %w", err)
		}
	}
	return m.Run(), nil
}

// tellLogs shows the end of each log.
func tellLogs(t *testing.T, n *lab.Network) {
	t.Helper()
	text, err := n.LastWords(60)
	check(t, err)
	t.Log(text)
}

// pause waits for a time; ctx may end it early.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// findFRR returns the directory of FRR's daemons.
func findFRR() (string, error) {
	for _, name := range []string{"zebra", "vrrpd"} {
		if _, err := exec.LookPath(filepath.Join(lab.FRRDir, name)); err != nil {
			return "", errors.New("find FRR's vrrpd: it is not installed (test/setup.sh /usr/lib/frr/vrrpd:frr)")
		}
	}
	return lab.FRRDir, nil
}
