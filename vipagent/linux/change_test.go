package linux

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"holdfast/vipagent/vip"
)

// pair is a host with a neighbour, connected by eth0.
func pair(t testing.TB) (h, peer *host) {
	t.Helper()
	h, peer = newHost(t), newHost(t)
	wire(h, peer, "eth0")
	h.own("eth0", "10.1.0.1/16")
	h.own("eth0", "2001:db8:1::1/64")
	peer.own("eth0", "10.1.255.2/16")
	peer.own("eth0", "2001:db8:1::ffff:2/64")
	return h, peer
}

func find(t *testing.T, k *Kernel, ip string) (vip.Actual, bool) {
	t.Helper()
	list, err := k.Addresses()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if a.IP().String() == ip {
			return a, true
		}
	}
	return vip.Actual{}, false
}

func TestAddAndRemove(t *testing.T) {
	h, _ := pair(t)
	h.sysctl("ipv6/conf/eth0/accept_dad", "1") // which would make an address wait
	k := h.kernel()
	before := h.routes()
	set := vips("10.1.0.100/16 eth0", "10.1.0.101/16 eth0", "2001:db8:1::100/64 eth0", "2001:db8:1::101/64 eth0")
	if err := k.Add(set, 1500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for _, a := range set {
		got, ok := find(t, k, a.IP().String())
		want := vip.Actual{Address: a.Host(), Ours: true, ValidLeft: 2 * time.Second}
		if a.IP().Is6() {
			want.Flags = vip.Deprecated
		}
		if !ok || got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if diff := cmp.Diff(before, h.routes()); diff != "" {
		t.Errorf("routes changed:\n%s", diff)
	}
	if got, ok := find(t, k, "10.1.0.1"); !ok || got.Ours || got.ValidLeft != vip.Forever || got.Flags != 0 {
		t.Errorf("the host's own address: %+v", got)
	}
	for range 2 { // removing is idempotent
		if err := k.Remove(set); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range set {
		if _, ok := find(t, k, a.IP().String()); ok {
			t.Errorf("%v is still there", a)
		}
	}
	if !h.has("10.1.0.1/16") || !h.has("2001:db8:1::1/64") {
		t.Error("an address of the host is gone")
	}
}

// TestRemoveLeavesOthers: the sysctl promote_secondaries is off, and the VIPs
// come in every order.
func TestRemoveLeavesOthers(t *testing.T) {
	h, _ := pair(t)
	h.sysctl("ipv4/conf/eth0/promote_secondaries", "0")
	h.own("eth0", "10.1.0.2/16") // a secondary of the host's first
	k := h.kernel()
	set := vips("10.1.0.100/16 eth0", "10.1.0.101/16 eth0", "10.2.0.100/24 eth0", "10.2.0.101/24 eth0", "10.2.0.102/24 eth0")
	for first := range set {
		if err := k.Add(set, time.Minute); err != nil {
			t.Fatal(err)
		}
		rest := slices.Concat(set[first:], set[:first])
		for i, a := range rest {
			if err := k.Remove([]vip.Address{a}); err != nil {
				t.Fatal(err)
			}
			for j, b := range rest {
				if want := j > i; h.has(b.Host().Prefix.String()) != want {
					t.Fatalf("after the removal of %v: %v there: %v", a, b, !want)
				}
			}
		}
		if !h.has("10.1.0.1/16") || !h.has("10.1.0.2/16") {
			t.Fatal("an address of the host is gone")
		}
	}
	// And the other way round: the host's primary goes, with its secondaries.
	if err := k.Add(set, time.Minute); err != nil {
		t.Fatal(err)
	}
	h.disown("eth0", "10.1.0.1/16")
	if h.has("10.1.0.2/16") {
		t.Fatal("promote_secondaries is on: this test shows nothing")
	}
	if !h.has("10.1.0.100/32") || !h.has("10.1.0.101/32") {
		t.Error("a VIP went with the host's own address")
	}
}

func TestAddIsIdempotent(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	set := vips("10.1.0.100/16 eth0", "2001:db8:1::100/64 eth0", "10.1.0.100/16 eth0") // one of them twice
	for _, lifetime := range []time.Duration{5 * time.Second, 9 * time.Second} {
		if err := k.Add(set, lifetime); err != nil {
			t.Fatal(err)
		}
		for _, ip := range []string{"10.1.0.100", "2001:db8:1::100"} {
			if got, ok := find(t, k, ip); !ok || !got.Ours || got.ValidLeft != lifetime {
				t.Errorf("after Add for %v: %+v", lifetime, got)
			}
		}
	}
}

func TestRefresh(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	set := vips("10.1.0.100/16 eth0", "2001:db8:1::100/64 eth0")
	if err := k.Add(set, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	missing := vips("10.1.0.200/16 eth0")
	err := k.Refresh(append(missing, set...), 20*time.Second)
	if !errors.Is(err, ErrNotUp) {
		t.Errorf("refreshing what is not up: %v", err)
	}
	if batch, ok := errors.AsType[*BatchError](err); !ok || len(batch.Failed) != 1 || batch.Failed[0].Address != missing[0] {
		t.Errorf("the error does not name it: %v", err)
	}
	if _, ok := find(t, k, "10.1.0.200"); ok {
		t.Error("a refresh brought an address up")
	}
	for _, ip := range []string{"10.1.0.100", "2001:db8:1::100"} {
		want := vip.Flags(0)
		if ip != "10.1.0.100" {
			want = vip.Deprecated
		}
		if got, _ := find(t, k, ip); !got.Ours || got.ValidLeft != 20*time.Second || got.Flags != want {
			t.Errorf("after Refresh: %+v", got)
		}
	}
	if err := k.Refresh(set, 0); err == nil {
		t.Error("a lifetime of zero was taken")
	}
}

// TestKernelEndsLifetime: nobody removes the addresses.
func TestKernelEndsLifetime(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	start := time.Now()
	if err := k.Add(vips("10.1.0.100/16 eth0", "2001:db8:1::100/64 eth0"), time.Second); err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{"10.1.0.100/32": true, "2001:db8:1::100/128": true}
	for prefix := range left {
		if !h.has(prefix) {
			t.Fatalf("%s is not there", prefix)
		}
	}
	waitFor(t, "the end of both", func() bool {
		for prefix := range left {
			if h.has(prefix) {
				continue
			}
			age := time.Since(start)
			t.Logf("%s with a lifetime of 1 s was gone after %v", prefix, age.Round(time.Millisecond))
			if age < 900*time.Millisecond || age > 3*time.Second {
				t.Errorf("%s lasted %v", prefix, age)
			}
			delete(left, prefix)
		}
		return len(left) == 0
	})
	if !h.has("10.1.0.1/16") {
		t.Error("the host's own address is gone")
	}
}

func TestConflict(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	other := newHost(t)
	wire(h, other, "eth1")
	for _, where := range []struct{ iface, prefix string }{
		{"eth0", "10.1.0.100/32"}, {"eth0", "10.1.0.100/16"}, {"eth1", "10.1.0.100/24"}, {"lo", "2001:db8:1::100/128"},
	} {
		h.own(where.iface, where.prefix)
		foreign := vips(where.prefix + " " + where.iface)[0]
		set := []vip.Address{{Prefix: foreign.Prefix, Interface: "eth0"}, vips("10.1.0.101/16 eth0")[0]}
		for verb, f := range map[string]func() error{
			"add":    func() error { return k.Add(set, time.Minute) },
			"remove": func() error { return k.Remove(set) },
		} {
			err := f()
			conflict, ok := errors.AsType[*ConflictError](err)
			if !ok || conflict.Found != foreign || conflict.VIP != foreign.IP() {
				t.Errorf("%s beside %v: %v", verb, foreign, err)
			}
			if batch, _ := errors.AsType[*BatchError](err); batch == nil || len(batch.Failed) != 1 || batch.Failed[0].Address != set[0] {
				t.Errorf("%s beside %v does not name the VIP alone: %v", verb, foreign, err)
			}
			if got, ok := find(t, k, foreign.IP().String()); !ok || got.Ours || got.Address != foreign {
				t.Errorf("%s changed the foreign address: %+v", verb, got)
			}
		}
		h.disown(where.iface, where.prefix)
		if err := k.Remove(set); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRemoveElsewhere: our address is on another interface than the caller
// believes, as after an edit of its set.
func TestRemoveElsewhere(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	if err := k.Add(vips("10.1.0.100/16 lo"), time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := k.Remove(vips("10.1.0.100/24 eth0")); err != nil {
		t.Fatal(err)
	}
	if h.has("10.1.0.100/32") {
		t.Error("still there")
	}
}

// TestMarkWithSubnet: an address with our number that we cannot have made, as
// it could be the primary of others.
func TestMarkWithSubnet(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	index := h.get("eth0").Attrs().Index
	m := encodeAdd(place{vips("10.9.0.1/32 eth0")[0].IP(), index}, Protocol, 60, unix.NLM_F_CREATE)
	m.body[1] = 24
	if err := k.writes.do([]message{m}, 1)[0]; err != nil {
		t.Fatal(err)
	}
	h.own("eth0", "10.9.0.2/24")
	if got, ok := find(t, k, "10.9.0.1"); !ok || got.Ours {
		t.Errorf("got %+v", got)
	}
	if _, ok := errors.AsType[*ConflictError](k.Remove(vips("10.9.0.1/24 eth0"))); !ok || !h.has("10.9.0.2/24") {
		t.Error("it was removed, and its secondary with it")
	}
}

// TestKernelWithoutMark: what could not be told apart later is not left behind.
func TestKernelWithoutMark(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	k.mark = 0
	set := vips("10.1.0.100/16 eth0", "2001:db8:1::100/64 eth0")
	if err := k.Add(set, time.Minute); !errors.Is(err, ErrNoMark) {
		t.Errorf("got %v", err)
	}
	if h.has("10.1.0.100/32") || h.has("2001:db8:1::100/128") || !h.has("10.1.0.1/16") {
		t.Error("a VIP stays, or an address of the host is gone")
	}
}

// TestRemoveReadsBack: the kernel refuses, and Remove must not say that the
// address is down.
func TestRemoveReadsBack(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	set := vips("10.1.0.100/16 eth0", "2001:db8:1::100/64 eth0")
	if err := k.Add(set, time.Minute); err != nil {
		t.Fatal(err)
	}
	var err error
	h.spawn(func() {
		var none [2]unix.CapUserData
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		if err := unix.Capset(&header, &none[0]); err != nil { // of this thread only
			t.Error(err)
		}
		err = k.Remove(set)
	})()
	batch, ok := errors.AsType[*BatchError](err)
	if !ok || len(batch.Failed) != 2 || !errors.Is(err, unix.EPERM) {
		t.Errorf("without rights: %v", err)
	}
	if !h.has("10.1.0.100/32") {
		t.Error("it is gone: this test shows nothing")
	}
}

func TestLinkLocalIsPerLink(t *testing.T) {
	h, _ := pair(t)
	k := h.kernel()
	other := newHost(t)
	wire(h, other, "eth1")
	h.own("eth1", "fe80::100/64")
	set := vips("fe80::100/64 eth0")
	if err := k.Add(set, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := k.Remove(set); err != nil {
		t.Fatal(err)
	}
	if !h.has("fe80::100/64") || h.has("fe80::100/128") {
		t.Error("the wrong one was removed")
	}
}

func TestFailuresAreNamed(t *testing.T) {
	h, _ := pair(t)
	h.sysctl("ipv6/conf/eth0/disable_ipv6", "1")
	k := h.kernel()
	set := series(1200, false, "eth0")
	gone := vip.Address{Prefix: set[700].Prefix, Interface: "eth7"}
	set[700] = gone
	v6 := vips("2001:db8:1::100/64 eth0")[0]
	err := k.Add(append(set, v6), time.Minute)
	batch, ok := errors.AsType[*BatchError](err)
	if !ok || len(batch.Failed) != 3 {
		t.Fatalf("got %v", err)
	}
	// 10.1.0.1 is the host's own.
	want := []struct {
		address vip.Address
		err     error
	}{{set[0], nil}, {gone, ErrNoInterface}, {v6, ErrIPv6Off}}
	for i, w := range want {
		f := batch.Failed[i]
		if f.Address != w.address || w.err != nil && !errors.Is(f.Err, w.err) {
			t.Errorf("failure %d: %v: %v", i, f.Address, f.Err)
		}
	}
	if !h.has(set[1199].Host().Prefix.String()) {
		t.Error("the rest was not added")
	}
	if err := k.Remove(vips("10.1.2.3/16 eth7")); err != nil {
		t.Errorf("remove from an interface that is gone: %v", err)
	}
}

func timed(t testing.TB, f func() error) time.Duration {
	t.Helper()
	start := time.Now()
	if err := f(); err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}

func TestManyAddresses(t *testing.T) {
	h, _ := pair(t)
	h.disown("eth0", "10.1.0.1/16")
	h.disown("eth0", "2001:db8:1::1/64")
	k := h.kernel()
	for _, set := range [][]vip.Address{series(1000, false, "eth0"), series(200, true, "eth0")} {
		add := timed(t, func() error { return k.Add(set, time.Minute) })
		list, err := k.Addresses()
		if err != nil {
			t.Fatal(err)
		}
		ours := 0
		for _, a := range list {
			if a.Ours {
				ours++
			}
		}
		if ours != len(set) {
			t.Errorf("%d of %d are up", ours, len(set))
		}
		refresh := timed(t, func() error { return k.Refresh(set, time.Hour) })
		slice := timed(t, func() error { return k.Refresh(set[:vip.Slice], time.Hour) })
		announce := timed(t, func() error { return k.Announce(set) })
		read := timed(t, func() error { _, err := k.Addresses(); return err })
		remove := timed(t, func() error { return k.Remove(set) })
		t.Logf("%d addresses such as %v: add %v, refresh %v (a slice of %d %v), announce %v, read %v, remove %v",
			len(set), set[0].IP(), add, refresh, vip.Slice, slice, announce, read, remove)
		if announce > 200*time.Millisecond || remove > time.Second {
			t.Error("that is too slow")
		}
	}
}

func BenchmarkAddRemove(b *testing.B) {
	h, _ := pair(b)
	k := h.kernel()
	set := vips("10.1.0.100/16 eth0", "2001:db8:1::100/64 eth0")
	for b.Loop() {
		if err := errors.Join(k.Add(set, time.Minute), k.Remove(set)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAdd1000(b *testing.B) {
	h, _ := pair(b)
	k := h.kernel()
	set := series(1001, false, "eth0")[1:]
	for b.Loop() {
		if err := k.Add(set, time.Minute); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := k.Remove(set); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkAnnounce1000(b *testing.B) {
	h, _ := pair(b)
	k := h.kernel()
	set := series(1000, false, "eth0")
	for b.Loop() {
		if err := k.Announce(set); err != nil {
			b.Fatal(err)
		}
	}
}
