package linux

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const stranger = "02:00:00:00:00:99"

// TestAnnounceMovesNeighbour: a neighbour that believes the VIP to be elsewhere
// learns where it is.
func TestAnnounceMovesNeighbour(t *testing.T) {
	h, peer := pair(t)
	k := h.kernel()
	set := vips("10.1.0.100/16 eth0", "2001:db8:1::100/64 eth0")
	for _, a := range set {
		peer.believe("eth0", a.IP().String(), stranger)
	}
	if err := k.Add(set, time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, a := range set {
		if got := peer.neighbour("eth0", a.IP().String()); got != stranger {
			t.Fatalf("%v moved before it was announced: %s", a, got)
		}
	}
	start := time.Now()
	if err := k.Announce(set); err != nil {
		t.Fatal(err)
	}
	for _, a := range set {
		waitFor(t, "the new neighbour entry of "+a.String(), func() bool {
			return peer.neighbour("eth0", a.IP().String()) == h.mac("eth0")
		})
	}
	t.Logf("both neighbour entries had moved after %v", time.Since(start))
}

// sniff returns the frames of the protocol that arrive at the host while f runs,
// up to the one for which last is true.
func sniff(t *testing.T, h *host, protocol uint16, f func(), last func([]byte) bool) [][]byte {
	t.Helper()
	var l *listener
	var err error
	h.do(func() { l, err = listen(protocol, 0, []bpf.Instruction{bpf.RetConstant{Val: frameSize}}) })
	h.must(err)
	defer l.conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	defer interruptedBy(ctx, l.conn)()
	f()
	var out [][]byte
	for {
		b, _, err := l.receive()
		if err != nil {
			t.Fatalf("after %d frames: %v", len(out), err)
		}
		out = append(out, append([]byte(nil), b...))
		if last(b) {
			return out
		}
	}
}

func TestAnnounceFrames(t *testing.T) {
	h, peer := pair(t)
	k := h.kernel()
	mac, _ := net.ParseMAC(h.mac("eth0"))
	set := vips("192.0.2.5/24 eth0", "192.0.2.6/24 eth0", "192.0.2.7/24 lo")
	var kinds []arpPacket
	sniff(t, peer, etherARP, func() { h.must(k.Announce(set)) }, func(b []byte) bool {
		p, err := parseARP(b)
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, p)
		return p.Operation == arpReply && p.SenderIP == set[1].IP()
	})
	if len(kinds) != 4 {
		t.Fatalf("%d frames", len(kinds))
	}
	for i, p := range kinds {
		want := []arpOperation{arpRequest, arpRequest, arpReply, arpReply}[i]
		if p.Operation != want || p.SenderIP != set[i%2].IP() || p.TargetIP != p.SenderIP || !sameMAC(p.SenderMAC, mac) || !sameMAC(p.Source, mac) {
			t.Errorf("frame %d: %+v", i, p)
		}
	}
	for _, forwarding := range []string{"0", "1"} {
		h.sysctl("ipv6/conf/eth0/forwarding", forwarding)
		sniff(t, peer, etherIPv6, func() {
			h.do(func() { // it reads the sysctl of its thread's namespace
				if err := k.Announce(vips("2001:db8::5/64 eth0")); err != nil {
					t.Error(err)
				}
			})
		}, func(b []byte) bool {
			p, err := parseNeighbour(b)
			if err != nil || p.Type != advertisement || p.Target != ip6 {
				return false
			}
			if got := p.Flags&flagRouter != 0; got != (forwarding == "1") || p.Flags&flagOverride == 0 || !sameMAC(p.MAC, mac) {
				t.Errorf("forwarding %s: %+v", forwarding, p)
			}
			return true
		})
	}
}

func TestAnnounceFailuresAreNamed(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	if !k.port("lo").silent || k.port("eth0").silent {
		t.Error("which interfaces have neighbours is wrong")
	}
	other := newHost(t)
	wire(h, other, "eth1")
	h.must(h.handle.LinkSetARPOff(h.get("eth1")))
	if !k.port("eth1").silent {
		t.Error("an interface without ARP is taken to have neighbours")
	}
	h.must(h.handle.LinkSetARPOn(h.get("eth1")))
	h.link("eth1", false)
	set := vips("192.0.2.5/24 eth9", "192.0.2.6/24 eth0", "2001:db8::5/64 eth1", "192.0.2.8/24 lo")
	err := k.Announce(set)
	batch, ok := errors.AsType[*BatchError](err)
	if !ok || len(batch.Failed) != 2 || batch.Failed[0].Address != set[0] || batch.Failed[1].Address != set[2] {
		t.Fatalf("got %v", err)
	}
	if !errors.Is(batch.Failed[0].Err, ErrNoInterface) || !errors.Is(batch.Failed[1].Err, unix.ENETDOWN) {
		t.Errorf("got %v; %v", batch.Failed[0].Err, batch.Failed[1].Err)
	}
}

// claimWatcher runs WatchClaims on the host and returns its reports.
func claimWatcher(t *testing.T, h *host, k *Kernel, ours ...string) <-chan Claim {
	t.Helper()
	set := map[netip.Addr]bool{}
	for _, s := range ours {
		set[netip.MustParseAddr(s)] = true
	}
	ctx, cancel := context.WithCancel(t.Context())
	claims := make(chan Claim, 1000)
	wait := h.spawn(func() {
		if err := k.WatchClaims(ctx, func(a netip.Addr) bool { return set[a] }, func(c Claim) { claims <- c }); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wait() })
	return claims
}

// expectClaim sends until the claim is reported: the watch may not stand yet.
func expectClaim(t *testing.T, claims <-chan Claim, send func(), want Claim) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(5 * time.Second)
	for {
		send()
		select {
		case got := <-claims:
			if got.Kind == want.Kind && got.Address == want.Address && got.Interface == want.Interface && sameMAC(got.MAC, want.MAC) {
				return
			}
			t.Errorf("got %+v, want %+v", got, want)
		case <-tick.C:
		case <-limit:
			t.Fatalf("no report of %+v", want)
		}
	}
}

// transmit sends a frame from the host.
func (h *host) transmit(k *Kernel, iface string, b []byte) {
	h.t.Helper()
	h.must(k.send(frame{port: &port{index: h.get(iface).Attrs().Index}, bytes: b}))
}

func TestWatchClaims(t *testing.T) {
	h, peer := pair(t)
	k, pk := h.kernel(), peer.kernel()
	claims := claimWatcher(t, h, k, "10.1.0.100", "10.1.0.101", "2001:db8:1::100", "2001:db8:1::101")
	mac, _ := net.ParseMAC(peer.mac("eth0"))
	v4, v6 := netip.MustParseAddr("10.1.0.100"), netip.MustParseAddr("2001:db8:1::100")
	own, _ := net.ParseMAC(h.mac("eth0"))

	// Neither other addresses nor packets that bear our own MAC (a switch may
	// bring them back) nor answers to nobody are claims.
	quiet := func() {
		h.must(pk.Announce(vips("10.1.0.200/16 eth0", "2001:db8:1::200/64 eth0")))
		peer.transmit(pk, "eth0", gratuitousRequest(own, v4).appendTo(nil))
		peer.transmit(pk, "eth0", unsolicited(own, v6, false).appendTo(nil))
	}
	announce := func(s string) func() {
		return func() { quiet(); h.must(pk.Announce(vips(s))) }
	}
	probe := arpPacket{
		Destination: broadcastMAC, Source: mac, Operation: arpRequest,
		SenderMAC: mac, SenderIP: netip.IPv4Unspecified(), TargetMAC: unknownMAC, TargetIP: netip.MustParseAddr("10.1.0.101"),
	}
	expectClaim(t, claims, announce("10.1.0.100/16 eth0"), Claim{ClaimARP, v4, mac, "eth0"})
	expectClaim(t, claims, announce("2001:db8:1::100/64 eth0"), Claim{ClaimNA, v6, mac, "eth0"})
	expectClaim(t, claims, func() { peer.transmit(pk, "eth0", probe.appendTo(nil)) },
		Claim{ProbeARP, netip.MustParseAddr("10.1.0.101"), mac, "eth0"})
	// The peer's kernel itself looks for duplicates.
	peer.sysctl("ipv6/conf/eth0/accept_dad", "1")
	addr := parseAddr(t, "2001:db8:1::101/64")
	addr.Flags = 0
	peer.must(peer.handle.AddrAdd(peer.get("eth0"), addr))
	expectClaim(t, claims, func() {}, Claim{ProbeDAD, netip.MustParseAddr("2001:db8:1::101"), mac, "eth0"})

	// A storm gives one report a second. The probe comes after it on the same
	// socket, so that all of the storm has been seen when it is reported.
	for len(claims) > 0 {
		<-claims
	}
	storm := gratuitousRequest(mac, v4).appendTo(nil)
	for range 2000 {
		peer.transmit(pk, "eth0", storm)
	}
	probe.TargetIP = v4
	reports := 0
	expectClaimAfter(t, claims, func() { peer.transmit(pk, "eth0", probe.appendTo(nil)) }, ProbeARP, &reports)
	if reports > 2 {
		t.Errorf("%d reports of one claim", reports)
	}
}

// expectClaimAfter counts the other reports before one of that kind.
func expectClaimAfter(t *testing.T, claims <-chan Claim, send func(), kind ClaimKind, others *int) {
	t.Helper()
	send()
	for {
		select {
		case c := <-claims:
			if c.Kind == kind {
				return
			}
			*others++
		case <-time.After(5 * time.Second):
			t.Fatalf("no report of a %v", kind)
		}
	}
}

func TestClaimLimit(t *testing.T) {
	var got []Claim
	now := time.Unix(1000, 0)
	w := &claimWatch{
		report: func(c Claim) { got = append(got, c) }, last: map[claimKey]time.Time{},
		interfaces: []Interface{{Name: "eth0", Index: 2, MAC: macA}}, read: now.Add(time.Hour),
	}
	claim := Claim{Kind: ClaimARP, Address: ip4, MAC: macB}
	own := Claim{Kind: ClaimARP, Address: ip4, MAC: macA}
	for _, at := range []time.Duration{0, 1, 500 * time.Millisecond, time.Second - 1, time.Second, 2500 * time.Millisecond} {
		w.consider(own, 2, now.Add(at)) // must not use up the allowance
		w.consider(claim, 2, now.Add(at))
		if at == 1 {
			w.consider(Claim{Kind: ProbeARP, Address: ip4, MAC: macB}, 2, now.Add(at))
			w.consider(Claim{Kind: ClaimARP, Address: ip6, MAC: macB}, 3, now.Add(at))
		}
	}
	if len(got) != 5 || got[0].Interface != "eth0" || got[2].Interface != "" {
		t.Errorf("%d reports: %+v", len(got), got)
	}
	if len(w.last) != 1 {
		t.Errorf("%d entries remembered", len(w.last))
	}
}

func TestReachable(t *testing.T) {
	h, peer := pair(t)
	ask := func(addr string, limit time.Duration) (err error) {
		h.do(func() {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			err = Reachable(ctx, "eth0", netip.MustParseAddr(addr))
		})
		return err
	}
	for _, addr := range []string{"10.1.255.2", "2001:db8:1::ffff:2"} {
		start := time.Now()
		if err := ask(addr, 5*time.Second); err != nil {
			t.Error(err)
		}
		t.Logf("%s answered in %v", addr, time.Since(start))
		if got := h.neighbour("eth0", addr); got != "" {
			t.Errorf("%s: the kernel has an entry: %s", addr, got)
		}
	}
	for _, addr := range []string{"10.1.255.3", "2001:db8:1::ffff:3"} {
		start := time.Now()
		if err := ask(addr, 30*time.Millisecond); !errors.Is(err, ErrUnreachable) || time.Since(start) > time.Second {
			t.Errorf("%s: %v after %v", addr, err, time.Since(start))
		}
	}
	// A stale entry does not hide that nobody is there.
	h.believe("eth0", "10.1.255.3", stranger)
	if err := ask("10.1.255.3", 30*time.Millisecond); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
	// From no address of that subnet, and while our VIP is in it.
	peer.own("eth0", "10.7.0.1/24")
	if err := h.kernel().Add(vips("10.7.0.9/24 eth0"), time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := ask("10.7.0.1", 5*time.Second); err != nil {
		t.Error(err)
	}
	if got := peer.neighbour("eth0", "10.7.0.9"); got != "" {
		t.Errorf("it asked from a VIP: %s", got)
	}
	var err error
	h.do(func() { err = Reachable(t.Context(), "eth9", ip4) })
	if !errors.Is(err, ErrNoInterface) {
		t.Error(err)
	}
	// It asks again: the answer comes from an address that appears later.
	done := make(chan error, 1)
	wait := h.spawn(func() { done <- Reachable(t.Context(), "eth0", netip.MustParseAddr("10.1.255.4")) })
	sniff(t, peer, etherARP, func() {}, func(b []byte) bool {
		p, err := parseARP(b)
		return err == nil && p.TargetIP.String() == "10.1.255.4"
	})
	peer.own("eth0", "10.1.255.4/32")
	wait()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestQuestionIsNoClaim: asking for an address that is our own must not announce
// it, nor is our own question an answer.
func TestQuestionIsNoClaim(t *testing.T) {
	vip := netip.PrefixFrom(ip4, 32)
	q := arpQuestion(macA, []netip.Prefix{vip}, ip4)
	p, err := parseARP(q.frame)
	if err != nil || !p.SenderIP.IsUnspecified() {
		t.Errorf("it asks from %v (%v)", p.SenderIP, err)
	}
	if q.answers(gratuitousReply(macA, ip4).appendTo(nil)) || !q.answers(gratuitousReply(macB, ip4).appendTo(nil)) {
		t.Error("it takes the wrong answers")
	}
	q, err = neighbourQuestion(macA, []netip.Prefix{netip.PrefixFrom(ip6, 64), netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix("fe80::9/128")}, ip6)
	if err != nil {
		t.Fatal(err)
	}
	n, err := parseNeighbour(q.frame)
	if err != nil || n.Source.String() != "fe80::1" || n.Target != ip6 {
		t.Errorf("it asks %+v (%v)", n, err)
	}
	if _, err := neighbourQuestion(macA, []netip.Prefix{netip.PrefixFrom(ip6, 128)}, ip6); err == nil {
		t.Error("it asks from a VIP")
	}
}
