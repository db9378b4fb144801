package raftnode

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// errClosed is what a closed stream layer says.
var errClosed = errors.New("transport is closed")

// streamLayer carries the Raft calls of one instance over plain TCP. It does
// not own the listener, which outlives it, but every connection.
type streamLayer struct {
	addr net.Addr
	dial func(address string, timeout time.Duration) (net.Conn, error)
	in   chan net.Conn
	done chan struct{}

	mu    sync.Mutex
	conns map[*ownedConn]struct{} // nil once closed
}

type advertised string

func (advertised) Network() string  { return "tcp" }
func (a advertised) String() string { return string(a) }

func newStreamLayer(cfg Config) *streamLayer {
	s := &streamLayer{
		addr: advertised(cfg.Advertise), dial: cfg.dial,
		in: make(chan net.Conn), done: make(chan struct{}), conns: make(map[*ownedConn]struct{}),
	}
	if s.dial == nil {
		s.dial = func(address string, timeout time.Duration) (net.Conn, error) {
			return net.DialTimeout("tcp", address, timeout)
		}
	}
	return s
}

// deliver hands over an accepted connection.
func (s *streamLayer) deliver(c net.Conn) {
	select {
	case s.in <- c:
	case <-s.done:
		c.Close()
	}
}

// Accept implements net.Listener.
func (s *streamLayer) Accept() (net.Conn, error) {
	select {
	case c := <-s.in:
		return s.own(c)
	case <-s.done:
		return nil, errClosed
	}
}

// Dial implements raft.StreamLayer.
func (s *streamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	c, err := s.dial(string(address), timeout)
	if err != nil {
		return nil, err
	}
	return s.own(c)
}

// Addr is the address that others dial.
func (s *streamLayer) Addr() net.Addr { return s.addr }

// Close ends all connections, so that no call stays behind in one.
func (s *streamLayer) Close() error {
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	if conns == nil {
		return nil
	}
	close(s.done)
	for c := range conns {
		c.Conn.Close()
	}
	return nil
}

func (s *streamLayer) own(c net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		c.Close()
		return nil, errClosed
	}
	o := &ownedConn{Conn: c, owner: s}
	s.conns[o] = struct{}{}
	return o, nil
}

type ownedConn struct {
	net.Conn
	owner *streamLayer
}

func (c *ownedConn) Close() error {
	c.owner.mu.Lock()
	delete(c.owner.conns, c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}

// transport is a raft.NetworkTransport, so it has pre-vote, that notes what the
// followers answer. Pipelining is off (MaxRPCsInFlight 1): hashicorp/raft can
// dead-lock in it towards one follower while heartbeats hide that.
type transport struct {
	*raft.NetworkTransport
	timeoutNow func() // for tests: runs before the call that ends a transfer

	mu        sync.Mutex
	followers map[raft.ServerID]followerNote
}

type followerNote struct {
	term, match uint64
	heard       time.Time
}

var (
	_ raft.Transport   = (*transport)(nil)
	_ raft.WithPreVote = (*transport)(nil)
)

func newTransport(cfg Config, layer *streamLayer) *transport {
	return &transport{
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Logger: newHCLogger(cfg.Logger, "transport"), Stream: layer, MaxPool: 3, MaxRPCsInFlight: 1, Timeout: cfg.rpcTimeout(),
		}),
		timeoutNow: cfg.timeoutNow,
		followers:  make(map[raft.ServerID]followerNote),
	}
}

// AppendEntries implements raft.Transport.
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest,
	resp *raft.AppendEntriesResponse) error {
	if err := t.NetworkTransport.AppendEntries(id, target, args, resp); err != nil {
		return err
	}
	if resp.Term > args.Term {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.followers[id]
	if n.term != args.Term {
		n = followerNote{term: args.Term}
	}
	n.heard = time.Now()
	if resp.Success {
		// Success proves that the logs agree up to the last entry sent, or up to the one before.
		match := args.PrevLogEntry
		if k := len(args.Entries); k > 0 {
			match = args.Entries[k-1].Index
		}
		n.match = max(n.match, match)
	}
	t.followers[id] = n
	return nil
}

// TimeoutNow implements raft.Transport.
func (t *transport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest,
	resp *raft.TimeoutNowResponse) error {
	if t.timeoutNow != nil {
		t.timeoutNow()
	}
	return t.NetworkTransport.TimeoutNow(id, target, args, resp)
}

// notes returns what was noted in the given term.
func (t *transport) notes(term uint64) map[raft.ServerID]followerNote {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[raft.ServerID]followerNote, len(t.followers))
	for id, n := range t.followers {
		if n.term == term {
			out[id] = n
		}
	}
	return out
}
