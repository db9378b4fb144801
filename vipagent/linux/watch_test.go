package linux

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"holdfast/vipagent/vip"
)

// watchOn runs a watch on the host until the test ends. gate, if not nil, holds
// the watch up at its first event.
func watchOn(t testing.TB, h *host, k *Kernel, gate <-chan struct{}) *recorder {
	t.Helper()
	r := &recorder{}
	ctx, cancel := context.WithCancel(context.Background())
	wait := h.spawn(func() {
		err := k.Watch(ctx, func(e Event) {
			r.add(e)
			if gate != nil && e.Kind == Resynced {
				<-gate
			}
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wait() })
	r.wait(t, 0, Resynced, "", "")
	return r
}

// TestWatchSeesRemoval: somebody else removes one of our addresses.
func TestWatchSeesRemoval(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	r := watchOn(t, h, k, nil)
	set := vips("10.1.0.100/16 eth0", "2001:db8:1::100/64 eth0")
	for _, a := range set {
		prefix := a.Host().Prefix.String()
		var seen, restored []time.Duration
		for range 20 {
			skip := r.count()
			if err := k.Add([]vip.Address{a}, time.Minute); err != nil {
				t.Fatal(err)
			}
			r.wait(t, skip, AddressAppeared, "eth0", prefix)
			skip = r.count()
			start := time.Now()
			h.disown("eth0", prefix)
			seen = append(seen, r.wait(t, skip, AddressGone, "eth0", prefix).Sub(start))
			if err := k.Add([]vip.Address{a}, time.Minute); err != nil {
				t.Fatal(err)
			}
			restored = append(restored, time.Since(start))
			if err := k.Remove([]vip.Address{a}); err != nil {
				t.Fatal(err)
			}
		}
		slices.Sort(seen)
		slices.Sort(restored)
		t.Logf("%v: removal seen after %v (median; worst %v), restored after %v (worst %v)", a, seen[10], seen[19], restored[10], restored[19])
		if seen[10] > 25*time.Millisecond || restored[10] > 50*time.Millisecond {
			t.Error("that is too slow")
		}
	}
}

func TestWatchEvents(t *testing.T) {
	h, peer := pair(t)
	k := h.kernel()
	r := watchOn(t, h, k, nil)
	if n := r.count(); n != 1 {
		t.Errorf("%d events about what was there already", n)
	}

	if err := k.Add(vips("10.1.0.100/16 eth0"), time.Minute); err != nil {
		t.Fatal(err)
	}
	r.wait(t, 0, AddressAppeared, "eth0", "10.1.0.100/32")
	skip := r.count()
	if err := k.Refresh(vips("10.1.0.100/16 eth0"), time.Hour); err != nil {
		t.Fatal(err)
	}
	h.own("eth0", "10.3.0.1/24") // the mark that the refresh has been seen
	r.wait(t, skip, AddressAppeared, "eth0", "10.3.0.1/24")
	if _, ok := r.find(skip, AddressAppeared, "eth0", "10.1.0.100/32"); ok {
		t.Error("a refresh is reported as an address")
	}

	skip = r.count()
	start := time.Now()
	peer.link("eth0", false)
	t.Logf("loss of the carrier seen after %v", r.wait(t, skip, LinkDown, "eth0", "").Sub(start))
	skip = r.count()
	start = time.Now()
	peer.link("eth0", true)
	t.Logf("return of the carrier seen after %v", r.wait(t, skip, LinkUp, "eth0", "").Sub(start))
	if !h.has("10.1.0.100/32") {
		t.Error("the VIP went with the carrier")
	}
	skip = r.count()
	h.link("eth0", false)
	r.wait(t, skip, LinkDown, "eth0", "")
	h.link("eth0", true)
	r.wait(t, skip, LinkUp, "eth0", "")
}

func TestWatchLinkRecreated(t *testing.T) {
	h, peer := pair(t)
	k := h.kernel()
	r := watchOn(t, h, k, nil)
	set := vips("10.1.0.100/16 eth0", "2001:db8:1::100/64 eth0")
	if err := k.Add(set, time.Minute); err != nil {
		t.Fatal(err)
	}
	r.wait(t, 0, AddressAppeared, "eth0", "2001:db8:1::100/128")
	old := h.get("eth0").Attrs().Index
	skip := r.count()
	h.must(h.handle.LinkDel(h.get("eth0")))
	r.wait(t, skip, LinkGone, "eth0", "")
	for _, a := range set {
		if _, ok := r.find(skip, AddressGone, "eth0", a.Host().Prefix.String()); !ok {
			t.Errorf("%v: not reported before its link was", a)
		}
	}
	skip = r.count()
	wire(h, peer, "eth0")
	if h.get("eth0").Attrs().Index == old {
		t.Fatal("the link has its old index: this test shows nothing")
	}
	r.wait(t, skip, LinkUp, "eth0", "")
	if err := k.Add(set, time.Minute); err != nil {
		t.Fatal(err)
	}
	r.wait(t, skip, AddressAppeared, "eth0", "2001:db8:1::100/128")
	if err := k.Announce(set); err != nil {
		t.Error(err)
	}

	skip = r.count() // a new name is a new interface
	h.link("eth0", false)
	h.must(h.handle.LinkSetName(h.get("eth0"), "lan0"))
	h.link("lan0", true)
	r.wait(t, skip, LinkGone, "eth0", "")
	r.wait(t, skip, LinkUp, "lan0", "")
}

// TestWatchBridgePort: leaving a bridge comes as a deletion of the bridge's part
// of the link.
func TestWatchBridgePort(t *testing.T) {
	h, _ := pair(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br0"
	h.must(h.handle.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	k := h.kernel()
	r := watchOn(t, h, k, nil)
	h.must(h.handle.LinkSetMaster(h.get("eth0"), h.get("br0")))
	h.must(h.handle.LinkSetNoMaster(h.get("eth0")))
	h.own("br0", "10.4.0.1/24")
	r.wait(t, 0, AddressAppeared, "br0", "10.4.0.1/24")
	if _, ok := r.find(0, LinkGone, "", ""); ok {
		t.Error("a link is reported gone that left its bridge")
	}
}

// TestWatchOverrun: more news than fit the buffer, while the watch is held up.
func TestWatchOverrun(t *testing.T) {
	h, peer := pair(t)
	k := h.kernel()
	k.watchBuffer = 4096
	h.own("eth0", "10.3.0.1/24")
	gate := make(chan struct{})
	r := watchOn(t, h, k, gate)
	set := series(1500, false, "eth0")[1:]
	if err := k.Add(set, time.Minute); err != nil {
		t.Fatal(err)
	}
	h.disown("eth0", "10.3.0.1/24")
	// The addition is queued, the removal is not: the first must not be reported
	// after everything has been read again.
	gone := set[0].Host().Prefix.String()
	h.must(k.Remove(set[:1]))
	set = set[1:]
	peer.link("eth0", false)
	waitFor(t, "no carrier", func() bool { i, err := k.Interface("eth0"); return err == nil && !i.Up })
	close(gate)
	r.wait(t, 1, Resynced, "", "")
	last := set[len(set)-1].Host().Prefix.String()
	r.wait(t, 1, AddressAppeared, "eth0", last)
	r.wait(t, 1, AddressGone, "eth0", "10.3.0.1/24")
	r.wait(t, 1, LinkDown, "eth0", "")

	// What the watch believes is right again: all that follows is reported.
	waitFor(t, "an end of the news", func() bool { n := r.count(); return n >= len(set)+3 })
	skip := r.count()
	if err := k.Remove(set[len(set)-1:]); err != nil {
		t.Fatal(err)
	}
	r.wait(t, skip, AddressGone, "eth0", last)
	if _, ok := r.find(0, AddressAppeared, "eth0", gone); ok {
		t.Errorf("%s is reported, long after its end", gone)
	}
	seen := map[netip.Prefix]int{}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.list {
		if e.Kind == AddressAppeared {
			seen[e.Address.Prefix]++
		}
	}
	for _, a := range set {
		if seen[a.Host().Prefix] != 1 {
			t.Fatalf("%v was reported %d times", a, seen[a.Host().Prefix])
		}
	}
}

func TestWatchEndsWithContext(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var err error
	h.do(func() { err = k.Watch(ctx, func(Event) {}) })
	if err != nil {
		t.Error(err)
	}
	h.do(func() {
		err = k.WatchClaims(ctx, func(netip.Addr) bool { return false }, func(Claim) {})
	})
	if err != nil {
		t.Error(err)
	}
}

// TestView goes through what no kernel can be made to say at will.
func TestView(t *testing.T) {
	var got []string
	v := newView(func(e Event) {
		s := fmt.Sprint(e.Kind, " ", e.Interface)
		if e.Address.Prefix.IsValid() {
			s += " " + e.Address.Prefix.String()
		}
		got = append(got, s)
	})
	a := func(index int, prefix string) record {
		p := netip.MustParsePrefix(prefix)
		return record{index: index, ip: p.Addr(), bits: p.Bits(), protocol: Protocol}
	}
	step := func(name string, f func(), want ...string) {
		t.Helper()
		got = nil
		f()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	step("a link", func() { v.link(linkState{2, "eth0", false}, true) }, "link down eth0")
	step("again", func() { v.link(linkState{2, "eth0", false}, true) })
	step("up", func() { v.link(linkState{2, "eth0", true}, true) }, "link up eth0")
	step("an address", func() { v.address(a(2, "10.0.0.1/32"), true) }, "address appeared eth0 10.0.0.1/32")
	step("again", func() { v.address(a(2, "10.0.0.1/32"), true) })
	foreign := a(2, "10.0.0.1/32")
	foreign.protocol = 0
	step("in other hands", func() { v.address(foreign, true) }, "address appeared eth0 10.0.0.1/32")
	step("one of an unknown link", func() {
		if v.address(a(9, "10.0.0.1/32"), true) {
			t.Error("it was taken")
		}
	})
	step("an unknown one gone", func() { v.address(a(2, "10.0.0.9/32"), false) })
	step("a new name", func() { v.link(linkState{2, "lan0", true}, true) },
		"address gone eth0 10.0.0.1/32", "link gone eth0", "link up lan0")
	step("an unknown link gone", func() { v.link(linkState{9, "eth9", true}, false) })
	v.address(a(2, "10.0.0.2/32"), true)
	v.address(a(2, "10.0.0.1/32"), true)
	v.link(linkState{3, "eth1", true}, true)
	step("everything anew", func() {
		v.replace(map[int]linkState{3: {3, "eth1", false}, 4: {4, "lan0", true}},
			map[addressKey]record{keyOf(a(4, "10.0.0.1/32")): a(4, "10.0.0.1/32"), keyOf(a(4, "10.0.0.7/32")): a(4, "10.0.0.7/32")})
	}, "address gone lan0 10.0.0.1/32", "address gone lan0 10.0.0.2/32", "link gone lan0",
		"link down eth1", "link up lan0", "address appeared lan0 10.0.0.1/32", "address appeared lan0 10.0.0.7/32")
	step("the same", func() {
		v.replace(map[int]linkState{3: {3, "eth1", false}, 4: {4, "lan0", true}},
			map[addressKey]record{keyOf(a(4, "10.0.0.1/32")): a(4, "10.0.0.1/32"), keyOf(a(4, "10.0.0.7/32")): a(4, "10.0.0.7/32")})
	})
}
