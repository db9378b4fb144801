package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// BinVariable names the directory of the programs under test.
const BinVariable = "HOLDFAST_BIN"

// BuildPrograms builds what a suite tests, unless [BinVariable] says where it is, and
// says so there. dir is below test/out; each build is the arguments of one `go build`,
// in which "BIN" is the directory. It comes before [Enter]: outside of the lab the Go
// toolchain has its caches and the network.
func BuildPrograms(dir string, builds ...[]string) error {
	if os.Getenv(BinVariable) != "" {
		return nil
	}
	bin, err := filepath.Abs(filepath.Join("../out", dir, "bin"))
	if err != nil {
		return fmt.Errorf("find the directory of the programs: %w", err)
	}
	for _, args := range builds {
		for i := range args {
			args[i] = strings.Replace(args[i], "BIN", bin, 1)
		}
		cmd := exec.Command("go", append([]string{"build"}, args...)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build the programs: %w\n%s", err, out)
		}
	}
	return os.Setenv(BinVariable, bin)
}

// LastWords returns the last lines of each log of the network's programs.
func (n *Network) LastWords(lines int) (string, error) {
	logs, err := filepath.Glob(filepath.Join(n.Dir, "*.log"))
	if err != nil {
		return "", fmt.Errorf("find logs: %w", err)
	}
	var text strings.Builder
	var errs []error
	for _, file := range logs {
		b, err := os.ReadFile(file)
		if err != nil {
			errs = append(errs, fmt.Errorf("read log: %w", err))
			continue
		}
		all := strings.Split(strings.TrimSpace(string(b)), "\n")
		fmt.Fprintf(&text, "%s, last %d lines:\n%s\n", filepath.Base(file), lines, strings.Join(all[max(0, len(all)-lines):], "\n"))
	}
	return text.String(), errors.Join(errs...)
}
