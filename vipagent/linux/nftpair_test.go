package linux

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"holdfast/vipagent/vip"
)

const (
	nftVIP4 = "10.1.0.100"
	nftVIP6 = "2001:db8:1::100"
	silence = 50 * time.Millisecond // a neighbour on the same machine answers sooner
)

// nftPair is a host that holds two VIPs behind the fence, and a neighbour that
// asks for them in four ways.
type nftPair struct {
	t       testing.TB
	h, peer *host
	fence   *NFTFence
	vips    []netip.Addr
	kernel  *Kernel // the neighbour's
	arp, nd *listener
	udp     map[string]*net.UDPConn
	n       byte // number of the last question
}

func newNFTPair(t testing.TB, flags uint32) *nftPair {
	t.Helper()
	p := &nftPair{t: t, vips: []netip.Addr{netip.MustParseAddr(nftVIP4), netip.MustParseAddr(nftVIP6)}, udp: map[string]*net.UDPConn{}}
	p.h, p.peer = pair(t)
	p.fence = p.h.nft(flags)
	p.kernel = p.peer.kernel()
	p.h.own("eth0", nftVIP4+"/32")
	p.h.own("eth0", nftVIP6+"/128")
	p.h.knows("10.1.255.2", p.peer)
	p.h.knows("2001:db8:1::ffff:2", p.peer)
	everything := []bpf.Instruction{bpf.RetConstant{Val: frameSize}}
	var errs [2]error
	p.peer.do(func() {
		p.arp, errs[0] = listen(etherARP, 0, everything)
		p.nd, errs[1] = listen(etherIPv6, 0, everything)
	})
	p.h.must(errors.Join(errs[:]...))
	t.Cleanup(func() { p.arp.conn.Close(); p.nd.conn.Close() })
	for _, a := range []string{nftVIP4, nftVIP6} {
		p.peer.knows(a, p.h)
		p.echo(a)
	}
	return p
}

// nft opens the fence of the host.
func (h *host) nft(flags uint32) *NFTFence {
	h.t.Helper()
	f, err := h.tryNFT(flags)
	h.must(err)
	h.t.Cleanup(f.Close)
	return f
}

func (h *host) tryNFT(flags uint32) (f *NFTFence, err error) {
	h.do(func() {
		if flags == 0 { // as before Linux 6.9
			f, err = openNFT(0)
		} else {
			f, err = OpenNFT()
		}
	})
	return f, err
}

// knows gives the host a neighbour entry that stays.
func (h *host) knows(addr string, neighbour *host) {
	h.t.Helper()
	hw, err := net.ParseMAC(neighbour.mac("eth0"))
	h.must(err)
	h.must(h.handle.NeighSet(&netlink.Neigh{
		LinkIndex: h.get("eth0").Attrs().Index, IP: netip.MustParseAddr(addr).AsSlice(), HardwareAddr: hw, State: netlink.NUD_PERMANENT,
	}))
}

// echo answers datagrams on the VIP, and connects the neighbour to it.
func (p *nftPair) echo(addr string) {
	at := &net.UDPAddr{IP: netip.MustParseAddr(addr).AsSlice(), Port: 7000}
	var server, client *net.UDPConn
	var err error
	p.h.do(func() { server, err = net.ListenUDP("udp", at) })
	p.h.must(err)
	p.peer.do(func() { client, err = net.DialUDP("udp", nil, at) })
	p.h.must(err)
	p.udp[addr] = client
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 16)
		for {
			n, from, err := server.ReadFromUDPAddrPort(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = server.WriteToUDPAddrPort(b[:n], from) // the fence may refuse it
			}
		}
	}()
	p.t.Cleanup(func() { server.Close(); client.Close(); <-done })
}

// questions ask for a VIP and report whether there was an answer.
func (p *nftPair) questions() map[string]func() bool {
	return map[string]func() bool{
		"ARP":  p.askARP,
		"ND":   p.askND,
		"UDP4": func() bool { return p.askUDP(nftVIP4) },
		"UDP6": func() bool { return p.askUDP(nftVIP6) },
	}
}

func (p *nftPair) askUDP(addr string) bool {
	c := p.udp[addr]
	p.n++
	if _, err := c.Write([]byte{p.n}); err != nil {
		return false
	}
	p.h.must(c.SetReadDeadline(time.Now().Add(silence)))
	b := make([]byte, 16)
	for {
		n, err := c.Read(b)
		if err != nil {
			return false
		}
		if n == 1 && b[0] == p.n {
			return true
		}
	}
}

func (p *nftPair) askARP() bool {
	mac, _ := net.ParseMAC(p.peer.mac("eth0"))
	p.peer.transmit(p.kernel, "eth0", arpPacket{
		Destination: broadcastMAC, Source: mac, Operation: arpRequest,
		SenderMAC: mac, SenderIP: netip.MustParseAddr("10.1.255.2"), TargetMAC: unknownMAC, TargetIP: p.vips[0],
	}.appendTo(nil))
	return p.heard(p.arp, func(b []byte) bool {
		got, err := parseARP(b)
		return err == nil && got.Operation == arpReply && got.SenderIP == p.vips[0]
	})
}

func (p *nftPair) askND() bool {
	mac, _ := net.ParseMAC(p.peer.mac("eth0"))
	group := solicitedNode(p.vips[1])
	p.peer.transmit(p.kernel, "eth0", neighbourPacket{
		DestinationMAC: multicastMAC(group), SourceMAC: mac, Source: netip.MustParseAddr("2001:db8:1::ffff:2"), Destination: group,
		Type: solicitation, Target: p.vips[1], MAC: mac,
	}.appendTo(nil))
	return p.heard(p.nd, func(b []byte) bool {
		got, err := parseNeighbour(b)
		return err == nil && got.Type == advertisement && got.Target == p.vips[1]
	})
}

func (p *nftPair) heard(l *listener, answer func([]byte) bool) bool {
	ctx, cancel := context.WithTimeout(p.t.Context(), silence)
	defer cancel()
	p.h.must(l.conn.SetReadDeadline(time.Time{}))
	stop := interruptedBy(ctx, l.conn)
	defer stop()
	for {
		b, _, err := l.receive()
		if err != nil {
			return false
		}
		if answer(b) {
			return true
		}
	}
}

// want asks once if there must be no answer, else until there is one.
func (p *nftPair) want(state string, answer bool) {
	p.t.Helper()
	for name, ask := range p.questions() {
		got := ask()
		for i := 0; answer && !got && i < 50; i++ {
			got = ask()
		}
		if got != answer {
			p.t.Errorf("%s: %s answered: %v, want %v", state, name, got, answer)
		}
	}
}

func (p *nftPair) show() FenceTable {
	p.t.Helper()
	table, err := p.fence.Show()
	p.h.must(err)
	return table
}

// slot returns the renewal of a session by the time that is left.
func (p *nftPair) slot(session uint64) func(left time.Duration) {
	p.t.Helper()
	store, err := p.fence.Slot(session)
	p.h.must(err)
	return func(left time.Duration) { store(Boottime().Add(left)) }
}

// pass opens both VIPs under the sessions.
func (p *nftPair) pass(session, also uint64) {
	p.t.Helper()
	var list []vip.Pass
	for _, a := range p.vips {
		list = append(list, vip.Pass{Address: a, Epoch: 3, Session: session, Also: also})
	}
	p.h.must(p.fence.Open(list))
}

// flush is "nft flush ruleset".
func (h *host) flush() {
	h.t.Helper()
	h.change(nftMessage(unix.NFT_MSG_DELTABLE, 0, unix.AF_UNSPEC, nil))
}

// change makes another program's transaction.
func (h *host) change(msgs ...message) {
	h.t.Helper()
	var err error
	h.do(func() {
		var c *conn
		if c, err = dialNetlink(unix.NETLINK_NETFILTER); err != nil {
			return
		}
		err = errors.Join(c.transact(msgs), c.close())
	})
	h.must(err)
}
