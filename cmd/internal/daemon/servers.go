package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// An agent leaves the API addresses of the coordinators that it knows in its
// state directory, one per line, so that coordctl works on its host without
// being told where the quorum is.
const serversFile = "servers"

// DefaultServers is where [WriteServers] puts them with the default state
// directory.
const DefaultServers = "/run/holdfast/" + serversFile

// WriteServers replaces the file as a whole; an empty list leaves it as it is:
// the last known addresses are better than none.
func WriteServers(stateDir string, addresses []string) error {
	if len(addresses) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(addresses))
	name := filepath.Join(stateDir, serversFile)
	if err := os.WriteFile(name+".new", []byte(strings.Join(sorted, "\n")+"\n"), 0o644); err != nil {
		return fmt.Errorf("write servers: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("write servers: %w", err)
	}
	return nil
}

// ReadServers returns the addresses of the file, nil if it cannot be read.
func ReadServers(name string) []string {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	return strings.Fields(string(data))
}
