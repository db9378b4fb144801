package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/test/lab"
	"holdfast/test/lab/scenario"
)

// coordctl works from any host and against any coordinator.
func TestCoordctlFromAnywhere(t *testing.T) {
	s, ctx := stage(t)
	for _, from := range append(s.Cluster.Network.Hosts, s.Cluster.Network.Clients...) {
		for _, to := range s.Cluster.Config().Coordinators {
			server := to.IPv4.Addr().String()
			r, err := s.Cluster.CtlFrom(ctx, from, "--server", server, "status", "-o", "json")
			check(t, err)
			if r.Code != 0 || !strings.Contains(r.Stdout, setName) {
				t.Errorf("from %s to %s: exit code %d: %s", from.Name, to.Name, r.Code, r.Stdout+r.Stderr)
			}
		}
	}
	// A change is carried to the leader by whoever is asked.
	for _, to := range s.Cluster.Config().Coordinators {
		r, err := s.Cluster.CtlFrom(ctx, s.Cluster.Network.Clients[0], "--server", to.IPv4.Addr().String(), "vip", "apply", "-f", writeFile(t, vipFile(s.Cluster)))
		check(t, err)
		if r.Code != 0 {
			t.Errorf("apply by way of %s: exit code %d: %s", to.Name, r.Code, r.Stderr)
		}
	}
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// Bad files of VIP sets are refused whole, with the reason, and change nothing.
func TestBadVIPFiles(t *testing.T) {
	s, ctx := stage(t)
	before, err := s.Cluster.MustCtl(ctx, "vip", "list", "-o", "json")
	check(t, err)
	good := vipFile(s.Cluster)
	other := setEntry(s.Cluster, "other", "10.77.1.2/32")
	for name, tt := range map[string]struct {
		file string
		code int
		want string
	}{
		"no YAML":               {"vips: [", 2, ":1:1: not YAML"},
		"empty":                 {"", 2, "vips:"},
		"unknown key":           {strings.Replace(good, "addresses", "adresses", 1), 2, "adresses"},
		"wrong type":            {strings.Replace(good, "priority: 150", "priority: high", 1), 2, "priority"},
		"no prefix length":      {strings.Replace(good, "/32", "", 1), 2, "prefix length"},
		"no address":            {strings.Replace(good, "10.77.1.1", "10.77.1.256", 1), 2, "10.77.1.256"},
		"multicast":             {strings.Replace(good, "10.77.1.1", "224.0.0.5", 1), 2, "multicast"},
		"address twice":         {strings.Replace(good, "fd77::c:1/128", "10.77.1.1/32", 1), 2, "10.77.1.1"},
		"set twice":             {good + setEntry(s.Cluster, setName, "10.77.1.3/32"), 2, "twice"},
		"host twice":            {strings.Replace(good, "host2", "host1", 1), 2, "host1"},
		"another set's":         {"vips:\n" + setEntry(s.Cluster, "thief", vip4.String()+"/32"), 1, setName},
		"one bad set of two":    {"vips:\n" + other + setEntry(s.Cluster, "thief", vip4.String()+"/32"), 1, setName},
		"not a host's name":     {strings.Replace(good, "host2", "'host 2'", 1), 2, "host 2"},
		"priority out of range": {strings.Replace(good, "priority: 150", "priority: 999", 1), 2, "999"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			r, err := s.Cluster.Ctl(ctx, "vip", "apply", "-f", writeFile(t, tt.file))
			check(t, err)
			if r.Code != tt.code || !strings.Contains(r.Stderr, tt.want) {
				t.Errorf("exit code %d, want %d with %q:\n%s", r.Code, tt.code, tt.want, r.Stderr)
			}
			if r.Stdout != "" {
				t.Errorf("on standard output: %q", r.Stdout)
			}
		})
	}
	after, err := s.Cluster.MustCtl(ctx, "vip", "list", "-o", "name")
	check(t, err)
	if after != setName+"\n" {
		t.Errorf("the sets are %q now, were:\n%s", after, before)
	}
}

// A host that nobody has heard of may be a candidate, but a move or a drain to
// it is refused in words.
func TestUnknownNames(t *testing.T) {
	s, ctx := stage(t)
	for _, args := range [][]string{
		{"move", setName, "--to", "nowhere"}, {"move", "nothing", "--to", "host1"},
		{"vip", "delete", "nothing"}, {"explain", "nothing"}, {"members", "remove", "nobody"},
		{"leader", "transfer", "--to", "nobody"},
	} {
		r, err := s.Cluster.Ctl(ctx, args...)
		check(t, err)
		if r.Code != 1 || !strings.Contains(r.Stderr, "no") {
			t.Errorf("coordctl %v: exit code %d, want 1: %q", args, r.Code, r.Stderr)
		}
	}
}

// A snapshot puts back what was deleted; a cut or altered one is refused and
// changes nothing.
func TestSnapshot(t *testing.T) {
	s, ctx := stage(t)
	saved := filepath.Join(t.TempDir(), "saved")
	_, err := s.Cluster.MustCtl(ctx, "snapshot", "save", saved)
	check(t, err)
	_, err = s.Cluster.MustCtl(ctx, "vip", "delete", setName)
	check(t, err)
	eventually(ctx, t, 3*time.Second, func() error {
		for _, vip := range s.VIPs {
			if holders := s.Recorder.Holders(vip); len(holders) > 0 {
				return fmt.Errorf("%v have %s of a deleted set", holders, vip)
			}
		}
		return nil
	})
	whole, err := os.ReadFile(saved)
	check(t, err)
	altered := bytes.Clone(whole)
	altered[len(altered)-3] ^= 1
	for name, data := range map[string][]byte{
		"nothing": nil, "half": whole[:len(whole)/2], "all but one byte": whole[:len(whole)-1], "altered": altered,
		"longer": append(bytes.Clone(whole), 0),
	} {
		r, err := s.Cluster.Ctl(ctx, "snapshot", "restore", "--yes", writeFile(t, string(data)))
		check(t, err)
		if r.Code == 0 || r.Stderr == "" {
			t.Errorf("%s: exit code %d, says %q", name, r.Code, r.Stdout+r.Stderr)
		}
	}
	names, err := s.Cluster.MustCtl(ctx, "vip", "list", "-o", "name")
	check(t, err)
	if strings.TrimSpace(names) != "" {
		t.Errorf("a refused snapshot brought %q", names)
	}
	_, err = s.Cluster.MustCtl(ctx, "snapshot", "restore", "--yes", saved)
	check(t, err)
	check(t, s.Calm(ctx))
}

// Noise on the daemons' ports crashes nobody and costs no probe.
func TestMalformedDatagrams(t *testing.T) {
	s, ctx := stage(t)
	began := lab.Now()
	for _, h := range s.Cluster.Network.Hosts {
		for _, port := range []int{7950, 7953} {
			check(t, s.Cluster.Network.Clients[0].SendNoise(h.IPv4.Addr(), port, 300))
		}
	}
	s.Pause(ctx, 500*time.Millisecond)
	ended := lab.Now()
	s.Pause(ctx, 50*time.Millisecond)
	for _, vip := range s.VIPs {
		if lost := s.Recorder.Lost("client2", vip, began, ended); lost > 0 {
			t.Errorf("%d probes of %s lost", lost, vip)
		}
	}
	for _, h := range s.Cluster.Network.Hosts {
		if !s.Cluster.Coordinator(h).Running() || !s.Cluster.Agent(h).Running() {
			t.Errorf("a daemon on %s ended", h.Name)
		}
	}
	runOn(ctx, t, s, scenario.Move())
}

// Daemons refuse configurations that cannot work, with file, line and reason,
// before they touch anything.
func TestBadConfigurations(t *testing.T) {
	for name, tt := range map[string]struct{ program, text, want string }{
		"no tls line": {"vipagent", "host: a\nbind: 10.0.0.1\nseeds: [10.0.0.2:7950]\n", "tls"},
		"unknown key": {"vipagent", "host: a\nbind: 10.0.0.1\nseeds: [10.0.0.2:7950]\ntls: off\nttls: 1s\n", "ttls"},
		"short ttl":   {"vipagent", "host: a\nbind: 10.0.0.1\nseeds: [10.0.0.2:7950]\ntls: off\nttl: 10ms\n", "200ms"},
		"slow renew":  {"vipagent", "host: a\nbind: 10.0.0.1\nseeds: [10.0.0.2:7950]\ntls: off\nrenew: 900ms\n", "renew"},
		"wrong type":  {"coordinator", "name: [a]\nbind: 10.0.0.1\ntls: off\n", "name"},
		"raft timing": {"coordinator", "name: a\nbind: 10.0.0.1\nseeds: [10.0.0.2:7950]\ntls: off\nraft: {leader_lease: 2s}\n", "leader_lease"},
		"no YAML":     {"coordinator", "name: 'a\n", ":2:1: not YAML"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			file := writeFile(t, tt.text)
			_, talk, code, err := shared.Cluster.Network.Clients[0].Run(t.Context(), lab.Command{
				Path: program(tt.program), Args: []string{"--config", file, "--check-config"},
			})
			check(t, err)
			if code != 2 || !strings.Contains(string(talk), tt.want) || !strings.Contains(string(talk), file) {
				t.Errorf("exit code %d, want 2 with %q and the file's name:\n%s", code, tt.want, talk)
			}
		})
	}
}
