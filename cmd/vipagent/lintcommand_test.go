package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const lintSample = "vrrp_instance A {\n\tinterface eth0\n\tvirtual_router_id 51\n\t/*ä*/ x\n\tpriority 300\n\tvrf red\n\tvirtual_ipaddress {\n\t\t192.0.2.1\n\t}\n}\n"

func lint(t *testing.T, in string, args ...string) (code int, out, talk string) {
	t.Helper()
	var o, e strings.Builder
	code = lintCommand(args, strings.NewReader(in), &o, &e)
	return code, o.String(), e.String()
}

func TestLintText(t *testing.T) {
	code, out, talk := lint(t, lintSample, "-")
	for _, want := range []string{
		"-:5:11: warning: priority 300 is not between 1 and 255: 100 is used\n    5 | \tpriority 300\n      | \t         ^\n",
		"-:6:2: unhandled: vrf is not handled: ",
		"-: 0 errors, 3 warnings, 1 unhandled, 0 info; 1 vrrp_instance, usable (exit code 5)\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	if code != 5 || talk != "" {
		t.Errorf("code %d, %q", code, talk)
	}
}

func TestLintCodes(t *testing.T) {
	dir := t.TempDir()
	file := func(name, s string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	instance := func(more string) string {
		return "vrrp_instance A {\ninterface eth0\nvirtual_router_id 5\nvirtual_ipaddress {\n192.0.2.1\n}\n" + more + "}\n"
	}
	good, warns := file("good", instance("")), file("warns", instance("priority 0\n"))
	unusable := file("unusable", instance("authentication {\nauth_type AH\nauth_pass x\n}\n"))
	tests := []struct {
		name string
		args []string
		code int
		out  string // a part
		talk string
	}{
		{"good", []string{good}, 0, "0 errors", ""},
		{"worst", []string{good, warns, good}, 5, "1 warning,", ""},
		{"unusable", []string{unusable}, 7, "not usable (exit code 7)", ""},
		{"missing", []string{filepath.Join(dir, "none")}, 3, "the file cannot be read", ""},
		{"directory", []string{dir}, 3, "not a regular file", ""},
		{"ends", []string{file("ends", "vrrp_instance A {\nstate\n}\n")}, 2, "state lacks its value", ""},
		{"security", []string{file("security", instance("notify_master /bin/true\n"))}, 6, "enable_script_security is not set", ""},
		{"id", []string{"--config-id", "two", file("id", instance("@two priority 0\n@one priority 900\n"))}, 5, "priority 0 is not", ""},
		{"no file", nil, 1, "", "requires at least 1 arg"},
		{"flag", []string{"--jason", good}, 1, "", "unknown flag: --jason"},
		{"help", []string{"--help"}, 0, "enable_script_security", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out, talk := lint(t, "", tt.args...)
			if code != tt.code || !strings.Contains(out, tt.out) || !strings.Contains(talk, tt.talk) || tt.talk == "" && talk != "" {
				t.Errorf("code %d, want %d\n%s%s", code, tt.code, out, talk)
			}
		})
	}
}

func TestLintJSON(t *testing.T) {
	code, out, talk := lint(t, lintSample, "--json", "-")
	var got []struct {
		File        string
		Code        int
		Usable      bool
		Diagnostics []map[string]any
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v in %s%s", err, out, talk)
	}
	if code != 5 || len(got) != 1 || got[0].Code != 5 || !got[0].Usable || len(got[0].Diagnostics) != 4 {
		t.Fatalf("code %d: %+v", code, got)
	}
	d := got[0].Diagnostics[1]
	if d["line"] != 5.0 || d["column"] != 11.0 || d["severity"] != "warning" || d["keyword"] != "priority" {
		t.Errorf("got %v", d)
	}
}
