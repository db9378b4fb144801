package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Direction: cmd -> adapters -> owners -> PURE. Adapters never import each
// other. Good structure decays unless a test holds it, so each package says here
// which others it may import, and why no more.

// rule is what one package may import of this module.
type rule struct {
	pkg  string
	may  []string // "" in it: anything but cmd and test
	pure bool
	why  string
}

func rules() []rule {
	const wire = "coordinator/api/holdfastpb"
	return []rule{
		{pkg: "fsm", pure: true, may: []string{"fsm/group"},
			why: "every replica must come to the same state from the same entries"},
		{pkg: "coordinator/lease", pure: true,
			why: "the protocol is checked with clocks and messages of the checker's choice"},
		{pkg: "coordinator/ledger", pure: true, may: []string{"fsm", "coordinator/lease"},
			why: "the rules that need both the applied state and the promises are checked like the promises themselves"},
		{pkg: "coordinator/schedule", pure: true, may: []string{"fsm", "fsm/group"},
			why: "a decision must be explained later from the same state"},
		{pkg: "vipagent/vip", pure: true,
			why: "what a host will do to its addresses must be decidable without a kernel"},
		{pkg: "vipagent/tenure", pure: true, may: []string{"coordinator/lease", "vipagent/vip"},
			why: "the simulator and the exhaustive checker run the agent's own rules, with clocks and kernels of their choice"},

		{pkg: "vipagent/vrrp", pure: true,
			why: "the protocol is tested by scripts, with clocks and packets of their choice"},
		{pkg: "vipagent/keepalived", pure: true,
			why: "what a configuration means must not depend on the host that reads it"},
		{pkg: "vipagent/keepalived/translate", pure: true, may: []string{"fsm", "vipagent/health", "vipagent/keepalived"},
			why: "what several configurations come to together depends on their text alone"},

		{pkg: "brokerd/pop", pure: true,
			why: "every replica must come to the same consumers' state from the same log"},
		{pkg: "brokerd/record", pure: true,
			why: "what a record's bytes mean must be the same on every replica, and after years on a disk"},
		{pkg: "brokerd/commitlog", may: []string{"brokerd/record"},
			why: "the log knows files and records; who may append, and what is confirmed, is its owner's business"},
		{pkg: "brokerd/commitlog/faultfs", may: []string{"brokerd/commitlog"},
			why: "a disk in memory, for tests"},
		{pkg: "fsm/group", pure: true,
			why: "every coordinator must come to the same state of a broker group, and every replica must read it alike"},
		{pkg: "brokerd/replica", pure: true, may: []string{"coordinator/lease", "fsm/group"},
			why: "the simulator and the exhaustive checker run the replicas' own rules, with messages, disks and leases of their choice"},

		{pkg: "brokerd/service", pure: true, may: []string{"brokerd/pop", "brokerd/record"},
			why: "what endpoints and owner tell each other, who do not know each other"},
		{pkg: "brokerd/rmqgrpc", may: []string{"brokerd/pop", "brokerd/record", "brokerd/service"},
			why: "translates between RocketMQ's clients and the owner; where a message is stored, the owner decides"},

		{pkg: "brokerd", may: []string{"brokerd/commitlog", "brokerd/pop", "brokerd/record", "brokerd/replica", "brokerd/service", "coordinator/lease", "coordinator/renew", "fsm/group", wire},
			why: "the owner declares the interfaces that it needs; adapters satisfy them, and tests replace them"},

		{pkg: "coordinator", may: []string{"fsm", "fsm/group", "coordinator/lease", "coordinator/ledger", "coordinator/schedule", wire},
			why: "the owner declares the interfaces that it needs; adapters satisfy them, and tests replace them"},
		{pkg: "coordinator/renew", may: []string{"coordinator/lease", wire},
			why: "every kind of holder renews alike, and knows nothing of the others"},
		{pkg: "vipagent", may: []string{"coordinator/lease", "coordinator/renew", "vipagent/fault", "vipagent/tenure", "vipagent/vip", "vipagent/vrrp", wire},
			why: "the owner declares the interfaces that it needs; adapters satisfy them, and tests replace them"},

		{pkg: "vipagent/router", may: []string{"vipagent/keepalived", "vipagent/vrrp"},
			why: "the owner of plain mode: it declares the interfaces that it needs, like the other owners"},

		{pkg: wire, why: "generated from holdfast.proto alone"},
		{pkg: "coordinator/api/dial", why: "how both ends of a connection are set up; knows no message"},
		{pkg: "coordinator/api", may: []string{"coordinator", "fsm", wire, "coordinator/api/dial"},
			why: "translates between the wire and the owner, and does nothing else"},
		{pkg: "coordinator/client", may: []string{wire, "coordinator/api/dial", "fsm/group"},
			why: "runs on other hosts than the coordinator: it knows the wire, and the form in which a broker reads its group"},
		{pkg: "coordinator/raftnode", why: "Raft carries bytes; what they mean is the owner's business"},
		{pkg: "coordinator/gossip", why: "membership carries bytes; it never decides ownership"},
		{pkg: "vipagent/fault", why: "where a campaign may stop the agent; empty in a normal build"},
		{pkg: "vipagent/linux", may: []string{"coordinator/lease", "vipagent/fault", "vipagent/vip"},
			why: "the kernel's side of a plan and of a deadline; it decides nothing"},
		{pkg: "vipagent/health", why: "a check knows nothing of sessions, sets or addresses"},

		{pkg: "brokerd/stream/streampb", why: "generated from stream.proto alone"},
		{pkg: "brokerd/stream", may: []string{"brokerd/stream/streampb", "coordinator/api/dial"},
			why: "replication carries bytes; what they mean is the replica's business"},

		{pkg: "cmd/internal/daemon", may: []string{"vipagent/health"},
			why: "the surroundings of any daemon; of the daemons' parts it knows the configuration types only"},
		{pkg: "cmd/coordinator", may: []string{""}, why: "wiring"},
		{pkg: "cmd/brokerd", may: []string{""}, why: "wiring"},
		{pkg: "cmd/vipagent", may: []string{""}, why: "wiring"},
		{pkg: "cmd/coordctl", may: []string{"cmd/internal/daemon", "coordinator/api/dial", "coordinator/client", "fsm", wire, "test/lab", "test/lab/drill", "test/lab/scenario", "vipagent/health", "vipagent/keepalived", "vipagent/keepalived/translate"},
			why: "an operator's tool sees of a cluster what the API shows; `coordctl import` reads the files that a cluster is to replace, and writes the checks of the agents; what `coordctl drill` breaks is a cluster in the lab, the same one that the tests break"},
	}
}

// testOnly may be imported by packages below test/ alone; they may import
// anything but cmd, whose programs they run as processes.
const testOnly = "test"

// confined are modules that only some packages may use.
func confined() []struct {
	modules, packages []string
	why               string
} {
	return []struct {
		modules, packages []string
		why               string
	}{
		{[]string{"github.com/vishvananda/netlink", "github.com/mdlayher/", "github.com/cilium/ebpf", "github.com/google/nftables"},
			[]string{"vipagent/linux"}, "one place changes the kernel's network state"},
		{[]string{"github.com/hashicorp/raft", "github.com/hashicorp/go-hclog", "go.etcd.io/bbolt"},
			[]string{"coordinator/raftnode"}, "Raft's library stays replaceable, and its faults are guarded in one place"},
		{[]string{"github.com/hashicorp/memberlist"},
			[]string{"coordinator/gossip"}, "the membership library stays replaceable"},
		{[]string{"google.golang.org/grpc"},
			[]string{"coordinator/api", "coordinator/api/dial", "coordinator/api/holdfastpb", "coordinator/client", "brokerd/rmqgrpc", "brokerd/stream", "brokerd/stream/streampb", "cmd/brokerd", "cmd/coordinator", "cmd/coordctl"},
			"errors become status codes, and back, at the edge alone"},
		{[]string{"github.com/apache/rocketmq-clients"},
			[]string{"brokerd/rmqgrpc"}, "RocketMQ's messages stay at the edge"},
		{[]string{"go.yaml.in/yaml"},
			[]string{"cmd/internal/daemon", "cmd/coordctl"}, "strict parsing with line and column is done at the edge"},
	}
}

// pureImports are the packages of the standard library that a PURE package may
// use: they compute. What is missing here does I/O, blocks, starts goroutines,
// or is random.
func pureImports() []string {
	return []string{
		"bytes", "cmp", "container/heap", "crypto/hmac", "crypto/sha256", "crypto/subtle", "encoding/base64", "encoding/binary", "encoding/hex", "encoding/json",
		"errors", "fmt", "hash", "hash/crc32", "io", "iter", "maps", "math", "math/bits", "net/netip", "path", "slices", "sort", "strconv", "strings",
		"time", "unicode", "unicode/utf8",
	}
}

// source is one Go file of the module.
type source struct {
	name string // from the module's root, with slashes
	file *ast.File
	fset *token.FileSet
}

func (s source) pkg() string  { return path.Dir(s.name) }
func (s source) isTest() bool { return strings.HasSuffix(s.name, "_test.go") }

func (s source) at(n ast.Node, format string, args ...any) string {
	return fmt.Sprintf("%s:%d: %s", s.name, s.fset.Position(n.Pos()).Line, fmt.Sprintf(format, args...))
}

const module = "holdfast"

// checkImports returns what is against the rules of imports.
func checkImports(files []source) []string {
	byPkg := map[string]rule{}
	for _, r := range rules() {
		byPkg[r.pkg] = r
	}
	var bad []string
	seen := map[string]bool{}
	for _, s := range files {
		seen[s.pkg()] = true
		if s.isTest() {
			continue
		}
		r, known := byPkg[s.pkg()]
		if below := s.pkg() == testOnly || strings.HasPrefix(s.pkg(), testOnly+"/"); below {
			r, known = rule{pkg: s.pkg(), may: []string{"", testOnly}, why: "tests run the programs as processes"}, true
		}
		if !known {
			bad = append(bad, s.at(s.file, "package %s is in no rule: say in test/imports_test.go where it belongs", s.pkg()))
			continue
		}
		for _, spec := range s.file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				continue
			}
			if why := r.forbids(imported); why != "" {
				bad = append(bad, s.at(spec, "%s must not import %s: %s", r.pkg, imported, why))
			}
		}
	}
	for _, r := range rules() {
		if !seen[r.pkg] {
			bad = append(bad, fmt.Sprintf("package %s has vanished: take it out of test/imports_test.go", r.pkg))
		}
	}
	return bad
}

// forbids returns why the package of the rule may not import another, "" if it
// may.
func (r rule) forbids(imported string) string {
	if imported == module || strings.HasPrefix(imported, module+"/") {
		inner := strings.TrimPrefix(imported, module+"/")
		for _, m := range r.may {
			switch {
			case m != "" && (inner == m || m == testOnly && strings.HasPrefix(inner, testOnly+"/")):
				return ""
			case m == "" && (!strings.HasPrefix(inner, "cmd/") || inner == "cmd/internal/daemon" && strings.HasPrefix(r.pkg, "cmd/")) && !strings.HasPrefix(inner, testOnly+"/"):
				return ""
			}
		}
		return r.why
	}
	if r.pure && !slices.Contains(pureImports(), imported) {
		return "it is PURE: " + r.why
	}
	if strings.HasPrefix(r.pkg, testOnly) {
		return ""
	}
	for _, c := range confined() {
		for _, m := range c.modules {
			if within := imported == m || strings.HasPrefix(imported, strings.TrimSuffix(m, "/")+"/") || strings.HasPrefix(imported, m+"-"); within && !slices.Contains(c.packages, r.pkg) {
				return c.why
			}
		}
	}
	return ""
}

// impureTime are the functions of package time that read or follow a clock.
func impureTime() []string {
	return []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}
}

// checkCode returns what is against the rules of what code may do where.
func checkCode(files []source) []string {
	pure := map[string]bool{}
	for _, r := range rules() {
		pure[r.pkg] = r.pure
	}
	var bad []string
	for _, s := range files {
		switch {
		case s.isTest():
			bad = append(bad, testCode(s)...)
		case pure[s.pkg()]:
			bad = append(bad, pureCode(s)...)
		}
		if !s.isTest() {
			bad = append(bad, constructors(s)...)
		}
		if !strings.HasPrefix(s.name, "cmd/") && !strings.HasPrefix(s.name, testOnly+"/") && !s.isTest() {
			bad = append(bad, exits(s)...)
		}
	}
	return bad
}

// selector returns x and name of an expression x.name where x is an identifier.
func selector(n ast.Node) (x, name string) {
	if sel, ok := n.(*ast.SelectorExpr); ok {
		if id, ok := sel.X.(*ast.Ident); ok {
			return id.Name, sel.Sel.Name
		}
	}
	return "", ""
}

// pureCode: time is an argument, and nothing happens by itself.
func pureCode(s source) (bad []string) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt, *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
			bad = append(bad, s.at(n, "goroutines and channels do not belong in a PURE package: calls must come to the same result each time"))
		case *ast.SelectorExpr:
			if x, name := selector(n); x == "time" && slices.Contains(impureTime(), name) {
				bad = append(bad, s.at(n, "time.%s in a PURE package: time is an argument", name))
			}
		}
		return true
	})
	return bad
}

// testCode: a sleep is a race or a waste (use a channel, or a wait with a
// deadline), but for files that use testing/synctest, where it moves a fake
// clock. A skipped test is a failure that nobody sees.
func testCode(s source) (bad []string) {
	bubble := slices.ContainsFunc(s.file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing/synctest"` })
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch x, name := selector(n); {
		case x == "time" && name == "Sleep" && !bubble:
			bad = append(bad, s.at(n, "time.Sleep in a test: it is a race or a waste"))
		case slices.Contains([]string{"t", "b", "f", "tb"}, x) && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, name):
			bad = append(bad, s.at(n, "%s.%s: a skipped test is a failure that nobody sees", x, name))
		}
		return true
	})
	return bad
}

// constructors start nothing: what runs is what Run(ctx) runs, and it has ended
// when Run returns.
func constructors(s source) (bad []string) {
	for _, d := range s.file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Recv != nil || f.Body == nil || !strings.HasPrefix(f.Name.Name, "New") && !strings.HasPrefix(f.Name.Name, "Open") {
			continue
		}
		ast.Inspect(f.Body, func(n ast.Node) bool {
			_, isGo := n.(*ast.GoStmt)
			if _, name := selector(n); isGo || name == "Go" {
				bad = append(bad, s.at(n, "%s starts a goroutine: constructors start nothing, Run does", f.Name.Name))
			}
			return true
		})
	}
	return bad
}

// exits: only main ends the process, after all that has to be tidied up.
func exits(s source) (bad []string) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		x, name := selector(n)
		if x == "os" && name == "Exit" || x == "log" && strings.HasPrefix(name, "Fatal") {
			bad = append(bad, s.at(n, "%s.%s: only main ends the process", x, name))
		}
		return true
	})
	return bad
}

// tree parses all Go files of the module; generated code is only asked for its
// imports.
func tree(t *testing.T) []source {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	var files []source
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if d.IsDir() {
			// Another module has other rules, and test/out is for output.
			_, err := os.Stat(filepath.Join(p, "go.mod"))
			if nested := err == nil && name != "."; nested || name == "test/out" || name == "bin" || (name != "." && strings.HasPrefix(d.Name(), ".")) || d.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		s, err := parse(name, string(text))
		files = append(files, s)
		return err
	})
	if err != nil {
		t.Fatalf("read the module: %v", err)
	}
	return files
}

func parse(name, text string) (source, error) {
	mode := parser.SkipObjectResolution
	if strings.HasSuffix(name, ".pb.go") {
		mode |= parser.ImportsOnly
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, text, mode)
	return source{name: name, file: f, fset: fset}, err
}

func TestImports(t *testing.T) {
	for _, finding := range checkImports(tree(t)) {
		t.Error(finding)
	}
}

func TestCode(t *testing.T) {
	for _, finding := range checkCode(tree(t)) {
		t.Error(finding)
	}
}

// TestRulesBite plants each fault and sees it found.
func TestRulesBite(t *testing.T) {
	tests := []struct{ name, file, text, want string }{
		{"pure with I/O", "fsm/x.go", "package fsm\nimport \"os\"\n", "fsm/x.go:2: fsm must not import os: it is PURE: "},
		{"pure with net", "vipagent/vip/x.go", "package vip\nimport \"net\"\n", "must not import net: it is PURE"},
		{"pure with chance", "fsm/x.go", "package fsm\nimport \"math/rand/v2\"\n", "must not import math/rand/v2: it is PURE"},
		{"pure with a library", "fsm/x.go", "package fsm\nimport \"golang.org/x/sys/unix\"\n", "it is PURE"},
		{"pure to owner", "fsm/x.go", "package fsm\nimport \"holdfast/coordinator\"\n", "fsm must not import holdfast/coordinator: every replica"},
		{"owner to adapter", "coordinator/x.go", "package coordinator\nimport \"holdfast/coordinator/gossip\"\n", "coordinator must not import holdfast/coordinator/gossip"},
		{"adapter to adapter", "coordinator/gossip/x.go", "package gossip\nimport _ \"holdfast/coordinator/raftnode\"\n", "membership carries bytes"},
		{"library to cmd", "vipagent/x.go", "package vipagent\nimport \"holdfast/cmd/internal/daemon\"\n", "vipagent must not import holdfast/cmd/internal/daemon"},
		{"cmd to cmd", "cmd/vipagent/x.go", "package main\nimport \"holdfast/cmd/coordinator\"\n", "cmd/vipagent must not import holdfast/cmd/coordinator"},
		{"cmd to test", "cmd/vipagent/x.go", "package main\nimport \"holdfast/test/lab\"\n", "cmd/vipagent must not import holdfast/test/lab"},
		{"test to cmd", "test/lab/x.go", "package lab\nimport \"holdfast/cmd/internal/daemon\"\n", "test/lab must not import holdfast/cmd/internal/daemon"},
		{"cmd wires", "cmd/vipagent/x.go", "package main\nimport (\n\"holdfast/cmd/internal/daemon\"\n\"holdfast/vipagent/linux\"\n)\n", ""},
		{"test uses test", "test/demo/x.go", "package main\nimport \"holdfast/test/lab\"\n", ""},
		{"netlink elsewhere", "vipagent/health/x.go", "package health\nimport \"github.com/vishvananda/netlink\"\n", "one place changes the kernel's network state"},
		{"mdlayher elsewhere", "vipagent/x.go", "package vipagent\nimport \"github.com/mdlayher/packet\"\n", "one place changes the kernel's network state"},
		{"raft elsewhere", "coordinator/x.go", "package coordinator\nimport \"github.com/hashicorp/raft-boltdb/v2\"\n", "Raft's library stays replaceable"},
		{"grpc in an owner", "vipagent/x.go", "package vipagent\nimport \"google.golang.org/grpc/status\"\n", "at the edge alone"},
		{"unknown package", "vipagent/extra/x.go", "package extra\n", "package vipagent/extra is in no rule"},
		{"now", "fsm/x.go", "package fsm\nfunc f() any { return time.Now }\n", "fsm/x.go:2: time.Now in a PURE package"},
		{"after", "fsm/x.go", "package fsm\nfunc f() { time.AfterFunc(1, f) }\n", "time.AfterFunc in a PURE package"},
		{"goroutine", "coordinator/lease/x.go", "package lease\nfunc f() { go f() }\n", "goroutines and channels"},
		{"channel", "coordinator/lease/x.go", "package lease\ntype c chan int\n", "goroutines and channels"},
		{"constructor", "vipagent/linux/x.go", "package linux\nfunc Open() { go Open() }\n", "vipagent/linux/x.go:2: Open starts a goroutine"},
		{"constructor by group", "vipagent/linux/x.go", "package linux\nfunc NewX() { g.Go(NewX) }\n", "NewX starts a goroutine"},
		{"method", "vipagent/linux/x.go", "package linux\nfunc (x X) Open() { go f() }\n", ""},
		{"sleep", "vipagent/x_test.go", "package vipagent\nfunc f() { time.Sleep(1) }\n", "time.Sleep in a test"},
		{"sleep in a bubble", "vipagent/x_test.go", "package vipagent\nimport \"testing/synctest\"\nfunc f() { time.Sleep(1) }\n", ""},
		{"skip", "vipagent/x_test.go", "package vipagent\nfunc f() { t.Skipf(\"\") }\n", "t.Skipf: a skipped test"},
		{"exit", "vipagent/x.go", "package vipagent\nfunc f() { os.Exit(1) }\n", "os.Exit: only main ends the process"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := parse(tt.file, tt.text)
			if err != nil {
				t.Fatal(err)
			}
			var found []string
			for _, finding := range append(checkImports([]source{s}), checkCode([]source{s})...) {
				if !strings.HasSuffix(finding, "take it out of test/imports_test.go") {
					found = append(found, finding)
				}
			}
			if tt.want == "" && len(found) > 0 || tt.want != "" && (len(found) != 1 || !strings.Contains(found[0], tt.want)) {
				t.Errorf("found %q, want %q", found, tt.want)
			}
		})
	}
	if gone := checkImports(nil); len(gone) != len(rules()) || !strings.Contains(gone[0], "package fsm has vanished") {
		t.Errorf("vanished packages: %q", gone)
	}
}
