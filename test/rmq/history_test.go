package rmq_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"holdfast/test/lab/history"
	"holdfast/test/rmq/recorder"
)

// Load while groups lose their masters, in turn and both at once, and while confirmations
// stop: the history is clean.
func TestHistory(t *testing.T) {
	b := newBench(t, 2)
	ctx, stop := context.WithCancel(context.Background())
	faults := make(chan struct{})
	go func() {
		defer close(faults)
		tick := time.NewTicker(150 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			switch i % 8 {
			case 0:
				b.master(0, "nobody")
			case 1, 5:
				b.master(0, broker(0))
			case 2:
				b.master(1, "nobody")
			case 3:
				b.master(0, "nobody")
			case 4:
				b.logs[1].Hold(true)
				b.master(1, broker(1))
			case 6:
				b.logs[1].Hold(false)
			}
		}
	}()
	var out bytes.Buffer
	err := recorder.Run(ctx, recorder.Options{
		Endpoint: strings.Join(b.addrs, ";"), Topic: "orders", Consumers: "readers",
		Producers: 4, Readers: 4, Size: 100, For: 6 * time.Second, Drain: 40 * time.Second, Invisible: 10 * time.Second,
	}, &out)
	stop()
	<-faults
	if err != nil {
		t.Fatal(err)
	}
	j, err := history.Read(&out)
	if err != nil {
		t.Fatal(err)
	}
	r := j.Report()
	t.Log(r)
	if len(r.Violations) > 0 || r.Lost > 0 {
		t.Error("the history is not clean")
	}
	if r.Stored < 100 {
		t.Errorf("only %d messages were stored", r.Stored)
	}
	if n := b.logs[0].Messages("orders") + b.logs[1].Messages("orders"); n < r.Stored {
		t.Errorf("%d messages in the logs", n)
	}
}
