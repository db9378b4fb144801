package linux

import (
	"bytes"
	"context"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestVRRPSocket(t *testing.T) {
	for _, c := range []struct {
		name            string
		ipv6            bool
		group           string
		source, unicast string
	}{
		{"IPv4", false, "224.0.0.18", "10.9.0.1", "10.9.0.2"},
		{"IPv6", true, "ff02::12", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, peer := pair(t)
			h.own("eth0", "10.9.0.1/24")
			peer.own("eth0", "10.9.0.2/24")
			group := netip.MustParseAddr(c.group)
			config := VRRPConfig{Interface: "eth0", IPv6: c.ipv6, Group: group}
			ours, source := vrrpSocket(t, h, config)
			theirs, other := vrrpSocket(t, peer, config)
			message := []byte{0x31, 51, 100, 0, 0, 100, 1, 2}
			for _, destination := range []netip.Addr{group, other} {
				if err := ours.Send(message, source, destination, 255); err != nil {
					t.Fatal(err)
				}
				p := receiveVRRP(t, theirs)
				if p.Source != source || p.Destination != destination || p.TTL != 255 || !bytes.Equal(p.Message, message) {
					t.Errorf("sent from %v to %v, received %+v", source, destination, p)
				}
			}
			if err := ours.Send(message, source, group, 254); err != nil {
				t.Fatal(err)
			}
			if p := receiveVRRP(t, theirs); p.TTL != 254 {
				t.Errorf("TTL %d", p.TTL)
			}
			// Nothing of its own comes back.
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if p, err := ours.Receive(ctx); err == nil {
				t.Errorf("it hears itself: %+v", p)
			}
			if err := ours.Send(message, netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("ff02::12"), 255); err == nil {
				t.Error("two families in one packet")
			}
		})
	}
}

// BenchmarkVRRPSocket sends an advertisement to another host and receives it there.
func BenchmarkVRRPSocket(b *testing.B) {
	for _, c := range []struct {
		name  string
		ipv6  bool
		group string
	}{{"IPv4", false, "224.0.0.18"}, {"IPv6", true, "ff02::12"}} {
		b.Run(c.name, func(b *testing.B) {
			h, peer := pair(b)
			h.own("eth0", "10.9.0.1/24")
			peer.own("eth0", "10.9.0.2/24")
			group := netip.MustParseAddr(c.group)
			config := VRRPConfig{Interface: "eth0", IPv6: c.ipv6, Group: group}
			ours, source := vrrpSocket(b, h, config)
			theirs, _ := vrrpSocket(b, peer, config)
			message := []byte{0x31, 51, 100, 1, 0, 100, 0, 0, 10, 9, 0, 100}
			b.ReportAllocs()
			for b.Loop() {
				if err := ours.Send(message, source, group, 255); err != nil {
					b.Fatal(err)
				}
				receiveVRRP(b, theirs)
			}
		})
	}
}

// vrrpSocket opens a socket on a host, and finds the host's source address.
func vrrpSocket(t testing.TB, h *host, c VRRPConfig) (s *VRRPSocket, source netip.Addr) {
	t.Helper()
	k := h.kernel()
	var err error
	deadline := time.Now().Add(5 * time.Second)
	for {
		h.do(func() { source, err = k.PrimaryAddress(c.Interface, c.IPv6) })
		if err == nil || time.Now().After(deadline) {
			break
		}
		wait(t, 20*time.Millisecond)
	}
	if err == nil {
		h.do(func() { s, err = k.ListenVRRP(c) })
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, source
}

func wait(t testing.TB, d time.Duration) {
	select {
	case <-t.Context().Done():
	case <-time.After(d):
	}
}

func receiveVRRP(t testing.TB, s *VRRPSocket) VRRPPacket {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	p, err := s.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSourceAddresses(t *testing.T) {
	h, _ := pair(t)
	h.own("eth0", "10.9.0.1/24")
	h.own("eth0", "2001:db8::9/64")
	k := h.kernel()
	_, linkLocal := vrrpSocket(t, h, VRRPConfig{Interface: "eth0", IPv6: true, Group: netip.MustParseAddr("ff02::12")})
	if !linkLocal.IsLinkLocalUnicast() {
		t.Errorf("multicast over IPv6 from %v", linkLocal)
	}
	for ipv6, want := range map[bool]string{false: "10.1.0.1", true: "2001:db8::9"} {
		var got netip.Addr
		var err error
		h.do(func() { got, err = k.UnicastAddress("eth0", ipv6) })
		if err != nil || got.String() != want {
			t.Errorf("unicast over IPv6 %v from %v (%v), want %s", ipv6, got, err, want)
		}
	}
	h.do(func() {
		if _, err := k.UnicastAddress("lo", true); err == nil {
			t.Error("lo has a source")
		}
	})
}

func TestVRRPSocketOfALostInterface(t *testing.T) {
	h, _ := pair(t)
	h.own("eth0", "10.9.0.1/24")
	s, _ := vrrpSocket(t, h, VRRPConfig{Interface: "eth0", Group: netip.MustParseAddr("224.0.0.18")})
	stale := func() (is bool) {
		h.do(func() { is = s.Stale() })
		return is
	}
	if stale() {
		t.Error("stale from the start")
	}
	h.must(h.handle.LinkDel(h.get("eth0")))
	if !stale() {
		t.Error("not stale without its interface")
	}
}

// The header's lengths are those of others.
func TestParseVRRP4(t *testing.T) {
	good := append([]byte{0x45, 0xc0, 0, 28, 0, 0, 0, 0, 255, 112, 0, 0, 10, 0, 0, 1, 224, 0, 0, 18}, 0x21, 1, 2, 3, 4, 5, 6, 7)
	if p, ok := parseVRRP4(good); !ok || len(p.Message) != 8 || p.TTL != 255 {
		t.Errorf("%+v, %v", p, ok)
	}
	options := append([]byte{0x46, 0xc0, 0, 32, 0, 0, 0, 0, 255, 112, 0, 0, 10, 0, 0, 1, 224, 0, 0, 18, 1, 1, 1, 1}, good[20:]...)
	if p, ok := parseVRRP4(options); !ok || !bytes.Equal(p.Message, good[20:]) {
		t.Errorf("with options: %+v, %v", p, ok)
	}
	for name, change := range map[string]func(b []byte) []byte{
		"cut header":      func(b []byte) []byte { return b[:19] },
		"short header":    func(b []byte) []byte { b[0] = 0x44; return b },
		"long header":     func(b []byte) []byte { b[0] = 0x4f; return b },
		"long total":      func(b []byte) []byte { b[3] = 200; return b },
		"short total":     func(b []byte) []byte { b[3] = 10; return b },
		"another version": func(b []byte) []byte { b[0] = 0x65; return b },
		"another payload": func(b []byte) []byte { b[9] = 17; return b },
	} {
		if p, ok := parseVRRP4(change(bytes.Clone(good))); ok {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func FuzzParseVRRP6(f *testing.F) {
	f.Add([]byte{1, 2, 3}, hopLimit(255))
	f.Add([]byte{}, append(pktinfo6(3, netip.MustParseAddr("fe80::1")), hopLimit(1)...))
	f.Fuzz(func(_ *testing.T, b, oob []byte) { parseVRRP6(b, oob, &unix.SockaddrInet6{}) })
}
