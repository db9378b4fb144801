package translate

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/vipagent/health"
)

// tellCheck is a check in one line.
func tellCheck(c health.Check) string {
	what := strings.Join(c.Command, " ") + c.Comm + c.Exe + c.Path + c.Interface
	if c.User != "" {
		what += " as " + c.User
	}
	switch {
	case c.ReadWeight:
		what += " +file"
	case c.Veto:
		what += " veto"
	default:
		what += fmt.Sprintf(" %+d", c.Weight)
	}
	return fmt.Sprintf("%s %s for %s: %s, each %v at most %v, %d/%d %s", c.Type, c.Name, strings.Join(c.Sets, " "), what, c.Interval, c.Timeout, c.Rise, c.Fall, c.Initial)
}

func TestChecks(t *testing.T) {
	script := func(name, command string, lines ...string) string {
		return "vrrp_script " + name + " {\n script \"" + command + "\"\n " + strings.Join(lines, "\n ") + "\n}\n"
	}
	web := vip("10.0.0.50/24")
	track := func(kind string, lines ...string) string {
		return kind + " {\n  " + strings.Join(lines, "\n  ") + "\n }"
	}
	none := "dont_track_primary"
	tests := []struct {
		name    string
		file    string
		want    []string
		remarks []string // beginnings of severity and message
	}{
		{"its own interface", instance("VI", 51, 150, web), []string{"interface interface-eth0 for vi: eth0 veto, each 250ms at most 250ms, 1/1 unknown"}, nil},
		{"interfaces", instance("VI", 51, 150, web, none, track("track_interface", "eth1 weight -20", "eth2", "eth3 weight 10 reverse")),
			[]string{"interface interface-eth1 for vi: eth1 -20, each 250ms at most 250ms, 1/1 unknown", "interface interface-eth2 for vi: eth2 veto, each 250ms at most 250ms, 1/1 unknown"},
			[]string{"unhandled eth3 counts while it is down (reverse)"}},
		{"scripts", "global_defs {\n script_user checker\n enable_script_security\n}\n" +
			script("a b", "/bin/check --x 'y z'", "interval 5", "timeout 2", "rise 3", "fall 4", "weight -30", "init_fail", "user web") +
			script("up", "check", "weight 30") + script("other", "/bin/other") + instance("VI", 51, 150, web, none, track("track_script", "up weight 40", "other")),
			[]string{"script up for vi: /usr/bin/check as checker +40, each 1s at most 1s, 1/1 unknown", "script other for vi: /bin/other as checker veto, each 1s at most 1s, 1/1 unknown"},
			[]string{`warning vrrp_script up runs "check", which Keepalived looks for in its PATH: the check has /usr/bin/check`}},
		{"all of a script", "global_defs {\n enable_script_security\n}\n" +
			script("a", "/bin/check --x 'y z'", "interval 5", "timeout 2", "rise 3", "fall 4", "weight -30", "init_fail", "user web") + instance("VI", 51, 150, web, none, track("track_script", "a")),
			[]string{"script a for vi: /bin/check --x y z as web -30, each 5s at most 2s, 3/4 bad"}, nil},
		{"nobody's script", script("a", "/bin/check") + instance("VI", 51, 150, web, none, track("track_script", "a")),
			[]string{"script a for vi: /bin/check as nobody veto, each 1s at most 1s, 1/1 unknown"}, []string{"info vrrp_script a runs as keepalived_script"}},
		{"scripts that look for a process", script("k", "killall -0 haproxy-of-long-name", "interval 2", "fall 2") + script("p", "/bin/pidof nginx") + script("g", "pgrep -x /usr/sbin/x") +
			instance("VI", 51, 150, web, none, track("track_script", "k", "p", "g")),
			[]string{"process k for vi: haproxy-of-long veto, each 250ms at most 250ms, 1/2 unknown", "process p for vi: nginx veto, each 250ms at most 250ms, 1/1 unknown", "script g for vi: /usr/bin/pgrep -x /usr/sbin/x as nobody veto, each 1s at most 1s, 1/1 unknown"},
			[]string{"info vrrp_script k looks for a process", "info vrrp_script p looks for a process", "info vrrp_script g runs as keepalived_script", `warning vrrp_script g runs "pgrep"`}},
		{"one script of two sets, with one weight or two", script("a", "/bin/check", "user web") + script("b", "/bin/other", "user web") +
			instance("A", 51, 150, web, none, track("track_script", "a", "b weight 5")) + instance("B", 52, 150, vip("10.0.0.60/24"), none, track("track_script", "a", "b weight 6")),
			[]string{"script a for a b: /bin/check as web veto, each 1s at most 1s, 1/1 unknown", "script b for a: /bin/other as web +5, each 1s at most 1s, 1/1 unknown", "script b-2 for b: /bin/other as web +6, each 1s at most 1s, 1/1 unknown"}, nil},
		{"of a group", script("a", "/bin/check", "user web") + strings.Replace(group("G", "A", "B"), " }\n}", " }\n track_script {\n  a\n }\n}", 1) +
			instance("A", 51, 150, web, none) + instance("B", 52, 150, vip("10.0.0.60/24"), none),
			[]string{"script a for a b: /bin/check as web veto, each 1s at most 1s, 1/1 unknown"}, nil},
		{"a script that counts the other way round", script("a", "/bin/check", "weight 5 reverse") + instance("VI", 51, 150, web, none, track("track_script", "a")), nil,
			[]string{"unhandled vrrp_script a counts the other way round"}},
		{"processes", "vrrp_track_process p {\n process nginx\n weight 10\n fork_delay 1\n terminate_delay 0.3\n}\nvrrp_track_process q {\n process /usr/sbin/haproxy\n}\n" +
			"vrrp_track_process many {\n process php\n quorum 3\n}\nvrrp_track_process with {\n process python app.py\n}\n" +
			instance("VI", 51, 150, web, none, track("track_process", "p", "q", "many", "with")),
			[]string{"process p for vi: nginx +10, each 250ms at most 250ms, 4/2 unknown", "process q for vi: /usr/sbin/haproxy veto, each 250ms at most 250ms, 1/1 unknown", "process with for vi: python veto, each 250ms at most 250ms, 1/1 unknown"},
			[]string{"info vrrp_track_process q", "unhandled vrrp_track_process many counts", "warning vrrp_track_process with looks at parameters"}},
		{"files", "track_file f {\n file /run/weight\n init_file 0\n}\ntrack_file g {\n file /run/other\n weight 5\n}\ntrack_file h {\n file /run/fault\n weight 0\n}\n" +
			instance("VI", 51, 150, web, none, track("track_file", "f", "g", "h")),
			[]string{"file f for vi: /run/weight +file, each 250ms at most 250ms, 1/1 unknown"},
			[]string{"info track_file f: nobody creates", "unhandled track_file g multiplies its number by 5", "unhandled track_file h is a fault while its number is not 0"}},
		{"what has no counterpart", "global_defs {\n notify_fifo /run/fifo\n smtp_alert on\n}\nstatic_routes {\n 10.9.0.0/16 via 10.0.0.1 dev eth0\n}\n" +
			instance("VI", 51, 150, vip("10.0.0.50/24 label eth0:1 scope link"), none, "use_vmac", "notify_master /bin/notify", "smtp_alert off", "down_timer_adverts 4",
				"virtual_routes {\n 10.8.0.0/16 via 10.0.0.1\n }"), nil,
			[]string{"unhandled notify_fifo: an agent writes no FIFO (/run/fifo)", "unhandled 1 static route", "unhandled 10.0.0.50 is set without label eth0:1, scope link",
				"unhandled vrrp_instance VI has the addresses on an interface of its own", "unhandled notify_master of vrrp_instance VI", "unhandled down_timer_adverts of vrrp_instance VI", "unhandled 1 route of vrrp_instance VI"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			made := Checks(parse(t, tt.file))[0]
			var got, remarks []string
			for _, c := range made.Checks {
				got = append(got, tellCheck(c))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("made\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(tt.want, "\n  "))
			}
			for _, p := range health.Validate(made.Checks) {
				t.Errorf("vipagent would not take it: %v", p)
			}
			for _, d := range made.Remarks {
				remarks = append(remarks, fmt.Sprintf("%s %s", d.Severity, d.Message))
				if d.File != "lb1.conf" || d.Line == 0 {
					t.Errorf("no place: %v", d)
				}
			}
			if !slices.EqualFunc(remarks, tt.remarks, strings.HasPrefix) {
				t.Errorf("remarked\n  %s\nwant\n  %s", strings.Join(remarks, "\n  "), strings.Join(tt.remarks, "\n  "))
			}
		})
	}
}
