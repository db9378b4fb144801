package router

import (
	"net/netip"
	"slices"

	"holdfast/vipagent/keepalived"
	"holdfast/vipagent/vrrp"
)

// wire is how an instance is connected to the network.
type wire struct {
	port   *port // nil = it has none (now)
	failed bool  // the last advertisement could not be sent
	buffer []byte
}

// port is a socket and the instances that use it.
type port struct {
	at        Endpoint
	socket    Socket
	index     int // of the interface when it was opened
	instances []*instance
}

// unicast tells whether the instance has named its peers.
func (in *instance) unicast() bool { return len(in.conf.Peers) > 0 }

// sender is the interface that advertisements leave on.
func (in *instance) sender() string {
	if in.conf.VMAC != nil && in.conf.VMAC.XmitBase {
		return in.conf.Interface
	}
	return in.device()
}

// multicastGroup is where the instance's advertisements go.
func (in *instance) multicastGroup() netip.Addr {
	global := in.router.current.config.Global
	for _, g := range []netip.Addr{in.conf.Group, global.Group4, global.Group6} {
		if g.IsValid() && g.Is6() == in.conf.IPv6 {
			return g
		}
	}
	return vrrp.MulticastGroup(!in.conf.IPv6)
}

// endpoint is the socket that the instance needs now.
func (in *instance) endpoint() Endpoint {
	if in.unicast() {
		return Endpoint{Interface: in.conf.Interface, IPv6: in.conf.IPv6, Local: in.source}
	}
	return Endpoint{Interface: in.sender(), IPv6: in.conf.IPv6, Group: in.multicastGroup()}
}

// connect makes sure that the instance has the right socket.
func (in *instance) connect() error {
	at := in.endpoint()
	link, there := in.router.links[at.Interface]
	if p := in.wire.port; p != nil {
		if p.at == at && p.index == link.Index {
			return nil
		}
		in.disconnect()
	}
	if !there {
		return nil // it is a fault of its own
	}
	p, err := in.router.portOf(at, link.Index, in.conf.ReceiveBuffer)
	if err != nil {
		return err
	}
	p.instances = append(p.instances, in)
	in.wire.port = p
	return nil
}

// disconnect gives the socket up; the last one closes it.
func (in *instance) disconnect() {
	p := in.wire.port
	if p == nil {
		return
	}
	in.wire.port = nil
	p.instances = slices.DeleteFunc(p.instances, func(x *instance) bool { return x == in })
	if len(p.instances) == 0 {
		if in.router.current.ports[p.at] == p { // another interface may have taken the place of its own
			delete(in.router.current.ports, p.at)
		}
		if err := p.socket.Close(); err != nil {
			in.router.log.Warn("cannot close socket", "interface", p.at.Interface, "error", err)
		}
	}
}

// portOf finds or opens a socket.
func (r *Router) portOf(at Endpoint, index, buffer int) (*port, error) {
	if p := r.current.ports[at]; p != nil && p.index == index {
		return p, nil
	}
	s, err := r.host.Sockets.Open(at, buffer)
	if err != nil {
		return nil, err
	}
	p := &port{at: at, socket: s, index: index}
	r.current.ports[at] = p
	r.tasks.Go(func() {
		err := s.Receive(func(x Packet) {
			x.Message = slices.Clone(x.Message)
			r.post(func() { p.receive(x) })
		})
		if err != nil {
			r.post(func() { r.lost(p, err) })
		}
	})
	return p, nil
}

// lost: a socket does not receive any more. Its instances get another.
func (r *Router) lost(p *port, err error) {
	r.log.Error("socket failed", "interface", p.at.Interface, "error", err)
	for _, in := range slices.Clone(p.instances) {
		in.disconnect()
	}
	r.stale = true
}

// send sends an advertisement to the group, or to each peer.
func (in *instance) send(s vrrp.Send) {
	if in.wire.port == nil || !in.source.IsValid() {
		in.sendFailed(errNoSocket)
		return
	}
	if !in.unicast() {
		in.sendFailed(in.sendTo(in.multicastGroup(), vrrp.TTL, s))
		return
	}
	ttl := in.conf.UnicastTTL
	if ttl == 0 {
		ttl = vrrp.TTL
	}
	var failed error
	for _, p := range in.conf.Peers {
		if err := in.sendTo(p.Address, ttl, s); err != nil {
			failed = err
		}
	}
	in.sendFailed(failed)
}

func (in *instance) sendTo(to netip.Addr, ttl int, s vrrp.Send) error {
	m := in.machine
	b, err := m.Advertisement(s).Append(in.wire.buffer[:0], m.Form(!in.conf.IPv6), in.source, to)
	if err != nil {
		return err
	}
	in.wire.buffer = b
	return in.wire.port.socket.Send(b, Departure{Source: in.source, Destination: to, TTL: ttl})
}

// sendFailed notes the result: the first error of a row is worth a line.
func (in *instance) sendFailed(err error) {
	if err != nil && !in.wire.failed {
		in.router.log.Warn("cannot send advertisement", "instance", in.conf.Name, "error", err)
	}
	in.wire.failed = err != nil
}

// vridOffset is where a message names its virtual router.
const vridOffset = 1

// receive gives a packet to the instance that it is for.
func (p *port) receive(x Packet) {
	if len(x.Message) <= vridOffset {
		return
	}
	vrid := x.Message[vridOffset]
	var found *instance
	for _, in := range p.instances {
		if in.conf.VRID != vrid {
			continue
		}
		if found == nil || in.unicast() && in.peer(x.Source) != nil {
			found = in
		}
	}
	if found != nil {
		found.receive(x)
		return
	}
	if len(p.instances) > 0 {
		r := p.instances[0].router
		if r.current.config.Global.LogUnknownVRIDs {
			r.log.Info("advertisement of an unknown virtual router", "interface", p.at.Interface, "vrid", vrid, "from", x.Source)
		}
	}
}

// peer returns what is configured about a peer, nil if it is none.
func (in *instance) peer(a netip.Addr) *keepalived.Peer {
	for i, p := range in.conf.Peers {
		if p.Address.WithZone("") == a.WithZone("").Unmap() {
			return &in.conf.Peers[i]
		}
	}
	return nil
}

// receive checks a packet and gives it to the machine.
func (in *instance) receive(x Packet) {
	policy := vrrp.Policy{Unicast: in.unicast(), CheckPeers: in.conf.CheckUnicast}
	for _, p := range in.conf.Peers {
		policy.Peers = append(policy.Peers, vrrp.Peer{Address: p.Address, MinTTL: p.MinTTL, MaxTTL: p.MaxTTL})
		policy.CheckPeers = policy.CheckPeers || p.MinTTL != 0 || p.MaxTTL != 0 && p.MaxTTL != vrrp.TTL
	}
	e, err := in.machine.Config().Accept(vrrp.Packet{Message: x.Message, Source: x.Source, Destination: x.Destination, TTL: x.TTL}, policy)
	if err == nil {
		in.step(e)
		return
	}
	in.stats.Refuse(err)
	if times, yes := in.diary.worth(vrrp.ReasonOf(err).String()); yes {
		in.router.log.Warn("advertisement dropped", "instance", in.conf.Name, "error", err, "times", times)
	}
}
