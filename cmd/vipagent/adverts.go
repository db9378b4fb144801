package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/vipagent"
	"holdfast/vipagent/linux"
	"holdfast/vipagent/vrrp"
)

// adverts carries VRRP between the agent and the kernel: one socket for each port
// that the agent listens on.
type adverts struct {
	kernel  *linux.Kernel
	log     *slog.Logger
	deliver func(vipagent.Advert)
	changed chan struct{} // one slot

	mu      sync.Mutex
	wanted  []vipagent.AdvertPort
	sockets map[vipagent.AdvertPort]*linux.VRRPSocket
}

func newAdverts(k *linux.Kernel, log *slog.Logger, deliver func(vipagent.Advert)) *adverts {
	return &adverts{kernel: k, log: log, deliver: deliver, changed: make(chan struct{}, 1),
		sockets: make(map[vipagent.AdvertPort]*linux.VRRPSocket)}
}

// Listen implements [vipagent.Adverts].
func (a *adverts) Listen(ports []vipagent.AdvertPort) {
	a.mu.Lock()
	a.wanted = slices.Clone(ports)
	for _, p := range ports {
		if a.sockets[p] == nil {
			a.open(p)
		}
	}
	a.mu.Unlock()
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// open opens the socket of a port. Called with the lock.
func (a *adverts) open(p vipagent.AdvertPort) {
	c := linux.VRRPConfig{Interface: p.Interface, IPv6: p.IPv6}
	if !p.Unicast {
		c.Group = vrrp.MulticastGroup(!p.IPv6)
	}
	s, err := a.kernel.ListenVRRP(c)
	if err != nil {
		a.log.Warn("VRRP is not heard", "interface", p.Interface, "err", err)
		return
	}
	a.sockets[p] = s
}

// Source implements [vipagent.Adverts].
func (a *adverts) Source(p vipagent.AdvertPort) (netip.Addr, error) {
	if p.Unicast {
		return a.kernel.UnicastAddress(p.Interface, p.IPv6)
	}
	return a.kernel.PrimaryAddress(p.Interface, p.IPv6)
}

// Send implements [vipagent.Adverts].
func (a *adverts) Send(p vipagent.AdvertPort, x vipagent.Advert) error {
	a.mu.Lock()
	s := a.sockets[p]
	a.mu.Unlock()
	if s == nil {
		return fmt.Errorf("send advertisement on %s: its socket is not open", p.Interface)
	}
	return s.Send(x.Message, x.Source, x.Destination, x.TTL)
}

// advertsRetry is the pause before a socket that failed is opened again.
const advertsRetry = time.Second

// run receives on all sockets until ctx ends, and opens again those that fail.
func (a *adverts) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	running := make(map[*linux.VRRPSocket]context.CancelFunc)
	tick := time.NewTicker(advertsRetry)
	defer tick.Stop()
	for {
		for p, s := range a.settle(running) {
			ctx, stop := context.WithCancel(ctx)
			running[s] = stop
			g.Go(func() error { return a.receive(ctx, p, s) })
		}
		select {
		case <-ctx.Done():
			err := g.Wait()
			a.close()
			return err
		case <-a.changed:
		case <-tick.C:
		}
	}
}

// settle opens what is wanted and closes what is not, and returns the sockets on
// which nobody receives yet.
func (a *adverts) settle(running map[*linux.VRRPSocket]context.CancelFunc) map[vipagent.AdvertPort]*linux.VRRPSocket {
	a.mu.Lock()
	defer a.mu.Unlock()
	for p, s := range a.sockets {
		if !slices.Contains(a.wanted, p) || s.Stale() {
			delete(a.sockets, p)
			_ = s.Close()
		}
	}
	for s, stop := range running {
		if !a.inUse(s) { // closed here, or by who received
			stop()
			delete(running, s)
		}
	}
	for _, p := range a.wanted {
		if a.sockets[p] == nil {
			a.open(p)
		}
	}
	fresh := maps.Clone(a.sockets)
	maps.DeleteFunc(fresh, func(_ vipagent.AdvertPort, s *linux.VRRPSocket) bool { return running[s] != nil })
	return fresh
}

// inUse says whether a socket is still to be received from. Called with the lock.
func (a *adverts) inUse(s *linux.VRRPSocket) bool {
	for _, other := range a.sockets {
		if other == s {
			return true
		}
	}
	return false
}

// receive hands on what comes on one port, until it ends or fails.
func (a *adverts) receive(ctx context.Context, p vipagent.AdvertPort, s *linux.VRRPSocket) error {
	for {
		x, err := s.Receive(ctx)
		if err != nil {
			if ctx.Err() == nil && a.drop(p, s) { // else settle has closed it
				a.log.Warn("VRRP is not heard", "interface", p.Interface, "err", err)
			}
			return nil
		}
		a.deliver(vipagent.Advert{Interface: p.Interface, Source: x.Source, Destination: x.Destination, TTL: x.TTL, Message: x.Message})
	}
}

// drop closes a socket that has failed, if it is still in use; it is opened again
// soon.
func (a *adverts) drop(p vipagent.AdvertPort, s *linux.VRRPSocket) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sockets[p] != s {
		return false
	}
	delete(a.sockets, p)
	_ = s.Close()
	return true
}

func (a *adverts) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for p, s := range a.sockets {
		delete(a.sockets, p)
		_ = s.Close()
	}
}
