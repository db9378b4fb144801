package api

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc"

	"holdfast/coordinator/api/dial"
	pb "holdfast/coordinator/api/holdfastpb"
)

// Peers holds one connection to each coordinator that was called. It is safe
// for concurrent use.
type Peers struct {
	addressOf func(name string) string // "" if unknown

	mu    sync.Mutex
	conns map[string]*connection // by name
}

type connection struct {
	address string
	conn    *grpc.ClientConn
}

// NewPeers returns an empty pool; addressOf tells where a coordinator's API is
// now.
func NewPeers(addressOf func(name string) string) *Peers {
	return &Peers{addressOf: addressOf, conns: make(map[string]*connection)}
}

// conn returns the connection to a coordinator, a new one if it has moved.
func (p *Peers) conn(name string) (*grpc.ClientConn, error) {
	address := p.addressOf(name)
	if address == "" {
		return nil, fmt.Errorf("call %s: its API address is not known yet", name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if have := p.conns[name]; have != nil {
		if have.address == address {
			return have.conn, nil
		}
		have.conn.Close() // an old address; the only error is that it is closed already
	}
	conn, err := dial.New(address)
	if err != nil {
		return nil, err
	}
	p.conns[name] = &connection{address, conn}
	return conn, nil
}

// Warm connects to a coordinator before it is needed.
func (p *Peers) Warm(name string) {
	if conn, err := p.conn(name); err == nil {
		conn.Connect()
	}
}

// Close closes all connections.
func (p *Peers) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.conn.Close()
	}
	clear(p.conns)
}

// Probe asks a coordinator which promises have lapsed.
func (p *Peers) Probe(ctx context.Context, name string, r *pb.ProbeRequest) (*pb.ProbeReply, error) {
	conn, err := p.conn(name)
	if err != nil {
		return nil, err
	}
	return pb.NewPeersClient(conn).Probe(ctx, r)
}

// Fence asks a coordinator to agree to the end of sessions.
func (p *Peers) Fence(ctx context.Context, name string, r *pb.FenceRequest) (*pb.FenceReply, error) {
	conn, err := p.conn(name)
	if err != nil {
		return nil, err
	}
	return pb.NewPeersClient(conn).Fence(ctx, r)
}

// Identity asks a coordinator who it is.
func (p *Peers) Identity(ctx context.Context, name string, r *pb.IdentityRequest) (*pb.IdentityReply, error) {
	conn, err := p.conn(name)
	if err != nil {
		return nil, err
	}
	return pb.NewPeersClient(conn).Identity(ctx, r)
}

// Join asks a coordinator to be let in.
func (p *Peers) Join(ctx context.Context, name string, r *pb.JoinRequest) (*pb.JoinReply, error) {
	conn, err := p.conn(name)
	if err != nil {
		return nil, err
	}
	return pb.NewPeersClient(conn).Join(ctx, r)
}
