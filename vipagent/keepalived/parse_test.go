package keepalived

import (
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

// memory is files of a test.
type memory map[string]string

func (m memory) Read(name string) ([]byte, error) {
	s, ok := m[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return []byte(s), nil
}

func (m memory) Glob(pattern string) (names []string, err error) {
	for n := range m {
		if ok, err := path.Match(pattern, n); err != nil {
			return nil, err
		} else if ok {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names, nil
}

// parse reads a text that must be free of errors.
func parse(t *testing.T, s string) (*Config, []Diagnostic) {
	t.Helper()
	c, ds := Parse(memory{"k.conf": s}, "k.conf", Options{})
	if Fatal(ds) {
		t.Fatalf("errors in %q: %v", s, ds)
	}
	return c, ds
}

func TestWholeFile(t *testing.T) {
	c, ds := parse(t, `! a comment
global_defs {
    router_id lb1
    enable_script_security
    script_user nobody
    vrrp_garp_master_repeat 2
}
vrrp_script chk { # another
    script "/usr/bin/killall -0 haproxy"
    interval 2
    weight -20
    fall 3
    rise 2
}
vrrp_sync_group G { group { A B } }
vrrp_instance A {
    state MASTER
    interface eth0
    virtual_router_id 51
    priority 150
    advert_int 1
    authentication {
        auth_type PASS
        auth_pass secret
    }
    virtual_ipaddress {
        192.0.2.10/24 dev eth1 label eth1:1
        192.0.2.11
    }
    track_interface { eth2 }
    notify_master "/etc/up.sh a" root
}
vrrp_instance B {
    interface eth0
    virtual_router_id 52
    virtual_ipaddress { 2001:db8::1/64 }
    unicast_src_ip fe80::1
    unicast_peer { fe80::2
 fe80::3 min_ttl 254 }
}
`)
	for _, d := range ds {
		if d.Severity != Info {
			t.Errorf("unexpected: %v", d)
		}
	}
	if len(c.Instances) != 2 || len(c.Scripts) != 1 || len(c.Groups) != 1 {
		t.Fatalf("got %+v", c)
	}
	a, b := c.Instances[0], c.Instances[1]
	if a.Active || a.VRID != 51 || a.Priority != 150 || string(a.Password) != "secret" || a.Interval != time.Second || a.Version != 2 || a.GARP.Repeat != 2 || a.GARP.LowerRepeat != 2 || a.GARP.Delay != 5*time.Second {
		t.Errorf("A: %+v", a)
	}
	if len(a.Addresses) != 2 || a.Addresses[0].Label != "eth1:1" || a.Addresses[1].Prefix.String() != "192.0.2.11/32" {
		t.Errorf("addresses of A: %+v", a.Addresses)
	}
	if n := a.Notify.Active; n == nil || strings.Join(n.Args, "|") != "/etc/up.sh|a" || n.User != "root" {
		t.Errorf("notify_master: %+v", n)
	}
	if b.Version != 3 || !b.IPv6 || b.Priority != 100 || len(b.Peers) != 2 || b.Peers[1].MinTTL != 254 || !b.CheckUnicast {
		t.Errorf("B: %+v", b)
	}
	if s := c.Scripts[0]; strings.Join(s.Command.Args, "|") != "/usr/bin/killall|-0|haproxy" || s.Fall != 3 || s.Weight != -20 || s.Timeout != 2*time.Second {
		t.Errorf("script: %+v", s)
	}
}
