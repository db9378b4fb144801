package rmqgrpc

import (
	"context"
	"net"
	"strings"

	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// Keys of the metadata of a call. A client that tries again may send each of RocketMQ's
// keys twice; the first value counts.
const (
	clientIDKey  = "x-mq-client-id"
	namespaceKey = "x-mq-namespace"

	// forwardedKey says that another broker passes the call on, and for which broker group.
	forwardedKey = "x-holdfast-group"
	// keepKey says that a change of the invisible time leaves the receipt handle good.
	keepKey = "x-holdfast-keep-handle"
	// waitKey says how many milliseconds a poll that is passed on waits.
	waitKey = "x-holdfast-wait"
)

func value(ctx context.Context, key string) string {
	if v := metadata.ValueFromIncomingContext(ctx, key); len(v) > 0 {
		return v[0]
	}
	return ""
}

// client returns the id of the calling client.
func client(ctx context.Context) (string, error) {
	id := strings.TrimSpace(value(ctx, clientIDKey))
	if id == "" || len(id) > maxClientID {
		return "", refuse(v2.Code_CLIENT_ID_REQUIRED, "the call must carry a client id of 1 to %d bytes as %s", maxClientID, clientIDKey)
	}
	return id, nil
}

// forwarded returns the broker group for which another broker passed the call on, "" if
// none did.
func forwarded(ctx context.Context) string { return value(ctx, forwardedKey) }

// forward returns a context for the same call to another broker.
func forward(ctx context.Context, group string) context.Context {
	out := metadata.MD{}
	in, _ := metadata.FromIncomingContext(ctx)
	for k, v := range in {
		if strings.HasPrefix(k, "x-mq-") || k == "authorization" {
			out[k] = v
		}
	}
	out.Set(forwardedKey, group)
	if keeps(ctx) {
		out.Set(keepKey, value(ctx, keepKey))
	}
	return metadata.NewOutgoingContext(ctx, out)
}

// callersHost returns the address of the caller, without the port.
func callersHost(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	host, _, err := net.SplitHostPort(p.Addr.String())
	if err != nil {
		return ""
	}
	return host
}
