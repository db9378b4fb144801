package rmq_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	golang "github.com/apache/rocketmq-clients/golang/v5"
)

// A producer and a simple consumer: what is sent to two groups through either broker is
// received and acknowledged.
func TestSimpleConsumer(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	p, c := b.producer(), b.simple("readers", 5*time.Second)
	bodies := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	ids := b.send(p, bodies...)
	for i, l := range b.logs {
		if n := l.Messages("orders"); n != len(bodies)/2 {
			t.Errorf("%d messages in group %d", n, i)
		}
	}
	got := b.receive(c, len(bodies))
	for i, body := range bodies {
		v := got[body]
		if v.GetMessageId() != ids[i] || *v.GetTag() != "tag-"+body || v.GetKeys()[0] != "key-"+body ||
			v.GetProperties()["from"] != "test" || v.GetDeliveryAttempt() != 1 || v.GetTopic() != "orders" {
			t.Errorf("%s is %+v", body, v)
		}
		if err := c.Ack(context.Background(), v); err != nil {
			t.Error(err)
		}
	}
}

// A message whose invisible time was changed comes again at that time, and not before.
func TestChangeInvisible(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	p, c := b.producer(), b.simple("readers", 5*time.Second)
	b.send(p, "a")
	v := b.receive(c, 1)["a"]
	old := v.GetReceiptHandle()
	start := time.Now()
	if err := c.ChangeInvisibleDuration(v, 1500*time.Millisecond); err != nil || v.GetReceiptHandle() == old {
		t.Fatal(err)
	}
	again := b.receive(c, 1)["a"]
	if d := time.Since(start); d < 1400*time.Millisecond || d > 4*time.Second || again.GetDeliveryAttempt() != 2 {
		t.Errorf("attempt %d after %v", again.GetDeliveryAttempt(), d)
	}
}

// An empty poll is held, and a message ends it.
func TestPollIsHeld(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	p, c := b.producer(), b.simple("readers", 5*time.Second)
	start := time.Now()
	views, err := c.Receive(context.Background(), 1, 20*time.Second)
	if d := time.Since(start); len(views) > 0 || err == nil || d < 5*time.Second {
		t.Errorf("%d messages, %v after %v", len(views), err, d)
	}
	sent := make(chan time.Time, 1)
	time.AfterFunc(time.Second, func() {
		sent <- time.Now()
		b.send(p, "a")
	})
	if _, err := c.Receive(context.Background(), 1, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(<-sent); d > 500*time.Millisecond {
		t.Errorf("received %v after it was sent", d)
	}
}

// A push consumer takes all, gets what it refuses again, and what it refuses too often
// goes to the dead letter topic.
func TestPushConsumer(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	p := b.producer()
	var mu sync.Mutex
	attempts := map[string][]int32{}
	c, err := golang.NewPushConsumer(b.config("workers"),
		golang.WithPushAwaitDuration(5*time.Second),
		golang.WithPushSubscriptionExpressions(map[string]*golang.FilterExpression{"orders": golang.SUB_ALL}),
		golang.WithPushMessageListener(&golang.FuncMessageListener{Consume: func(v *golang.MessageView) golang.ConsumerResult {
			mu.Lock()
			defer mu.Unlock()
			body := string(v.GetBody())
			attempts[body] = append(attempts[body], v.GetDeliveryAttempt())
			if body == "bad" || body == "once" && len(attempts[body]) == 1 {
				return golang.FAILURE
			}
			return golang.SUCCESS
		}}))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, stop := range b.stops {
			stop() // or the consumer waits until its polls are over
		}
		c.GracefulStop()
	})
	for i := range 20 {
		b.send(p, fmt.Sprint("m", i))
	}
	b.send(p, "once", "bad")
	want := func() bool {
		mu.Lock()
		defer mu.Unlock()
		dead := 0
		for _, l := range b.logs {
			dead += l.Messages("%DLQ%workers")
		}
		return len(attempts) == 22 && len(attempts["once"]) == 2 && len(attempts["bad"]) == maxAttempts && dead == 1
	}
	deadline := time.Now().Add(40 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !want() {
		if <-tick.C; time.Now().After(deadline) {
			mu.Lock()
			defer mu.Unlock()
			t.Fatalf("attempts %v", attempts)
		}
	}
	for body, a := range attempts {
		for i, n := range a {
			if int(n) != i+1 {
				t.Errorf("%s: attempts %v", body, a)
			}
		}
	}
}

// With one group without a master no send fails; with none for a while, sends wait.
func TestProducerGoesOn(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	p := b.producer()
	b.master(0, "")
	for i := range 20 {
		b.send(p, fmt.Sprint("one down ", i))
	}
	b.master(1, "")
	time.AfterFunc(time.Second, func() { b.master(0, broker(0)) })
	start := time.Now()
	b.send(p, "waits")
	if d := time.Since(start); d < 900*time.Millisecond || d > 2*time.Second {
		t.Errorf("sent after %v", d)
	}
	if n := b.logs[0].Messages("orders"); n != 1 {
		t.Errorf("%d messages in group 0", n)
	}
}

// A broker stops while a producer sends: the route's other addresses take over, and the
// group that stays has the messages.
func TestBrokerStops(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	p := b.producer()
	var failed atomic.Int32
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var sent atomic.Int32
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := p.Send(context.Background(), &golang.Message{Topic: "orders", Body: fmt.Append(nil, i)}); err != nil {
				t.Log(err)
				failed.Add(1)
			}
			sent.Add(1)
		}
	})
	until := func(n int32) {
		t.Helper()
		deadline := time.Now().Add(20 * time.Second)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for sent.Load() < n {
			if <-tick.C; time.Now().After(deadline) {
				t.Fatal("sends have stopped at", sent.Load())
			}
		}
	}
	until(50)
	b.stops[0]() // its lease is still there: the other broker finds it gone
	until(sent.Load() + 200)
	b.master(0, "")
	b.cluster.Broker(broker(0), "")
	until(sent.Load() + 200)
	close(stop)
	wg.Wait()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of %d sends failed", n, sent.Load())
	}
}
