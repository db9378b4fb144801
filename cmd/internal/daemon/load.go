package daemon

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
)

// Load reads the file at path like [File.Parse] and, if it names a key file,
// that too. Beyond Parse it warns of keys that every user of the host can read.
func (f File[C]) Load(path string, overrides ...Override) (C, []Warning, error) {
	var zero C
	data, mode, err := readSmall(path)
	if err != nil {
		return zero, nil, fmt.Errorf("read configuration: %w", err)
	}
	cfg, warnings, err := f.Parse(path, bytes.NewReader(data), overrides...)
	if err != nil {
		return cfg, warnings, err
	}
	g := gossipOf(&cfg)
	if len(g.Keys) > 0 && mode&0o004 != 0 {
		warnings = append(warnings, readable(path, "gossip.keys", mode))
	}
	if g.KeyFile == "" {
		return cfg, warnings, nil
	}
	keys, mode, err := loadKeys(g.KeyFile)
	if err != nil {
		return cfg, warnings, err
	}
	if mode&0o004 != 0 {
		warnings = append(warnings, readable(g.KeyFile, "gossip.key_file", mode))
	}
	g.Keys = keys
	return cfg, warnings, nil
}

func readable(path, key string, mode os.FileMode) Warning {
	return Warning{File: path, Key: key, Hint: "chmod o-rwx it",
		Message: fmt.Sprintf("every user of this host can read the gossip keys (mode %#o)", mode.Perm())}
}

// gossipOf finds the gossip section of a configuration.
func gossipOf(cfg any) *Gossip {
	switch c := cfg.(type) {
	case *Coordinator:
		return &c.Gossip
	case *Agent:
		return &c.Gossip
	case *Broker:
		return &c.Gossip
	}
	return &Gossip{}
}

// loadKeys reads a key file: one base64 key per line, the first encrypts;
// blank lines and lines that begin with # are skipped.
func loadKeys(path string) ([]Key, os.FileMode, error) {
	data, mode, err := readSmall(path)
	if err != nil {
		return nil, 0, fmt.Errorf("read gossip.key_file: %w", err)
	}
	var keys []Key
	scanner := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; scanner.Scan(); n++ {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		var k Key
		if err := k.UnmarshalText([]byte(line)); err != nil {
			return nil, mode, fmt.Errorf("read gossip.key_file: %s:%d: a key must be the base64 form of 32 bytes: %w", path, n, err)
		}
		keys = append(keys, k)
	}
	if err := scanner.Err(); err != nil {
		return nil, mode, fmt.Errorf("read gossip.key_file: %s: %w", path, err)
	}
	if len(keys) == 0 {
		return nil, mode, fmt.Errorf("read gossip.key_file: %s has no key", path)
	}
	return keys, mode, nil
}

// readSmall reads a regular file of at most maxFile bytes and its mode.
func readSmall(path string) ([]byte, os.FileMode, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	}
	if info.Size() > maxFile {
		return nil, 0, fmt.Errorf("%s is longer than %d bytes", path, maxFile)
	}
	data, err := os.ReadFile(path)
	return data, info.Mode(), err
}
