// Package dial sets up every gRPC connection of Holdfast the same way: quick to
// notice that the other side is gone, quick to try again.
package dial

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/user"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

// unackedLimit closes a connection whose sent data nobody acknowledges (gRPC
// sets it as TCP_USER_TIMEOUT). Without it a connection that was cut for
// seconds waits for TCP's doubled retransmission timer after the network is
// back.
const unackedLimit = 1 * time.Second

// connectLimit bounds one attempt to connect, so that a lost SYN costs no
// more than this.
const connectLimit = 400 * time.Millisecond

// New returns a connection to a coordinator's API address. It does not wait
// for it to be up; the connection re-dials by itself.
func New(address string) (*grpc.ClientConn, error) {
	dialer := net.Dialer{Timeout: connectLimit}
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", addr)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 300 * time.Millisecond},
			MinConnectTimeout: connectLimit,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: unackedLimit}),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
	)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	return conn, nil
}

// ServerOptions are the server's half of the same rules.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: unackedLimit}),
		grpc.MaxRecvMsgSize(16 << 20),
	}
}

// ActorKey is the metadata key that names who asks, for the audit ring.
const ActorKey = "holdfast-actor"

// WithActor marks the calls made with the returned context as the local
// user's. It is a label, not a proof of identity.
func WithActor(ctx context.Context) context.Context {
	name := "operator"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return metadata.AppendToOutgoingContext(ctx, ActorKey, name)
}
