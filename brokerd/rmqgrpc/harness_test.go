package rmqgrpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	"holdfast/brokerd/pop"
	"holdfast/brokerd/rmqgrpc"
	"holdfast/brokerd/service"
	"holdfast/test/memlog"
)

// bench is some brokers, each the master of its own group, and a client of each.
type bench struct {
	t       *testing.T
	cluster *memlog.Cluster
	logs    []*memlog.Log
	addrs   []string
	clients []v2.MessagingServiceClient
	stops   []func() // return when the server has stopped
}

func broker(i int) string { return fmt.Sprint("broker-", i) }
func group(i int) string  { return fmt.Sprint("group-", i) }

// newBench starts brokers in front of the given replicas; nil is one of memlog.
func newBench(t *testing.T, locals ...rmqgrpc.Local) *bench {
	t.Helper()
	b := &bench{t: t, cluster: &memlog.Cluster{}}
	for i := range locals {
		b.logs = append(b.logs, b.cluster.Group(group(i), broker(i)))
	}
	b.cluster.Topic("orders", 2)
	for i, local := range locals {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if local == nil {
			local = &memlog.Replica{Log: b.logs[i], Broker: broker(i), MaxAttempts: 3}
		}
		b.start(rmqgrpc.Config{Broker: broker(i), Group: group(i), Listener: l}, local)
		b.cluster.Broker(broker(i), l.Addr().String())
		b.master(i, broker(i))
	}
	return b
}

func (b *bench) start(c rmqgrpc.Config, local rmqgrpc.Local) {
	c.Log = slog.New(slog.NewTextHandler(b.t.Output(), nil))
	b.addrs = append(b.addrs, c.Listener.Addr().String())
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := rmqgrpc.New(c, local, b.cluster).Run(ctx); err != nil {
			b.t.Error(err)
		}
	})
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	b.stops = append(b.stops, stop)
	b.t.Cleanup(stop)
	conn, err := grpc.NewClient("passthrough:///"+c.Listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	b.clients = append(b.clients, v2.NewMessagingServiceClient(conn))
}

func (b *bench) master(g int, name string) {
	b.t.Helper()
	if err := b.cluster.Master(group(g), name); err != nil {
		b.t.Fatal(err)
	}
}

// as returns the context of a client's call, with that much time.
func (b *bench) as(id string, d time.Duration, keys ...string) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	b.t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, append([]string{"x-mq-client-id", id}, keys...)...)
}

func message(body string, change ...func(*v2.Message)) *v2.Message {
	m := &v2.Message{
		Topic:            &v2.Resource{Name: "orders"},
		Body:             []byte(body),
		SystemProperties: &v2.SystemProperties{MessageId: "id-" + body, MessageType: v2.MessageType_NORMAL, BodyEncoding: v2.Encoding_IDENTITY},
	}
	for _, f := range change {
		f(m)
	}
	return m
}

// send sends through a broker, and returns the code.
func (b *bench) send(at int, d time.Duration, messages ...*v2.Message) v2.Code {
	b.t.Helper()
	r, err := b.clients[at].SendMessage(b.as("producer", d), &v2.SendMessageRequest{Messages: messages})
	if err != nil {
		b.t.Fatal(err)
	}
	if r.GetStatus().GetCode() == v2.Code_OK {
		for i, e := range r.GetEntries() {
			if e.GetMessageId() != messages[i].GetSystemProperties().GetMessageId() || e.GetStatus().GetCode() != v2.Code_OK {
				b.t.Fatalf("entry %d: %v", i, e)
			}
		}
	}
	return r.GetStatus().GetCode()
}

func poll(g int, change ...func(*v2.ReceiveMessageRequest)) *v2.ReceiveMessageRequest {
	r := &v2.ReceiveMessageRequest{
		Group:             &v2.Resource{Name: "readers"},
		MessageQueue:      &v2.MessageQueue{Topic: &v2.Resource{Name: "orders"}, Broker: &v2.Broker{Name: group(g)}},
		FilterExpression:  &v2.FilterExpression{Type: v2.FilterType_TAG, Expression: "*"},
		BatchSize:         32,
		InvisibleDuration: durationpb.New(20 * time.Second),
	}
	for _, f := range change {
		f(r)
	}
	return r
}

// receive polls, and returns the code and the messages.
func (b *bench) receive(at int, d time.Duration, r *v2.ReceiveMessageRequest) (v2.Code, []*v2.Message) {
	b.t.Helper()
	stream, err := b.clients[at].ReceiveMessage(b.as("consumer", d), r)
	if err != nil {
		b.t.Fatal(err)
	}
	var code v2.Code
	var found []*v2.Message
	stamp := false
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if (code == v2.Code_OK) != stamp {
				b.t.Fatalf("code %v, delivery timestamp %t", code, stamp)
			}
			return code, found
		}
		if err != nil {
			b.t.Fatal(err)
		}
		switch c := m.GetContent().(type) {
		case *v2.ReceiveMessageResponse_Status:
			if code != 0 {
				b.t.Fatal("two statuses")
			}
			code = c.Status.GetCode()
		case *v2.ReceiveMessageResponse_Message:
			if code != v2.Code_OK || stamp {
				b.t.Fatal("a message out of order")
			}
			found = append(found, c.Message)
		case *v2.ReceiveMessageResponse_DeliveryTimestamp:
			stamp = true
		}
	}
}

func (b *bench) ack(at int, messages ...*v2.Message) *v2.AckMessageResponse {
	b.t.Helper()
	r := &v2.AckMessageRequest{Group: &v2.Resource{Name: "readers"}, Topic: &v2.Resource{Name: "orders"}}
	for _, m := range messages {
		p := m.GetSystemProperties()
		r.Entries = append(r.Entries, &v2.AckMessageEntry{MessageId: p.GetMessageId(), ReceiptHandle: p.GetReceiptHandle()})
	}
	reply, err := b.clients[at].AckMessage(b.as("consumer", 3*time.Second), r)
	if err != nil {
		b.t.Fatal(err)
	}
	return reply
}

// scripted is a replica of which a test writes what it needs.
type scripted struct {
	rmqgrpc.Local
	send    func(context.Context, service.Send) (uint64, error)
	receive func(ctx, waiting context.Context, r service.Receive) ([]service.Delivery, error)
	delay   func(context.Context, service.Delay) ([]service.Settlement, error)
}

func (s *scripted) Send(ctx context.Context, m service.Send) (uint64, error) { return s.send(ctx, m) }
func (s *scripted) Receive(ctx, waiting context.Context, r service.Receive) ([]service.Delivery, error) {
	return s.receive(ctx, waiting, r)
}
func (s *scripted) Delay(ctx context.Context, d service.Delay) ([]service.Settlement, error) {
	return s.delay(ctx, d)
}
func (s *scripted) Ack(context.Context, []pop.Handle) ([]pop.Verdict, error) {
	return nil, service.ErrNotMaster
}

func bodies(messages []*v2.Message) string {
	var all []string
	for _, m := range messages {
		all = append(all, string(m.GetBody()))
	}
	return strings.Join(all, " ")
}
