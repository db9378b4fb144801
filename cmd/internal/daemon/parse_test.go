package daemon

import (
	"errors"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const testKey = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

// minimal is the shortest coordinator.yaml that is right.
const minimal = "name: a\nbind: 192.0.2.11\ntls: off\ngossip: {keys: [" + testKey + "]}\n"

// minimalAgent is the shortest vipagent.yaml that is right.
const minimalAgent = "host: web1\nbind: 192.0.2.21\nseeds: [192.0.2.11:7950]\ntls: off\ngossip: {keys: [" + testKey + "]}\n"

func TestDefaults(t *testing.T) {
	cfg, warnings, err := ParseCoordinator("c.yaml", strings.NewReader(minimal))
	if err != nil {
		t.Fatal(err)
	}
	want := defaultCoordinator()
	want.Name, want.TLS = "a", "off"
	want.Bind, want.Advertise = cfg.Bind, cfg.Bind
	want.Gossip.Keys = cfg.Gossip.Keys
	if diff := cmp.Diff(want, cfg, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	if got := cfg.AdvertiseRaft().String(); got != "192.0.2.11:7951" {
		t.Errorf("AdvertiseRaft() = %s", got)
	}
	if got := string(cfg.Gossip.Raw()[0]); got != "0123456789abcdef0123456789abcdef" {
		t.Errorf("Raw() = %q", got)
	}
	if len(warnings) != 1 || warnings[0].Key != "tls" || warnings[0].Line != 3 {
		t.Errorf("warnings = %v, want the one on tls", warnings)
	}

	agent, _, err := ParseAgent("v.yaml", strings.NewReader(minimalAgent+"ttl: 1200ms\n"))
	if err != nil {
		t.Fatal(err)
	}
	if agent.Renew != 200*time.Millisecond {
		t.Errorf("renew = %s, want ttl/6 = 200ms", agent.Renew)
	}
}

// TestProblems shows what a user sees, as a reviewer can read it.
func TestProblems(t *testing.T) {
	const a = "agent"
	tests := []struct{ name, kind, add, want string }{
		{"unknown key", "", "raft:\n  hartbeat: 250ms\n",
			`f.yaml:6:3: unknown key "hartbeat" in raft; did you mean "heartbeat"?` + "\n    6 |   hartbeat: 250ms\n      |   ^"},
		{"dash for underscore", "", "data-dir: /x\n", `unknown key "data-dir"; did you mean "data_dir"?`},
		{"key of another section", "", "heartbeat: 250ms\n", `unknown key "heartbeat"; did you mean raft.heartbeat?`},
		{"far from any key", "", "api: {zzzzzz: 1}\n", `unknown key "zzzzzz" in api; known here: "port"`},
		{"unknown key in check", a, "checks: [{name: x, type: tcp, adress: 'a:1'}]\n", `unknown key "adress" in checks[0]; did you mean "address"?`},
		{"duplicate key", "", "api: {port: 1, port: 2}\n", `f.yaml:5:16: duplicate key "port"; first on line 5`},
		{"duplicate section", "", "api: {port: 1}\napi: {port: 2}\n", `f.yaml:6:1: duplicate key "api"; first on line 5`},
		{"word for a number", "", "api: {port: http}\n", `api.port must be a whole number, not "http"`},
		{"list for a word", "", "data_dir: [/x]\n", `data_dir must be text, not a list`},
		{"word for a section", "", "api: 7952\n", `api must have keys and values, not a single value; keys: "port"`},
		{"word for a list", "", "seeds: 192.0.2.1:7950\n", `seeds must be a list, not a single value; write [ ] around it`},
		{"no value", "", "seeds:\n", `seeds has no value; remove the key to get its default`},
		{"bool for a word", "", "log: {level: true}\n", `log.level must be text, not "true"; put it in quotes`},
		{"word for a bool", a, "checks: [{name: x, type: http, url: 'http://a/', insecure: yes}]\n", `checks[0].insecure must be true or false, not "yes"; did you mean "true"?`},
		{"no unit", a, "ttl: 500\n", `ttl must be a duration such as 250ms, 1s or 1m30s, not "500"; add a unit: 500ms or 500s`},
		{"negative", a, "ttl: -1s\n", `ttl must be a duration`},
		{"not a number", "", "lease: {rho: .nan}\n", `lease.rho must be a number`},
		{"not an address", "", "advertise: host1\n", `advertise must be an IP address: ParseAddr("host1"): unable to parse IP`},
		{"anchor", "", "seeds: &x ['a:1']\n", `anchors and aliases are not allowed`},
		{"alias", "", "api: &p {port: 1}\nraft: *p\n", `f.yaml:6:7: anchors and aliases are not allowed`},
		{"two documents", "", "---\nname: b\n", `a second YAML document begins here`},
		{"broken second document", "", "---\n{\n", `not YAML: `},
		{"caret under a tab", "", "api: {\tport: x}\n", "    5 | api: {\tport: x}\n      |       \t      ^"},
		{"no YAML", "", "api: {port: 1\nlog\n", `not YAML: `},
		{"tab", "", "api:\n\tport: 1\n", `f.yaml:6:1: not YAML: found character that cannot start any token`},

		{"ttl too short", a, "ttl: 100ms\n", `f.yaml:6:6: ttl is 100ms, must be 200ms to 10s`},
		{"ttl too long", a, "ttl: 11s\n", `ttl is 11s, must be 200ms to 10s`},
		{"renew too slow", a, "ttl: 1s\nrenew: 400ms\n", `f.yaml:7:8: renew must be at most ttl/3, or one lost renewal ends the lease: 400ms > 1s/3 = 333.333333ms`},
		{"leader lease", "", "raft: {leader_lease: 300ms}\n", `f.yaml:5:22: raft.leader_lease must be at most raft.heartbeat, or a cut-off leader still leads when its successor is elected: 300ms > 250ms`},
		{"leader lease by default", "", "raft: {heartbeat: 100ms}\n", `f.yaml:5:19: raft.leader_lease must be at most raft.heartbeat, or a cut-off leader still leads when its successor is elected: 125ms > 100ms`},
		{"election", "", "raft: {election: 200ms}\n", `raft.election must be at least raft.heartbeat: 200ms < 250ms`},
		{"rho", "", "lease: {rho: 1}\n", `lease.rho is 1, must be 0.0001 to 0.1 (0.001 is 0.1 %)`},
		{"bootstrap_expect", "", "bootstrap_expect: 0\n", `bootstrap_expect is 0, must be 1 to 9`},
		{"port", "", "api: {port: 70000}\n", `api.port is 70000, must be 1 to 65535`},
		{"same port", "", "api: {port: 7951}\n", `raft.port and api.port are both 7951`},
		{"relative directory", "", "data_dir: data\n", `data_dir is "data", must be an absolute path`},
		{"seed without port", "", "seeds: [192.0.2.1]\n", `f.yaml:5:9: seed "192.0.2.1" must be host:port; did you mean 192.0.2.1:7950?`},
		{"log level", "", "log: {level: warning}\n", `log.level is "warning", must be one of "debug", "info", "warn", "error"; did you mean "warn"?`},
		{"interface name", a, "interfaces: [eth0, not/one]\n", `interfaces[1]`},
		{"check of another type", a, "checks: [{name: x, type: tcp, address: 'a:1', url: 'http://a'}]\n", `f.yaml:6:52: url is a key of http checks, this is a tcp check`},
		{"checks of one name", a, "checks: [{name: x, type: tcp, address: 'a:1'}, {name: x, type: tcp, address: 'a:2'}]\n", `checks 1 and 2 are both named "x"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var err error
			if tt.kind == a {
				_, _, err = ParseAgent("f.yaml", strings.NewReader(minimalAgent+tt.add))
			} else {
				_, _, err = ParseCoordinator("f.yaml", strings.NewReader(minimal+tt.add))
			}
			wantProblem(t, err, tt.want)
		})
	}
}

func wantProblem(t *testing.T, err error, want string) {
	t.Helper()
	var ce *ConfigError
	if !errors.As(err, &ce) {
		t.Fatalf("error is %v, want a ConfigError with %q", err, want)
	}
	if !strings.Contains(err.Error(), want) && !(len(ce.Problems) == 1 && strings.Contains(ce.Problems[0].Key, want)) {
		t.Errorf("got:\n%v\nwant in it:\n%s", err, want)
	}
}

// TestMissing: what must be written has no default, and the error says what to
// write.
func TestMissing(t *testing.T) {
	_, _, err := ParseCoordinator("c.yaml", strings.NewReader("# nothing\n"))
	for _, want := range []string{
		"c.yaml: name is missing", "c.yaml: bind is missing",
		"c.yaml: gossip.keys (or gossip.key_file) is missing; all members must have the same; make a key with: coordctl keygen",
		"c.yaml: tls is missing; this version cannot protect its connections; if the network is trusted, say so: tls: off",
	} {
		wantProblem(t, err, want)
	}
	_, _, err = ParseAgent("v.yaml", strings.NewReader(""))
	for _, want := range []string{"v.yaml: host is missing", "v.yaml: seeds is missing"} {
		wantProblem(t, err, want)
	}
	_, _, err = ParseCoordinator("c.yaml", strings.NewReader("gossip: {keys: ["+testKey+", "+testKey+"]}"))
	wantProblem(t, err, "this key is in the list twice")
	_, _, err = ParseCoordinator("c.yaml", strings.NewReader("gossip: {keys: ["+strings.Repeat("A", 43)+"=]}"))
	wantProblem(t, err, "a key of zeros is no key")
	_, _, err = ParseCoordinator("c.yaml", strings.NewReader("bind: '::'"))
	wantProblem(t, err, "c.yaml:1:7: bind is ::, which others cannot reach; add advertise:")
	_, _, err = ParseCoordinator("c.yaml", strings.NewReader(strings.Replace(minimal, "off", "on", 1)))
	wantProblem(t, err, `tls is "on", which this version does not have`)
	_, _, err = ParseCoordinator("c.yaml", strings.NewReader(strings.Replace(minimal, "off", "false", 1)))
	wantProblem(t, err, `tls must be text, not "false"`)
}

// TestAllAtOnce: nobody wants to correct a file one error at a time.
func TestAllAtOnce(t *testing.T) {
	_, _, err := ParseAgent("v.yaml", strings.NewReader("hots: x\nttl: 50ms\nbind: nowhere\nlog: {level: loud}\nchecks:\n- {name: a, type: tcp}\n- {name: b, type: none}\n- {name: c, type: http, fall: many}\n"))
	var ce *ConfigError
	if !errors.As(err, &ce) {
		t.Fatal(err)
	}
	var keys []string
	for _, p := range ce.Problems {
		keys = append(keys, p.Key)
	}
	want := []string{"key hots", "ttl", "bind", "log.level", "checks[0].address", "checks[1].type", "checks[2].fall", "host", "seeds", "gossip.keys", "tls"}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("problems (-want +got):\n%s\n%v", diff, err)
	}
}

// TestKeysStayHidden: no message, warning or printed configuration shows a key,
// right or wrong.
func TestKeysStayHidden(t *testing.T) {
	short := testKey[:40]
	for _, text := range []string{
		"gossip: {keys: [" + testKey + "], prt: 1}\nname: [x]\n",
		"gossip: {keys: [" + short + "]}\n",
		"gossip: {keys: [" + short + "], prt: 1}\n",
		"gossip:\n  keys:\n    - " + short + "\n",
		"gossip:\n  keys:\n    - " + testKey[:24] + "\n",
		"gossip: {keys: " + testKey + "}\n",
		"gossip: " + testKey + "\n",
		testKey + ": 1\n",
		"log: {level: " + testKey + "}\n",
		"api: {port: " + testKey + "}\n",
		"bind: " + testKey + "\n",
	} {
		cfg, warnings, err := ParseCoordinator("c.yaml", strings.NewReader(text))
		if err == nil {
			t.Errorf("%q: no error", text)
			continue
		}
		shown := err.Error()
		for _, w := range warnings {
			shown += w.String()
		}
		_ = cfg
		if strings.Contains(shown, short[:20]) {
			t.Errorf("%q: the key is shown:\n%s", text, shown)
		}
	}
	if k := (Key{1}); k.String() != hidden || k.GoString() != hidden {
		t.Error("a key prints itself")
	}
}

func TestOverrides(t *testing.T) {
	f := CoordinatorFile()
	cfg, _, err := f.Parse("c.yaml", strings.NewReader(minimal+"raft: {heartbeat: soon}\nseeds: [1]\n"),
		Override{"raft.heartbeat", "300ms"}, Override{"raft.election", "400ms"}, Override{"seeds", "a:1, b:2"}, Override{"name", "b"})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Raft.Heartbeat != 300*time.Millisecond || cfg.Name != "b" || !reflect.DeepEqual(cfg.Seeds, []string{"a:1", "b:2"}) {
		t.Errorf("got %+v", cfg)
	}
	_, _, err = f.Parse("c.yaml", strings.NewReader(minimal), Override{"raft.leader_lease", "1s"})
	wantProblem(t, err, "flag --raft.leader_lease: raft.leader_lease must be at most raft.heartbeat")
	_, _, err = f.Parse("c.yaml", strings.NewReader(minimal), Override{"api.port", "x"})
	wantProblem(t, err, `flag --api.port: api.port must be a whole number, not "x"`)
	_, _, err = f.Parse("c.yaml", strings.NewReader(minimal), Override{"seeds", "a"})
	wantProblem(t, err, `flag --seeds: seed "a" must be host:port`)
}

// commentedKey matches a key that a reference file shows commented out.
var commentedKey = regexp.MustCompile(`(?m)^( *)#([a-z])`)

// TestReferenceFiles: the files in deploy/ are right, show every key, and show
// its default.
func TestReferenceFiles(t *testing.T) {
	t.Run("coordinator", func(t *testing.T) {
		testReference(t, CoordinatorFile(), "../../../deploy/coordinator.yaml",
			map[string]bool{"name": true, "bind": true, "seeds": true, "gossip.key_file": true, "tls": true})
	})
	t.Run("brokerd", func(t *testing.T) {
		testReference(t, BrokerFile(), "../../../deploy/brokerd.yaml",
			map[string]bool{"name": true, "group": true, "bind": true, "seeds": true, "gossip.key_file": true, "tls": true})
	})
	t.Run("vipagent", func(t *testing.T) {
		testReference(t, AgentFile(), "../../../deploy/vipagent.yaml",
			map[string]bool{"host": true, "bind": true, "seeds": true, "gossip.key_file": true, "tls": true, "checks": true})
	})
}

// testReference checks one file; examples are keys that have no default.
func testReference[C any](t *testing.T, f File[C], path string, examples map[string]bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cfg, _, err := f.Parse(path, strings.NewReader(string(data)))
	if err != nil {
		t.Fatalf("the reference file is wrong:\n%v", err)
	}
	defaults, want := f.defaults(), f.defaults()
	f.check(&want, newChecker("", nil)) // what follows from other keys, e.g. renew
	got := reflect.ValueOf(&cfg).Elem()
	full := commentedKey.ReplaceAllString(string(data), "$1$2")
	full = strings.Replace(full, "  key_file:", "  #key_file:", 1) // it excludes keys
	c := newChecker(path, []byte(full))
	c.root = got.Type()
	c.decode(c.document([]byte(full)), reflect.ValueOf(&defaults).Elem(), "")
	if err := c.err(); err != nil {
		t.Fatalf("with the commented keys, the reference file is wrong:\n%v", err)
	}
	walkKeys(got.Type(), "", func(key string, _ reflect.StructField) {
		if !c.given(key) && key != "gossip.key_file" {
			t.Errorf("the file does not show the key %s", key)
		}
		value, std := byPath(got, key).Interface(), byPath(reflect.ValueOf(&want).Elem(), key).Interface()
		if !examples[key] && key != "advertise" && !reflect.DeepEqual(value, std) {
			t.Errorf("the file shows %s: %v, the default is %v", key, value, std)
		}
	})
}

// FuzzParse: whatever the file, an answer and no panic; and what is accepted
// satisfies the rules that safety rests on.
func FuzzParse(f *testing.F) {
	for _, path := range []string{"../../../deploy/coordinator.yaml", "../../../deploy/vipagent.yaml", "../../../deploy/brokerd.yaml"} {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	for _, seed := range []string{minimal, minimalAgent, "", "a: &a [*a]", "? {a: b}\n: c", "<<: {name: a}", "checks: [[]]", "!!binary x", "\x00", "- - -", "gossip: {keys: [~]}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, _, err := ParseCoordinator("c", strings.NewReader(text))
		if err == nil && (c.Raft.LeaderLease > c.Raft.Heartbeat || len(c.Gossip.Keys) == 0 && c.Gossip.KeyFile == "" || c.TLS != "off") {
			t.Errorf("accepted %+v", c)
		}
		if err != nil {
			_ = err.Error()
		}
		b, _, err := BrokerFile().Parse("b", strings.NewReader(text))
		if err == nil && (b.TTL < minTTL || b.Renew > b.TTL/3 || b.Renew <= 0 || b.Commitlog.Segment < minSegment || b.Topics.Queues < 1) {
			t.Errorf("accepted %+v", b)
		}
		if err != nil {
			_ = err.Error()
		}
		a, _, err := ParseAgent("v", strings.NewReader(text))
		if err == nil && (a.TTL < minTTL || a.TTL > maxTTL || a.Renew > a.TTL/3 || a.Renew <= 0) {
			t.Errorf("accepted %+v", a)
		}
		if err != nil {
			_ = err.Error()
		}
	})
}
