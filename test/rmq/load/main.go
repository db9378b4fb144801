// Command load sends and receives messages with the official RocketMQ 5 client, writes
// down all that the client was told (holdfast/test/history), and prints a summary.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"

	"holdfast/test/history"
)

// options are the flags.
type options struct {
	endpoints, topic, out         string
	clients, producers, consumers int
	size                          int
	send, drain, timeout          time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.endpoints, "endpoints", "", "addresses of brokers, a:p;b:p")
	flag.StringVar(&o.topic, "topic", "load", "topic")
	flag.StringVar(&o.out, "out", "", "file of the history; empty: none is written")
	flag.IntVar(&o.clients, "clients", 1, "producer clients, each with its connections")
	flag.IntVar(&o.producers, "producers", 8, "messages on their way at one time")
	flag.IntVar(&o.consumers, "consumers", 0, "consumers, of one group")
	flag.IntVar(&o.size, "size", 1024, "bytes of a message")
	flag.DurationVar(&o.send, "for", 10*time.Second, "how long to send")
	flag.DurationVar(&o.drain, "drain", 90*time.Second, "how long consumers may take afterwards to get all that was acknowledged")
	flag.DurationVar(&o.timeout, "timeout", 3*time.Second, "of one send")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// Summary is printed at the end, as JSON.
type Summary struct {
	Sent, Acked, Failed, Got int64
	Seconds                  float64
	PerSecond                float64
	P50, P99, P999, Max      float64 // of acknowledged sends, ms
	Gap                      float64 // longest time without an acknowledgement, ms
	Missing                  int     // acknowledged and not delivered when it ended
	Errors                   map[string]int
}

func run(o options) error {
	for k, v := range map[string]string{"mq.consoleAppender.enabled": "false", "rocketmq.client.logLevel": "error", "rocketmq.client.logRoot": os.TempDir()} {
		if err := os.Setenv(k, v); err != nil {
			return err
		}
	}
	rmq.EnableSsl = false
	rmq.ResetLogger()
	r, err := newRecorder(o.out)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	for i := range o.consumers {
		c, err := startConsumer(o)
		if err != nil {
			return fmt.Errorf("start consumer %d: %w", i, err)
		}
		wg.Go(func() { consume(ctx, i, c, r) })
	}
	if err := produce(o, r); err != nil {
		return err
	}
	r.sent()
	if o.consumers > 0 {
		for late := time.Now().Add(o.drain); r.missing() > 0 && time.Now().Before(late); {
			time.Sleep(100 * time.Millisecond)
		}
	}
	cancel()
	wg.Wait()
	return r.close()
}

func config(o options, group string) *rmq.Config {
	return &rmq.Config{Endpoint: o.endpoints, ConsumerGroup: group, Credentials: &credentials.SessionCredentials{}}
}

func produce(o options, r *recorder) error {
	var clients []rmq.Producer
	for range o.clients {
		p, err := rmq.NewProducer(config(o, ""), rmq.WithTopics(o.topic))
		if err != nil {
			return err
		}
		if err := p.Start(); err != nil {
			return fmt.Errorf("start producer: %w", err)
		}
		clients = append(clients, p)
	}
	r.begin()
	end := time.Now().Add(o.send)
	var wg sync.WaitGroup
	for i := range o.producers {
		wg.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				send(o, r, clients[i%len(clients)], fmt.Sprintf("%d-%d", i, n))
			}
		})
	}
	wg.Wait()
	return nil
}

func send(o options, r *recorder, p rmq.Producer, id string) {
	body := []byte(id + " ")
	if len(body) < o.size {
		body = append(body, make([]byte, o.size-len(body))...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.timeout)
	defer cancel()
	r.write(history.Event{Kind: history.Sent, Message: id})
	began := time.Now()
	if _, err := p.Send(ctx, &rmq.Message{Topic: o.topic, Body: body}); err != nil {
		r.failed(id, err)
		return
	}
	r.acked(id, time.Since(began))
}

const (
	// awaitFor is how long a request for messages may wait, invisible how long what it
	// brings is another consumer's not; RocketMQ allows no less than ten seconds.
	awaitFor  = 5 * time.Second
	invisible = 10 * time.Second
)

func startConsumer(o options) (rmq.SimpleConsumer, error) {
	c, err := rmq.NewSimpleConsumer(config(o, "load"), rmq.WithSimpleAwaitDuration(awaitFor),
		rmq.WithSimpleSubscriptionExpressions(map[string]*rmq.FilterExpression{o.topic: rmq.SUB_ALL}))
	if err != nil {
		return nil, err
	}
	return c, c.Start()
}

func consume(ctx context.Context, consumer int, c rmq.SimpleConsumer, r *recorder) {
	for ctx.Err() == nil {
		list, err := c.Receive(ctx, 32, invisible)
		if err != nil {
			continue
		}
		for _, m := range list {
			id, _, _ := strings.Cut(string(m.GetBody()), " ")
			r.got(id, consumer, m)
			if c.Ack(context.Background(), m) == nil {
				r.write(history.Event{Kind: history.Settled, Message: id})
			}
		}
	}
}

// recorder writes the history down and counts.
type recorder struct {
	begun time.Time
	took  time.Duration
	file  *os.File

	mu        sync.Mutex
	buf       *bufio.Writer
	latencies []time.Duration
	last      time.Time
	gap       time.Duration
	open      map[string]bool // acknowledged, and not delivered yet
	early     map[string]bool // delivered before it was acknowledged
	errors    map[string]int

	nSent, nFailed, nGot atomic.Int64
}

func newRecorder(path string) (*recorder, error) {
	r := &recorder{begun: time.Now(), open: map[string]bool{}, early: map[string]bool{}, errors: map[string]int{}}
	if path == "" {
		return r, nil
	}
	var err error
	r.file, err = os.Create(path)
	r.buf = bufio.NewWriterSize(r.file, 1<<20)
	return r, err
}

func (r *recorder) begin() { r.begun, r.last = time.Now(), time.Now() }
func (r *recorder) sent()  { r.took = time.Since(r.begun) }

func (r *recorder) write(e history.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writeLocked(e)
}

func (r *recorder) writeLocked(e history.Event) {
	if e.Kind == history.Sent {
		r.nSent.Add(1)
	}
	if r.buf == nil {
		return
	}
	e.At = time.Since(r.begun).Nanoseconds()
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // an event is plain data
	}
	_, _ = r.buf.Write(append(b, '\n')) // close tells
}

func (r *recorder) acked(id string, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.gap = max(r.gap, now.Sub(r.last))
	r.last = now
	r.latencies = append(r.latencies, took)
	if !r.early[id] {
		r.open[id] = true
	}
	delete(r.early, id)
	r.writeLocked(history.Event{Kind: history.Acked, Message: id})
}

func (r *recorder) failed(id string, err error) {
	r.nFailed.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	text := err.Error()
	r.errors[text[:min(len(text), 120)]]++
	r.writeLocked(history.Event{Kind: history.Failed, Message: id, Error: text})
}

func (r *recorder) got(id string, consumer int, m *rmq.MessageView) {
	r.nGot.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open[id] {
		delete(r.open, id)
	} else {
		r.early[id] = true
	}
	r.writeLocked(history.Event{Kind: history.Got, Message: id, Handle: m.GetReceiptHandle(), Attempt: m.GetDeliveryAttempt(), Consumer: consumer})
}

func (r *recorder) missing() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open)
}

func (r *recorder) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.buf != nil {
		if err := r.buf.Flush(); err != nil {
			return err
		}
		if err := r.file.Close(); err != nil {
			return err
		}
	}
	slices.Sort(r.latencies)
	at := func(q float64) float64 {
		if len(r.latencies) == 0 {
			return 0
		}
		return float64(r.latencies[min(len(r.latencies)-1, int(q*float64(len(r.latencies))))].Microseconds()) / 1000
	}
	n := int64(len(r.latencies))
	return json.NewEncoder(os.Stdout).Encode(Summary{
		Sent: r.nSent.Load(), Acked: n, Failed: r.nFailed.Load(), Got: r.nGot.Load(), Seconds: r.took.Seconds(),
		PerSecond: float64(n) / r.took.Seconds(), P50: at(0.5), P99: at(0.99), P999: at(0.999), Max: at(1),
		Gap: float64(r.gap.Microseconds()) / 1000, Missing: len(r.open), Errors: r.errors,
	})
}
