package compat

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/vipagent/keepalived"
)

// dumpScript starts Keepalived on each file until it has written what it understood.
const dumpScript = setUp + `
for f in "$@"; do
	keepalived --dont-fork --log-console --dump-conf --config-id one --pid "$f.pid" --vrrp_pid "$f.vrrp" --checkers_pid "$f.checkers" --bfd_pid "$f.bfd" \
		--use-file "$f" >"$f.dump" 2>&1 </dev/null &
	pid=$!
	for i in $(seq 500); do
		if grep -q '< Interfaces >' "$f.dump" || ! kill -0 $pid 2>/dev/null; then break; fi
		sleep 0.02
	done
	kill -KILL $pid 2>/dev/null || :
	wait $pid 2>/dev/null || :
done
`

// TestUnderstanding: what Keepalived says that it understood of each sample is what
// Parse understood.
func TestUnderstanding(t *testing.T) {
	var files []string
	for _, f := range copyFiles(t) {
		// What must not be used is not compared, whatever Keepalived would do.
		_, ds := parse(f)
		if !keepalived.Fatal(ds) && !slices.Contains(notDumped(), strings.TrimSuffix(filepath.Base(f), ".conf")) {
			files = append(files, f)
		}
	}
	inNamespace(t, dumpScript, files)
	compared := 0
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".conf")
		t.Run(name, func(t *testing.T) {
			said, err := os.ReadFile(f + ".dump")
			if err != nil {
				t.Fatal(err)
			}
			c, _ := parse(f)
			theirs, ours := understood(string(said)), describe(c)
			if !strings.Contains(string(said), "VRRP Topology") && len(ours) == 0 {
				return
			}
			compared++
			if theirs, ours := strings.Join(theirs, "\n"), strings.Join(ours, "\n"); theirs != ours {
				t.Errorf("keepalived:\n%s\nours:\n%s", theirs, ours)
			}
		})
	}
	t.Logf("compared %d of %d", compared, len(files))
}

// parse reads a sample as Keepalived is told to.
func parse(file string) (*keepalived.Config, []keepalived.Diagnostic) {
	return keepalived.Parse(disk{}, file, keepalived.Options{ConfigID: "one", PWD: filepath.Dir(file)})
}

// understood picks what can be compared out of a dump.
func understood(dump string) (lines []string) {
	wanted := []string{"VRRP Version", "Wantstate", "Gratuitous ARP delay", "Gratuitous ARP repeat", "Gratuitous ARP refresh", "Gratuitous ARP refresh repeat",
		"Gratuitous ARP lower priority delay", "Gratuitous ARP lower priority repeat", "Down timer adverts", "Send advert after receive lower priority advert",
		"Send advert after receive higher priority advert", "Virtual Router ID", "Priority", "Advert interval", "Accept", "Preempt", "Preempt delay", "Promote_secondaries", "Password"}
	list, in := "", false
	for line := range strings.Lines(dump) {
		_, line, ok := strings.Cut(strings.TrimRight(line, "\n"), ": ") // after the time
		if !ok {
			continue
		}
		trimmed := strings.TrimSpace(line)
		depth := len(line) - len(strings.TrimLeft(line, " "))
		key, value, assigned := strings.Cut(trimmed, " = ")
		switch {
		case strings.HasPrefix(trimmed, "------<"):
			in = trimmed == "------< VRRP Topology >------"
			list = ""
		case !in:
		case depth == 1 && key == "VRRP Instance":
			lines = append(lines, "instance "+value)
			list = ""
		case depth >= 5 && list != "":
			lines = append(lines, list+": "+plainItem(list, trimmed))
		case assigned && slices.Contains(wanted, strings.TrimSpace(key)):
			lines = append(lines, strings.TrimSpace(key)+" = "+value)
			list = ""
		default:
			list = listOf(trimmed)
		}
	}
	return lines
}

// listOf names the lists that are compared.
func listOf(heading string) string {
	for prefix, name := range map[string]string{"Virtual IP (": "vip", "Virtual IP Excluded": "excluded", "Unicast Peer": "peer"} {
		if strings.HasPrefix(heading, prefix) {
			return name
		}
	}
	return ""
}

// plainItem drops from an item what Keepalived fills in by asking the host.
func plainItem(list, s string) string {
	if list == "peer" {
		return s
	}
	words := strings.Fields(strings.TrimSuffix(s, "preferred_lft forever"))
	for i := 0; i+1 < len(words); i++ {
		if words[i] == "dev" {
			if _, base, vmac := strings.Cut(words[i+1], "@"); vmac {
				words[i+1] = base
			}
		}
	}
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "deprecated" || w == "use_vmac" }), " ")
}

// describe writes a configuration as understood does.
func describe(c *keepalived.Config) (lines []string) {
	for _, in := range c.Instances {
		add := func(key string, value any) { lines = append(lines, fmt.Sprintf("%s = %v", key, value)) }
		lines = append(lines, "instance "+in.Name)
		add("VRRP Version", in.Version)
		add("Wantstate", choose(in.Active, "MASTER", "BACKUP"))
		g := in.GARP
		add("Gratuitous ARP delay", g.Delay.Seconds())
		add("Gratuitous ARP repeat", g.Repeat)
		add("Gratuitous ARP refresh", g.Refresh.Seconds())
		add("Gratuitous ARP refresh repeat", g.RefreshRepeat)
		add("Gratuitous ARP lower priority delay", g.LowerDelay.Seconds())
		add("Gratuitous ARP lower priority repeat", g.LowerRepeat)
		add("Down timer adverts", in.DownAdverts)
		add("Send advert after receive lower priority advert", !in.LowerNoAdvert)
		add("Send advert after receive higher priority advert", in.HigherAdvert)
		add("Virtual Router ID", in.VRID)
		add("Priority", in.Priority)
		if in.Version == 2 {
			add("Advert interval", fmt.Sprintf("%d sec", in.Interval/time.Second))
		} else {
			add("Advert interval", fmt.Sprintf("%d milli-sec", in.Interval/time.Millisecond))
		}
		add("Accept", choose(in.Accept, "enabled", "disabled"))
		add("Preempt", choose(in.Preempt, "enabled", "disabled"))
		if in.PreemptDelay > 0 {
			add("Preempt delay", fmt.Sprintf("%g secs", in.PreemptDelay.Seconds()))
		}
		add("Promote_secondaries", choose(in.PromoteSecondary, "enabled", "disabled"))
		if in.Password != nil {
			add("Password", string(in.Password))
		}
		for _, a := range in.Addresses {
			lines = append(lines, "vip: "+address(in, a))
		}
		for _, a := range in.Excluded {
			lines = append(lines, "excluded: "+address(in, a))
		}
		for _, p := range in.Peers {
			most := p.MaxTTL
			if most == 0 {
				most = 255
			}
			lines = append(lines, fmt.Sprintf("peer: %s min_ttl %d max_ttl %d", p.Address, p.MinTTL, most))
		}
	}
	return lines
}

func choose(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

// address writes one as Keepalived does.
func address(in keepalived.Instance, a keepalived.Address) string {
	words := []string{prefix(a.Prefix)}
	if a.Broadcast.IsValid() {
		words = append(words, "brd", a.Broadcast.String())
	}
	dev, scope := a.Interface, a.Scope
	if dev == "" {
		dev = in.Interface
	}
	if scope == "" {
		scope = "global"
	}
	words = append(words, "dev", dev, "scope", scope)
	if a.Label != "" {
		words = append(words, "label", a.Label)
	}
	if a.NoTrack {
		words = append(words, "no_track")
	}
	if a.Peer.IsValid() {
		words[0] = a.Prefix.Addr().String()
		words = append(words, "peer", a.Peer.String())
	}
	for i, o := range a.Options {
		if o == "preferred_lft" && a.Prefix.Addr().Is6() && a.Options[i+1] != "forever" {
			words = append(words, o, a.Options[i+1])
		}
		if o == "home" {
			words = append(words, o)
		}
	}
	return strings.Join(words, " ")
}

func prefix(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// inNamespace runs a script in a network namespace of its own.
func inNamespace(t *testing.T, script string, files []string) string {
	t.Helper()
	if _, err := exec.LookPath("keepalived"); err != nil {
		t.Fatal("this test needs Keepalived: test/setup.sh keepalived:keepalived")
	}
	// What a script started ends with its namespace of processes.
	arguments := []string{"--net", "--pid", "--fork", "--kill-child"}
	if os.Getuid() != 0 {
		arguments = append(arguments, "--user", "--map-root-user")
	}
	arguments = append(arguments, "sh", "-c", script, "sh")
	cmd := exec.Command("unshare", append(arguments, files...)...)
	var out, talk strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := cmd.Run(); err != nil {
		t.Fatalf("run keepalived: %v\n%s", err, talk.String())
	}
	return out.String()
}

// notDumped are samples that a running Keepalived is not given, as they would touch the
// host beyond the namespace, and those of which it understands something else on
// purpose: see differences.
func notDumped() []string {
	return []string{"globals-snmp", "fifo", "fifo-twice", "startup-script", "email",
		"track-file", "track-file-init-bad", // would write the file
		"globals-more", "lvs-sync-old", // need what a namespace does not have: LVS, a umask that lets the dump be read
		"bfd", "lvs", // further processes of Keepalived write their dumps between the lines
		"interface-unknown", "vip-dev-unknown", "unicast-no-interface", "define-braces-spaces",
		"vip-mask-word", // Keepalived 2.2 takes a length that is no number for 0, but when it only tests
		"vip-mixed",     // up to 2.3 the address of the other family is dropped, later it is excluded
	}
}
