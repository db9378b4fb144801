package translate

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"holdfast/vipagent/health"
	"holdfast/vipagent/keepalived"
)

// HostChecks is what the vipagent.yaml of a host gets.
type HostChecks struct {
	Host   string
	Checks []health.Check
	// Remarks tell what of the file has no counterpart, or another one than expected.
	Remarks []keepalived.Diagnostic
}

// Checks translates for each host what its instances track. The names of the sets are
// those of [Sets].
func Checks(hosts []HostConfig) []HostChecks {
	all := routers(hosts)
	sets := setNames(all)
	var out []HostChecks
	for h := range hosts {
		b := &builder{host: &hosts[h]}
		for i, r := range all {
			m := r.of(hosts[h].Host)
			if m == nil || len(r.primary().instance.Addresses) == 0 {
				continue
			}
			b.tracks(sets[i], *m)
		}
		b.unmatched()
		keepalived.Sort(b.remarks)
		out = append(out, HostChecks{hosts[h].Host, b.checks, b.remarks})
	}
	return out
}

// builder collects the checks of one host.
type builder struct {
	host    *HostConfig
	checks  []health.Check
	remarks []keepalived.Diagnostic
}

func (b *builder) remark(severity keepalived.Severity, at keepalived.Position, keyword, hint, format string, args ...any) {
	d := keepalived.Diagnostic{Position: at, Severity: severity, Keyword: keyword, Message: fmt.Sprintf(format, args...), Hint: hint}
	if !slices.Contains(b.remarks, d) { // what several instances track is remarked on once
		b.remarks = append(b.remarks, d)
	}
}

// unhandled remarks on what has no counterpart.
func (b *builder) unhandled(at keepalived.Position, keyword, hint, format string, args ...any) {
	b.remark(keepalived.Unhandled, at, keyword, hint, format, args...)
}

// tracks adds the checks of one instance and of its sync group.
func (b *builder) tracks(set string, m member) {
	i := m.instance
	lists := []*keepalived.Instance{i}
	if g := groupOf(m); g != nil {
		lists = append(lists, &keepalived.Instance{Interfaces: g.Interfaces, Scripts: g.Scripts, Processes: g.Processes, Files: g.Files})
	}
	if i.Interface != "" && !i.DontTrackPrimary {
		b.trackInterface(set, keepalived.Track{Name: i.Interface, At: i.Where("interface")})
	}
	for _, l := range lists {
		for _, t := range l.Interfaces {
			b.trackInterface(set, t)
		}
		for _, t := range l.Scripts {
			if n := slices.IndexFunc(b.host.Config.Scripts, func(s keepalived.Script) bool { return s.Name == t.Name }); n >= 0 {
				b.trackScript(set, t, b.host.Config.Scripts[n])
			}
		}
		for _, t := range l.Processes {
			if n := slices.IndexFunc(b.host.Config.Processes, func(p keepalived.TrackProcess) bool { return p.Name == t.Name }); n >= 0 {
				b.trackProcess(set, t, b.host.Config.Processes[n])
			}
		}
		for _, t := range l.Files {
			if n := slices.IndexFunc(b.host.Config.Files, func(f keepalived.TrackFile) bool { return f.Name == t.Name }); n >= 0 {
				b.trackFile(set, t, b.host.Config.Files[n])
			}
		}
	}
}

// add takes a check in, or the set into the same check of another set.
func (b *builder) add(set string, c health.Check) {
	c.Name = checkName(c.Name)
	c.Veto = c.Weight == 0 && !c.ReadWeight
	c = c.WithDefaults()
	base := c.Name
	for n := 2; ; n++ {
		i := slices.IndexFunc(b.checks, func(o health.Check) bool { return o.Name == c.Name })
		if i < 0 {
			c.Sets = []string{set}
			b.checks = append(b.checks, c)
			return
		}
		if same(b.checks[i], c) {
			if !slices.Contains(b.checks[i].Sets, set) {
				b.checks[i].Sets = append(b.checks[i].Sets, set)
			}
			return
		}
		suffix := fmt.Sprintf("-%d", n)
		c.Name = base[:min(len(base), maxLabel-len(suffix))] + suffix
	}
}

// same says whether two checks of one name differ in their sets alone.
func same(a, b health.Check) bool {
	return a.Type == b.Type && a.Weight == b.Weight && a.Interval == b.Interval && slices.Equal(a.Command, b.Command) &&
		a.Comm == b.Comm && a.Exe == b.Exe && a.Path == b.Path && a.Absent == b.Absent && a.Interface == b.Interface && a.ReadWeight == b.ReadWeight
}

// checkName makes a name without blanks of at most 63 bytes.
func checkName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f {
			return '-'
		}
		return r
	}, s)
	return strings.ToValidUTF8(s[:min(len(s), maxLabel)], "")
}

// weight is what counts: that of the line, else that of the thing. With reverse, only
// a fault can be said, by the opposite check.
func weight(t keepalived.Track, own int, ownReverse bool) (n int, reverse bool) {
	if t.Set {
		return t.Weight, t.Reverse
	}
	return own, ownReverse != t.Reverse
}

func (b *builder) trackInterface(set string, t keepalived.Track) {
	n, reverse := weight(t, 0, false)
	if reverse {
		b.unhandled(t.At, "track_interface", "write a script check that fails while the interface is up", "%s counts while it is down (reverse): an interface check cannot say so", t.Name)
		return
	}
	b.add(set, health.Check{Name: "interface-" + t.Name, Type: health.Interface, Interface: t.Name, Weight: n})
}

func (b *builder) trackScript(set string, t keepalived.Track, s keepalived.Script) {
	n, reverse := weight(t, s.Weight, s.Reverse)
	if reverse {
		b.unhandled(s.At, "vrrp_script", "write a script that fails where this one succeeds", "vrrp_script %s counts the other way round (reverse)", s.Name)
		return
	}
	c := health.Check{Name: s.Name, Weight: n, Interval: min(s.Interval, health.MaxInterval), Timeout: min(s.Timeout, health.MaxInterval),
		Rise: min(s.Rise, health.MaxRuns), Fall: min(s.Fall, health.MaxRuns)}
	if s.InitFail {
		c.Initial = health.InitialBad
	}
	args := s.Command.Args
	switch comm, ok := processOf(args); {
	case ok:
		c.Type, c.Comm = health.Process, comm
		// What a script asks each second is watched here, and costs nothing.
		c.Interval, c.Timeout = 0, 0
		b.remark(keepalived.Info, s.Command.At, "script", "", "vrrp_script %s looks for a process: it becomes a process check, which needs no rights and no program", s.Name)
	case strings.HasPrefix(args[0], "<"):
		c.Type, c.Path = health.File, strings.TrimPrefix(args[0], "<")
	default:
		c.Type, c.Command = health.Script, b.program(s)
		c.User = b.user(s)
	}
	if c.Type == health.File && !path.IsAbs(c.Path) {
		b.unhandled(s.Command.At, "script", "name it in full", "vrrp_script %s reads %q, which is no absolute path", s.Name, c.Path)
		return
	}
	b.add(set, c)
}

// processOf recognises scripts that only look for a process by name.
func processOf(args []string) (comm string, ok bool) {
	name := args[len(args)-1]
	switch path.Base(args[0]) {
	case "killall":
		ok = len(args) == 3 && (args[1] == "-0" || args[1] == "-s0")
	case "pidof":
		ok = len(args) == 2
	case "pgrep":
		ok = len(args) == 3 && args[1] == "-x"
	}
	if !ok || strings.ContainsAny(name, "/^$*.[ ") || strings.HasPrefix(name, "-") {
		return "", false
	}
	return name[:min(len(name), commLength)], true
}

// commLength is how much of a program's name the kernel keeps.
const commLength = 15

// program is the command with its program named in full, as the agent wants it.
func (b *builder) program(s keepalived.Script) []string {
	args := slices.Clone(s.Command.Args)
	if !path.IsAbs(args[0]) {
		b.remark(keepalived.Warning, s.Command.At, "script", "`command -v "+args[0]+"` on the host tells where it is",
			"vrrp_script %s runs %q, which Keepalived looks for in its PATH: the check has /usr/bin/%[2]s", s.Name, args[0])
		args[0] = path.Join("/usr/bin", args[0])
	}
	return args
}

// user is who runs a script, "" = nobody.
func (b *builder) user(s keepalived.Script) string {
	user := cmp.Or(s.Command.User, b.host.Config.Global.ScriptUser)
	if user == "" {
		b.remark(keepalived.Info, s.At, "script_user", "write user in the check if the script needs another",
			"vrrp_script %s runs as keepalived_script, or root where there is no such user: the check runs as nobody", s.Name)
	}
	return user
}

// processInterval is how often a process check looks if it is told of nothing.
const processInterval = 250 * time.Millisecond

func (b *builder) trackProcess(set string, t keepalived.Track, p keepalived.TrackProcess) {
	n, reverse := weight(t, p.Weight, p.Reverse)
	switch {
	case reverse:
		b.unhandled(p.At, "vrrp_track_process", "write a script check", "vrrp_track_process %s counts while the process is there (reverse)", p.Name)
		return
	case p.Quorum != 1 || p.QuorumMax < 65535:
		b.unhandled(p.At, "vrrp_track_process", "write a script check that counts them", "vrrp_track_process %s counts its processes (quorum, quorum_max): a process check wants at least one", p.Name)
		return
	}
	c := health.Check{Name: p.Name, Type: health.Process, Weight: n, Rise: runs(p.ForkDelay), Fall: runs(p.EndDelay)}
	if path.IsAbs(p.Process) {
		c.Exe = p.Process
		b.remark(keepalived.Info, p.At, "process", "for a script with an interpreter write comm instead", "vrrp_track_process %s: the check wants a process whose executable is %s", p.Name, p.Process)
	} else {
		base := path.Base(p.Process)
		c.Comm = base[:min(len(base), commLength)]
	}
	if len(p.Params) > 0 || p.ParamMatch != "" {
		b.remark(keepalived.Warning, p.At, "process", "use pidfile, or a script check, if there are others of this name",
			"vrrp_track_process %s looks at parameters too: the check takes every process %s", p.Name, cmp.Or(c.Comm, c.Exe))
	}
	b.add(set, c)
}

// runs is how many runs of a process check a delay lasts.
func runs(delay time.Duration) int {
	return min(max(int((delay+processInterval-1)/processInterval), 1), health.MaxRuns)
}

// trackFile translates a file that holds a number, which Keepalived multiplies with
// the weight.
func (b *builder) trackFile(set string, t keepalived.Track, f keepalived.TrackFile) {
	n, reverse := weight(t, f.Weight, f.Reverse)
	switch {
	case !path.IsAbs(f.Path):
		b.unhandled(f.At, "file", "name it in full", "track_file %s: %q is no absolute path", f.Name, f.Path)
		return
	case n != 1 || reverse:
		what := fmt.Sprintf("multiplies its number by %d", n)
		if n == 0 {
			what = "is a fault while its number is not 0"
		}
		if reverse {
			what += " (reverse)"
		}
		b.unhandled(f.At, "track_file", "write the weight itself into the file (-254 to 254; read_weight: true), or a script check", "track_file %s %s: a file check adds the number as it is", f.Name, what)
		return
	}
	if f.Init != nil {
		b.remark(keepalived.Info, f.At, "init_file", "", "track_file %s: nobody creates %s; as long as it is not there it adds nothing", f.Name, f.Path)
	}
	b.add(set, health.Check{Name: f.Name, Type: health.File, Path: f.Path, ReadWeight: true})
}
