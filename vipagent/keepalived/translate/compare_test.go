package translate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/vipagent/keepalived"
)

// files are configurations by name.
type files map[string]string

func (f files) Read(path string) ([]byte, error) {
	text, ok := f[path]
	if !ok {
		return nil, errors.New("no such file")
	}
	return []byte(text), nil
}

func (f files) Glob(string) ([]string, error) { return nil, nil }

// parse reads the configurations of lb1, lb2, ...
func parse(t *testing.T, texts ...string) []HostConfig {
	t.Helper()
	var hosts []HostConfig
	for i, text := range texts {
		host := fmt.Sprintf("lb%d", i+1)
		file := host + ".conf"
		c, diagnostics := keepalived.Parse(files{file: text}, file, keepalived.Options{})
		if keepalived.Fatal(diagnostics) {
			t.Fatalf("%s: %v", file, diagnostics)
		}
		hosts = append(hosts, HostConfig{host, file, c, diagnostics})
	}
	return hosts
}

// instance is a vrrp_instance with lines of its own.
func instance(name string, vrid, priority int, lines ...string) string {
	return fmt.Sprintf("vrrp_instance %s {\n interface eth0\n virtual_router_id %d\n priority %d\n %s\n}\n", name, vrid, priority, strings.Join(lines, "\n "))
}

func vip(addresses ...string) string {
	return "virtual_ipaddress {\n  " + strings.Join(addresses, "\n  ") + "\n }"
}

func password(p string) string {
	return "authentication {\n  auth_type PASS\n  auth_pass " + p + "\n }"
}

func peers(list ...string) string { return "unicast_peer {\n  " + strings.Join(list, "\n  ") + "\n }" }

func group(name string, members ...string) string {
	return "vrrp_sync_group " + name + " {\n group {\n  " + strings.Join(members, "\n  ") + "\n }\n}\n"
}

// tell is a difference in one line.
func tell(d Difference) string {
	var sides []string
	for _, s := range d.Sides {
		sides = append(sides, fmt.Sprintf("%s=%s@%s", s.Host, s.Value, s.Place()))
	}
	return fmt.Sprintf("%s %s: %s", d.Severity, d.Keyword, strings.Join(sides, "; "))
}

func TestCompare(t *testing.T) {
	web := vip("10.0.0.50/24")
	tests := []struct {
		name  string
		files []string
		want  []string
	}{
		{"a clean pair", []string{instance("VI", 51, 150, web), instance("VI", 51, 100, web)}, nil},
		{"the name does not matter", []string{instance("VI_MASTER", 51, 150, web), instance("VI_BACKUP", 51, 100, web)}, nil},
		{"VRID", []string{instance("VI", 51, 150, web), instance("VI", 52, 100, web)},
			[]string{"error virtual_router_id: lb1=51@lb1.conf:3; lb2=52@lb2.conf:3"}},
		{"VRID and name, known by the address", []string{instance("A", 51, 150, web), instance("B", 52, 100, web)},
			[]string{"error virtual_router_id: lb1=51@lb1.conf:3; lb2=52@lb2.conf:3"}},
		{"two routers with one VRID on one LAN", []string{instance("A", 51, 150, web), instance("B", 51, 100, vip("10.0.0.60/24"))},
			[]string{
				"error virtual_router_id: lb1=A has 51@lb1.conf:3; lb2=B has 51@lb2.conf:3",
				"warning vrrp_instance: lb1=A@lb1.conf:1; lb2=not there@lb2.conf",
				"warning vrrp_instance: lb1=not there@lb1.conf; lb2=B@lb2.conf:1",
			}},
		{"one VRID on two LANs", []string{
			instance("A", 51, 150, web) + strings.Replace(instance("B", 51, 150, vip("10.1.0.50/24")), "eth0", "eth1", 1),
			instance("A", 51, 100, web) + strings.Replace(instance("B", 51, 100, vip("10.1.0.50/24")), "eth0", "eth1", 1)}, nil},
		{"version", []string{instance("VI", 51, 150, web, "version 3"), instance("VI", 51, 100, web)},
			[]string{"error version: lb1=3@lb1.conf:8; lb2=2@lb2.conf:1"}},
		{"advert_int of version 2", []string{instance("VI", 51, 150, web, "advert_int 2"), instance("VI", 51, 100, web)},
			[]string{"error advert_int: lb1=2s@lb1.conf:8; lb2=1s@lb2.conf:1"}},
		{"advert_int of version 3", []string{instance("VI", 51, 150, web, "version 3", "advert_int 0.1"), instance("VI", 51, 100, web, "version 3")},
			[]string{"warning advert_int: lb1=100ms@lb1.conf:9; lb2=1s@lb2.conf:1"}},
		{"password", []string{instance("VI", 51, 150, web, password("secret")), instance("VI", 51, 100, web, password("other")), instance("VI", 51, 90, web)},
			[]string{"error auth_pass: lb1=password A, 6 characters@lb1.conf:10; lb2=password B, 5 characters@lb2.conf:10; lb3=none@lb3.conf:1"}},
		{"password cut", []string{instance("VI", 51, 150, web, password("secret12345")), instance("VI", 51, 100, web, password("secret12"))},
			[]string{"warning auth_pass: lb1=longer than 8 characters@lb1.conf:10"}},
		{"nopreempt with MASTER", []string{instance("VI", 51, 150, web, "state MASTER", "nopreempt"), instance("VI", 51, 100, web, "state BACKUP", "nopreempt")},
			[]string{"warning nopreempt: lb1=nopreempt with state MASTER@lb1.conf:9"}},
		{"nopreempt on one", []string{instance("VI", 51, 150, web), instance("VI", 51, 100, web, "nopreempt")},
			[]string{"warning nopreempt: lb1=off@lb1.conf:1; lb2=on@lb2.conf:8"}},
		{"equal priorities", []string{instance("VI", 51, 100, web), instance("VI", 51, 100, web)},
			[]string{"warning priority: lb1=100@lb1.conf:4; lb2=100@lb2.conf:4"}},
		{"two of MASTER", []string{instance("VI", 51, 150, web, "state MASTER"), instance("VI", 51, 100, web, "state MASTER")},
			[]string{"info state: lb1=MASTER@lb1.conf:8; lb2=MASTER@lb2.conf:8"}},
		{"priorities at the ends", []string{instance("VI", 51, 255, web), instance("VI", 51, 1, web)},
			[]string{"warning priority: lb1=255@lb1.conf:4", "warning priority: lb2=1@lb2.conf:4"}},
		{"address lists", []string{instance("VI", 51, 150, vip("10.0.0.50/24", "10.0.0.51/24")), instance("VI", 51, 100, vip("10.0.0.52/24", "10.0.0.50/24"))},
			[]string{"error virtual_ipaddress: lb1=10.0.0.50, 10.0.0.51@lb1.conf:5; lb2=10.0.0.50, 10.0.0.52@lb2.conf:5"}},
		{"order of addresses", []string{instance("VI", 51, 150, vip("10.0.0.50/24", "10.0.0.51/24")), instance("VI", 51, 100, vip("10.0.0.51/24", "10.0.0.50/24"))}, nil},
		{"prefix length", []string{instance("VI", 51, 150, web), instance("VI", 51, 100, vip("10.0.0.50"))},
			[]string{"warning virtual_ipaddress: lb1=10.0.0.50/24@lb1.conf:6; lb2=10.0.0.50/32@lb2.conf:6"}},
		{"interface", []string{instance("VI", 51, 150, web), strings.Replace(instance("VI", 51, 100, web), "eth0", "ens3", 1)},
			[]string{"info interface: lb1=eth0@lb1.conf:2; lb2=ens3@lb2.conf:2"}},
		{"excluded, of the same family", []string{instance("VI", 51, 150, web, "virtual_ipaddress_excluded {\n 10.0.0.60/24\n }"), instance("VI", 51, 100, web)},
			[]string{
				"error virtual_ipaddress_excluded: lb1=10.0.0.60@lb1.conf:1",
				"warning virtual_ipaddress_excluded: lb1=10.0.0.60@lb1.conf:1; lb2=none@lb2.conf:1",
			}},
		{"excluded, of the other family", []string{instance("VI", 51, 150, web, "virtual_ipaddress_excluded {\n 2001:db8::60/64\n }"), instance("VI", 51, 100, web, "virtual_ipaddress_excluded {\n 2001:db8::60/64\n }")}, nil},
		{"an address twice", []string{instance("A", 51, 150, web) + instance("B", 52, 150, vip("10.0.0.60/24")), instance("A", 51, 100, web) + instance("B", 52, 100, vip("10.0.0.50/24", "10.0.0.60/24"))},
			[]string{
				"error virtual_ipaddress: lb1=10.0.0.60@lb1.conf:13; lb2=10.0.0.50, 10.0.0.60@lb2.conf:13",
				"error virtual_ipaddress: lb1=10.0.0.50 of A@lb1.conf:6; lb2=10.0.0.50 of B@lb2.conf:14",
			}},
		{"an address twice on one host, with one VRID on two LANs", []string{instance("A", 51, 150, web) + strings.Replace(instance("B", 51, 150, web), "eth0", "eth1", 1)},
			[]string{"error virtual_ipaddress: lb1=10.0.0.50 of A@lb1.conf:6; lb1=10.0.0.50 of B@lb1.conf:14", "warning vrrp_instance: lb1=A@lb1.conf:1", "warning vrrp_instance: lb1=B@lb1.conf:9"}},
		{"nopreempt of an owner", []string{instance("VI", 51, 255, web, "state BACKUP", "nopreempt"), instance("VI", 51, 100, web)},
			[]string{"warning priority: lb1=255@lb1.conf:4"}},
		{"one host alone", []string{instance("VI", 51, 150, web)}, []string{"warning vrrp_instance: lb1=VI@lb1.conf:1"}},
		{"one of three lacks it", []string{instance("VI", 51, 150, web), instance("VI", 51, 100, web), instance("DB", 52, 100, vip("10.0.0.60/24"))},
			[]string{
				"warning vrrp_instance: lb1=not there@lb1.conf; lb2=not there@lb2.conf; lb3=DB@lb3.conf:1",
				"info vrrp_instance: lb1=VI@lb1.conf:1; lb2=VI@lb2.conf:1; lb3=not there@lb3.conf",
			}},
		{"no addresses", []string{instance("VI", 51, 150, "no_virtual_ipaddress"), instance("VI", 51, 100, "no_virtual_ipaddress")},
			[]string{"error virtual_ipaddress: lb1=none@lb1.conf:1; lb2=none@lb2.conf:1"}},
		{"another group", []string{instance("VI", 51, 150, web, "mcast_dst_ip 224.0.0.99"), instance("VI", 51, 100, web)},
			[]string{
				"error mcast_dst_ip: lb1=224.0.0.99@lb1.conf:8; lb2=by default@lb2.conf:1",
				"error mcast_dst_ip: lb1=224.0.0.99@lb1.conf:8",
			}},
		{"another group for all", []string{"global_defs {\n vrrp_mcast_group4 224.0.0.99\n}\n" + instance("VI", 51, 150, web), "global_defs {\n vrrp_mcast_group4 224.0.0.99\n}\n" + instance("VI", 51, 100, web)},
			[]string{"error mcast_dst_ip: lb1=224.0.0.99@lb1.conf:4; lb2=224.0.0.99@lb2.conf:4"}},
		{"IPv6 in version 2", []string{instance("VI", 51, 150, "version 2", vip("fe80::50/64")), instance("VI", 51, 100, "version 2", vip("fe80::50/64"))},
			[]string{"error version: lb1=2 over IPv6@lb1.conf:5; lb2=2 over IPv6@lb2.conf:5"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { checkDifferences(t, Compare(parse(t, tt.files...)), tt.want) })
	}
}

func checkDifferences(t *testing.T, found []Difference, want []string) {
	t.Helper()
	var got []string
	severe := false
	for _, d := range found {
		got = append(got, tell(d))
		severe = severe || d.Severity == keepalived.Error
		if d.Meaning == "" || d.Remedy == "" || d.Router == "" {
			t.Errorf("%s lacks words: %+v", tell(d), d)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("found\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	if Severe(found) != severe {
		t.Errorf("Severe is %t", !severe)
	}
}

func TestCompareUnicast(t *testing.T) {
	one := func(priority int, lines ...string) string {
		return instance("VI", 51, priority, append([]string{vip("10.0.0.50/24")}, lines...)...)
	}
	source := func(a string) string { return "unicast_src_ip " + a }
	tests := []struct {
		name  string
		files []string
		want  []string
	}{
		{"a pair", []string{one(150, peers("10.0.0.2")), one(100, peers("10.0.0.1"))}, nil},
		{"a pair with a router beside", []string{one(150, peers("10.0.0.2", "10.0.0.9")), one(100, peers("10.0.0.1", "10.0.0.9"))}, nil},
		{"three", []string{one(150, peers("10.0.0.2", "10.0.0.3")), one(100, peers("10.0.0.1", "10.0.0.3")), one(90, peers("10.0.0.1", "10.0.0.2"))}, nil},
		{"one misses another", []string{one(150, source("10.0.0.1"), peers("10.0.0.2")), one(100, source("10.0.0.2"), peers("10.0.0.1", "10.0.0.3")), one(90, source("10.0.0.3"), peers("10.0.0.1", "10.0.0.2"))},
			[]string{"error unicast_peer: lb1=does not name 10.0.0.3 of lb3@lb1.conf:9"}},
		{"a list that was copied", []string{one(150, peers("10.0.0.2")), one(100, peers("10.0.0.2"))},
			[]string{"warning unicast_peer: lb1=peers 10.0.0.2@lb1.conf:8; lb2=peers 10.0.0.2@lb2.conf:8"}},
		{"each names itself too", []string{one(150, source("10.0.0.1"), peers("10.0.0.1", "10.0.0.2")), one(100, source("10.0.0.2"), peers("10.0.0.1", "10.0.0.2"))},
			[]string{"info unicast_peer: lb1=names itself, 10.0.0.1@lb1.conf:9; lb2=names itself, 10.0.0.2@lb2.conf:9"}},
		{"an address that is known to be another's", []string{one(150, peers("10.0.0.9")), one(100, source("10.0.0.2"), peers("10.0.0.1", "10.0.0.2"))},
			[]string{"error unicast_peer: lb1=does not name 10.0.0.2 of lb2@lb1.conf:8", "info unicast_peer: lb2=names itself, 10.0.0.2@lb2.conf:9"}},
		{"unicast and multicast", []string{one(150, peers("10.0.0.2")), one(100)},
			[]string{"error unicast_peer: lb1=unicast@lb1.conf:8; lb2=multicast@lb2.conf:1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { checkDifferences(t, Compare(parse(t, tt.files...)), tt.want) })
	}
}

func TestCompareGroups(t *testing.T) {
	pair := func(a, b int) string {
		return instance("A", 51, a, vip("10.0.0.50/24")) + instance("B", 52, b, vip("10.0.0.60/24"))
	}
	tests := []struct {
		name  string
		files []string
		want  []string
	}{
		{"the same", []string{group("G", "A", "B") + pair(150, 150), group("H", "B", "A") + pair(100, 100)}, nil},
		{"on one host alone", []string{group("G", "A", "B") + pair(150, 150), pair(100, 100)},
			[]string{"warning vrrp_sync_group: lb1=G: A, B@lb1.conf:1; lb2=no vrrp_sync_group@lb2.conf"}},
		{"without one of three", []string{group("G", "A", "B", "C") + pair(150, 150) + instance("C", 53, 150, vip("10.0.0.70/24")), group("G", "A", "B") + pair(100, 100) + instance("C", 53, 100, vip("10.0.0.70/24"))},
			[]string{"warning vrrp_sync_group: lb1=G: A, B, C@lb1.conf:1; lb2=G: A, B@lb2.conf:1"}},
		{"two hosts preferred", []string{group("G", "A", "B") + pair(150, 100), group("G", "A", "B") + pair(100, 150)},
			[]string{"warning priority: lb1=A has its highest priority, 150, here@lb1.conf:10; lb2=B has its highest priority, 150, here@lb2.conf:18"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { checkDifferences(t, Compare(parse(t, tt.files...)), tt.want) })
	}
}
