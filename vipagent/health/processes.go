package health

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ProcessMatch says which processes are meant.
type ProcessMatch struct {
	Name string // of the process, as /proc/PID/comm has it; with Command its first argument or the last part of that
	// Params are the arguments; they matter if there are any or Match is set.
	Params []string
	// Match: "" = exactly Params; "partial" = Params come first; "initial" = so, and the
	// last one need only be the beginning.
	Match   string
	Command bool // look at the command line, not at the name
}

// commLength is how much of a name the kernel keeps.
const commLength = 15

// CountProcesses returns how many processes match. Those that wait to be reaped do not
// count.
func CountProcesses(m ProcessMatch) (int, error) { return countProcesses("/proc", m) }

func countProcesses(proc string, m ProcessMatch) (int, error) {
	pids, err := listProcesses(proc)
	if err != nil {
		return 0, err
	}
	count := 0
	probe := processProbe{proc: proc}
	for _, pid := range pids {
		if name := strconv.Itoa(pid); m.matches(proc, name) && probe.alive(name) {
			count++
		}
	}
	return count, nil
}

// matches looks at one process; one that has just ended does not match.
func (m ProcessMatch) matches(proc, pid string) bool {
	if !m.Command {
		comm, err := os.ReadFile(filepath.Join(proc, pid, "comm"))
		if err != nil || strings.TrimSuffix(string(comm), "\n") != m.Name[:min(len(m.Name), commLength)] {
			return false
		}
		if len(m.Params) == 0 && m.Match == "" {
			return true
		}
	}
	line, err := os.ReadFile(filepath.Join(proc, pid, "cmdline"))
	if err != nil || len(line) == 0 {
		return false
	}
	var args []string
	for _, a := range bytes.Split(bytes.TrimSuffix(line, []byte{0}), []byte{0}) {
		args = append(args, string(a))
	}
	if m.Command && args[0] != m.Name && filepath.Base(args[0]) != m.Name {
		return false
	}
	return m.paramsMatch(args[1:])
}

func (m ProcessMatch) paramsMatch(args []string) bool {
	n := len(m.Params)
	switch {
	case n == 0 && m.Match == "":
		return true
	case m.Match == "" || n == 0: // param_match without parameters: there must be none
		return slices.Equal(args, m.Params)
	case len(args) < n:
		return false
	case m.Match == "initial":
		return slices.Equal(args[:n-1], m.Params[:n-1]) && strings.HasPrefix(args[n-1], m.Params[n-1])
	}
	return slices.Equal(args[:n], m.Params)
}
