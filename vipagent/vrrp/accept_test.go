package vrrp

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"testing"
	"time"
)

// TestAccept: Keepalived's own packets against configurations that fit and that do
// not, with the counter that each refusal goes to.
func TestAccept(t *testing.T) {
	v2 := Config{Version: 2, VRID: 51, Priority: 100, Interval: time.Second}
	password := Config{Version: 2, VRID: 52, Priority: 100, Interval: 2 * time.Second, Password: []byte("secret\x00\x00")}
	v3 := Config{Version: 3, VRID: 53, Priority: 100, Interval: time.Second}
	unicast := Config{Version: 3, VRID: 55, Priority: 100, Interval: time.Second}
	old := Config{Version: 3, VRID: 56, Priority: 100, Interval: time.Second}
	v6 := Config{Version: 3, VRID: 54, Priority: 100, Interval: time.Second}
	with := func(c Config, change func(c *Config)) Config {
		change(&c)
		return c
	}
	sender := netip.MustParseAddr("10.9.0.1")
	tests := []struct {
		name   string
		packet string // of captured
		c      Config
		policy Policy
		ttl    int
		want   string // counter; "" = accepted
	}{
		{"v2", "v2", v2, Policy{}, 255, ""},
		{"v2 stop", "v2 stop", v2, Policy{}, 255, ""},
		{"forwarded", "v2", v2, Policy{}, 254, "ip_ttl_err"},
		{"TTL not known", "v2", v2, Policy{}, -1, ""},
		{"other version", "v3 IPv4", with(v2, func(c *Config) { c.VRID = 53 }), Policy{}, 255, "vers_err"},
		{"other VRID", "v2", with(v2, func(c *Config) { c.VRID = 50 }), Policy{}, 255, "vrid_err"},
		{"other interval in v2", "v2", with(v2, func(c *Config) { c.Interval = 2 * time.Second }), Policy{}, 255, "advert_interval_err"},
		{"other interval in v3", "v3 IPv4", v3, Policy{}, 255, ""},
		{"password", "v2 password", password, Policy{}, 255, ""},
		{"other password", "v2 password", with(password, func(c *Config) { c.Password = []byte("secret7") }), Policy{}, 255, "auth_failure"},
		{"password here only", "v2", with(v2, func(c *Config) { c.Password = []byte("x") }), Policy{}, 255, "authtype_mismatch"},
		{"password there only", "v2 password", with(password, func(c *Config) { c.Password = nil }), Policy{}, 255, "authtype_mismatch"},
		{"v6", "v3 IPv6", v6, Policy{}, 255, ""},
		{"multicast to a unicast router", "v3 IPv4", v3, Policy{Unicast: true}, 255, "addr_list_err"},
		{"unicast to a multicast router", "v3 unicast", unicast, Policy{}, 255, "addr_list_err"},
		{"unicast", "v3 unicast", unicast, Policy{Unicast: true}, 64, ""},
		{"peer", "v3 unicast", unicast, Policy{Unicast: true, CheckPeers: true, Peers: []Peer{{sender.Next(), 0, 0}, {sender, 0, 0}}}, 64, ""},
		{"no peer", "v3 unicast", unicast, Policy{Unicast: true, CheckPeers: true, Peers: []Peer{{sender.Next(), 0, 0}}}, 64, "unknown_peer"},
		{"no peer, not checked", "v3 unicast", unicast, Policy{Unicast: true, Peers: []Peer{{sender.Next(), 0, 0}}}, 64, ""},
		{"peer's TTL", "v3 unicast", unicast, Policy{Unicast: true, CheckPeers: true, Peers: []Peer{{sender, 60, 64}}}, 64, ""},
		{"peer's TTL too low", "v3 unicast", unicast, Policy{Unicast: true, CheckPeers: true, Peers: []Peer{{sender, 65, 0}}}, 64, "ip_ttl_err"},
		{"peer's TTL too high", "v3 unicast", unicast, Policy{Unicast: true, CheckPeers: true, Peers: []Peer{{sender, 0, 63}}}, 64, "ip_ttl_err"},
		{"old checksum", "v3 old_unicast_checksum", old, Policy{Unicast: true}, 255, ""},
		{"old checksum, never", "v3 old_unicast_checksum", with(old, func(c *Config) { c.Checksum = Pseudo }), Policy{Unicast: true}, 255, "chk_err"},
		{"old checksum here only", "v3 unicast", with(unicast, func(c *Config) { c.Checksum = OldUnicast }), Policy{Unicast: true}, 255, "chk_err"},
		{"old checksum here, multicast", "v3 IPv4", with(v3, func(c *Config) { c.Checksum = OldUnicast }), Policy{}, 255, ""},
		{"peers of a multicast router", "v3 IPv4", v3, Policy{CheckPeers: true}, 255, ""},
		{"peer with a zone", "v3 IPv6 unicast", with(v6, func(c *Config) { c.VRID = 57 }), Policy{Unicast: true, CheckPeers: true, Peers: []Peer{{netip.MustParseAddr("fe80::1%eth0"), 0, 0}}}, 255, ""},
		{"v3_checksum_as_v2 here only", "v3 IPv4", with(v3, func(c *Config) { c.Checksum = Plain }), Policy{}, 255, ""},
	}
	packets := map[string]golden{}
	for _, g := range captured() {
		packets[g.name] = g
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := packets[tt.packet]
			got, err := tt.c.Accept(g.packet(t, tt.ttl), tt.policy)
			var stats Stats
			if err != nil {
				stats.Refuse(err)
			}
			switch {
			case tt.want == "" && (err != nil || got.Advertisement.Priority != g.want.Priority || got.Form != g.form || got.Source.String() != g.source):
				t.Errorf("%+v, %v", got, err)
			case tt.want != "" && (!errors.Is(err, ErrRefused) && !errors.Is(err, ErrMalformed) || ReasonOf(err).String() != tt.want || stats.Counter(tt.want) != 1):
				t.Errorf("%+v, %v is counted as %v; want %s", got, err, ReasonOf(err), tt.want)
			}
		})
	}
}

func (g golden) packet(t *testing.T, ttl int) Packet {
	message, err := hex.DecodeString(g.hex)
	if err != nil {
		t.Fatal(err)
	}
	return Packet{Message: message, Source: netip.MustParseAddr(g.source), Destination: netip.MustParseAddr(g.destination), TTL: ttl}
}

// TestAcceptOrder: a packet with several faults is counted as Keepalived counts it.
func TestAcceptOrder(t *testing.T) {
	c := Config{Version: 2, VRID: 52, Priority: 100, Interval: time.Second, Password: []byte("wrong")}
	g := captured()[2] // another password, another interval
	steps := []struct {
		want   Reason
		change func(p *Packet)
	}{
		{BadLength, func(p *Packet) { p.Message = p.Message[:19] }},
		{BadTTL, func(p *Packet) { p.TTL = 1 }},
		{BadAuthType, func(p *Packet) { p.Message[4] = 9 }},
		{OtherAuth, func(p *Packet) { p.Message[4] = 2 }},
		{BadPassword, func(p *Packet) { p.Message[7]++ }},
	}
	for _, step := range steps {
		p := g.packet(t, 255)
		p.Message[0]++ // a type that does not exist, so a checksum that is wrong
		step.change(&p)
		if _, err := c.Accept(p, Policy{}); ReasonOf(err) != step.want {
			t.Errorf("%v, want %v", err, step.want)
		}
	}
	c.Password = []byte("secret")
	for _, want := range []Reason{BadInterval, BadType, BadChecksum, BadCast, 0} {
		p := g.packet(t, 255)
		unicast := want != 0
		switch want {
		case BadInterval:
			p.Message[0]++
		case BadType:
			c.Interval = 2 * time.Second
			p.Message[0]++
		case BadChecksum:
			p.Message[7]++
		}
		if _, err := c.Accept(p, Policy{Unicast: unicast}); ReasonOf(err) != want {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

// TestReasons: every reason has a word, and the words are those of the counters.
func TestReasons(t *testing.T) {
	for r := Reason(1); r < reasonsBehind; r++ {
		if r.String() == "unknown" {
			t.Errorf("reason %d has no word", r)
		}
	}
	if Reason(0).String() != "unknown" || reasonsBehind.String() != "unknown" || ReasonOf(errors.New("x")) != 0 {
		t.Error("what is no reason has a word")
	}
}

// TestForm: what is sent, by version and family.
func TestForm(t *testing.T) {
	for _, tt := range []struct {
		c    Config
		ip4  bool
		want Checksum
	}{
		{Config{Version: 2}, true, Plain},
		{Config{Version: 2, Checksum: Pseudo}, true, Plain},
		{Config{Version: 3}, true, Pseudo},
		{Config{Version: 3}, false, Pseudo},
		{Config{Version: 3, Checksum: Plain}, true, Plain},
		{Config{Version: 3, Checksum: Plain}, false, Pseudo},
		{Config{Version: 3, Checksum: OldUnicast}, true, OldUnicast},
	} {
		if got := tt.c.Form(tt.ip4); got != tt.want {
			t.Errorf("%+v, IPv4 %t: %v, want %v", tt.c, tt.ip4, got, tt.want)
		}
	}
	// The carry of a carry.
	if fold(0x1ffff) != 1 || fold(0xffff) != 0xffff {
		t.Error("fold")
	}
}

func TestNetwork(t *testing.T) {
	if got := VirtualMAC(51, true); got != [6]byte{0, 0, 0x5e, 0, 1, 51} {
		t.Errorf("IPv4: %x", got)
	}
	if got := VirtualMAC(255, false); got != [6]byte{0, 0, 0x5e, 0, 2, 255} {
		t.Errorf("IPv6: %x", got)
	}
	if MulticastGroup(true) != netip.MustParseAddr("224.0.0.18") || MulticastGroup(false) != netip.MustParseAddr("ff02::12") {
		t.Error("groups")
	}
}
