package rmqgrpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"holdfast/brokerd/service"
)

const (
	connectTimeout = 500 * time.Millisecond // to another broker
	avoidFor       = time.Second            // a group whose master could not be reached
)

// peers are the connections to other brokers' endpoints.
type peers struct {
	tls *tls.Config // nil: without TLS

	mu    sync.Mutex
	conns map[string]*grpc.ClientConn // by address
	avoid map[shunned]time.Time       // until when
	grant map[string]*tenure          // by group
}

// shunned is a group under a grant; the next grant is another.
type shunned struct {
	group string
	grant service.Grant
}

// tenure is one grant of a group, as far as calls to its master last.
type tenure struct {
	grant service.Grant
	ctx   context.Context // done when it has ended
	end   context.CancelFunc
}

// over tells whether a grant is a later state of the group than the tenure's: the next
// epoch, or the end of this one. Views are seen in no order.
func (t *tenure) over(g service.Grant) bool {
	return g.Epoch > t.grant.Epoch || g.Epoch == t.grant.Epoch && t.grant.Master != "" && g.Master == ""
}

func newPeers(t *tls.Config) *peers {
	return &peers{tls: t, conns: map[string]*grpc.ClientConn{}, avoid: map[shunned]time.Time{}, grant: map[string]*tenure{}}
}

// dial returns a client of the broker at the address that is connected. If it cannot be
// had, nothing has been sent, which is definite.
func (p *peers) dial(ctx context.Context, address string) (v2.MessagingServiceClient, error) {
	conn, err := p.conn(address)
	if err != nil {
		return nil, fmt.Errorf("connect to broker at %s: %w: %w", address, err, service.ErrNotMaster)
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return v2.NewMessagingServiceClient(conn), nil
		case connectivity.Idle:
			conn.Connect()
		}
		if !conn.WaitForStateChange(ctx, state) {
			return nil, fmt.Errorf("connect to broker at %s: %v: %w", address, state, service.ErrNotMaster)
		}
	}
}

func (p *peers) conn(address string) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.conns[address]; c != nil {
		return c, nil
	}
	creds := insecure.NewCredentials()
	if p.tls != nil {
		creds = credentials.NewTLS(p.tls)
	}
	c, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(2*maxRequest)),
		grpc.WithDisableServiceConfig())
	if err != nil {
		return nil, err
	}
	p.conns[address] = c
	return c, nil
}

// shun remembers that the group's master could not be reached.
func (p *peers) shun(g service.Group, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.avoid[shunned{g.Name, g.Grant}] = now.Add(avoidFor)
}

// shuns tells whether a group is better tried last.
func (p *peers) shuns(g service.Group, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Before(p.avoid[shunned{g.Name, g.Grant}])
}

// during returns a context that is done, too, when the group's grant is no longer the one
// that is given: a master that does not answer is waited for no longer than that. It is
// definite if the grant is an old one already.
func (p *peers) during(ctx context.Context, g service.Group) (context.Context, context.CancelFunc, error) {
	p.mu.Lock()
	t := p.grant[g.Name]
	switch {
	case t != nil && g.Grant != t.grant && !t.over(g.Grant):
		p.mu.Unlock()
		return nil, nil, fmt.Errorf("call master of group %s in epoch %d, which has ended: %w", g.Name, g.Grant.Epoch, service.ErrNotMaster)
	case t == nil || t.grant != g.Grant:
		if t != nil {
			t.end()
		}
		t = &tenure{grant: g.Grant}
		t.ctx, t.end = context.WithCancel(context.Background())
		p.grant[g.Name] = t
	}
	p.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(t.ctx, cancel)
	return ctx, func() { stop(); cancel() }, nil
}

// follow forgets what is not in the view any more: connections to brokers that are gone,
// and calls to masters that are none.
func (p *peers) follow(v *service.View, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, c := range p.conns {
		if !slices.ContainsFunc(v.Brokers, func(b service.Broker) bool { return b.Address == address }) {
			c.Close()
			delete(p.conns, address)
		}
	}
	for name, t := range p.grant {
		if g, _ := v.Group(name); t.over(g.Grant) {
			t.end()
			delete(p.grant, name)
		}
	}
	maps.DeleteFunc(p.avoid, func(_ shunned, until time.Time) bool { return !now.Before(until) })
}

func (p *peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, c := range p.conns {
		c.Close()
		delete(p.conns, address)
	}
}
