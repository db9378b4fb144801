package rmqgrpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// tlsHandshake is the first byte of a client that speaks TLS (RFC 8446, 5.1). One of HTTP/2
// without TLS begins with 'P'.
const tlsHandshake = 0x16

// sniffer takes clients with and without TLS on one port: some of RocketMQ's use it by
// default, others do not.
type sniffer struct {
	credentials.TransportCredentials // of clients with TLS
	plain                            credentials.TransportCredentials
}

// sniff returns the server's credentials; without a TLS configuration there is none to offer.
func sniff(c *tls.Config) credentials.TransportCredentials {
	if c == nil {
		return insecure.NewCredentials()
	}
	return &sniffer{credentials.NewTLS(c), insecure.NewCredentials()}
}

// ServerHandshake is called by gRPC with a deadline on the connection.
func (s *sniffer) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	first := make([]byte, 1)
	if _, err := io.ReadFull(c, first); err != nil {
		return nil, nil, fmt.Errorf("read first byte of %s: %w", c.RemoteAddr(), err)
	}
	c = &rewound{Conn: c, first: first}
	if first[0] == tlsHandshake {
		return s.TransportCredentials.ServerHandshake(c)
	}
	return s.plain.ServerHandshake(c)
}

// ClientHandshake is never called: these are a server's credentials.
func (s *sniffer) ClientHandshake(ctx context.Context, authority string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return s.TransportCredentials.ClientHandshake(ctx, authority, c)
}

// Clone implements credentials.TransportCredentials.
func (s *sniffer) Clone() credentials.TransportCredentials {
	return &sniffer{s.TransportCredentials.Clone(), s.plain.Clone()}
}

// rewound is a connection of which the first byte is read again.
type rewound struct {
	net.Conn
	first []byte
}

func (r *rewound) Read(b []byte) (int, error) {
	if len(r.first) == 0 || len(b) == 0 {
		return r.Conn.Read(b)
	}
	n := copy(b, r.first)
	r.first = r.first[n:]
	return n, nil
}
