package keepalived

import (
	"fmt"
	"strings"
	"testing"
)

// summary says of a configuration what the lexer decides: names, priorities and
// addresses.
func summary(c *Config) string {
	var parts []string
	if c.Global.RouterID != "" {
		parts = append(parts, "id="+c.Global.RouterID)
	}
	for _, in := range c.Instances {
		s := fmt.Sprintf("%s/%s/%d/%d", in.Name, in.Interface, in.VRID, in.Priority)
		for _, a := range in.Addresses {
			s += " " + a.Prefix.String()
		}
		parts = append(parts, s)
	}
	for _, s := range c.Scripts {
		parts = append(parts, strings.Join(s.Command.Args, "|"))
	}
	return strings.Join(parts, "; ")
}

// TestSyntax: what the samples of each fact about the syntax mean.
func TestSyntax(t *testing.T) {
	const plain = "A/eth0/51/100 192.0.2.10/24"
	tests := map[string]string{
		"plain": plain, "comments": plain, "tabs": plain, "crlf": plain, "no-newline": plain, "form-feed": plain, "tabs-after-keyword": plain,
		"one-line":                "A/eth0/51/100 192.0.2.10/32",
		"brace-own-line":          "A/eth0/51/100 192.0.2.10/32",
		"brace-joined":            "A/eth0/51/100 192.0.2.10/32",
		"brace-close-joined":      "A/eth0/51/90 192.0.2.10/32",
		"brace-two-blocks-line":   "A/eth0/51/100 192.0.2.10/32",
		"brace-in-quotes":         "id=a{b}c; " + plain,
		"comment-in-quotes":       "id=a # b ! c; " + plain,
		"escape-comment":          "id=a#b; " + plain,
		"escape-bang":             "id=a!b; " + plain,
		"quotes":                  "A B/eth0/51/100 192.0.2.10/24",
		"semicolon":               plain, // priority "100;" is no number, and 100 is the default
		"define":                  plain,
		"define-redefined":        "A/eth0/51/90 192.0.2.10/24",
		"define-in-define":        plain,
		"define-followed":         "A/eth0/51/100",
		"define-undefined":        plain,
		"define-hyphen":           plain,
		"define-multi":            plain,
		"define-multi-nested":     "A/eth0/51/100 192.0.2.10/24 192.0.2.11/24",
		"seq":                     "A/eth0/51/100 192.0.2.10/32 192.0.2.11/32 192.0.2.12/32",
		"seq-step":                "A/eth0/51/100 192.0.2.10/32 192.0.2.12/32 192.0.2.14/32",
		"seq-down":                "A/eth0/51/100 192.0.2.12/32 192.0.2.11/32 192.0.2.10/32",
		"seq-one":                 "A/eth0/51/100 192.0.2.1/32 192.0.2.2/32 192.0.2.3/32",
		"seq-hex":                 "A/eth0/51/100 fe80::10/128 fe80::11/128 fe80::12/128",
		"seq-define":              "A/eth0/51/100 192.0.2.10/32 192.0.2.11/32 192.0.2.12/32",
		"seq-nested":              "A/eth0/51/100 192.0.1.10/32 192.0.1.11/32 192.0.2.10/32 192.0.2.11/32",
		"seq-instances":           "A1/eth0/1/100 192.0.2.1/32; A2/eth0/2/100 192.0.2.2/32; A3/eth0/3/100 192.0.2.3/32",
		"lst-one":                 "A/eth0/51/100 192.0.2.10/32 192.0.2.11/32 192.0.2.12/32",
		"lst-missing-values":      "A/eth0/51/100 192.0.2.10/24 192.0.2.11/32",
		"conditional":             plain,
		"conditional-define":      plain,
		"include":                 plain,
		"include-glob":            plain,
		"include-relative":        "A/eth0/51/90 192.0.2.10/24",
		"include-in-block":        "A/eth0/51/100 192.0.2.10/32",
		"include-define":          plain,
		"pwd":                     "id=/etc/keepalived; " + plain,
		"script-escapes":          `A/eth0/51/100 192.0.2.10/24; /bin/true|a b|c`,
		"script-unquoted":         plain + "; /bin/true",
		"master-no-priority":      "A/eth0/51/255 192.0.2.10/24",
		"priority-300":            plain,
		"vip-no-mask":             "A/eth0/51/100 192.0.2.10/32",
		"define-undefined-braces": "id=$; " + plain,
	}
	files, _ := samples(t)
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			c, ds := Parse(files, name+".conf", Options{ConfigID: "one", PWD: "/etc/keepalived"})
			if got := summary(c); got != want {
				t.Errorf("got  %s\nwant %s\n%v", got, want, ds)
			}
		})
	}
}

// TestEnvironment: ${_ENV NAME} and ${_INSTANCE}.
func TestEnvironment(t *testing.T) {
	files := memory{"k.conf": "global_defs {\n router_id ${_ENV NAME}-${_INSTANCE}\n}\n"}
	c, ds := Parse(files, "k.conf", Options{Env: map[string]string{"NAME": "lb1"}, Instance: "two"})
	if c.Global.RouterID != "lb1-two" {
		t.Errorf("got %q: %v", c.Global.RouterID, ds)
	}
}
