package raftnode

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// report prints the median and the 99th percentile of b's samples.
func report(b *testing.B, samples []time.Duration) {
	slices.Sort(samples)
	at := func(p float64) float64 {
		return float64(samples[int(p*float64(len(samples)-1))].Microseconds()) / 1000
	}
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkPropose commits one entry after the other on three nodes on
// loopback whose stores share this machine's disk.
func BenchmarkPropose(b *testing.B) {
	c := newCluster(b, 3, nil)
	lead := c.leader()
	data := make([]byte, 300)
	var samples []time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := lead.Propose(b.Context(), data); err != nil {
			lead = c.leader() // this machine stood still for too long
			continue
		}
		samples = append(samples, time.Since(start))
	}
	report(b, samples)
}

// BenchmarkFollowerApplies is from Propose until both followers have applied
// the entry, with nothing behind it.
func BenchmarkFollowerApplies(b *testing.B) {
	c := newCluster(b, 3, nil)
	lead := c.leader()
	followers := c.others(lead)
	var samples []time.Duration
	for b.Loop() {
		start := time.Now()
		index, err := lead.Propose(b.Context(), []byte("x"))
		if err != nil {
			lead = c.leader()
			followers = c.others(lead)
			continue
		}
		for _, f := range followers {
			for f.State().Applied < index.(uint64) {
				runtime.Gosched()
			}
		}
		samples = append(samples, time.Since(start))
	}
	report(b, samples)
}

func BenchmarkMark(b *testing.B) {
	s, err := OpenLeaseStore(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	var samples []time.Duration
	for id := uint64(1); b.Loop(); id++ {
		start := time.Now()
		if err := s.Mark(id); err != nil {
			b.Fatal(err)
		}
		samples = append(samples, time.Since(start))
	}
	report(b, samples)
}

// BenchmarkDiskSync is what one synced write costs here: the yardstick.
func BenchmarkDiskSync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	var samples []time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := f.WriteAt(page, 0); err != nil {
			b.Fatal(err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
		samples = append(samples, time.Since(start))
	}
	report(b, samples)
}
