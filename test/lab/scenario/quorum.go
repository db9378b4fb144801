package scenario

import (
	"context"
	"fmt"
	"time"

	"holdfast/test/lab"
)

// QuorumLost kills two of three coordinators, waits until the addresses are
// down, and brings one back: that is time zero, for from then on two of three
// can agree.
func QuorumLost() Scenario {
	return Scenario{
		Name: "quorum-lost", Title: "two of three coordinators gone, then one of them back",
		Promise: func(time.Duration) Promise { return Promise{Gap: 2 * time.Second} },
		Prepare: func(ctx context.Context, s *Stage) error { return s.loseQuorum(ctx) },
		Fault: func(_ context.Context, s *Stage) error {
			for _, h := range s.Cluster.Config().Coordinators {
				if !s.Cluster.Coordinator(h).Running() {
					_, err := s.Cluster.StartCoordinator(h)
					return err
				}
			}
			return fmt.Errorf("every coordinator runs")
		},
		Watch: 3 * time.Second,
	}
}

// loseQuorum kills two coordinators and waits until no host has the addresses.
func (s *Stage) loseQuorum(ctx context.Context) error {
	var killed int
	for _, h := range s.Cluster.Config().Coordinators {
		if h == s.Holder || killed == 2 {
			continue
		}
		if err := s.Cluster.Coordinator(h).Kill(); err != nil {
			return err
		}
		killed++
	}
	began := lab.Now()
	limited, cancel := context.WithTimeout(ctx, s.TTL+2*time.Second)
	defer cancel()
	return lab.Poll(limited, 5*time.Millisecond, func() error {
		for _, vip := range s.VIPs {
			if holders := s.Recorder.Holders(vip); len(holders) > 0 {
				return fmt.Errorf("%v still have %s, %v after the quorum was lost", holders, vip, lab.Now().Sub(began))
			}
		}
		return nil
	})
}
