package rmqgrpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"holdfast/brokerd/service"
)

// Config is what a server needs. Listener and Log must be there.
type Config struct {
	Broker string // name of this broker
	Group  string // name of its broker group

	Listener net.Listener
	TLS      *tls.Config // nil: only clients without TLS; else both, on the same port
	PeerTLS  *tls.Config // for calls to other brokers; nil: without TLS
	Log      *slog.Logger

	MaxAttempts int // deliveries before a message is dead, as clients are told; 0: 17
}

const (
	maxPolls = 16384 // at one time; each is a goroutine and its buffers
	maxSends = 1024  // at one time; each holds at most maxRequest
	// stopTimeout is for calls under way when the server stops.
	stopTimeout = 3 * time.Second
)

// Server answers clients. It implements the service.
type Server struct {
	v2.UnimplementedMessagingServiceServer

	cfg      Config
	local    Local
	cluster  Cluster
	peers    *peers
	clients  *clients
	renewals *renewals
	turn     atomic.Uint64 // of groups and queues
	polls    chan struct{}
	sends    chan struct{}
	stopping context.Context // done when the server stops
	stop     context.CancelFunc
}

// New returns a server that does nothing yet.
func New(c Config, l Local, cl Cluster) *Server {
	if c.MaxAttempts == 0 {
		c.MaxAttempts = 17
	}
	s := &Server{
		cfg: c, local: l, cluster: cl,
		peers: newPeers(c.PeerTLS), clients: newClients(), renewals: newRenewals(),
		polls: make(chan struct{}, maxPolls), sends: make(chan struct{}, maxSends),
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	return s
}

// Run serves until ctx is done, and then gives the calls under way some time. It is called
// once.
func (s *Server) Run(ctx context.Context) error {
	srv := grpc.NewServer(
		grpc.Creds(sniff(s.cfg.TLS)),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxHeaderListSize(16<<10),
		grpc.MaxConcurrentStreams(4096),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	v2.RegisterMessagingServiceServer(srv, s)
	defer s.peers.close()
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := srv.Serve(s.cfg.Listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("serve RocketMQ clients at %s: %w", s.cfg.Listener.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-inner.Done()
		s.stop()
		force := time.AfterFunc(stopTimeout, srv.Stop)
		defer force.Stop()
		srv.GracefulStop()
		return nil
	})
	group.Go(func() error { s.follow(inner); return nil })
	group.Go(func() error { s.renew(inner); return nil })
	return group.Wait()
}

// follow keeps what depends on the view in step with it.
func (s *Server) follow(ctx context.Context) {
	for {
		v := s.cluster.View()
		s.peers.follow(v, time.Now())
		if s.cluster.Wait(ctx, v.Index) != nil {
			return
		}
	}
}

// unlessStopping returns a context that is done, too, when the server stops.
func (s *Server) unlessStopping(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	release := context.AfterFunc(s.stopping, cancel)
	return ctx, func() { release(); cancel() }
}

// take takes one of the places, or refuses.
func take(places chan struct{}, what string) (free func(), err error) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	default:
		return nil, fmt.Errorf("%d %s are under way: %w", cap(places), what, service.ErrBusy)
	}
}
