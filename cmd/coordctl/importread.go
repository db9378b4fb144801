package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/vipagent/keepalived"
	"holdfast/vipagent/keepalived/translate"
)

// readHosts reads the files that the arguments name, [HOST=]FILE.
func readHosts(args []string) ([]translate.HostConfig, error) {
	var hosts []translate.HostConfig
	routerIDs := make(map[string]int)
	for _, arg := range args {
		host, file := splitHost(arg)
		if _, err := os.ReadFile(file); err != nil {
			return nil, fmt.Errorf("read keepalived.conf: %w", err)
		}
		h := parseHost(host, file)
		routerIDs[h.Config.Global.RouterID]++
		hosts = append(hosts, h)
	}
	for i := range hosts {
		h := &hosts[i]
		if h.Host != "" {
			continue
		}
		// An id that several hosts have, such as LVS_DEVEL, is the sample's.
		if id := h.Config.Global.RouterID; routerIDs[id] == 1 && hostLabel(id) {
			h.Host = id
		} else {
			h.Host = hostOfPath(h.File)
		}
		if !hostLabel(h.Host) {
			return nil, usageError(fmt.Errorf("%s: the file does not tell its host: write HOST=%[1]s", h.File))
		}
		*h = parseHost(h.Host, h.File) // lines may be for this host alone
	}
	for i, h := range hosts {
		if o := slices.IndexFunc(hosts, func(o translate.HostConfig) bool { return o.Host == h.Host }); o < i {
			return nil, usageError(fmt.Errorf("%s and %s both seem to be of host %s: write HOST=FILE", hosts[o].File, h.File, h.Host))
		}
	}
	return hosts, nil
}

// splitHost takes "lb1=file" apart.
func splitHost(arg string) (host, file string) {
	if host, file, ok := strings.Cut(arg, "="); ok && hostLabel(host) {
		return host, file
	}
	return "", arg
}

func parseHost(host, file string) translate.HostConfig {
	c, diagnostics := keepalived.Parse(hostFiles{filepath.Dir(file)}, file, keepalived.Options{ConfigID: host})
	return translate.HostConfig{Host: host, File: file, Config: c, Diagnostics: diagnostics}
}

// hostLabel says whether a name may be one of a host: as the quorum has it.
func hostLabel(s string) bool {
	return len(s) >= 1 && len(s) <= 63 && !strings.ContainsAny(s[:1], "._-") && strings.IndexFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' || r == '_' || r == '-')
	}) < 0
}

// hostOfPath guesses the host: lb1.conf and lb1/etc/keepalived/keepalived.conf are of lb1,
// /etc/keepalived/keepalived.conf is of this host. "" = it does not tell.
func hostOfPath(file string) string {
	abs, err := filepath.Abs(file)
	if err != nil {
		return ""
	}
	name := strings.TrimSuffix(filepath.Base(abs), ".conf")
	for dir := filepath.Dir(abs); name == "keepalived" || name == "etc"; dir = filepath.Dir(dir) {
		if dir == "/" {
			name, err = os.Hostname()
			if err != nil {
				return ""
			}
			return name
		}
		name = filepath.Base(dir)
	}
	return name
}

// etcKeepalived is where files include others from.
const etcKeepalived = "/etc/keepalived/"

// hostFiles reads a host's files that were copied into a directory: what is included
// by its full path is looked for there first.
type hostFiles struct{ dir string }

// Read implements [keepalived.Files].
func (f hostFiles) Read(path string) ([]byte, error) { return os.ReadFile(path) }

// Glob implements [keepalived.Files].
func (f hostFiles) Glob(pattern string) ([]string, error) {
	if rest, ok := strings.CutPrefix(pattern, etcKeepalived); ok {
		if found, err := globBraces(filepath.Join(f.dir, rest)); err == nil && len(found) > 0 {
			return found, nil
		}
	}
	return globBraces(pattern)
}

// globBraces is filepath.Glob with alternatives: "{a,b}.conf".
func globBraces(pattern string) ([]string, error) {
	open := strings.IndexByte(pattern, '{')
	if open < 0 {
		return filepath.Glob(pattern)
	}
	length := strings.IndexByte(pattern[open:], '}')
	if length < 0 {
		return filepath.Glob(pattern)
	}
	var all []string
	for alternative := range strings.SplitSeq(pattern[open+1:open+length], ",") {
		found, err := globBraces(pattern[:open] + alternative + pattern[open+length+1:])
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}
