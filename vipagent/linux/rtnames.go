package linux

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// nameKind is a kind of number that ip(8) has names for; it is the name of the file.
type nameKind string

const (
	nameTable    nameKind = "rt_tables"
	nameScope    nameKind = "rt_scopes"
	nameProtocol nameKind = "rt_protos"
	nameTOS      nameKind = "rt_dsfield"
	nameRealm    nameKind = "rt_realms"
	nameGroup    nameKind = "group"
)

// names finds the numbers of names.
type names struct {
	// read returns the content of iproute2's file of that kind, from each directory
	// that has it, the one that counts first.
	read func(nameKind) []string
}

// systemNames are the names of this host.
func systemNames() names {
	return names{func(kind nameKind) (out []string) {
		for _, dir := range []string{"/etc/iproute2/", "/usr/share/iproute2/", "/usr/lib/iproute2/"} {
			if content, err := os.ReadFile(dir + string(kind)); err == nil {
				out = append(out, string(content))
			}
		}
		return out
	}}
}

// number returns the number that the text is or names.
func (n names) number(kind nameKind, text string) (uint32, error) {
	limit := 8 // bits
	switch kind {
	case nameTable, nameGroup:
		limit = 32
	case nameRealm:
		limit = 16
	}
	digits, base := text, 0
	if kind == nameTOS {
		digits, base = strings.TrimPrefix(text, "0x"), 16 // with or without 0x, as ip(8) has it
	}
	if v, err := strconv.ParseUint(digits, base, limit); err == nil {
		return uint32(v), nil
	}
	for _, content := range n.read(kind) {
		if v, ok := lookName(content, text); ok && v>>limit == 0 {
			return uint32(v), nil
		}
	}
	if v, ok := builtinNames(kind)[text]; ok {
		return v, nil
	}
	return 0, fmt.Errorf("%q is no number, nor a name in /etc/iproute2/%s", text, string(kind))
}

// lookName finds a name in lines of a number and a name.
func lookName(content, name string) (uint64, bool) {
	for line := range strings.Lines(content) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) != 2 || f[1] != name {
			continue
		}
		if v, err := strconv.ParseUint(f[0], 0, 32); err == nil {
			return v, true
		}
	}
	return 0, false
}

// builtinNames are the names that there are without files.
func builtinNames(kind nameKind) map[string]uint32 {
	switch kind {
	case nameTable:
		return map[string]uint32{"default": unix.RT_TABLE_DEFAULT, "main": unix.RT_TABLE_MAIN, "local": unix.RT_TABLE_LOCAL}
	case nameScope:
		return map[string]uint32{
			"global": unix.RT_SCOPE_UNIVERSE, "universe": unix.RT_SCOPE_UNIVERSE, "site": unix.RT_SCOPE_SITE,
			"link": unix.RT_SCOPE_LINK, "host": unix.RT_SCOPE_HOST, "nowhere": unix.RT_SCOPE_NOWHERE,
		}
	case nameProtocol:
		return map[string]uint32{
			"redirect": unix.RTPROT_REDIRECT, "kernel": unix.RTPROT_KERNEL, "boot": unix.RTPROT_BOOT, "static": unix.RTPROT_STATIC,
			"ra": unix.RTPROT_RA, "dhcp": unix.RTPROT_DHCP, "keepalived": unix.RTPROT_KEEPALIVED, "bird": unix.RTPROT_BIRD, "zebra": unix.RTPROT_ZEBRA,
		}
	case nameGroup:
		return map[string]uint32{"default": 0}
	case nameRealm:
		return map[string]uint32{"cosmos": 0}
	}
	return nil
}
