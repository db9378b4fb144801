package linux

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"holdfast/vipagent/vip"
)

func TestNFTFenceThousandAddresses(t *testing.T) {
	p := newNFTPair(t, nftOwner|nftPersist)
	var list []netip.Addr
	var passes []vip.Pass
	for _, v6 := range []bool{false, true} {
		for _, a := range series(1000, v6, "eth0") {
			list = append(list, a.IP())
			passes = append(passes, vip.Pass{Address: a.IP(), Epoch: 1 << 40, Session: 1 << 60, Also: 1 << 61})
		}
	}
	start := time.Now()
	step := func(what string, err error) {
		t.Helper()
		p.h.must(err)
		t.Logf("%s: %v", what, time.Since(start))
		start = time.Now()
	}
	step("guard", p.fence.Guard(list))
	p.want("guarded", false)
	one, two := p.slot(1<<60), p.slot(1<<61)
	start = time.Now()
	step("open", p.fence.Open(passes))
	one(time.Minute)
	two(time.Minute)
	p.want("open", true)
	start = time.Now()
	step("check", p.fence.Check())
	table := p.show()
	step("show", nil)
	if len(table.Addresses) != len(list) || slices.ContainsFunc(table.Addresses, func(a FenceAddress) bool { return !a.Open }) {
		t.Errorf("%d addresses of %d", len(table.Addresses), len(list))
	}
	step("forget", p.fence.Forget(list))
	if n := len(p.show().Addresses); n != 0 {
		t.Errorf("%d addresses are left", n)
	}
	p.h.must(p.fence.Check())
}

func BenchmarkNFTRenewal(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("%d", n), func(b *testing.B) {
			f := newHost(b).nft(nftOwner | nftPersist)
			store, err := f.Slot(1)
			if err != nil {
				b.Fatal(err)
			}
			for _, v6 := range []bool{false, true} {
				for _, a := range series(n, v6, "eth0") {
					if err := errors.Join(f.Guard([]netip.Addr{a.IP()}), f.Open([]vip.Pass{{Address: a.IP(), Session: 1}})); err != nil {
						b.Fatal(err)
					}
				}
			}
			for b.Loop() {
				store(Boottime().Add(time.Second))
			}
			if err := f.Check(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
