package main

import (
	"context"
	"fmt"
	"net"
	"strings"

	"holdfast/vipagent/keepalived"
	"holdfast/vipagent/linux"
	"holdfast/vipagent/router"
	"holdfast/vipagent/vip"
	"holdfast/vipagent/vrrp"
)

// plainAddresses are the kernel's addresses.
type plainAddresses struct{ kernel *linux.Kernel }

func (a plainAddresses) Add(list []keepalived.Address) error {
	return a.kernel.AddPlain(ofKernel(list))
}

func (a plainAddresses) Remove(list []keepalived.Address) error {
	return a.kernel.RemovePlain(ofKernel(list))
}

func (a plainAddresses) Clear(list []keepalived.Address) error {
	return a.kernel.ClearPlain(ofKernel(list))
}

func (a plainAddresses) Announce(list []keepalived.Address) error {
	addresses := make([]vip.Address, len(list))
	for i, x := range list {
		addresses[i] = vip.Address{Prefix: x.Prefix, Interface: x.Interface}
	}
	return a.kernel.Announce(addresses)
}

func (a plainAddresses) Promote(iface string, on bool) (was bool, err error) {
	return a.kernel.PromoteSecondaries(iface, on)
}

func (a plainAddresses) Left() ([]keepalived.Address, error) {
	list, err := a.kernel.PlainAddresses()
	out := make([]keepalived.Address, len(list))
	for i, x := range list {
		out[i] = keepalived.Address{Prefix: x.Prefix, Interface: x.Interface, Peer: x.Peer}
	}
	return out, err
}

// ofKernel is a list of addresses in the kernel's terms.
func ofKernel(list []keepalived.Address) []linux.PlainAddress {
	out := make([]linux.PlainAddress, len(list))
	for i, a := range list {
		out[i] = linux.PlainAddress{
			Prefix: a.Prefix, Interface: a.Interface, Label: a.Label, Scope: a.Scope, Broadcast: a.Broadcast, Peer: a.Peer, Options: a.Options,
		}
	}
	return out
}

// plainRoutes are the kernel's routes and rules.
type plainRoutes struct{ kernel *linux.Kernel }

func (r plainRoutes) AddRoute(x keepalived.Route) error    { return r.kernel.AddRoute(x.Words) }
func (r plainRoutes) RemoveRoute(x keepalived.Route) error { return r.kernel.RemoveRoute(x.Words) }
func (r plainRoutes) AddRule(x keepalived.Rule) error      { return r.kernel.AddRule(x.Words) }
func (r plainRoutes) RemoveRule(x keepalived.Rule) error   { return r.kernel.RemoveRule(x.Words) }

// plainMACs are interfaces with virtual MAC addresses.
type plainMACs struct{ kernel *linux.Kernel }

func (m plainMACs) Add(x router.MAC) error {
	c := linux.VMACConfig{
		Name: x.Name, Parent: x.Parent, IPVLAN: x.VMAC.IPVLAN, Mode: x.VMAC.Mode,
		IPv6: x.IPv6, BothFamilies: x.BothFamilies, Source: x.Source,
	}
	if c.IPVLAN {
		return m.kernel.AddVMAC(c)
	}
	mac := vrrp.VirtualMAC(x.VRID, !x.IPv6)
	c.MAC = mac[:]
	if text := x.VMAC.MAC; text != "" {
		if strings.Count(text, ":") == 4 {
			text += fmt.Sprintf(":%02x", x.VRID)
		}
		var err error
		if c.MAC, err = net.ParseMAC(text); err != nil {
			return fmt.Errorf("make interface %s: %w", x.Name, err)
		}
	}
	return m.kernel.AddVMAC(c)
}

func (m plainMACs) Remove(name string) error { return m.kernel.RemoveVMAC(name) }

func (m plainMACs) Left() ([]string, error) { return m.kernel.VMACs() }

// plainSockets opens raw sockets.
type plainSockets struct{ kernel *linux.Kernel }

func (s plainSockets) Open(at router.Endpoint, buffer int) (router.Socket, error) {
	c, err := s.kernel.ListenVRRP(linux.VRRPConfig{Interface: at.Interface, IPv6: at.IPv6, Group: at.Group, ReceiveBuffer: buffer})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &plainSocket{socket: c, at: at, life: ctx, end: cancel}, nil
}

// plainSocket is a socket for one endpoint: of unicast packets it hears those to its
// own address.
type plainSocket struct {
	socket *linux.VRRPSocket
	at     router.Endpoint
	life   context.Context
	end    context.CancelFunc
}

func (s *plainSocket) Send(message []byte, d router.Departure) error {
	return s.socket.Send(message, d.Source, d.Destination, d.TTL)
}

func (s *plainSocket) Receive(f func(router.Packet)) error {
	for {
		p, err := s.socket.Receive(s.life)
		if s.life.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if !s.at.Group.IsValid() && !p.Destination.IsMulticast() && s.at.Local.IsValid() && p.Destination != s.at.Local.WithZone("") {
			continue
		}
		f(router.Packet{Source: p.Source, Destination: p.Destination, TTL: p.TTL, Message: p.Message})
	}
}

func (s *plainSocket) Close() error {
	s.end()
	return s.socket.Close()
}
