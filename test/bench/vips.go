package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"holdfast/test/lab"
)

// A thousand addresses.
const (
	manySets = 50
	perSet   = 20
)

// manyAddresses lists the addresses of all sets.
func manyAddresses() []netip.Addr {
	var list []netip.Addr
	for i := range manySets * perSet {
		list = append(list, netip.AddrFrom4([4]byte{10, 77, byte(4 + i/250), byte(1 + i%250)}))
	}
	return list
}

// manyFile defines the sets; all of them prefer host 1 and go back to it.
func manyFile(hosts []*lab.Host) string {
	addresses := manyAddresses()
	var b strings.Builder
	b.WriteString("vips:\n")
	for i := range manySets {
		fmt.Fprintf(&b, "  - name: set%02d\n    preempt: true\n    addresses:\n", i)
		for _, a := range addresses[i*perSet : (i+1)*perSet] {
			fmt.Fprintf(&b, "      - %s/32\n", a)
		}
		b.WriteString("    hosts:\n")
		for j, h := range hosts {
			fmt.Fprintf(&b, "      - {host: %s, priority: %d}\n", h.Name, 150-10*j)
		}
	}
	return b.String()
}

// takeover is how a thousand addresses changed their host.
type takeover struct {
	first, last float64 // from the fault until the first and the last address is up elsewhere
	span        float64 // between the two
	gap         float64 // longest time in which one address was nowhere
	overlap     float64 // longest time in which one address was twice
	stall       lab.Stall
}

func measureManyVIPs(ctx context.Context, r *report) error {
	var off, drained []takeover
	err := r.withNetwork(func(n *lab.Network) (err error) {
		cluster := n.NewCluster(lab.ClusterConfig{Bin: r.bin})
		limited, cancel := context.WithTimeout(ctx, 5*time.Minute)
		defer cancel()
		if err := cluster.Start(limited); err != nil {
			return err
		}
		if err := cluster.Apply(limited, manyFile(n.Hosts)); err != nil {
			return err
		}
		addresses := manyAddresses()
		recorder, err := n.StartRecorder(0, addresses[0], addresses[len(addresses)/2], addresses[len(addresses)-1])
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, recorder.Close()) }()
		m := &many{cluster: cluster, recorder: recorder, addresses: addresses, home: n.Hosts[0]}
		for run := range r.runs {
			t, err := m.takeover(limited, func() error { _, err := m.home.PowerOff(); return err })
			if err != nil {
				return fmt.Errorf("power-off: %w", err)
			}
			off = append(off, t)
			r.talk("1000 VIPs, power-off, run %d: first up after %s ms, last %s ms, span %s ms", run+1, ms(t.first), ms(t.last), ms(t.span))
			t, err = m.takeover(limited, func() error {
				_, err := cluster.MustCtl(limited, "drain", m.home.Name)
				return err
			})
			if err != nil {
				return fmt.Errorf("drain: %w", err)
			}
			drained = append(drained, t)
			r.talk("1000 VIPs, drain, run %d: span %s ms, longest gap %s ms", run+1, ms(t.span), ms(t.gap))
			if _, err := cluster.MustCtl(limited, "undrain", m.home.Name); err != nil {
				return err
			}
		}
		return nil
	})
	r.line("\n### %d VIPs in %d sets change their host, TTL 1 s, %d runs\n", manySets*perSet, manySets, r.runs)
	r.line("By the kernels' address tables; milliseconds, median / largest.\n")
	r.line("| fault | first address up elsewhere | last address | between the two (promised: <= 300) | one address nowhere | one address twice | stall |")
	r.line("|---|--:|--:|--:|--:|--:|--:|")
	r.takeoverRow("power-off of their host", off)
	r.takeoverRow("drain of their host", drained)
	return err
}

func (r *report) takeoverRow(title string, runs []takeover) {
	pick := func(f func(takeover) float64) string {
		var values []float64
		for _, t := range runs {
			values = append(values, f(t))
		}
		return spread(values)
	}
	r.line("| %s | %s | %s | %s | %s | %s | %s |", title,
		pick(func(t takeover) float64 { return t.first }), pick(func(t takeover) float64 { return t.last }),
		pick(func(t takeover) float64 { return t.span }), pick(func(t takeover) float64 { return t.gap }),
		pick(func(t takeover) float64 { return t.overlap }), pick(func(t takeover) float64 { return millis(t.stall.Sum) }))
}

// many is the cluster with the thousand addresses.
type many struct {
	cluster   *lab.Cluster
	recorder  *lab.Recorder
	addresses []netip.Addr
	home      *lab.Host // prefers all of them
}

// takeover brings all addresses home, breaks something and waits until they are
// all elsewhere.
func (m *many) takeover(ctx context.Context, fault func() error) (takeover, error) {
	if err := m.cluster.Repair(ctx); err != nil {
		return takeover{}, err
	}
	if err := lab.Poll(ctx, 100*time.Millisecond, func() error { return m.allAt(m.home.Name, true) }); err != nil {
		return takeover{}, err
	}
	began := lab.Now()
	if err := fault(); err != nil {
		return takeover{}, err
	}
	if err := lab.Poll(ctx, 50*time.Millisecond, func() error { return m.allAt(m.home.Name, false) }); err != nil {
		return takeover{}, err
	}
	return m.measure(began), nil
}

// allAt returns nil when every address is on that host alone, or, with here
// false, on one other host alone.
func (m *many) allAt(host string, here bool) error {
	where := m.holders()
	for _, a := range m.addresses {
		if on := where[a]; len(on) != 1 || (on[0] == host) != here {
			return fmt.Errorf("%s is on %v", a, on)
		}
	}
	return nil
}

func (m *many) holders() map[netip.Addr][]string {
	where := make(map[netip.Addr][]string)
	off := make(map[string]bool)
	for _, h := range m.cluster.Network.Hosts {
		off[h.Name] = h.IsOff()
	}
	for _, h := range m.recorder.AllHolds() {
		if h.To == 0 && !off[h.Host] {
			where[h.Address] = append(where[h.Address], h.Host)
		}
	}
	return where
}

// measure reads the takeover that began at that time from the record.
func (m *many) measure(began lab.Time) takeover {
	holds := make(map[netip.Addr][]lab.Hold)
	for _, h := range m.recorder.AllHolds() {
		holds[h.Address] = append(holds[h.Address], h)
	}
	var t takeover
	var first, last lab.Time
	for _, a := range m.addresses {
		down, up := began, lab.Time(0) // a host without power has lost it at the fault
		for _, h := range holds[a] {
			if h.Host == m.home.Name && h.To > began && !m.home.IsOff() {
				down = h.To
			}
			if h.Host != m.home.Name && h.From > began && up == 0 {
				up = h.From
			}
		}
		t.gap = max(t.gap, millis(up.Sub(down)))
		t.overlap = max(t.overlap, millis(down.Sub(up)))
		if first == 0 || up < first {
			first = up
		}
		last = max(last, up)
	}
	t.first, t.last, t.span = millis(first.Sub(began)), millis(last.Sub(began)), millis(last.Sub(first))
	t.stall = m.recorder.Stall(first.Add(-50*time.Millisecond), last)
	return t
}
