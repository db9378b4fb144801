package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// dialTimeout bounds one TCP connection attempt.
	dialTimeout = time.Second
	// The kernel cuts the wish for a receive buffer down to its own limit
	// (net.core.rmem_max).
	receiveBuffer = 4 << 20
	// errorPause keeps a socket that fails at once and again from eating a
	// processor.
	errorPause = 5 * time.Millisecond
)

// transport is memberlist's network: one UDP and one TCP socket on one port.
// It differs from memberlist's own in that it binds and starts in two steps,
// reads into one buffer (theirs takes 64 KiB of fresh memory per datagram),
// and cuts dials and streams at Shutdown instead of waiting for them.
type transport struct {
	udp       *net.UDPConn
	tcp       *net.TCPListener
	advertise netip.AddrPort
	packets   chan *memberlist.Packet
	streams   chan net.Conn
	ctx       context.Context // ends at Shutdown
	cancel    context.CancelFunc
	wg        sync.WaitGroup

	mu    sync.Mutex
	conns map[*stream]struct{} // open streams; nil once shut down
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// listen binds both sockets to one port. Nothing is read yet.
func listen(bind netip.AddrPort) (*transport, error) {
	// With port 0 the kernel picks the TCP port; that UDP port may be taken.
	attempts := 1
	if bind.Port() == 0 {
		attempts = 10
	}
	var errs []error
	for range attempts {
		tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(bind))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		port := tcp.Addr().(*net.TCPAddr).AddrPort().Port()
		udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(bind.Addr(), port)))
		if err != nil {
			errs = append(errs, err, tcp.Close())
			continue
		}
		_ = udp.SetReadBuffer(receiveBuffer) // smaller only means more loss under load
		ctx, cancel := context.WithCancel(context.Background())
		return &transport{
			udp: udp, tcp: tcp, ctx: ctx, cancel: cancel,
			packets: make(chan *memberlist.Packet),
			streams: make(chan net.Conn),
			conns:   make(map[*stream]struct{}),
		}, nil
	}
	return nil, errors.Join(errs...)
}

func (t *transport) port() uint16 { return t.tcp.Addr().(*net.TCPAddr).AddrPort().Port() }

// start begins to read. Shutdown ends both goroutines.
func (t *transport) start() {
	t.wg.Go(t.readPackets)
	t.wg.Go(t.acceptStreams)
}

func (t *transport) readPackets() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			if !t.pause() {
				return
			}
			continue
		}
		if n == 0 {
			continue
		}
		p := &memberlist.Packet{
			Buf:       slices.Clone(buf[:n]),
			From:      net.UDPAddrFromAddrPort(from),
			Timestamp: time.Now(),
		}
		select {
		case t.packets <- p:
		case <-t.ctx.Done():
			return
		}
	}
}

func (t *transport) acceptStreams() {
	for {
		conn, err := t.tcp.Accept()
		if err != nil {
			if !t.pause() {
				return
			}
			continue
		}
		s, err := t.track(conn)
		if err != nil {
			return
		}
		select {
		case t.streams <- s:
		case <-t.ctx.Done():
			_ = s.Close()
			return
		}
	}
}

// pause waits a little after a socket error; false means shut down.
func (t *transport) pause() bool {
	select {
	case <-t.ctx.Done():
		return false
	case <-time.After(errorPause):
		return true
	}
}

// FinalAdvertiseAddr implements memberlist.Transport with what New was told:
// no address is ever guessed.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.advertise.Addr().AsSlice(), int(t.advertise.Port()), nil
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("write datagram: %w", err)
	}
	_, err = t.udp.WriteToUDPAddrPort(b, to)
	return time.Now(), err
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: min(timeout, dialTimeout)}
	conn, err := d.DialContext(t.ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return t.track(conn)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// Shutdown implements memberlist.Transport: it closes everything and waits
// for the readers. Further calls do nothing.
func (t *transport) Shutdown() error {
	t.cancel()
	_ = t.udp.Close()
	_ = t.tcp.Close()
	t.mu.Lock()
	open := t.conns
	t.conns = nil
	t.mu.Unlock()
	for s := range open {
		_ = s.Conn.Close()
	}
	t.wg.Wait()
	return nil
}

// stream is a TCP connection that Shutdown knows of.
type stream struct {
	net.Conn
	t *transport
}

func (t *transport) track(c net.Conn) (*stream, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns == nil {
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	s := &stream{Conn: c, t: t}
	t.conns[s] = struct{}{}
	return s, nil
}

// Close implements net.Conn.
func (s *stream) Close() error {
	s.t.mu.Lock()
	delete(s.t.conns, s)
	s.t.mu.Unlock()
	return s.Conn.Close()
}
