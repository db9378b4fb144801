// Package recorder makes load with the official RocketMQ client and records what
// producers and consumers are told, for the judge of test/lab/history.
package recorder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	golang "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"
	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
	"golang.org/x/sync/errgroup"

	"holdfast/test/lab/history"
)

// Options is what is to be done.
type Options struct {
	Endpoint  string // host:port;host:port
	Topic     string
	Consumers string          // consumer group
	Producers int             // each sends one message after the other
	Readers   int             // simple consumers
	Size      int             // bytes of a body, at least
	Every     time.Duration   // between a producer's sends; 0: as fast as they are stored
	For       time.Duration   // how long producers send
	Drain     time.Duration   // how long readers wait for what is missing after that, at most
	Invisible time.Duration   // of what readers receive
	Until     context.Context // ends the sending before its time; nil: nothing does
}

// Run does it, and writes the history. Only one runs at a time in a process. It ends early
// without an error if ctx is done.
func Run(ctx context.Context, o Options, out io.Writer) error {
	r := &run{o: o, wire: newWire(), w: history.NewWriter(out), missing: map[string]bool{}, got: map[string]bool{}, changed: make(chan struct{}, 1)}
	defer r.wire.install()()
	readers, stopReaders := context.WithCancel(ctx)
	defer stopReaders()
	reading, readers := errgroup.WithContext(readers)
	var ready sync.WaitGroup
	for i := range o.Readers {
		ready.Add(1)
		reading.Go(func() error { return r.read(readers, fmt.Sprint("c", i), ready.Done) })
	}
	ready.Wait()
	limited, cancel := context.WithTimeout(ctx, o.For)
	defer cancel()
	if o.Until != nil {
		defer context.AfterFunc(o.Until, cancel)()
	}
	sending, limited := errgroup.WithContext(limited)
	for i := range o.Producers {
		sending.Go(func() error { return r.produce(limited, fmt.Sprint("p", i)) })
	}
	err := sending.Wait()
	if err == nil {
		r.drain(readers)
	}
	stopReaders()
	return errors.Join(err, reading.Wait(), r.err)
}

// run is what producers and readers share.
type run struct {
	o    Options
	wire *wire

	mu      sync.Mutex
	w       *history.Writer
	err     error           // of writing
	missing map[string]bool // stored and not received
	got     map[string]bool // received
	changed chan struct{}
}

// add writes an event with the time of now.
func (r *run) add(e history.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.At = time.Now().UnixNano()
	if err := r.w.Write(e); err != nil && r.err == nil {
		r.err = err
	}
	switch {
	case e.Kind == history.Received:
		r.got[e.Message] = true
		delete(r.missing, e.Message)
	case e.Kind == history.Stored && !r.got[e.Message]:
		r.missing[e.Message] = true
	}
	if len(r.missing) == 0 {
		select {
		case r.changed <- struct{}{}:
		default:
		}
	}
}

// drain waits until all that is stored was received, or the time is over.
func (r *run) drain(ctx context.Context) {
	over := time.NewTimer(r.o.Drain)
	defer over.Stop()
	for {
		r.mu.Lock()
		left := len(r.missing)
		r.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-r.changed:
		case <-over.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (r *run) config() *golang.Config {
	return &golang.Config{Endpoint: r.o.Endpoint, ConsumerGroup: r.o.Consumers, Credentials: &credentials.SessionCredentials{}}
}

func (r *run) produce(ctx context.Context, client string) error {
	p, err := golang.NewProducer(r.config(), golang.WithTopics(r.o.Topic))
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		return fmt.Errorf("start producer %s: %w", client, err)
	}
	defer p.GracefulStop()
	for i := 0; ctx.Err() == nil; i++ {
		name := fmt.Sprintf("%s-%07d", client, i)
		m := &golang.Message{Topic: r.o.Topic, Body: []byte(name + strings.Repeat(".", max(r.o.Size-len(name), 0)))}
		m.AddProperty(nameProperty, name)
		r.add(history.Event{Kind: history.Send, Client: client, Message: name})
		// Not ctx: a send that was begun is waited for.
		receipts, err := p.Send(context.WithoutCancel(ctx), m)
		e := history.Event{Kind: history.Stored, Client: client, Message: name}
		if err != nil {
			e.Kind, e.Definite, e.Error = history.Failed, r.wire.definite(name), err.Error()
		} else {
			e.Offset, e.ID = receipts[0].Offset, receipts[0].MessageID
		}
		r.add(e)
		if r.o.Every > 0 {
			select {
			case <-time.After(r.o.Every):
			case <-ctx.Done():
			}
		}
	}
	return nil
}

func (r *run) read(ctx context.Context, client string, ready func()) error {
	c, err := golang.NewSimpleConsumer(r.config(),
		golang.WithSimpleAwaitDuration(5*time.Second),
		golang.WithSimpleSubscriptionExpressions(map[string]*golang.FilterExpression{r.o.Topic: golang.SUB_ALL}))
	if err == nil {
		err = c.Start()
	}
	ready()
	if err != nil {
		return fmt.Errorf("start consumer %s: %w", client, err)
	}
	defer c.GracefulStop()
	for ctx.Err() == nil {
		views, err := c.Receive(ctx, 16, r.o.Invisible)
		if err != nil {
			// Nothing to deliver is an error to this client; others must not spin either.
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		for _, v := range views {
			r.received(ctx, client, c, v)
		}
	}
	return nil
}

func (r *run) received(ctx context.Context, client string, c golang.SimpleConsumer, v *golang.MessageView) {
	handle := v.GetReceiptHandle()
	at := r.wire.place(handle)
	e := history.Event{Kind: history.Received, Client: client, Message: v.GetProperties()[nameProperty], ID: v.GetMessageId(),
		Consumers: r.o.Consumers, Topic: v.GetTopic(), Group: at.group, Queue: at.queue, Offset: at.offset, Attempt: v.GetDeliveryAttempt()}
	r.add(e)
	err := c.Ack(context.WithoutCancel(ctx), v)
	e.Kind = history.Acked
	// This client hides codes.
	if code := r.wire.acked(handle); err != nil || code != v2.Code_OK {
		e.Kind, e.Error = history.Unacked, fmt.Sprint(code, err)
	}
	r.add(e)
}
