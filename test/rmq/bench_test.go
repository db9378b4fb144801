package rmq_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	golang "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"

	"holdfast/brokerd/rmqgrpc"
	"holdfast/test/memlog"
)

// TestMain keeps the client's log out of the home directory.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "rmq")
	if err != nil {
		panic(err)
	}
	os.Setenv(golang.CLIENT_LOG_ROOT, dir)
	golang.ResetLogger()
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// selfSigned is a certificate that the client takes, as it takes any.
func selfSigned(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// bench is two brokers, each the only one of its group.
type bench struct {
	t       testing.TB
	cluster *memlog.Cluster
	logs    []*memlog.Log
	addrs   []string
	stops   []func()
}

// name of the i-th broker, and of its group.
func broker(i int) string { return fmt.Sprintf("broker-%d", i) }
func group(i int) string  { return fmt.Sprintf("group-%d", i) }

const maxAttempts = 3

func newBench(t testing.TB, brokers int) *bench {
	b := &bench{t: t, cluster: &memlog.Cluster{}}
	for i := range brokers {
		b.logs = append(b.logs, b.cluster.Group(group(i), broker(i)))
	}
	b.cluster.Topic("orders", 4)
	cert := selfSigned(t)
	for i := range brokers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		b.addrs = append(b.addrs, l.Addr().String())
		b.cluster.Broker(broker(i), l.Addr().String())
		b.master(i, broker(i))
		s := rmqgrpc.New(rmqgrpc.Config{
			Broker: broker(i), Group: group(i), Listener: l, TLS: cert, MaxAttempts: maxAttempts,
			Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		}, &memlog.Replica{Log: b.logs[i], Broker: broker(i), MaxAttempts: maxAttempts}, b.cluster)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
		b.stops = append(b.stops, stop)
		t.Cleanup(stop)
	}
	return b
}

func (b *bench) master(g int, name string) {
	b.t.Helper()
	if err := b.cluster.Master(group(g), name); err != nil {
		b.t.Fatal(err)
	}
}

// config makes a client talk to all brokers, or to the given ones alone at first.
func (b *bench) config(group string, brokers ...int) *golang.Config {
	var to []string
	for i, a := range b.addrs {
		if len(brokers) == 0 {
			to = append(to, a)
		}
		for _, n := range brokers {
			if n == i {
				to = append(to, a)
			}
		}
	}
	return &golang.Config{Endpoint: strings.Join(to, ";"), ConsumerGroup: group, Credentials: &credentials.SessionCredentials{}}
}

func (b *bench) producer(brokers ...int) golang.Producer {
	b.t.Helper()
	p, err := golang.NewProducer(b.config("", brokers...), golang.WithTopics("orders"))
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { p.GracefulStop() })
	return p
}

func (b *bench) simple(group string, await time.Duration) golang.SimpleConsumer {
	b.t.Helper()
	c, err := golang.NewSimpleConsumer(b.config(group),
		golang.WithSimpleAwaitDuration(await),
		golang.WithSimpleSubscriptionExpressions(map[string]*golang.FilterExpression{"orders": golang.SUB_ALL}))
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.GracefulStop() })
	return c
}

// send sends messages with these bodies.
func (b *bench) send(p golang.Producer, bodies ...string) (ids []string) {
	b.t.Helper()
	for _, body := range bodies {
		m := &golang.Message{Topic: "orders", Body: []byte(body)}
		m.SetTag("tag-" + body)
		m.SetKeys("key-" + body)
		m.AddProperty("from", "test")
		r, err := p.Send(context.Background(), m)
		if err != nil {
			b.t.Fatalf("send %s: %v", body, err)
		}
		ids = append(ids, r[0].MessageID)
	}
	return ids
}

// receive takes n messages.
func (b *bench) receive(c golang.SimpleConsumer, n int) map[string]*golang.MessageView {
	b.t.Helper()
	got := map[string]*golang.MessageView{}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for len(got) < n {
		views, err := c.Receive(ctx, 16, 20*time.Second)
		if ctx.Err() != nil {
			b.t.Fatalf("%d of %d messages, last error %v", len(got), n, err)
		}
		for _, v := range views {
			if old := got[string(v.GetBody())]; old != nil {
				b.t.Fatalf("%s twice: %v and %v", v.GetBody(), old.GetReceiptHandle(), v.GetReceiptHandle())
			}
			got[string(v.GetBody())] = v
		}
	}
	return got
}
