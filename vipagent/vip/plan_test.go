package vip

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// addr reads "10.0.0.5/24 eth0".
func addr(s string) Address {
	prefix, iface, _ := strings.Cut(s, " ")
	return Address{Prefix: netip.MustParsePrefix(prefix), Interface: iface}
}

// want reads "web@7 10.0.0.5/24 eth0".
func want(set string, epoch uint64, s string) Wanted {
	return Wanted{Address: addr(s), Set: set, Epoch: epoch}
}

func ours(s string) Actual {
	return Actual{Address: addr(s), Ours: true, ValidLeft: time.Second}
}

func foreign(s string) Actual {
	return Actual{Address: addr(s), ValidLeft: Forever}
}

func flagged(a Actual, f Flags) Actual {
	a.Flags = f
	return a
}

func lasting(a Actual, left time.Duration) Actual {
	a.ValidLeft = left
	return a
}

func TestPlan(t *testing.T) {
	cases := []struct {
		name   string
		wanted []Wanted
		actual []Actual
		opts   Options
		ops    []string
	}{
		{name: "nothing to do"},
		{
			name:   "add and announce",
			wanted: []Wanted{want("web", 7, "10.0.0.5/24 eth0")},
			actual: []Actual{foreign("10.0.0.1/24 eth0")},
			ops:    []string{"add 10.0.0.5/24 on eth0: not there", "announce 10.0.0.5/24 on eth0: added"},
		},
		{
			name:   "there as a host prefix",
			wanted: []Wanted{want("web", 7, "10.0.0.5/24 eth0"), want("web", 7, "2001:db8::5/64 eth0")},
			actual: []Actual{ours("10.0.0.5/32 eth0"), ours("2001:db8::5/128 eth0")},
		},
		{
			name:   "not wanted",
			actual: []Actual{ours("10.0.0.5/32 eth0"), foreign("10.0.0.6/32 eth0")},
			ops:    []string{"remove 10.0.0.5/32 on eth0: not wanted"},
		},
		{
			name:   "removals come first",
			wanted: []Wanted{want("web", 7, "10.0.0.1/24 eth0")},
			actual: []Actual{ours("10.0.0.9/32 eth0")},
			ops: []string{
				"remove 10.0.0.9/32 on eth0: not wanted",
				"add 10.0.0.1/24 on eth0: not there", "announce 10.0.0.1/24 on eth0: added",
			},
		},
		{
			name:   "other interface",
			wanted: []Wanted{want("web", 7, "10.0.0.5/24 eth1")},
			actual: []Actual{ours("10.0.0.5/32 eth0")},
			ops: []string{
				"remove 10.0.0.5/32 on eth0: wanted on eth1",
				"add 10.0.0.5/24 on eth1: not there", "announce 10.0.0.5/24 on eth1: added",
			},
		},
		{
			name:   "there, and on another interface too",
			wanted: []Wanted{want("web", 7, "10.0.0.5/24 eth1")},
			actual: []Actual{ours("10.0.0.5/32 eth0"), ours("10.0.0.5/32 eth1")},
			ops:    []string{"remove 10.0.0.5/32 on eth0: wanted on eth1"},
		},
		{
			name:   "other prefix",
			wanted: []Wanted{want("web", 7, "10.0.0.5/24 eth0")},
			actual: []Actual{ours("10.0.0.5/24 eth0")},
			ops: []string{
				"remove 10.0.0.5/24 on eth0: not a host prefix",
				"add 10.0.0.5/24 on eth0: not there", "announce 10.0.0.5/24 on eth0: added",
			},
		},
		{
			name:   "made useless by duplicate address detection",
			wanted: []Wanted{want("web", 7, "2001:db8::5/64 eth0")},
			actual: []Actual{flagged(ours("2001:db8::5/128 eth0"), DADFailed)},
			ops: []string{
				"remove 2001:db8::5/128 on eth0: unusable: duplicate address detection",
				"add 2001:db8::5/64 on eth0: not there", "announce 2001:db8::5/64 on eth0: added",
			},
		},
		{
			name:   "a deprecated address is as good as any",
			wanted: []Wanted{want("web", 7, "2001:db8::5/64 eth0")},
			actual: []Actual{flagged(ours("2001:db8::5/128 eth0"), Deprecated)},
		},
		{
			name:   "held by another program",
			wanted: []Wanted{want("web", 7, "10.0.0.5/24 eth0")},
			actual: []Actual{foreign("10.0.0.5/24 eth1")},
			ops:    []string{"blocked 10.0.0.5/24 on eth0: another program holds 10.0.0.5/24 on eth1"},
		},
		{
			name:   "held by us and by another program",
			wanted: []Wanted{want("web", 7, "10.0.0.5/24 eth0")},
			actual: []Actual{ours("10.0.0.5/32 eth0"), foreign("10.0.0.5/24 eth0")},
			ops:    []string{"blocked 10.0.0.5/24 on eth0: another program holds 10.0.0.5/24 on eth0"},
		},
		{
			name:   "link-local addresses of other links are others",
			wanted: []Wanted{want("web", 7, "fe80::5/64 eth0")},
			actual: []Actual{foreign("fe80::5/64 eth1")},
			ops:    []string{"add fe80::5/64 on eth0: not there", "announce fe80::5/64 on eth0: added"},
		},
		{
			name:   "no interface",
			wanted: []Wanted{want("web", 7, "10.0.0.5/24"), want("web", 7, "10.0.0.6/24")},
			actual: []Actual{ours("10.0.0.6/32 eth0")},
			ops:    []string{"blocked 10.0.0.5/24: no interface"},
		},
		{
			name:   "no interface, and up on two",
			wanted: []Wanted{want("web", 7, "10.0.0.5/24")},
			actual: []Actual{ours("10.0.0.5/32 eth0"), ours("10.0.0.5/32 eth1")},
			ops:    []string{"remove 10.0.0.5/32 on eth1: there twice"},
		},
		{
			name: "two sets want it",
			wanted: []Wanted{
				want("a", 7, "10.0.0.5/24 eth0"), want("b", 9, "10.0.0.5/24 eth1"), want("c", 9, "10.0.0.5/24 eth2"),
			},
			ops: []string{"add 10.0.0.5/24 on eth1: not there", "announce 10.0.0.5/24 on eth1: added"},
		},
		{
			name: "refresh",
			wanted: []Wanted{
				want("a", 7, "10.0.0.4/24 eth0"), want("a", 7, "10.0.0.5/24 eth0"), want("a", 7, "10.0.0.6/24 eth0"),
			},
			actual: []Actual{
				lasting(ours("10.0.0.4/32 eth0"), 4*time.Second), lasting(ours("10.0.0.5/32 eth0"), 2*time.Second),
				lasting(ours("10.0.0.6/32 eth0"), Forever),
			},
			opts: Options{MinLeft: 3 * time.Second},
			ops: []string{
				"refresh 10.0.0.5/24 on eth0: lifetime ends in 2s",
				"refresh 10.0.0.6/24 on eth0: has no lifetime",
			},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, op := range Plan(c.wanted, c.actual, c.opts) {
				got = append(got, op.String())
			}
			if diff := cmp.Diff(c.ops, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlanNamesSetAndEpoch(t *testing.T) {
	ops := Plan([]Wanted{want("web", 7, "10.0.0.5/24 eth0")}, []Actual{ours("10.0.0.5/32 eth1")}, Options{})
	for _, op := range ops {
		if op.Set != "web" || op.Epoch != 7 {
			t.Errorf("%v: set %q epoch %d", op, op.Set, op.Epoch)
		}
	}
	if got := Of(ops, Remove); len(ops) != 3 || len(got) != 1 || got[0] != addr("10.0.0.5/32 eth1") {
		t.Errorf("ops %v, removals %v", ops, got)
	}
}

// TestPlanProperties executes random plans on a model of the kernel.
func TestPlanProperties(t *testing.T) {
	hosts := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "2001:db8::1", "fe80::1"}
	address := rapid.Custom(func(t *rapid.T) Address {
		ip := netip.MustParseAddr(rapid.SampledFrom(hosts).Draw(t, "ip"))
		bits := rapid.SampledFrom([]int{24, ip.BitLen()}).Draw(t, "bits")
		return Address{netip.PrefixFrom(ip, bits), rapid.SampledFrom([]string{"eth0", "eth1"}).Draw(t, "interface")}
	})
	wanted := rapid.Custom(func(t *rapid.T) Wanted {
		return Wanted{address.Draw(t, "address"), rapid.SampledFrom([]string{"a", "b"}).Draw(t, "set"), rapid.Uint64Range(1, 3).Draw(t, "epoch")}
	})
	actual := rapid.Custom(func(t *rapid.T) Actual {
		return Actual{Address: address.Draw(t, "address"), Ours: rapid.Bool().Draw(t, "ours"), ValidLeft: 1, Flags: Flags(rapid.IntRange(0, 15).Draw(t, "flags"))}
	})
	rapid.Check(t, func(t *rapid.T) {
		w := rapid.SliceOfN(wanted, 0, 6).Draw(t, "wanted")
		a := rapid.SliceOfNDistinct(actual, 0, 8, func(a Actual) Address { return a.Address }).Draw(t, "actual")
		ops := Plan(w, a, Options{})

		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		rng.Shuffle(len(w), func(i, j int) { w[i], w[j] = w[j], w[i] })
		rng.Shuffle(len(a), func(i, j int) { a[i], a[j] = a[j], a[i] })
		if diff := cmp.Diff(ops, Plan(w, a, Options{}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Fatalf("the order of the arguments changes the plan:\n%s", diff)
		}
		checkPlan(t, w, a, ops)
	})
}

func checkPlan(t *rapid.T, wanted []Wanted, actual []Actual, ops []Op) {
	kernel := map[Address]Actual{}
	held := map[identity]bool{} // by others
	for _, a := range actual {
		kernel[a.Address] = a
		if !a.Ours {
			held[identityOf(a.Address)] = true
		}
	}
	last := Remove
	for _, op := range ops {
		if op.Kind < last {
			t.Fatalf("%v comes after a %v", op, last)
		}
		last = op.Kind
		switch op.Kind {
		case Remove:
			if !kernel[op.Address].Ours {
				t.Fatalf("%v is not ours", op)
			}
			delete(kernel, op.Address)
		case Add:
			if a, ok := kernel[op.Address.Host()]; ok {
				t.Fatalf("%v: %v is there", op, a)
			}
			kernel[op.Address.Host()] = Actual{Address: op.Address.Host(), Ours: true}
		}
	}
	ids := map[identity]bool{}
	for _, w := range wanted {
		ids[identityOf(w.Address)] = true
	}
	count := map[identity]int{}
	for _, a := range kernel {
		if a.Ours {
			count[identityOf(a.Address)]++
		}
		if a.Ours && (!ids[identityOf(a.Address)] || a.Flags&(Tentative|DADFailed) != 0) {
			t.Fatalf("%v stays", a)
		}
	}
	for id := range ids {
		if n := count[id]; n > 1 || n == 0 && !held[id] {
			t.Fatalf("%v is up %d times", id, n)
		}
	}
}
