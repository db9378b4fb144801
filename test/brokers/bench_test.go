package brokers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"holdfast/test/lab"
	"holdfast/test/lab/history"
)

// benchLength is how long each combination sends.
const benchLength = 8 * time.Second

// BenchmarkBroker measures a group of three brokers on this machine's disk, with the
// official client on the same machine: messages of 1 KiB per second, how long an
// acknowledgement takes, what a message costs the brokers, and their memory.
func BenchmarkBroker(b *testing.B) {
	for _, flush := range []string{"sync", "async"} {
		for _, mode := range []string{"sync", "async"} {
			for _, producers := range []int{1, 64} {
				b.Run(fmt.Sprintf("mode=%s/flush=%s/producers=%d", mode, flush, producers), func(b *testing.B) {
					for b.Loop() {
						benchmark(b, mode, flush, producers)
					}
				})
			}
		}
	}
}

func benchmark(b *testing.B, mode, flush string, producers int) {
	ctx, cancel := context.WithTimeout(b.Context(), 3*time.Minute)
	defer cancel()
	data, err := filepath.Abs("../out/bench-broker")
	check(b, err)
	check(b, os.RemoveAll(data))
	check(b, os.MkdirAll(data, 0o755))
	defer os.RemoveAll(data)
	s := newStage(ctx, b, data, "commitlog: {flush: "+flush+"}\n", "--mode", mode)
	before := s.cpu()
	pressure := lab.Pressure()
	l := s.start(benchLength, "-producers", fmt.Sprint(producers), "-readers", "0", "-drain", "1ms")
	select {
	case <-l.process.Done():
	case <-ctx.Done():
		b.Fatal("the client does not come to its end")
	}
	stall := lab.Pressure() - pressure
	cost := s.cpu() - before
	latencies, took := s.latencies(l)
	if len(latencies) == 0 {
		b.Fatal("nothing was stored")
	}
	at := func(q float64) float64 {
		return float64(latencies[min(len(latencies)-1, int(q*float64(len(latencies))))].Microseconds()) / 1000
	}
	b.ReportMetric(float64(len(latencies))/took.Seconds(), "messages/s")
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(at(0.999), "p99.9-ms")
	b.ReportMetric(float64(cost.Microseconds())/float64(len(latencies)), "cpu-us/message")
	b.ReportMetric(float64(s.memory())/(1<<20), "MiB-largest")
	b.ReportMetric(float64(stall.Microseconds())/1000, "stall-ms")
	b.ReportMetric(0, "ns/op") // one run is what is measured
}

// cpu is what all brokers have used so far.
func (s *stage) cpu() (sum time.Duration) {
	for _, h := range s.cluster.Network.Hosts {
		p, _ := s.cluster.Broker(h)
		sum += p.CPUNow()
	}
	return sum
}

// memory is that of the largest broker, in bytes.
func (s *stage) memory() (most int64) {
	for _, h := range s.cluster.Network.Hosts {
		p, _ := s.cluster.Broker(h)
		most = max(most, p.Memory())
	}
	return most
}

// latencies are those of all stored messages, sorted, and how long it took to store them.
func (s *stage) latencies(l *load) (out []time.Duration, took time.Duration) {
	f, err := os.Open(l.history)
	check(s.t, err)
	defer f.Close()
	begun := make(map[string]int64)
	var first, last int64
	check(s.t, history.Each(f, func(e history.Event) {
		switch e.Kind {
		case history.Send:
			begun[e.Message] = e.At
			if first == 0 {
				first = e.At
			}
		case history.Stored:
			out = append(out, time.Duration(e.At-begun[e.Message]))
			last = e.At
		}
	}))
	slices.Sort(out)
	return out, time.Duration(last - first)
}
