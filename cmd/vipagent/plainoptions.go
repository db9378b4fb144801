package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// plainDefault is keepalived's own configuration file.
const plainDefault = "/etc/keepalived/keepalived.conf"

// argument says whether an option of keepalived has one.
type argument uint8

const (
	noArgument argument = iota
	mustArgument
	mayArgument // joined to the option: -tFILE, --config-test=FILE
)

// plainOption is an option of keepalived.
type plainOption struct {
	short byte // 0 = none
	long  string
	arg   argument
	help  string // "" = accepted, and without effect here
}

// plainOptions are keepalived's options, so that a unit file may stay as it is.
func plainOptions() []plainOption {
	return []plainOption{
		{'f', "use-file", mustArgument, "the configuration; " + plainDefault + " by default"},
		{'t', "config-test", mayArgument, "check the configuration and exit with Keepalived's code; =FILE: write there what is wrong"},
		{'i', "config-id", mustArgument, "which @ lines of the configuration count; the host's name by default"},
		{'p', "pid", mustArgument, "file for the process number; " + plainPID + " by default"},
		{'r', "vrrp_pid", mustArgument, "another file for the process number"},
		{'s', "namespace", mustArgument, "run in this network namespace"},
		{'u', "umask", mustArgument, "umask for files"},
		{'D', "log-detail", noArgument, "log more"},
		{'d', "dump-conf", noArgument, "log the configuration as it was understood"},
		{'V', "dont-release-vrrp", noArgument, "leave addresses up at the end"},
		{'P', "vrrp", noArgument, "accepted: there is nothing but VRRP here"},
		{'n', "dont-fork", noArgument, "accepted: it never forks"},
		{'l', "log-console", noArgument, "accepted: it logs to standard error"},
		{'C', "check", noArgument, "refused: LVS and its checkers are Keepalived's"},
		{0, "signum", mustArgument, "print the number of a signal (STOP, RELOAD, DATA, STATS, STATS_CLEAR, JSON) and exit"},
		{'v', "version", noArgument, "print the version and exit"},
		{'h', "help", noArgument, "print this and exit"},
		{'B', "no_bfd", noArgument, ""}, {0, "all", noArgument, ""}, {'S', "log-facility", mustArgument, ""},
		{'g', "log-file", mayArgument, ""}, {0, "flush-log-file", noArgument, ""}, {'G', "no-syslog", noArgument, ""},
		{'X', "release-vips", noArgument, ""}, {'I', "dont-release-ipvs", noArgument, ""}, {'R', "dont-respawn", noArgument, ""},
		{'c', "checkers_pid", mustArgument, ""}, {'a', "address-monitoring", noArgument, ""}, {'b', "bfd_pid", mustArgument, ""},
		{'x', "snmp", noArgument, ""}, {'A', "snmp-agent-socket", mustArgument, ""}, {'m', "core-dump", noArgument, ""},
		{'M', "core-dump-pattern", mayArgument, ""}, {'e', "all-config", noArgument, ""}, {0, "ignore-sigint", noArgument, ""},
		{0, "no-mem-check", noArgument, ""}, {'L', "mem-check-log", noArgument, ""}, {0, "debug", mayArgument, ""},
	}
}

// given are the options of a command line by their long name, each with its last
// argument.
type given map[string]string

func (g given) has(long string) bool { _, ok := g[long]; return ok }

// parsePlain reads a command line as getopt_long(3) does.
func parsePlain(args []string) (given, error) {
	out := given{}
	for len(args) > 0 {
		a := args[0]
		args = args[1:]
		var err error
		switch {
		case strings.HasPrefix(a, "--") && len(a) > 2:
			args, err = out.long(a[2:], args)
		case strings.HasPrefix(a, "-") && len(a) > 1 && a != "--":
			args, err = out.short(a[1:], args)
		default:
			err = fmt.Errorf("unexpected argument %q", a)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// long takes in --name, --name=value or --name value; name may be cut as long as one
// option alone begins like that.
func (g given) long(text string, rest []string) ([]string, error) {
	name, value, hasValue := strings.Cut(text, "=")
	var found []plainOption
	for _, o := range plainOptions() {
		if o.long == name {
			found = []plainOption{o}
			break
		}
		if strings.HasPrefix(o.long, name) {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("unknown option --%s", name)
	}
	o := found[0]
	switch {
	case o.arg == noArgument && hasValue:
		return nil, fmt.Errorf("option --%s has no argument", o.long)
	case o.arg == mustArgument && !hasValue:
		if len(rest) == 0 {
			return nil, fmt.Errorf("option --%s needs an argument", o.long)
		}
		value, rest = rest[0], rest[1:]
	}
	g[o.long] = value
	return rest, nil
}

// short takes in one-letter options, one or more: -Pn, -f FILE, -fFILE.
func (g given) short(letters string, rest []string) ([]string, error) {
	for i := 0; i < len(letters); i++ {
		options := plainOptions()
		at := slices.IndexFunc(options, func(o plainOption) bool { return o.short == letters[i] })
		if at < 0 {
			return nil, fmt.Errorf("unknown option -%c", letters[i])
		}
		o, value := options[at], letters[i+1:]
		switch {
		case o.arg == noArgument:
			g[o.long] = ""
			continue
		case o.arg == mustArgument && value == "":
			if len(rest) == 0 {
				return nil, fmt.Errorf("option -%c needs an argument", o.short)
			}
			value, rest = rest[0], rest[1:]
		}
		g[o.long] = strings.TrimPrefix(value, "=")
		return rest, nil
	}
	return rest, nil
}

// isPlain tells whether a command line is keepalived's rather than the agent's: it
// names a keepalived.conf, or asks for something that only keepalived has, or the
// program was called keepalived.
func isPlain(program string, args []string) bool {
	if filepath.Base(program) == "keepalived" {
		return true
	}
	g, err := parsePlain(args)
	if err != nil {
		return slices.ContainsFunc(args, func(a string) bool { return a == "-f" || strings.HasPrefix(a, "--use-file") })
	}
	return g.has("use-file") || g.has("config-test") || g.has("signum")
}

// plainUsage is the help of plain mode.
func plainUsage() string {
	var b strings.Builder
	b.WriteString("usage: vipagent -f keepalived.conf [options]\n\nRuns the virtual routers of a keepalived.conf without a coordinator. Keepalived's options:\n\n")
	for _, o := range plainOptions() {
		if o.help == "" {
			continue
		}
		name := "    --" + o.long
		if o.short != 0 {
			name = fmt.Sprintf("-%c, --%s", o.short, o.long)
		}
		switch o.arg {
		case mustArgument:
			name += "=ARG"
		case mayArgument:
			name += "[=FILE]"
		}
		fmt.Fprintf(&b, "  %-26s %s\n", name, o.help)
	}
	b.WriteString("\nOther options of keepalived are accepted and have no effect.\nThe agent of the quorum is another mode: vipagent --help.\n")
	return b.String()
}
