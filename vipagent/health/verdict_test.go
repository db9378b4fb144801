package health

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// TestVerdict feeds results ("+" good, "-" bad) and shows the state after each.
func TestVerdict(t *testing.T) {
	tests := []struct {
		initial    string
		rise, fall int
		runs, want string
	}{
		{"unknown", 2, 3, "+", "?G"},
		{"unknown", 2, 3, "-", "?B"},
		{"unknown", 2, 3, "+--+---", "?GGGGGGB"},
		{"unknown", 2, 3, "-+-++", "?BBBBG"},
		{"unknown", 1, 1, "+-+-", "?GBGB"},
		{"good", 2, 3, "--+---+", "GGGGGGBB"},
		{"bad", 2, 3, "+-++", "BBBBG"},
	}
	for _, tt := range tests {
		t.Run(tt.initial+tt.runs, func(t *testing.T) {
			c := Check{Name: "c", Rise: tt.rise, Fall: tt.fall}
			v := newVerdict(tt.initial)
			got := v.state.String()[:1]
			for i, r := range tt.runs {
				var err error
				if r == '-' {
					err = fmt.Errorf("failure %d", i)
				}
				v.step(c, 0, err)
				got += v.state.String()[:1]
			}
			got = strings.NewReplacer("u", "?", "g", "G", "b", "B").Replace(got)
			if got != tt.want {
				t.Errorf("states %s, want %s", got, tt.want)
			}
		})
	}
}

// TestReasonStands: the reason is that of the change; a script that prints the
// time must not make a change of each run.
func TestReasonStands(t *testing.T) {
	c := Check{Name: "c", Rise: 1, Fall: 2}
	v := newVerdict("good")
	for i := range 5 {
		v.step(c, 0, fmt.Errorf("at %d", i))
	}
	if got := v.condition(c); got != (Condition{Veto: true, Reason: "c: at 1"}) {
		t.Errorf("condition %+v", got)
	}
}

func TestCondition(t *testing.T) {
	bad := errors.New("is bad")
	tests := []struct {
		name   string
		check  Check
		weight int
		result error
		want   Condition
	}{
		{"veto good", Check{}, 0, nil, Condition{}},
		{"veto bad", Check{}, 0, bad, Condition{Veto: true, Reason: "c: is bad"}},
		{"positive good", Check{Weight: 20}, 0, nil, Condition{Weight: 20}},
		{"positive bad", Check{Weight: 20}, 0, bad, Condition{Reason: "c: is bad"}},
		{"negative good", Check{Weight: -20}, 0, nil, Condition{}},
		{"negative bad", Check{Weight: -20}, 0, bad, Condition{Weight: -20, Reason: "c: is bad"}},
		{"file good", Check{ReadWeight: true}, -7, nil, Condition{Weight: -7}},
		{"file bad", Check{ReadWeight: true}, 0, bad, Condition{Reason: "c: is bad"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.check.Name, tt.check.Rise, tt.check.Fall = "c", 1, 1
			v := newVerdict("unknown")
			before := v.condition(tt.check)
			if !before.Pending || before.Veto != (tt.check.Weight == 0 && !tt.check.ReadWeight) || before.Weight > 0 {
				t.Errorf("before the first run: %+v, want what a bad one has", before)
			}
			v.step(tt.check, tt.weight, tt.result)
			if got := v.condition(tt.check); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
	got := combine([]Condition{{Weight: 5}, {Weight: -2, Reason: "a: x"}, {Veto: true, Reason: "b: y"}, {Pending: true}})
	if want := (Condition{Weight: 3, Veto: true, Pending: true, Reason: "a: x; b: y"}); got != want {
		t.Errorf("combine: got %+v, want %+v", got, want)
	}
}

// TestReadWeightFollowsTheFile: the weight is not damped.
func TestReadWeightFollowsTheFile(t *testing.T) {
	c := Check{ReadWeight: true, Rise: 3, Fall: 3}
	v := newVerdict("unknown")
	for _, w := range []int{5, 7, -3} {
		v.step(c, w, nil)
		if got := v.condition(c).Weight; got != w {
			t.Errorf("weight %d, want %d", got, w)
		}
	}
}

// TestBudget: a timeout is spent by running, not by being paused.
func TestBudget(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	tests := []struct {
		name       string
		ticks      []int // ms; the last one must end it, the others not
		paused     bool
		unfinished bool
	}{
		{"punctual", []int{100, 200, 300, 400, 500, 600, 700, 800, 900, 1000}, false, false},
		{"somewhat late", []int{140, 280, 420, 560, 700, 840, 980, 1120}, false, false},
		{"paused for an hour", []int{100, 3600_000, 3600_100, 3600_200}, true, true},
		{"paused at the end", []int{100, 200, 300, 400, 500, 600, 700, 800, 3600_000}, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBudget(time.Second, start)
			for i, ms := range tt.ticks {
				over, want := b.spend(at(ms)), i == len(tt.ticks)-1 && !tt.unfinished
				if over != want {
					t.Errorf("at %d ms: over is %v, want %v (left %s)", ms, over, want, b.left)
				}
			}
			if b.paused != tt.paused {
				t.Errorf("paused is %v", b.paused)
			}
		})
	}
}

func TestShorten(t *testing.T) {
	for in, want := range map[string]string{
		"a\nb\t\x00c  d":         "a b c d",
		"bad \xff byte":          "bad ? byte",
		strings.Repeat("x", 30):  strings.Repeat("x", 17) + "...",
		strings.Repeat("é", 30):  strings.Repeat("é", 8) + "...",
		"\x1b[31mred\x1b[0m\r\n": "[31mred [0m",
	} {
		got := shorten(in, 20)
		if got != want || !utf8.ValidString(got) {
			t.Errorf("shorten(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name  string
		check Check
		want  string // "" = right
	}{
		{"script", Check{Type: Script, Command: []string{"/bin/true"}}, ""},
		{"script without command", Check{Type: Script}, "checks[0].command: the check has no command"},
		{"script by search path", Check{Type: Script, Command: []string{"true"}}, `checks[0].command: command "true" is not an absolute path`},
		{"process", Check{Type: Process, Comm: "nginx"}, ""},
		{"process twice", Check{Type: Process, Comm: "nginx", Exe: "/x"}, "checks[0]: a process check needs one of comm, exe and pidfile"},
		{"long comm", Check{Type: Process, Comm: "a-rather-long-name"}, "checks[0].comm: "},
		{"file", Check{Type: File, Path: "/x"}, ""},
		{"file by two rules", Check{Type: File, Path: "/x", Absent: true, Contains: "x"}, "at most one of"},
		{"file weight and weight", Check{Type: File, Path: "/x", ReadWeight: true, Weight: 3}, "leave out weight and veto"},
		{"relative file", Check{Type: File, Path: "x"}, "checks[0].path: "},
		{"interface", Check{Type: Interface, Interface: "eth0"}, ""},
		{"no interface", Check{Type: Interface}, "checks[0].interface: "},
		{"tcp", Check{Type: TCP, Address: "[::1]:80"}, ""},
		{"tcp without port", Check{Type: TCP, Address: "localhost"}, "checks[0].address: "},
		{"http", Check{Type: HTTP, URL: "https://localhost/x"}, ""},
		{"http without scheme", Check{Type: HTTP, URL: "localhost/x"}, "checks[0].url: "},
		{"http status", Check{Type: HTTP, URL: "http://a", Status: []int{20}}, "status 20 is no HTTP status"},
		{"gateway", Check{Type: Gateway, Address: "fe80::1", Interface: "eth0"}, ""},
		{"gateway by name", Check{Type: Gateway, Address: "router"}, "checks[0].address: "},
		{"no type", Check{}, "checks[0].type: the check has no type"},
		{"weight and veto", Check{Type: File, Path: "/x", Weight: 1, Veto: true}, "checks[0].veto: "},
		{"weight", Check{Type: File, Path: "/x", Weight: 255}, "checks[0].weight: "},
		{"interval", Check{Type: File, Path: "/x", Interval: time.Microsecond}, "checks[0].interval: "},
		{"rise", Check{Type: File, Path: "/x", Rise: -1}, "checks[0].rise: "},
		{"initial", Check{Type: File, Path: "/x", Initial: "maybe"}, "checks[0].initial: "},
		{"foreign field", Check{Type: File, Path: "/x", Follow: true}, "checks[0].follow: follow is a key of http checks, this is a file check"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.check.Name = "c"
			problems := Validate([]Check{tt.check})
			got := make([]string, len(problems))
			for i, p := range problems {
				got[i] = p.Error()
			}
			if all := strings.Join(got, "; "); (tt.want == "") != (all == "") || !strings.Contains(all, tt.want) {
				t.Errorf("got %q, want %q", all, tt.want)
			}
		})
	}
}
