package brokers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/brokerd/commitlog"
	"holdfast/brokerd/record"
	"holdfast/test/lab"
)

func poll(ctx context.Context, f func() error) error { return lab.Poll(ctx, 100*time.Millisecond, f) }

// same stops all brokers and compares their logs: each place has the same record on every
// replica that has it.
func (s *stage) same(ctx context.Context) {
	s.t.Helper()
	var first map[uint64]uint32
	for i, h := range s.cluster.Network.Hosts {
		p, _ := s.cluster.Broker(h)
		check(s.t, p.Stop(ctx))
		sums, err := checksums(s.cluster.BrokerDir(h))
		if err != nil {
			s.t.Fatalf("read the log of %s: %v", h.Name, err)
		}
		if i == 0 {
			first = sums
			continue
		}
		common := 0
		for offset, sum := range sums {
			other, ok := first[offset]
			if ok && other != sum {
				s.t.Fatalf("at %d of the log %s has another record than the first host", offset, h.Name)
			}
			if ok {
				common++
			}
		}
		if common == 0 {
			s.t.Errorf("the log of %s has no record in common with that of the first host", h.Name)
		}
	}
	s.t.Logf("%d records are the same on all replicas", len(first))
}

// checksums are those of a log's records, by their offset.
func checksums(path string) (sums map[uint64]uint32, err error) {
	dir, err := commitlog.OpenDir(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	log, _, err := commitlog.Open(dir, commitlog.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	sums = make(map[uint64]uint32)
	for at := log.First(); at < log.End(); {
		b, err := log.Read(nil, at, 1<<20)
		if err != nil {
			return nil, err
		}
		for len(b) > 0 {
			h, err := record.Parse(b)
			if err != nil {
				return nil, fmt.Errorf("record at %d: %w", at, err)
			}
			sums[h.Offset] = h.Checksum
			at, b = h.End(), b[h.Length:]
		}
	}
	return sums, nil
}
