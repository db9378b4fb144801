package rmqgrpc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/durationpb"

	"holdfast/brokerd/rmqgrpc"
	"holdfast/test/memlog"
)

type answer interface{ GetStatus() *v2.Status }

// Every call needs a client's id, and the first of several counts.
func TestClientID(t *testing.T) {
	b := newBench(t, nil)
	c := b.clients[0]
	calls := map[string]func(context.Context) (answer, error){
		"route":     func(ctx context.Context) (answer, error) { return c.QueryRoute(ctx, &v2.QueryRouteRequest{}) },
		"heartbeat": func(ctx context.Context) (answer, error) { return c.Heartbeat(ctx, &v2.HeartbeatRequest{}) },
		"send":      func(ctx context.Context) (answer, error) { return c.SendMessage(ctx, &v2.SendMessageRequest{}) },
		"assign":    func(ctx context.Context) (answer, error) { return c.QueryAssignment(ctx, &v2.QueryAssignmentRequest{}) },
		"ack":       func(ctx context.Context) (answer, error) { return c.AckMessage(ctx, &v2.AckMessageRequest{}) },
		"dead": func(ctx context.Context) (answer, error) {
			return c.ForwardMessageToDeadLetterQueue(ctx, &v2.ForwardMessageToDeadLetterQueueRequest{})
		},
		"change": func(ctx context.Context) (answer, error) {
			return c.ChangeInvisibleDuration(ctx, &v2.ChangeInvisibleDurationRequest{})
		},
		"terminate": func(ctx context.Context) (answer, error) {
			return c.NotifyClientTermination(ctx, &v2.NotifyClientTerminationRequest{})
		},
		"telemetry": func(ctx context.Context) (answer, error) {
			s, err := c.Telemetry(ctx)
			if err != nil {
				return nil, err
			}
			if err := s.Send(&v2.TelemetryCommand{}); err != nil {
				return nil, err
			}
			return s.Recv()
		},
		"receive": func(ctx context.Context) (answer, error) {
			s, err := c.ReceiveMessage(ctx, &v2.ReceiveMessageRequest{})
			if err != nil {
				return nil, err
			}
			return s.Recv()
		},
	}
	for name, call := range calls {
		for id, want := range map[string]bool{" ": true, "client": false} {
			if name == "telemetry" && !want {
				continue
			}
			r, err := call(b.as(id, time.Second, "x-mq-client-id", "again"))
			if err != nil {
				t.Fatal(name, err)
			}
			if got := r.GetStatus().GetCode() == v2.Code_CLIENT_ID_REQUIRED; got != want {
				t.Errorf("%s with client id %q: %v", name, id, r.GetStatus())
			}
		}
	}
}

func TestUnserved(t *testing.T) {
	b := newBench(t, nil)
	ctx, c := b.as("client", time.Second), b.clients[0]
	pull, err := c.PullMessage(ctx, &v2.PullMessageRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func() (answer, error){
		"pull":   func() (answer, error) { return pull.Recv() },
		"update": func() (answer, error) { return c.UpdateOffset(ctx, &v2.UpdateOffsetRequest{}) },
		"get":    func() (answer, error) { return c.GetOffset(ctx, &v2.GetOffsetRequest{}) },
		"query":  func() (answer, error) { return c.QueryOffset(ctx, &v2.QueryOffsetRequest{}) },
		"end":    func() (answer, error) { return c.EndTransaction(ctx, &v2.EndTransactionRequest{}) },
		"recall": func() (answer, error) { return c.RecallMessage(ctx, &v2.RecallMessageRequest{}) },
	} {
		if r, err := call(); err != nil || r.GetStatus().GetCode() != v2.Code_NOT_IMPLEMENTED {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
}

func TestRoute(t *testing.T) {
	b := newBench(t, nil, nil)
	b.master(0, "") // a route does not change with masters
	topic := &v2.Resource{Name: "orders"}
	r, err := b.clients[1].QueryRoute(b.as("client", time.Second), &v2.QueryRouteRequest{Topic: topic})
	if err != nil || r.GetStatus().GetCode() != v2.Code_OK {
		t.Fatal(r, err)
	}
	want := []struct {
		group string
		id    int32
	}{{group(0), 0}, {group(1), 0}, {group(0), 1}, {group(1), 1}}
	if len(r.GetMessageQueues()) != len(want) {
		t.Fatal(r)
	}
	for i, q := range r.GetMessageQueues() {
		e := q.GetBroker().GetEndpoints()
		if q.GetBroker().GetName() != want[i].group || q.GetId() != want[i].id || q.GetBroker().GetId() != 0 ||
			e.GetScheme() != v2.AddressScheme_IPv4 || len(e.GetAddresses()) != 2 || q.GetPermission() != v2.Permission_READ_WRITE {
			t.Errorf("queue %d is %v", i, q)
		}
	}
	b.cluster.Broker("broker-2", "[::1]:8081")
	b.cluster.Broker("broker-3", "mq.example:8081")
	r, err = b.clients[0].QueryRoute(b.as("client", time.Second), &v2.QueryRouteRequest{Topic: topic})
	if e := r.GetMessageQueues()[0].GetBroker().GetEndpoints(); err != nil || e.GetScheme() != v2.AddressScheme_DOMAIN_NAME || len(e.GetAddresses()) != 4 {
		t.Error(r, err)
	}
	a, err := b.clients[0].QueryAssignment(b.as("client", time.Second), &v2.QueryAssignmentRequest{Topic: topic, Group: &v2.Resource{Name: "g"}})
	if err != nil || len(a.GetAssignments()) != 2 || a.GetAssignments()[1].GetMessageQueue().GetId() != -1 {
		t.Error(a, err)
	}
	for name, code := range map[string]v2.Code{"other": v2.Code_TOPIC_NOT_FOUND, "%DLQ%g": v2.Code_TOPIC_NOT_FOUND, "a b": v2.Code_ILLEGAL_TOPIC} {
		r, err := b.clients[0].QueryRoute(b.as("client", time.Second), &v2.QueryRouteRequest{Topic: &v2.Resource{Name: name}})
		if err != nil || r.GetStatus().GetCode() != code {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	b.cluster.AutoCreate = 1
	r, err = b.clients[0].QueryRoute(b.as("client", time.Second), &v2.QueryRouteRequest{Topic: &v2.Resource{Name: "other", ResourceNamespace: "ns"}})
	if err != nil || len(r.GetMessageQueues()) != 2 || r.GetMessageQueues()[0].GetTopic().GetName() != "other" {
		t.Error(r, err)
	}
	if _, ok := b.cluster.View().Topic("ns%other"); !ok {
		t.Error("the namespace is not part of the topic's name")
	}
}

func TestTelemetry(t *testing.T) {
	b := newBench(t, nil)
	stream, err := b.clients[0].Telemetry(b.as("client", 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(s *v2.Settings) (*v2.Settings, v2.Code) {
		t.Helper()
		if err := stream.Send(&v2.TelemetryCommand{Command: &v2.TelemetryCommand_Settings{Settings: s}}); err != nil {
			t.Fatal(err)
		}
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return r.GetSettings(), r.GetStatus().GetCode()
	}
	kind := v2.ClientType_PRODUCER
	s, code := ask(&v2.Settings{ClientType: &kind, PubSub: &v2.Settings_Publishing{Publishing: &v2.Publishing{}}})
	if code != v2.Code_OK || s.GetPublishing().GetMaxBodySize() != 4<<20 || s.GetBackoffPolicy().GetExponentialBackoff() == nil || s.GetClientType() != kind {
		t.Error(code, s)
	}
	kind = v2.ClientType_PUSH_CONSUMER
	s, code = ask(&v2.Settings{ClientType: &kind, PubSub: &v2.Settings_Subscription{Subscription: &v2.Subscription{}}})
	if code != v2.Code_OK || s.GetSubscription().GetReceiveBatchSize() != 32 || s.GetSubscription().GetLongPollingTimeout().AsDuration() != 20*time.Second ||
		len(s.GetBackoffPolicy().GetCustomizedBackoff().GetNext()) != 18 || s.GetBackoffPolicy().GetMaxAttempts() != 17 {
		t.Error(code, s)
	}
	if s, code = ask(&v2.Settings{}); code != v2.Code_UNRECOGNIZED_CLIENT_TYPE || s != nil {
		t.Error(code, s)
	}
	// A server that stops ends the stream, and polls.
	polled := make(chan v2.Code, 1)
	go func() {
		code, _ := b.receive(0, 10*time.Second, poll(0))
		polled <- code
	}()
	start := time.Now()
	b.stops[0]()
	if _, err := stream.Recv(); err == nil || time.Since(start) > 2*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	<-polled
}

// Clients with and without TLS use one port.
func TestTLSBesidePlain(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, cluster: &memlog.Cluster{}}
	log := b.cluster.Group(group(0), broker(0))
	b.cluster.Topic("orders", 2)
	b.start(rmqgrpc.Config{Broker: broker(0), Group: group(0), Listener: l,
		TLS: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}},
		&memlog.Replica{Log: log, Broker: broker(0)})
	b.master(0, broker(0))
	conn, err := grpc.NewClient("passthrough:///"+b.addrs[0], grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	b.clients = append(b.clients, v2.NewMessagingServiceClient(conn))
	for at := range 2 {
		if got := b.send(at, 2*time.Second, message("a")); got != v2.Code_OK {
			t.Errorf("client %d: %v", at, got)
		}
	}
}

func TestChangeRefuses(t *testing.T) {
	b := newBench(t, nil)
	b.send(0, time.Second, message("a"))
	_, found := b.receive(0, time.Second, poll(0))
	handle := found[0].GetSystemProperties().GetReceiptHandle()
	for name, tt := range map[string]struct {
		change func(*v2.ChangeInvisibleDurationRequest)
		want   v2.Code
	}{
		"too long":     {func(r *v2.ChangeInvisibleDurationRequest) { r.InvisibleDuration = durationpb.New(13 * time.Hour) }, v2.Code_ILLEGAL_INVISIBLE_TIME},
		"negative":     {func(r *v2.ChangeInvisibleDurationRequest) { r.InvisibleDuration = durationpb.New(-1) }, v2.Code_ILLEGAL_INVISIBLE_TIME},
		"none":         {func(r *v2.ChangeInvisibleDurationRequest) { r.InvisibleDuration = nil }, v2.Code_ILLEGAL_INVISIBLE_TIME},
		"not a handle": {func(r *v2.ChangeInvisibleDurationRequest) { r.ReceiptHandle = "x" }, v2.Code_INVALID_RECEIPT_HANDLE},
		"other group":  {func(r *v2.ChangeInvisibleDurationRequest) { r.Group.Name = "others" }, v2.Code_INVALID_RECEIPT_HANDLE},
		"other topic":  {func(r *v2.ChangeInvisibleDurationRequest) { r.Topic.Name = "others" }, v2.Code_INVALID_RECEIPT_HANDLE},
		"bad group":    {func(r *v2.ChangeInvisibleDurationRequest) { r.Group.Name = "" }, v2.Code_ILLEGAL_CONSUMER_GROUP},
	} {
		r := &v2.ChangeInvisibleDurationRequest{Group: &v2.Resource{Name: "readers"}, Topic: &v2.Resource{Name: "orders"},
			ReceiptHandle: handle, InvisibleDuration: durationpb.New(time.Minute)}
		tt.change(r)
		reply, err := b.clients[0].ChangeInvisibleDuration(b.as("consumer", time.Second), r)
		if err != nil || reply.GetStatus().GetCode() != tt.want || reply.GetReceiptHandle() != r.ReceiptHandle {
			t.Errorf("%s: %v, %v", name, reply, err)
		}
	}
}

// A message that its consumer gives up is in the dead letter topic once.
func TestDeadLetter(t *testing.T) {
	b := newBench(t, nil, nil)
	b.master(1, "")
	b.send(1, time.Second, message("a"))
	_, found := b.receive(0, time.Second, poll(0))
	for range 2 {
		r, err := b.clients[1].ForwardMessageToDeadLetterQueue(b.as("consumer", time.Second), &v2.ForwardMessageToDeadLetterQueueRequest{
			Group: &v2.Resource{Name: "readers"}, Topic: &v2.Resource{Name: "orders"}, ReceiptHandle: found[0].GetSystemProperties().GetReceiptHandle()})
		if err != nil || r.GetStatus().GetCode() != v2.Code_OK {
			t.Fatal(r, err)
		}
	}
	code, dead := b.receive(1, time.Second, poll(0, func(r *v2.ReceiveMessageRequest) { r.MessageQueue.Topic.Name = "%DLQ%readers" }))
	if code != v2.Code_OK || len(dead) != 1 {
		t.Fatal(code, dead)
	}
	if q := dead[0].GetSystemProperties().GetDeadLetterQueue(); q.GetTopic() != "orders" || q.GetMessageId() != "id-a" || len(dead[0].GetUserProperties()) != 0 {
		t.Error(dead[0])
	}
}
