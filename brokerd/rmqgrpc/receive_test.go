package rmqgrpc_test

import (
	"context"
	"strings"
	"testing"
	"time"

	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	"holdfast/brokerd/pop"
	"holdfast/brokerd/record"
	"holdfast/brokerd/service"
)

func TestReceive(t *testing.T) {
	b := newBench(t, nil, nil)
	for _, body := range []string{"a", "b", "c", "d"} {
		b.send(0, time.Second, message(body, func(m *v2.Message) {
			tag, trace := "t"+body, "trace"
			m.SystemProperties.Tag, m.SystemProperties.Keys, m.SystemProperties.TraceContext = &tag, []string{"k1", "k2"}, &trace
			m.SystemProperties.BodyEncoding = v2.Encoding_GZIP
			m.UserProperties = map[string]string{"p": "v"}
		}))
	}
	var all []*v2.Message
	for g := range 2 {
		code, found := b.receive(0, time.Second, poll(g))
		if code != v2.Code_OK || len(found) != 2 {
			t.Fatalf("group %d: %v, %s", g, code, bodies(found))
		}
		all = append(all, found...)
	}
	for _, m := range all {
		p := m.GetSystemProperties()
		body := string(m.GetBody())
		if p.GetMessageId() != "id-"+body || p.GetTag() != "t"+body || strings.Join(p.GetKeys(), " ") != "k1 k2" || p.GetTraceContext() != "trace" ||
			p.GetBodyEncoding() != v2.Encoding_GZIP || m.GetUserProperties()["p"] != "v" || len(m.GetUserProperties()) != 1 ||
			p.GetDeliveryAttempt() != 1 || p.GetBornHost() != "127.0.0.1" || p.GetBodyDigest().GetType() != v2.DigestType_MD5 {
			t.Errorf("%v", m)
		}
	}
	// Handles of both groups, one of them twice, and one that is none.
	bad := &v2.Message{SystemProperties: &v2.SystemProperties{ReceiptHandle: new(string)}}
	r := b.ack(1, append(all, all[0], bad)...)
	if r.GetStatus().GetCode() != v2.Code_MULTIPLE_RESULTS || len(r.GetEntries()) != 6 {
		t.Fatal(r)
	}
	for i, e := range r.GetEntries() {
		if c := e.GetStatus().GetCode(); i < 5 && c != v2.Code_OK || i == 5 && c != v2.Code_INVALID_RECEIPT_HANDLE {
			t.Errorf("entry %d: %v", i, e)
		}
	}
	if r := b.ack(0, all...); r.GetStatus().GetCode() != v2.Code_OK {
		t.Errorf("again: %v", r)
	}
}

func TestReceiveRefuses(t *testing.T) {
	b := newBench(t, nil)
	for name, tt := range map[string]struct {
		change func(*v2.ReceiveMessageRequest)
		want   v2.Code
	}{
		"nothing":            {func(*v2.ReceiveMessageRequest) {}, v2.Code_MESSAGE_NOT_FOUND},
		"no topic":           {func(r *v2.ReceiveMessageRequest) { r.MessageQueue.Topic = nil }, v2.Code_ILLEGAL_TOPIC},
		"no queue":           {func(r *v2.ReceiveMessageRequest) { r.MessageQueue = nil }, v2.Code_ILLEGAL_TOPIC},
		"bad group":          {func(r *v2.ReceiveMessageRequest) { r.Group.Name = "a b" }, v2.Code_ILLEGAL_CONSUMER_GROUP},
		"long group":         {func(r *v2.ReceiveMessageRequest) { r.Group.Name = strings.Repeat("g", 251) }, v2.Code_ILLEGAL_CONSUMER_GROUP},
		"SQL":                {func(r *v2.ReceiveMessageRequest) { r.FilterExpression.Type = v2.FilterType_SQL }, v2.Code_ILLEGAL_FILTER_EXPRESSION},
		"bad expression":     {func(r *v2.ReceiveMessageRequest) { r.FilterExpression.Expression = "a||" }, v2.Code_ILLEGAL_FILTER_EXPRESSION},
		"no batch":           {func(r *v2.ReceiveMessageRequest) { r.BatchSize = 0 }, v2.Code_BAD_REQUEST},
		"invisible too long": {func(r *v2.ReceiveMessageRequest) { r.InvisibleDuration = durationpb.New(13 * time.Hour) }, v2.Code_ILLEGAL_INVISIBLE_TIME},
		"too short":          {func(r *v2.ReceiveMessageRequest) { r.InvisibleDuration = durationpb.New(9 * time.Second) }, v2.Code_ILLEGAL_INVISIBLE_TIME},
		"not given":          {func(r *v2.ReceiveMessageRequest) { r.InvisibleDuration = nil }, v2.Code_ILLEGAL_INVISIBLE_TIME},
		"auto renew":         {func(r *v2.ReceiveMessageRequest) { r.InvisibleDuration, r.AutoRenew = nil, true }, v2.Code_MESSAGE_NOT_FOUND},
		"unknown group":      {func(r *v2.ReceiveMessageRequest) { r.MessageQueue.Broker.Name = "other" }, v2.Code_NOT_FOUND},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			got, _ := b.receive(0, time.Second, poll(0, tt.change))
			if d := time.Since(start); got != tt.want || d < 700*time.Millisecond {
				t.Errorf("%v after %v, want %v", got, d, tt.want)
			}
		})
	}
	if got, _ := b.receive(0, 300*time.Millisecond, poll(0)); got != v2.Code_ILLEGAL_POLLING_TIME {
		t.Errorf("no time to wait: %v", got)
	}
}

// An ordinary poll lasts as long as the client asks for, within bounds.
func TestPollingTime(t *testing.T) {
	b := newBench(t, nil)
	start := time.Now()
	code, _ := b.receive(0, 10*time.Second, poll(0, func(r *v2.ReceiveMessageRequest) { r.LongPollingTimeout = durationpb.New(time.Second) }))
	if d := time.Since(start); code != v2.Code_MESSAGE_NOT_FOUND || d < 5*time.Second || d > 6*time.Second {
		t.Errorf("%v after %v", code, d)
	}
}

// A message ends a poll at once, here and behind another broker; so does one that becomes
// visible again.
func TestPollWakes(t *testing.T) {
	b := newBench(t, nil, nil)
	b.master(0, "")
	for at := range 2 {
		start := time.Now()
		time.AfterFunc(200*time.Millisecond, func() { b.send(0, time.Second, message("a")) })
		code, found := b.receive(at, 5*time.Second, poll(1))
		if d := time.Since(start); code != v2.Code_OK || d > time.Second {
			t.Fatalf("%v after %v", code, d)
		}
		p := found[0].GetSystemProperties()
		r, err := b.clients[at].ChangeInvisibleDuration(b.as("consumer", time.Second), &v2.ChangeInvisibleDurationRequest{
			Group: &v2.Resource{Name: "readers"}, Topic: &v2.Resource{Name: "orders"}, ReceiptHandle: p.GetReceiptHandle(),
			InvisibleDuration: durationpb.New(300 * time.Millisecond),
		})
		if err != nil || r.GetStatus().GetCode() != v2.Code_OK || r.GetReceiptHandle() == p.GetReceiptHandle() {
			t.Fatal(r, err)
		}
		if r := b.ack(at, found...); r.GetStatus().GetCode() != v2.Code_INVALID_RECEIPT_HANDLE {
			t.Errorf("the old handle: %v", r)
		}
		start = time.Now()
		code, found = b.receive(at, 5*time.Second, poll(1))
		if d := time.Since(start); code != v2.Code_OK || d > time.Second || found[0].GetSystemProperties().GetDeliveryAttempt() != 2 {
			t.Fatalf("%v after %v", code, d)
		}
		if r := b.ack(at, found...); r.GetStatus().GetCode() != v2.Code_OK {
			t.Error(r)
		}
	}
}

// A poll at an empty group is answered from another one; a push consumer's is not.
func TestPollAsksOtherGroups(t *testing.T) {
	b := newBench(t, nil, nil)
	b.master(0, "")
	b.send(0, time.Second, message("a"))
	push := poll(0, func(r *v2.ReceiveMessageRequest) { r.AutoRenew, r.InvisibleDuration = true, nil })
	if code, found := b.receive(0, time.Second, push); code != v2.Code_MESSAGE_NOT_FOUND {
		t.Error("push:", code, bodies(found))
	}
	b.master(0, broker(0))
	for at := range 2 {
		start := time.Now()
		code, found := b.receive(at, 5*time.Second, poll(0))
		if d := time.Since(start); code != v2.Code_OK || d > time.Second {
			t.Errorf("at broker %d: %v, %s after %v", at, code, bodies(found), d)
		}
		if at == 0 {
			b.master(0, "")
			time.AfterFunc(500*time.Millisecond, func() { b.send(0, time.Second, message("b")) })
		}
	}
}

// While a group has no master a poll goes on, and the next master answers it; an
// acknowledgement waits for it too.
func TestPollSurvivesMasterless(t *testing.T) {
	b := newBench(t, nil)
	b.send(0, time.Second, message("a"))
	_, found := b.receive(0, time.Second, poll(0))
	b.master(0, "nobody")
	time.AfterFunc(300*time.Millisecond, func() {
		b.master(0, broker(0))
		b.send(0, time.Second, message("b"))
	})
	code, next := b.receive(0, 5*time.Second, poll(0))
	if code != v2.Code_OK || bodies(next) != "b" {
		t.Fatal(code, bodies(next))
	}
	b.master(0, "nobody")
	time.AfterFunc(300*time.Millisecond, func() { b.master(0, broker(0)) })
	if r := b.ack(0, append(found, next...)...); r.GetStatus().GetCode() != v2.Code_OK {
		t.Error(r)
	}
}

// With no master at all a member of the group goes on delivering. The next master knows
// nothing of that: handles are stale, and messages come again.
func TestReadsWithoutMaster(t *testing.T) {
	b := newBench(t, nil, nil)
	b.master(1, "")
	b.send(0, time.Second, message("a"))
	b.master(0, "")
	for at := range 2 {
		code, found := b.receive(at, time.Second, poll(0))
		if at == 0 && (code != v2.Code_OK || bodies(found) != "a") || at == 1 && code != v2.Code_MESSAGE_NOT_FOUND {
			t.Fatal(at, code, bodies(found))
		}
	}
	b.master(0, broker(0))
	code, found := b.receive(1, time.Second, poll(0))
	if code != v2.Code_OK || found[0].GetSystemProperties().GetDeliveryAttempt() != 1 {
		t.Fatal(code, found)
	}
}

// What was claimed for a client that is gone is visible at once.
func TestGivenBack(t *testing.T) {
	claimed := make(chan struct{})
	back := make(chan service.Delay, 1)
	b := newBench(t, &scripted{
		receive: func(ctx, _ context.Context, _ service.Receive) ([]service.Delivery, error) {
			close(claimed)
			<-ctx.Done()
			return []service.Delivery{{Handle: pop.Handle{BrokerGroup: group(0), Key: pop.Key{Group: "readers", Topic: "orders"}}, Message: &record.Message{}}}, nil
		},
		delay: func(_ context.Context, d service.Delay) ([]service.Settlement, error) {
			back <- d
			return []service.Settlement{{}}, nil
		},
	})
	ctx, cancel := context.WithCancel(b.as("consumer", 5*time.Second))
	stream, err := b.clients[0].ReceiveMessage(ctx, poll(0))
	if err != nil {
		t.Fatal(err)
	}
	<-claimed
	cancel()
	stream.Recv()
	select {
	case d := <-back:
		if d.For != 0 || d.Keep || len(d.Handles) != 1 {
			t.Errorf("%+v", d)
		}
	case <-time.After(5 * time.Second):
		t.Error("nothing was given back")
	}
}
