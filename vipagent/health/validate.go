package health

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Problem is one thing that is wrong with one check.
type Problem struct {
	Check   int    // index in the list
	Field   string // key of the field, "" for the check as a whole
	Message string
	Hint    string // what to write instead; may be empty
}

// Path is the key path of the field in vipagent.yaml, e.g. checks[2].url.
func (p Problem) Path() string {
	if p.Field == "" {
		return fmt.Sprintf("checks[%d]", p.Check)
	}
	return fmt.Sprintf("checks[%d].%s", p.Check, p.Field)
}

// Error makes a Problem an error.
func (p Problem) Error() string { return p.Path() + ": " + p.Message }

// The types of checks.
const (
	Script    = "script"
	Process   = "process"
	File      = "file"
	Interface = "interface"
	TCP       = "tcp"
	HTTP      = "http"
	Gateway   = "gateway"
)

func types() []string {
	return []string{Script, Process, File, Interface, TCP, HTTP, Gateway}
}

// What a check counts as before its first run has ended.
const (
	InitialUnknown = "unknown"
	InitialGood    = "good"
	InitialBad     = "bad"
)

// Limits of a check.
const (
	MinInterval = 10 * time.Millisecond
	MaxInterval = time.Hour
	MaxRuns     = 1000 // of rise and fall
	MaxWeight   = 254
	MaxChecks   = 256
)

// watched tells whether the type costs little to ask and is told of changes.
func (c Check) watched() bool {
	return c.Type == Process || c.Type == File || c.Type == Interface
}

// WithDefaults returns the check with each field that was left out filled in.
func (c Check) WithDefaults() Check {
	interval, fall := time.Second, 3
	if c.watched() {
		interval, fall = 250*time.Millisecond, 1
	}
	c.Interval = cmp.Or(c.Interval, interval)
	c.Timeout = cmp.Or(c.Timeout, c.Interval)
	c.Rise = cmp.Or(c.Rise, 1)
	c.Fall = cmp.Or(c.Fall, fall)
	c.Initial = cmp.Or(c.Initial, InitialUnknown)
	if c.Type == Script {
		c.User = cmp.Or(c.User, "nobody")
	}
	return c
}

// Validate returns everything that is wrong with a list of checks as written,
// in the list's order. It is pure: whether a script or a user exists is seen
// when the check runs.
func Validate(checks []Check) []Problem {
	var all []Problem
	if len(checks) > MaxChecks {
		all = append(all, Problem{Check: MaxChecks, Message: fmt.Sprintf("%d checks, at most %d are allowed", len(checks), MaxChecks)})
	}
	names := map[string]int{}
	for i, c := range checks {
		v := validator{index: i}
		if first, dup := names[c.Name]; dup && c.Name != "" {
			v.fail("name", "", "checks %d and %d are both named %q", first+1, i+1, c.Name)
		}
		names[c.Name] = i
		v.check(c)
		all = append(all, v.problems...)
	}
	return all
}

type validator struct {
	index    int
	problems []Problem
}

func (v *validator) fail(field, hint, format string, args ...any) {
	v.problems = append(v.problems, Problem{Check: v.index, Field: field, Hint: hint, Message: fmt.Sprintf(format, args...)})
}

func (v *validator) check(c Check) {
	if c.Name == "" {
		v.fail("name", "give it a name, which status and reasons will show", "the check has no name")
	} else if len(c.Name) > 63 || strings.ContainsFunc(c.Name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		v.fail("name", "", "name %q must be at most 63 characters without blanks", c.Name)
	}
	if !slices.Contains(types(), c.Type) {
		if c.Type == "" {
			v.fail("type", "", "the check has no type, must be one of %s", strings.Join(types(), ", "))
		} else {
			v.fail("type", "", "type %q is unknown, must be one of %s", c.Type, strings.Join(types(), ", "))
		}
		return
	}
	v.fields(c)
	v.common(c)
	switch c.Type {
	case Script:
		v.script(c)
	case Process:
		v.process(c)
	case File:
		v.file(c)
	case Interface:
		v.interfaceName(c.Interface, true)
	case TCP:
		v.hostPort(c.Address)
	case HTTP:
		v.http(c)
	case Gateway:
		if ip, err := netip.ParseAddr(c.Address); err != nil || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLoopback() {
			v.fail("address", "", "address %q must be the gateway's IP address", c.Address)
		}
		v.interfaceName(c.Interface, false)
	}
}

// fields reports fields that belong to other types.
func (v *validator) fields(c Check) {
	rv := reflect.ValueOf(c)
	for i := range rv.NumField() {
		field := rv.Type().Field(i)
		tag, ok := field.Tag.Lookup("for")
		if ok && !rv.Field(i).IsZero() && !slices.Contains(strings.Split(tag, ","), c.Type) {
			key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			v.fail(key, "", "%s is a key of %s checks, this is a %s check", key, strings.ReplaceAll(tag, ",", " and "), c.Type)
		}
	}
}

func (v *validator) common(c Check) {
	d := c.WithDefaults()
	if d.Interval < MinInterval || d.Interval > MaxInterval {
		v.fail("interval", "", "interval is %s, must be %s to %s", d.Interval, MinInterval, MaxInterval)
	}
	if d.Timeout < MinInterval || d.Timeout > MaxInterval {
		v.fail("timeout", "", "timeout is %s, must be %s to %s", d.Timeout, MinInterval, MaxInterval)
	}
	if d.Rise < 1 || d.Rise > MaxRuns {
		v.fail("rise", "", "rise is %d, must be 1 to %d", d.Rise, MaxRuns)
	}
	if d.Fall < 1 || d.Fall > MaxRuns {
		v.fail("fall", "", "fall is %d, must be 1 to %d", d.Fall, MaxRuns)
	}
	if c.Weight < -MaxWeight || c.Weight > MaxWeight {
		v.fail("weight", "", "weight is %d, must be %d to %d", c.Weight, -MaxWeight, MaxWeight)
	}
	if c.Weight != 0 && c.Veto {
		v.fail("veto", "", "a check has a weight or a veto, not both")
	}
	if !slices.Contains([]string{InitialUnknown, InitialGood, InitialBad}, d.Initial) {
		v.fail("initial", "", "initial is %q, must be unknown, good or bad", c.Initial)
	}
	for _, set := range c.Sets {
		if set == "" {
			v.fail("sets", "", "the name of a set is empty")
		}
	}
}

func (v *validator) script(c Check) {
	if len(c.Command) == 0 {
		v.fail("command", "write it as a list, e.g. command: [/usr/local/lib/check-web, --fast]", "the check has no command")
		return
	}
	if !filepath.IsAbs(c.Command[0]) {
		v.fail("command", "there is no shell and no search path: name the program in full", "command %q is not an absolute path", c.Command[0])
	}
	for _, arg := range c.Command {
		if strings.ContainsRune(arg, 0) {
			v.fail("command", "", "an argument of the command has a zero byte")
		}
	}
}

func (v *validator) process(c Check) {
	given := 0
	for _, s := range []string{c.Comm, c.Exe, c.Pidfile} {
		if s != "" {
			given++
		}
	}
	if given != 1 {
		v.fail("", "", "a process check needs one of comm, exe and pidfile")
	}
	if len(c.Comm) > 15 {
		v.fail("comm", fmt.Sprintf("the kernel keeps 15 characters: %q", c.Comm[:15]), "comm %q is longer than the kernel's names", c.Comm)
	}
	v.absolute("exe", c.Exe)
	v.absolute("pidfile", c.Pidfile)
}

func (v *validator) file(c Check) {
	if c.Path == "" {
		v.fail("path", "", "the check has no path")
	}
	v.absolute("path", c.Path)
	if c.Absent && (c.Contains != "" || c.ReadWeight) || c.Contains != "" && c.ReadWeight {
		v.fail("", "", "a file check has at most one of contains, absent and read_weight")
	}
	if c.ReadWeight && (c.Weight != 0 || c.Veto) {
		v.fail("read_weight", "", "with read_weight the weight comes from the file; leave out weight and veto")
	}
}

func (v *validator) absolute(field, path string) {
	if path != "" && !filepath.IsAbs(path) {
		v.fail(field, "", "%s %q must be an absolute path", field, path)
	}
}

func (v *validator) interfaceName(name string, required bool) {
	if name == "" && !required {
		return
	}
	if name == "" || len(name) > 15 || strings.ContainsAny(name, "/ \t\n") {
		v.fail("interface", "", "%q cannot be the name of an interface (1 to 15 characters, no blank, no slash)", name)
	}
}

func (v *validator) hostPort(address string) {
	host, port, err := net.SplitHostPort(address)
	n, perr := strconv.Atoi(port)
	if err != nil || perr != nil || host == "" || n < 1 || n > 65535 {
		v.fail("address", "e.g. address: 127.0.0.1:80", "address %q must be host:port", address)
	}
}

func (v *validator) http(c Check) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		v.fail("url", "e.g. url: http://127.0.0.1/health", "url %q must be a full http or https address", c.URL)
	}
	for _, code := range c.Status {
		if code < 100 || code > 599 {
			v.fail("status", "", "status %d is no HTTP status, must be 100 to 599", code)
		}
	}
}
