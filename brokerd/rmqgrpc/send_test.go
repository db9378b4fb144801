package rmqgrpc_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"holdfast/brokerd/service"
)

func TestSendRefuses(t *testing.T) {
	b := newBench(t, nil)
	group := "g"
	properties := func(n int, key, value string) func(*v2.Message) {
		return func(m *v2.Message) {
			m.UserProperties = map[string]string{}
			for i := range n {
				m.UserProperties[fmt.Sprint(key, i)] = value
			}
		}
	}
	property := func(key, value string) func(*v2.Message) {
		return func(m *v2.Message) { m.UserProperties = map[string]string{key: value} }
	}
	topic := func(name string) func(*v2.Message) {
		return func(m *v2.Message) { m.Topic = &v2.Resource{Name: name} }
	}
	tag := func(tag string) func(*v2.Message) {
		return func(m *v2.Message) { m.SystemProperties.Tag = &tag }
	}
	for name, tt := range map[string]struct {
		change func(*v2.Message)
		want   v2.Code
	}{
		"good":                 {func(*v2.Message) {}, v2.Code_OK},
		"largest body":         {func(m *v2.Message) { m.Body = make([]byte, 4<<20) }, v2.Code_OK},
		"body too large":       {func(m *v2.Message) { m.Body = make([]byte, 4<<20+1) }, v2.Code_MESSAGE_BODY_TOO_LARGE},
		"no body":              {func(m *v2.Message) { m.Body = nil }, v2.Code_MESSAGE_BODY_EMPTY},
		"no system properties": {func(m *v2.Message) { m.SystemProperties = nil }, v2.Code_BAD_REQUEST},
		"no topic":             {func(m *v2.Message) { m.Topic = nil }, v2.Code_ILLEGAL_TOPIC},
		"topic with a blank":   {topic("a b"), v2.Code_ILLEGAL_TOPIC},
		"topic too long":       {topic(strings.Repeat("t", 128)), v2.Code_ILLEGAL_TOPIC},
		"dead letter topic":    {topic("%DLQ%readers"), v2.Code_ILLEGAL_TOPIC},
		"unknown topic":        {topic("other"), v2.Code_TOPIC_NOT_FOUND},
		"no id":                {func(m *v2.Message) { m.SystemProperties.MessageId = " " }, v2.Code_ILLEGAL_MESSAGE_ID},
		"long id":              {func(m *v2.Message) { m.SystemProperties.MessageId = strings.Repeat("i", 256) }, v2.Code_ILLEGAL_MESSAGE_ID},
		"fifo":                 {func(m *v2.Message) { m.SystemProperties.MessageGroup = &group }, v2.Code_MESSAGE_PROPERTY_CONFLICT_WITH_TYPE},
		"delay":                {func(m *v2.Message) { m.SystemProperties.DeliveryTimestamp = timestamppb.Now() }, v2.Code_MESSAGE_PROPERTY_CONFLICT_WITH_TYPE},
		"transaction":          {func(m *v2.Message) { m.SystemProperties.MessageType = v2.MessageType_TRANSACTION }, v2.Code_MESSAGE_PROPERTY_CONFLICT_WITH_TYPE},
		"unknown encoding":     {func(m *v2.Message) { m.SystemProperties.BodyEncoding = 9 }, v2.Code_BAD_REQUEST},
		"long host":            {func(m *v2.Message) { m.SystemProperties.BornHost = strings.Repeat("h", 256) }, v2.Code_BAD_REQUEST},
		"blank tag":            {tag(" "), v2.Code_ILLEGAL_MESSAGE_TAG},
		"tag with a bar":       {tag("a|b"), v2.Code_ILLEGAL_MESSAGE_TAG},
		"blank key":            {func(m *v2.Message) { m.SystemProperties.Keys = []string{""} }, v2.Code_ILLEGAL_MESSAGE_KEY},
		"most properties":      {properties(128, "k", "v"), v2.Code_OK},
		"too many properties":  {properties(129, "k", "v"), v2.Code_MESSAGE_PROPERTIES_TOO_LARGE},
		"properties too large": {property("k", strings.Repeat("v", 16<<10)), v2.Code_MESSAGE_PROPERTIES_TOO_LARGE},
		"reserved property":    {property("TAGS", "v"), v2.Code_ILLEGAL_MESSAGE_PROPERTY_KEY},
		"blank property":       {property("", "v"), v2.Code_ILLEGAL_MESSAGE_PROPERTY_KEY},
		"blank value":          {property("k", ""), v2.Code_ILLEGAL_MESSAGE_PROPERTY_KEY},
		"control character":    {property("k\n", "v"), v2.Code_ILLEGAL_MESSAGE_PROPERTY_KEY},
	} {
		if got := b.send(0, 3*time.Second, message("a", tt.change)); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
	if got := b.send(0, time.Second); got != v2.Code_BAD_REQUEST {
		t.Errorf("no message: %v", got)
	}
	many := make([]*v2.Message, 33)
	for i := range many {
		many[i] = message(fmt.Sprint(i))
	}
	if got := b.send(0, time.Second, many...); got != v2.Code_BAD_REQUEST {
		t.Errorf("33 messages: %v", got)
	}
	if got := b.send(0, time.Second, many[:32]...); got != v2.Code_OK {
		t.Errorf("32 messages: %v", got)
	}
	if got := b.send(0, time.Second, message("a"), message("b", topic("other"))); got != v2.Code_ILLEGAL_TOPIC {
		t.Errorf("two topics: %v", got)
	}
}

// A topic that the cluster makes by itself is there for the send that asked for it.
func TestSendMakesTopic(t *testing.T) {
	b := newBench(t, nil)
	b.cluster.AutoCreate = 3
	if got := b.send(0, time.Second, message("a", func(m *v2.Message) { m.Topic.Name = "new" })); got != v2.Code_OK {
		t.Fatal(got)
	}
	if topic, _ := b.cluster.View().Topic("new"); topic.In(group(0)) != 3 {
		t.Fatalf("%+v", topic)
	}
}

// failing refuses with an error and counts.
func failing(err error, count *atomic.Int32) *scripted {
	return &scripted{send: func(context.Context, service.Send) (uint64, error) {
		count.Add(1)
		return 0, fmt.Errorf("scripted: %w", err)
	}}
}

// A definite refusal leads to the next group. An indefinite error is the client's to know,
// here as well as behind another broker.
func TestSendErrors(t *testing.T) {
	for _, tt := range []struct {
		err    error
		want   v2.Code
		stored bool
	}{
		{service.ErrNotMaster, v2.Code_OK, true},
		{service.ErrBusy, v2.Code_OK, true},
		{service.ErrNoTopic, v2.Code_OK, true},
		{service.ErrTooLarge, v2.Code_MESSAGE_BODY_TOO_LARGE, false},
		{service.ErrUnconfirmed, v2.Code_SLAVE_PERSISTENCE_TIMEOUT, false},
		{service.ErrUnsynced, v2.Code_MASTER_PERSISTENCE_TIMEOUT, false},
		{fmt.Errorf("whatever"), v2.Code_INTERNAL_SERVER_ERROR, false},
	} {
		for at := range 2 {
			var asked atomic.Int32
			b := newBench(t, failing(tt.err, &asked), nil)
			// Of two sends one begins with the group that fails.
			one, two := b.send(at, time.Second, message("a")), b.send(at, time.Second, message("b"))
			failed := max(one, two)
			if asked.Load() != 1 || failed != tt.want || min(one, two) != v2.Code_OK {
				t.Errorf("%v at broker %d: %v and %v, asked %d times", tt.err, at, one, two, asked.Load())
			}
			if n := b.logs[1].Messages("orders"); (n == 2) != tt.stored {
				t.Errorf("%v at broker %d: %d messages in the other group", tt.err, at, n)
			}
			for _, stop := range b.stops {
				stop()
			}
		}
	}
}

// All groups are busy: the client is to wait, at once.
func TestSendBusy(t *testing.T) {
	var asked atomic.Int32
	b := newBench(t, failing(service.ErrBusy, &asked), failing(service.ErrBusy, &asked))
	start := time.Now()
	if got := b.send(0, 3*time.Second, message("a")); got != v2.Code_TOO_MANY_REQUESTS || asked.Load() != 2 || time.Since(start) > time.Second {
		t.Errorf("%v after %v, asked %d times", got, time.Since(start), asked.Load())
	}
}

// Without any master a send waits for one as long as its deadline lets it.
func TestSendWaitsForMaster(t *testing.T) {
	b := newBench(t, nil)
	b.master(0, "")
	start := time.Now()
	if got := b.send(0, 500*time.Millisecond, message("a")); got != v2.Code_HA_NOT_AVAILABLE || time.Since(start) < 300*time.Millisecond {
		t.Errorf("%v after %v", got, time.Since(start))
	}
	time.AfterFunc(200*time.Millisecond, func() { b.master(0, broker(0)) })
	if got := b.send(0, 3*time.Second, message("a")); got != v2.Code_OK {
		t.Error(got)
	}
}

// A master that is frozen is waited for until its grant ends; then the outcome is unknown.
func TestSendToFrozenMaster(t *testing.T) {
	arrived := make(chan struct{}, 1)
	frozen := &scripted{send: func(ctx context.Context, _ service.Send) (uint64, error) {
		arrived <- struct{}{}
		<-ctx.Done()
		return 0, service.ErrUnconfirmed
	}}
	b := newBench(t, nil, frozen)
	b.master(0, "")
	go func() {
		<-arrived
		b.master(1, "")
		b.master(0, broker(0))
	}()
	start := time.Now()
	if got := b.send(0, 10*time.Second, message("a")); got != v2.Code_PROXY_TIMEOUT || time.Since(start) > 2*time.Second {
		t.Errorf("%v after %v", got, time.Since(start))
	}
	if got := b.send(0, time.Second, message("a")); got != v2.Code_OK {
		t.Error(got)
	}
}

// A master that cannot be reached was sent nothing: the message goes to another group, and
// the next ones go there first.
func TestSendToDeadMaster(t *testing.T) {
	b := newBench(t, nil, nil)
	b.stops[1]()
	start := time.Now()
	for i := range 20 {
		if got := b.send(0, 3*time.Second, message(fmt.Sprint(i))); got != v2.Code_OK {
			t.Fatal(i, got)
		}
	}
	if d := time.Since(start); d > 1500*time.Millisecond {
		t.Errorf("20 sends took %v", d)
	}
}

// What was passed on once is not passed on again: the two brokers disagree who the master is.
func TestForwardedOnce(t *testing.T) {
	b := newBench(t, nil, nil)
	for _, to := range []string{group(0), group(1), "no-group"} {
		r, err := b.clients[0].SendMessage(b.as("producer", time.Second, "x-holdfast-group", to),
			&v2.SendMessageRequest{Messages: []*v2.Message{message("a")}})
		if err != nil {
			t.Fatal(err)
		}
		want := v2.Code_HA_NOT_AVAILABLE
		if to == group(0) {
			want = v2.Code_OK
		}
		if got := r.GetStatus().GetCode(); got != want {
			t.Errorf("forwarded for %s: %v", to, got)
		}
	}
	if n := b.logs[1].Messages("orders"); n != 0 {
		t.Errorf("%d messages in the other group", n)
	}
	b.master(0, "")
	start := time.Now()
	r, err := b.clients[0].SendMessage(b.as("producer", 3*time.Second, "x-holdfast-group", group(0)), &v2.SendMessageRequest{Messages: []*v2.Message{message("a")}})
	if err != nil || r.GetStatus().GetCode() != v2.Code_HA_NOT_AVAILABLE || time.Since(start) > time.Second {
		t.Errorf("no master: %v, %v after %v", r, err, time.Since(start))
	}
}
