package vrrp

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

func sharedConfig() Config {
	return Config{Version: 2, VRID: 51, Priority: 100, Interval: time.Second, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.5")}, Preempt: true}
}

// strangerSays is an advertisement of a router outside of the quorum.
func strangerSays(c Config, priority uint8) Received {
	return Received{Advertisement: c.Advertisement(priority), Source: netip.MustParseAddr("10.0.0.9")}
}

// backupShared speaks since a second and is Backup behind a stranger of priority 150.
func backupShared() *Shared {
	s := NewShared(sharedConfig(), 0)
	s.Sources(netip.MustParseAddr("10.0.0.1"), nil, 0)
	s.Hear(strangerSays(sharedConfig(), 150), 9*time.Second)
	s.Speak(false, 10*time.Second)
	return s
}

// A router that is told the same again goes on waiting.
func TestSharedConfigureTheSame(t *testing.T) {
	s := backupShared()
	s.Hear(strangerSays(sharedConfig(), PriorityStop), 11*time.Second)
	due, _ := s.Due()
	if out := s.Configure(sharedConfig(), 11*time.Second+10*time.Millisecond); len(out) != 0 || s.Active() {
		t.Errorf("the same configuration: %v, Active %t", out, s.Active())
	}
	if again, ok := s.Due(); !ok || again != due {
		t.Errorf("the wait for the successor ends at %v, before at %v", again, due)
	}
}

func TestSharedConfigureActive(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"priority":  func(c *Config) { c.Priority = 7 },
		"interval":  func(c *Config) { c.Interval = 3 * time.Second },
		"addresses": func(c *Config) { c.Addresses = append(c.Addresses, netip.MustParseAddr("10.0.0.6")) },
		"password":  func(c *Config) { c.Password = []byte("other") },
		"preempt":   func(c *Config) { c.Preempt = false },
		"VRID":      func(c *Config) { c.VRID = 52 },
		"version":   func(c *Config) { c.Version = 3 },
	} {
		s := NewShared(sharedConfig(), 0)
		s.Speak(false, 10*time.Second)
		c := sharedConfig()
		change(&c)
		out := s.Configure(c, 11*time.Second)
		if !s.Active() || !slices.Contains(out, Action(Send{c.Priority})) {
			t.Errorf("%s: Active %t, %v", name, s.Active(), out)
		}
		if slices.ContainsFunc(out, func(a Action) bool { _, is := a.(Enter); return is }) {
			t.Errorf("%s: it has left Active for a moment: %v", name, out)
		}
		if due, _ := s.Due(); due != 11*time.Second+c.Interval {
			t.Errorf("%s: the next advertisement is due at %v", name, due)
		}
	}
}

// Where it has not listened it does not know who is Active.
func TestSharedConfigureListensAnew(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"VRID":     func(c *Config) { c.VRID = 52 },
		"version":  func(c *Config) { c.Version = 3 },
		"password": func(c *Config) { c.Password = []byte("other") },
		"interval": func(c *Config) { c.Interval = 2 * time.Second },
	} {
		c := sharedConfig()
		change(&c)
		listener := NewShared(sharedConfig(), 0)
		listener.Configure(c, 10*time.Second)
		if listener.Speak(false, 11*time.Second); listener.Active() {
			t.Errorf("%s: Active after a second of listening", name)
		}
		backup := backupShared()
		if backup.Configure(c, 14*time.Second); backup.Active() {
			t.Errorf("%s: the Backup is Active at once", name)
		}
	}
}

// What was heard of another virtual router says nothing about this one.
func TestSharedConfigureForgetsTheOtherRouter(t *testing.T) {
	s := NewShared(sharedConfig(), 0)
	s.Hear(strangerSays(sharedConfig(), 150), 9*time.Second)
	c := sharedConfig()
	c.VRID = 52
	s.Configure(c, 10*time.Second)
	if source, _, ok := s.Stranger(10 * time.Second); ok {
		t.Errorf("%v is Active for VRID 52", source)
	}
}

// A priority that was changed is not taken for a weight later.
func TestSharedConfigureTwice(t *testing.T) {
	s := NewShared(sharedConfig(), 0)
	s.Speak(false, 10*time.Second)
	c := sharedConfig()
	c.Priority = 151
	s.Configure(c, 11*time.Second)
	c.Addresses = append(slices.Clone(c.Addresses), netip.MustParseAddr("10.0.0.6"))
	if out := s.Configure(c, 12*time.Second); !slices.Contains(out, Action(Send{151})) {
		t.Errorf("%v", out)
	}
}
