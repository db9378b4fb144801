package brokerd

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatchdog: a turn that does not end is noticed, one after the other is not.
func TestWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &Broker{}
		hung := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { b.watchdog(ctx, hung); close(done) }()
		for turn := range int64(100) { // each is long, and ends
			b.turning.Store(turn + 1)
			time.Sleep(stuck - stuck/stuckTicks)
			b.turning.Store(0)
		}
		time.Sleep(time.Minute) // it waits
		select {
		case err := <-hung:
			t.Fatalf("%v", err)
		default:
		}
		b.turning.Store(77)
		began := time.Now()
		if err := <-hung; !errors.Is(err, ErrStuck) || time.Since(began) < stuck || time.Since(began) > stuck+2*stuck/stuckTicks {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		cancel()
		<-done
	})
}
